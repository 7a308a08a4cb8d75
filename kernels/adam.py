"""Adam and AdamW, reversible, and their adjoint (Kingma and Ba 2015; Loshchilov and Hutter 2019).

    m <- beta1 m + (1 - beta1) g          beta1 = n1 / d1, exactly
    s <- beta2 s + (1 - beta2) g**2       beta2 = n2 / d2
    w <- (1 - alpha lambda) w             lambda: weight decay (shrinking.py)
    w <- w - alpha (m / c1) / (r + eps)   r = sqrt(s / c2 + eps_root), with the new m and s

    c1 = 1 - beta1**(t + 1), c2 = 1 - beta2**(t + 1), by products where the betas change with t

The undo begins with the last line, as m and s are still the new ones; g is taken at the weights that are found.  The
adjoint is in adam_adjoint.py.

The second moment has a grid of its own, of 62 fraction bits: its small values decide how far a weight moves
(`python -m bench.choices squares`).
"""

from __future__ import annotations

import math

import numpy as np

from . import information_buffer as buffer
from .adam_adjoint import pull_moments, pull_position
from .adam_numbers import Adjoint, Tables, factor, rates_of, ratios_of
from .broadcast import entry
from .fixed_point import GRID, grid_to_floats, outside, overflow, spacing_of, to_float, to_grid
from .jit import inlined, kernel
from .outcomes import FINE, NOT_FINITE, OFF_GRID, SQUARES_OFF_GRID
from .primitives import ZERO, wrapping_add, wrapping_sub
from .shrinking import grow, refill, shrink, spill

__all__ = ["Adjoint", "Tables", "pull_moments", "pull_position"]

DIRECTION_TAKES_GRADIENT = True
FINISHES = True
SQUARES = spacing_of(fraction_bits=62)  # of the second moment, below 2


@inlined
def step(tables, state, g, t, low, high, top, scratch):
    """m and s."""
    fine = True
    for span in range(tables.leaders.size):
        group, start, stop = _of_span(tables, span, low, high)
        if start < stop:
            n1, d1, n2, d2 = ratios_of(tables, t, group)
            top, on_grid = make_moments_of_span(
                state.moments, state.heads, state.tail, top, g, n1, d1, n2, d2, start, stop, scratch
            )
            fine = fine and on_grid
    return top, fine


@inlined
def finish(tables, state, t, low, high, top):
    """w, whose words are to be popped before the gradient is known."""
    fine = True
    for span in range(tables.leaders.size):
        group, start, stop = _of_span(tables, span, low, high)
        if start < stop:
            rates, spills = rates_of(tables, t, group), entry(tables.spills, t, group)
            top, on_grid = make_position_of_span(
                state.w, state.carry, state.moments, state.tail, top, rates, spills, start, stop
            )
            fine = fine and on_grid
    return top, fine


@inlined
def undo_position(tables, state, t, low, high, top):
    for span in range(tables.leaders.size - 1, -1, -1):
        group, start, stop = _of_span(tables, span, low, high)
        if start < stop and top >= 0:
            rates, spills = rates_of(tables, t, group), entry(tables.spills, t, group)
            top = undo_position_of_span(
                state.w, state.carry, state.moments, state.tail, top, rates, spills, start, stop
            )
    return top


@inlined
def undo_moments(tables, state, g, t, low, high, top, scratch):
    for span in range(tables.leaders.size - 1, -1, -1):
        group, start, stop = _of_span(tables, span, low, high)
        if start < stop and top >= 0:
            n1, d1, n2, d2 = ratios_of(tables, t, group)
            top = undo_moments_of_span(
                state.moments, state.heads, state.tail, top, g, n1, d1, n2, d2, start, stop, scratch
            )
    return top


@inlined
def record_before(state, moments, low, high):
    """m and s."""
    grid_to_floats(state.moments[0, low:high], moments[0, low:high])
    _squares_to_floats(state.moments[1, low:high], moments[1, low:high])


@inlined
def record_after(state, g, low, high):
    """g as it is."""


@inlined
def _of_span(tables, span, low, high):
    """The first group of a span, and its start and end within low <= p < high."""
    return tables.leaders[span], max(tables.spans[span], low), min(tables.spans[span + 1], high)


# ---- one span ------------------------------------------------------------------------------------------------


@kernel
def make_moments_of_span(moments, heads, tail, top, g, n1, d1, n2, d2, start, stop, scratch):
    """Returns the new top of the tail, and whether all went well: what did not is to be undone."""
    m, s = moments[0], moments[1]
    top = buffer.multiply(m, heads[0], tail, top, n1, d1, start, stop, scratch)
    top = buffer.multiply(s, heads[1], tail, top, n2, d2, start, stop, scratch)
    return top, _kick(m[start:stop], s[start:stop], g[start:stop], n1 / d1, n2 / d2) >= 0


