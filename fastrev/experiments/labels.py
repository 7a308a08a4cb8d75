"""Learn the soft labels of 30 images (Maclaurin et al. 2015, section 3.3, where the paper says that one could).

Three real images of each class begin with uniform labels, every class as likely as the next, and learn those with
which a network that sees nothing else reads best.  They are held against the labels that people gave them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import fastrev
from fastrev.experiments._shared import datasets, pictures
from fastrev.experiments._shared.judging import Judge
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.settings import Count, Positive, Share, at_most, setting
from fastrev.experiments._shared.settings import Settings as Common


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    images: Count = setting(3, "images of each class")
    steps: Count = setting(40, "training steps, T")
    lr: Positive = setting(1.0, "learning rate to begin with, learned too")
    decay: Share = setting(0.9, "momentum decay to begin with, learned too")
    meta_steps: Count = setting(300, "updates of the labels", with_data=150)
    meta_lr: Positive = setting(0.05, "Adam's rate on the softmax of labels, log lr and logit decay")
    runs: Count = setting(4, "trainings a meta-step, whose gradients are averaged")


def run(settings: Settings, keep: Kept) -> bool:
    """Learn, report and keep the results.  Returns False after Ctrl-C."""
    data = datasets.load(settings.data, settings.seed)
    model = fastrev.MLP((data.inputs, data.classes))
    (x, y), count = data.train, data.classes
    at_most("images", settings.images, np.bincount(y).min(), "the training images of the rarest class")
    chosen = np.concatenate([np.flatnonzero(y == each)[: settings.images] for each in range(count)])
    images, true = x[chosen], y[chosen]
    uniform = np.full((len(true), count), 1 / count)
    judge = Judge(model, data, settings.seed, keep, steps=settings.steps)
    judge.row("uniform labels", train=(images, uniform), lr=settings.lr, decay=settings.decay)
    keep(true=true, images=images.reshape(-1, *data.shape))
    plans = {"hard labels": (np.eye(count)[true], ()), "learned labels": (uniform, ("y",))}
    for name, (labels, learn) in plans.items():
        result = fastrev.tune(
            model, train=(images, labels), valid=data.train, steps=settings.steps, lr=settings.lr,
            decay=settings.decay, learn=(*learn, "lr", "decay"), meta_steps=settings.meta_steps,
            meta_lr=settings.meta_lr, runs=settings.runs, workers=settings.workers, seed=settings.seed,
        )  # fmt: skip
        if not judge.row(name, result, train=(images, result.y)):
            return False
    found = (result.y.argmax(axis=1) == true).mean()
    print(f"{found:.0%} of the images have the largest share of their label on their own class")
    keep(found=found)
    return True


def draw(saved: pictures.Saved) -> Any:
    """What images of each class are called, the images with their labels, and the loss by meta-step."""
    whole = "learned_labels_y" in saved
    figure = pictures.figure(12, 8 if whole else 3.6)
    *above, below = figure.subfigures(1 + whole, 1, height_ratios=(1.2, 1)[1 - whole :], squeeze=False)[:, 0]
    if whole:
        matrix, pool = above[0].subplots(1, 2, width_ratios=(1, 1.2))
        true, learned = saved["true"], saved["learned_labels_y"]
        confusion = np.stack([learned[true == each].mean(axis=0) for each in range(learned.shape[1])])
        pictures.matrix(matrix, confusion, "learned label", "class", "Learned labels, by class", "share")
        captions = [f"{row.argmax()}: {row.max():.2f}" for row in learned]
        pictures.mosaic(pool, saved["images"], captions, red=learned.argmax(axis=1) != true)
        pool.set_title("The images, and the largest share of their labels (red: of another class)")
    by_meta_step, curves = below.subplots(1, 2)
    pictures.learning_curves(curves, saved)
    pictures.meta_curves(by_meta_step, saved, "loss on the real training images", searched=True)
    below.legend(*curves.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure
