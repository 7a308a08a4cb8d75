"""Small moves of hyperparameters in random directions that keep them what they must be."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fastrev._engine.hyperparameters import LARGEST_DECAY, SMALLEST_DECAY
from fastrev._engine.problem import Problem
from fastrev._engine.python_objective import is_theta
from fastrev._engine.rule import Rule
from fastrev._engine.types import FloatArray


def names_of(problem: Problem, wrt: Iterable[str]) -> list[str]:
    """The names of `Problem.values` that those of the arguments stand for."""
    found = []
    for name in wrt:
        found += [each for each in problem.trained.values() if is_theta(each)] if name == "theta" else [name]
    return found


def direction(rule: Rule, name: str, value: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Normal and of root mean square 1, in units of what it moves: a move by a tenth of it is small.

    Decays stay between the least ratio and the largest below 1; all else of the rule, penalties and example weights
    keep their signs.
    """
    noise = rng.standard_normal(value.shape)
    noise /= np.sqrt(np.mean(noise**2)) or 1.0  # a single number moves by 1, not by chance
    if name in rule.ratios:
        room = np.minimum(value - SMALLEST_DECAY, LARGEST_DECAY - value)
        inward = np.abs(noise) * np.where(value < 0.5, value, -0.1)
        return np.where(room > 0, np.clip(noise, -5, 5) * room, inward)
    scale = np.sqrt(np.mean(value**2)) or (0.01 if name in rule.starts else 1.0)
    if name in (*rule.names, "l2", "example_weights"):
        return np.where(value != 0, np.clip(noise, -5, 5) * value, np.abs(noise) * scale * 1e-3)
    return noise * scale


def moved(problem: Problem, move: dict[str, FloatArray]) -> Problem:
    """The problem with some values moved."""
    values = problem.values()
    for name, change in move.items():
        problem = problem.with_value(name, values[name] + change)
    return problem
