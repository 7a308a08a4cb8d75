"""An MLP with its data as something to train: the gradient of one step, and the derivatives of that gradient.

What is trained offers two functions to the walks (training.py, adjoint.py).  Both go through the step's batch in blocks
of `ROWS` examples; what the passes over a block leave goes from one to the other through the ring of the record.
"""

from __future__ import annotations

import numpy as np

from . import handover, losses
from .jit import inlined, kernel
from .mlp_gradient import ROWS, add_gradient, outputs_offset, penalty_gradient
from .mlp_hvp import add_hvp, derive, subtract_input_tangent, turn
from .primitives import ONE, ZERO, copy_elements
from .reductions import dot
from .structures import Batch, Passes
from .team import meet, parameters_of, rows_of


@inlined
def step_gradient(objective, record, work, team, t, blocks, w, g):
    """The gradient g of step t at the weights w, block by block on record.  Returns the number of blocks so far.

    Of a team, each thread has its own parameters' part of g in the end.
    """
    net, size = objective.net, _batch_size(objective)
    low, high = parameters_of(team, g.size)
    penalty_gradient(net.bounds, w, objective.l2, g, low, high)
    for first in range(0, size, ROWS):
        slots = record.passes.act.shape[0]
        handover.wait(record.progress, handover.BLOCKS_READ, blocks - slots + 1)
        if first:
            meet(team)
        batch = _batch_at(objective, work, first, min(ROWS, size - first))
        low, high = rows_of(team, batch.size)
        _gather(objective, work, t, batch, first, low, high)
        add_gradient(net, w, batch, 1.0 / size, _passes_at(record.passes, blocks % slots), work, team, g)
        blocks += 1
        if team.me == 0:
            handover.announce(record.progress, handover.BLOCKS_WRITTEN, blocks)
    return blocks


@inlined
def pull_gradient(objective, record, work, t, blocks, w, tangents, adjoint, again):
    """H u for the gradient of step t, and its derivatives along u by all that it depends on.

    `again` says that the last call was for the same step, with another u: `work` and `tangents` hold then what depends
    on the step only.  Returns the number of blocks so far, or -1 if the other side gave up.
    """
    net, size = objective.net, _batch_size(objective)
    penalty_gradient(net.bounds, tangents.u, objective.l2, tangents.hu, ZERO, w.size)
    _through_penalty(net.bounds, w, tangents.u, adjoint.l2)
    if not again:
        turn(net, w, tangents)
    for first in range(0, size, ROWS):
        if not handover.wait(record.progress, handover.BLOCKS_WRITTEN, blocks + 1):
            return -ONE
        passes = _passes_at(record.passes, blocks % record.passes.act.shape[0])
        batch = _batch_at(objective, work, first, min(ROWS, size - first))
        if not again or size > ROWS:
            _gather(objective, work, t, batch, first, ZERO, batch.size)
            derive(net, batch, passes, tangents)
        add_hvp(net, w, batch, 1.0 / size, passes, work, tangents)
        _through_examples(objective, batch, first, 1.0 / size, passes, tangents, adjoint, t)
        blocks += 1
        handover.announce(record.progress, handover.BLOCKS_READ, blocks)
    return blocks


@kernel
def _through_penalty(bounds, w, u, dl2):
    """dl2 -= w * u, summed over what shares a coefficient."""
    if dl2.size == w.size:
        for p in range(w.size):
            dl2[p] -= np.float64(w[p]) * np.float64(u[p])
    elif dl2.size:
        for group in range(bounds.size - 1):
            dl2[min(group, dl2.size - 1)] -= dot(w, u, bounds[group], bounds[group + 1])


@inlined
def _through_examples(objective, batch, first, scale, passes, tangents, adjoint, t):
    """Scatter R{dL/dx}, R{dL/dy} and R{dL/d weight}: an example drawn twice is added twice."""
    net, rows = objective.net, objective.rows
    k, z0 = net.sizes[-1], outputs_offset(net.sizes, batch.size)
    if adjoint.x.size:
        subtract_input_tangent(net, batch, passes, tangents, rows, t - objective.first, first, adjoint.x)
    if not (adjoint.y.size or adjoint.weights.size):
        return
    for i in range(batch.size):
        example = rows[t - objective.first, first + i] if rows.size else np.int64(first + i)
        if adjoint.y.size:
            c = scale * (batch.weights[batch.first + i] if batch.weights.size else 1.0)
            losses.subtract_target_tangent(net.loss, passes.mean, i, k, c, tangents.act, z0, adjoint.y, example * k)
        if adjoint.weights.size:
            adjoint.weights[example] -= losses.weight_tangent(
                net.loss, passes.mean, batch.y, batch.first + i, i, k, scale, tangents.act, z0
            )


@inlined
def _passes_at(ring, slot):
    return Passes(ring.act[slot], ring.mean[slot], ring.delta[slot])


@inlined
def _batch_size(objective):
    return objective.rows.shape[1] if objective.rows.size else objective.examples


@inlined
def _batch_at(objective, work, first, size):
    """Where `size` examples of a batch from position `first` on lie: in `work`, unless the batch is all of the data."""
    data = objective.data
    if not objective.rows.size:
        return Batch(data.x, data.y, data.weights, data.unit, np.int64(first), size)
    return Batch(work.x, work.y, work.weights if data.weights.size else data.weights, data.unit, ZERO, size)


@inlined
def _gather(objective, work, t, batch, first, low, high):
    """Bring the examples low <= i < high of step t's batch from position `first` on together there, if they are not."""
    net, data = objective.net, objective.data
    if objective.rows.size:
        rows = objective.rows[t - objective.first, first + low : first + high]
        gather(data.x, rows, net.sizes[0], work.x[low * net.sizes[0] :])
        gather(data.y, rows, net.sizes[-1], work.y[low * net.sizes[-1] :])
        if data.weights.size:
            gather(data.weights, rows, ONE, work.weights[low:])


@kernel
def gather(source, rows, width, out):
    """Rows of `width` elements from anywhere in the source."""
    for i in range(rows.size):
        copy_elements(source, rows[i] * width, out, i * width, width)
