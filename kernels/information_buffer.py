"""Exact multiplication of a grid value by a ratio n/d: Algorithm 3 of Maclaurin et al. (2015), streamed.

Multiplying c by n/d, 0 < n < d, maps many values to one.  What tells them apart is kept on the parameter's information
buffer i, an integer of any size: a digit modulo n is popped from it, a digit modulo d pushed on it,

    s = i mod n;   i = i div n;   c n + s = c' d + r;   i = i d + r                    (1)

and (c', i) determines (c, i): the inverse swaps n and d.  i grows by log2(d/n) bits, which is all that was lost.  As a
big integer it would cost more the longer the run.  Here only its low end, the *head*, is computed with, as in
asymmetric numeral systems (Duda 2013); what a head outgrows is pushed as 16-bit words on one stack, the *tail*, in the
order of the parameters:

          head of p0            head of p1   ...              tail
       [LOW ...... HIGH)     [LOW ...... HIGH)      | word | word | flag | word | ... | top >

This differs from the paper's Algorithm 3 in:

1. The pop comes before the push.  The paper pushes c mod d first and takes (c div d) n + (i mod n) for c', up to n grid
   steps from c n/d: 2**-36 for a decay that needs a large n.  Equation (1) stays within one step of it, always.
2. Between pop and push the head, then k, *spills* if k >= HIGH div d: it pushes k mod b and keeps k div b.  So heads
   stay in [LOW, HIGH), where LOW = D**2 and HIGH = b (D**2 + D), D = 2**16 is the largest denominator, b = 2**16 the
   range of a word.
3. The undo knows a spill by the k it left: k < LOW div n.  From there to (HIGH/b - 1) div n, k can come of both, and a
   *flag* word, 1 for a spill, is pushed to tell which.  One step in some 700,000 needs it
   (`python -m bench.choices words`).

tests/test_information_buffer.py goes through all states at a small D = b.

Heads stay in their interval.  Without a spill k >= LOW div n, and (LOW div n) d >= LOW since LOW >= (n - 1) d / (d - n)
for n < d <= D; and k d + r < (HIGH div d) d <= HIGH.  With one, (HIGH/b) div d <= k div b <= (HIGH/b - 1) div n, so the
head is above HIGH/b - d >= LOW, and below HIGH: for n = 1 at most (HIGH/b) d - 1, for n > 1 not half of it.
"""

from __future__ import annotations

import numpy as np

from .broadcast import at, equal, part
from .jit import inlined, kernel
from .lanes import LANES, highest, lanes_above, lanes_up_to, lowest
from .primitives import floor, fma, wrapping_add, wrapping_mul, wrapping_sub

MAX_DENOMINATOR = 2**16  # D
BASE = 2**16  # b: a tail word's range; at least D, so that one word is enough for a step
LOW = MAX_DENOMINATOR**2
HIGH = BASE * (LOW + MAX_DENOMINATOR)
# A fresh head: far from both ends, and 2**40 over the golden ratio.  Decays that are powers of two keep a head's
# mantissa: from 2**40 itself every 16th halving would land on an ambiguous k, which doubles the bits of decay 1/2
# (`python -m bench.choices start`).
START = 0x9E3779B97F
WORDS_PER_STEP = 2  # what one multiplication can push for one parameter: a word and a flag
# elements worked on at a time, so that the passes over a block meet in the L1 cache (`python -m bench.choices block`)
BLOCK = 512
SCRATCH = 5 * BLOCK  # float64 that the steps of any rule work in: two blocks here, five in the adjoint of Adam


@kernel
def multiply(values, heads, tail, top, n, d, start, stop, scratch):
    """Multiply ``values[start:stop]`` by n/d.  Returns the new top of the tail.

    n, d int64, or (P,) int64: each element's own, which leaves it as it is where they are equal.
    values, heads (P,) int64; tail (capacity,) uint16 with room for 2 (stop - start) more words;
    scratch (SCRATCH,) float64.
    """
    if equal(n, d):
        return top
    for low in range(start, stop, BLOCK):
        high = min(low + BLOCK, stop)
        k, rests = scratch[: high - low], scratch[BLOCK : BLOCK + high - low]
        n_b, d_b = part(n, low, high), part(d, low, high)
        _pop_and_scale(values[low:high], heads[low:high], n_b, d_b, k, rests)
        top = _spill(k, tail, top, n_b, d_b)
        _divide_and_push(values[low:high], rests, d_b, k, heads[low:high])
    return top


