"""Networks trained by what was learned, judged on examples and by seeds that it was not learned with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import fastrev
from fastrev.experiments.datasets import Dataset

_SEEDS = 10
_POINTS = 26  # of a curve
_WIDTH = 19

HEAD = f"{'':{_WIDTH}}validation loss   test accuracy    (mean +- standard deviation of {_SEEDS} trainings)"


@dataclass(frozen=True)
class Judgement:
    """Of each of the seeds."""

    curves: npt.NDArray[np.float64]  # (seeds, S): validation losses after each of the `steps`; infinite if it diverged
    accuracies: npt.NDArray[np.float64]  # (seeds,): on the test examples
    steps: npt.NDArray[np.int64]  # (S,)

    @property
    def losses(self) -> npt.NDArray[np.float64]:
        """(seeds,): at the end."""
        return self.curves[:, -1]


def judge(model: fastrev.MLP, data: Dataset, seed: int, name: str, *, note: str = "", **training: Any) -> Judgement:
    """Train by the arguments of `fastrev.train` from seeds of its own, and print a row of the table under `HEAD`."""
    steps = np.unique(np.linspace(0, training["steps"], _POINTS).astype(np.int64))
    curves, accuracies = np.full((_SEEDS, len(steps)), np.inf), np.zeros(_SEEDS)
    for i, child in enumerate(np.random.SeedSequence(seed, spawn_key=(1,)).generate_state(_SEEDS).tolist()):
        try:
            run = fastrev.train(model, model.init(child), seed=child, curve=(*data.valid, steps), **training)
        except fastrev.DivergenceError:
            continue
        assert run.curve is not None
        curves[i] = run.curve.losses
        accuracies[i] = model.accuracy(run.w, *data.test)
    judged = Judgement(curves, accuracies, steps)
    print(f"{name:<{_WIDTH}}{_measures(judged):<35}{note}".rstrip(), flush=True)
    return judged


def _measures(judged: Judgement) -> str:
    """Means and standard deviations over the seeds."""
    losses, accuracies = judged.losses, judged.accuracies
    if np.isinf(losses).any():
        return f"{np.isinf(losses).sum()} of {len(losses)} trainings diverged"
    return f"{losses.mean():.4f} +- {losses.std(ddof=1):.4f}  {accuracies.mean():.1%} +- {accuracies.std(ddof=1):.1%}"
