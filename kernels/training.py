"""T steps of training forward, and the same steps backward."""

from __future__ import annotations

import numpy as np

from . import information_buffer as buffer
from . import momentum
from ._jit import inlined, kernel
from .fixed_point import grid_to_floats
from .layers import clear
from .mlp_gradient import ROWS, add_gradient, add_penalty
from .primitives import ONE, ZERO, copy_elements
from .structures import Batch

# Why a loop returned, beside momentum.FINE, NOT_FINITE and OFF_GRID
TAIL_FULL = 3  # advance: the tail needs room for another step
TAIL_EMPTY = 4  # undoing: a word was missing, so the state is not what was left


@kernel
def advance(net, data, examples, schedule, state, work, stop):
    """Make steps until `stop`.  Returns why it ended and, of a refused step, the group."""
    groups = net.bounds.size - 1
    while state.cursor[0] < stop:
        t, top = state.cursor
        if state.tail.size - top < buffer.WORDS_PER_STEP * state.w.size:
            return TAIL_FULL, 0
        step_gradient(net, data, examples, schedule, state, work, t)
        for group in range(groups):
            top, fine = _step_group(net, schedule, state, work, t, group, top)
            if not fine:
                for done in range(group, -1, -1):
                    restore_position(net, schedule, state, t, done)
                    top = restore_velocity(net, schedule, state, work, t, done, top)
                return momentum.diagnose(work.g, net.bounds[group], net.bounds[group + 1]), group
        state.cursor[0], state.cursor[1] = t + 1, top
    return momentum.FINE, 0


@kernel
def rewind(net, data, examples, schedule, state, work, stop):
    """Undo steps until `stop` of them are left.  Returns why it ended."""
    groups = net.bounds.size - 1
    while state.cursor[0] > stop:
        t, top = state.cursor[0] - 1, state.cursor[1]
        for group in range(groups - 1, -1, -1):
            restore_position(net, schedule, state, t, group)
        step_gradient(net, data, examples, schedule, state, work, t)
        for group in range(groups - 1, -1, -1):
            top = restore_velocity(net, schedule, state, work, t, group, top)
            if top < 0:
                return TAIL_EMPTY
        state.cursor[0], state.cursor[1] = t, top
    return momentum.FINE


@inlined
def _step_group(net, schedule, state, work, t, group, top):
    start, stop = net.bounds[group], net.bounds[group + 1]
    alpha, n, d = at_step(schedule, t, group)
    return momentum.step(state.w, state.v, state.heads, state.tail, top, work.g, alpha, n, d, start, stop, work.scratch)


@inlined
def restore_position(net, schedule, state, t, group):
    start, stop = net.bounds[group], net.bounds[group + 1]
    alpha, _, _ = at_step(schedule, t, group)
    momentum.undo_position(state.w, state.v, alpha, start, stop)


@inlined
def restore_velocity(net, schedule, state, work, t, group, top):
    start, stop = net.bounds[group], net.bounds[group + 1]
    _, n, d = at_step(schedule, t, group)
    return momentum.undo_velocity(state.v, state.heads, state.tail, top, work.g, n, d, start, stop, work.scratch)


@inlined
def at_step(schedule, t, group):
    """alpha, n, d of one step and group."""
    alpha = schedule.lr[min(t, schedule.lr.shape[0] - 1), min(group, schedule.lr.shape[1] - 1)]
    i, j = min(t, schedule.n.shape[0] - 1), min(group, schedule.n.shape[1] - 1)
    return alpha, schedule.n[i, j], schedule.d[i, j]


@inlined
def step_gradient(net, data, examples, schedule, state, work, t):
    """``work.w`` = the weights of step t, ``work.g`` = the gradient there."""
    load_weights(net, schedule, state, work)
    size = batch_size(schedule, examples)
    for first in range(0, size, ROWS):
        batch = take(net, data, schedule, work, t, first, min(ROWS, size - first))
        add_gradient(net, work.w, batch, 1.0 / size, work, work.g)


@inlined
def load_weights(net, schedule, state, work):
    """The weights to floats, and the gradient of their penalty."""
    grid_to_floats(state.w, work.w)
    clear(work.g, ZERO, work.g.size)
    add_penalty(net.bounds, work.w, schedule.l2, work.g)


@inlined
def batch_size(schedule, examples):
    return schedule.rows.shape[1] if schedule.rows.size else examples


@inlined
def take(net, data, schedule, work, t, first, size):
    """`size` examples of step t's batch from position `first` on; gathered, unless the batch is all of the data."""
    x, y, weights, start = data.x, data.y, data.weights, first
    if schedule.rows.size:
        step = t - schedule.first
        _gather(data.x, schedule.rows, step, first, size, net.sizes[0], work.x)
        _gather(data.y, schedule.rows, step, first, size, net.sizes[-1], work.y)
        if data.weights.size:
            _gather(data.weights, schedule.rows, step, first, size, ONE, work.weights)
            weights = work.weights
        x, y, start = work.x, work.y, ZERO
    return Batch(x, y, weights, start, size)


@kernel
def _gather(source, rows, step, first, size, width, out):
    for i in range(size):
        copy_elements(source, rows[step, first + i] * width, out, i * width, width)


@inlined
def example(schedule, t, position):
    """Which example of the data stands at a position of step t's batch."""
    return schedule.rows[t - schedule.first, position] if schedule.rows.size else np.int64(position)
