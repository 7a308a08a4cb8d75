"""Training by a number of steps and a penalty that validation chooses."""

from __future__ import annotations

import numpy as np

import fastrev
from fastrev.experiments._shared.datasets import Dataset, Examples

CHOICES = [(steps, l2) for steps in (100, 400) for l2 in (1e-4, 1e-3, 1e-2)]


Choice = tuple[int, float]


def choose(model: fastrev.MLP, data: Dataset, examples: Examples, with_valid: bool) -> tuple[float, Choice]:
    """The best mean accuracy on halves of the validation examples, and the steps and l2 that it is of."""
    halves = [(data.valid[0][i::2], data.valid[1][i::2]) for i in (0, 1)]
    found = []
    for choice in CHOICES:
        scores = []
        for i in (0, 1):
            train = joined(examples, halves[1 - i]) if with_valid else examples
            scores += [score(model, train, halves[i], choice, seed) for seed in (0, 1)]
        found.append((float(np.mean(scores)), choice))
    return max(found)


def accuracy(
    model: fastrev.MLP, data: Dataset, examples: Examples, with_valid: bool, choice: Choice, seeds: list[int]
) -> float:
    """Mean test accuracy after training on the examples."""
    train = joined(examples, data.valid) if with_valid else examples
    return float(np.mean([score(model, train, data.test, choice, seed) for seed in seeds]))


def joined(one: Examples, other: Examples) -> Examples:
    """The examples of both."""
    return np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])


def score(model: fastrev.MLP, train: Examples, test: Examples, choice: Choice, seed: int) -> float:
    """Test accuracy of one training of so many steps with such an l2, at a rate that falls from 1 to 0."""
    (steps, l2), w0, size = choice, model.init(seed), min(100, len(train[1]))
    lr = 1 - np.arange(steps) / steps
    run = fastrev.train(model, w0, train=train, lr=lr, decay=0.9, l2=l2, batch_size=size, seed=seed)
    return model.accuracy(run.w, *test)
