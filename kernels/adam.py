"""Adam and AdamW, reversible, and their adjoint (Kingma and Ba 2015; Loshchilov and Hutter 2019).

    m <- beta1 m + (1 - beta1) g          beta1 = n1 / d1, exactly
    s <- beta2 s + (1 - beta2) g**2       beta2 = n2 / d2
    w <- (1 - alpha lambda) w             lambda: weight decay (shrinking.py)
    w <- w - alpha (m / c1) / (r + eps)   r = sqrt(s / c2 + eps_root), with the new m and s

    c1 = 1 - beta1**(t + 1), c2 = 1 - beta2**(t + 1), by products where the betas change with t

The undo begins with the last line, as m and s are still the new ones; g is taken at the weights that are found.  With
h = 1 / (r + eps) and z = h m / c1, the derivatives go back through the same lines:

    dalpha = - dw . z,   deps = alpha dw . (h z),   dm <- dm - alpha / c1 h dw,   ds <- ds + alpha / c2 k dw
    dlambda = - alpha dw . w,   dalpha <- dalpha - lambda dw . w,   dw <- (1 - alpha lambda) dw
    u = - (1 - beta1) dm - 2 (1 - beta2) g ds                          with k = h z / (2 r), or 0 where r = 0
    dbeta1 = dm . (m - g),   dbeta2 = ds . (s - g**2)                  with the m and s from before the step
    dw <- dw - H u,   dm <- beta1 dm,   ds <- beta2 ds

and c1, c2 are derivatives of their own, which every beta before has a share in: of log(1 - c1) the same.

The second moment has a grid of its own, of 62 fraction bits: its small values decide how far a weight moves
(`python -m bench.choices squares`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from . import checksums
from . import information_buffer as buffer
from .broadcast import entry
from .fixed_point import GRID, grid_to_floats, outside, overflow, spacing_of, to_float, to_grid
from .jit import inlined, kernel
from .outcomes import FINE, NOT_FINITE, OFF_GRID, SQUARES_OFF_GRID
from .primitives import ZERO, like, wrapping_add, wrapping_sub
from .reductions import dot
from .shrinking import grow, refill, shrink, spill
from .structures import Adam as Tables
from .structures import AdamAdjoint as Adjoint

__all__ = ["Adjoint", "Tables"]

DIRECTION_TAKES_GRADIENT = True
SQUARES = spacing_of(fraction_bits=62)  # of the second moment, below 2


class Rates(NamedTuple):
    """The numbers of one step and group."""

    alpha: float
    beta1: float
    beta2: float
    eps: float
    eps_root: float
    weight_decay: float
    c1: float
    c2: float


@inlined
def step(tables, state, g, t, scratch):
    top, fine = state.cursor[1], True
    for span in range(tables.leaders.size):
        top, on_grid = _make_moments(tables, state, g, t, span, top, scratch)
        fine = fine and on_grid
    for span in range(tables.leaders.size):
        top, on_grid = _make_position(tables, state, t, span, top)
        fine = fine and on_grid
    if not fine:
        for span in range(tables.leaders.size - 1, -1, -1):
            top = _undo_position(tables, state, t, span, top)
        for span in range(tables.leaders.size - 1, -1, -1):
            top = _undo_moments(tables, state, g, t, span, top, scratch)
        return _reason(tables, state, g, t)
    gradients = checksums.append(state.cursor[2], checksums.checksum(g))
    state.cursor[0], state.cursor[1], state.cursor[2] = t + 1, top, gradients
    return FINE, ZERO


@inlined
def undo_position(tables, state, t, scratch):
    top = state.cursor[1]
    for span in range(tables.leaders.size - 1, -1, -1):
        top = _undo_position(tables, state, t, span, top)
        if top < 0:
            return top
    return top


@inlined
def undo_moments(tables, state, g, t, top, scratch):
    for span in range(tables.leaders.size - 1, -1, -1):
        top = _undo_moments(tables, state, g, t, span, top, scratch)
        if top < 0:
            return False
    gradients = checksums.remove(state.cursor[2], checksums.checksum(g))
    state.cursor[0], state.cursor[1], state.cursor[2] = t, top, gradients
    return True


@inlined
def record_before(state, moments):
    """m and s."""
    grid_to_floats(state.moments[0], moments[0])
    _squares_to_floats(state.moments[1], moments[1])


@inlined
def record_after(state, g):
    """g as it is."""


@inlined
def pull_position(tables, w, moments, g, adjoint, t, u, scratch):
    """Through all of the step but the gradient."""
    for group in range(tables.groups.size - 2, -1, -1):
        start, stop = tables.groups[group], tables.groups[group + 1]
        _pull(_at_step(tables, t, group), w, moments, g, adjoint.w, adjoint.moments, adjoint.rule, t, group, start,
              stop, u, scratch)  # fmt: skip
    _through_products(adjoint.rule.beta1, adjoint.rule.product1, tables.n1, tables.d1, t)
    _through_products(adjoint.rule.beta2, adjoint.rule.product2, tables.n2, tables.d2, t)


@inlined
def pull_moments(tables, moments, g, adjoint, t, hu):
    """Through the gradient."""
    _subtract(hu, adjoint.w)


# ---- one span ------------------------------------------------------------------------------------------------


@inlined
def _make_moments(tables, state, g, t, span, top, scratch):
    group, start, stop = tables.leaders[span], tables.spans[span], tables.spans[span + 1]
    n1, d1, n2, d2 = _ratios(tables, t, group)
    return make_moments_of_span(state.moments, state.heads, state.tail, top, g, n1, d1, n2, d2, start, stop, scratch)


@inlined
def _undo_moments(tables, state, g, t, span, top, scratch):
    group, start, stop = tables.leaders[span], tables.spans[span], tables.spans[span + 1]
    n1, d1, n2, d2 = _ratios(tables, t, group)
    return undo_moments_of_span(state.moments, state.heads, state.tail, top, g, n1, d1, n2, d2, start, stop, scratch)


@inlined
def _make_position(tables, state, t, span, top):
    group, start, stop = tables.leaders[span], tables.spans[span], tables.spans[span + 1]
    rates, spills = _at_step(tables, t, group), entry(tables.spills, t, group)
    return make_position_of_span(state.w, state.carry, state.moments, state.tail, top, rates, spills, start, stop)


@inlined
def _undo_position(tables, state, t, span, top):
    group, start, stop = tables.leaders[span], tables.spans[span], tables.spans[span + 1]
    rates, spills = _at_step(tables, t, group), entry(tables.spills, t, group)
    return undo_position_of_span(state.w, state.carry, state.moments, state.tail, top, rates, spills, start, stop)


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
        flags |= shrink(w, carry[0], _factor(rates), start, stop)
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
            grow(w, carry[0], _factor(rates), start, stop)
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


@inlined
def _factor(rates):
    return 1.0 - rates.alpha * rates.weight_decay


@kernel
def _squares_to_floats(s, x):
    for p in range(s.size):
        x[p] = to_float(s[p], SQUARES)


# ---- the adjoint of one group --------------------------------------------------------------------------------


@kernel
def _pull(rates, w, moments, g, dw, d_moments, sums, t, group, start, stop, u, scratch):
    """In blocks, whose coefficients stay in the L1 cache."""
    for low in range(start, stop, buffer.BLOCK):
        high = min(low + buffer.BLOCK, stop)
        m, s, g_b = moments[0, low:high], moments[1, low:high], g[low:high]
        dw_b, dm, ds = dw[low:high], d_moments[0, low:high], d_moments[1, low:high]
        h, z, hz, k, ks = _coefficients(m, s, rates, scratch)
        _add_rates(sums, t, group, rates, dw_b, w[low:high], z, hz, ks)
        _pull_block(rates, h, k, g_b, dw_b, dm, ds, u[low:high])
        _add_betas(sums, t, group, m, s, g_b, dm, ds, rates, h, z)
        _forget(rates, dm, ds)


@inlined
def _coefficients(m, s, rates, scratch):
    """h, z, h z, k, and k s."""
    size = m.size
    h, z, hz = scratch[:size], scratch[buffer.BLOCK :][:size], scratch[2 * buffer.BLOCK :][:size]
    k, ks = scratch[3 * buffer.BLOCK :][:size], scratch[4 * buffer.BLOCK :][:size]
    for p in range(size):
        s_p = np.float64(s[p])
        r = math.sqrt(s_p * (1.0 / rates.c2) + rates.eps_root)
        h[p] = 1.0 / (r + rates.eps)
        z[p] = h[p] * (np.float64(m[p]) * (1.0 / rates.c1))
        hz[p] = h[p] * z[p]
        k[p] = hz[p] / (r + r) if r > 0.0 else 0.0
        ks[p] = k[p] * s_p
    return h, z, hz, k, ks


@inlined
def _add_rates(sums, t, group, rates, dw, w, z, hz, ks):
    """dalpha, deps, dlambda; and the derivatives by the logarithms of 1 - c1 and 1 - c2."""
    size, c1, c2 = dw.size, rates.c1, rates.c2
    of_z, of_w = dot(dw, z, 0, size), dot(dw, w, 0, size)
    _add(sums.lr, t, group, -of_z - rates.weight_decay * of_w)
    _add(sums.weight_decay, t, group, -rates.alpha * of_w)
    _add(sums.eps, t, group, rates.alpha * dot(dw, hz, 0, size))
    _add(sums.product1, ZERO, group, -rates.alpha * (1.0 - c1) / c1 * of_z)
    _add(sums.product2, ZERO, group, rates.alpha * (1.0 - c2) / (c2 * c2) * dot(dw, ks, 0, size))


@inlined
def _pull_block(rates, h, k, g, dw, dm, ds, u):
    """dm, ds and dw, and u."""
    of_m, of_s, factor = rates.alpha / rates.c1, rates.alpha / rates.c2, _factor(rates)
    for p in range(dw.size):
        dm[p] -= of_m * (h[p] * dw[p])
        ds[p] += of_s * (k[p] * dw[p])
        dw[p] *= factor
        direction = (1.0 - rates.beta1) * dm[p] + 2.0 * (1.0 - rates.beta2) * (np.float64(g[p]) * ds[p])
        u[p] = like(u[p], -direction)


@inlined
def _add_betas(sums, t, group, m, s, g, dm, ds, rates, of_m, of_s):
    """dbeta1 and dbeta2: beta1 (m - g) is the new m less g, and beta2 (s - g**2) the new s less g**2."""
    for p in range(m.size):
        x = np.float64(g[p])
        of_m[p] = np.float64(m[p]) - x
        of_s[p] = np.float64(s[p]) - x * x
    _add(sums.beta1, t, group, dot(dm, of_m, 0, m.size) / rates.beta1)
    _add(sums.beta2, t, group, dot(ds, of_s, 0, m.size) / rates.beta2)


@inlined
def _forget(rates, dm, ds):
    for p in range(dm.size):
        dm[p] *= rates.beta1
        ds[p] *= rates.beta2


@kernel
def _through_products(d_beta, d_product, n, d, t):
    """The share of this step's betas in all products from it on."""
    row = min(t, n.shape[0] - 1)
    for group in range(d_product.shape[1]):
        column = min(group, n.shape[1] - 1)
        d_beta[row, column] += d_product[0, group] * (d[row, column] / n[row, column])


