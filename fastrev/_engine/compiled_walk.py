"""The compiled walks through an MLP's training, there and back, with all that they work in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrev._engine import interruptible, workspace
from fastrev._engine.companion import Companion
from fastrev._engine.compiled_adjoint import CompiledAdjoint
from fastrev._engine.compiled_many import CompiledManyBack
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.rule import Rule
from fastrev._engine.settings import one_thread
from fastrev._engine.types import AnyArray, FloatArray
from fastrev._engine.walk import Make, Undo, WalkBack, nbytes
from fastrev.kernels import outcomes
from fastrev.kernels.structures import Objective, Record, State

# Some hundredths of a second between two returns to Python, where Ctrl-C and progress are seen to.  Counted in
# multiply-adds, not in seconds, so that a run makes the same calls every time.
_CHUNK_WORK = 1e9
_CHUNK_STEPS = 2048  # bounds the table of row indices of a chunk


class CompiledWalk:
    """Steps made, and undone again with nobody reading along."""

    def __init__(self, trained: MLPObjective, rule: Rule, steps: int) -> None:
        self.trained, self.rule, self.steps = trained, rule, steps
        self._record = workspace.lone_record(trained.model, len(rule.moments), trained.batches.size)
        self._work = workspace.workspace_for(trained.model, trained.gathered)

    @property
    def nbytes(self) -> int:
        """Memory of the record and the workspace."""
        return nbytes(*self._record.steps, *self._record.passes, self._record.progress, *self._work)

    def chunk_steps(self, progress: bool) -> int:
        """How many steps at a time."""
        return int(np.clip(_CHUNK_WORK / self.trained.work_per_step, 1, _CHUNK_STEPS))

    def compile_make(self, state: State) -> None:
        """Have making compiled, by a call for no steps."""
        interruptible.compile_here("make", self.rule, self.trained.model.dtype, lambda: self.maker(0, 1)(state, 0))

    def compile_undo(self, state: State) -> None:
        """Have `undo` compiled, by a call for no steps."""
        done = int(state.cursor[0])
        interruptible.compile_here("undo", self.rule, self.trained.model.dtype, lambda: self._undo(0, 1, state, done))

    def maker(self, begin: int, end: int) -> Make:
        """What makes these steps, until so many are done; returns why it ended and, of a refused step, a parameter.

        It may be called several times: where somebody looks at the run in between, its batches are drawn only once.
        """
        chunk = self.trained.chunk(begin, end)

        def make(state: State, stop: int) -> tuple[int, int]:
            reason, parameter = self.rule.walks.make(chunk, self.rule.tables, state, self._record, self._work, stop)
            return reason, parameter

        return make

    def undo(self, state: State, stop: int) -> int:
        """Undo steps until `stop` are done.  Returns why it ended."""
        return self._undo(stop, int(state.cursor[0]), state, stop)

    def _undo(self, begin: int, end: int, state: State, stop: int) -> int:
        return self.undo_on_record(self.trained.chunk(begin, end), state, self._record, stop)

    def undo_on_record(self, chunk: Objective, state: State, record: Record, stop: int) -> int:
        """Undo steps until `stop` are done, each going on record.  Returns why it ended."""
        reason: int = self.rule.walks.undo(chunk, self.rule.tables, state, record, self._work, stop)
        return reason

    def back(self, w_bar: FloatArray, m_bar: FloatArray, wrt: tuple[str, ...], through: range) -> WalkBack:
        """A walk back that differentiates these steps, the last ones made, and owns the derivatives by the end."""
        if len(w_bar) > 1:
            return CompiledManyBack(self, w_bar, m_bar, wrt, through, threads=1 if one_thread() else 2)
        return CompiledWalkBack(self, w_bar, m_bar, wrt, through, one_thread=one_thread())


class CompiledWalkBack:
    """Steps undone, each of them on record until the adjoint is pulled back through it."""

    def __init__(
        self,
        walk: CompiledWalk,
        w_bar: FloatArray,
        m_bar: FloatArray,
        wrt: tuple[str, ...],
        through: range = range(1),
        *,
        one_thread: bool,
    ) -> None:
        trained, rule = walk.trained, walk.rule
        model, examples, inputs = trained.model, trained.batches.size, "x" in wrt
        self._walk, self._until = walk, through.start
        self._adjoint = CompiledAdjoint(trained, rule, w_bar, m_bar, wrt, through)
        self._tangents = workspace.tangents_for(model, examples, inputs)
        self._work = workspace.workspace_for(model, trained.gathered, inputs)
        if one_thread:
            self._record, self.steps_ahead = workspace.whole_steps(model, len(rule.moments), examples)
        else:
            whole = rule.walks.direction_takes_gradient
            self._record = workspace.ring(model, len(rule.moments), examples, whole=whole)
            self.steps_ahead = 0  # as far as the ring allows

    @property
    def nbytes(self) -> int:
        """Memory of the adjoint, the record and the workspace."""
        record = self._record
        parts = (*record.steps, *record.passes, record.progress, *self._work, *self._tangents)
        return self._adjoint.nbytes + nbytes(*parts)

    def chunk_steps(self, progress: bool) -> int:
        """How many steps at a time."""
        return self._walk.chunk_steps(progress)

    def compile(self, state: State) -> None:
        """Have all that it needs compiled."""
        self.compile_pull()
        self._walk.compile_undo(state)

    def compile_pull(self) -> None:
        """Have `pull` compiled, by a call for no steps, before a second thread calls it and Ctrl-C has to wait."""
        trained, rule = self._walk.trained, self._walk.rule
        interruptible.compile_here("pull", rule, trained.model.dtype, lambda: self.pull(trained.chunk(0, 1), 0, 0))

    def through(self, state: State, take_back: Callable[[Undo], None]) -> None:
        """Have all steps taken back by `take_back`, and see a second thread to its end."""
        if self.steps_ahead:
            take_back(lambda stop: self._and_then_alone(self._in_turn, state, stop))
            return
        companion = Companion(self._record.progress)

        def beside(chunk: Objective, state: State, stop: int) -> int:
            return self._side_by_side(companion, chunk, state, stop)

        companion.see_through(lambda: take_back(lambda stop: self._and_then_alone(beside, state, stop)))

    def _and_then_alone(self, differentiate: Callable[[Objective, State, int], int], state: State, stop: int) -> int:
        """Undo some steps, of which those from `until` on are differentiated."""
        done, until = int(state.cursor[0]), max(stop, self._until)
        if done > until:
            reason = differentiate(self._walk.trained.chunk(until, done), state, until)
            if reason != outcomes.FINE or until == stop:
                return reason
        return self._walk.undo(state, stop)

    def _in_turn(self, chunk: Objective, state: State, stop: int) -> int:
        """Undo some steps, pull the adjoint back through them, and so on."""
        reason, done = outcomes.FINE, int(state.cursor[0])
        while reason == outcomes.FINE and done > stop:
            left = max(done - self.steps_ahead, stop)
            reason = self.undo(chunk, state, left)
            if reason == outcomes.FINE:
                self.pull(chunk, done, left)
            done = left
        return reason

    def _side_by_side(self, companion: Companion, chunk: Objective, state: State, stop: int) -> int:
        """Undo steps while a second thread pulls the adjoint back through those just undone."""
        done = int(state.cursor[0])
        companion.hand(lambda: self.pull(chunk, done, stop), last=stop == self._until)
        reason = self.undo(chunk, state, stop)
        if reason == outcomes.GIVEN_UP:
            companion.finish()  # raises why
        return reason

    def undo(self, chunk: Objective, state: State, stop: int) -> int:
        """Undo steps until `stop` are done, each going on record.  Returns why it ended."""
        return self._walk.undo_on_record(chunk, state, self._record, stop)

    def pull(self, chunk: Objective, done: int, stop: int) -> None:
        """Pull the adjoint back through the steps done > t >= stop, which are undone by now or meanwhile."""
        rule = self._walk.rule
        rule.walks.pull(chunk, rule.tables, self._record, self._work, self._tangents, self._adjoint.arrays, done, stop)

    def gradients(self) -> dict[str, Any]:
        """The derivatives by the names of the arguments, in their shapes behind an axis of losses."""
        return self._adjoint.gradients()

    def norms(self) -> tuple[FloatArray, AnyArray]:
        """Those of the derivatives by the weights, and before which steps; the last is that of the end."""
        return self._adjoint.norms()
