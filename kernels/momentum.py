"""One reversible step of SGD with momentum (Maclaurin et al. 2015, section 2 and Algorithms 1-3).

    v <- gamma v - (1 - gamma) g          gamma = n / d, exactly
    w <- w + alpha v                      with the new v

The undo comes in two halves, since the gradient that the velocity needs is taken at the position that the first half
restores:

    w <- w - alpha v
    v <- (v + (1 - gamma) g) / gamma

A step is checked while it is made, not before: all of its arithmetic is modulo 2**64 and so undone by its own undo even
where it left the grid.  A pass over g, v and w to check beforehand would cost a third of the step.

All functions work on the parameters ``start <= p < stop``, which share alpha and gamma, of w, v (P,) int64 and g (P,)
float64 or float32.
"""

from __future__ import annotations

import numpy as np

from . import information_buffer as buffer
from ._jit import inlined, kernel
from .fixed_point import LIMIT, outside, overflow, to_float, to_grid
from .primitives import wrapping_add, wrapping_sub

FINE = 0
NOT_FINITE = 1  # the gradient holds a NaN or an infinity
OFF_GRID = 2  # the step would leave the grid


@kernel
def step(w, v, heads, tail, top, g, alpha, n, d, start, stop, scratch):
    """Returns the new top of the tail, and whether all went well: a step that did not is to be undone."""
    top = buffer.multiply(v, heads, tail, top, n, d, start, stop, scratch)
    flags = _kick(v[start:stop], g[start:stop], 1.0 - n / d)
    flags |= _move(w[start:stop], v[start:stop], alpha)
    return top, flags >= 0


@kernel
def undo_position(w, v, alpha, start, stop):
    """The first half of the undo of `step`."""
    _move_back(w[start:stop], v[start:stop], alpha)


@kernel
def redo_position(w, v, alpha, start, stop):
    """Takes `undo_position` back."""
    _move(w[start:stop], v[start:stop], alpha)


@kernel
def undo_velocity(v, heads, tail, top, g, n, d, start, stop, scratch):
    """The second half.  Returns the new top of the tail, or -1 if a word was missing."""
    _kick_back(v[start:stop], g[start:stop], 1.0 - n / d)
    return buffer.divide(v, heads, tail, top, n, d, start, stop, scratch)


@inlined
def _kick(v, g, share):
    """v <- v - share g.  Returns flags with the sign bit set if something left the grid."""
    flags = np.int64(0)
    for p in range(v.size):
        change = share * np.float64(g[p])
        a, b = v[p], to_grid(change)
        total = wrapping_sub(a, b)
        flags |= outside(change) | overflow(total, b, a)
        v[p] = total
    return flags


@inlined
def _kick_back(v, g, share):
    for p in range(v.size):
        v[p] = wrapping_add(v[p], to_grid(share * np.float64(g[p])))


@inlined
def _move(w, v, alpha):
    """w <- w + alpha v.  Returns flags with the sign bit set if something left the grid."""
    flags = np.int64(0)
    for p in range(w.size):
        change = alpha * to_float(v[p])
        a, b = w[p], to_grid(change)
        total = wrapping_add(a, b)
        flags |= outside(change) | overflow(a, b, total)
        w[p] = total
    return flags


@inlined
def _move_back(w, v, alpha):
    for p in range(w.size):
        w[p] = wrapping_sub(w[p], to_grid(alpha * to_float(v[p])))


@kernel
def diagnose(w, v, g, alpha, n, d, start, stop):
    """Why a step from this state was refused, and the first parameter at fault."""
    for p in range(start, stop):
        if not np.isfinite(g[p]):
            return NOT_FINITE, p
    share = 1.0 - n / d
    for p in range(start, stop):
        velocity = to_float(v[p]) * (n / d) - share * g[p]
        if not max(abs(velocity), abs(alpha * velocity), abs(to_float(w[p]) + alpha * velocity)) < LIMIT:
            return OFF_GRID, p
    return OFF_GRID, start  # off by less than these floats can tell
