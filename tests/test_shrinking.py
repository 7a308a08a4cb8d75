"""Multiplication of the weights by any factor: near the product, undone exactly, whatever the numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrev.kernels import shrinking
from tests import naive

WORDS = st.integers(-(2**63), 2**63 - 1)
FACTORS = st.floats(2.0**-16, 1.0) | st.floats(0.9, 1.0) | st.integers(1, 60).map(lambda i: 1.0 - 2.0**-i)


def pair(w, carry):
    return np.array([w], np.int64), np.array([carry], np.int64)


@given(w=WORDS, carry=WORDS, k=FACTORS)
def test_any_numbers_are_brought_back(w, carry, k):
    """Those that overflow, too."""
    here = pair(w, carry)
    shrinking.shrink(*here, k, 0, 1)
    shrinking.grow(*here, k, 0, 1)
    assert (here[0][0], here[1][0]) == (w, carry)


@given(w=st.integers(-(2**61), 2**61), carry=st.integers(-(2**50), 2**50), k=FACTORS)
def test_it_is_the_naive_one_and_near_the_product(w, carry, k):
    here = pair(w, carry)
    assert shrinking.shrink(*here, k, 0, 1) >= 0
    shrunk = int(here[0][0])
    assert (shrunk, int(here[1][0])) == naive.shrink(w, carry, k)
    exact = Fraction(k) * w
    rounding = Fraction(abs(w) + abs(carry)) / 2**51 * (1 + Fraction(1 - k) / Fraction(k)) + 4
    assert abs(shrunk - exact) <= rounding


@pytest.mark.parametrize("w", [2**63 - 1, -(2**63)])
def test_a_sum_that_overflows_is_told(w):
    carry = 2**40 if w > 0 else -(2**40)
    here = pair(w, carry)
    assert shrinking.shrink(*here, 0.999, 0, 1) < 0
    shrinking.grow(*here, 0.999, 0, 1)
    assert (here[0][0], here[1][0]) == (w, carry)


def test_a_factor_of_one_changes_nothing():
    w, carry = np.arange(-5, 5), np.zeros(10, np.int64)
    assert shrinking.shrink(w, carry, 1.0, 0, 10) >= 0
    assert w.tolist() == list(range(-5, 5))
    assert not carry.any()


def test_errors_do_not_add_up():
    """Ten thousand times 1 - 1e-5, which no ratio of denominators up to 2**16 is near to."""
    rng, k, steps = np.random.default_rng(0), 1.0 - 1e-5, 10_000
    start = rng.standard_normal(100)
    w, carry = np.rint(start * 2**52).astype(np.int64), np.zeros(100, np.int64)
    for _ in range(steps):
        assert shrinking.shrink(w, carry, k, 0, 100) >= 0
    assert np.abs(w / 2**52 - start * k**steps).max() < 1e-13
    assert np.abs(carry).max() < 2**12
    for _ in range(steps):
        shrinking.grow(w, carry, k, 0, 100)
    assert np.array_equal(w, np.rint(start * 2**52).astype(np.int64))
    assert not carry.any()


@given(carries=st.lists(WORDS, min_size=1, max_size=5))
def test_words_are_spilled_and_come_back(carries):
    carry, tail = np.array(carries, np.int64), np.zeros(10, np.uint16)
    top = shrinking.spill(carry, tail, 0, 0, len(carries))
    assert top == len(carries)
    assert carry.tolist() == [each // 2**16 for each in carries]
    assert tail[:top].tolist() == [each % 2**16 for each in carries]
    assert shrinking.refill(carry, tail, top, 0, len(carries)) == 0
    assert carry.tolist() == carries
    assert shrinking.refill(carry, tail, len(carries) - 1, 0, len(carries)) == -1
