"""Floats to the grid and back, and additions that undo exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastrev.kernels import fixed_point
from fastrev.kernels.fixed_point import GRID, LIMIT
from fastrev.testing import assert_undone
from tests import naive

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
JUST_BELOW = float(np.nextafter(LIMIT, 0.0))

on_grid = st.floats(-JUST_BELOW, JUST_BELOW)
grid_integers = st.one_of(
    st.integers(INT_MIN, INT_MAX), st.integers(INT_MAX - 2000, INT_MAX), st.integers(INT_MIN, INT_MIN + 2000)
)


def floats_to_grid(*x: float) -> tuple[list[int], bool]:
    grid = np.full(len(x), 77, np.int64)
    fine = fixed_point.floats_to_grid(np.array(x, np.float64), grid)
    return grid.tolist(), bool(fine)


def grid_to_floats(*grid: int, dtype: Any = np.float64) -> npt.NDArray[Any]:
    x = np.full(len(grid), np.nan, dtype)
    fixed_point.grid_to_floats(np.array(grid, np.int64), x)
    return x


def test_constants() -> None:
    assert (GRID.scale, GRID.step, LIMIT) == (2.0**naive.FRACTION_BITS, 2.0**-52, 2048.0)


@settings(deadline=None)
@given(st.lists(on_grid, max_size=20))
def test_rounding_is_that_of_exact_fractions(x: list[float]) -> None:
    assert floats_to_grid(*x) == ([naive.to_grid(each) for each in x], True)


@settings(deadline=None)
@given(st.integers(-(2**53), 2**53))
def test_halfway_goes_to_even(twice: int) -> None:
    """From 2**-53 up to 1 there are floats halfway between two grid values."""
    assert floats_to_grid(twice * GRID.step / 2) == ([round(twice / 2)], True)


@pytest.mark.parametrize(
    ("steps", "nearest"),
    [
        (0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2), (0.5000000001, 1), (0.4999999999, 0),
        (float(2**52) - 0.5, 2**52), (float(2**51) + 0.5, 2**51), (float(2**51) + 1.5, 2**51 + 2), (5e-324, 0),
    ],
)  # fmt: skip
def test_ties_by_hand(steps: float, nearest: int) -> None:
    assert floats_to_grid(steps * GRID.step) == ([nearest], True)


@settings(deadline=None)
@given(st.lists(grid_integers, max_size=20))
def test_floats_are_the_nearest_to_the_grid_value(grid: list[int]) -> None:
    assert grid_to_floats(*grid).tolist() == [naive.from_grid(c) for c in grid]


@settings(deadline=None)
@given(st.lists(grid_integers, max_size=20))
def test_single_precision_is_the_rounded_double(grid: list[int]) -> None:
    expected = np.array([naive.from_grid(c) for c in grid], np.float64).astype(np.float32)
    np.testing.assert_array_equal(grid_to_floats(*grid, dtype=np.float32), expected)


@settings(deadline=None)
@given(st.lists(st.integers(-(2**53), 2**53), max_size=20), st.integers(0, 10))
def test_round_trip(mantissas: list[int], shift: int) -> None:
    """Grid values of at most 53 significant bits pass through floats unchanged."""
    grid = [min(m << shift, INT_MAX >> 10 << 10) for m in mantissas if abs(m) < 2**53]
    assert floats_to_grid(*grid_to_floats(*grid)) == (grid, True)


@pytest.mark.parametrize("sign", [1, -1])
def test_edges_of_the_range(sign: int) -> None:
    assert floats_to_grid(sign * JUST_BELOW) == ([sign * (2**63 - 2**10)], True)
    for x in (LIMIT, np.nextafter(LIMIT, np.inf), 1e300, np.inf, np.nan):
        assert floats_to_grid(1.0, sign * x, -1.0) == ([2**52, 0, -(2**52)], False)
    assert floats_to_grid(sign * 0.0) == ([0], True)


@settings(deadline=None)
@given(st.data(), st.integers(1, 20))
def test_addition_is_exact_modulo_2_to_the_64_and_says_when_it_wrapped(data: st.DataObject, size: int) -> None:
    start = data.draw(arrays(np.int64, size, elements=grid_integers))
    terms = data.draw(arrays(np.float64, size, elements=st.one_of(on_grid, st.floats())))
    inside = [abs(x) < LIMIT for x in terms.tolist()]
    steps = [naive.to_grid(x) if fine else 0 for x, fine in zip(terms.tolist(), inside, strict=True)]
    for do, undo, sign in ((fixed_point.add, fixed_point.subtract, 1), (fixed_point.subtract, fixed_point.add, -1)):
        grid = start.copy()
        exact = [c + sign * step for c, step in zip(start.tolist(), steps, strict=True)]
        fits = all(inside) and all(INT_MIN <= c <= INT_MAX for c in exact)
        assert do(grid, terms) == fits
        if not fits:
            assert grid.tolist() == start.tolist()
            continue
        assert grid.tolist() == exact
        undo(grid, terms)
        assert_undone(lambda: do(grid, terms), lambda: undo(grid, terms), lambda: {"grid": grid.copy()})


@pytest.mark.parametrize(
    ("c", "x", "sum_fits", "difference_fits"),
    [
        (INT_MAX, GRID.step, False, True),
        (INT_MAX, -GRID.step, True, False),
        (INT_MAX - 1, GRID.step, True, True),
        (INT_MIN, GRID.step, True, False),
        (INT_MIN, -GRID.step, False, True),
        (INT_MIN + 1, -GRID.step, True, True),
        (INT_MIN + 1, GRID.step, True, True),
        (0, JUST_BELOW, True, True),
        (2**10 - 1, JUST_BELOW, True, True),  # 2**63 - 1
        (2**10, JUST_BELOW, False, True),
        (-(2**10), JUST_BELOW, True, True),  # difference -2**63
        (-(2**10) - 1, JUST_BELOW, True, False),
        (-(2**10), -JUST_BELOW, True, True),
        (-(2**10) - 1, -JUST_BELOW, False, True),
        (2**10 - 1, -JUST_BELOW, True, True),
        (2**10, -JUST_BELOW, True, False),
        (INT_MAX, 0.0, True, True),
        (INT_MIN, -0.0, True, True),
        (0, np.nan, False, False),
        (0, np.inf, False, False),
        (0, -np.inf, False, False),
        (0, LIMIT, False, False),
        (-1, -LIMIT, False, False),
    ],
)
def test_overflow_by_hand(c: int, x: float, sum_fits: bool, difference_fits: bool) -> None:
    # Fine neighbours on both sides, and enough of them for the loop over whole vectors.
    for size, at in ((1, 0), (3, 1), (64, 0), (67, 66)):
        start = np.zeros(size, np.int64)
        terms = np.ones(size)
        start[at], terms[at] = c, x
        grid = start.copy()
        assert fixed_point.add(grid, terms) == sum_fits
        if sum_fits:
            fixed_point.subtract(grid, terms)
        np.testing.assert_array_equal(grid, start)
        assert fixed_point.subtract(grid, terms) == difference_fits
        if difference_fits:
            fixed_point.add(grid, terms)
        np.testing.assert_array_equal(grid, start)
