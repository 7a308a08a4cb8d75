"""The walk back through an MLP's training for many losses at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastrev._engine import interruptible, workspace
from fastrev._engine.companion import Companion, in_company
from fastrev._engine.compiled_adjoint import CompiledAdjoint
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.rule import Rule
from fastrev._engine.types import AnyArray, FloatArray, Ints
from fastrev._engine.walk import Undo, nbytes
from fastrev.kernels import handover, outcomes, plain
from fastrev.kernels.structures import Objective, Record, State, Tangents, Workspace


class Undoing(Protocol):
    """The walk that undoes the steps."""

    trained: MLPObjective
    rule: Rule

    def chunk_steps(self, progress: bool) -> int: ...

    def compile_undo(self, state: State) -> None: ...

    def undo(self, state: State, stop: int) -> int: ...

    def undo_on_record(self, chunk: Objective, state: State, record: Record, stop: int) -> int: ...


class Hand(NamedTuple):
    """What a thread pulls adjoints with."""

    work: Workspace
    tangents: Tangents
    progress: Ints  # of a reader for whom all is there

    @property
    def nbytes(self) -> int:
        """Memory of what is its own."""
        return nbytes(*self.work, *self.tangents, self.progress)


class CompiledManyBack:
    """Some steps undone on record, and the adjoints of all losses pulled back through them, block by block.

    A block of losses goes through all steps on record before the next begins, so that its adjoints stay in the cache
    meanwhile.  Both threads take blocks from one queue; the one that called undoes the next steps first.  No loss's
    adjoint meets another's, so the bits depend neither on the blocks nor on who takes them.
    """

    def __init__(
        self,
        walk: Undoing,
        w_bar: FloatArray,
        m_bar: FloatArray,
        wrt: tuple[str, ...],
        through: range,
        *,
        threads: int,
    ) -> None:
        trained = walk.trained
        model, examples, inputs = trained.model, trained.batches.size, "x" in wrt
        self._walk, self._until = walk, through.start
        self._adjoint = CompiledAdjoint(trained, walk.rule, w_bar, m_bar, wrt, through)
        self._blocks = workspace.blocks(model, len(walk.rule.moments), len(w_bar), threads)
        self._records, self.steps_ahead = workspace.two_of_whole_steps(model, len(walk.rule.moments), examples)
        self._hands = tuple(
            Hand(
                workspace.workspace_for(model, trained.gathered, inputs),
                workspace.tangents_for(model, examples, inputs),
                workspace.all_is_there(),
            )
            for _ in range(threads)
        )

    @property
    def nbytes(self) -> int:
        """Memory of the adjoints, the records and the workspaces."""
        records = sum(nbytes(*each.steps, *each.passes) for each in self._records)
        shared = self._adjoint.nbytes + nbytes(self._records[0].progress)
        return shared + records + sum(hand.nbytes for hand in self._hands)

    def chunk_steps(self, progress: bool) -> int:
        """How many steps at a time: fewer than for one loss, and enough that both threads are busy most of the time."""
        one, count = self._walk.chunk_steps(progress), len(self._adjoint.arrays.w)
        return min(one, max(one // count, 8 * self.steps_ahead))

    def compile(self, state: State) -> None:
        """Have all that it needs compiled."""
        trained, rule, hand, block = self._walk.trained, self._walk.rule, self._hands[0], self._blocks[0]
        chunk, (record, _) = trained.chunk(0, 1), self._records
        interruptible.compile_here(
            "pull", rule, trained.model.dtype, lambda: self._pull(hand, chunk, record, block, 0, 0)
        )
        self._walk.compile_undo(state)

    def through(self, state: State, take_back: Callable[[Undo], None]) -> None:
        """Have all steps taken back by `take_back`, and see a second thread to its end."""

        def go(companion: Companion | None) -> None:
            take_back(lambda stop: self._and_then_alone(companion, state, stop))

        if len(self._hands) == 1:
            go(None)
            return

        def in_two(companion: Companion) -> None:
            companion.engage(read=np.iinfo(np.int64).max)
            one, other = (each._replace(progress=companion.progress) for each in self._records)
            self._records = one, other
            go(companion)
            companion.release()

        in_company(in_two)

    def _and_then_alone(self, companion: Companion | None, state: State, stop: int) -> int:
        """Undo some steps, of which those from `until` on are differentiated."""
        done, until = int(state.cursor[0]), max(stop, self._until)
        if done > until:
            reason = self._differentiate(companion, self._walk.trained.chunk(until, done), state, until)
            if reason != outcomes.FINE or until == stop:
                return reason
        if companion is not None:
            companion.release()
        return self._walk.undo(state, stop)

    def _differentiate(self, companion: Companion | None, chunk: Objective, state: State, stop: int) -> int:
        """Undo steps until `stop` are done, and pull all adjoints back through them."""
        done = int(state.cursor[0])
        parts = list(pairwise([*range(done, stop, -self.steps_ahead), stop]))
        reason, (record, other) = self._undo(chunk, state, self._records[0], parts[0][1]), self._records
        for (done, left), following in zip(parts, [*parts[1:], None], strict=True):
            if reason != outcomes.FINE:
                break
            blocks = deque(self._blocks)
            own, *others = (partial(self._pull_blocks, hand, blocks, chunk, record, done, left) for hand in self._hands)
            if companion is not None:
                companion.hand(others[0])
            if following is not None:
                reason = self._undo(chunk, state, other, following[1])
            own()
            if companion is not None:
                companion.meet()
            record, other = other, record
        return reason

    def _undo(self, chunk: Objective, state: State, record: Record, stop: int) -> int:
        record.progress[[handover.BLOCKS_WRITTEN, handover.STEPS_WRITTEN]] = 0  # from the first slot on
        return self._walk.undo_on_record(chunk, state, record, stop)

    def _pull_blocks(
        self, hand: Hand, blocks: deque[range], chunk: Objective, record: Record, done: int, left: int
    ) -> None:
        """Pull back the adjoints of all blocks that are left, one after the other, through the steps on record."""
        while blocks and not record.progress[handover.ABANDONED]:
            try:
                block = blocks.popleft()
            except IndexError:  # taken by the other thread just now
                return
            self._pull(hand, chunk, record, block, done, left)

    def _pull(self, hand: Hand, chunk: Objective, record: Record, block: range, done: int, left: int) -> None:
        work, tangents, progress = hand
        progress[[handover.BLOCKS_READ, handover.STEPS_READ]] = 0
        read = plain.of_record(Record(record.steps, record.passes, progress))
        rule, adjoint = self._walk.rule, plain.of_adjoint(self._adjoint.of(block))
        rule.walks.pull(
            plain.of_objective(chunk), tuple(rule.tables), read, tuple(work), tuple(tangents), adjoint, done, left
        )

    def kept(self) -> dict[str, AnyArray]:
        """The adjoints, which no thread is at work on between two calls."""
        return self._adjoint.kept

    def gradients(self) -> dict[str, Any]:
        """The derivatives by the names of the arguments, in their shapes behind an axis of losses."""
        return self._adjoint.gradients()

    def norms(self) -> tuple[FloatArray, AnyArray]:
        """Those of the derivatives by the weights, and before which steps; the last is that of the end."""
        return self._adjoint.norms()
