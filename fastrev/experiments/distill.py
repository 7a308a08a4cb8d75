"""Learn a training set of one image a class (Maclaurin et al. 2015, section 3.3, Figure 7).

`fastrev.tune` learns the pixels of the images, blank to begin with, and with them the one learning rate and the one
momentum decay that go with such images.  They are held against the mean image of each class and against the best of
many choices of one real image a class, for which both are tuned as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import fastrev
from fastrev.experiments._shared import datasets, pictures
from fastrev.experiments._shared.judging import Judge
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.settings import Count, Positive, Share, setting
from fastrev.experiments._shared.settings import Settings as Common

Images = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    steps: Count = setting(40, "training steps, T")
    lr: Positive = setting(1.0, "learning rate to begin with, learned too")
    decay: Share = setting(0.9, "momentum decay to begin with, learned too")
    meta_steps: Count = setting(300, "updates of the images")
    meta_lr: Positive = setting(0.05, "Adam's rate on the pixels, log lr and logit decay")
    runs: Count = setting(
        4, "trainings a meta-step, each of other initial weights, so that the images teach any network"
    )
    choices: Count = setting(100, "of one real image a class, the best of which is held against the learned images")


def run(settings: Settings, keep: Kept) -> bool:
    """Learn, report and keep the results.  Returns False after Ctrl-C."""
    data = datasets.load(settings.data, settings.seed)
    model, labels = fastrev.MLP((data.inputs, data.classes)), np.arange(data.classes)
    means = np.stack([data.train[0][data.train[1] == each].mean(axis=0) for each in labels])
    blank = np.zeros_like(means)
    judge = Judge(model, data, settings.seed, keep, steps=settings.steps)
    judge.row("blank images", train=(blank, labels), lr=settings.lr, decay=settings.decay)

    def learn(images: Images, what: tuple[str, ...]) -> fastrev.TuneResult:
        return fastrev.tune(
            model, train=(images, labels), valid=data.train, steps=settings.steps, lr=settings.lr,
            decay=settings.decay, learn=what, meta_steps=settings.meta_steps, meta_lr=settings.meta_lr,
            runs=settings.runs, workers=settings.workers, seed=settings.seed,
        )  # fmt: skip

    result = learn(means, ("lr", "decay"))
    keep(mean_images=means.reshape(-1, *data.shape))
    if not judge.row("class means", result, train=(means, labels)):
        return False
    real = best_choice(model, data, settings, result.lr, result.decay)
    keep(real_images=real.reshape(-1, *data.shape))
    result = learn(real, ("lr", "decay"))
    if not judge.row("best real images", result, train=(real, labels)):
        return False
    result = learn(blank, ("x", "lr", "decay"))
    keep(learned_images=result.x.reshape(-1, *data.shape))
    return judge.row("learned images", result, train=(result.x, labels))


def best_choice(model: fastrev.MLP, data: datasets.Dataset, settings: Settings, lr: float, decay: float) -> Images:
    """Of choices of one real image a class, drawn by the seed, the one that teaches most at these rates."""
    (x, y), rng, found = data.train, np.random.default_rng(settings.seed), []
    labels = np.unique(y)
    for seed in range(settings.choices):
        images = x[[rng.choice(np.flatnonzero(y == each)) for each in labels]]
        w0 = model.init(seed)
        run = fastrev.train(model, w0, train=(images, labels), lr=lr, decay=decay, steps=settings.steps)
        found.append((model.loss_value(run.w, x, y), images))
    return min(found, key=lambda each: each[0])[1]


def draw(saved: pictures.Saved) -> Any:
    """The learned images above real ones, and the loss by meta-step below them."""
    kinds = {"learned": "learned", "class mean": "mean", "best real": "real"}
    rows = {name: saved[f"{kind}_images"] for name, kind in kinds.items() if f"{kind}_images" in saved}
    count = len(saved["mean_images"])
    height = pictures.images_height(count, len(rows))
    figure = pictures.figure(12, height + 3.5)
    above, below = figure.subfigures(2, 1, height_ratios=(height, 3.5))
    pictures.images(above, rows, np.arange(count).astype(str).tolist(), signed="learned")
    axis = below.subplots()
    pictures.meta_curves(axis, saved, "loss on the real training images\nafter training on these", searched=True)
    if axis.lines:
        pictures.beside(axis)
    return figure
