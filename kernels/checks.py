"""Scans over whole arrays that NumPy would need a temporary for."""

from __future__ import annotations

import numpy as np

from .jit import kernel


@kernel
def all_finite(x):
    """Whether no element is NaN or infinite."""
    flags = np.int64(0)
    for p in range(x.size):
        flags |= np.int64(0) if abs(x[p]) < np.inf else np.int64(1)
    return flags == 0


@kernel
def all_within(x, low, high):
    """Whether low <= x <= high everywhere."""
    flags = np.int64(0)
    for p in range(x.size):
        flags |= np.int64(0) if low <= x[p] <= high else np.int64(1)
    return flags == 0


@kernel
def all_one_hot(y, k):
    """Whether every row of k elements is one 1 and otherwise zeros."""
    flags = np.int64(0)
    for first in range(0, y.size, k):
        ones = np.int64(0)
        for p in range(first, first + k):
            ones += np.int64(y[p] == 1.0)
            flags |= np.int64((y[p] != 0.0) & (y[p] != 1.0))
        flags |= ones ^ 1
    return flags == 0


@kernel
def all_same(a, b):
    """Whether two int64 arrays of one length are equal."""
    flags = np.int64(0)
    for p in range(a.size):
        flags |= a[p] ^ b[p]
    return flags == 0


@kernel
def all_equal(grid, value):
    """Whether every element is `value`."""
    flags = np.int64(0)
    for p in range(grid.size):
        flags |= np.int64(grid[p]) ^ np.int64(value)
    return flags == 0


@kernel
def all_ratios(n, d, largest):
    """Whether 1 <= n <= d <= `largest` everywhere."""
    flags = np.int64(0)
    for p in range(n.size):
        flags |= np.int64((n[p] < 1) | (n[p] > d[p]) | (d[p] > largest))
    return flags == 0
