"""Algorithm 3 of Maclaurin et al. (2015): exact multiplication of a grid value by a ratio n/d, streamed.

Multiplying c by n/d, 0 < n < d, loses c mod d.  The paper keeps it on the parameter's information buffer i, a big
integer, from which it takes the digit modulo n that makes the result as random in its low end as c was:

    i = i d + (c mod d);    c = (c div d) n + (i mod n);    i = i div n              (1)

The buffer grows by log2(d/n) bits a step.  As a big integer it would cost more the longer the run.  Here only its low
end, the *head*, is computed with, as in asymmetric numeral systems (Duda 2013); what a head outgrows is pushed as
16-bit words on one stack, the *tail*, in the order of the parameters:

        head of p0     head of p1   ...                     tail
       [L ......bL)   [L ......bL)          | word | word | flag | word | ... | top >

This differs from the paper's Algorithm 3 in:

1. The head stays in [L, bL), L = b = 2**16, so a uint32 holds it.  A multiplication takes it to
   h' = (h d + r) div n; if h' >= bL the step *spills*: it pushes h' mod b and keeps h' div b.
2. The undo knows a spill by the head it left: h < floor(L d / n).  If n does not divide L d, then a head of exactly
   that value can come of both; a *flag* word, 1 for a spill, then tells which, and is pushed and popped only there.
3. n, d <= 2**16: every product stays under 2**49, and the divisions are done in float64 lanes.

That every head stays in its interval and every undo is exact is checked over all states at a small word size
(tests/test_information_buffer.py).
"""

from __future__ import annotations

import numpy as np

from ._jit import inlined, kernel
from .primitives import floor, fma, wrapping_add, wrapping_mul, wrapping_sub

LOW = 2**16  # L: the lowest head
BASE = 2**16  # b: a tail word's range
HIGH = BASE * LOW  # bL: heads are below
START = 2**24  # a fresh head, well inside: at L itself many first steps would land on the ambiguous value
MAX_DENOMINATOR = 2**16
BLOCK = 512  # elements worked on at a time, so that the passes over a block meet in the L1 cache
WORDS_PER_STEP = 2  # what one multiplication can push for one parameter: a word and a flag

_LANES = 16  # elements that the search for the rare spill looks at together


@kernel
def multiply(values, heads, tail, top, n, d, start, stop, scratch):
    """Multiply ``values[start:stop]`` by n/d.  Returns the new top of the tail.

    values (P,) int64; heads (P,) uint32; tail (capacity,) uint16 with room for 2 (stop - start) more words;
    scratch (BLOCK,) float64.
    """
    if n == d:
        return top
    for low in range(start, stop, BLOCK):
        high = min(low + BLOCK, stop)
        i = scratch[: high - low]
        _load(heads[low:high], i)
        _exchange_digits(values[low:high], i, d, n)
        top = _spill(i, tail, top, n, d)
        _store(i, heads[low:high])
    return top


@kernel
def divide(values, heads, tail, top, n, d, start, stop, scratch):
    """Undo `multiply`, walking the other way.  Returns the new top of the tail, or -1 if a word was missing."""
    if n == d:
        return top
    for block in range((stop - start - 1) // BLOCK, -1, -1):
        low = start + block * BLOCK
        high = min(low + BLOCK, stop)
        i = scratch[: high - low]
        _load(heads[low:high], i)
        top = _refill(i, tail, top, n, d)
        if top < 0:
            return top
        _exchange_digits(values[low:high], i, n, d)
        _store(i, heads[low:high])
    return top


@inlined
def _load(heads, i):
    for k in range(i.size):
        i[k] = np.int64(heads[k])


@inlined
def _store(i, heads):
    for k in range(i.size):
        heads[k] = np.uint32(np.int64(i[k]))


@inlined
def _exchange_digits(values, i, pushed, popped):
    """Equation (1) for a block: push ``c mod pushed`` on i, pop a digit modulo `popped`.  Its inverse swaps the two.

    i holds heads as float64: below 2**49 all of this is exact there.
    """
    by_pushed, by_popped = 1.0 / pushed, 1.0 / popped
    base, digits = np.float64(pushed), np.float64(popped)
    for k in range(values.size):
        c = values[k]
        # c has 63 bits, float64 53: a first quotient that is up to 2**10 / pushed off leaves a small exact rest
        quotient = np.int64(np.float64(c) * by_pushed)
        rest = wrapping_sub(c, wrapping_mul(quotient, pushed))
        more, digit = _divide_small(np.float64(rest), base, by_pushed)
        i[k], taken = _divide_small(fma(i[k], base, digit), digits, by_popped)
        quotient = wrapping_add(quotient, np.int64(more))
        values[k] = wrapping_add(wrapping_mul(quotient, popped), np.int64(taken))


@inlined
def _divide_small(x, m, by_m):
    """``divmod(x, m)`` for an integer-valued float64 |x| < 2**52: the rounded reciprocal is at most one off."""
    q = floor(x * by_m)
    r = fma(-q, m, x)
    low, high = r < 0.0, r >= m
    q = q - 1.0 if low else q
    r = r + m if low else r
    q = q + 1.0 if high else q
    r = r - m if high else r
    return q, r


@inlined
def _spill(h, tail, top, n, d):
    """Bring heads back under bL, in ascending order; push what they spill."""
    boundary, ambiguous = _boundary(n, d)
    for first in range(0, h.size, _LANES):
        lanes = h[first : first + _LANES]
        rare = np.int64(0)
        for k in range(lanes.size):
            rare |= np.int64((lanes[k] >= HIGH) | (lanes[k] == boundary))
        if rare:
            for k in range(first, min(first + _LANES, h.size)):
                spilled = h[k] >= HIGH
                if spilled:
                    head = np.int64(h[k])
                    tail[top] = np.uint16(head % BASE)
                    top += 1
                    h[k] = head // BASE
                if ambiguous and h[k] == boundary:
                    tail[top] = np.uint16(spilled)
                    top += 1
    return top


@inlined
def _refill(h, tail, top, n, d):
    """Undo `_spill`, in descending order.  Returns -1 where the tail had no word left."""
    boundary, ambiguous = _boundary(n, d)
    for first in range((h.size - 1) // _LANES * _LANES, -1, -_LANES):
        lanes = h[first : first + _LANES]
        rare = np.int64(0)
        for k in range(lanes.size):
            rare |= np.int64(lanes[k] <= boundary)
        if rare:
            for k in range(min(first + _LANES, h.size) - 1, first - 1, -1):
                spilled = h[k] < boundary
                if ambiguous and h[k] == boundary:
                    top -= 1
                    if top < 0:
                        return top
                    spilled = tail[top] != 0
                if spilled:
                    top -= 1
                    if top < 0:
                        return top
                    h[k] = h[k] * BASE + np.int64(tail[top])
    return top


@inlined
def _boundary(n, d):
    """floor(L d / n), below which a head has spilled, and whether a head of just that value may have."""
    return np.float64(LOW * d // n), LOW * d % n != 0


@kernel
def words_to_divide(heads, tail, top, n, d):
    """How many words `divide` would pop, without popping them; -1 if the tail holds fewer."""
    boundary, ambiguous = _boundary(n, d)
    needed = 0
    if n != d:
        for p in range(heads.size - 1, -1, -1):
            head = np.float64(np.int64(heads[p]))
            spilled = head < boundary
            if ambiguous and head == boundary:
                needed += 1
                if needed > top:
                    return -1
                spilled = tail[top - needed] != 0
            if spilled:
                needed += 1
                if needed > top:
                    return -1
    return needed
