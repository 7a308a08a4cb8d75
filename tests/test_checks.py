"""Scans over whole arrays, beside what they stand for in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from fastrev.kernels import checks

SIZES = [0, 1, 7, 64, 1001]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", SIZES)
def test_one_element_that_is_not_finite_is_found(size, dtype):
    x = np.random.default_rng(0).standard_normal(size).astype(dtype)
    x[: size // 2] *= np.finfo(dtype).max / 8
    assert checks.all_finite(x)
    for p in range(0, size, 97):
        for bad in (np.nan, np.inf, -np.inf):
            other = x.copy()
            other[p] = bad
            assert not checks.all_finite(other)


@pytest.mark.parametrize("size", SIZES)
def test_one_element_beyond_the_bounds_is_found(size):
    x = np.linspace(0.0, 1.0, size)
    assert checks.all_within(x, 0.0, 1.0)
    for p in range(0, size, 97):
        for bad in (-5e-324, np.nextafter(1.0, 2.0), np.nan, np.inf):
            other = x.copy()
            other[p] = bad
            assert not checks.all_within(other, 0.0, 1.0)


@pytest.mark.parametrize("size", SIZES)
def test_one_integer_that_differs_is_found(size):
    grid = np.random.default_rng(0).integers(-(2**62), 2**62, size)
    assert checks.all_same(grid, grid.copy())
    for p in range(0, size, 97):
        other = grid.copy()
        other[p] ^= 1 << (p % 63)
        assert not checks.all_same(grid, other)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("k", [1, 2, 3, 10])
def test_rows_of_one_1_are_told_from_others(k, dtype):
    y = np.eye(k, dtype=dtype)[np.arange(20) % k]
    assert checks.all_one_hot(y.reshape(-1), k)
    for bad in (0.5, 2.0, -1.0, np.nan):
        other = y.copy()
        other[7, k // 2] = bad
        assert not checks.all_one_hot(other.reshape(-1), k)
    for row in (0.0, 1.0):  # no 1, or, but for k = 1, too many
        other = y.copy()
        other[7] = row
        assert checks.all_one_hot(other.reshape(-1), k) == (row == 1.0 and k == 1)
    if k > 1:  # as many 1s as rows, but not one in each
        other = y.copy()
        other[7], other[8] = 0, 0
        other[8, :2] = 1
        assert not checks.all_one_hot(other.reshape(-1), k)
