"""The derivatives of one step, held against central differences of what they are derivatives of."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrev._engine import moves
from fastrev._engine.problem import Problem
from fastrev._engine.python_objective import is_theta, theta_name
from fastrev._engine.stored import functions_of
from fastrev._engine.types import FloatArray

STEPS = 1000  # at most, at which each is looked at
_DIFFERENCES = 10.0 ** -np.arange(1, 7)  # lengths of moves, relative


class Difference(NamedTuple):
    """The largest, in units of what the errors of the differences allow; see `fastrev.TermCheck`."""

    error: float
    step: int
    passed: bool
    moved: bool = True


def size_of(trajectory: FloatArray) -> float:
    """That of all weights on the way, which may begin near zero; 1 where they stay there."""
    return float(np.sqrt(np.mean(trajectory**2))) or 1.0


def of_terms(
    problem: Problem,
    names: list[str],
    trajectory: FloatArray,
    validate: Callable[[FloatArray], tuple[float, FloatArray]],
    unit: float,
    rng: np.random.Generator,
) -> dict[str, Difference]:
    """Each second derivative along the trajectory (T + 1, P), and the gradient of the validation loss at its end."""
    steps, own = np.arange(problem.steps), problem.trained.values()
    if steps.size > STEPS:
        inner = rng.choice(steps[1:-1], STEPS - 2, replace=False)
        steps = np.concatenate([steps[:1], np.sort(inner), steps[-1:]])
    terms: dict[str, _Term] = {"hvp": _HVP(problem, trajectory, rng)}
    terms |= {name: _Cross(problem, name, trajectory, rng) for name in names if name in own}
    found = {name: _worst(term, trajectory, steps, unit) for name, term in terms.items()}
    end = np.array([problem.steps])
    return found | {"valid": _worst(_Valid(problem, trajectory, validate, rng), trajectory, end, unit)}


def _worst(term: _Term, trajectory: FloatArray, steps: npt.NDArray[np.int64], unit: float) -> Difference:
    """The step at which a derivative is furthest from what differences say, as far as these agree."""
    worst, excess, moved = Difference(0.0, 0, True), 0.0, False
    for t in steps.tolist():
        w = trajectory[t]
        exact, differences = term.exact(w, t), [term.difference(w, t, h) for h in _DIFFERENCES]
        if not (np.isfinite(exact).all() and np.array_equal(exact, term.exact(w, t))):
            return Difference(np.inf, t, False)
        spreads = [_largest(a - b) for a, b in pairwise(differences)]
        best = int(np.nanargmin([*spreads, np.inf]))  # where truncation and rounding are least together
        if best == len(spreads):
            continue  # no difference is a number
        near = differences[best + 1]
        off, size = _largest(exact - near), max(_largest(exact), _largest(near))
        moved |= any(_largest(each) > 0 for each in differences)
        rounding = term.rounding(w, t, unit) / _DIFFERENCES[best + 1]
        allowed = 10 * spreads[best] + max(1e-6, 1e3 * unit) * size + 10 * rounding
        if off > excess * allowed:
            worst, excess = Difference(off / size, t, bool(off <= allowed)), float(off / allowed)
    return worst if moved or worst.passed else Difference(worst.error, worst.step, worst.passed, moved=False)


class _Term:
    """A derivative of the gradient of a step, along one random direction."""

    def __init__(self, problem: Problem, trajectory: FloatArray, rng: np.random.Generator) -> None:
        self._functions: Any = functions_of(problem.trained)
        self._u = rng.standard_normal(problem.trained.num_params)
        self._size = size_of(trajectory)

    def exact(self, w: FloatArray, t: int) -> FloatArray:
        """What the objective's own functions say."""
        raise NotImplementedError

    def difference(self, w: FloatArray, t: int, h: float) -> FloatArray:
        """The central difference over a move of length h."""
        raise NotImplementedError

    def rounding(self, w: FloatArray, t: int, unit: float) -> float:
        """What rounding does to a difference, times the length of its move.

        It is seen where weights are moved by units in their last place, of float32 or float64.
        """
        g = self._gradient(self._functions, w, t)
        moves = [times * unit * self._size * self._u for times in (2, 4, 6)]
        changes = [_largest(self._gradient(self._functions, w + move, t) - g) for move in moves]
        return (max(changes) + 4 * unit * _largest(g)) * self._gain()

    def _gain(self) -> float:
        """By which a change of the gradient is in a difference over a move of length 1."""
        raise NotImplementedError

    def _gradient(self, functions: Any, w: FloatArray, t: int) -> FloatArray:
        g = np.empty_like(w)
        functions.gradient(w.copy(), t, g)
        return g


