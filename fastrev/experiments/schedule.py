"""Learn a schedule of learning rates and momentum decays (Maclaurin et al. 2015, section 3.1, Figures 2 and 3).

It is held against what it has to beat: not the rate that it began with, but the best constant rate and decay.  Both are
learned by `fastrev.tune` from the same start and with initial scales, as in the paper, by as many meta-steps of as many
runs; all that differs is how many rates and decays there are to learn, 2 or 2 T G.  The scales of biases begin at 0
and stay there.
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

    hidden: Sizes = setting((32,), "sizes of the hidden layers", with_data=(50, 50, 50))
    steps: Count = setting(100, "training steps, T")
    batch_size: Count = setting(50, "examples in a training step", with_data=200)
    lr: Positive = setting(0.1, "learning rate of every step and group to begin with")
    decay: Share = setting(0.9, "momentum decay of every step and group to begin with")
    meta_steps: Count = setting(100, "updates of the schedule, and of the best constants", with_data=50)
    meta_lr: Positive = setting(0.05, "Adam's rate on log lr, logit decay and log scale")
    runs: Count = setting(8, "trainings a meta-step, whose gradients are averaged", with_data=4)


def run(settings: Settings, keep: Kept) -> bool:
    """Learn, report and keep the results.  Returns False after Ctrl-C."""
    data = datasets.load(settings.data, settings.seed)
    model = fastrev.MLP((data.inputs, *settings.hidden, data.classes), activation="tanh")
    fixed: dict[str, Any] = {"train": data.train, "steps": settings.steps, "batch_size": settings.batch_size}
    judge = Judge(model, data, settings.seed, keep, judged_on="training", **fixed)
    judge.row("as started", lr=settings.lr, decay=settings.decay)
    keep(groups=list(model.groups), start_lr=settings.lr, start_decay=settings.decay)
    everything = (settings.steps, len(model.groups))
    for name, shape in {"best constants": (), "learned schedule": everything}.items():
        result = fastrev.tune(
            model, **fixed, valid=data.train, lr=np.full(shape, settings.lr), decay=np.full(shape, settings.decay),
            learn=("lr", "decay", "init_scale"), meta_steps=settings.meta_steps, meta_lr=settings.meta_lr,
            runs=settings.runs, workers=settings.workers, seed=settings.seed,
        )  # fmt: skip
        if not judge.row(name, result):
            return False
    return True


def draw(saved: pictures.Saved) -> Any:
    """Every group's learned rates and decays, learning curves, and the loss by meta-step."""
    groups, learned = saved["groups"].tolist(), "learned_schedule_lr" in saved
    heights = [*([pictures.height(len(groups))] * 2 if learned else []), 3.4]
    figure = pictures.figure(12, sum(heights) + 0.4)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    style = pictures.styles(saved["rows"])
    for part, name in zip(parts, ("lr", "decay") if learned else (), strict=False):
        others = [
            (row, saved[f"{kind}_{name}"], *style[row])
            for row, kind in zip(style, ("start", "best_constants"), strict=False)
        ]
        pictures.schedules(part, name, saved[f"learned_schedule_{name}"], others, groups, ratio=name == "decay")
    curves, by_meta_step = parts[-1].subplots(1, 2)
    pictures.learning_curves(curves, saved)
    pictures.meta_curves(by_meta_step, saved, "training loss after training", searched=True)
    figure.legend(*curves.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure
