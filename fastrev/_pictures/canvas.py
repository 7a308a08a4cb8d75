"""Figures and scales, by matplotlib's object interface: without a display, without a state.

A rate is drawn on a log scale.  A decay d is drawn on a log scale of 1 - d, which is how long it remembers: there 0.9,
0.99 and 0.999 lie as far from each other as 1, 10 and 100.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine.extras import require
from fastrev._engine.types import FloatArray

TITLES = {
    "lr": "learning rate", "decay": "momentum decay", "weight_decay": "weight decay", "l2": "l2 penalty",
    "init_scale": "initial scale",
}  # fmt: skip
LEARNED, FIRST, OTHER = "C0", "0.45", "C1"  # colours: what was learned, where it began, what it is held against
REFUSED = "C3"
_DECAYS = np.array([0.0, *(1 - n * 10.0**-k for k in range(1, 6) for n in (5, 2, 1))])
_ALWAYS_SHOWN = np.array([0.9, 0.99])  # of decays, so that one picture can be held against another


def figure(width: float, height: float) -> Any:
    """An empty one that can be saved."""
    made = require("matplotlib.figure", "plot", "The picture").Figure((width, height), layout="constrained")
    require("matplotlib.backends.backend_agg", "plot", "The picture").FigureCanvasAgg(made)
    return made


def scaled(axis: Any, values: FloatArray, *, positive: bool, ratio: bool) -> None:
    """The scale on which these values are read: by their logarithms, as decays are, or as they are."""
    if ratio:
        _by_memory(axis, values)
    elif positive and (values > 0).all():
        by_logarithm(axis, values)


def by_logarithm(axis: Any, values: FloatArray) -> None:
    """A log scale over these values with plain numbers at its ticks."""
    ticker = require("matplotlib.ticker", "plot", "The picture")
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (1.0, 1.0)
    decades = np.log10(high / low)
    room = 10 ** max(0.06 * decades, 0.02)
    axis.set_autoscaley_on(False)  # else it is done once more, with a warning where values hardly differ
    axis.set_yscale("log")
    axis.set_ylim(low / room, high * room)
    if decades < 0.7:
        axis.yaxis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
    else:
        between = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if decades < 1.3 else (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=between, numticks=12))
    axis.yaxis.set_major_formatter(ticker.FuncFormatter(plainly))
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())


def _by_memory(axis: Any, values: FloatArray) -> None:
    """A log scale of one minus these values, upside down."""
    ticker = require("matplotlib.ticker", "plot", "The picture")
    shown = np.clip([*np.ravel(values), *_ALWAYS_SHOWN], 0.0, 1 - 1e-6)
    low, high = nines(shown.min()), nines(shown.max())
    room = 0.06 * (high - low)
    axis.set_autoscaley_on(False)
    axis.set_yscale("function", functions=(nines, share))
    axis.set_ylim(share(low - room), share(high + room))
    fine = high - low < 2.2
    ticks = _DECAYS if fine else np.array([0.0, 0.5, *(1 - 10.0**-k for k in range(1, 6))])
    axis.yaxis.set_major_locator(ticker.FixedLocator(ticks))
    axis.yaxis.set_major_formatter(ticker.FuncFormatter(plainly))
    axis.yaxis.set_minor_locator(ticker.NullLocator())


def nines(decay: npt.ArrayLike) -> FloatArray:
    """How many there are: 1 for 0.9, 2 for 0.99."""
    return np.asarray(-np.log10(np.maximum(1 - np.asarray(decay, np.float64), 1e-9)))


def share(nines: npt.ArrayLike) -> FloatArray:
    return np.asarray(1 - 10 ** -np.asarray(nines, np.float64))


def plainly(value: float, position: object = None) -> str:
    return f"{value:.6g}"


def beside(axis: Any) -> None:
    """A legend beside the axes, where it hides nothing."""
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize="small")
