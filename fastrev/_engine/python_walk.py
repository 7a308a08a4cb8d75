"""The walks through the training of an objective of plain functions: Python over the kernels of single steps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Any

import numpy as np

from fastrev._engine import interruptible
from fastrev._engine import state as states
from fastrev._engine.python_objective import PythonObjective, theta_name
from fastrev._engine.rule import Rule
from fastrev._engine.tail import InMemory, Tail, within_reach
from fastrev._engine.types import AnyArray, FloatArray, Ints
from fastrev._engine.walk import (
    Make,
    Trace,
    Undo,
    gradients_by_the_start,
    in_rows,
    kept_of,
    named,
    nbytes,
)
from fastrev.kernels import outcomes
from fastrev.kernels.structures import State

_CHUNK_STEPS = 64  # at a time; one where a progress bar is shown
_DTYPE = np.dtype(np.float64)  # that gradients are converted to


class PythonWalk:
    """Steps made, and undone again.  The state changes within kernels only, so it is whole whatever a function raises.

    Beside the arithmetic a step of 2,410 parameters costs some 18 us for Python, and for Numba to recognise its
    arguments, both ways together (`python -m bench.choices objective`).

    Of every gradient a checksum is kept, 8 bytes a step, so that one that does not come again is refused before it does
    any harm, and its step is known.
    """

    def __init__(self, trained: PythonObjective, rule: Rule, steps: int, tail: Tail | None = None) -> None:
        self.trained, self.rule, self.steps, self.tail = trained, rule, steps, tail or InMemory()
        self._rule = tuple(rule.tables)
        self._made: Ints = np.zeros(steps, np.int64)
        self._g = np.empty(trained.num_params)
        self._spare = np.empty((1 + rule.shrinks, trained.num_params), np.int64)
        self._scratch = states.new_scratch()

    @property
    def nbytes(self) -> int:
        """Memory of the checksums, a gradient, a position and the scratch."""
        return nbytes(self._made, self._g, self._spare, self._scratch)

    def chunk_steps(self, progress: bool) -> int:
        """How many steps at a time."""
        return 1 if progress else _CHUNK_STEPS

    def compile_make(self, state: State) -> None:
        """Have `make` compiled, by a run of one parameter."""
        interruptible.compile_here("make by hand", self.rule, _DTYPE, lambda: _smallest_run(self.rule))

    def compile_undo(self, state: State) -> None:
        """Have `undo` compiled, by a run of one parameter."""
        interruptible.compile_here("undo by hand", self.rule, _DTYPE, lambda: _undo_all(*_smallest_run(self.rule)))

    def maker(self, begin: int, end: int) -> Make:
        """`make`: what the steps see is chosen by the objective's own functions."""
        return self.make

    def make(self, state: State, stop: int) -> tuple[int, int]:
        """Make steps until `stop` are done.  Returns why it ended and, of a refused step, a parameter."""
        g, rule, plain = self._g, self._rule, tuple(state)
        make_step, w = self.rule.walks.by_hand.make, states.to_floats(state.w)
        for t in range(int(state.cursor[0]), stop):
            self.trained.gradient(w, t, g)
            w = np.empty(g.size)  # to be given away
            reason, parameter = make_step(rule, plain, g, w, self._made, self._scratch)
            if reason == outcomes.TAIL_FULL:
                self.tail.make_room(state)
                reason, parameter = make_step(rule, plain, g, w, self._made, self._scratch)
            if reason != outcomes.FINE:
                return reason, parameter
        return outcomes.FINE, 0

    def undo(self, state: State, stop: int) -> int:
        """Undo steps until `stop` are done.  Returns why it ended."""
        g, rule, plain, kernels = self._g, self._rule, tuple(state), self.rule.walks.by_hand
        reason, w = outcomes.FINE, np.empty(g.size)
        for t in range(int(state.cursor[0]) - 1, stop - 1, -1):
            if not within_reach(self.tail, state):
                return outcomes.TAIL_LOW
            kernels.position_before(rule, plain, self._spare, w, self._scratch)
            self.trained.gradient(w.copy(), t, g)
            reason = kernels.undo(rule, plain, g, self._made[t], self._scratch)
            if reason != outcomes.FINE:
                break
        return reason

    def release(self) -> None:
        """Nothing: the gradients take longer than to make what it works in."""

    def kept(self, done: int) -> dict[str, AnyArray]:
        """The checksums of so many gradients."""
        return {"gradients": self._made[:done]}

    def back(self, w_bar: FloatArray, m_bar: FloatArray, wrt: tuple[str, ...], through: range) -> PythonWalkBack:
        """A walk back that differentiates these steps, the last ones made, and owns the derivatives by the end."""
        return PythonWalkBack(self, w_bar, m_bar, wrt, through)


