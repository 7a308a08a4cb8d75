"""The picture of the race of tuners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.tuning_table import OWN, Curves

STYLES: dict[str, dict[str, Any]] = {  # colours that the colour-blind tell apart
    OWN: {"color": "#0072b2", "linewidth": 2.5, "zorder": 3},
    "Optuna": {"color": "#d55e00", "linewidth": 1.6},
    "Optuna, 2 numbers": {"color": "#d55e00", "linewidth": 1.6, "linestyle": "--"},
    "random search": {"color": "0.45", "linewidth": 1.6, "linestyle": ":"},
}


def plot(folder: Path, titles: dict[str, str], curves: Curves) -> None:
    """Validation loss against seconds, a panel a problem, as PNG and SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.hashsalt": "fastrev"}):
        figure, row = plt.subplots(1, len(titles), figsize=(3.6 * len(titles), 3.9), sharey=True, layout="constrained",
                                   squeeze=False)  # fmt: skip
        shown: dict[str, Any] = {}
        for axes, (key, title) in zip(row[0], titles.items(), strict=True):
            for name, of_seeds in curves[key].items():
                shown[name] = _draw(axes, name, list(of_seeds.values()))
            start = axes.axhline(_start(curves[key]), color="black", linewidth=0.8, zorder=0)
            _scale(axes, title)
        shown = {name: shown[name] for name in STYLES if name in shown} | {"start": start}
        lowest = min(np.min(curve["loss"]) for each in curves.values() for of in each.values() for curve in of.values())
        row[0, 0].set_ylim(0.93 * lowest, 1.1 * max(map(_start, curves.values())))
        row[0, 0].set_ylabel("validation loss, 20 unseen seeds")
        seeds = max(len(of_seeds) for each in curves.values() for of_seeds in each.values())
        figure.legend(
            shown.values(), shown.keys(), loc="outside lower center", ncols=len(shown), frameon=False,
            title=f"line: mean of {seeds} seeds; band: from the lowest to the highest of them", title_fontsize="medium",
        )  # fmt: skip
        for suffix in ("png", "svg"):
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(folder / f"tuning.{suffix}", dpi=150, metadata=metadata)
        plt.close(figure)


def _draw(axes: Any, name: str, of_seeds: list[dict[str, Any]]) -> Any:
    """A line as far as all seeds go, and a dot where a contender ended by itself."""
    shortest = min((curve["seconds"] for curve in of_seeds), key=len)
    seconds = np.array(shortest)
    losses = np.array([curve["loss"][: len(seconds)] for curve in of_seeds])
    ended = np.mean([curve["ended"] for curve in of_seeds])
    going = seconds <= max(ended, seconds[0])
    mean = losses.mean(axis=0)
    style = STYLES.get(name, {})
    (line,) = axes.plot(seconds[going], mean[going], drawstyle="steps-post", **style)
    axes.fill_between(seconds[going], losses.min(axis=0)[going], losses.max(axis=0)[going], color=line.get_color(),
                      alpha=0.15, linewidth=0, step="post")  # fmt: skip
    if ended < 0.8 * seconds[-1]:
        axes.plot(seconds[going][-1], mean[going][-1], "o", color=line.get_color(), zorder=4)
    return line


def _start(of_problem: dict[str, Any]) -> float:
    return float(next(iter(next(iter(of_problem.values())).values()))["start"])


def _scale(axes: Any, title: str) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set(xscale="log", yscale="log", title=title, xlabel="wall-clock seconds")
    axes.title.set_fontsize("medium")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for axis, ticks in ((axes.xaxis, (0.3, 1, 3, 10, 30, 100)), (axes.yaxis, (0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3))):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(plain)
    axes.grid(alpha=0.3)
