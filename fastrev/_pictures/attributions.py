"""What helped and what harmed a prediction, and predicted changes beside real ones."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastrev._engine.types import AnyArray, FloatArray, Ints
from fastrev._pictures.canvas import LEARNED, REFUSED, figure

HELPFUL, HARMFUL = LEARNED, REFUSED
_SIDE = 1.15  # of an image, in inches
_QUERY = 2.6  # the width of the query and its title
_NARROWEST = 2.6  # of the examples, for their title
_LETTERS = 13  # of a title to the inch
_COLUMNS = 10  # of images, before there is another line


class Top(Protocol):
    """As `fastrev.TopExamples`."""

    @property
    def helpful(self) -> Ints: ...
    @property
    def helpful_effects(self) -> FloatArray: ...
    @property
    def harmful(self) -> Ints: ...
    @property
    def harmful_effects(self) -> FloatArray: ...


class Row(NamedTuple):
    """Images, each with its effect and what it is."""

    images: FloatArray  # (k, height, width)
    effects: FloatArray  # (k,)
    captions: Sequence[str]


def written(label: object) -> str:
    """A label, or number, without more digits than it needs."""
    return f"{label:.4g}" if isinstance(label, float | np.floating) else str(label)


def captions(which: Ints, labels: AnyArray | None) -> list[str]:
    """The number of each row, and its label if there are any."""
    return [f"row {i}" if labels is None else f"row {i}: {written(labels[i])}" for i in which]


def as_images(top: Top, images: FloatArray, query: AnyArray | None, labels: AnyArray | None, title: str) -> Any:
    """The query, and beside it rows of images that help and of images that harm."""
    helpful, harmful = (
        Row(images[which], effects, captions(which, labels))
        for which, effects in ((top.helpful, top.helpful_effects), (top.harmful, top.harmful_effects))
    )
    columns, lines = _grid(helpful, harmful)
    made = figure(_QUERY + max(_SIDE * columns, _NARROWEST), _SIDE * 1.25 * sum(lines) + 0.6)
    helpful_and_harmful(made, query, title, helpful, harmful)
    return made


def helpful_and_harmful(part: Any, query: AnyArray | None, title: str, helpful: Row, harmful: Row) -> None:
    """The same, onto a figure or a part of one."""
    columns, lines = _grid(helpful, harmful)
    wide = part.bbox.width / part.dpi - _QUERY
    left, right = part.subfigures(1, 2, width_ratios=(_QUERY, wide))
    shown = [each.ravel() for each in (helpful.images, harmful.images, query) if each is not None]
    pixels = np.concatenate(shown) if any(each.size for each in shown) else np.zeros(1)
    colors = {"cmap": "gray_r", "vmin": pixels.min(), "vmax": pixels.max()}
    left.suptitle(title, fontsize="medium")
    if query is not None:
        _framed(axis := left.subplots()).imshow(query, **colors)
        axis.set_anchor("N")
    heading = "training examples by the predicted change of the loss without them"
    right.suptitle(fill(heading, int(_LETTERS * wide)), fontsize="medium")
    axes = right.subplots(sum(lines), columns, squeeze=False)
    of_rows = axes[: lines[0]], axes[lines[0] :]
    for part_of_axes, row, name, color in zip(
        of_rows, (helpful, harmful), ("helpful", "harmful"), (HELPFUL, HARMFUL), strict=True
    ):
        for axis in part_of_axes.flat:
            _framed(axis).spines[:].set_visible(False)
        part_of_axes[0, 0].set_ylabel(name if len(row.effects) else f"none is {name}", color=color)
        for axis, image, effect, caption in zip(part_of_axes.flat, *row, strict=False):
            axis.spines[:].set_visible(True)
            axis.imshow(image, **colors)
            axis.set_title(f"{effect:+#.2g}", fontsize="small", color=color)
            axis.set_xlabel(caption, fontsize="x-small")


def _grid(*rows: Row) -> tuple[int, list[int]]:
    """Columns, and lines of each row of images."""
    counts = [max(len(row.effects), 1) for row in rows]
    lines = [-(-count // _COLUMNS) for count in counts]
    return max(-(-count // line) for count, line in zip(counts, lines, strict=True)), lines


def _framed(axis: Any) -> Any:
    """Axes of an image: a thin frame, where else white paper would be its edge, and no ticks."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(color="0.7", linewidth=0.6)
    return axis


def as_bars(top: Top, names: Sequence[str], kind: str, title: str) -> Any:
    """A bar for each effect, the most helpful on top."""
    which = np.concatenate([top.helpful, top.harmful[::-1]])
    effects = np.concatenate([top.helpful_effects, top.harmful_effects[::-1]])
    made = figure(7, 1.5 + 0.24 * max(len(which), 3))
    axis, at = made.subplots(), np.arange(len(which))
    axis.barh(at, effects, color=np.where(effects > 0, HELPFUL, HARMFUL))
    axis.axvline(0, color="0.3", linewidth=0.8)
    axis.set_yticks(at, [names[i] for i in which])
    axis.set_ylim(len(which) - 0.4, -0.6)
    axis.set(xlabel="predicted change of the loss if it is left out", ylabel=kind, title=title)
    axis.grid(alpha=0.3, axis="x")
    return made


def predicted_and_real(axis: Any, predicted: FloatArray, real: FloatArray, color: str = LEARNED) -> None:
    """A dot for each subset, and the line on which a prediction is right."""
    both = np.concatenate([predicted, real])
    ends = np.array([both.min(), both.max()])
    axis.plot(ends, ends, color="0.5", linewidth=0.8, zorder=1, label="predicted = real")
    axis.plot(predicted, real, "o", color=color, markersize=4, alpha=0.8)
    axis.set(xlabel="predicted change of the loss", ylabel="real change")
    axis.grid(alpha=0.3)


def of_check(predicted: FloatArray, real: FloatArray, score: float, title: str, left_out: str) -> Any:
    """Predicted and real changes of one query."""
    made = figure(5.2, 4.4)
    axis = made.subplots()
    predicted_and_real(axis, predicted, real)
    axis.legend(loc="upper left", fontsize="small")
    axis.set_title(f"{title}, score {score:.3f}\n{left_out}", fontsize="medium")
    return made
