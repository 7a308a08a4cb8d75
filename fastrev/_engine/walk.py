"""The compiled walks through an MLP's training, there and back, with all that they work in."""

from __future__ import annotations

import numpy as np

from fastrev._engine import interruptible, workspace
from fastrev._engine.batches import FullBatch
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.problem import Problem
from fastrev._engine.sgd import SGD
from fastrev._engine.types import AnyArray, FloatArray
from fastrev.kernels import adjoint as adjoint_kernels
from fastrev.kernels import training as kernels
from fastrev.kernels.structures import Adjoint, Objective, State

# Some hundredths of a second between two returns to Python, where Ctrl-C and progress are seen to.  Counted in
# multiply-adds, not in seconds, so that a run makes the same calls every time.
_CHUNK_WORK = 1e9
_CHUNK_STEPS = 2048  # bounds the table of row indices of a chunk
_NORMS = 1024  # of the adjoint, at most: 8 KB, whatever the number of steps


class Walk:
    """Steps made, and undone again with nobody reading along."""

    def __init__(self, problem: Problem) -> None:
        self.trained, self.rule, self.steps = problem.trained, problem.rule, problem.steps
        self.chunk_steps = int(np.clip(_CHUNK_WORK / self.trained.work_per_step, 1, _CHUNK_STEPS))
        self._record = workspace.lone_record(self.trained.model, self.trained.batches.size)
        self._work = workspace.workspace_for(self.trained.model, _gathered(self.trained))

    @property
    def nbytes(self) -> int:
        """Memory of the record and the workspace."""
        return nbytes(*self._record.steps, *self._record.passes, self._record.progress, *self._work)

    def compile_make(self, state: State) -> None:
        """Have `make` compiled, by a call for no steps."""
        dtype = self.trained.model.dtype
        interruptible.compile_here("make", dtype, lambda: self.make(self.trained.chunk(0, 1), state, 0))

    def compile_undo(self, state: State) -> None:
        """Have `undo` compiled, by a call for no steps."""
        dtype, done = self.trained.model.dtype, int(state.cursor[0])
        interruptible.compile_here("undo", dtype, lambda: self.undo(self.trained.chunk(0, 1), state, done))

    def make(self, chunk: Objective, state: State, stop: int) -> tuple[int, int]:
        """Make steps until `stop` are done.  Returns why it ended and, of a refused step, a parameter."""
        reason, parameter = kernels.make(chunk, self.rule.tables, state, self._record, self._work, stop)
        return reason, parameter

    def undo(self, chunk: Objective, state: State, stop: int) -> int:
        """Undo steps until `stop` are done.  Returns why it ended."""
        reason: int = kernels.undo(chunk, self.rule.tables, state, self._record, self._work, stop)
        return reason


class WalkBack:
    """Steps undone, each of them on record until the adjoint is pulled back through it."""

    def __init__(
        self, walk: Walk, w_bar: FloatArray, v_bar: FloatArray, wrt: tuple[str, ...], *, one_thread: bool
    ) -> None:
        trained: MLPObjective = walk.trained
        rule: SGD = walk.rule
        model, examples, inputs = trained.model, trained.batches.size, "x" in wrt
        self._walk = walk
        norms, every = new_trace(walk.steps)
        self.adjoint = Adjoint(w_bar, v_bar, rule.new_adjoint(), trained.new_adjoint(wrt), norms, every)
        self._tangents = workspace.tangents_for(model, examples, inputs)
        self._work = workspace.workspace_for(model, _gathered(trained), inputs)
        if one_thread:
            self._record, self.steps_ahead = workspace.whole_steps(model, examples)
        else:
            self._record, self.steps_ahead = workspace.ring(model, examples), 0  # as far as the ring allows

    @property
    def progress(self) -> AnyArray:
        """What the two sides tell each other (`kernels.handover`)."""
        return self._record.progress

    @property
    def nbytes(self) -> int:
        """Memory of the adjoint, the record and the workspace."""
        record, adjoint = self._record, self.adjoint
        parts = (*record.steps, *record.passes, record.progress, *self._work, *self._tangents)
        return nbytes(*parts, adjoint.w, adjoint.v, adjoint.norms, *adjoint.rule, *adjoint.objective)

    def compile_pull(self) -> None:
        """Have `pull` compiled, by a call for no steps, before a second thread calls it and Ctrl-C has to wait."""
        trained = self._walk.trained
        interruptible.compile_here("pull", trained.model.dtype, lambda: self.pull(trained.chunk(0, 1), 0, 0))

    def undo(self, chunk: Objective, state: State, stop: int) -> int:
        """Undo steps until `stop` are done.  Returns why it ended."""
        reason: int = kernels.undo(chunk, self._walk.rule.tables, state, self._record, self._walk._work, stop)
        return reason

    def pull(self, chunk: Objective, done: int, stop: int) -> None:
        """Pull the adjoint back through the steps done > t >= stop, which are undone by now or meanwhile."""
        adjoint_kernels.pull(
            chunk, self._walk.rule.tables, self._record, self._work, self._tangents, self.adjoint, done, stop
        )

    def gradients(self) -> dict[str, FloatArray]:
        """The derivatives by the names of the arguments, in their shapes."""
        own = {"w0": self.adjoint.w, "v0": self.adjoint.v}
        return own | self._walk.rule.gradients(self.adjoint.rule) | self._walk.trained.gradients(self.adjoint.objective)


def new_trace(steps: int) -> tuple[FloatArray, int]:
    """Room for the adjoint's norms before the steps 0, every, 2 every, ..., and `every`: at most some thousand."""
    every = -(-steps // _NORMS)
    return np.full(-(-steps // every), np.nan), every


def nbytes(*arrays: AnyArray | None) -> int:
    """Memory of some arrays together."""
    return sum(array.nbytes for array in arrays if array is not None)


def _gathered(trained: MLPObjective) -> int:
    """How many rows of the data have to be brought together for a batch."""
    return 0 if isinstance(trained.batches, FullBatch) else trained.batches.size
