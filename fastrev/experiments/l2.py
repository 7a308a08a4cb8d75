"""Learn one penalty for every weight (Maclaurin et al. 2015, section 3.2, Figure 6).

Of softmax regression, whose penalties are as many images as there are classes: dark where a weight is held down.  They
are held against the best single penalty, learned from the same start, by the loss on test examples, since so many
numbers may well overfit the validation examples that they are learned on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import fastrev
from fastrev.experiments._shared import datasets, pictures
from fastrev.experiments._shared.judging import Judge
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.settings import Count, Positive, Share, setting
from fastrev.experiments._shared.settings import Settings as Common


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    steps: Count = setting(100, "training steps, T", with_data=50)
    batch_size: Count = setting(50, "examples in a training step", with_data=200)
    lr: Positive = setting(1.0, "learning rate")
    decay: Share = setting(0.9, "momentum decay")
    l2: Positive = setting(0.0272, "penalty of every weight to begin with")
    meta_steps: Count = setting(100, "updates of the penalties")
    meta_lr: Positive = setting(0.1, "Adam's rate on log l2")
    runs: Count = setting(8, "trainings a meta-step, whose gradients are averaged", with_data=4)


def run(settings: Settings, keep: Kept) -> bool:
    """Learn, report and keep the results.  Returns False after Ctrl-C."""
    data = datasets.load(settings.data, settings.seed)
    model = fastrev.MLP((data.inputs, data.classes))
    fixed: dict[str, Any] = {
        "train": data.train, "steps": settings.steps, "batch_size": settings.batch_size, "lr": settings.lr,
        "decay": settings.decay,
    }  # fmt: skip
    judge = Judge(model, data, settings.seed, keep, judged_on="test", **fixed)
    judge.row("as started", l2=settings.l2)
    shapes = {
        "best single penalty": (),
        "learned penalties": (model.num_params,),
    }  # (G,) would be one a parameter group
    for name, shape in shapes.items():
        result = fastrev.tune(
            model, **fixed, valid=data.valid, l2=np.full(shape, settings.l2), learn=("l2",),
            meta_steps=settings.meta_steps, meta_lr=settings.meta_lr, runs=settings.runs, workers=settings.workers,
            seed=settings.seed,
        )  # fmt: skip
        if shape == (model.num_params,):
            keep(penalties=model.unflatten(result.l2)["W1"].T.reshape(-1, *data.shape))
        if not judge.row(name, result):
            return False
        print(f"{'':24}{result.loss:.4f} on the validation examples, from {result.start_loss:.4f}")
    return True


def draw(saved: pictures.Saved) -> Any:
    """The penalties as images, and the loss by meta-step and by training step."""
    figure = pictures.figure(12, 8)
    above, below = figure.subfigures(2, 1, height_ratios=(4.4, 3.4))
    if "penalties" in saved:
        pictures.tiles(above, saved["penalties"], "penalty, clipped at its 98th percentile")
    curves, by_meta_step = below.subplots(1, 2)
    pictures.learning_curves(curves, saved)
    pictures.meta_curves(by_meta_step, saved, "validation loss after training")
    below.legend(*curves.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure
