"""The parts that the pictures of the experiments are made of, each drawn from what was kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine.extras import require
from fastrev._pictures.canvas import FIRST, LEARNED, OTHER
from fastrev._pictures.canvas import beside as beside
from fastrev._pictures.canvas import by_logarithm as by_logarithm
from fastrev._pictures.canvas import figure as figure
from fastrev._pictures.outer_loop import height as height
from fastrev._pictures.outer_loop import schedules as schedules
from fastrev.experiments._shared.output import key_of as key_of

Saved = Mapping[str, npt.NDArray[Any]]

_OTHERS = ((OTHER, "-."), ("C2", ":"), ("C4", (0, (3, 1, 1, 1))))
_COLUMNS = 10  # of images


def styles(rows: Iterable[str]) -> dict[str, Any]:
    """Colour and line style of each row: where it began, what it is held against, and what was learned."""
    others = itertools.cycle(_OTHERS)
    found: dict[str, Any] = {}
    for i, name in enumerate(map(str, rows)):
        learned = "learned" in name and (LEARNED, "-") not in found.values()
        found[name] = (LEARNED, "-") if learned else (FIRST, "--") if i == 0 else next(others)
    return found


def learning_curves(axis: Any, saved: Saved) -> None:
    """Mean and standard deviation of the trainings of each row that ended."""
    seen = []
    for (name, (color, style)), curves in zip(styles(saved["rows"]).items(), saved["curves"], strict=True):
        ended = curves[np.isfinite(curves).all(axis=1)]
        if len(ended) < 2:
            axis.plot([], [], color=color, linestyle=style, label=f"{name} (diverged)")
            continue
        mean, spread = ended.mean(axis=0), ended.std(axis=0, ddof=1)
        low, high = np.maximum(mean - spread, ended.min(axis=0)), mean + spread  # above 0, for the log scale
        axis.plot(saved["curve_steps"], mean, color=color, linestyle=style, label=name)
        axis.fill_between(saved["curve_steps"], low, high, color=color, alpha=0.2, linewidth=0)
        seen += [low, high]
    by_logarithm(axis, np.concatenate(seen) if seen else np.ones(1))
    axis.set(xlabel="training step", ylabel=str(saved["loss_name"]), title="Learning curves: mean and deviation")
    axis.grid(alpha=0.3)


def meta_curves(axis: Any, saved: Saved, ylabel: str, searched: bool = False) -> None:
    """The loss of every meta-step of each row that was tuned, perhaps after a search along all rates."""
    shown = []
    for name, (color, style) in styles(saved["rows"]).items():
        losses = saved.get(key_of(name, "losses"))
        if losses is not None:
            axis.plot(losses, color=color, linestyle=style, linewidth=1.2, label=name)
            shown.append(losses)
    by_logarithm(axis, np.concatenate(shown) if shown else np.ones(1))
    axis.set(xlabel="meta-step, after a search along all rates" if searched else "meta-step", ylabel=ylabel)
    axis.set_title("The outer loop")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)


def dots(axis: Any, rows: Sequence[str], values: npt.NDArray[np.float64], ylabel: str, share: bool = True) -> None:
    """Values (trials, R) of each row as dots, and their mean as a line."""
    at = np.arange(len(rows))
    axis.hlines(values.mean(axis=0), at - 0.3, at + 0.3, color="0.3")
    shifts = np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else [0.0]
    for trial, (each, shift) in enumerate(zip(values, shifts, strict=True)):
        axis.plot(at + shift, each, "o", color=f"C{trial}", markersize=5)
    axis.set_xticks(at, rows, rotation=25, ha="right")
    axis.set_ylabel(ylabel)
    if share:
        axis.yaxis.set_major_formatter(require("matplotlib.ticker", "plot", "The picture").PercentFormatter(1.0))
    axis.grid(alpha=0.3, axis="y")


def once(axis: Any) -> None:
    """A legend that names each label once."""
    lines, names = axis.get_legend_handles_labels()
    axis.legend(*zip(*{name: (line, name) for line, name in zip(lines, names, strict=True)}.values(), strict=True))


def images_height(count: int, rows: int) -> float:
    """Of so many rows of so many images, in inches."""
    return 1.15 * -(-count // _COLUMNS) * rows + 0.4


def images(part: Any, rows: Mapping[str, npt.NDArray[np.float64]], labels: Sequence[str], signed: str = "") -> None:
    """Images (K, height, width) in rows, a column for each of the labels.

    Parameters
    ----------
    part : matplotlib Figure or SubFigure
    rows : mapping of str to (K, height, width) ndarray
    labels : sequence of str
    signed : str
        Name of the row whose pixels may be negative: blue below zero and red above.
    """
    columns = min(len(labels), _COLUMNS)
    blocks = -(-len(labels) // columns)
    axes = part.subplots(blocks * len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for row, (name, pictures) in enumerate(rows.items()):
        largest = max(float(np.abs(pictures).max()), 1e-12)
        colors = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest} if name == signed else {
            "cmap": "gray_r", "vmin": 0.0, "vmax": 1.0}  # fmt: skip
        for each, image in enumerate(pictures):
            axis = axes[each // columns * len(rows) + row, each % columns]
            shown = axis.imshow(image, **colors)
            if row == 0:
                axis.set_title(str(labels[each]), fontsize="medium")
        for block in range(blocks):
            line = axes[block * len(rows) + row]
            line[0].set_ylabel(name)
            part.colorbar(shown, ax=line, label="pixel (blank is 0)" if name == signed else "pixel", pad=0.01, aspect=8)


def tiles(part: Any, images: npt.NDArray[np.float64], label: str) -> None:
    """Images (K, height, width) of numbers from 0 on, dark where they are high, in rows of five."""
    axes = part.subplots(-(-len(images) // 5), 5, squeeze=False)
    largest = max(float(np.percentile(images, 98)), 1e-300)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, each in zip(axes.flat, images, range(len(images)), strict=False):
        shown = axis.imshow(image, cmap="binary", vmin=0, vmax=largest)
        axis.set_title(str(each), fontsize="medium")
    part.colorbar(shown, ax=axes, label=label)


def matrix(axis: Any, values: npt.NDArray[np.float64], xlabel: str, ylabel: str, title: str, label: str) -> None:
    """Shares from 0 to 1, with what is not small written out."""
    shown = axis.imshow(values, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(values):
        if value >= 0.05:
            color = "white" if value > 0.6 else "black"
            axis.text(
                column,
                row,
                f"{value:.2f}"[1:] if value < 0.995 else "1",
                ha="center",
                va="center",
                color=color,
                fontsize="x-small",
            )
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.set_xticks(range(values.shape[1]))
    axis.set_yticks(range(values.shape[0]))
    axis.figure.colorbar(shown, ax=axis, label=label)


def mosaic(
    axis: Any, images: npt.NDArray[np.float64], labels: Sequence[str], columns: int = _COLUMNS, red: Sequence[bool] = ()
) -> None:
    """Images (N, height, width) in rows with a label above each, some of them red, as one picture."""
    rows, above = -(-len(images) // columns), 0.35
    for each, (image, label) in enumerate(zip(images, labels, strict=True)):
        row, column = divmod(each, columns)
        top = row * (1 + above) + above
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=1, extent=(column, column + 0.95, top + 0.95, top))
        color = "C3" if len(red) and red[each] else "black"
        axis.text(column + 0.475, top - 0.08, label, ha="center", va="bottom", fontsize="x-small", color=color)
    axis.set(xlim=(0, min(len(images), columns)), ylim=(rows * (1 + above), 0))
    axis.set_axis_off()


def shades(count: int) -> Any:
    """So many colours in order, dark to light."""
    return require("matplotlib", "plot", "The picture").colormaps["viridis"](np.linspace(0, 0.9, count))
