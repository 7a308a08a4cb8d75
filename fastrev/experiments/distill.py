"""Learn a training set of one image a class (Maclaurin et al. 2015, section 3.3).

`fastrev.tune` learns the pixels of the images, and with them the one learning rate and the one momentum decay that go
with such images.  They are held against the mean image of each class, for which both are tuned as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastrev
from fastrev.experiments import judging, output, plots
from fastrev.experiments.datasets import Dataset


@dataclass(frozen=True)
class Settings:
    """What the command line sets."""

    steps: int  # T
    meta_steps: int
    lr: float  # to begin with
    decay: float
    meta_lr: float
    runs: int  # a meta-step, each of other initial weights, so that the images teach any network
    workers: int
    seed: int


def run(settings: Settings, data: Dataset, folder: Path) -> bool:
    """Learn, report, and leave ``distill.png`` and ``distill.npz`` in the folder.  Returns False after Ctrl-C."""
    model = fastrev.MLP((data.inputs, data.classes))
    labels = np.arange(data.classes)
    means, nearest = real_images(data)
    judge = partial(judging.judge, model, data, settings.seed, steps=settings.steps)

    print(judging.HEAD)
    blank = np.zeros_like(means)
    judged = {"blank images": judge("blank images", train=(blank, labels), lr=settings.lr, decay=settings.decay)}
    arrays: dict[str, Any] = {"labels": labels, "means": means.reshape(-1, *data.shape)}
    plans = {"class means": (means, ("lr", "decay")), "learned images": (blank, ("x", "lr", "decay"))}
    results = {}
    for name, (images, learn) in plans.items():
        result = results[name] = fastrev.tune(
            model, train=(images, labels), valid=data.train, steps=settings.steps, lr=settings.lr,
            decay=settings.decay, learn=learn, meta_steps=settings.meta_steps, meta_lr=settings.meta_lr,
            runs=settings.runs, workers=settings.workers, seed=settings.seed,
        )  # fmt: skip
        if "x" in learn:
            arrays |= {"images": result.x.reshape(-1, *data.shape), "meta_curve": result.history.loss}
        prefix = "" if "x" in learn else "means_"
        arrays |= {f"{prefix}lr": result.lr, f"{prefix}decay": result.decay}
        output.save_arrays(folder, "distill", arrays)  # safe, whatever comes after
        note = f"lr {result.lr:.3g}, decay {result.decay:.3g}" if result.success else result.message
        judged[name] = judge(name, train=(result.x, labels), lr=result.lr, decay=result.decay, note=note)
        if not result.success:
            break

    arrays |= {"rows": list(judged), "losses": np.stack([each.losses for each in judged.values()])}
    arrays |= {"accuracies": np.stack([each.accuracies for each in judged.values()])}  # (rows, seeds)
    shown = {"learned": result.x} if "images" in arrays else {}
    shown |= {"class mean": means, "nearest real": nearest}
    output.save(folder, "distill", arrays, lambda: plots.distilled(shown, data.shape, results))
    return result.success


def real_images(data: Dataset) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The mean (K, D) of the training images of each class, and the images nearest to them."""
    x, y = data.train
    means, nearest = np.zeros((2, data.classes, data.inputs))
    for each in np.unique(y):
        images = x[y == each]
        means[each] = images.mean(axis=0)
        nearest[each] = images[np.square(images - means[each]).sum(axis=1).argmin()]
    return means, nearest
