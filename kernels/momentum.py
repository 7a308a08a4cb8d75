"""SGD with momentum, reversible (Maclaurin et al. 2015, section 2 and Algorithms 1-3), and its adjoint.

    v <- gamma v - (1 - gamma) g          gamma = n / d, exactly
    w <- w + alpha v                      with the new v

The undo comes in two halves, since the gradient that the velocity needs is taken at the position that the first half
restores; the adjoint comes in the same two, around the Hessian-vector product H u:

    w <- w - alpha v                      dalpha = dw . v,  dv <- dv + alpha dw,  u = (1 - gamma) dv
    v <- (v + (1 - gamma) g) / gamma      dgamma = dv . (v + g),  dw <- dw - H u,  dv <- gamma dv

A step is checked while it is made, not before: all of its arithmetic is modulo 2**64 and so undone by its own undo even
where it left the grid.  A pass over g, v and w to check beforehand costs a tenth of the step on a machine without
AVX-512, a third on one with it (`python -m bench.choices check`).

This room is one of the rules by which a step can be made.  What a rule offers to the walks (training.py, adjoint.py,
by_hand.py) are the seven functions at the top, on a whole step t of a `State` and g (P,) float64 or float32; the
kernels below them work on the parameters of one span, which share alpha and gamma.
"""

from __future__ import annotations

import numpy as np

from . import checksums
from . import information_buffer as buffer
from .fixed_point import GRID, add_grid, grid_to_floats, outside, overflow, to_float, to_grid
from .jit import inlined, kernel
from .outcomes import FINE, NOT_FINITE, OFF_GRID
from .primitives import ZERO, like, wrapping_add, wrapping_sub
from .reductions import dot


@inlined
def step(rule, state, g, t, scratch):
    """Make step t, or refuse it: the state is then as before.  Returns why, and the first parameter at fault.

    The tail has room for a step.
    """
    top = state.cursor[1]
    for span in range(rule.leaders.size):
        top, fine = _step(rule, state, g, t, span, top, scratch)
        if not fine:
            for done in range(span, -1, -1):
                _undo_position(rule, state, t, done)
                top = _undo_velocity(rule, state, g, t, done, top, scratch)
            start, stop, alpha, n, d = _of_span(rule, t, span)
            return _diagnose(state.w, state.v, g, alpha, n, d, start, stop)
    gradients = checksums.append(state.cursor[2], checksums.checksum(g))
    state.cursor[0], state.cursor[1], state.cursor[2] = t + 1, top, gradients
    return FINE, ZERO


@inlined
def undo_position(rule, state, t):
    """The first half of the undo of `step`; `undo_velocity` makes it whole."""
    for span in range(rule.leaders.size - 1, -1, -1):
        _undo_position(rule, state, t, span)


@inlined
def undo_velocity(rule, state, g, t, scratch):
    """The second half, with the gradient at the position before the step.  Returns whether no word was missing."""
    top = state.cursor[1]
    for span in range(rule.leaders.size - 1, -1, -1):
        top = _undo_velocity(rule, state, g, t, span, top, scratch)
        if top < 0:
            return False
    gradients = checksums.remove(state.cursor[2], checksums.checksum(g))
    state.cursor[0], state.cursor[1], state.cursor[2] = t, top, gradients
    return True


@inlined
def record_before(state, v):
    """What the adjoint needs of the state before a step is undone: its velocity."""
    grid_to_floats(state.v, v)


@inlined
def record_after(state, g):
    """And after it: v + g, in place of g."""
    add_grid(g, state.v)


@inlined
def pull_position(rule, v, adjoint, t, u):
    """Pull the adjoint back through w <- w + alpha v; choose u."""
    for group in range(rule.groups.size - 2, -1, -1):
        start, stop = rule.groups[group], rule.groups[group + 1]
        alpha, n, d = _at_step(rule, t, group)
        _add_at(adjoint.rule.lr, t, group, dot(adjoint.w, v, start, stop))
        _pull_position(adjoint.w, alpha, 1.0 - n / d, adjoint.v, u, start, stop)


@inlined
def pull_velocity(rule, v_plus_g, adjoint, t, hu):
    """Pull the adjoint back through v <- gamma v - (1 - gamma) g."""
    for group in range(rule.groups.size - 2, -1, -1):
        start, stop = rule.groups[group], rule.groups[group + 1]
        _, n, d = _at_step(rule, t, group)
        _add_at(adjoint.rule.decay, t, group, dot(adjoint.v, v_plus_g, start, stop))
        _pull_velocity(hu, n / d, adjoint.w, adjoint.v, start, stop)


# ---- one span ------------------------------------------------------------------------------------------------


@inlined
def _step(rule, state, g, t, span, top, scratch):
    start, stop, alpha, n, d = _of_span(rule, t, span)
    return step_span(state.w, state.v, state.heads, state.tail, top, g, alpha, n, d, start, stop, scratch)


