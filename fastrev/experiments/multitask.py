"""Learn which networks share which layers (Maclaurin et al. 2015, section 3.5, Figures 8 and 9).

Ten tasks are learned by ten networks from few examples each.  In every layer a penalty l2 / 2 |w_i|^2 holds weights
down, and ties c_ij / 4 |w_i - w_j|^2 hold those of tasks i and j together: a quadratic form w^T A w / 2, in which a
10 x 10 matrix of ties a layer is learned, from none to begin with.  It is held against no ties, a lower layer that is
tied firmly, and one tie a layer for all pairs of tasks; of each, as much is learned as there is to learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import fastrev
from fastrev.experiments._shared import pictures, tasks
from fastrev.experiments._shared.judging import measures
from fastrev.experiments._shared.networks import Array, Networks
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.settings import Count, Folder, Positive, setting
from fastrev.experiments._shared.settings import Settings as Common


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    data: Folder = setting(None, "folder laid out as Omniglot, alphabet/character/*.png, in place of digits")
    hidden: Count = setting(16, "hidden units of each network", files=32)
    steps: Count = setting(60, "training steps, T")
    lr: Positive = setting(4.0, "learning rate")
    meta_steps: Count = setting(150, "updates of the penalties")
    meta_lr: Positive = setting(0.015, "Adam's rate on log l2 and the ties")
    runs: Count = setting(2, "trainings a meta-step, whose gradients are averaged")


def run(settings: Settings, keep: Kept) -> bool:
    """Learn, report and keep the results.  Returns False after Ctrl-C."""
    train, valid, test = tasks.load(settings.data, settings.seed)
    count, off = len(train[0]), ~np.eye(len(train[0]), dtype=bool)
    l2, none = np.full((2, 1, 1), 0.01), np.zeros((2, 1, 1))
    held, tested = (Networks(part, settings.hidden, {"l2": none}) for part in (valid, test))
    plans: dict[str, tuple[dict[str, Array], Array]] = {
        "separate": ({}, none), "lower layer tied": ({}, np.array([0.3, 0.0]).reshape(2, 1, 1)),
        "one tie a layer": ({"ties": none}, none), "learned sharing": ({"ties": np.tile(none, (count, count))}, none),
    }  # fmt: skip
    print(f"{'':20}test loss          test accuracy    sharing: of the lower layer  of the upper layer")
    for name, (learned, ties) in plans.items():
        start = Networks(train, settings.hidden, {"l2": l2, **learned}, ties)
        result = fastrev.tune(
            start, start.init, valid=lambda w: (held.measure(w)[0], held.grad(w) / count), steps=settings.steps,
            lr=settings.lr, decay=0.9, learn=("theta",), meta_steps=settings.meta_steps, meta_lr=settings.meta_lr,
            transforms={"theta": {"l2": "log", **dict.fromkeys(learned, "nonnegative")}}, runs=settings.runs,
            workers=settings.workers, seed=settings.seed,
        )  # fmt: skip
        model = Networks(train, settings.hidden, result.theta, ties)
        loss, accuracy = judge(model, tested, settings).T
        share = sharing(model)
        print(f"{name:20}{measures(loss, accuracy)}{share[0][off].mean():19.2f}{share[1][off].mean():20.2f}")
        kept = {"rows": name, "losses": loss, "accuracies": accuracy, "shares": share}
        keep(**{key: [*keep.arrays.get(key, []), value] for key, value in kept.items()})
        if not result.success:
            return False
    return True


def judge(model: Networks, tested: Networks, settings: Settings) -> Array:
    """Test loss and accuracy (10, 2) of trainings from other initial weights."""
    seeds = np.random.SeedSequence(settings.seed, spawn_key=(1,)).generate_state(10).tolist()
    runs = (fastrev.train(model, model.init(seed), lr=settings.lr, decay=0.9, steps=settings.steps) for seed in seeds)
    return np.array([tested.measure(run.w) for run in runs])


def sharing(model: Networks) -> Array:
    """The inverse of the penalty of both layers as correlation matrices (2, K, K), 1 of each task with itself."""
    covariance = np.linalg.inv(model.penalty())
    scale = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return covariance / scale[:, :, None] / scale[:, None, :]


def draw(saved: pictures.Saved) -> Any:
    """How much each pair of tasks shares of each layer, row by row, and test losses."""
    rows = saved["rows"].tolist()
    figure = pictures.figure(11, 1.9 * len(rows) + 0.5)
    matrices, measured = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    axes = matrices.subplots(len(rows), 2, squeeze=False)
    for (lower, upper), name, share in zip(axes, rows, saved["shares"], strict=True):
        for axis, matrix, title in ((lower, share[0], "lower layer"), (upper, share[1], "upper layer")):
            shown = axis.imshow(matrix, cmap="binary", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[], title=title if name == rows[0] else "")
        lower.set_ylabel(name)
    matrices.colorbar(shown, ax=axes, label="sharing: correlation of two tasks' weights under the penalty", shrink=0.7)
    loss, accuracy = measured.subplots(2, 1)
    pictures.dots(loss, rows, saved["losses"].T, "test loss, of ten trainings", share=False)
    pictures.dots(accuracy, rows, saved["accuracies"].T, "test accuracy")
    return figure
