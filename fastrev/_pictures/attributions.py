"""What helped and what harmed a prediction, and predicted changes beside real ones."""

from __future__ import annotations

from typing import Any, Protocol

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


def as_images(top: Top, images: FloatArray, query: AnyArray | None, classes: AnyArray | None, title: str) -> Any:
    """The query, and beside it a row of images that help and one of images that harm."""
    columns = max(len(top.helpful), len(top.harmful), 1)
    made = figure(_SIDE * (columns + 2.2), 2 * _SIDE + 1.3)
    left, right = made.subfigures(1, 2, width_ratios=(1.9, columns))
    low, high = float(images.min()), float(images.max())
    if query is not None:
        low, high = min(low, float(query.min())), max(high, float(query.max()))
        axis = left.subplots()
        axis.imshow(query, cmap="gray_r", vmin=low, vmax=high)
        axis.set_axis_off()
    left.suptitle(title, fontsize="medium")
    axes = right.subplots(2, columns, squeeze=False)
    rows = (
        ("helpful", HELPFUL, top.helpful, top.helpful_effects),
        ("harmful", HARMFUL, top.harmful, top.harmful_effects),
    )
    for line, (name, color, which, effects) in zip(axes, rows, strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name, color=color)
        for axis, i, effect in zip(line, which, effects, strict=False):
            axis.imshow(images[i], cmap="gray_r", vmin=low, vmax=high)
            label = "" if classes is None else f"class {classes[i]}\n"
            axis.set_title(f"{label}{effect:+#.2g}", fontsize="small")
            axis.set_xlabel(f"row {i}", fontsize="x-small")
    right.suptitle("training examples by the predicted change of the loss without them", fontsize="medium")
    return made


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
