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
def derive(kind, act, slopes, curves, stop):
    """slope = phi' and curve = phi'' / phi', for a in act[:stop]."""
    a, slope, curve = act[:stop], slopes[:stop], curves[:stop]
    if kind == TANH:
        for p in range(a.size):
            slope[p] = fma(-a[p], a[p], like(a[p], 1.0))
            curve[p] = -(a[p] + a[p])
    elif kind == SIGMOID:
        for p in range(a.size):
            slope[p] = fma(-a[p], a[p], a[p])
            curve[p] = like(a[p], 1.0) - (a[p] + a[p])
    elif kind == SOFTPLUS:
        for p in range(a.size):
            t = elementary.expm1_negative(-a[p])
            slope[p] = -t
            curve[p] = like(a[p], 1.0) + t
    elif kind == RELU:
        for p in range(a.size):
            slope[p] = like(a[p], 1.0) if a[p] > like(a[p], 0.0) else like(a[p], 0.0)
            curve[p] = like(a[p], 0.0)
    else:
        for p in range(a.size):
            slope[p] = like(a[p], 1.0)
            curve[p] = like(a[p], 0.0)


@kernel
def tangent(slopes, curves, tangents, bends, start, stop):
    """On entry r = tangents[start:stop] holds R{z}; on return r = R{a} = phi' R{z}, and bend = phi'' / phi' R{z}."""
    slope, curve = slopes[start:stop], curves[start:stop]
    r, bend = tangents[start:stop], bends[start:stop]
    for p in range(r.size):
        bend[p] = curve[p] * r[p]
        r[p] *= slope[p]


@kernel
def cotangent_tangent(slopes, bends, cotangents, tangents, start, stop):
    """r = r * phi' + x * bend, for r in tangents[start:stop] and x in cotangents[start:stop]."""
    slope, bend = slopes[start:stop], bends[start:stop]
    x, r = cotangents[start:stop], tangents[start:stop]
    for p in range(r.size):
        r[p] = fma(x[p], bend[p], r[p] * slope[p])
