"""T steps back, differentiating on the way (Maclaurin et al. 2015, Algorithm 2).

With dw, dv the derivatives of the final loss by w_{t+1}, v_{t+1}, for each group:

    dalpha_t = dw . v_{t+1}
    dv       = dv + alpha_t dw
    u        = (1 - gamma_t) dv
    H_t u    = R{dL/dw}                                      at w_t, on that step's batch
    dgamma_t = dv . (v_t + g_t)
    dw       = dw - H_t u
    dtheta   = dtheta - R{dL/dtheta}                         inputs, targets, example weights, l2
    dv       = gamma_t dv

w_t, v_{t+1}, v_t + g_t and the gradient's passes over the batch are read from the record that the undo writes
(training.py).

gamma_t is n/d throughout, as in the forward step.  The original code mixes n/d with the float that it stands for, and
its gradients are off by up to a percent for it.
"""

from __future__ import annotations

import numpy as np

from . import handover, losses, momentum
from ._jit import inlined, kernel
from .layers import clear
from .mlp_gradient import ROWS, add_penalty, outputs_offset, passes_at
from .mlp_hvp import add_hvp
from .primitives import ZERO, like
from .reductions import dot
from .training import ABANDONED, at_step, batch_size, take


@kernel
def pull(net, data, examples, schedule, record, work, tangents, adjoint, done, stop):
    """Pull the adjoint back through the steps done > t >= stop, while `training.travel` undoes them.

    Returns why it ended.
    """
    groups, size = net.bounds.size - 1, batch_size(schedule, examples)
    steps, blocks = ZERO, ZERO
    for t in range(done - 1, stop - 1, -1):
        slot = steps % record.w.shape[0]
        w, v, v_plus_g = record.w[slot], record.v[slot], record.g[slot]
        if not handover.wait(record.progress, handover.BLOCKS_WRITTEN, blocks + 1):
            return ABANDONED
        for group in range(groups - 1, -1, -1):
            _through_position(net, schedule, v, tangents, adjoint, t, group)
        clear(tangents.hu, ZERO, tangents.hu.size)
        add_penalty(net.bounds, tangents.u, schedule.l2, tangents.hu)
        _through_penalty(net.bounds, w, tangents.u, adjoint.l2)
        for first in range(0, size, ROWS):
            if not handover.wait(record.progress, handover.BLOCKS_WRITTEN, blocks + 1):
                return ABANDONED
            slot = blocks % record.act.shape[0]
            batch = take(net, data, schedule, work, t, first, min(ROWS, size - first))
            passes = passes_at(record, slot)
            add_hvp(net, w, batch, 1.0 / size, passes, work, tangents)
            _through_examples(net, schedule, batch, first, 1.0 / size, passes, tangents, adjoint, t)
            blocks += 1
            handover.announce(record.progress, handover.BLOCKS_READ, blocks)
        if not handover.wait(record.progress, handover.STEPS_WRITTEN, steps + 1):
            return ABANDONED
        for group in range(groups - 1, -1, -1):
            _through_velocity(net, schedule, v_plus_g, tangents, adjoint, t, group)
        steps += 1
        handover.announce(record.progress, handover.STEPS_READ, steps)
    return momentum.FINE


@inlined
def _through_position(net, schedule, v, tangents, adjoint, t, group):
    """Pull back through w <- w + alpha v; choose u."""
    start, stop = net.bounds[group], net.bounds[group + 1]
    alpha, n, d = at_step(schedule, t, group)
    add_at(adjoint.lr, t, group, dot(adjoint.w, v, start, stop))
    _pull_velocity(adjoint.w, alpha, 1.0 - n / d, adjoint.v, tangents.u, start, stop)


@inlined
def _through_velocity(net, schedule, v_plus_g, tangents, adjoint, t, group):
    """Pull back through v <- gamma v - (1 - gamma) g."""
    start, stop = net.bounds[group], net.bounds[group + 1]
    _, n, d = at_step(schedule, t, group)
    add_at(adjoint.decay, t, group, dot(adjoint.v, v_plus_g, start, stop))
    _pull_weights(tangents.hu, n / d, adjoint.w, adjoint.v, start, stop)


@kernel
def _pull_velocity(dw, alpha, share, dv, u, start, stop):
    """dv += alpha dw, and u = (1 - gamma) dv."""
    dw_s, dv_s, u_s = dw[start:stop], dv[start:stop], u[start:stop]
    for p in range(dw_s.size):
        dv_s[p] += alpha * dw_s[p]
        u_s[p] = like(u_s[p], share * dv_s[p])


@kernel
def _pull_weights(hu, gamma, dw, dv, start, stop):
    """dw -= H u, and dv = gamma dv."""
    hu_s, dw_s, dv_s = hu[start:stop], dw[start:stop], dv[start:stop]
    for p in range(dw_s.size):
        dw_s[p] -= hu_s[p]
        dv_s[p] *= gamma


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
def _through_examples(net, schedule, batch, first, scale, passes, tangents, adjoint, t):
    """Scatter R{dL/dx}, R{dL/dy} and R{dL/d weight}: an example drawn twice is added twice."""
    d, k = net.sizes[0], net.sizes[-1]
    z0 = outputs_offset(net.sizes, batch.size)
    for i in range(batch.size):
        row = schedule.rows[t - schedule.first, first + i] if schedule.rows.size else np.int64(first + i)
        if adjoint.x.size:
            _subtract(tangents.x, i * d, d, adjoint.x, row * d)
        if adjoint.y.size:
            c = scale * (batch.weights[batch.first + i] if batch.weights.size else 1.0)
            losses.subtract_target_tangent(net.loss, passes.mean, i, k, c, tangents.act, z0, adjoint.y, row * k)
        if adjoint.weights.size:
            adjoint.weights[row] -= losses.weight_tangent(
                net.loss, passes.mean, batch.y, batch.first + i, i, k, scale, tangents.act, z0
            )


@inlined
def add_at(sums, t, group, value):
    """Into a table of which an axis of length 1 stands for all steps, or for all groups."""
    sums[min(t, sums.shape[0] - 1), min(group, sums.shape[1] - 1)] += value


@kernel
def _subtract(b, b0, size, a, a0):
    """a[a0:] -= b[b0:], `size` elements."""
    a_s, b_s = a[a0 : a0 + size], b[b0 : b0 + size]
    for p in range(size):
        a_s[p] -= b_s[p]