class _HVP(_Term):
    """H u, (P,)."""

    def exact(self, w: FloatArray, t: int) -> FloatArray:
        hu = np.empty_like(w)
        self._functions.pull(w.copy(), self._u.copy(), t, hu, self._functions.new_sums(()))
        return hu

    def difference(self, w: FloatArray, t: int, h: float) -> FloatArray:
        step = h * self._size * self._u
        up, down = (self._gradient(self._functions, w + sign * step, t) for sign in (1, -1))
        return (up - down) / (2 * h * self._size)

    def _gain(self) -> float:
        return 1 / self._size


class _Cross(_Term):
    """The derivative of g . u by one hyperparameter, along a direction: one number."""

    def __init__(self, problem: Problem, name: str, trajectory: FloatArray, rng: np.random.Generator) -> None:
        super().__init__(problem, trajectory, rng)
        self._problem, self._name = problem, name
        self._value = problem.values()[name]
        self._along = moves.direction(problem.rule, name, self._value, rng)
        self._moved: dict[float, Any] = {}  # the functions of a step, at every length so far

    def exact(self, w: FloatArray, t: int) -> FloatArray:
        sums = self._functions.new_sums(("theta" if is_theta(self._name) else self._name,))
        self._functions.pull(w.copy(), self._u.copy(), t, np.empty_like(w), sums)
        found = self._functions.gradients(sums)
        found |= {theta_name(name): each for name, each in found.get("theta", {}).items()}
        return np.asarray(-np.sum(found[self._name] * self._along))

    def difference(self, w: FloatArray, t: int, h: float) -> FloatArray:
        up, down = (self._gradient(self._at(sign * h), w, t) for sign in (1, -1))
        return np.asarray((up - down) @ self._u / (2 * h))

    def _gain(self) -> float:
        return float(np.linalg.norm(self._u))

    def _at(self, length: float) -> Any:
        if length not in self._moved:
            moved = self._problem.with_value(self._name, self._value + length * self._along)
            self._moved[length] = functions_of(moved.trained)
        return self._moved[length]


class _Valid(_Term):
    """The validation loss along a direction: one number."""

    def __init__(
        self,
        problem: Problem,
        trajectory: FloatArray,
        validate: Callable[[FloatArray], tuple[float, FloatArray]],
        rng: np.random.Generator,
    ) -> None:
        super().__init__(problem, trajectory, rng)
        self._validate = validate

    def exact(self, w: FloatArray, t: int) -> FloatArray:
        return np.asarray(self._validate(w)[1] @ self._u)

    def difference(self, w: FloatArray, t: int, h: float) -> FloatArray:
        step = h * self._size * self._u
        return np.asarray((self._validate(w + step)[0] - self._validate(w - step)[0]) / (2 * h * self._size))

    def _gain(self) -> float:
        return 1 / self._size

    def _gradient(self, functions: Any, w: FloatArray, t: int) -> FloatArray:
        return np.asarray(self._validate(w)[0])  # what the differences are of


def _largest(values: FloatArray) -> float:
    return float(np.max(np.abs(values), initial=0.0))
