"""The two walks through a training: steps made, and steps undone, mirrored line by line."""

from __future__ import annotations

from types import ModuleType

from . import checksums, handover, outcomes
from . import information_buffer as buffer
from .fixed_point import grid_to_floats
from .jit import Function, inlined, kernel_by
from .mlp_objective import step_gradient
from .primitives import ZERO


def walks_by(rule: ModuleType) -> tuple[Function, Function]:
    """`make` and `undo` for one of the rules."""

    @kernel_by(rule)
    def make(objective, tables, state, record, work, stop):
        """Make steps until `stop` are done.  Returns why it ended and, of a refused step, a parameter at fault."""
        w, g = record.steps.w[0], record.steps.g[0]
        while state.cursor[0] < stop:
            t = state.cursor[0]
            if state.tail.size - state.cursor[1] < words_per_step(state):
                return outcomes.TAIL_FULL, ZERO
            grid_to_floats(state.w, w)
            step_gradient(objective, record, work, t, ZERO, w, g)
            top, reason, parameter = rule.step(tables, state, g, t, work.scratch)
            if reason != outcomes.FINE:
                return reason, parameter
            commit(state, t + 1, top, g)
        return outcomes.FINE, ZERO

    @kernel_by(rule)
    def undo(objective, tables, state, record, work, stop):
        """Undo steps until `stop` are done, each going on record for adjoint.py to read.  Returns why it ended."""
        kept = handover.keep_to_core(record.progress)
        reason = _undo(objective, tables, state, record, work, stop)
        handover.let_go(record.progress, kept)
        return reason

    @inlined
    def _undo(objective, tables, state, record, work, stop):
        progress = record.progress
        steps, blocks = progress[handover.STEPS_WRITTEN], progress[handover.BLOCKS_WRITTEN]
        while state.cursor[0] > stop:
            t = state.cursor[0] - 1
            slots = record.steps.w.shape[0]
            slot = steps % slots
            w, moments, g = record.steps.w[slot], record.steps.moments[slot], record.steps.g[slot]
            if not handover.wait(progress, handover.STEPS_READ, steps - slots + 1):
                return outcomes.GIVEN_UP
            rule.record_before(state, moments)
            top = rule.undo_position(tables, state, t, work.scratch)
            if top < 0:
                return outcomes.TAIL_EMPTY
            grid_to_floats(state.w, w)
            blocks = step_gradient(objective, record, work, t, blocks, w, g)
            top = rule.undo_moments(tables, state, g, t, top, work.scratch)
            if top < 0:
                return outcomes.TAIL_EMPTY
            retract(state, t, top, g)
            rule.record_after(state, g)
            steps += 1
            handover.announce(progress, handover.STEPS_WRITTEN, steps)
        return outcomes.FINE

    return make, undo


@inlined
def words_per_step(state):
    """Words that a step can push: those of its multiplications, and one of each carry (shrinking.py)."""
    return buffer.WORDS_PER_STEP * state.heads.size + state.carry.size


@inlined
def commit(state, done, top, g):
    """A step with the gradient g was made: now so many are done.  It is the last that a step writes to a state."""
    gradients = checksums.append(state.cursor[2], checksums.checksum(g))
    state.cursor[0], state.cursor[1], state.cursor[2] = done, top, gradients


@inlined
def retract(state, done, top, g):
    """Undo `commit`: so many are left."""
    gradients = checksums.remove(state.cursor[2], checksums.checksum(g))
    state.cursor[0], state.cursor[1], state.cursor[2] = done, top, gradients
