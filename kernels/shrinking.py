"""Multiplication of the weights by any factor 0 < k <= 1, undone exactly: four shears of the weights and a carry.

Weight decay multiplies by k = 1 - alpha lambda, which is near 1: the ratios of the information buffer, of denominators
up to 2**16, are 1.5e-5 apart there, more than the whole decay of a usual 1e-3 * 1e-2.  So the weight c is multiplied by
k while a second integer e, its carry, is divided by it, which together is a product of shears (Daubechies and Sweldens
1998, section 7.3),

    e <- e + c        c <- c + (k - 1) e        e <- e - c / k        c <- c + (k - k**2) e

each of which, with what it adds rounded to an integer, is undone by its own subtraction, whatever the rounding.  The
weight ends within a few grid steps of c k.  The carry holds what the rounding took, and grows as the weights shrink:
when they have shrunk by 2**16, by the tables of the rule and so at known steps, it gives its 16 low bits to the tail.
"""

from __future__ import annotations

import numpy as np

from .fixed_point import outside, overflow, spacing_of, to_grid
from .jit import inlined, kernel
from .primitives import wrapping_add, wrapping_sub

WORD = 16  # bits that the carry gives at a time
_WHOLE = spacing_of(fraction_bits=0)


@kernel
def shrink(w, carry, k, start, stop):
    """Multiply ``w[start:stop]`` by k.  Returns flags, negative if a sum overflowed."""
    w_s, e_s = w[start:stop], carry[start:stop]
    flags = np.int64(0)
    for p in range(w_s.size):
        c, e = w_s[p], e_s[p]
        e1 = wrapping_add(e, c)
        c1 = wrapping_add(c, _times(e1, k - 1.0))
        change = _times(c1, 1.0 / k)
        e2 = wrapping_sub(e1, change)
        c2 = wrapping_add(c1, _times(e2, k - k * k))
        flags |= overflow(e, c, e1) | overflow(e2, change, e1) | outside(np.float64(c1) / k, _WHOLE)
        w_s[p], e_s[p] = c2, e2
    return flags


@kernel
def grow(w, carry, k, start, stop):
    """Undo `shrink`."""
    w_s, e_s = w[start:stop], carry[start:stop]
    for p in range(w_s.size):
        c2, e2 = w_s[p], e_s[p]
        c1 = wrapping_sub(c2, _times(e2, k - k * k))
        e1 = wrapping_add(e2, _times(c1, 1.0 / k))
        c = wrapping_sub(c1, _times(e1, k - 1.0))
        w_s[p], e_s[p] = c, wrapping_sub(e1, c)


@kernel
def spill(carry, tail, top, start, stop):
    """Push the low word of each carry.  Returns the new top of the tail."""
    for p in range(start, stop):
        tail[top] = np.uint16(carry[p] & 0xFFFF)
        top += 1
        carry[p] >>= WORD
    return top


@kernel
def refill(carry, tail, top, start, stop):
    """Undo `spill`, walking the other way.  Returns the new top of the tail, or -1 if a word was missing."""
    if top < stop - start:
        return top - top - 1
    for p in range(stop - 1, start - 1, -1):
        top -= 1
        carry[p] = (carry[p] << WORD) | np.int64(tail[top])
    return top


@inlined
def _times(c, x):
    """c x, rounded to an integer."""
    return to_grid(np.float64(c) * x, _WHOLE)
