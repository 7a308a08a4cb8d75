"""exp, tanh and their kin, written so that a loop over an array vectorises.

Numba's own are scalar calls into libm: 15-19 ns an element for tanh, most of a training step of a small network.
These are branch-free polynomials, 0.5-1 ns an element, 1-2 without AVX-512 (`python -m bench.choices tanh`), within
3 ulp (tests/test_elementary.py).  All work in the type of their argument.

Method: Cody and Waite (1980).  x = k ln 2 + r with |r| <= ln 2 / 2, then exp(x) = 2**k exp(r), with ln 2 in two parts
so that r is exact.
"""

from __future__ import annotations

from .jit import inlined
from .primitives import by_precision, fma, like, power_of_two, rint

_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.693145751953125  # 14 bits, so that k * _LN2_HIGH is exact in float32 too (|k| < 1024)
_LN2_LOW = 1.42860682030941723212e-6


@inlined
def _reduce(x):
    """`k`, `r` with x = k ln 2 + r."""
    k = rint(x * like(x, _LOG2_E))
    return k, fma(-k, like(x, _LN2_LOW), fma(-k, like(x, _LN2_HIGH), x))


@inlined
def _expm1_polynomial(r):
    """exp(r) - 1 for |r| <= ln 2 / 2: Taylor to r**13, remainder below 2e-17 of r."""
    p = like(r, 1 / 6227020800)
    p = fma(p, r, like(r, 1 / 479001600))
    p = fma(p, r, like(r, 1 / 39916800))
    p = fma(p, r, like(r, 1 / 3628800))
    p = fma(p, r, like(r, 1 / 362880))
    p = fma(p, r, like(r, 1 / 40320))
    p = fma(p, r, like(r, 1 / 5040))
    p = fma(p, r, like(r, 1 / 720))
    p = fma(p, r, like(r, 1 / 120))
    p = fma(p, r, like(r, 1 / 24))
    p = fma(p, r, like(r, 1 / 6))
    p = fma(p, r, like(r, 0.5))
    return fma(p * r, r, r)


@inlined
def exp_negative(x):
    """exp(x) for x <= 0; 0 where the result would no longer be a normal number."""
    floor = by_precision(x, -708.0, -87.0)
    k, r = _reduce(floor if x < floor else x)
    value = power_of_two(k)
    value = fma(value, _expm1_polynomial(r), value)
    return like(x, 0.0) if x < floor else value


@inlined
def expm1_negative(x):
    """exp(x) - 1 for x <= 0, to full relative accuracy at 0."""
    k, r = _reduce(like(x, -87.0) if x < like(x, -87.0) else x)  # -1 to the last bit from -44 on
    scale = power_of_two(k)
    return fma(scale, _expm1_polynomial(r), scale - like(x, 1.0))


@inlined
def log1p_unit(x):
    """log(1 + x) for 0 <= x <= 1, as 2 artanh(z) with z = x / (2 + x) <= 1/3."""
    z = x / (x + like(x, 2.0))
    s = z * z
    p = like(x, 1 / 31)
    p = fma(p, s, like(x, 1 / 29))
    p = fma(p, s, like(x, 1 / 27))
    p = fma(p, s, like(x, 1 / 25))
    p = fma(p, s, like(x, 1 / 23))
    p = fma(p, s, like(x, 1 / 21))
    p = fma(p, s, like(x, 1 / 19))
    p = fma(p, s, like(x, 1 / 17))
    p = fma(p, s, like(x, 1 / 15))
    p = fma(p, s, like(x, 1 / 13))
    p = fma(p, s, like(x, 1 / 11))
    p = fma(p, s, like(x, 1 / 9))
    p = fma(p, s, like(x, 1 / 7))
    p = fma(p, s, like(x, 1 / 5))
    p = fma(p, s, like(x, 1 / 3))
    return like(x, 2.0) * fma(p * s, z, z)


@inlined
def tanh(x):
    """tanh(x) = -t / (t + 2) with t = expm1(-2 |x|), and the sign of x."""
    a = abs(x)
    t = expm1_negative(-a - a)
    y = abs(t) / (t + like(x, 2.0))
    return -y if x < like(x, 0.0) else y


@inlined
def sigmoid(x):
    """1 / (1 + exp(-x)), to full relative accuracy for x < 0 as well."""
    e = exp_negative(-abs(x))
    r = like(x, 1.0) / (like(x, 1.0) + e)
    return e * r if x < like(x, 0.0) else r


@inlined
def softplus(x):
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    positive = like(x, 0.0) if x < like(x, 0.0) else x
    return positive + log1p_unit(exp_negative(-abs(x)))
