"""The losses of one example with outputs z and target y, both of K elements.

    |               | loss                                   | mean m     | mass s    |
    | cross_entropy | -sum_k y_k log softmax(z)_k            | softmax(z) | sum_k y_k |
    | squared_error | 1/2 sum_k (z_k - y_k)**2               | z          | 1         |
    | logistic      | sum_k softplus(z_k) - y_k z_k          | sigmoid(z) | 1         |

In all three dloss/dz = s m - y, which is why they share one room.  c = scale * example weight multiplies each row.
"""

from __future__ import annotations

import numpy as np

from . import elementary
from ._jit import inlined, kernel
from .primitives import like

CROSS_ENTROPY, SQUARED_ERROR, LOGISTIC = range(3)


@kernel
def predict(loss, z, rows, k, mean):
    """mean (rows, k) of the outputs z."""
    if loss == CROSS_ENTROPY:
        for i in range(rows):
            z_i, m_i = z[i * k : (i + 1) * k], mean[i * k : (i + 1) * k]
            top = _largest(z_i)
            for j in range(k):
                m_i[j] = z_i[j] - top
        for p in range(rows * k):  # one loop over all rows: ten classes a row would not fill the vectors
            mean[p] = elementary.exp_negative(mean[p])
        for i in range(rows):
            m_i = mean[i * k : (i + 1) * k]
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


@kernel
def cotangent(loss, mean, batch, k, scale, delta):
    """delta = dL/dz = c (s m - y), for every row of the batch."""
    for i in range(batch.size):
        y, m, out = _row(batch.y, batch.first + i, k), _row(mean, i, k), _row(delta, i, k)
        c = weight(batch, i, scale)
        s = _mass(loss, y)
        for j in range(k):
            out[j] = c * (s * m[j] - y[j])


@kernel
def tangent(loss, mean, batch, k, scale, r_z, r_delta):
    """r_delta = R{dL/dz} = c s R{m}."""
    for i in range(batch.size):
        y, m = _row(batch.y, batch.first + i, k), _row(mean, i, k)
        r, out = _row(r_z, i, k), _row(r_delta, i, k)
        cs = weight(batch, i, scale) * _mass(loss, y)
        if loss == CROSS_ENTROPY:
            centre = _dot(m, r)
            for j in range(k):
                out[j] = cs * m[j] * (r[j] - centre)
        elif loss == LOGISTIC:
            for j in range(k):
                out[j] = cs * m[j] * (like(m[j], 1.0) - m[j]) * r[j]
        else:
            for j in range(k):
                out[j] = cs * r[j]


@inlined
def subtract_target_tangent(loss, mean, batch, i, k, scale, r_z, dy):
    """dy -= R{dL/dy} of row i, which is -c R{log softmax(z)}, else -c R{z}."""
    m, r = _row(mean, i, k), _row(r_z, i, k)
    c = weight(batch, i, scale)
    centre = _dot(m, r) if loss == CROSS_ENTROPY else like(c, 0.0)
    for j in range(k):
        dy[j] -= c * (centre - r[j])


@inlined
def weight_tangent(loss, mean, batch, i, k, scale, r_z):
    """R{dL/d(example weight)} of row i: scale (s m - y) . R{z}."""
    y, m, r = _row(batch.y, batch.first + i, k), _row(mean, i, k), _row(r_z, i, k)
    s = _mass(loss, y)
    total = like(s, 0.0)
    for j in range(k):
        total += (s * m[j] - y[j]) * r[j]
    return like(total, scale) * total


@kernel
def total_loss(loss, z, batch, k):
    """The losses of the batch, weighted and summed in float64."""
    total = 0.0
    for i in range(batch.size):
        y, z_i = _row(batch.y, batch.first + i, k), _row(z, i, k)
        value = 0.0
        if loss == CROSS_ENTROPY:
            top = _largest(z_i)
            sum_exp = 0.0
            for j in range(k):
                sum_exp += elementary.exp_negative(z_i[j] - top)
            log_sum_exp = np.float64(top) + np.log(sum_exp)
            for j in range(k):
                value += y[j] * (log_sum_exp - z_i[j])
        elif loss == LOGISTIC:
            for j in range(k):
                value += elementary.softplus(z_i[j]) - y[j] * z_i[j]
        else:
            for j in range(k):
                value += 0.5 * (z_i[j] - y[j]) * (z_i[j] - y[j])
        total += value * weight(batch, i, 1.0)
    return total


@inlined
def weight(batch, i, scale):
    """c = scale * example weight of row i, in the precision of the data."""
    one = like(batch.y[0], scale)
    return one * batch.weights[batch.first + i] if batch.weights.size else one


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
