"""Inner products over a group of parameters, in float64 and in one fixed order.

The terms of a block are folded in halves.  That vectorises without leave to reassociate (a plain running sum does not),
and rounds less than a running sum.
"""

from __future__ import annotations

import numpy as np

from ._jit import inlined, kernel
from .fixed_point import to_float
from .information_buffer import BLOCK


@kernel
def dot(a, b, scratch):
    """a . b"""
    total = 0.0
    for low in range(0, a.size, BLOCK):
        a_k, b_k = a[low : low + BLOCK], b[low : low + BLOCK]
        for k in range(a_k.size):
            scratch[k] = np.float64(a_k[k]) * np.float64(b_k[k])
        total += _fold(scratch, a_k.size)
    return total


@kernel
def dot_velocity(a, v, start, stop, scratch):
    """a . v over a group, for a velocity on the grid."""
    total = 0.0
    for low in range(start, stop, BLOCK):
        high = min(low + BLOCK, stop)
        a_k, v_k = a[low:high], v[low:high]
        for k in range(a_k.size):
            scratch[k] = a_k[k] * to_float(v_k[k])
        total += _fold(scratch, a_k.size)
    return total


@kernel
def dot_velocity_and_gradient(a, v, g, start, stop, scratch):
    """a . (v + g) over a group, for a velocity on the grid."""
    total = 0.0
    for low in range(start, stop, BLOCK):
        high = min(low + BLOCK, stop)
        a_k, v_k, g_k = a[low:high], v[low:high], g[low:high]
        for k in range(a_k.size):
            scratch[k] = a_k[k] * (to_float(v_k[k]) + np.float64(g_k[k]))
        total += _fold(scratch, a_k.size)
    return total


@inlined
def _fold(terms, size):
    """The sum of the first `size` terms, which it overwrites."""
    while size > 1:
        half = (size + 1) // 2
        lower, upper = terms[:half], terms[half:size]
        for k in range(upper.size):
            lower[k] += upper[k]
        size = half
    return terms[0]
