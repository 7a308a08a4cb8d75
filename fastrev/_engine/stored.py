"""A meta-gradient from a trajectory that is stored: what the reversal is held against.

The steps forward are the exact ones; every state is kept; and the way back is plain NumPy, written once more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrev._engine import state as states
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.mlp_steps import MLPSteps
from fastrev._engine.problem import Problem
from fastrev._engine.python_objective import PythonObjective
from fastrev._engine.types import FloatArray


def functions_of(trained: MLPObjective | PythonObjective) -> MLPSteps | PythonObjective:
    """The gradient of a step and its derivatives, one call at a time."""
    return MLPSteps(trained) if isinstance(trained, MLPObjective) else trained


class StoredRun:
    """A training run with its whole trajectory: 8 bytes a parameter a step for weights, gradient and each moment.

    Attributes
    ----------
    w : (T + 1, P) float64 ndarray
        Weights before every step, and at the end.
    moments : (T + 1, M, P) float64 ndarray
        The same of the moments.
    g : (T, P) float64 ndarray
        The gradient of every step.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem, self._functions = problem, functions_of(problem.trained)
        state, made, scratch = problem.start(), np.empty(1, np.int64), states.new_scratch()
        size, rule = state.w.size, tuple(problem.rule.tables)
        self.w, self.g = np.empty((problem.steps + 1, size)), np.empty((problem.steps, size))
        self.moments = np.empty((problem.steps + 1, *state.moments.shape))
        self.w[0], self.moments[0] = states.to_floats(state.w), problem.moments_of(state)
        for t in range(problem.steps):
            states.make_room_for_step(state)
            self._functions.gradient(self.w[t].copy(), t, self.g[t])
            problem.rule.walks.by_hand.make(rule, tuple(state), self.g[t], self.w[t + 1], made, scratch)
            self.moments[t + 1] = problem.moments_of(state)

    def pullback(self, w_bar: FloatArray, wrt: tuple[str, ...]) -> dict[str, Any]:
        """The derivatives by the names of the arguments, in their shapes."""
        problem = self._problem
        back = problem.rule.stored_back(problem.trained.bounds)
        functions: Any = self._functions
        sums, hu = functions.new_sums(wrt), np.empty(w_bar.size)
        dw = w_bar.copy()
        for t in reversed(range(len(self.g))):
            u = back.position(t, self.w[t], dw, self.moments[t], self.moments[t + 1], self.g[t])
            functions.pull(self.w[t].copy(), u, t, hu, sums)
            back.rest(t, dw, hu)
        starts = dict(zip(problem.rule.starts, back.moments, strict=False))
        return {**back.gradients(), "w0": dw, **starts, **functions.gradients(sums)}
