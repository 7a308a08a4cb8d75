"""Steps of training, made and undone."""

from __future__ import annotations

import numpy as np

from . import checksums, handover, momentum
from . import information_buffer as buffer
from ._jit import inlined, kernel
from .fixed_point import add_grid, grid_to_floats
from .layers import clear
from .mlp_gradient import ROWS, add_gradient, add_penalty, passes_at
from .primitives import ONE, ZERO, copy_elements
from .structures import Batch

# Why `travel` returned, beside momentum.FINE, NOT_FINITE and OFF_GRID
TAIL_FULL = 3  # making: the tail needs room for another step
TAIL_EMPTY = 4  # undoing: a word was missing, so the state is not what was left
ABANDONED = 5  # undoing: nobody reads the record any more


@kernel
def travel(net, data, examples, schedule, state, record, work, stop):
    """Make steps, or undo them, until `stop` are done.

    Returns why it ended and, of a refused step, the first parameter at fault.  Steps undone go on record, for
    adjoint.py to read.
    """
    spans = schedule.leaders.size
    forward = state.cursor[0] < stop
    steps, blocks = ZERO, ZERO
    while state.cursor[0] != stop:
        t, top, gradients = state.cursor
        slot = steps % record.w.shape[0]
        w, g = record.w[slot], record.g[slot]
        if forward:
            if state.tail.size - top < buffer.WORDS_PER_STEP * state.w.size:
                return TAIL_FULL, ZERO
        else:
            t -= 1
            if not handover.wait(record.progress, handover.STEPS_READ, steps - record.w.shape[0] + 1):
                return ABANDONED, ZERO
            grid_to_floats(state.v, record.v[slot])
            for span in range(spans - 1, -1, -1):
                _restore_position(schedule, state, t, span)
        grid_to_floats(state.w, w)
        blocks = _add_step_gradient(net, data, examples, schedule, record, work, t, blocks, w, g)
        if forward:
            for span in range(spans):
                top, fine = _step(schedule, state, g, work, t, span, top)
                if not fine:
                    for done in range(span, -1, -1):
                        _restore_position(schedule, state, t, done)
                        top = _restore_velocity(schedule, state, g, work, t, done, top)
                    return _diagnose(schedule, state, g, t, span)
            gradients = checksums.append(gradients, checksums.checksum(g))
            state.cursor[0], state.cursor[1], state.cursor[2] = t + 1, top, gradients
        else:
            for span in range(spans - 1, -1, -1):
                top = _restore_velocity(schedule, state, g, work, t, span, top)
                if top < 0:
                    return TAIL_EMPTY, ZERO
            gradients = checksums.remove(gradients, checksums.checksum(g))
            add_grid(g, state.v)
            state.cursor[0], state.cursor[1], state.cursor[2] = t, top, gradients
            handover.announce(record.progress, handover.STEPS_WRITTEN, steps + 1)
        steps += 1
    return momentum.FINE, ZERO


@inlined
def _step(schedule, state, g, work, t, span, top):
    start, stop, alpha, n, d = _of_span(schedule, t, span)
    return momentum.step(state.w, state.v, state.heads, state.tail, top, g, alpha, n, d, start, stop, work.scratch)


@inlined
def _restore_position(schedule, state, t, span):
    start, stop, alpha, _, _ = _of_span(schedule, t, span)
    momentum.undo_position(state.w, state.v, alpha, start, stop)


@inlined
def _restore_velocity(schedule, state, g, work, t, span, top):
    start, stop, _, n, d = _of_span(schedule, t, span)
    return momentum.undo_velocity(state.v, state.heads, state.tail, top, g, n, d, start, stop, work.scratch)


@inlined
def _diagnose(schedule, state, g, t, span):
    start, stop, alpha, n, d = _of_span(schedule, t, span)
    return momentum.diagnose(state.w, state.v, g, alpha, n, d, start, stop)


@inlined
def _of_span(schedule, t, span):
    """Start and end of a span, and alpha, n, d there."""
    alpha, n, d = at_step(schedule, t, schedule.leaders[span])
    return schedule.bounds[span], schedule.bounds[span + 1], alpha, n, d


@inlined
def at_step(schedule, t, group):
    """alpha, n, d of one step and group."""
    alpha = schedule.lr[min(t, schedule.lr.shape[0] - 1), min(group, schedule.lr.shape[1] - 1)]
    i, j = min(t, schedule.n.shape[0] - 1), min(group, schedule.n.shape[1] - 1)
    return alpha, schedule.n[i, j], schedule.d[i, j]


@inlined
def _add_step_gradient(net, data, examples, schedule, record, work, t, blocks, w, g):
    """The gradient g of step t at the weights w, block by block on record.  Returns the number of blocks so far."""
    clear(g, ZERO, g.size)
    add_penalty(net.bounds, w, schedule.l2, g)
    size = batch_size(schedule, examples)
    for first in range(0, size, ROWS):
        slot = blocks % record.act.shape[0]
        handover.wait(record.progress, handover.BLOCKS_READ, blocks - record.act.shape[0] + 1)
        rows = min(ROWS, size - first)
        batch = take(net, data, schedule, work, t, first, rows)
        add_gradient(net, w, batch, 1.0 / size, passes_at(record, slot), work, g)
        blocks += 1
        handover.announce(record.progress, handover.BLOCKS_WRITTEN, blocks)
    return blocks


@inlined
def batch_size(schedule, examples):
    return schedule.rows.shape[1] if schedule.rows.size else examples


@inlined
def take(net, data, schedule, work, t, first, size):
    """`size` examples of step t's batch from position `first` on; gathered, unless the batch is all of the data."""
    if not schedule.rows.size:
        return Batch(data.x, data.y, data.weights, data.unit, np.int64(first), size)
    rows = schedule.rows[t - schedule.first, first : first + size]
    _gather(data.x, rows, net.sizes[0], work.x)
    _gather(data.y, rows, net.sizes[-1], work.y)
    if not data.weights.size:
        return Batch(work.x, work.y, data.weights, data.unit, ZERO, size)
    _gather(data.weights, rows, ONE, work.weights)
    return Batch(work.x, work.y, work.weights, data.unit, ZERO, size)


@kernel
def _gather(source, rows, width, out):
    for i in range(rows.size):
        copy_elements(source, rows[i] * width, out, i * width, width)
