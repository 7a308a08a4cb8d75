"""A meta-gradient from a trajectory that is stored: what the reversal is held against.

The steps forward are the exact ones; every state is kept; and the way back is plain NumPy, written once more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrev._engine import state as states
from fastrev._engine.hyperparameters import Table
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.mlp_steps import MLPSteps
from fastrev._engine.problem import Problem
from fastrev._engine.python_objective import PythonObjective
from fastrev._engine.types import AnyArray, FloatArray
from fastrev.kernels import by_hand
from fastrev.kernels.information_buffer import BLOCK


def functions_of(trained: MLPObjective | PythonObjective) -> MLPSteps | PythonObjective:
    """The gradient of a step and its derivatives, one call at a time."""
    return MLPSteps(trained) if isinstance(trained, MLPObjective) else trained


class StoredRun:
    """A training run with its whole trajectory: 24 bytes a parameter a step.

    Attributes
    ----------
    w, v : (T + 1, P) float64 ndarray
        Weights and velocity before every step, and at the end.
    g : (T, P) float64 ndarray
        The gradient of every step.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem, self._functions = problem, functions_of(problem.trained)
        start = problem.w0.copy(), np.zeros_like(problem.w0) if problem.v0 is None else problem.v0.copy()
        state, made, scratch = states.new_state(*start), np.empty(1, np.int64), np.empty(2 * BLOCK)
        size, rule = state.w.size, tuple(problem.rule.tables)
        self.w, self.v = np.empty((2, problem.steps + 1, size))
        self.g = np.empty((problem.steps, size))
        self.w[0], self.v[0] = states.to_floats(state.w), states.to_floats(state.v)
        for t in range(problem.steps):
            states.make_room(state.tail, int(state.cursor[1]), size)
            self._functions.gradient(self.w[t].copy(), t, self.g[t])
            by_hand.make_step(rule, tuple(state), self.g[t], self.w[t + 1], made, scratch)
            self.v[t + 1] = states.to_floats(state.v)

    def pullback(self, w_bar: FloatArray, wrt: tuple[str, ...]) -> dict[str, Any]:
        """The derivatives by the names of the arguments, in their shapes."""
        rule, bounds = self._problem.rule, self._problem.trained.bounds
        lr, decay = rule.lr, Table("decay", rule.tables.n / rule.tables.d, rule.decay.shape)
        by_lr, by_decay = np.zeros_like(lr.values), np.zeros_like(decay.values)
        functions: Any = self._functions
        sums, hu = functions.new_sums(wrt), np.empty(w_bar.size)
        dw, dv = w_bar.copy(), np.zeros_like(w_bar)
        for t in reversed(range(len(self.g))):
            alpha, gamma = (_of_parameters(table, t, bounds) for table in (lr, decay))
            _add(by_lr, t, dw * self.v[t + 1], bounds)
            dv += alpha * dw
            _add(by_decay, t, dv * (self.v[t] + self.g[t]), bounds)
            u = (1 - gamma) * dv
            functions.pull(self.w[t].copy(), u, t, hu, sums)
            dw -= hu
            dv *= gamma
        own = {"lr": by_lr.reshape(lr.shape)[()], "decay": by_decay.reshape(decay.shape)[()], "w0": dw, "v0": dv}
        return {**own, **functions.gradients(sums)}


def _of_parameters(table: Table, t: int, bounds: AnyArray) -> FloatArray:
    """A step's row of a table, spread over the parameters."""
    row = table.values[min(t, table.values.shape[0] - 1)]
    return np.repeat(np.broadcast_to(row, bounds.size - 1), np.diff(bounds))


def _add(sums: FloatArray, t: int, products: FloatArray, bounds: AnyArray) -> None:
    """Products of all parameters into a table of which an axis of length 1 stands for all steps, or all groups."""
    of_groups = np.add.reduceat(products, bounds[:-1])
    sums[min(t, sums.shape[0] - 1)] += of_groups if sums.shape[1] > 1 else of_groups.sum()
