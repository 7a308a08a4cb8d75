"""Grids: int64 with a number of fraction bits, 52 for weights and velocity: (-2048, 2048) in steps of 2**-52.

int64 addition is exact and undoes exactly (modulo 2**64 even where it overflows), which float addition does not.
Every float that moves the state is rounded to the grid first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .jit import inlined, kernel
from .primitives import rint, wrapping_add, wrapping_sub


class Spacing(NamedTuple):
    """How the integers of a grid stand for numbers.  Each buffer of a rule may have its own."""

    scale: float
    step: float
    limit: float  # magnitudes below it are on the grid


def spacing_of(fraction_bits: int) -> Spacing:
    """That of a grid with so many fraction bits."""
    return Spacing(2.0**fraction_bits, 2.0**-fraction_bits, 2.0 ** (63 - fraction_bits))


GRID = spacing_of(fraction_bits=52)  # of weights and velocity
LIMIT = GRID.limit

OUTSIDE = np.int64(-(2**63))  # the sign bit: what the range guards or together


@inlined
def to_float(c, spacing):
    """The grid value as float64: rounded to 53 significant bits, then scaled exactly."""
    return np.float64(c) * spacing.step


@inlined
def to_grid(x, spacing):
    """The float64 rounded to the grid, ties to even; 0 where `outside(x)`, so that no input is undefined behaviour."""
    return np.int64(rint((x if abs(x) < spacing.limit else 0.0) * spacing.scale))


@inlined
def outside(x, spacing):
    """Sign bit set where the float is not on the grid: too large, infinite or NaN."""
    return np.int64(0) if abs(x) < spacing.limit else OUTSIDE


@inlined
def overflow(a, b, total):
    """Sign bit set where ``total = a + b`` wrapped: both terms then have the other sign."""
    return (a ^ total) & (b ^ total)


@kernel
def floats_to_grid(x, grid):
    """Round a float64 array to the grid.  Returns whether every element is on it."""
    flags = np.int64(0)
    for p in range(x.size):
        flags |= outside(x[p], GRID)
        grid[p] = to_grid(x[p], GRID)
    return flags >= 0


@kernel
def grid_to_floats(grid, x):
    """The inverse of `floats_to_grid`, rounded to the type of `x`."""
    for p in range(grid.size):
        x[p] = to_float(grid[p], GRID)


@kernel
def add_grid(x, grid):
    """x += the grid values, in the type of `x`."""
    for p in range(grid.size):
        x[p] = to_float(grid[p], GRID) + np.float64(x[p])


@kernel
def add(grid, x):
    """Add a float64 array, rounded to the grid.  Returns whether the sum stayed on it; else nothing has changed."""
    if _add(grid, x) >= 0:
        return True
    _subtract(grid, x)
    return False


@kernel
def subtract(grid, x):
    """Undo `add`.  Returns whether the result stayed on the grid; else nothing has changed."""
    if _subtract(grid, x) >= 0:
        return True
    _add(grid, x)
    return False


@inlined
def _add(grid, x):
    """Returns flags with the sign bit set if something left the grid."""
    flags = np.int64(0)
    for p in range(x.size):
        a, b = grid[p], to_grid(x[p], GRID)
        grid[p] = wrapping_add(a, b)
        flags |= outside(x[p], GRID) | overflow(a, b, grid[p])
    return flags


@inlined
def _subtract(grid, x):
    flags = np.int64(0)
    for p in range(x.size):
        a, b = grid[p], to_grid(x[p], GRID)
        grid[p] = wrapping_sub(a, b)
        flags |= outside(x[p], GRID) | overflow(grid[p], b, a)
    return flags
