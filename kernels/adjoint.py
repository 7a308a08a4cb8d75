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

from . import losses, momentum
from ._jit import inlined, kernel
from .fixed_point import grid_to_floats
from .mlp_gradient import ROWS, add_gradient, outputs_offset
from .mlp_hvp import add_hvp
from .primitives import like
from .reductions import dot, dot_velocity, dot_velocity_and_gradient
from .training import (
    TAIL_EMPTY,
    at_step,
    batch_size,
    example,
    restore_position,
    restore_velocity,
    start_gradient,
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
    dw, dv, u = adjoint.w[start:stop], adjoint.v[start:stop], tangents.u[start:stop]
    add_at(adjoint.lr, t, group, dot_velocity(dw, state.v[start:stop], work.scratch))
    restore_position(net, schedule, state, t, group)
    share = 1.0 - n / d
    for p in range(dw.size):
        dv[p] += alpha * dw[p]
        u[p] = like(u[p], share * dv[p])


@inlined
def _through_velocity(net, schedule, state, work, tangents, adjoint, t, group):
    """Pull back through v <- gamma v - (1 - gamma) g."""
    start, stop = net.bounds[group], net.bounds[group + 1]
    _, n, d = at_step(schedule, t, group)
    dw, dv, hu = adjoint.w[start:stop], adjoint.v[start:stop], tangents.hu[start:stop]
    v, g = state.v[start:stop], work.g[start:stop]
    add_at(adjoint.decay, t, group, dot_velocity_and_gradient(dv, v, g, work.scratch))
    gamma = n / d
    for p in range(dw.size):
        dw[p] -= hu[p]
        dv[p] *= gamma


@inlined
def _differentiate(net, data, examples, schedule, state, work, tangents, adjoint, t):
    """g and H u at w_t, and all that depends on R{.} at single examples."""
    grid_to_floats(state.w, work.w)
    start_gradient(net, work.w, schedule.l2, work.g)
    start_gradient(net, tangents.u, schedule.l2, tangents.hu)
    _through_penalty(net, work.w, tangents.u, adjoint, work.scratch)
    size = batch_size(schedule, examples)
    for first in range(0, size, ROWS):
        batch = take(net, data, schedule, work, t, first, min(ROWS, size - first))
        add_gradient(net, work.w, batch, 1.0 / size, work, work.g)
        add_hvp(net, work.w, batch, 1.0 / size, work, tangents)
        _through_examples(net, schedule, batch, first, 1.0 / size, work, tangents, adjoint, t)


@inlined
def _through_penalty(net, w, u, adjoint, scratch):
    """dl2 -= w * u, summed over what shares a coefficient."""
    if adjoint.l2.size == w.size:
        for p in range(w.size):
            adjoint.l2[p] -= like(adjoint.l2[p], w[p]) * u[p]
    elif adjoint.l2.size:
        for group in range(net.bounds.size - 1):
            start, stop = net.bounds[group], net.bounds[group + 1]
            adjoint.l2[min(group, adjoint.l2.size - 1)] -= dot(w[start:stop], u[start:stop], scratch)


@inlined
def _through_examples(net, schedule, batch, first, scale, work, tangents, adjoint, t):
    """Scatter R{dL/dx}, R{dL/dy} and R{dL/d weight}: an example drawn twice is added twice."""
    d, k = net.sizes[0], net.sizes[-1]
    r_z = tangents.act[outputs_offset(net, batch.size) :]
    for i in range(batch.size):
        row = example(schedule, t, first + i)
        if adjoint.x.size:
            _subtract(adjoint.x[row * d : (row + 1) * d], tangents.x[i * d : (i + 1) * d])
        if adjoint.y.size:
            dy = adjoint.y[row * k : (row + 1) * k]
            losses.subtract_target_tangent(net.loss, work.mean, batch, i, k, scale, r_z, dy)
        if adjoint.weights.size:
            adjoint.weights[row] -= losses.weight_tangent(net.loss, work.mean, batch, i, k, scale, r_z)


@inlined
def add_at(sums, t, group, value):
    """Into a table of which an axis of length 1 stands for all steps, or for all groups."""
    sums[min(t, sums.shape[0] - 1), min(group, sums.shape[1] - 1)] += value


@inlined
def _subtract(a, b):
    for p in range(a.size):
        a[p] -= b[p]
