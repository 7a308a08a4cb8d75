"""What an outer loop has learned, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine.extras import require
from fastrev._engine.types import FloatArray
from fastrev._pictures.canvas import (
    FIRST,
    LEARNED,
    OTHER,
    REFUSED,
    TITLES,
    beside,
    by_logarithm,
    figure,
    nines,
    plainly,
    scaled,
    share,
)  # fmt: skip

Other = tuple[str, npt.ArrayLike, str, str]  # what a schedule is held against: label, values, colour, line style

_COLUMNS = 8  # panels beside each other
_MOST_GROUPS = 16  # with a panel each; more are the rows of one picture
_MOST_DOTS = 40  # numbers that are drawn one by one; of more, how many lie where
_NUMBERS = 4  # panels of single numbers beside each other


def of_result(
    history: Any,
    ends: tuple[float, float],
    learned: Mapping[str, Any],
    first: Mapping[str, Any],
    groups: Sequence[str],
    scheduled: Mapping[str, bool],
) -> Any:
    """The loss by meta-step from `ends[0]` to `ends[1]`, and below it a row for each thing learned.

    `scheduled` are the names of those that may have a value for each step, and whether it is a ratio.
    """
    arrays = {name: np.asarray(value, np.float64) for name, value in learned.items()}
    numbers = {name: value for name, value in arrays.items() if value.ndim == 0}
    rows: list[tuple[float, Any]] = [(3.2, lambda part: losses(part.subplots(), history, ends))]
    if numbers:
        rows.append((0.2 + 2.2 * -(-len(numbers) // _NUMBERS), lambda part: _numbers(part, numbers, first, scheduled)))
    for name, value in arrays.items():
        if value.ndim:
            start = first.get(name)
            begun = None if start is None else np.asarray(start, np.float64)
            rows.append(_row(name, value, begun, groups, scheduled))
    made = figure(11, sum(height for height, _ in rows))
    parts = made.subfigures(len(rows), 1, height_ratios=[height for height, _ in rows], squeeze=False)
    for part, (_, draw) in zip(parts[:, 0], rows, strict=True):
        draw(part)
    return made


def losses(
    axis: Any,
    history: Any,
    ends: tuple[float, float],
    meaning: str = "loss",
    level: tuple[str, float] | None = None,
) -> None:
    """The loss of every meta-step, those that were taken back, both ends, and name and height of a level to beat."""
    start_loss, loss = ends
    at = np.arange(len(history.loss))
    axis.plot(at, history.loss, color=LEARNED, linewidth=1.2, label="mean of the meta-step's runs")
    ended = np.isfinite(history.loss)
    refused = ended & ~history.accepted
    if refused.any():
        label = f"taken back ({refused.sum()})"
        axis.plot(at[refused], history.loss[refused], "x", color=REFUSED, markersize=5, label=label)
    if not ended.all():
        label, top = f"no run ended ({(~ended).sum()})", np.ones((~ended).sum())
        axis.plot(at[~ended], top, "^", color=REFUSED, transform=axis.get_xaxis_transform(), label=label)
    axis.plot(0, start_loss, "o", color=FIRST, markersize=6, label=f"start, fresh seeds: {start_loss:.4g}")
    axis.plot(len(at), loss, "o", color=LEARNED, markersize=6, label=f"end, fresh seeds: {loss:.4g}")
    if level is not None:
        axis.axhline(level[1], color=OTHER, linestyle="-.", label=f"{level[0]}: {level[1]:.4g}")
    axis.set(xlabel="meta-step", ylabel=meaning)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)
    shown = np.array([*history.loss, *ends, *([] if level is None else level[1:])])
    if (shown > 0).all():
        by_logarithm(axis, shown)
    beside(axis)


def schedules(
    part: Any, name: str, table: FloatArray, others: Sequence[Other], groups: Sequence[str], *, ratio: bool
) -> Any:
    """A panel for each column of a table (T, G) of rates or decays, with the same columns of others behind it.

    Parameters
    ----------
    part : matplotlib Figure or SubFigure
    name : str
    table : (T, G) float64 ndarray
    others : sequence of Other
        Their values broadcast to (T, G).
    groups : sequence of str
        Their G names.
    ratio : bool
        Whether they are ratios, which chooses the scale.

    Returns
    -------
    The first of the axes, for a legend.
    """
    steps, count = table.shape
    titles, dot = _titles(groups, count), "." if steps == 1 else ""  # a line of one step is not seen
    columns = min(count, _COLUMNS)
    axes = part.subplots(-(-count // columns), columns, sharex=True, sharey=True, squeeze=False)
    for group, axis in enumerate(axes.flat):
        if group >= count:
            axis.set_axis_off()
            continue
        lines = [*others, ("learned", table, LEARNED, "-")]
        for label, values, color, style in lines:
            line, width = np.broadcast_to(values, table.shape)[:, group], 1.3 if values is not table else 1.0
            axis.plot(np.arange(steps), line, color=color, linestyle=style, marker=dot, linewidth=width, label=label)
        axis.set_title(titles[group], fontsize="medium")
        axis.grid(alpha=0.3)
    every = np.concatenate([table.ravel(), *(np.ravel(values) for _, values, *_ in others)])
    scaled(axes[0, 0], every, positive=not ratio, ratio=ratio)
    part.supxlabel("training step", fontsize="medium")
    part.supylabel(TITLES.get(name, name), fontsize="medium")
    return axes[0, 0]


def height(groups: int) -> float:
    """Of the panels of so many groups, in inches."""
    return 0.4 + 2.1 * -(-groups // _COLUMNS)


def _row(
    name: str, value: FloatArray, begun: FloatArray | None, groups: Sequence[str], scheduled: Mapping[str, bool]
) -> tuple[float, Any]:
    """How high the row of one thing learned is, and what draws it."""
    scale = _scale(name, scheduled)
    if name in scheduled and len(value) > 1:
        table, ratio = value if value.ndim == 2 else value[:, None], scheduled[name]
        if table.shape[1] > _MOST_GROUPS:
            return 3.6, lambda part: _rows_of_colour(part, name, table, groups, ratio)
        others: list[Other] = []
        if begun is not None:
            begun = begun if begun.ndim != 1 else begun[:, None]
            others.append(("start", begun, FIRST, "--"))
        return height(table.shape[1]), lambda part: _with_legend(
            part, schedules(part, name, table, others, groups, ratio=ratio)
        )
    if value.size <= _MOST_DOTS:
        of_groups = groups if any(scale.values()) else ()
        return 2.6, lambda part: _dots(part, name, value.ravel(), begun, of_groups, scale)
    return 2.6, lambda part: _histogram(part, name, value.ravel(), begun)


def _scale(name: str, scheduled: Mapping[str, bool]) -> dict[str, bool]:
    """How `scaled` is to draw it."""
    ratio = scheduled.get(name, False)
    return {"ratio": ratio, "positive": not ratio and (name in scheduled or name in TITLES)}


def _with_legend(part: Any, axis: Any) -> None:
    part.legend(*axis.get_legend_handles_labels(), loc="outside right upper", fontsize="small")


def _numbers(
    part: Any, numbers: Mapping[str, FloatArray], first: Mapping[str, Any], scheduled: Mapping[str, bool]
) -> None:
    """A panel for each single number, from where it began to where it ended."""
    grid = part.add_gridspec(-(-len(numbers) // _NUMBERS), _NUMBERS)
    for cell, (name, value) in zip(grid, numbers.items(), strict=False):
        axis = part.add_subplot(cell)
        known = first.get(name) is not None
        points = np.array([first[name], value] if known else [value], np.float64)
        where = np.arange(2 - len(points), 2)
        axis.plot(where, points, color="0.7", linewidth=1, zorder=1)
        axis.scatter(where, points, color=[FIRST, LEARNED][-len(points) :], zorder=2)
        scaled(axis, points, **_scale(name, scheduled))
        axis.set_title(TITLES.get(name, name), fontsize="medium")
        labels = [f"{label}\n{plainly(float(f'{each:.4g}'))}" for label, each in zip(
            ["start", "learned"][-len(points) :], points, strict=True)]  # fmt: skip
        axis.set_xticks(where, labels)
        axis.set_xlim(-0.5, 1.5)
        axis.grid(alpha=0.3, axis="y")


def _titles(groups: Sequence[str], count: int) -> list[str]:
    """Names of so many groups, which are numbers where the model is not known."""
    if count == 1 and len(groups) != 1:
        return ["all groups"]
    return list(groups) if len(groups) == count else [f"group {each}" for each in range(count)]


def _dots(
    part: Any, name: str, value: FloatArray, begun: FloatArray | None, groups: Sequence[str], scale: Mapping[str, bool]
) -> None:
    """A dot for each of a few numbers."""
    axis, at = part.subplots(), np.arange(value.size)
    every = value
    if begun is not None:
        start = np.broadcast_to(np.ravel(begun), value.shape)
        axis.vlines(at, start, value, color="0.7", linewidth=1, zorder=1)
        axis.scatter(at, start, color=FIRST, label="start", zorder=2)
        every = np.concatenate([value, start])
    axis.scatter(at, value, color=LEARNED, label="learned", zorder=3)
    scaled(axis, every, **scale)
    if len(groups) == value.size:
        axis.set_xticks(at, groups)
    axis.set(xlabel="parameter group" if len(groups) == value.size else "index", ylabel=TITLES.get(name, name))
    axis.grid(alpha=0.3, axis="y")
    beside(axis)


def _histogram(part: Any, name: str, value: FloatArray, begun: FloatArray | None) -> None:
    """How many numbers lie where."""
    axis = part.subplots()
    start = None if begun is None else np.broadcast_to(np.ravel(begun), value.shape)
    bins = np.histogram_bin_edges(value if start is None else np.concatenate([value, start]), 50)
    if start is not None:
        axis.hist(start, bins, color=FIRST, alpha=0.6, label="start")
    axis.hist(value, bins, color=LEARNED, alpha=0.6, label="learned")
    axis.set(xlabel=TITLES.get(name, name), ylabel=f"of {value.size} numbers")
    counts = np.array([each.get_height() for each in axis.patches])
    by_logarithm(axis, np.array([0.7, max(counts.max(), 10.0)]))
    beside(axis)


def _rows_of_colour(part: Any, name: str, table: FloatArray, groups: Sequence[str], ratio: bool) -> None:
    """A table (T, G) of many groups: a row of colours for each."""
    colors, ticker = (require(f"matplotlib.{each}", "plot", "The picture") for each in ("colors", "ticker"))
    axis, titles = part.subplots(), _titles(groups, table.shape[1])
    norm = colors.FuncNorm((nines, share), table.min(), table.max()) if ratio else (
        colors.LogNorm(max(table.min(), 1e-300), table.max()))  # fmt: skip
    image = axis.imshow(table.T, aspect="auto", interpolation="nearest", cmap="viridis", norm=norm)
    axis.set(xlabel="training step", ylabel="parameter group")
    every = -(-len(titles) // 24)  # as many names as there is room for
    axis.set_yticks(np.arange(0, len(titles), every), titles[::every], fontsize="small")
    bar = part.colorbar(image, ax=axis, label=TITLES.get(name, name), format=ticker.FuncFormatter(plainly))
    scaled(bar.ax, table, positive=not ratio, ratio=ratio)
    if table.min() < table.max():  # else matplotlib makes room by itself
        bar.ax.set_ylim(table.min(), table.max())
