"""The compiled walks through an MLP's training, there and back, with all that they work in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastrev._engine import interruptible, teams, workspace
from fastrev._engine.companion import Companion, in_company
from fastrev._engine.compiled_adjoint import CompiledAdjoint
from fastrev._engine.compiled_many import CompiledManyBack
from fastrev._engine.lending import give_back, lent
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.rule import Rule
from fastrev._engine.tail import InMemory, Tail, supplied
from fastrev._engine.types import AnyArray, FloatArray
from fastrev._engine.walk import Make, Undo, WalkBack, nbytes
from fastrev.kernels import outcomes, plain
from fastrev.kernels.mlp_gradient import ROWS
from fastrev.kernels.structures import Objective, Record, State, Tangents, Team, Workspace

# Some hundredths of a second between two returns to Python, where Ctrl-C and progress are seen to.  Counted in
# multiply-adds, not in seconds, so that a run makes the same calls every time.
_CHUNK_WORK = 1e9
# Undone and differentiated, a step takes some four times as long as it is made.  With both cores taken by others,
# Ctrl-C was answered after a median of 0.14 s instead of 0.32, at the longest 0.48 s instead of 0.70 (`python -m
# bench.interrupts`).  Alone, W1 makes 17 calls more for it, some 0.4 % of its time.
_CHUNK_WORK_BACK = _CHUNK_WORK / 4
_CHUNK_STEPS = 2048  # bounds the table of row indices of a chunk


class CompiledWalk:
    """Steps made, and undone again with nobody reading along."""

    def __init__(self, trained: MLPObjective, rule: Rule, steps: int, tail: Tail | None = None) -> None:
        self.trained, self.rule, self.steps, self._tail = trained, rule, steps, tail or InMemory()
        model, examples = trained.model, trained.batches.size
        self.cut = teams.cut_of(model)
        self.threads = teams.size_to_share(model, trained.work_per_step, teams.WORTH_A_STEP)
        self._moments, self._examples = len(rule.moments), examples
        shapes = self._moments, min(examples, ROWS), trained.gathered
        self._kind = "walk", model.sizes, model.dtype, *shapes, self.threads
        self._held: tuple[Record, tuple[Workspace, ...]] | None = None
        self._scratch()

    def __getstate__(self) -> dict[str, Any]:
        """Without what it works in: that of two copies may be the same memory, which pickles can leave elsewhere."""
        return {**vars(self), "_held": None}

    def _scratch(self) -> tuple[Record, tuple[Workspace, ...]]:
        """What it works in: a record that nobody reads, and the workspaces of its threads."""
        held = self._held  # another thread may release it, while this one asks what it takes
        if held is None:
            held = self._held = lent(self._kind, self._new_scratch)
        return held

    def _new_scratch(self) -> tuple[Record, tuple[Workspace, ...]]:
        model = self.trained.model
        record = workspace.lone_record(model, self._moments, self._examples)
        return record, workspace.workspaces_for(model, self.threads, self.trained.gathered)

    def release(self) -> None:
        """Give back what it worked in, until it works again."""
        held, self._held = self._held, None
        # not `self.threads`, which is 1 as well where two had workspaces and parted
        if held is not None and len(held[1]) == 1 and workspace.is_small(self.trained.model, self._examples):
            give_back(self._kind, held)

    @property
    def _record(self) -> Record:
        return self._scratch()[0]

    @property
    def _works(self) -> tuple[Workspace, ...]:
        return self._scratch()[1]

    @property
    def nbytes(self) -> int:
        """Memory of the record and the workspace."""
        gathered = self._works[0][:3]  # which all threads have in common
        own = [array for work in self._works for array in work[3:]]
        return nbytes(*self._record.steps, *self._record.passes, self._record.progress, *gathered, *own)

    def chunk_steps(self, progress: bool, work: float = _CHUNK_WORK) -> int:
        """How many steps at a time."""
        return int(min(max(work / self.trained.work_per_step, 1), _CHUNK_STEPS))

    def compile_make(self, state: State) -> None:
        """Have making compiled, by a call for no steps."""

        def call() -> int:
            return self._make(self.trained.chunk(0, 1), state, teams.alone(self.cut), 0)

        interruptible.compile_here("make", self.rule, self.trained.model.dtype, call)

    def compile_undo(self, state: State) -> None:
        """Have `undo` compiled, by a call for no steps."""

        def call() -> int:
            chunk, done = self.trained.chunk(0, 1), int(state.cursor[0])
            return self._undo_with(chunk, state, self._record, teams.alone(self.cut), done)

        interruptible.compile_here("undo", self.rule, self.trained.model.dtype, call)

    def maker(self, begin: int, end: int) -> Make:
        """What makes these steps, until so many are done; returns why it ended and, of a refused step, a parameter.

        It may be called several times: where somebody looks at the run in between, its batches are drawn only once.
        """
        chunk = self.trained.chunk(begin, end)

        def make(state: State, stop: int) -> tuple[int, int]:
            reason = self._together(lambda team: self._make(chunk, state, team, stop))
            return self._take_back(state) if reason == outcomes.REFUSED else (reason, 0)

        return make

    def _make(self, chunk: Objective, state: State, team: Team, stop: int) -> int:
        tables, record, work = tuple(self.rule.tables), plain.of_record(self._record), tuple(self._works[team.me])
        reason: int = self.rule.walks.make(
            plain.of_objective(chunk), tables, tuple(state), record, work, tuple(team), stop
        )
        return reason

    def _take_back(self, state: State) -> tuple[int, int]:
        """Undo the step that was refused.  Returns why it was, and a parameter at fault."""
        team, scratch = teams.alone(self.cut), self._works[0].scratch
        tables, record = tuple(self.rule.tables), plain.of_record(self._record)
        reason, parameter = self.rule.walks.take_back(tables, tuple(state), record, tuple(team), scratch)
        return reason, parameter

    def undo(self, state: State, stop: int) -> int:
        """Undo steps until `stop` are done, or fewer where the cores were found taken.  Returns why it ended."""
        chunk = self.trained.chunk(stop, int(state.cursor[0]))
        return supplied(
            self._tail, state,
            lambda: self._together(lambda team: self._undo_with(chunk, state, self._record, team, stop)),
        )  # fmt: skip

    def _together(self, walk: Callable[[Team], int]) -> int:
        """Have all threads walk; where they found that the cores are not there for two, one goes on from there."""
        reason = teams.together(self.cut, self.threads, walk)
        if reason == outcomes.CROWDED:
            teams.part()
            self.threads, reason = 1, outcomes.FINE
        return reason

    def undo_on_record(self, chunk: Objective, state: State, record: Record, stop: int) -> int:
        """Undo steps until `stop` are done, each going on record, alone.  Returns why it ended."""
        team = Team(0, 1, self.cut, record.progress)
        return supplied(self._tail, state, lambda: self._undo_with(chunk, state, record, team, stop))

    def _undo_with(self, chunk: Objective, state: State, record: Record, team: Team, stop: int) -> int:
        tables, work = tuple(self.rule.tables), tuple(self._works[team.me])
        reason: int = self.rule.walks.undo(
            plain.of_objective(chunk), tables, tuple(state), plain.of_record(record), work, tuple(team), stop
        )
        return reason

    def kept(self, done: int) -> dict[str, AnyArray]:
        """Nothing: the state tells of itself whether it arrived."""
        return {}

    def back(self, w_bar: FloatArray, m_bar: FloatArray, wrt: tuple[str, ...], through: range) -> WalkBack:
        """A walk back that differentiates these steps, the last ones made, and owns the derivatives by the end."""
        threads = teams.size_for(len(w_bar) * len(through) * self.trained.work_per_step)
        if len(w_bar) > 1:
            return CompiledManyBack(self, w_bar, m_bar, wrt, through, threads=threads)
        return CompiledWalkBack(self, w_bar, m_bar, wrt, through, one_thread=threads == 1)


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
        moments, most = len(rule.moments), min(len(through), 256)
        self._kind = "back", model.sizes, model.dtype, moments, examples, trained.gathered, inputs, most
        if one_thread:
            self._lent = lent(self._kind, lambda: self._new_scratch(moments, most, inputs))
            self._tangents, self._work, self._record, self.steps_ahead = self._lent
            self._record.progress.fill(0)
        else:
            self._tangents = workspace.tangents_for(model, examples, inputs)
            self._work = workspace.workspace_for(model, trained.gathered, inputs)
            self._record = workspace.ring(model, moments, examples, whole=rule.walks.direction_takes_gradient)
            self.steps_ahead = 0  # as far as the ring allows
        self._companion: Companion | None = None  # who pulls beside

    def _new_scratch(self, moments: int, most: int, inputs: bool) -> tuple[Tangents, Workspace, Record, int]:
        trained = self._walk.trained
        model, examples = trained.model, trained.batches.size
        tangents = workspace.tangents_for(model, examples, inputs)
        work = workspace.workspace_for(model, trained.gathered, inputs)
        return tangents, work, *workspace.whole_steps(model, moments, examples, most)

    @property
    def nbytes(self) -> int:
        """Memory of the adjoint, the record and the workspace."""
        record = self._record
        parts = (*record.steps, *record.passes, record.progress, *self._work, *self._tangents)
        return self._adjoint.nbytes + nbytes(*parts)

    def chunk_steps(self, progress: bool) -> int:
        """How many steps at a time."""
        return self._walk.chunk_steps(progress, _CHUNK_WORK_BACK)

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
            if workspace.is_small(self._walk.trained.model, self._walk.trained.batches.size):
                give_back(self._kind, self._lent)
        else:
            in_company(lambda companion: self._through_beside(companion, state, take_back))

    def _through_beside(self, companion: Companion, state: State, take_back: Callable[[Undo], None]) -> None:
        companion.engage()
        self._companion = companion
        self._record = self._record._replace(progress=companion.progress)

        def beside(chunk: Objective, state: State, stop: int) -> int:
            done = int(state.cursor[0])
            companion.hand(lambda: self.pull(chunk, done, stop))
            reason = self.undo(chunk, state, stop)
            if reason == outcomes.GIVEN_UP:
                companion.finish()  # raises why
            if reason == outcomes.FINE and stop == self._until:
                companion.release()  # for what undoes the others
            return reason

        take_back(lambda stop: self._and_then_alone(beside, state, stop))
        companion.release()

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

    def undo(self, chunk: Objective, state: State, stop: int) -> int:
        """Undo steps until `stop` are done, each going on record.  Returns why it ended."""
        return self._walk.undo_on_record(chunk, state, self._record, stop)

    def pull(self, chunk: Objective, done: int, stop: int) -> None:
        """Pull the adjoint back through the steps done > t >= stop, which are undone by now or meanwhile."""
        rule, record, adjoint = self._walk.rule, plain.of_record(self._record), plain.of_adjoint(self._adjoint.arrays)
        rule.walks.pull(
            plain.of_objective(chunk), tuple(rule.tables), record, tuple(self._work), tuple(self._tangents), adjoint,
            done, stop,
        )  # fmt: skip

    def kept(self) -> dict[str, AnyArray]:
        """The adjoint, once a second thread has pulled it through all that is undone."""
        if self._companion is not None:
            self._companion.meet()
        return self._adjoint.kept

    def gradients(self) -> dict[str, Any]:
        """The derivatives by the names of the arguments, in their shapes behind an axis of losses."""
        return self._adjoint.gradients()

    def norms(self) -> tuple[FloatArray, AnyArray]:
        """Those of the derivatives by the weights, and before which steps; the last is that of the end."""
        return self._adjoint.norms()
