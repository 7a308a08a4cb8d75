"""What helped and what harmed a prediction, and predicted changes beside real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastrev._engine.types import AnyArray, FloatArray, Ints
from fastrev._pictures.canvas import LEARNED, REFUSED, figure

HELPFUL, HARMFUL = LEARNED, REFUSED
_SIDE = 1.15  # of an image, in inches


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


def as_images(top: Top, images: FloatArray, query: AnyArray | None, classes: AnyArray | None, title: str) -> Any:
    """The query, and beside it a row of images that help and one of images that harm."""

    def row(which: Ints, effects: FloatArray) -> Row:
        named = [f"row {i}" if classes is None else f"row {i}: {classes[i]}" for i in which]
        return Row(images[which], effects, named)

    rows = row(top.helpful, top.helpful_effects), row(top.harmful, top.harmful_effects)
    made = figure(_SIDE * (max(len(row.effects) for row in rows) + 2.2), 2 * _SIDE + 1.1)
    helpful_and_harmful(made, query, title, *rows)
    return made


def helpful_and_harmful(part: Any, query: AnyArray | None, title: str, helpful: Row, harmful: Row) -> None:
    """The same, onto a figure or a part of one."""
    columns = max(len(helpful.effects), len(harmful.effects), 1)
    left, right = part.subfigures(1, 2, width_ratios=(1.9, columns))
    shown = [each.ravel() for each in (helpful.images, harmful.images, query) if each is not None]
    pixels = np.concatenate(shown) if any(each.size for each in shown) else np.zeros(1)
    colors = {"cmap": "gray_r", "vmin": pixels.min(), "vmax": pixels.max()}
    left.suptitle(title, fontsize="medium")
    if query is not None:
        axis = left.subplots()
        axis.imshow(query, **colors)
        axis.set_axis_off()
    right.suptitle("training examples by the predicted change of the loss without them", fontsize="medium")
    axes = right.subplots(2, columns, squeeze=False)
    for line, row, name, color in zip(
        axes, (helpful, harmful), ("helpful", "harmful"), (HELPFUL, HARMFUL), strict=True
    ):
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name, color=color)
        for axis, image, effect, caption in zip(line, *row, strict=False):
            axis.imshow(image, **colors)
            axis.set_title(f"{effect:+#.2g}", fontsize="small", color=color)
            axis.set_xlabel(caption, fontsize="x-small")


def as_bars(top: Top, names: AnyArray, kind: str, title: str) -> Any:
    """A bar for each effect, the most helpful on top."""
    which = np.concatenate([top.helpful, top.harmful[::-1]])
    effects = np.concatenate([top.helpful_effects, top.harmful_effects[::-1]])
    made = figure(7, 1.2 + 0.24 * max(len(which), 3))
    axis, at = made.subplots(), np.arange(len(which))
    axis.barh(at, effects, color=np.where(effects > 0, HELPFUL, HARMFUL))
    axis.axvline(0, color="0.3", linewidth=0.8)
    axis.set_yticks(at, [str(names[i]) for i in which])
    axis.invert_yaxis()
    axis.set(xlabel="predicted change of the loss if it is left out", ylabel=kind, title=title)
    axis.grid(alpha=0.3, axis="x")
    return made


def predicted_and_real(axis: Any, predicted: FloatArray, real: FloatArray, color: str = LEARNED) -> None:
    """A dot for each subset, and the line on which a prediction is right."""
    both = np.concatenate([predicted, real])
    ends = np.array([both.min(), both.max()])
    axis.plot(ends, ends, color="0.5", linewidth=0.8, zorder=1)
    axis.plot(predicted, real, "o", color=color, markersize=4, alpha=0.8)
    axis.set(xlabel="predicted change of the loss", ylabel="real change")
    axis.grid(alpha=0.3)


def of_check(predicted: FloatArray, real: FloatArray, score: float, title: str, left_out: str) -> Any:
    """Predicted and real changes of one query."""
    made = figure(5.2, 4.4)
    axis = made.subplots()
    predicted_and_real(axis, predicted, real)
    axis.set_title(f"{title}, score {score:.3f}\n{left_out}", fontsize="medium")
    return made