class PythonWalkBack:
    """Steps undone, and the adjoint pulled back through each of them at once."""

    def __init__(
        self, walk: PythonWalk, w_bar: FloatArray, m_bar: FloatArray, wrt: tuple[str, ...], through: range
    ) -> None:
        self._walk, self._until = walk, through.start
        self._trace = Trace(through, w_bar)
        self._rule = walk.rule.new_adjoint((len(w_bar),))
        self._adjoint = w_bar, m_bar, tuple(self._rule), *self._trace.tables
        one = walk.trained.new_sums(wrt)
        self._thetas = {name: np.zeros((len(w_bar), *each.shape)) for name, each in one.items()}
        self._sums = [{name: each[k, ...] for name, each in self._thetas.items()} for k in range(len(w_bar))]
        self._moments, self._hu = np.empty(m_bar.shape[1:]), np.empty(w_bar.shape)

    @property
    def nbytes(self) -> int:
        """Memory of the adjoint and the record of a step."""
        w, moments, rule, norms, *_ = self._adjoint
        return nbytes(*self._thetas.values(), w, moments, *rule, norms, self._moments, self._hu)

    def chunk_steps(self, progress: bool) -> int:
        """How many steps at a time."""
        return self._walk.chunk_steps(progress)

    def compile(self, state: State) -> None:
        """Have all that it needs compiled, by a run of one parameter."""
        rule = self._walk.rule
        interruptible.compile_here("pull by hand", rule, _DTYPE, lambda: _pull_all(*_smallest_run(rule)))

    def through(self, state: State, take_back: Callable[[Undo], None]) -> None:
        """Have all steps taken back by `take_back`."""
        take_back(lambda stop: self.undo(state, stop))

    def undo(self, state: State, stop: int) -> int:
        """Undo steps until `stop` are done, of which those from `until` on are differentiated."""
        walk, trained, adjoint, hu = self._walk, self._walk.trained, self._adjoint, self._hu
        g, rule, plain, moments = walk._g, walk._rule, tuple(state), self._moments
        kernels = walk.rule.walks.by_hand
        done, until = int(state.cursor[0]), max(stop, self._until)
        w = np.empty(g.size)
        if done > until:
            if not within_reach(walk.tail, state):
                return outcomes.TAIL_LOW
            kernels.position_before(rule, plain, walk._spare, w, walk._scratch)
        for t in range(done - 1, until - 1, -1):
            trained.gradient(w.copy(), t, g)
            u = np.empty(hu.shape)  # to be given away, as w is
            reason: int = kernels.undo_and_pull(rule, plain, w, g, walk._made[t], moments, adjoint, u, walk._scratch)
            if reason != outcomes.FINE:
                return reason
            fine = True
            for each in zip(u, repeat(t), hu, self._sums):
                fine = trained.pull(w.copy(), *each) and fine
            w = np.empty(g.size)
            if not within_reach(walk.tail, state):  # what is popped for the position before the next
                return outcomes.TAIL_LOW
            whole = kernels.pull_moments(rule, plain, moments, g, adjoint, hu, walk._spare, w, walk._scratch)
            if not (whole and fine):
                trained.require_finite(states.to_floats(state.w), t, self._sums[0])
        return walk.undo(state, stop)

    def kept(self) -> dict[str, AnyArray]:
        """The adjoint."""
        w, moments, _, norms, *_ = self._adjoint
        thetas = {theta_name(name): each for name, each in self._thetas.items()}
        return kept_of(w, moments, norms, named(self._rule), thetas)

    def gradients(self) -> dict[str, Any]:
        """The derivatives by the names of the arguments, in their shapes behind an axis of losses."""
        rule, trained = self._walk.rule, self._walk.trained
        return {
            **gradients_by_the_start(*self._adjoint[:2], rule, self._until),
            **rule.gradients(self._rule, (len(self._sums),)),
            **in_rows([trained.gradients(each) for each in self._sums]),
        }

    def norms(self) -> tuple[FloatArray, AnyArray]:
        """Those of the derivatives by the weights, and before which steps; the last is that of the end."""
        return self._trace.read()


class _Still:
    """An objective that does not move."""

    num_params = 1

    def grad(self, w: FloatArray, t: int) -> FloatArray:
        return np.zeros(1)

    def hvp(self, w: FloatArray, u: FloatArray, t: int) -> FloatArray:
        return np.zeros(1)


def _smallest_run(rule: Rule) -> tuple[PythonWalk, State]:
    """A walk of one step and one parameter by such a rule, made: what it calls is compiled by then."""
    trained = PythonObjective(_Still())
    walk = PythonWalk(trained, rule.smallest(np.array([0, 1])), 1)
    moments = np.zeros((len(rule.moments), 1), np.int64)
    state = states.new_state(np.zeros(1, np.int64), moments, shrinks=walk.rule.shrinks)
    walk.make(state, 1)
    return walk, state


def _undo_all(walk: PythonWalk, state: State) -> None:
    walk.undo(state, 0)


def _pull_all(walk: PythonWalk, state: State) -> None:
    walk.back(np.zeros((1, 1)), np.zeros((1, len(walk.rule.moments), 1)), (), range(1)).undo(state, 0)
