"""Activation functions phi with what the passes need of their derivatives.

Both derivatives follow from a = phi(z), so z is not kept:

    |          | phi'        | phi'' / phi'  |
    | tanh     | 1 - a**2    | -2 a          |
    | sigmoid  | a (1 - a)   | 1 - 2 a       |
    | relu     | 1 if a > 0  | 0             |
    | softplus | 1 - exp(-a) | exp(-a)       |
    | identity | 1           | 0             |
"""

from __future__ import annotations

from . import elementary
from .jit import kernel
from .primitives import fma, like

TANH, SIGMOID, RELU, SOFTPLUS, IDENTITY = range(5)


@kernel
def activate(kind, act, start, stop):
    """a = phi(z), for z in act[start:stop]."""
    a = act[start:stop]
    if kind == TANH:
        for p in range(a.size):
            a[p] = elementary.tanh(a[p])
    elif kind == SIGMOID:
        for p in range(a.size):
            a[p] = elementary.sigmoid(a[p])
    elif kind == RELU:
        for p in range(a.size):
            a[p] = a[p] if a[p] > like(a[p], 0.0) else like(a[p], 0.0)
    elif kind == SOFTPLUS:
        for p in range(a.size):
            a[p] = elementary.softplus(a[p])


@kernel
def through_slope(kind, act, cotangents, start, stop):
    """x *= phi', for x in cotangents[start:stop] and a in act[start:stop]."""
    a, x = act[start:stop], cotangents[start:stop]
    if kind == TANH:
        for p in range(a.size):
            x[p] *= fma(-a[p], a[p], like(a[p], 1.0))
    elif kind == SIGMOID:
        for p in range(a.size):
            x[p] *= fma(-a[p], a[p], a[p])
    elif kind == RELU:
        for p in range(a.size):
            x[p] *= like(a[p], 1.0) if a[p] > like(a[p], 0.0) else like(a[p], 0.0)
    elif kind == SOFTPLUS:
        for p in range(a.size):
            x[p] *= -elementary.expm1_negative(-a[p])


@kernel
def derive(kind, act, slopes, start, stop):
    """What `tangent` and `cotangent_tangent` need of a in act[start:stop] that takes more than a few instructions."""
    a, slope = act[start:stop], slopes[start:stop]
    if kind == SOFTPLUS:
        for p in range(a.size):
            slope[p] = -elementary.expm1_negative(-a[p])


@kernel
def tangent(kind, act, slopes, tangents, bends, start, stop):
    """On entry r = tangents[start:stop] holds R{z}; on return r = R{a} = phi' R{z}, and bend = phi'' / phi' R{z}.

    Where phi'' is 0 bend is left alone.
    """
    a, slope, r, bend = act[start:stop], slopes[start:stop], tangents[start:stop], bends[start:stop]
    if kind == TANH:
        for p in range(r.size):
            bend[p] = -(a[p] + a[p]) * r[p]
            r[p] *= fma(-a[p], a[p], like(a[p], 1.0))
    elif kind == SIGMOID:
        for p in range(r.size):
            bend[p] = (like(a[p], 1.0) - (a[p] + a[p])) * r[p]
            r[p] *= fma(-a[p], a[p], a[p])
    elif kind == RELU:
        for p in range(r.size):
            r[p] *= like(a[p], 1.0) if a[p] > like(a[p], 0.0) else like(a[p], 0.0)
    elif kind == SOFTPLUS:
        for p in range(r.size):
            bend[p] = (like(a[p], 1.0) - slope[p]) * r[p]
            r[p] *= slope[p]


@kernel
def cotangent_tangent(kind, act, slopes, bends, cotangents, tangents, start, stop):
    """r = phi' r + bend x, for r in tangents[start:stop] and x in cotangents[start:stop]."""
    a, slope, bend = act[start:stop], slopes[start:stop], bends[start:stop]
    x, r = cotangents[start:stop], tangents[start:stop]
    if kind == TANH:
        for p in range(r.size):
            r[p] = fma(x[p], bend[p], r[p] * fma(-a[p], a[p], like(a[p], 1.0)))
    elif kind == SIGMOID:
        for p in range(r.size):
            r[p] = fma(x[p], bend[p], r[p] * fma(-a[p], a[p], a[p]))
    elif kind == RELU:
        for p in range(r.size):
            r[p] *= like(a[p], 1.0) if a[p] > like(a[p], 0.0) else like(a[p], 0.0)
    elif kind == SOFTPLUS:
        for p in range(r.size):
            r[p] = fma(x[p], bend[p], r[p] * slope[p])
