"""The losses of one example with outputs z and target y, both of K elements.

    |               | loss                                   | mean m     | mass s    |
    | cross_entropy | -sum_k y_k log softmax(z)_k            | softmax(z) | sum_k y_k |
    | squared_error | 1/2 sum_k (z_k - y_k)**2               | z          | 1         |
    | logistic      | sum_k softplus(z_k) - y_k z_k          | sigmoid(z) | 1         |

In all three dloss/dz = s m - y, which is why they share one room.  c = scale * example weight multiplies each row.

Rows i of a block of outputs, from z0 on in `z`, belong to rows ``first + i`` of the targets y; `weights` may be empty.
"""

from __future__ import annotations

import numpy as np

from . import elementary
from .jit import inlined, kernel
from .primitives import like

CROSS_ENTROPY, SQUARED_ERROR, LOGISTIC = range(3)


@kernel
def predict(loss, outputs, z0, rows, k, mean):
    """mean (rows, k) of the outputs."""
    z = outputs[z0 : z0 + rows * k]
    if loss == CROSS_ENTROPY:
        for i in range(rows):
            z_i, m_i = _row(z, i, k), _row(mean, i, k)
            top = _largest(z_i)
            for j in range(k):
                m_i[j] = z_i[j] - top
        for p in range(rows * k):  # one loop over rows: ten classes do not fill the vectors (bench.choices softmax)
            mean[p] = elementary.exp_negative(mean[p])
        for i in range(rows):
            m_i = _row(mean, i, k)
            total = like(m_i[0], 0.0)
            for j in range(k):
                total += m_i[j]
            share = like(total, 1.0) / total
            for j in range(k):
                m_i[j] *= share
    elif loss == LOGISTIC:
        for p in range(rows * k):
            mean[p] = elementary.sigmoid(z[p])
    else:
        for p in range(rows * k):
            mean[p] = z[p]


@inlined
def cotangent(loss, mean, batch, k, scale, deltas, z0):
    """delta = dL/dz = c (s m - y), into ``deltas[z0:]``."""
    if batch.unit and batch.weights.size == 0:
        _difference(mean, batch.y, batch.first * k, batch.size * k, scale, deltas, z0)
    else:
        _cotangent(loss, mean, batch.y, batch.weights, batch.first, batch.size, k, scale, deltas, z0)


@kernel
def _difference(mean, y, y0, size, scale, deltas, z0):
    """The common case, c (m - y), in one loop: rows of few classes do not fill the vectors."""
    m, y, delta = mean[:size], y[y0 : y0 + size], deltas[z0 : z0 + size]
    for p in range(size):
        delta[p] = like(m[p], scale) * (m[p] - y[p])


@kernel
def _cotangent(loss, mean, y, weights, first, rows, k, scale, deltas, z0):
    delta = deltas[z0 : z0 + rows * k]
    for i in range(rows):
        y_i, m_i, delta_i = _row(y, first + i, k), _row(mean, i, k), _row(delta, i, k)
        c = _weight(weights, first + i, like(y_i[0], scale))
        s = _mass(loss, y_i)
        for j in range(k):
            delta_i[j] = c * (s * m_i[j] - y_i[j])


@inlined
def tangent(loss, mean, batch, k, scale, tangents, r_deltas, z0):
    """R{delta} = c s R{m}, into ``r_deltas[z0:]``, from R{z} in ``tangents[z0:]``."""
    _tangent(loss, mean, batch.y, batch.weights, batch.unit, batch.first, batch.size, k, scale, tangents, r_deltas, z0)


@kernel
def _tangent(loss, mean, y, weights, unit, first, rows, k, scale, tangents, r_deltas, z0):
    r_z, r_delta = tangents[z0 : z0 + rows * k], r_deltas[z0 : z0 + rows * k]
    if loss != CROSS_ENTROPY and weights.size == 0:  # one loop, as in `_difference`: 64 rows of one take 20 ns, not 280
        for p in range(rows * k):
            r_delta[p] = _scaled(loss, like(mean[p], scale), mean[p], r_z[p])
        return
    for i in range(rows):
        y_i, m_i, r_i, out_i = _row(y, first + i, k), _row(mean, i, k), _row(r_z, i, k), _row(r_delta, i, k)
        cs = _weight(weights, first + i, like(y_i[0], scale))
        if not unit:
            cs *= _mass(loss, y_i)
        if loss == CROSS_ENTROPY:
            centre = _dot(m_i, r_i)
            for j in range(k):
                out_i[j] = cs * m_i[j] * (r_i[j] - centre)
        else:
            for j in range(k):
                out_i[j] = _scaled(loss, cs, m_i[j], r_i[j])


