"""What is tuned in the race of tuners: a network's training, the numbers to choose, and who judges the choice."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import fastrev
from fastrev.experiments._shared import datasets

Values = dict[str, npt.NDArray[np.float64]]  # lr, decay, l2 and init_scale, as fastrev takes them
Numbers = dict[str, float]  # what a tuner of plain numbers chooses

STEPS, BATCH, HIDDEN, TRAIN, VALID = 200, 50, 32, 1000, 400
LR, KEPT, L2 = 0.3, 0.1, 1e-4  # where all start; "kept" is 1 - decay, which has a logarithm to search in
FACTOR = 10.0  # from the start to either end of what is searched
JUDGES = 20  # runs
UNSEEN = 10**9  # the first of the judge's seeds; the tuners' own are below


@dataclass(frozen=True)
class Task:
    """A training, and the validation loss after it."""

    model: fastrev.MLP
    train: datasets.Examples
    valid: datasets.Examples

    @property
    def start(self) -> Values:
        """What everybody begins with: what a careful person would choose."""
        inputs, hidden, _ = self.model.sizes
        scale = np.array([inputs**-0.5, 1e-3, hidden**-0.5, 1e-3])
        return {"lr": np.array(LR), "decay": np.array(1 - KEPT), "l2": np.array(L2), "init_scale": scale}

    def loss(self, values: Values, seed: int) -> float:
        """Of one run, whose weights and batches the seed draws.  One that diverges counts as a guess, and none more."""
        guess = math.log(self.model.sizes[-1])
        w0 = self.model.init(seed, scale=values["init_scale"])
        rates = {name: values[name] for name in ("lr", "decay", "l2")}
        try:
            run = fastrev.train(self.model, w0, train=self.train, steps=STEPS, batch_size=BATCH, seed=seed, **rates)
        except fastrev.DivergenceError:
            return guess
        return min(self.model.loss_value(run.w, *self.valid), guess)

    def judge(self, values: Values, pool: ThreadPoolExecutor) -> float:
        """The mean loss of runs that no tuner has seen."""
        return float(np.mean(list(pool.map(lambda seed: self.loss(values, seed), range(UNSEEN, UNSEEN + JUDGES)))))


def load(folder: Path | None) -> Task:
    """Scikit-learn's digits, or the IDX files in a folder."""
    if folder is None:
        from sklearn.datasets import load_digits

        X, Y = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(X))
        X, Y = X[order] / 16, Y[order].astype(np.int64)
        train, valid = (X[:TRAIN], Y[:TRAIN]), (X[TRAIN : TRAIN + VALID], Y[TRAIN : TRAIN + VALID])
    else:
        data = datasets.load(folder, seed=0)
        train, valid = [(X[:n], Y[:n]) for (X, Y), n in ((data.train, TRAIN), (data.valid, VALID))]
    return Task(fastrev.MLP((train[0].shape[1], HIDDEN, 10)), train, valid)


@dataclass(frozen=True)
class Space:
    """Numbers to choose, by their logarithms, and the values that they stand for."""

    start: Numbers
    values: Callable[[Numbers], Values]

    def ranges(self) -> dict[str, tuple[float, float]]:
        """A hundredfold about the start; at most all is kept of a gradient."""
        return {
            name: (middle / FACTOR, min(middle * FACTOR, 0.999) if name == "kept" else middle * FACTOR)
            for name, middle in self.start.items()
        }


def two_numbers(task: Task) -> Space:
    """Learning rate and decay."""
    start = task.start

    def values(numbers: Numbers) -> Values:
        return start | {"lr": np.array(numbers["lr"]), "decay": np.array(1 - numbers["kept"])}

    return Space({"lr": LR, "kept": KEPT}, values)


def seven_numbers(task: Task) -> Space:
    """Those, the penalty, and the scale of the initial weights of each of the four groups."""
    two, scales = two_numbers(task), [f"scale of {group}" for group in task.model.groups]

    def values(numbers: Numbers) -> Values:
        scale = np.array([numbers[each] for each in scales])
        return two.values(numbers) | {"l2": np.array(numbers["l2"]), "init_scale": scale}

    return Space(two.start | {"l2": L2} | dict(zip(scales, task.start["init_scale"].tolist(), strict=True)), values)


def by_group(task: Task) -> Space:
    """Learning rate, decay, penalty and scale of the initial weights, each of every group: 16 numbers."""
    start, groups = task.start, list(task.model.groups)
    scales = dict(zip(groups, task.start["init_scale"].tolist(), strict=True))
    first = {"lr": LR, "kept": KEPT, "l2": L2}

    def values(numbers: Numbers) -> Values:
        lr, kept, l2, scale = (
            np.array([numbers[f"{name} of {group}"] for group in groups]) for name in (*first, "scale")
        )
        return start | {"lr": lr[None], "decay": 1 - kept[None], "l2": l2, "init_scale": scale}

    return Space({f"{name} of {group}": (first | {"scale": scales[group]})[name]
                  for name in (*first, "scale") for group in groups}, values)  # fmt: skip


def ramps(task: Task, *, by_group: bool, exponential: bool = False) -> Space:
    """A schedule of first and last learning rates, on a line between them: of each group, or of all."""
    start, groups = task.start, list(task.model.groups) if by_group else ["all"]
    done = np.linspace(0, 1, STEPS)

    def ramp(first: float, last: float) -> npt.NDArray[np.float64]:
        return first ** (1 - done) * last**done if exponential else (1 - done) * first + done * last

    def values(numbers: Numbers) -> Values:
        lr = np.stack([ramp(numbers[f"first of {each}"], numbers[f"last of {each}"]) for each in groups], axis=1)
        return start | {"lr": lr if by_group else lr[:, 0]}

    return Space({f"{end} of {each}": LR for each in groups for end in ("first", "last")}, values)


def whole_schedule(task: Task) -> Space:
    """A learning rate of every step and group: 800 numbers."""
    start, shape = task.start, (STEPS, len(task.model.groups))
    names = [f"{step} {group}" for step in range(shape[0]) for group in range(shape[1])]

    def values(numbers: Numbers) -> Values:
        return start | {"lr": np.array([numbers[name] for name in names]).reshape(shape)}

    return Space(dict.fromkeys(names, LR), values)
