"""The inner product: its order to the last bit, by naive Python."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from fastrev.kernels.reductions import CHAINS, dot


def chained(a: list[float], b: list[float]) -> float:
    """Chains of fused multiply-adds that are added in halves."""
    chains = [0.0] * CHAINS
    for p, (x, y) in enumerate(zip(a, b, strict=True)):
        chains[p % CHAINS] = float(Fraction(x) * Fraction(y) + Fraction(chains[p % CHAINS]))  # rounded once
    while len(chains) > 1:
        half = len(chains) // 2
        chains = [x + y for x, y in zip(chains[:half], chains[half:], strict=True)]
    return chains[0]


@pytest.mark.parametrize("dtypes", [*itertools.product([np.float64, np.float32], repeat=2)], ids=str)
@pytest.mark.parametrize("size", [*range(70), 127, 128, 129, 1000])
def test_dot_is_a_fixed_number_of_chains(size, dtypes):
    rng = np.random.default_rng(size)
    a, b = (rng.standard_normal(size + 9).astype(dtype) for dtype in dtypes)
    found = dot(a, b, 4, 4 + size)
    assert found == chained(a[4 : 4 + size].tolist(), b[4 : 4 + size].tolist())
    terms = [float(x) * float(y) for x, y in zip(a[4 : 4 + size], b[4 : 4 + size], strict=True)]
    assert found == pytest.approx(math.fsum(terms), rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("position", [0, 31, 32, 40])
def test_dot_hides_nothing(value, position):
    a = np.ones(41)
    a[position] = value
    assert not np.isfinite(dot(a, np.ones(41), 0, 41))


def test_what_lies_beside_the_range_is_not_read():
    a = np.full(100, np.nan)
    a[10:47] = 2.0
    assert dot(a, np.ones(100), 10, 47) == 74