@inlined
def _scaled(loss, cs, m, r):
    """cs R{m} where each output has a mean of its own."""
    return cs * m * (like(cs, 1.0) - m) * r if loss == LOGISTIC else cs * r


@kernel
def subtract_target_tangent(loss, mean, i, k, c, tangents, z0, dy, dy0):
    """``dy[dy0:]`` -= R{dL/dy} for row i of a block, whose c is given: -c R{log softmax(z)}, else -c R{z}."""
    m_i, r_i, dy_i = _row(mean, i, k), _row(tangents[z0:], i, k), dy[dy0 : dy0 + k]
    centre = _dot(m_i, r_i) if loss == CROSS_ENTROPY else like(m_i[0], 0.0)
    for j in range(k):
        dy_i[j] -= c * (centre - r_i[j])


@kernel
def weight_tangent(loss, mean, y, row, i, k, scale, tangents, z0):
    """R{dL/d(example weight)} for the target in row `row` of y, at row i of a block: scale (s m - y) . R{z}."""
    y_i, m_i, r_i = _row(y, row, k), _row(mean, i, k), _row(tangents[z0:], i, k)
    s = _mass(loss, y_i)
    total = like(s, 0.0)
    for j in range(k):
        total += (s * m_i[j] - y_i[j]) * r_i[j]
    return like(total, scale) * total


@kernel
def total(loss, outputs, z0, mean, y, weights, first, rows, k):
    """The sum of weight * loss over a block with the outputs' mean, in float64."""
    z = outputs[z0 : z0 + rows * k]
    sum_of_losses = 0.0
    for i in range(rows):
        y_i, z_i, m_i = _row(y, first + i, k), _row(z, i, k), _row(mean, i, k)
        value = 0.0
        if loss == CROSS_ENTROPY:
            # log sum exp z = z_j - log softmax(z)_j for any j; at the largest no digit is lost
            log_sum_exp = np.float64(_largest(z_i)) - np.log(np.float64(_largest(m_i)))
            for j in range(k):
                value += y_i[j] * (log_sum_exp - z_i[j])
        elif loss == LOGISTIC:
            for j in range(k):
                value += elementary.softplus(z_i[j]) - y_i[j] * z_i[j]
        else:
            for j in range(k):
                value += 0.5 * (z_i[j] - y_i[j]) * (z_i[j] - y_i[j])
        sum_of_losses += value * _weight(weights, first + i, 1.0)
    return sum_of_losses


@inlined
def _weight(weights, row, scale):
    """c = scale * weight of an example."""
    return scale * weights[row] if weights.size else scale


@inlined
def _row(a, i, k):
    return a[i * k : (i + 1) * k]


@inlined
def _mass(loss, y):
    """s: soft labels need not sum to one."""
    if loss != CROSS_ENTROPY:
        return like(y[0], 1.0)
    total = like(y[0], 0.0)
    for j in range(y.size):
        total += y[j]
    return total


@inlined
def _dot(a, b):
    total = like(a[0], 0.0)
    for j in range(a.size):
        total += a[j] * b[j]
    return total


@inlined
def _largest(z):
    """The largest element; NaN among them reaches the result through the others."""
    top = z[0]
    for j in range(1, z.size):
        top = z[j] if z[j] > top else top
    return top


@kernel
def mark(classes, k, y):
    """One-hot targets y (N K,), of zeros so far, for classes (N,).  Returns whether all of these are 0 <= c < K."""
    fine = True
    for i in range(classes.size):
        inside = 0 <= classes[i] < k
        if inside:
            y[i * k + classes[i]] = 1.0
        fine = fine and inside
    return fine
