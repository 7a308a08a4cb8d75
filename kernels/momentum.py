"""SGD with momentum, reversible (Maclaurin et al. 2015, section 2 and Algorithms 1-3), and its adjoint.

    v <- gamma v - (1 - gamma) g          gamma = n / d, exactly
    w <- w + alpha v                      with the new v

The undo comes in two halves, since the gradient that the velocity needs is taken at the position that the first half
restores; the adjoint comes in the same two, around the Hessian-vector product H u:

    w <- w - alpha v                      dalpha = dw . v,  dv <- dv + alpha dw,  u = (1 - gamma) dv
    v <- (v + (1 - gamma) g) / gamma      dgamma = dv . (v + g),  dw <- dw - H u,  dv <- gamma dv

gamma is n/d throughout.  The paper's code mixes n/d with the float that it stands for, and its gradients are off by up
to a percent for it.

A step is checked while it is made, not before: all of its arithmetic is modulo 2**64 and so undone by its own undo even
where it left the grid.  A pass over g, v and w to check beforehand costs a tenth of the step on a machine without
AVX-512, a third on one with it (`python -m bench.choices check`).

This room is one of the rules, and rules.py says what the functions at the top do; the kernels below them work on
the parameters of one span, which share alpha and gamma or have one each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import information_buffer as buffer
from .broadcast import at, entry, part
from .fixed_point import GRID, add_grid, grid_to_floats, outside, overflow, to_float, to_grid
from .jit import inlined, kernel
from .outcomes import FINE, NOT_FINITE, OFF_GRID
from .primitives import ZERO, like, wrapping_add, wrapping_sub
from .reductions import dot
from .structures import Float64s, Int64s

DIRECTION_TAKES_GRADIENT = False


class Tables(NamedTuple):
    """SGD with momentum: what each step is made with.  An axis of length 1 stands for all steps, or for all groups."""

    lr: Float64s  # (T or 1, G or 1)
    n: Int64s  # (T or 1, G or 1): decay = n / d
    d: Int64s  # as n
    groups: Int64s  # (G + 1,): bounds of the parameter groups
    spans: Int64s  # (spans + 1,): neighbouring groups of equal lr, n and d are stepped as one span of parameters
    leaders: Int64s  # (spans,): the first group of each


class Adjoint(NamedTuple):
    """Derivatives by the tables of the tables."""

    lr: Float64s  # as Tables.lr
    decay: Float64s  # as Tables.n


@inlined
def step(tables, state, g, t, scratch):
    top = state.cursor[1]
    for span in range(tables.leaders.size):
        top, fine = _step(tables, state, g, t, span, top, scratch)
        if not fine:
            for done in range(span, -1, -1):
                _undo_position(tables, state, t, done)
                top = _undo_velocity(tables, state, g, t, done, top, scratch)
            start, stop, alpha, n, d = _of_span(tables, t, span)
            reason, parameter = _diagnose(state.w, state.moments[0], g, alpha, n, d, start, stop)
            return top, reason, parameter
    return top, FINE, ZERO


@inlined
def undo_position(tables, state, t, scratch):
    for span in range(tables.leaders.size - 1, -1, -1):
        _undo_position(tables, state, t, span)
    return state.cursor[1]


@inlined
def undo_moments(tables, state, g, t, top, scratch):
    for span in range(tables.leaders.size - 1, -1, -1):
        top = _undo_velocity(tables, state, g, t, span, top, scratch)
        if top < 0:
            return top
    return top


@inlined
def record_before(state, moments):
    grid_to_floats(state.moments[0], moments[0])


@inlined
def record_after(state, g):
    """v + g."""
    add_grid(g, state.moments[0])


@inlined
def pull_position(tables, w, moments, v_plus_g, adjoint, t, u, scratch):
    """Through w <- w + alpha v."""
    _add_products(tables, adjoint.rule.lr, t, adjoint.w, moments[0])
    for span in range(tables.leaders.size):
        start, stop, alpha, n, d = _of_span(tables, t, span)
        _pull_position(adjoint.w, alpha, n, d, adjoint.moments[0], u, start, stop)


@inlined
def pull_moments(tables, moments, v_plus_g, adjoint, t, hu):
    """Through v <- gamma v - (1 - gamma) g."""
    _add_products(tables, adjoint.rule.decay, t, adjoint.moments[0], v_plus_g)
    for span in range(tables.leaders.size):
        start, stop, _, n, d = _of_span(tables, t, span)
        _pull_velocity(hu, n, d, adjoint.w, adjoint.moments[0], start, stop)


@inlined
def _add_products(tables, sums, t, a, b):
    """Into a table's derivatives, group by group."""
    for group in range(tables.groups.size - 1):
        _add_product(sums, t, group, a, b, tables.groups[group], tables.groups[group + 1])


# ---- one span ------------------------------------------------------------------------------------------------


@inlined
def _step(tables, state, g, t, span, top, scratch):
    start, stop, alpha, n, d = _of_span(tables, t, span)
    return step_span(state.w, state.moments[0], state.heads[0], state.tail, top, g, alpha, n, d, start, stop, scratch)


@inlined
def _undo_position(tables, state, t, span):
    start, stop, alpha, _, _ = _of_span(tables, t, span)
    undo_position_of_span(state.w, state.moments[0], alpha, start, stop)


