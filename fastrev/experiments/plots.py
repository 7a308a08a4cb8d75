"""The pictures, by matplotlib's object interface, which needs no display."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine.extras import require
from fastrev._engine.types import FloatArray


def schedule(
    groups: list[str],
    lr: FloatArray,
    decay: FloatArray,
    steps: npt.NDArray[np.int64],
    before: FloatArray,
    after: FloatArray,
    meta_curve: FloatArray,
) -> Any:
    """A figure of the schedule (T, G), the learning curves before and after at `steps`, and the meta-learning curve."""
    figure = _figure((11, 7.5))
    axes = figure.subplots(2, 2)
    for axis, values, name in ((axes[0, 0], lr, "learning rate"), (axes[0, 1], decay, "momentum decay")):
        for group, label in enumerate(groups):
            layer, kind = divmod(group, 2)
            axis.plot(values[:, group], color=f"C{layer}", linestyle="--" if kind else "-", linewidth=1.2, label=label)
        axis.set(xlabel="training step", ylabel=name, title=f"Learned {name}")
    axes[0, 0].set_yscale("log")
    axes[0, 0].legend(ncols=2, fontsize="small")
    axes[1, 0].plot(steps, before, color="grey", label="initial schedule")
    axes[1, 0].plot(steps, after, color="C3", label="learned schedule")
    axes[1, 0].set(xlabel="training step", ylabel="validation loss", yscale="log", title="Learning curves")
    axes[1, 0].legend()
    _meta_curve(axes[1, 1], meta_curve)
    return figure


def distilled(images: FloatArray, meta_curve: FloatArray) -> Any:
    """A figure of the images (K, height, width) and the meta-learning curve."""
    columns = 5
    rows = -(-len(images) // columns)
    figure = _figure((11, 2.2 * rows + 0.4))
    left, right = figure.subfigures(1, 2, width_ratios=(3, 2))
    largest = np.abs(images).max(initial=1e-12)
    shown = None
    for i, axis in enumerate(left.subplots(rows, columns, squeeze=False).flat):
        axis.set_axis_off()
        if i < len(images):
            shown = axis.imshow(images[i], cmap="RdBu_r", vmin=-largest, vmax=largest)
            axis.set_title(str(i))
    left.colorbar(shown, ax=left.axes, shrink=0.8)
    _meta_curve(right.subplots(), meta_curve)
    return figure


def _figure(size: tuple[float, float]) -> Any:
    figure = require("matplotlib.figure", "plot", "The picture").Figure(figsize=size, layout="constrained")
    require("matplotlib.backends.backend_agg", "plot", "The picture").FigureCanvasAgg(figure)
    return figure


def _meta_curve(axis: Any, curve: FloatArray) -> None:
    axis.plot(np.arange(1, len(curve) + 1), curve, color="C3", linewidth=1)
    axis.set(xlabel="meta-step", ylabel="validation loss after training", yscale="log", title="Meta-learning curve")
