"""Learn which networks share which layers (Maclaurin et al. 2015, section 3.5, Figure 9).

Ten tasks are learned by ten networks from few examples each.  In every layer a penalty l2 / 2 |w_i|^2 holds weights
down, and ties c_ij / 4 |w_i - w_j|^2 hold those of tasks i and j together: a quadratic form w^T A w / 2, in which a
10 x 10 matrix of ties a layer is learned, from none to begin with.  It is held against no ties, a lower layer that is
tied firmly, and one tie a layer for all pairs of tasks, learned as well.  Every row learns its l2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import fastrev
from fastrev.experiments._shared import judging, pictures, tasks
from fastrev.experiments._shared.networks import NO_TIES, Array, Networks
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.settings import Count, Folder, Positive, setting
from fastrev.experiments._shared.settings import Settings as Common

FIRM = 0.3  # a tie with which the lower layers of all tasks are 95 % the same; more is no better


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    takes_images: ClassVar[bool] = False

    data: Folder = setting(None, "folder laid out as Omniglot, alphabet/character/*.png, in place of digits")
    hidden: Count = setting(16, "hidden units of each network", with_data=32)
    steps: Count = setting(60, "training steps, T")
    lr: Positive = setting(4.0, "learning rate")
    meta_steps: Count = setting(150, "updates of the penalties")
    meta_lr: Positive = setting(0.015, "Adam's rate on log l2 and the ties")
    runs: Count = setting(2, "trainings a meta-step, whose gradients are averaged")


def run(settings: Settings, keep: Kept) -> bool:
    """Learn, report and keep the results.  Returns False after Ctrl-C."""
    train, valid, test = tasks.load(settings.data, settings.seed)
    count, off = len(train[0]), ~np.eye(len(train[0]), dtype=bool)
    held, tested = (Networks(part, settings.hidden, {"l2": NO_TIES}) for part in (valid, test))  # without a penalty
    rows: dict[str, tuple[Array, Array]] = {}
    shares: list[Array] = []
    plans: dict[str, tuple[dict[str, Array], Array]] = {  # the ties that are learned, and those that are not
        "separate": ({}, NO_TIES), "lower layer tied": ({}, np.array([FIRM, 0.0]).reshape(2, 1, 1)),
        "one tie a layer": ({"ties": NO_TIES}, NO_TIES),
        "learned sharing": ({"ties": np.tile(NO_TIES, (count, count))}, NO_TIES),
    }  # fmt: skip

    def validation(w: Array) -> tuple[float, Array]:
        """The mean over tasks, of which `grad` is the sum."""
        return held.measure(w)[0], held.grad(w) / count

    print(f"{'':20}test loss          test accuracy    sharing: of the lower layer  of the upper layer")
    for name, (learned, ties) in plans.items():
        start = Networks(train, settings.hidden, {"l2": np.full((2, 1, 1), 0.01), **learned}, ties)
        result = fastrev.tune(
            start, start.init, valid=validation, steps=settings.steps, lr=settings.lr, decay=0.9, learn=("theta",),
            transforms={"theta": {"l2": "log", **dict.fromkeys(learned, "nonnegative")}}, runs=settings.runs,
            meta_steps=settings.meta_steps, meta_lr=settings.meta_lr, workers=settings.workers, seed=settings.seed,
        )  # fmt: skip
        model = Networks(train, settings.hidden, result.theta, ties)
        runs = (
            fastrev.train(model, model.init(seed), lr=settings.lr, decay=0.9, steps=settings.steps)
            for seed in judging.seeds(settings.seed)
        )
        loss, accuracy = rows[name] = tuple(np.array([tested.measure(run.w) for run in runs]).T)
        shares.append(sharing(model))
        shown = "".join(f"{share[off].mean():19.2f}" for share in shares[-1])
        print(f"{name:20}{judging.measures(loss, accuracy)}{shown}")
        keep.result(name, result)
        keep(
            rows=list(rows),
            losses=[a for a, _ in rows.values()],
            accuracies=[b for _, b in rows.values()],
            shares=shares,
        )
        if not result.success:
            return False
    return True


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
