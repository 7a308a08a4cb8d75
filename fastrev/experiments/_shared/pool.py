"""Examples to choose from, and ways to choose without gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import fastrev
from fastrev._pool.workers import fan_out
from fastrev.experiments._shared.datasets import Dataset

Rows = npt.NDArray[np.int64]
Search = Callable[["Pool", np.random.Generator], Any]


class Pool:
    """Training examples of which n are chosen to train on.

    Parameters
    ----------
    model : MLP
    data : Dataset
    y : (N,) int ndarray
        The labels of its training examples, right or wrong.
    size : int
        n.
    seeds : list of int
        Of the trainings whose test accuracies are averaged.
    **training
        Arguments of `fastrev.train`, which goes through all that is chosen at every step.
    """

    def __init__(
        self, model: fastrev.MLP, data: Dataset, y: Rows, size: int, seeds: list[int], **training: Any
    ) -> None:
        self.model, self.data, self.examples, self.size = model, data, (data.train[0], y), size
        self.seeds, self.training = seeds, training
        self.all = np.arange(len(y))
        self.stopped = False  # by Ctrl-C, while others train

    def trained(self, rows: Rows, seed: int) -> npt.NDArray[np.float64]:
        """Weights after training on these rows."""
        self.go_on()
        x, y = self.examples
        return fastrev.train(self.model, self.model.init(seed), train=(x[rows], y[rows]), **self.training).w

    def go_on(self) -> None:
        """Raise KeyboardInterrupt in a thread that is to stop."""
        if self.stopped:
            raise KeyboardInterrupt

    def searched(self, searches: Sequence[Search], rngs: Sequence[np.random.Generator], workers: int) -> list[Any]:
        """What each search finds, on so many threads, each of whose trainings has one."""
        with fan_out(_search, self, workers) as spread:
            try:
                return spread(list(zip(searches, rngs, strict=True)))
            except BaseException:
                self.stopped = True
                raise

    def loss(self, rows: Rows, seeds: range) -> float:
        """On the validation examples."""
        return float(np.mean([self.model.loss_value(self.trained(rows, each), *self.data.valid) for each in seeds]))

    def accuracy(self, rows: Rows) -> float:
        """On the test examples, by seeds that nothing was chosen with."""
        return float(np.mean([self.model.accuracy(self.trained(rows, each), *self.data.test) for each in self.seeds]))

    def random(self, rng: np.random.Generator) -> Rows:
        """Any n rows."""
        return rng.choice(self.all, self.size, replace=False)

    def best_of_random(self, rng: np.random.Generator, trainings: int) -> Rows:
        """The best of random choices: four fifths of so many trainings are for one of each,
        the rest for the best of them, eight each.
        """
        choices = [self.random(rng) for _ in range(round(0.8 * trainings))]
        order = np.argsort([self.loss(rows, range(i, i + 1)) for i, rows in enumerate(choices)])
        best = [choices[i] for i in order[: max(1, round(0.2 * trainings / 8))]]
        return min(best, key=lambda rows: self.loss(rows, range(10**5, 10**5 + 8)))

    def random_exchanges(self, rng: np.random.Generator, trainings: int) -> Rows:
        """One row for another at a time, kept if the loss of two trainings falls by it."""
        rows = self.random(rng)
        for step in range(trainings // 4):
            new, seeds = rows.copy(), range(2 * step, 2 * step + 2)
            new[rng.integers(len(rows))] = rng.choice(np.setdiff1d(self.all, rows))
            rows = new if self.loss(new, seeds) < self.loss(rows, seeds) else rows
        return rows


def _search(pool: Pool, task: tuple[Search, np.random.Generator]) -> Any:
    search, rng = task
    return search(pool, rng)
