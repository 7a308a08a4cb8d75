"""The two walks through a training: steps made, and steps undone, mirrored line by line."""

from __future__ import annotations

from . import handover, momentum, outcomes
from . import information_buffer as buffer
from .fixed_point import grid_to_floats
from .jit import inlined, kernel
from .mlp_objective import step_gradient
from .primitives import ZERO


@kernel
def make(objective, rule, state, record, work, stop):
    """Make steps until `stop` are done.  Returns why it ended and, of a refused step, the first parameter at fault."""
    w, g = record.steps.w[0], record.steps.g[0]
    while state.cursor[0] < stop:
        t = state.cursor[0]
        if state.tail.size - state.cursor[1] < buffer.WORDS_PER_STEP * state.w.size:
            return outcomes.TAIL_FULL, ZERO
        grid_to_floats(state.w, w)
        step_gradient(objective, record, work, t, ZERO, w, g)
        reason, parameter = momentum.step(rule, state, g, t, work.scratch)
        if reason != outcomes.FINE:
            return reason, parameter
    return outcomes.FINE, ZERO


@kernel
def undo(objective, rule, state, record, work, stop):
    """Undo steps until `stop` are done, each going on record for adjoint.py to read.  Returns why it ended."""
    kept = handover.keep_to_core(record.progress)
    reason = _undo(objective, rule, state, record, work, stop)
    handover.let_go(record.progress, kept)
    return reason


@inlined
def _undo(objective, rule, state, record, work, stop):
    progress = record.progress
    steps, blocks = progress[handover.STEPS_WRITTEN], progress[handover.BLOCKS_WRITTEN]
    while state.cursor[0] > stop:
        t = state.cursor[0] - 1
        slots = record.steps.w.shape[0]
        w, v, g = record.steps.w[steps % slots], record.steps.v[steps % slots], record.steps.g[steps % slots]
        if not handover.wait(progress, handover.STEPS_READ, steps - slots + 1):
            return outcomes.GIVEN_UP
        momentum.record_before(state, v)
        momentum.undo_position(rule, state, t)
        grid_to_floats(state.w, w)
        blocks = step_gradient(objective, record, work, t, blocks, w, g)
        if not momentum.undo_velocity(rule, state, g, t, work.scratch):
            return outcomes.TAIL_EMPTY
        momentum.record_after(state, g)
        steps += 1
        handover.announce(progress, handover.STEPS_WRITTEN, steps)
    return outcomes.FINE