@inlined
def _undo_velocity(tables, state, g, t, span, top, scratch):
    start, stop, _, n, d = _of_span(tables, t, span)
    return undo_velocity_of_span(state.moments[0], state.heads[0], state.tail, top, g, n, d, start, stop, scratch)


@kernel
def step_span(w, v, heads, tail, top, g, alpha, n, d, start, stop, scratch):
    """Returns the new top of the tail, and whether all went well: a step that did not is to be undone."""
    top = buffer.multiply(v, heads, tail, top, n, d, start, stop, scratch)
    flags = _kick(v[start:stop], g[start:stop], part(n, start, stop), part(d, start, stop))
    flags |= _move(w[start:stop], v[start:stop], part(alpha, start, stop))
    return top, flags >= 0


@kernel
def undo_position_of_span(w, v, alpha, start, stop):
    """The first half of the undo of `step_span`."""
    _move_back(w[start:stop], v[start:stop], part(alpha, start, stop))


@kernel
def undo_velocity_of_span(v, heads, tail, top, g, n, d, start, stop, scratch):
    """The second half.  Returns the new top of the tail, or -1 if a word was missing."""
    _kick_back(v[start:stop], g[start:stop], part(n, start, stop), part(d, start, stop))
    return buffer.divide(v, heads, tail, top, n, d, start, stop, scratch)


@inlined
def _kick(v, g, n, d):
    """v <- v - (1 - gamma) g.  Returns flags with the sign bit set if something left the grid."""
    flags = np.int64(0)
    for p in range(v.size):
        change = (1.0 - at(n, p) / at(d, p)) * np.float64(g[p])
        a, b = v[p], to_grid(change, GRID)
        total = wrapping_sub(a, b)
        flags |= outside(change, GRID) | overflow(total, b, a)
        v[p] = total
    return flags


@inlined
def _kick_back(v, g, n, d):
    for p in range(v.size):
        change = (1.0 - at(n, p) / at(d, p)) * np.float64(g[p])
        v[p] = wrapping_add(v[p], to_grid(change, GRID))


@inlined
def _move(w, v, alpha):
    """w <- w + alpha v.  Returns flags with the sign bit set if something left the grid."""
    flags = np.int64(0)
    for p in range(w.size):
        change = at(alpha, p) * to_float(v[p], GRID)
        a, b = w[p], to_grid(change, GRID)
        total = wrapping_add(a, b)
        flags |= outside(change, GRID) | overflow(a, b, total)
        w[p] = total
    return flags


@inlined
def _move_back(w, v, alpha):
    for p in range(w.size):
        w[p] = wrapping_sub(w[p], to_grid(at(alpha, p) * to_float(v[p], GRID), GRID))


@kernel
def _pull_position(dw, alpha, n, d, dv, u, start, stop):
    """dv += alpha dw, and u = (1 - gamma) dv."""
    dw_s, dv_s, u_s = dw[start:stop], dv[start:stop], u[start:stop]
    alpha_s, n_s, d_s = part(alpha, start, stop), part(n, start, stop), part(d, start, stop)
    for p in range(dw_s.size):
        dv_s[p] += at(alpha_s, p) * dw_s[p]
        u_s[p] = like(u_s[p], (1.0 - at(n_s, p) / at(d_s, p)) * dv_s[p])


@kernel
def _pull_velocity(hu, n, d, dw, dv, start, stop):
    """dw -= H u, and dv = gamma dv."""
    hu_s, dw_s, dv_s = hu[start:stop], dw[start:stop], dv[start:stop]
    n_s, d_s = part(n, start, stop), part(d, start, stop)
    for p in range(dw_s.size):
        dw_s[p] -= hu_s[p]
        dv_s[p] *= at(n_s, p) / at(d_s, p)


@kernel
def _diagnose(w, v, g, alpha, n, d, start, stop):
    """Why a step from this state was refused, and the first parameter at fault."""
    for p in range(start, stop):
        if not np.isfinite(g[p]):
            return NOT_FINITE, p
    for p in range(start, stop):
        gamma = at(n, p) / at(d, p)
        velocity = to_float(v[p], GRID) * gamma - (1.0 - gamma) * g[p]
        change = at(alpha, p) * velocity
        if not max(abs(velocity), abs(change), abs(to_float(w[p], GRID) + change)) < GRID.limit:
            return OFF_GRID, p
    return OFF_GRID, start  # off by less than these floats can tell


@inlined
def _of_span(tables, t, span):
    """Start and end of a span, and alpha, n, d there."""
    alpha, n, d = _at_step(tables, t, tables.leaders[span])
    return tables.spans[span], tables.spans[span + 1], alpha, n, d


@inlined
def _at_step(tables, t, group):
    """alpha, n, d of one step and group."""
    return entry(tables.lr, t, group), entry(tables.n, t, group), entry(tables.d, t, group)


@kernel
def _add_product(sums, t, group, a, b, start, stop):
    """Into a table's derivatives, of a loss that depends on an entry x through the sum of x_p a_p b_p."""
    if sums.ndim == 1:
        for p in range(start, stop):
            sums[p] += a[p] * b[p]
    else:
        sums[min(t, sums.shape[0] - 1), min(group, sums.shape[1] - 1)] += dot(a, b, start, stop)
