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
from .reductions import accumulate, begin, fold
from .structures import Float64s, Int64s

DIRECTION_TAKES_GRADIENT = False
FINISHES = False


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
def step(tables, state, g, t, low, high, top, scratch):
    fine = True
    for span in range(tables.leaders.size):
        start, stop, alpha, n, d = _of_span(tables, t, span, low, high)
        if start < stop:
            top, on_grid = step_span(
                state.w, state.moments[0], state.heads[0], state.tail, top, g, alpha, n, d, start, stop, scratch
            )
            fine = fine and on_grid
    return top, fine


@inlined
def finish(tables, state, t, low, high, top):
    """Nothing: the weights push no words."""
    return top, True


@inlined
def undo_position(tables, state, t, low, high, top):
    for span in range(tables.leaders.size - 1, -1, -1):
        start, stop, alpha, _, _ = _of_span(tables, t, span, low, high)
        if start < stop:
            undo_position_of_span(state.w, state.moments[0], alpha, start, stop)
    return top


@inlined
def undo_moments(tables, state, g, t, low, high, top, scratch):
    for span in range(tables.leaders.size - 1, -1, -1):
        start, stop, _, n, d = _of_span(tables, t, span, low, high)
        if start < stop and top >= 0:
            top = undo_velocity_of_span(
                state.moments[0], state.heads[0], state.tail, top, g, n, d, start, stop, scratch
            )
    return top


@inlined
def reason(tables, state, g, t):
    first = ZERO
    for span in range(tables.leaders.size):
        start, stop, alpha, n, d = _of_span(tables, t, span, ZERO, g.size)
        why, first = _diagnose(state.w, state.moments[0], g, alpha, n, d, start, stop)
        if why != FINE:
            return why, first
    return OFF_GRID, first  # off by less than these floats can tell


@inlined
def record_before(state, moments, low, high):
    grid_to_floats(state.moments[0, low:high], moments[0, low:high])


@inlined
def record_after(state, g, low, high):
    """v + g."""
    add_grid(g[low:high], state.moments[0, low:high])


@inlined
def pull_position(tables, w, moments, v_plus_g, adjoint, t, u, scratch):
    """Through w <- w + alpha v."""
    for group in range(tables.groups.size - 1):
        start, stop = tables.groups[group], tables.groups[group + 1]
        alpha, n, d = _at_step(tables, t, group)
        _pull_position(
            adjoint.rule.lr, t, group, adjoint.w, moments[0], alpha, n, d, adjoint.moments[0], u, start, stop, scratch
        )


@inlined
def pull_moments(tables, moments, v_plus_g, adjoint, t, hu, scratch):
    """Through v <- gamma v - (1 - gamma) g."""
    for group in range(tables.groups.size - 1):
        start, stop = tables.groups[group], tables.groups[group + 1]
        _, n, d = _at_step(tables, t, group)
        _pull_velocity(
            adjoint.rule.decay, t, group, hu, v_plus_g, n, d, adjoint.w, adjoint.moments[0], start, stop, scratch
        )


# ---- one span ------------------------------------------------------------------------------------------------


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
def _pull_position(d_alpha, t, group, dw, v, alpha, n, d, dv, u, start, stop, chains):
    """dalpha += dw . v,  dv += alpha dw,  and u = (1 - gamma) dv: in pieces, each of which stays in the L1 cache."""
    begin(chains)
    for low in range(start, stop, buffer.BLOCK):
        high = min(low + buffer.BLOCK, stop)
        _add_product(d_alpha, chains, dw, v, low, high)
        dw_s, dv_s, u_s = dw[low:high], dv[low:high], u[low:high]
        alpha_s, n_s, d_s = part(alpha, low, high), part(n, low, high), part(d, low, high)
        for p in range(dw_s.size):
            dv_s[p] += at(alpha_s, p) * dw_s[p]
            u_s[p] = like(u_s[p], (1.0 - at(n_s, p) / at(d_s, p)) * dv_s[p])
    _add_sum(d_alpha, t, group, chains)


@kernel
def _pull_velocity(d_gamma, t, group, hu, v_plus_g, n, d, dw, dv, start, stop, chains):
    """dgamma += dv . (v + g),  dw -= H u,  and dv = gamma dv: likewise."""
    begin(chains)
    for low in range(start, stop, buffer.BLOCK):
        high = min(low + buffer.BLOCK, stop)
        _add_product(d_gamma, chains, dv, v_plus_g, low, high)
        hu_s, dw_s, dv_s = hu[low:high], dw[low:high], dv[low:high]
        n_s, d_s = part(n, low, high), part(d, low, high)
        for p in range(dw_s.size):
            dw_s[p] -= hu_s[p]
            dv_s[p] *= at(n_s, p) / at(d_s, p)
    _add_sum(d_gamma, t, group, chains)


@kernel
def _add_product(sums, chains, a, b, low, high):
    """a . b of some parameters, to the derivative of each of them, or to what will be that of their group."""
    if sums.ndim == 1:
        for p in range(low, high):
            sums[p] += a[p] * b[p]
    else:
        accumulate(a, b, low, high, chains)


@kernel
def _add_sum(sums, t, group, chains):
    if sums.ndim == 2:
        sums[min(t, sums.shape[0] - 1), min(group, sums.shape[1] - 1)] += fold(chains)


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
    return FINE, start


@inlined
def _of_span(tables, t, span, low, high):
    """Start and end of a span within low <= p < high, and alpha, n, d there."""
    alpha, n, d = _at_step(tables, t, tables.leaders[span])
    return max(tables.spans[span], low), min(tables.spans[span + 1], high), alpha, n, d


@inlined
def _at_step(tables, t, group):
    """alpha, n, d of one step and group."""
    return entry(tables.lr, t, group), entry(tables.n, t, group), entry(tables.d, t, group)