@inlined
def _undo_position(rule, state, t, span):
    start, stop, alpha, _, _ = _of_span(rule, t, span)
    undo_position_of_span(state.w, state.v, alpha, start, stop)


@inlined
def _undo_velocity(rule, state, g, t, span, top, scratch):
    start, stop, _, n, d = _of_span(rule, t, span)
    return undo_velocity_of_span(state.v, state.heads, state.tail, top, g, n, d, start, stop, scratch)


@kernel
def step_span(w, v, heads, tail, top, g, alpha, n, d, start, stop, scratch):
    """Returns the new top of the tail, and whether all went well: a step that did not is to be undone."""
    top = buffer.multiply(v, heads, tail, top, n, d, start, stop, scratch)
    flags = _kick(v[start:stop], g[start:stop], 1.0 - n / d)
    flags |= _move(w[start:stop], v[start:stop], alpha)
    return top, flags >= 0


@kernel
def undo_position_of_span(w, v, alpha, start, stop):
    """The first half of the undo of `step_span`."""
    _move_back(w[start:stop], v[start:stop], alpha)


@kernel
def undo_velocity_of_span(v, heads, tail, top, g, n, d, start, stop, scratch):
    """The second half.  Returns the new top of the tail, or -1 if a word was missing."""
    _kick_back(v[start:stop], g[start:stop], 1.0 - n / d)
    return buffer.divide(v, heads, tail, top, n, d, start, stop, scratch)


@inlined
def _kick(v, g, share):
    """v <- v - share g.  Returns flags with the sign bit set if something left the grid."""
    flags = np.int64(0)
    for p in range(v.size):
        change = share * np.float64(g[p])
        a, b = v[p], to_grid(change, GRID)
        total = wrapping_sub(a, b)
        flags |= outside(change, GRID) | overflow(total, b, a)
        v[p] = total
    return flags


@inlined
def _kick_back(v, g, share):
    for p in range(v.size):
        v[p] = wrapping_add(v[p], to_grid(share * np.float64(g[p]), GRID))


@inlined
def _move(w, v, alpha):
    """w <- w + alpha v.  Returns flags with the sign bit set if something left the grid."""
    flags = np.int64(0)
    for p in range(w.size):
        change = alpha * to_float(v[p], GRID)
        a, b = w[p], to_grid(change, GRID)
        total = wrapping_add(a, b)
        flags |= outside(change, GRID) | overflow(a, b, total)
        w[p] = total
    return flags


@inlined
def _move_back(w, v, alpha):
    for p in range(w.size):
        w[p] = wrapping_sub(w[p], to_grid(alpha * to_float(v[p], GRID), GRID))


@kernel
def _pull_position(dw, alpha, share, dv, u, start, stop):
    """dv += alpha dw, and u = (1 - gamma) dv."""
    dw_s, dv_s, u_s = dw[start:stop], dv[start:stop], u[start:stop]
    for p in range(dw_s.size):
        dv_s[p] += alpha * dw_s[p]
        u_s[p] = like(u_s[p], share * dv_s[p])


@kernel
def _pull_velocity(hu, gamma, dw, dv, start, stop):
    """dw -= H u, and dv = gamma dv."""
    hu_s, dw_s, dv_s = hu[start:stop], dw[start:stop], dv[start:stop]
    for p in range(dw_s.size):
        dw_s[p] -= hu_s[p]
        dv_s[p] *= gamma


@kernel
def _diagnose(w, v, g, alpha, n, d, start, stop):
    """Why a step from this state was refused, and the first parameter at fault."""
    for p in range(start, stop):
        if not np.isfinite(g[p]):
            return NOT_FINITE, p
    share = 1.0 - n / d
    for p in range(start, stop):
        velocity = to_float(v[p], GRID) * (n / d) - share * g[p]
        if not max(abs(velocity), abs(alpha * velocity), abs(to_float(w[p], GRID) + alpha * velocity)) < GRID.limit:
            return OFF_GRID, p
    return OFF_GRID, start  # off by less than these floats can tell


@inlined
def _of_span(rule, t, span):
    """Start and end of a span, and alpha, n, d there."""
    alpha, n, d = _at_step(rule, t, rule.leaders[span])
    return rule.spans[span], rule.spans[span + 1], alpha, n, d


@inlined
def _at_step(rule, t, group):
    """alpha, n, d of one step and group."""
    alpha = rule.lr[min(t, rule.lr.shape[0] - 1), min(group, rule.lr.shape[1] - 1)]
    i, j = min(t, rule.n.shape[0] - 1), min(group, rule.n.shape[1] - 1)
    return alpha, rule.n[i, j], rule.d[i, j]


@inlined
def _add_at(sums, t, group, value):
    """Into a table of which an axis of length 1 stands for all steps, or for all groups."""
    sums[min(t, sums.shape[0] - 1), min(group, sums.shape[1] - 1)] += value