@inlined
def _add(sums, t, group, value):
    sums[min(t, sums.shape[0] - 1), min(group, sums.shape[1] - 1)] += value


@kernel
def _subtract(hu, dw):
    """dw -= H u."""
    for p in range(dw.size):
        dw[p] -= hu[p]


# ---- the numbers of a step -----------------------------------------------------------------------------------


@inlined
def _ratios(tables, t, group):
    """n1, d1, n2, d2 of one step and group."""
    n1, d1 = entry(tables.n1, t, group), entry(tables.d1, t, group)
    return n1, d1, entry(tables.n2, t, group), entry(tables.d2, t, group)


@inlined
def _at_step(tables, t, group):
    """The numbers of one step and group."""
    n1, d1, n2, d2 = _ratios(tables, t, group)
    return Rates(
        entry(tables.lr, t, group), n1 / d1, n2 / d2, entry(tables.eps, t, group), tables.eps_root,
        entry(tables.weight_decay, t, group), entry(tables.c1, t, group), entry(tables.c2, t, group),
    )  # fmt: skip


@inlined
def _reason(tables, state, g, t):
    """Why a step from this state was refused, and the first parameter at fault."""
    for p in range(g.size):
        if not np.isfinite(g[p]):
            return NOT_FINITE, p
    first = ZERO
    for group in range(tables.groups.size - 1):
        rates, start, stop = _at_step(tables, t, group), tables.groups[group], tables.groups[group + 1]
        reason, first = _diagnose(rates, state.w, state.moments, g, start, stop)
        if reason != FINE:
            return reason, first
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
        if not max(abs(m), abs(change), abs(_factor(rates) * to_float(w[p], GRID) - change)) < GRID.limit:
            return OFF_GRID, p
    return FINE, start
