"""Choose which examples to train on (after Metagradient Descent, Engstrom et al. 2025, arXiv 2503.13751).

A meta-gradient by the weights of all examples of a pool, those of weight 0 among them, says whom to exchange.  What is
chosen is held against random choices, and the best of many of them and a search by random exchanges that cost as much.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import fastrev
from fastrev.experiments._shared import datasets, pictures
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.pool import Pool, Rows
from fastrev.experiments._shared.settings import Count, Positive, setting
from fastrev.experiments._shared.settings import Settings as Common

POOLS = (0.0, 0.4)  # shares of wrong labels
ROWS = ("random", "best of random", "random exchanges", "selected", "whole pool")


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    trials: Count = setting(3, "splits of the data", files=1)
    examples: Count = setting(100, "examples to choose, n, all of which are a batch")
    others: Count = setting(100, "of weight 0 that join each batch, other ones each time")
    steps: Count = setting(100, "training steps, T")
    lr: Positive = setting(1.0, "learning rate")
    meta_steps: Count = setting(200, "meta-gradients, and exchanges by them")


def run(settings: Settings, keep: Kept) -> bool:
    """Choose, report and keep the results."""
    accuracies, cases, way = [], [], []
    trainings = round(3.5 * (1 + settings.others / settings.examples) * settings.meta_steps)  # as long as these
    print(f"wrong  split{''.join(f'{name:>18}' for name in ROWS)}    wrong among selected")
    for share, trial in ((share, trial) for share in POOLS for trial in range(settings.trials)):
        data, rng = datasets.load(settings.data, settings.seed + trial), np.random.default_rng([settings.seed, trial])
        y, classes = data.train[1], data.classes
        given, wrong = datasets.mislabelled(y, share, classes, rng)
        pool = Pool(
            fastrev.MLP((data.inputs, 32, classes)), data, given, settings.examples, steps=settings.steps,
            lr=settings.lr, decay=0.9, l2=1e-3,
        )  # fmt: skip
        by_chance = np.mean([pool.accuracy(pool.random(rng)) for _ in range(10)])
        with ThreadPoolExecutor(os.cpu_count() if settings.workers == -1 else settings.workers) as threads:
            selecting = threads.submit(select, pool, settings, rng.spawn(1)[0])
            searching = [threads.submit(search, trainings, rng.spawn(1)[0])
                         for search in (pool.best_of_random, pool.random_exchanges)]  # fmt: skip
            (rows, losses), others = selecting.result(), [each.result() for each in searching]
        accuracies.append([by_chance, *map(pool.accuracy, [*others, rows, pool.all])])
        cases.append((share, trial))
        way.append(losses)
        shown = "".join(f"{each:18.1%}" for each in accuracies[-1])
        print(f"{share:<7.0%}{trial:<5}{shown}{wrong[rows].mean():24.0%}", flush=True)
        keep(rows=ROWS, accuracies=accuracies, cases=cases, losses=way)
        if share == 0 and trial == 0:
            keep(images=data.train[0][rows].reshape(-1, *data.shape), labels=y[rows])
    return True


def select(pool: Pool, settings: Settings, rng: np.random.Generator) -> tuple[Rows, list[float]]:
    """Rows, of which fewer and fewer are exchanged by the running mean of meta-gradients, and losses on the way."""
    rows, mean, losses = pool.random(rng), np.zeros(len(pool.all)), []
    for step in range(settings.meta_steps):
        loss, gradient = meta_gradient(pool, rows, settings, step, rng)
        mean = 0.8 * mean + 0.2 * gradient
        losses.append(loss)
        count = max(1, round(len(rows) / 16 * (1 + np.cos(np.pi * step / settings.meta_steps))))
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
    others = np.setdiff1d(pool.all, rows)
    joining = np.resize(rng.permutation(others), (settings.steps, min(settings.others, len(others))))
    batches = np.concatenate([np.tile(rows, (settings.steps, 1)), joining], axis=1)
    weights = np.zeros(len(pool.all))
    weights[rows] = batches.shape[1] / len(rows)  # a step takes the mean over its batch, in which others weigh 0
    result = fastrev.meta_grad(
        pool.model, pool.model.init(seed), train=pool.examples, valid=pool.data.valid, batches=batches,
        example_weights=weights, wrt=("example_weights",), lr=settings.lr, decay=0.9, l2=1e-3,
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
    axis.set_title("Selected, with their labels")
    return figure
