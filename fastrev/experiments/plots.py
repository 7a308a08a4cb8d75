"""The pictures of the experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import fastrev
from fastrev._tuning import pictures
from fastrev.experiments.judging import Judgement

_STYLES = {
    "as started": (pictures.FIRST, "--"), "best constant": (pictures.OTHER, "-."),
    "learned schedule": (pictures.LEARNED, "-"),
}  # fmt: skip
_COLUMNS = 10  # of images
_WINDOW = 10  # meta-steps that are smoothed over


def schedule(
    groups: Sequence[str],
    start: Mapping[str, float],
    judged: Mapping[str, Judgement],
    results: Mapping[str, fastrev.TuneResult],
) -> Any:
    """Every group's learned rates and decays, learning curves of what is judged, and the loss by meta-step.

    Parameters
    ----------
    groups : sequence of str
    start : mapping
        "lr" and "decay" that all began with.
    judged, results : mapping
        By the names of the rows; some may be missing.
    """
    learned = results.get("learned schedule")
    heights = [*([pictures.height(len(groups))] * 2 if learned else []), 3.4]
    figure = pictures.figure(12, sum(heights) + 0.4)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    if learned is not None:
        for part, name in zip(parts, start, strict=False):
            others: list[pictures.Other] = [
                ("as started", start[name], *_STYLES["as started"]),
                ("best constant", getattr(results["best constant"], name), *_STYLES["best constant"]),
            ]
            pictures.schedules(part, name, getattr(learned, name), others, groups)
    curves, by_meta_step = parts[-1].subplots(1, 2)
    pictures.by_logarithm(curves, np.concatenate([_curve(curves, name, each) for name, each in judged.items()]))
    curves.set(xlabel="training step", ylabel="validation loss", title="Learning curves: mean and standard deviation")
    for name, result in results.items():
        _meta_curve(by_meta_step, result.history.loss, _STYLES[name][0])
    pictures.by_logarithm(by_meta_step, np.concatenate([result.history.loss for result in results.values()]))
    title = f"Tuning: each meta-step, and the mean of the last {_WINDOW}"
    by_meta_step.set(
        xlabel="meta-step, after a search along all rates", ylabel="validation loss after training", title=title
    )
    for axis in (curves, by_meta_step):
        axis.grid(alpha=0.3)
    figure.legend(*curves.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _curve(axis: Any, name: str, judged: Judgement) -> npt.NDArray[np.float64]:
    """Draw the trainings that ended.  Returns what has to be in sight."""
    ended = judged.curves[np.isfinite(judged.curves).all(axis=1)]
    color, style = _STYLES[name]
    if len(ended) < 2:
        axis.plot([], [], color=color, linestyle=style, label=f"{name} (diverged)")
        return np.empty(0)
    mean, spread = ended.mean(axis=0), ended.std(axis=0, ddof=1)
    low, high = np.maximum(mean - spread, ended.min(axis=0)), mean + spread  # above 0, for the log scale
    axis.plot(judged.steps, mean, color=color, linestyle=style, label=name)
    axis.fill_between(judged.steps, low, high, color=color, alpha=0.2, linewidth=0)
    return np.concatenate([low, high])


def _meta_curve(axis: Any, losses: npt.NDArray[np.float64], color: str) -> None:
    axis.plot(np.arange(len(losses)), losses, color=color, linewidth=0.7, alpha=0.4)
    if len(losses) >= _WINDOW:
        means = np.convolve(losses, np.full(_WINDOW, 1 / _WINDOW), "valid")
        axis.plot(np.arange(_WINDOW - 1, len(losses)), means, color=color)


def distilled(
    rows: Mapping[str, npt.NDArray[np.float64]], shape: tuple[int, int], results: Mapping[str, fastrev.TuneResult]
) -> Any:
    """Images (K, D) of each class in rows, the learned ones above real ones, and the loss by meta-step below them."""
    count = len(next(iter(rows.values())))
    columns = min(count, _COLUMNS)
    blocks = -(-count // columns)
    height = 1.15 * blocks * len(rows) + 0.4
    figure = pictures.figure(12, height + 3.5)
    above, below = figure.subfigures(2, 1, height_ratios=(height, 3.5))
    axes = above.subplots(blocks * len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for row, (name, images) in enumerate(rows.items()):
        largest = max(float(np.abs(images).max()), 1e-12)
        colors = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest} if name == "learned" else {
            "cmap": "gray_r", "vmin": 0.0, "vmax": 1.0}  # fmt: skip
        for each, image in enumerate(images):
            axis = axes[each // columns * len(rows) + row, each % columns]
            shown = axis.imshow(image.reshape(shape), **colors)
            if row == 0:
                axis.set_title(str(each), fontsize="medium")
        for block in range(blocks):
            line = axes[block * len(rows) + row]
            line[0].set_ylabel(name)
            label = "pixel (blank is 0)" if name == "learned" else "pixel"
            above.colorbar(shown, ax=line, label=label, pad=0.01, aspect=8)
    level = ("class means, tuned", results["class means"].loss) if "learned images" in results else None
    axis, (name, result) = below.subplots(), list(results.items())[-1]
    meaning = f"loss on the real training images\nafter training on the {count} {name}"
    pictures.losses(axis, result.history, (result.start_loss, result.loss), meaning, level=level)
    axis.grid(alpha=0.3)
    return figure
