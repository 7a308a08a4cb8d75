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
from fastrev.experiments._shared.settings import Count, Positive, Share, Sizes, setting
from fastrev.experiments._shared.settings import Settings as Common


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    hidden: Sizes = setting((32, 32), "sizes of the hidden layers", files=(50, 50, 50))
    steps: Count = setting(100, "training steps, T")
    batch_size: Count = setting(50, "examples in a training step", files=200)
    lr: Positive = setting(0.1, "learning rate to begin with, learned too")
    decay: Share = setting(0.9, "momentum decay to begin with, learned too")
    scale: Positive = setting(0.05, "standard deviation of all initial weights and biases to begin with")
    meta_steps: Count = setting(100, "updates of the scales", files=50)
    meta_lr: Positive = setting(0.1, "Adam's rate on log scale, log lr and logit decay")
    runs: Count = setting(8, "trainings a meta-step, whose gradients are averaged", files=4)


def run(settings: Settings, keep: Kept) -> bool:
    """Learn, report and keep the results.  Returns False after Ctrl-C."""
    data = datasets.load(settings.data, settings.seed)
    model = fastrev.MLP((data.inputs, *settings.hidden, data.classes), activation="tanh")
    groups = list(model.groups)
    small = np.full(len(groups), settings.scale)
    usual = np.array([model.shapes[name][0] ** -0.5 if name.startswith("W") else 0.0 for name in groups])
    fixed: dict[str, Any] = {"train": data.train, "steps": settings.steps, "batch_size": settings.batch_size}
    start: dict[str, Any] = {"lr": settings.lr, "decay": settings.decay}
    keep(groups=groups, usual=usual)
    judge = Judge(model, data, settings.seed, loss="training", **fixed)
    judge("as started", **start, init_scale=small)
    plans = {"small scales": (small, ()), "1/sqrt(fan-in)": (usual, ()), "learned scales": (small, ("init_scale",))}
    for name, (scales, learn) in plans.items():
        way: list[Any] = [scales]

        def follow(state: Any, way: list[Any] = way) -> None:
            way.append(state.values().get("init_scale", way[0]))

        result = fastrev.tune(
            model, **fixed, **start, valid=data.train, init_scale=scales, learn=(*learn, "lr", "decay"),
            transforms={"lr": (0.0, 4.0)},  # above which training this network is chaotic
            meta_steps=settings.meta_steps, meta_lr=settings.meta_lr, runs=settings.runs, workers=settings.workers,
            seed=settings.seed, callback=follow,
        )  # fmt: skip
        keep.result(name.split()[0], result)
        if learn:
            keep(way=way)
        judge(name, result, init_scale=result.init_scale)
        keep(**judge.arrays)
        if not result.success:
            return False
    return True


def draw(saved: pictures.Saved) -> Any:
    """The scales by meta-step, of biases and of weights, and learning curves."""
    figure = pictures.figure(12, 4.2)
    groups, usual = saved["groups"].tolist(), saved["usual"]
    biases, weights, curves = figure.subplots(1, 3)
    for axis, kind, title in ((biases, "b", "Biases"), (weights, "W", "Weights")):
        for i, each in enumerate(name for name in groups if name.startswith(kind)):
            column = groups.index(each)
            axis.plot(saved["way"][:, column] if "way" in saved else np.empty(0), color=f"C{i}", label=each)
            axis.axhline(usual[column], color=f"C{i}", linestyle="--", linewidth=0.8)
        axis.set(xlabel="meta-step", ylabel="initial scale", title=f"{title} (dashed: 1/sqrt(fan-in))", ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend()
    biases.set_title("Biases")
    pictures.learning_curves(curves, saved)
    curves.legend(fontsize="small")
    return figure
