"""T steps back, differentiating on the way (Maclaurin et al. 2015, Algorithm 2).

With dw, dv the derivatives of the final loss by w_{t+1}, v_{t+1}, for each group:

    dalpha_t = dw . v_{t+1}
    w_t      = w_{t+1} - alpha_t v_{t+1}                     exact undo
    dv       = dv + alpha_t dw
    u        = (1 - gamma_t) dv
    g_t      = dL/dw,  H_t u = R{dL/dw}                      at w_t, on that step's batch
    v_t      = (v_{t+1} + (1 - gamma_t) g_t) / gamma_t       exact undo
    dgamma_t = dv . (v_t + g_t)
    dw       = dw - H_t u
    dtheta   = dtheta - R{dL/dtheta}                         inputs, targets, example weights, l2
    dv       = gamma_t dv

gamma_t is n/d throughout, as in the forward step.  The original code mixes n/d with the float that it stands for, and
its gradients are off by up to a percent for it.
"""

from __future__ import annotations

import numpy as np

from . import losses, momentum
from ._jit import inlined, kernel
from .layers import clear
from .mlp_gradient import ROWS, add_gradient, add_penalty, outputs_offset
from .mlp_hvp import add_hvp
from .primitives import ZERO, like
from .reductions import dot, dot_velocity, dot_velocity_and_gradient
from .training import (
    TAIL_EMPTY,
    at_step,
    batch_size,
    example,
    load_weights,
    restore_position,
    restore_velocity,
    take,
)


@kernel
def retreat(net, data, examples, schedule, state, work, tangents, adjoint, stop):
    """Undo steps until `stop` of them are left, pulling the adjoint back through each.  Returns why it ended."""
    groups = net.bounds.size - 1
    while state.cursor[0] > stop:
        t, top = state.cursor[0] - 1, state.cursor[1]
        for group in range(groups - 1, -1, -1):
            _through_position(net, schedule, state, work, tangents, adjoint, t, group)
        _differentiate(net, data, examples, schedule, state, work, tangents, adjoint, t)
        for group in range(groups - 1, -1, -1):
            top = restore_velocity(net, schedule, state, work, t, group, top)
            if top < 0:
                return TAIL_EMPTY
            _through_velocity(net, schedule, state, work, tangents, adjoint, t, group)
        state.cursor[0], state.cursor[1] = t, top
    return momentum.FINE


@inlined
def _through_position(net, schedule, state, work, tangents, adjoint, t, group):
    """Undo w <- w + alpha v and pull back through it; choose u."""
    start, stop = net.bounds[group], net.bounds[group + 1]
    alpha, n, d = at_step(schedule, t, group)
    add_at(adjoint.lr, t, group, dot_velocity(adjoint.w, state.v, start, stop, work.scratch))
    restore_position(net, schedule, state, t, group)
    _pull_velocity(adjoint.w, alpha, 1.0 - n / d, adjoint.v, tangents.u, start, stop)


@inlined
def _through_velocity(net, schedule, state, work, tangents, adjoint, t, group):
    """Pull back through v <- gamma v - (1 - gamma) g."""
    start, stop = net.bounds[group], net.bounds[group + 1]
    _, n, d = at_step(schedule, t, group)
    change = dot_velocity_and_gradient(adjoint.v, state.v, work.g, start, stop, work.scratch)
    add_at(adjoint.decay, t, group, change)
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


@inlined
def _differentiate(net, data, examples, schedule, state, work, tangents, adjoint, t):
    """g and H u at w_t, and all that depends on R{.} at single examples."""
    load_weights(net, schedule, state, work)
    clear(tangents.hu, ZERO, tangents.hu.size)
    add_penalty(net.bounds, tangents.u, schedule.l2, tangents.hu)
    _through_penalty(net.bounds, work.w, tangents.u, adjoint.l2, work.scratch)
    size = batch_size(schedule, examples)
    for first in range(0, size, ROWS):
        batch = take(net, data, schedule, work, t, first, min(ROWS, size - first))
        add_gradient(net, work.w, batch, 1.0 / size, work, work.g)
        add_hvp(net, work.w, batch, 1.0 / size, work, tangents)
        _through_examples(net, schedule, batch, first, 1.0 / size, work, tangents, adjoint, t)


@kernel
def _through_penalty(bounds, w, u, dl2, scratch):
    """dl2 -= w * u, summed over what shares a coefficient."""
    if dl2.size == w.size:
        for p in range(w.size):
            dl2[p] -= np.float64(w[p]) * np.float64(u[p])
    elif dl2.size:
        for group in range(bounds.size - 1):
            start, stop = bounds[group], bounds[group + 1]
            dl2[min(group, dl2.size - 1)] -= dot(w[start:stop], u[start:stop], scratch)


@inlined
def _through_examples(net, schedule, batch, first, scale, work, tangents, adjoint, t):
    """Scatter R{dL/dx}, R{dL/dy} and R{dL/d weight}: an example drawn twice is added twice."""
    d, k = net.sizes[0], net.sizes[-1]
    z0 = outputs_offset(net.sizes, batch.size)
    for i in range(batch.size):
        row = example(schedule, t, first + i)
        if adjoint.x.size:
            _subtract(tangents.x, i * d, d, adjoint.x, row * d)
        if adjoint.y.size:
            c = scale * (batch.weights[batch.first + i] if batch.weights.size else 1.0)
            losses.subtract_target_tangent(net.loss, work.mean, i, k, c, tangents.act, z0, adjoint.y, row * k)
        if adjoint.weights.size:
            adjoint.weights[row] -= losses.weight_tangent(
                net.loss, work.mean, batch.y, batch.first + i, i, k, scale, tangents.act, z0
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
