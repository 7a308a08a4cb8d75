"""Activation functions phi with what the two passes need of their derivatives, one pass over memory each.

Both derivatives follow from phi and phi' alone, so z is not kept:

    |          | phi'            | phi'' / phi'  |
    | tanh     | 1 - a**2        | -2 a          |
    | sigmoid  | a (1 - a)       | 1 - 2 a       |
    | relu     | 1 if z > 0      | 0             |
    | softplus | sigmoid(z)      | 1 - phi'      |
    | identity | 1               | 0             |
"""

from __future__ import annotations

from . import elementary
from ._jit import kernel
from .primitives import fma, like

TANH, SIGMOID, RELU, SOFTPLUS, IDENTITY = range(5)


@kernel
def activate(kind, act, slopes, start, stop):
    """On entry a = act[start:stop] holds z; on return a = phi(z) and the slopes there are phi'(z)."""
    a, slope = act[start:stop], slopes[start:stop]
    if kind == TANH:
        for p in range(a.size):
            y = elementary.tanh(a[p])
            a[p] = y
            slope[p] = fma(-y, y, like(y, 1.0))
    elif kind == SIGMOID:
        for p in range(a.size):
            y = elementary.sigmoid(a[p])
            a[p] = y
            slope[p] = fma(-y, y, y)
    elif kind == RELU:
        for p in range(a.size):
            z = a[p]
            a[p] = z if z > like(z, 0.0) else like(z, 0.0)
            slope[p] = like(z, 1.0) if z > like(z, 0.0) else like(z, 0.0)
    elif kind == SOFTPLUS:
        for p in range(a.size):
            z = a[p]
            a[p] = elementary.softplus(z)
            slope[p] = elementary.sigmoid(z)
    else:
        for p in range(a.size):
            slope[p] = like(a[p], 1.0)


@kernel
def activate_tangent(kind, act, slopes, tangents, bends, start, stop):
    """On entry r = tangents[start:stop] holds R{z}; on return r = R{a} = phi' R{z}, and bend = phi'' / phi' R{z}."""
    a, slope, r, bend = act[start:stop], slopes[start:stop], tangents[start:stop], bends[start:stop]
    if kind == TANH:
        for p in range(a.size):
            bend[p] = -(a[p] + a[p]) * r[p]
    elif kind == SIGMOID:
        for p in range(a.size):
            bend[p] = (like(a[p], 1.0) - (a[p] + a[p])) * r[p]
    elif kind == SOFTPLUS:
        for p in range(a.size):
            bend[p] = (like(a[p], 1.0) - slope[p]) * r[p]
    else:
        for p in range(a.size):
            bend[p] = like(a[p], 0.0)
    for p in range(a.size):
        r[p] *= slope[p]
