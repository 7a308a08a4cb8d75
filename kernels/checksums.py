"""Checksums, by which the way back knows that it sees the same numbers as the way there.

The function is NH of UMAC (Black et al., CRYPTO 1999, section 4): with 64 bits x_p after the other, one float64 or two
float32, and a key k_p of their position,

    sum_p  fold(low32(x_p + k_p) * high32(x_p + k_p))        modulo 2**64,  fold(m) = m xor high32(m)

Arrays that differ have the same sum by chance only, about once in 2**32: not even all elements doubled, or rows of
zeros and ones exchanged, go unseen.  The fold is what the latter takes: NH's keys are random, but these, which cost an
addition each, are multiples of one, so that without it changes of a few elements with equal halves could cancel.  The
keys are no secret either: this guards against accidents, not against intent.  One instruction
multiplies the halves of four words: 0.15 ns a word, where a product of 64 bits takes 0.26 without AVX-512
(`python -m bench.choices checksum`; `proof` measures what all of them cost a whole run).
"""

from __future__ import annotations

import numpy as np

from .jit import inlined, kernel
from .primitives import bits, shift_right, word, wrapping_add, wrapping_mul, wrapping_sub

_KEY = np.int64(-0x61C8864680B583EB)  # 2**64 over the golden ratio: k_p = (p + 1) * _KEY fills 64 bits evenly
_LOW_32 = np.int64(0xFFFFFFFF)
# An odd factor and its inverse modulo 2**64: `append` and `remove` tell the order of what they are given
_FACTOR, _INVERSE = np.int64(0x5851F42D4C957F2D), np.int64(pow(0x5851F42D4C957F2D, -1, 2**64) - 2**64)


@kernel
def checksum(a):
    """The checksum of a flat array, of every bit of it."""
    return checksum_of_part(a, 0, a.size)


@kernel
def checksum_of_part(a, low, high):
    """What the elements low <= p < high add to it; `low` even, and `high` too unless it is the end."""
    first = low * a.itemsize // 8
    total, key = np.int64(0), wrapping_mul(np.int64(first + 1), _KEY)
    for p in range(first, high * a.itemsize // 8):
        total = wrapping_add(total, _term(word(a, p), key))
        key = wrapping_add(key, _KEY)
    if high * a.itemsize % 8:
        total = wrapping_add(total, _term(bits(a[high - 1]), key))
    return total


@inlined
def _term(x, key):
    x = wrapping_add(x, key)
    m = wrapping_mul(x & _LOW_32, shift_right(x, 32))
    return m ^ shift_right(m, 32)


@inlined
def append(running, item):
    """A running checksum with one more item."""
    return wrapping_add(wrapping_mul(running, _FACTOR), item)


@inlined
def remove(running, item):
    """Undo `append`."""
    return wrapping_mul(wrapping_sub(running, item), _INVERSE)


@inlined
def appended(before, after):
    """The item that made the running checksum `after` of `before`."""
    return wrapping_sub(after, wrapping_mul(before, _FACTOR))
