"""Learn the scale of the initial weights of every layer (Maclaurin et al. 2015, section 3.1, Figure 5).

All weights and biases begin at one small scale, and the exact gradient by the initial weights says how each group's
scale should change.  They are held against the heuristic 1 / sqrt(fan-in) with biases of 0; every row has the learning
rate and the momentum decay that are learned with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import fastrev
from fastrev.experiments._shared import datasets, pictures
from fastrev.experiments._shared.judging import Judge
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.settings import LARGEST_SCALE, Count, Positive, Share, Sizes, at_most, setting
from fastrev.experiments._shared.settings import Settings as Common

# Without a bound, the search along all rates ends at the edge of chaos from such small scales, and meta-gradients there
# mean little: on digits the learned scales then ended at a training loss of 0.12, within the bound at 0.08
HIGHEST_LR = 4.0


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    hidden: Sizes = setting((32, 32), "sizes of the hidden layers", with_data=(50, 50, 50))
    steps: Count = setting(100, "training steps, T")
    batch_size: Count = setting(50, "examples in a training step", with_data=200)
    lr: Positive = setting(0.1, "learning rate to begin with, learned too")
    decay: Share = setting(0.9, "momentum decay to begin with, learned too")
    scale: Positive = setting(0.05, "standard deviation of all initial weights and biases to begin with")
    meta_steps: Count = setting(100, "updates of the scales", with_data=50)
    meta_lr: Positive = setting(0.1, "Adam's rate on log scale, log lr and logit decay")
    runs: Count = setting(8, "trainings a meta-step, whose gradients are averaged", with_data=4)


def run(settings: Settings, keep: Kept) -> bool:
    """Learn, report and keep the results.  Returns False after Ctrl-C."""
    at_most("lr", settings.lr, 0.99 * HIGHEST_LR, f"as learning rates are learned below {HIGHEST_LR:g}")
    at_most("scale", settings.scale, LARGEST_SCALE, "as weights must be below 2048")
    data = datasets.load(settings.data, settings.seed)
    model = fastrev.MLP((data.inputs, *settings.hidden, data.classes), activation="tanh")
    groups = list(model.groups)
    small = np.full(len(groups), settings.scale)
    heuristic = np.array([model.shapes[name][0] ** -0.5 if name.startswith("W") else 0.0 for name in groups])
    fixed: dict[str, Any] = {"train": data.train, "steps": settings.steps, "batch_size": settings.batch_size}
    start: dict[str, Any] = {"lr": settings.lr, "decay": settings.decay}
    way: list[Any] = [small]

    def follow(state: Any) -> None:
        """Keep the scales of a meta-step."""
        if "init_scale" in state.values():
            way.append(state.values()["init_scale"])
            keep(way=way)

    judge = Judge(model, data, settings.seed, keep, judged_on="training", **fixed)
    judge.row("as started", **start, init_scale=small)
    keep(groups=groups, heuristic=heuristic, way=way)
    plans = {
        "small scales": (small, ()),
        "heuristic scales": (heuristic, ()),
        "learned scales": (small, ("init_scale",)),
    }
    for name, (scales, learn) in plans.items():
        result = fastrev.tune(
            model, **fixed, **start, valid=data.train, init_scale=scales, learn=(*learn, "lr", "decay"),
            transforms={"lr": (0.0, HIGHEST_LR)}, meta_steps=settings.meta_steps, meta_lr=settings.meta_lr,
            runs=settings.runs, workers=settings.workers, seed=settings.seed, callback=follow,
        )  # fmt: skip
        if not judge.row(name, result, init_scale=result.init_scale):
            return False
    return True


def draw(saved: pictures.Saved) -> Any:
    """The scales by meta-step, of biases and of weights, and learning curves."""
    figure = pictures.figure(12, 4.2)
    groups, heuristic = saved["groups"].tolist(), saved["heuristic"]
    biases, weights, curves = figure.subplots(1, 3)
    for axis, kind, title in ((biases, "b", "Biases"), (weights, "W", "Weights (dashed: 1/sqrt(fan-in))")):
        for i, each in enumerate(name for name in groups if name.startswith(kind)):
            column = groups.index(each)
            axis.plot(saved["way"][:, column], color=f"C{i}", label=each)
            axis.axhline(heuristic[column], color=f"C{i}", linestyle="--", linewidth=0.8)
        axis.set(xlabel="meta-step", ylabel="initial scale", title=title, ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend()
    pictures.learning_curves(curves, saved)
    curves.legend(fontsize="small")
    return figure
