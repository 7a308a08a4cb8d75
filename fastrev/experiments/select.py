"""Choose which examples to train on (after Metagradient Descent, Engstrom et al. 2025, arXiv 2503.13751).

A meta-gradient by the weights of all examples of a pool, those of weight 0 among them, says whom to exchange.  What is
chosen is held against random choices, and the best of many of them and a search by random exchanges that cost as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import fastrev
from fastrev.experiments._shared import datasets, judging, pictures
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.pool import Pool, Rows
from fastrev.experiments._shared.settings import Count, Positive, at_most, setting
from fastrev.experiments._shared.settings import Settings as Common

NOISE = (0.0, 0.4)  # shares of wrong labels
FIXED: dict[str, Any] = {"decay": 0.9, "l2": 1e-3}
ROWS = ("random", "best of random", "random exchanges", "selected", "whole pool")


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    trials: Count = setting(3, "splits of the data", with_data=1)
    examples: Count = setting(100, "examples to choose, n, all of which are a batch")
    others: Count = setting(100, "of weight 0 that join each batch, other ones each time")
    steps: Count = setting(100, "training steps, T")
    lr: Positive = setting(1.0, "learning rate")
    meta_steps: Count = setting(200, "meta-gradients, and exchanges by them")


def run(settings: Settings, keep: Kept) -> bool:
    """Choose, report and keep the results."""
    found: dict[str, list[Any]] = {"accuracies": [], "cases": [], "losses": [], "chosen": []}
    print(f"wrong  split{''.join(f'{name:>18}' for name in ROWS)}    wrong among selected")
    for share, trial in ((share, trial) for share in NOISE for trial in range(settings.trials)):
        data, rng = datasets.load(settings.data, settings.seed + trial), np.random.default_rng([settings.seed, trial])
        model, y = fastrev.MLP((data.inputs, 32, data.classes)), data.train[1]
        given, wrong = datasets.mislabelled(y, share, data.classes, rng)
        seeds = judging.seeds(settings.seed, trial)
        at_most("examples", settings.examples, len(y) - 1, "as many as there are to train on but one")
        pool = Pool(model, data, given, settings.examples, seeds, steps=settings.steps, lr=settings.lr, **FIXED)
        # as many trainings as the meta-gradients cost, by the rows that they go through
        others = min(settings.others, len(y) - settings.examples)
        trainings = round(3.5 * (1 + others / settings.examples) * settings.meta_steps)
        by_chance = np.mean([pool.accuracy(pool.random(rng)) for _ in range(10)])
        best, exchanged, (rows, losses) = pool.searched(
            [partial(Pool.best_of_random, trainings=trainings), partial(Pool.random_exchanges, trainings=trainings),
             partial(select, settings=settings)], rng.spawn(3), settings.workers,
        )  # fmt: skip
        accuracies = [by_chance, *map(pool.accuracy, (best, exchanged, rows, pool.all))]
        for name, value in zip(found, (accuracies, (share, trial), losses, rows), strict=True):
            found[name].append(value)
        shown = "".join(f"{each:18.1%}" for each in accuracies)
        print(f"{share:<7.0%}{trial:<5}{shown}{wrong[rows].mean():24.0%}", flush=True)
        keep(rows=ROWS, **found)
        if len(found["cases"]) == 1:
            keep(images=data.train[0][rows].reshape(-1, *data.shape), labels=given[rows])
    return True


def select(pool: Pool, rng: np.random.Generator, settings: Settings) -> tuple[Rows, list[float]]:
    """Rows, of which fewer and fewer are exchanged by the running mean of meta-gradients, and losses on the way."""
    rows, mean, losses = pool.random(rng), np.zeros(len(pool.all)), []
    for step in range(settings.meta_steps):
        loss, gradient = meta_gradient(pool, rows, settings, step, rng)
        mean = (mean + gradient) / 2
        losses.append(loss)
        count = max(1, round(len(rows) / 8 * (1 + np.cos(np.pi * step / settings.meta_steps))))
        allowed = rng.random(len(pool.all)) < 0.5  # a random half of all, as published
        inside, outside = rows[allowed[rows]], np.setdiff1d(pool.all[allowed], rows)
        worst = inside[np.argsort(-mean[inside])[:count]]
        best = outside[np.argsort(mean[outside])[: len(worst)]]
        rows = np.concatenate([np.setdiff1d(rows, worst), best])
    return rows, losses


def meta_gradient(
    pool: Pool, rows: Rows, settings: Settings, seed: int, rng: np.random.Generator
) -> tuple[float, npt.NDArray[np.float64]]:
    """Validation loss, and its derivative by the weight of every example in a step that it is in."""
    pool.go_on()
    others = np.setdiff1d(pool.all, rows)
    joining = np.resize(rng.permutation(others), (settings.steps, min(settings.others, len(others))))
    batches = np.concatenate([np.tile(rows, (settings.steps, 1)), joining], axis=1)
    weights = np.zeros(len(pool.all))
    weights[rows] = batches.shape[1] / len(rows)  # a step takes the mean over its batch, in which others weigh 0
    result = fastrev.meta_grad(
        pool.model, pool.model.init(seed), train=pool.examples, valid=pool.data.valid, batches=batches,
        example_weights=weights, wrt=("example_weights",), lr=settings.lr, **FIXED,
    )  # fmt: skip
    return result.loss, result.grad.example_weights / np.maximum(
        np.bincount(batches.ravel(), minlength=len(weights)), 1
    )


def draw(saved: pictures.Saved) -> Any:
    """Losses on the way, accuracies of every split, and who was chosen."""
    figure = pictures.figure(12, 9)
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    panels, shares = above.subplots(1, 3), saved["cases"][:, 0]
    for i, (share, color) in enumerate(zip(np.unique(shares), ("C0", "C3"), strict=False)):
        for losses in saved["losses"][shares == share]:
            panels[0].semilogy(losses, color=color, linewidth=0.8, label=f"{share:.0%} of the labels wrong")
        pictures.dots(panels[1 + i], saved["rows"].tolist(), saved["accuracies"][shares == share], "test accuracy")
        panels[1 + i].set_title(f"{share:.0%} of the pool's labels wrong")
    panels[0].set(xlabel="meta-step", ylabel="validation loss", title="Of what is selected so far, by split")
    pictures.once(panels[0])
    order, axis = np.argsort(saved["labels"], kind="stable"), below.subplots()
    pictures.mosaic(axis, saved["images"][order], saved["labels"][order].astype(str).tolist(), columns=20)
    axis.set_title("Selected from the pool as it is, split 0, with their labels")
    return figure
