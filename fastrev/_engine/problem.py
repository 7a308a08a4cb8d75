"""Everything that a training run depends on, checked and in the form that the kernels take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments, lines, mlp_objective
from fastrev._engine.architecture import Architecture
from fastrev._engine.hyperparameters import number_of_steps, refuse_ambiguity
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.optimizer import Optimizer
from fastrev._engine.python_objective import PythonObjective
from fastrev._engine.rule import Rule
from fastrev._engine.state import faults, new_state, to_floats, to_grid
from fastrev._engine.types import Fingerprint, FloatArray, Grid
from fastrev.kernels import fixed_point
from fastrev.kernels.fixed_point import GRID
from fastrev.kernels.structures import State


@dataclass(frozen=True)
class Problem:
    """What is trained, how its steps are made, and from where; each was checked by itself and may serve again."""

    trained: MLPObjective | PythonObjective
    rule: Rule
    steps: int  # T
    w0: Grid
    moments: Grid | None  # (M, P) to begin with; None: zero
    imprints: Fingerprint  # of everything that a step or its derivative depends on, by the argument's name

    def start(self) -> State:
        """A state of its own before the first step."""
        shape = len(self.rule.moments), self.w0.size
        w, moments = lines.empty(self.w0.shape, np.int64), lines.empty(shape, np.int64)
        w[:] = self.w0
        moments[:] = 0 if self.moments is None else self.moments
        return new_state(w, moments, shrinks=self.rule.shrinks)

    def moments_of(self, state: State) -> FloatArray:
        """The moments (M, P) of a state as numbers."""
        found = np.empty(state.moments.shape)
        for moment, grid, out in zip(self.rule.moments, state.moments, found, strict=True):
            fixed_point.grid_to_floats(grid, out)
            if moment.spacing is not GRID:
                out *= moment.spacing.step / GRID.step  # a power of two
        return found

    def faults(self, state: State) -> list[str]:
        """How a state differs from the start; empty if in nothing."""
        return faults(state, self.w0, self.moments, [moment.plural for moment in self.rule.moments])

    def changed(self) -> list[str]:
        """The arguments that are no longer what they were when they were checked."""
        found = self.trained.fingerprint() | self.rule.fingerprint()
        if found == self.imprints:  # as mostly: half of the time
            return []
        return [name for name, value in self.imprints.items() if found.get(name) != value]

    def unsound(self, state: State) -> list[str]:
        """What would lead kernels outside of their arrays on the way back; empty unless memory failed."""
        done, top, _, elsewhere = state.cursor.tolist()
        found = self.trained.layout() | self.rule.fingerprint()
        faults = [f"{name} changed" for name, value in self.imprints.items() if found.get(name, value) != value]
        if not 0 <= done <= self.steps:
            faults.append(f"{done} of {self.steps} steps are done")
        if not 0 <= top <= state.tail.size:
            faults.append(f"{top} words lie on a tail of {state.tail.size}")
        if elsewhere < 0:
            faults.append(f"{elsewhere} words are in files")
        return faults

    def values(self) -> dict[str, FloatArray]:
        """All that there is to differentiate by, as the exact arithmetic takes it."""
        starts = dict(zip(self.rule.starts, self.moments_of(self.start()), strict=False))
        return {"w0": to_floats(self.w0), **starts, **self.rule.values(), **self.trained.values()}

    def with_value(self, name: str, value: FloatArray) -> Problem:
        """The same with another value of one of these, and the imprints of that."""
        if name == "w0":
            return replace(self, w0=to_grid(name, value))
        if name in self.rule.starts:
            return replace(self, moments=_moments(self.rule, {name: value}, self.w0.size))
        if name in self.rule.names:
            rule = self.rule.with_value(name, value)
            return replace(self, rule=rule, imprints=self.imprints | rule.fingerprint())
        trained = self.trained.with_value(name, value)
        return replace(self, trained=trained, imprints=self.imprints | trained.imprints)


def prepare(
    model: Any,
    w0: npt.ArrayLike,
    *,
    train: Any,
    optimizer: Optimizer,
    steps: int | None,
    batch_size: int | None,
    seed: int,
    batches: npt.ArrayLike | None,
    l2: npt.ArrayLike,
    v0: npt.ArrayLike | None,
    example_weights: npt.ArrayLike | None,
) -> Problem:
    """Check every argument of a run before anything is computed."""
    data = {
        "train": train, "batch_size": batch_size, "seed": seed, "batches": batches, "l2": l2,
        "example_weights": example_weights,
    }  # fmt: skip
    trained = (
        mlp_objective.prepare(model, **data) if isinstance(model, Architecture) else _python_objective(model, data)
    )
    weights = arguments.parameters("w0", w0, trained.num_params, remedy=_FINITE_START)
    velocity = None if v0 is None else arguments.parameters("v0", v0, trained.num_params, remedy=_FINITE_VELOCITY)
    return assemble(trained, optimizer.rule(trained.bounds), steps, weights, velocity)


_FINITE_START = "Begin with finite weights, such as model.init() makes."
_FINITE_VELOCITY = "Begin with a finite velocity, or leave it out for 0."


def _python_objective(model: Any, data: dict[str, Any]) -> PythonObjective:
    """The objective, if nothing is asked of it that is its own business."""
    trained = PythonObjective(model)
    for name, value in data.items():
        if value is not None and not (name in ("seed", "l2") and np.array_equal(value, 0)):
            raise arguments.fault(
                name, "be left out where the model is a fastrev.Objective, which has its own data",
                f"a {type(value).__name__}", "Its functions are given the step t; let them choose what it sees.",
            )  # fmt: skip
    return trained


def assemble(
    trained: MLPObjective | PythonObjective,
    rule: Rule,
    steps: int | None,
    w0: npt.NDArray[Any],
    v0: npt.NDArray[Any] | None,
) -> Problem:
    """A problem of parts that were checked, if they agree on the number of steps."""
    if steps is None and all(each is None for _, each in trained.axes):
        refuse_ambiguity(rule.shapes, len(trained.group_names))
    count = number_of_steps(steps, [*trained.axes, *rule.axes])
    if v0 is not None and "v0" not in rule.starts:
        raise arguments.fault("v0", "be left out where the optimizer has no velocity", "an array")
    moments = None if v0 is None else _moments(rule, {"v0": v0}, w0.size)
    rule = rule.over(count)
    return Problem(trained, rule, count, to_grid("w0", w0), moments, {**trained.imprints, **rule.fingerprint()})


def _moments(rule: Rule, given: dict[str, npt.NDArray[Any]], size: int) -> Grid:
    """The moments (M, P) to begin with, of which those that are not given are zero."""
    found = np.zeros((len(rule.moments), size), np.int64)
    for name, moment in zip(rule.starts, found, strict=False):
        if name in given:
            moment[:] = to_grid(name, given[name])
    return found