@kernel
def divide(values, heads, tail, top, n, d, start, stop, scratch):
    """Undo `multiply`, walking the other way.  Returns the new top of the tail, or -1 if a word was missing."""
    if equal(n, d):
        return top
    for block in range((stop - start - 1) // BLOCK, -1, -1):
        low = start + block * BLOCK
        high = min(low + BLOCK, stop)
        k, rests = scratch[: high - low], scratch[BLOCK : BLOCK + high - low]
        n_b, d_b = part(n, low, high), part(d, low, high)
        _pop_and_scale(values[low:high], heads[low:high], d_b, n_b, k, rests)
        top = _refill(k, tail, top, n_b, d_b)
        if top < 0:
            return top
        _divide_and_push(values[low:high], rests, n_b, k, heads[low:high])
    return top


# c is divided by d in two loops, roughly and then the rest: with both in the second one, vectors wait longer for those
# before them, and a multiplication takes 1.2 times as long (`python -m bench.choices loops`).


@inlined
def _pop_and_scale(values, heads, n, d, k, rests):
    """k, digit = divmod(head, n);  c n + digit = c d + rest with another c.

    With c = q d + e this is (q n) d + (e n + digit), which needs no more than 64 bits.
    """
    for p in range(values.size):
        c, numerator, denominator = values[p], np.float64(at(n, p)), np.float64(at(d, p))
        k[p], digit = _divmod(np.float64(heads[p]), numerator, _reciprocal(numerator))
        by_d = _reciprocal(denominator)
        # c has 63 bits, float64 53: a quotient is off by up to 6 * 2**10 / d, so it is taken more than that too low
        q = np.int64(fma(np.float64(c), by_d, fma(-(2.0**13), by_d, -2.0)))
        e = wrapping_sub(c, wrapping_mul(q, at(d, p)))  # from 0 to 2**18
        values[p], rests[p] = wrapping_mul(q, at(n, p)), fma(np.float64(e), numerator, digit)


@inlined
def _divide_and_push(values, rests, d, k, heads):
    """c, r = divmod(c d + rest, d);  head = k d + r."""
    for p in range(values.size):
        denominator = np.float64(at(d, p))
        more, r = _divmod(rests[p], denominator, _reciprocal(denominator))
        values[p] = wrapping_add(values[p], np.int64(more))
        heads[p] = np.int64(fma(k[p], denominator, r))


@inlined
def _divmod(x, m, by_m):
    """``divmod(x, m)`` for an integer-valued float64 0 <= x < 2**50, with ``by_m = _reciprocal(m)``.

    The reciprocal is above 1/m, so the product is not below a whole x / m; it is above it by at most 5 * 2**-53 x / m,
    which is less than 1/m and so does not reach the next whole number.
    """
    q = floor(x * by_m)
    return q, fma(-q, m, x)


@inlined
def _reciprocal(m):
    """A float64 above 1/m, by at most 2**-51 of it."""
    return (1.0 / m) * (1.0 + 2.0**-52)


@inlined
def _spill(k, tail, top, n, d):
    """Shorten what would outgrow its head, in ascending order."""
    for first in range(0, k.size, LANES):
        rare = _to_spill(k, first, n, d)
        while rare:
            lane = lowest(rare)
            rare ^= np.int64(1) << lane
            p = first + lane
            if at(n, p) == at(d, p):  # the other passes leave it as it is
                continue
            spilled = _too_large(k[p], at(d, p))
            if spilled:
                whole = np.int64(k[p])
                tail[top] = np.uint16(whole % BASE)
                top += 1
                k[p] = whole // BASE
            if _may_have_spilled(k[p], at(n, p)) and _may_not_have_spilled(k[p], at(n, p)):
                tail[top] = np.uint16(spilled)
                top += 1
    return top


@inlined
def _refill(k, tail, top, n, d):
    """Undo `_spill`, in descending order.  Returns -1 where the tail had no word left."""
    for first in range((k.size - 1) // LANES * LANES, -1, -LANES):
        rare = _to_refill(k, first, n)
        while rare:
            lane = highest(rare)
            rare ^= np.int64(1) << lane
            p = first + lane
            if at(n, p) == at(d, p):
                continue
            spilled = True
            if _may_not_have_spilled(k[p], at(n, p)):
                top -= 1
                if top < 0:
                    return top
                spilled = tail[top] != 0
            if spilled:
                top -= 1
                if top < 0:
                    return top
                k[p] = k[p] * BASE + np.int64(tail[top])
    return top


@inlined
def _to_spill(k, first, n, d):
    """Bits of those of the elements from `first` on for which `_spill` has something to do."""
    if first + LANES <= k.size:
        return lanes_above(k, first, d, np.float64(HIGH)) | lanes_up_to(k, first, n, np.float64(HIGH // BASE - 1))
    rare = np.int64(0)
    for p in range(first, k.size):
        rare |= np.int64(_too_large(k[p], at(d, p)) | _may_have_spilled(k[p], at(n, p))) << (p - first)
    return rare


@inlined
def _to_refill(k, first, n):
    """The same for `_refill`."""
    if first + LANES <= k.size:
        return lanes_up_to(k, first, n, np.float64(HIGH // BASE - 1))
    rare = np.int64(0)
    for p in range(first, k.size):
        rare |= np.int64(_may_have_spilled(k[p], at(n, p))) << (p - first)
    return rare


# Comparisons of a k with a quotient by a product: k >= HIGH div d is (k + 1) d > HIGH.  With quotients a multiplication
# takes 1.7 times as long, by a ratio for each element as long (`python -m bench.choices products`).


@inlined
def _too_large(k, d):
    """k >= HIGH div d."""
    return fma(k, np.float64(d), np.float64(d)) > HIGH


@inlined
def _may_have_spilled(k, n):
    """k <= (HIGH/b - 1) div n."""
    return k * np.float64(n) <= HIGH // BASE - 1


@inlined
def _may_not_have_spilled(k, n):
    """k >= LOW div n."""
    return fma(k, np.float64(n), np.float64(n)) > LOW
