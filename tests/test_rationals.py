"""The rational that stands for a decay, against the standard library's."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrev
from fastrev.kernels.rationals import best_ratios
from tests import naive

D = naive.MAX_DENOMINATOR


def ratios(gammas: Sequence[float]) -> list[tuple[int, int]]:
    n, d = np.zeros((2, len(gammas)), np.int64)
    best_ratios(np.array(gammas, np.float64), n, d)
    return list(zip(n.tolist(), d.tolist(), strict=True))


def neighbours(x: float) -> list[float]:
    """Floats at x and next to it, of those that can be decays."""
    near = [float(np.nextafter(x, 0.0)), x, float(np.nextafter(x, 2.0))]
    return [each for each in near if 2.0**-16 <= each <= 1.0]


def midway(near: float) -> list[float]:
    """Decays in the middle of the best ratio to `near` and the next one above it, and next to that."""
    low = Fraction(near).limit_denominator(D)
    if low == 1:
        low = Fraction(D - 1, D)
    n, d = low.numerator, low.denominator
    least = pow(-n, -1, d) if d > 1 else 0  # (1 + q n) / (q d) is next to n/d if that is a ratio with denominator q
    q = D - (D - least) % d  # the largest such q
    return neighbours(float((low + Fraction(1 + q * n, q * d)) / 2))


@settings(deadline=None, max_examples=500)
@given(st.lists(st.floats(2.0**-16, 1.0), min_size=1, max_size=20))
def test_any_decay(gammas: list[float]) -> None:
    assert ratios(gammas) == [naive.decay_ratio(gamma) for gamma in gammas]


@settings(deadline=None, max_examples=500)
@given(st.integers(1, D).flatmap(lambda d: st.tuples(st.integers(1, d), st.just(d))))
def test_a_ratio_comes_back(ratio: tuple[int, int]) -> None:
    exact = Fraction(*ratio)
    for gamma in neighbours(float(exact)):
        assert ratios([gamma]) == [(exact.numerator, exact.denominator)]


@settings(deadline=None, max_examples=500)
@given(st.floats(2.0**-9, 1.0))
def test_midway_between_two_ratios(near: float) -> None:
    """The hardest decisions: floats next to the middle of two ratios that have none between them."""
    for gamma in midway(near):
        assert ratios([gamma]) == [naive.decay_ratio(gamma)]


@settings(deadline=None, max_examples=500)
@given(st.floats(2.0**-16, 2.0**-9))
def test_midway_between_two_small_ratios(near: float) -> None:
    """Decays here have bits below 2**-62, so where two ratios are as near as that, either will do."""
    for gamma in midway(near):
        (n, d), (best_n, best_d) = ratios([gamma])[0], naive.decay_ratio(gamma)
        distance, best = (abs(Fraction(*ratio) - Fraction(gamma)) for ratio in ((n, d), (best_n, best_d)))
        assert d <= D
        assert distance - best <= Fraction(1, 2**61)


@pytest.mark.parametrize(
    ("gamma", "ratio"),
    [
        (0.9, (9, 10)),
        (0.99, (99, 100)),
        (0.5, (1, 2)),
        (1 / 3, (1, 3)),
        (1.0, (1, 1)),
        (2.0**-16, (1, 65536)),
        (1 / 65535, (1, 65535)),
        (65535 / 65536, (65535, 65536)),
        (65534 / 65535, (65534, 65535)),
        (1 - 2.0**-17, (1, 1)),  # halfway between 65535/65536 and 1, which has the smaller denominator
        (np.nextafter(1 - 2.0**-17, 0.0), (65535, 65536)),
        (np.nextafter(1 - 2.0**-17, 1.0), (1, 1)),
        (np.nextafter(1.0, 0.0), (1, 1)),
        (np.nextafter(2.0**-16, 1.0), (1, 65536)),
        (np.nextafter(0.9, 0.0), (9, 10)),
        (np.nextafter(0.9, 1.0), (9, 10)),
        (np.nextafter(0.5, 0.0), (1, 2)),
        (np.sqrt(0.5), (33461, 47321)),
        ((np.sqrt(5.0) - 1.0) / 2.0, (28657, 46368)),
    ],
)
def test_hard_cases(gamma: float, ratio: tuple[int, int]) -> None:
    assert ratios([gamma]) == [ratio]
    assert naive.decay_ratio(gamma) == ratio


@pytest.mark.parametrize("q", [1, 2, 3, 10, 100])
def test_how_far_the_ratio_may_be_off(q: int) -> None:
    """As docs/theory.md says: beside p/q by half of its distance to the next ratio, 1 / (131072 q), and no more."""
    for p in {1, q - 1} - {0}:
        for side in (-1, 1):
            between = np.linspace(0, 1 / (q * (D - q)), 1001)[1:-1]
            gammas = [p / q + side * each for each in between if 2.0**-16 <= p / q + side * each <= 1]
            off = [abs(gamma - n / d) for gamma, (n, d) in zip(gammas, ratios(gammas), strict=True)]
            assert not off or 0.95 / (2 * D * q) < max(off) < 1.01 / (2 * (D - q) * q)


def test_many_at_once() -> None:
    gammas = np.random.default_rng(0).uniform(2.0**-16, 1.0, 5000)
    gammas[1::2] = 1.0 - gammas[1::2] ** 4 / 2  # schedules live near 1
    assert ratios(gammas.tolist()) == [naive.decay_ratio(gamma) for gamma in gammas]


def test_none_at_all() -> None:
    assert ratios([]) == []


# ---- fastrev.ratio -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.9, 1, np.float32(0.5), np.array(0.123456789), 2.0**-16])
def test_a_number_has_a_ratio_of_ints(decay: float) -> None:
    n, d = fastrev.ratio(decay)
    assert (n, d) == naive.decay_ratio(float(decay))
    assert type(n) is type(d) is int


@pytest.mark.parametrize("shape", [(1,), (0,), (3, 2), (2, 0)])
def test_an_array_has_arrays_of_its_shape(shape: tuple[int, ...]) -> None:
    decay = np.random.default_rng(0).uniform(0.1, 1.0, shape)
    n, d = fastrev.ratio(decay)
    assert n.shape == d.shape == shape
    assert n.dtype == d.dtype == np.int64
    pairs = [naive.decay_ratio(gamma) for gamma in decay.ravel().tolist()]
    assert list(zip(n.ravel().tolist(), d.ravel().tolist(), strict=True)) == pairs


@pytest.mark.parametrize(
    ("decay", "message"),
    [
        (0.0, r"^Argument 'decay' must be in \(0, 1\], not 0\. A decay of 0"),
        ([0.5, 1.5], r"^Argument 'decay' must be in \(0, 1\], not 1\.5\. Above 1"),
        ([0.5, 2.0**-17], r"^Argument 'decay' must be at least 2\*\*-16"),
        ([[0.5], [0.999999]], r"^Argument 'decay' must be 1 or at most 65535/65536.*, not 0\.999999\."),
        ([0.5, np.nan], r"^Argument 'decay' must be finite, not nan at decay\[1\]"),
        (None, r"^Argument 'decay' must be an array of real numbers"),
    ],
)
def test_what_has_no_ratio(decay: object, message: str) -> None:
    with pytest.raises(fastrev.ArgumentError, match=message):
        fastrev.ratio(decay)
