"""The adjoint of Adam and AdamW: the derivatives go back through the lines of adam.py, last line first.

With h = 1 / (r + eps), z = h m / c1 and k = h z / (2 r), or 0 where r = 0, in all of which m and s are the new ones,

    dalpha = - dw . z,   deps = alpha dw . (h z),   dm <- dm - alpha / c1 h dw,   ds <- ds + alpha / c2 k dw
    dlambda = - alpha dw . w,   dalpha <- dalpha - lambda dw . w,   dw <- (1 - alpha lambda) dw
    u = - (1 - beta1) dm - 2 (1 - beta2) g ds
    dbeta1 = dm . (m - g),   dbeta2 = ds . (s - g**2)                  with the m and s from before the step
    dw <- dw - H u,   dm <- beta1 dm,   ds <- beta2 ds

and c1, c2 are derivatives of their own, which every beta before has a share in: of log(1 - c1) the same.
"""

from __future__ import annotations

import math

import numpy as np

from . import information_buffer as buffer
from .adam_numbers import factor, rates_of
from .jit import inlined, kernel
from .primitives import ZERO, like
from .reductions import dot


@inlined
def pull_position(tables, w, moments, g, adjoint, t, u, scratch):
    """Through all of the step but the gradient."""
    spans = tables.leaders.size
    for span in range(spans):
        first, last = tables.leaders[span], tables.leaders[span + 1] if span + 1 < spans else tables.groups.size - 1
        _pull(rates_of(tables, t, first), tables.groups, w, moments, g, adjoint.w, adjoint.moments, adjoint.rule, t,
              first, last, u, scratch)  # fmt: skip
    _through_products(adjoint.rule.beta1, adjoint.rule.product1, tables.n1, tables.d1, t)
    _through_products(adjoint.rule.beta2, adjoint.rule.product2, tables.n2, tables.d2, t)


@inlined
def pull_moments(tables, moments, g, adjoint, t, hu, scratch):
    """Through the gradient."""
    _subtract(hu, adjoint.w)


@kernel
def _pull(rates, groups, w, moments, g, dw, d_moments, sums, t, first, last, u, scratch):
    """Of the groups first <= group < last, in blocks whose coefficients stay in the L1 cache."""
    stop = groups[last]
    for low in range(groups[first], stop, buffer.BLOCK):
        high = min(low + buffer.BLOCK, stop)
        m, s, g_b, w_b = moments[0, low:high], moments[1, low:high], g[low:high], w[low:high]
        dw_b, dm, ds = dw[low:high], d_moments[0, low:high], d_moments[1, low:high]
        h, z, hz, k, ks = _coefficients(m, s, rates, scratch)
        for group in range(first, last):
            start, end = _within(groups, group, low, high)
            if start < end:
                _add_rates(sums, t, group, rates, dw_b, w_b, z, hz, ks, start, end)
        _pull_block(rates, h, k, g_b, dw_b, dm, ds, u[low:high])
        _what_was_forgotten(m, s, g_b, h, z)
        for group in range(first, last):
            start, end = _within(groups, group, low, high)
            if start < end:
                _add(sums.beta1, t, group, dot(dm, h, start, end) / rates.beta1)
                _add(sums.beta2, t, group, dot(ds, z, start, end) / rates.beta2)
        _forget(rates, dm, ds)


@inlined
def _within(groups, group, low, high):
    """Where a group begins and ends within a block."""
    return max(groups[group], low) - low, min(groups[group + 1], high) - low


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
def _add_rates(sums, t, group, rates, dw, w, z, hz, ks, start, end):
    """dalpha, deps, dlambda; and the derivatives by the logarithms of 1 - c1 and 1 - c2."""
    c1, c2 = rates.c1, rates.c2
    of_z, of_w = dot(dw, z, start, end), dot(dw, w, start, end)
    _add(sums.lr, t, group, -of_z - rates.weight_decay * of_w)
    _add(sums.weight_decay, t, group, -rates.alpha * of_w)
    _add(sums.eps, t, group, rates.alpha * dot(dw, hz, start, end))
    _add(sums.product1, ZERO, group, -rates.alpha * (1.0 - c1) / c1 * of_z)
    _add(sums.product2, ZERO, group, rates.alpha * (1.0 - c2) / (c2 * c2) * dot(dw, ks, start, end))


@inlined
def _pull_block(rates, h, k, g, dw, dm, ds, u):
    """dm, ds and dw, and u."""
    of_m, of_s, shrinking = rates.alpha / rates.c1, rates.alpha / rates.c2, factor(rates)
    for p in range(dw.size):
        dm[p] -= of_m * (h[p] * dw[p])
        ds[p] += of_s * (k[p] * dw[p])
        dw[p] *= shrinking
        direction = (1.0 - rates.beta1) * dm[p] + 2.0 * (1.0 - rates.beta2) * (np.float64(g[p]) * ds[p])
        u[p] = like(u[p], -direction)


@inlined
def _what_was_forgotten(m, s, g, of_m, of_s):
    """beta1 (m - g) is the new m less g, and beta2 (s - g**2) the new s less g**2."""
    for p in range(m.size):
        x = np.float64(g[p])
        of_m[p] = np.float64(m[p]) - x
        of_s[p] = np.float64(s[p]) - x * x


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
