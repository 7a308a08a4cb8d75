"""The rational that stands for a decay."""

from __future__ import annotations

import numpy as np

from .information_buffer import MAX_DENOMINATOR
from .jit import kernel


@kernel
def best_ratios(gamma, n, d):
    """n/d closest to each gamma in [2**-16, 1] with d <= 2**16.

    The continued fraction of ``fractions.Fraction.limit_denominator`` in int64, with gamma rounded to 62 fraction bits;
    it takes the other of two ratios only where gamma is as near to both to 2**-61.  A hundred times as fast, which a
    learned schedule with a decay of its own for every step and group needs (`python -m bench.choices ratios`).
    """
    for k in range(gamma.size):
        p0, q0, p1, q1 = 0, 1, 1, 0
        numerator, denominator = np.int64(gamma[k] * 2.0**62), np.int64(2**62)
        while denominator:
            a = numerator // denominator
            if q0 + a * q1 > MAX_DENOMINATOR:
                break
            p0, q0, p1, q1 = p1, q1, p0 + a * p1, q0 + a * q1
            numerator, denominator = denominator, numerator - a * denominator
        n[k], d[k] = p1, q1
        if denominator:
            a = (MAX_DENOMINATOR - q0) // q1
            p2, q2 = p0 + a * p1, q0 + a * q1
            # the distances of p1/q1 and p2/q2 from gamma, which lies between them
            if 2.0 * denominator * q2 > 2.0**62:
                n[k], d[k] = p2, q2