@kernel
def undo_moments_of_span(moments, heads, tail, top, g, n1, d1, n2, d2, start, stop, scratch):
    """Undo `make_moments_of_span`.  Returns the new top of the tail, or -1 if a word was missing."""
    m, s = moments[0], moments[1]
    _kick_back(m[start:stop], s[start:stop], g[start:stop], n1 / d1, n2 / d2)
    top = buffer.divide(s, heads[1], tail, top, n2, d2, start, stop, scratch)
    if top >= 0:
        top = buffer.divide(m, heads[0], tail, top, n1, d1, start, stop, scratch)
    return top


@kernel
def make_position_of_span(w, carry, moments, tail, top, rates, spills, start, stop):
    """Returns the new top of the tail, and whether all went well: what did not is to be undone."""
    flags = np.int64(0)
    if carry.shape[0]:
        flags |= shrink(w, carry[0], factor(rates), start, stop)
        if spills:
            top = spill(carry[0], tail, top, start, stop)
    flags |= _move(w[start:stop], moments[0, start:stop], moments[1, start:stop], rates)
    return top, flags >= 0


@kernel
def undo_position_of_span(w, carry, moments, tail, top, rates, spills, start, stop):
    """Undo `make_position_of_span`.  Returns the new top of the tail, or -1 if a word was missing."""
    _move_back(w[start:stop], moments[0, start:stop], moments[1, start:stop], rates)
    if carry.shape[0]:
        if spills:
            top = refill(carry[0], tail, top, start, stop)
        if top >= 0:
            grow(w, carry[0], factor(rates), start, stop)
    return top


@inlined
def _kick(m, s, g, beta1, beta2):
    """m <- m + (1 - beta1) g, s <- s + (1 - beta2) g**2.  Returns flags, negative if something left its grid."""
    flags = np.int64(0)
    for p in range(m.size):
        x = np.float64(g[p])
        change1, change2 = (1.0 - beta1) * x, (1.0 - beta2) * (x * x)
        a1, b1 = m[p], to_grid(change1, GRID)
        a2, b2 = s[p], to_grid(change2, SQUARES)
        total1, total2 = wrapping_add(a1, b1), wrapping_add(a2, b2)
        flags |= (
            outside(change1, GRID) | overflow(a1, b1, total1) | outside(change2, SQUARES) | overflow(a2, b2, total2)
        )
        m[p], s[p] = total1, total2
    return flags


@inlined
def _kick_back(m, s, g, beta1, beta2):
    for p in range(m.size):
        x = np.float64(g[p])
        change1, change2 = (1.0 - beta1) * x, (1.0 - beta2) * (x * x)
        m[p], s[p] = wrapping_sub(m[p], to_grid(change1, GRID)), wrapping_sub(s[p], to_grid(change2, SQUARES))


@inlined
def _move(w, m, s, rates):
    """w <- w - alpha (m / c1) / (r + eps).  Returns flags, negative if something left the grid."""
    flags = np.int64(0)
    for p in range(w.size):
        change = _change(m[p], s[p], rates)
        a, b = w[p], to_grid(change, GRID)
        total = wrapping_sub(a, b)
        flags |= outside(change, GRID) | overflow(total, b, a)
        w[p] = total
    return flags


@inlined
def _move_back(w, m, s, rates):
    for p in range(w.size):
        w[p] = wrapping_add(w[p], to_grid(_change(m[p], s[p], rates), GRID))


@inlined
def _change(m, s, rates):
    """alpha (m / c1) / (r + eps)."""
    r = math.sqrt(to_float(s, SQUARES) * (1.0 / rates.c2) + rates.eps_root)
    return rates.alpha / rates.c1 * to_float(m, GRID) / (r + rates.eps)


@kernel
def _squares_to_floats(s, x):
    for p in range(s.size):
        x[p] = to_float(s[p], SQUARES)


# ---- what is refused -----------------------------------------------------------------------------------------


@inlined
def reason(tables, state, g, t):
    for p in range(g.size):
        if not np.isfinite(g[p]):
            return NOT_FINITE, p
    first = ZERO
    for group in range(tables.groups.size - 1):
        rates, start, stop = rates_of(tables, t, group), tables.groups[group], tables.groups[group + 1]
        why, first = _diagnose(rates, state.w, state.moments, g, start, stop)
        if why != FINE:
            return why, first
    return OFF_GRID, ZERO  # off by less than these floats can tell


@kernel
def _diagnose(rates, w, moments, g, start, stop):
    for p in range(start, stop):
        x = np.float64(g[p])
        m = rates.beta1 * to_float(moments[0, p], GRID) + (1.0 - rates.beta1) * x
        s = rates.beta2 * to_float(moments[1, p], SQUARES) + (1.0 - rates.beta2) * (x * x)
        if not s < SQUARES.limit:
            return SQUARES_OFF_GRID, p
        change = rates.alpha / rates.c1 * m / (math.sqrt(s / rates.c2 + rates.eps_root) + rates.eps)
        if not max(abs(m), abs(change), abs(factor(rates) * to_float(w[p], GRID) - change)) < GRID.limit:
            return OFF_GRID, p
    return FINE, start
