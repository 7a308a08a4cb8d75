"""Multiplication by n/d that loses nothing: the streamed Algorithm 3 against big integers, word for word."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrev import testing
from fastrev.kernels import information_buffer as buffer
from fastrev.kernels.information_buffer import BASE, BLOCK, HIGH, LOW, MAX_DENOMINATOR, START
from fastrev.testing import assert_same, assert_undone, in_turn
from tests import naive

Int64s = npt.NDArray[np.int64]
Ratio = tuple[int, int]

EDGE_VALUES = [0, -1, 1, 2**52 + 1, 2**53 - 1, -(2**53) - 1, 2**62, -(2**62), 2**62 + 1, 2**63 - 1, -(2**63)]
SIZES = (1, BLOCK - 1, BLOCK, BLOCK + 1, 1100)


class KernelBuffer:
    """The kernels with the methods of `naive.StreamingBuffer`, so that both can be put through the same."""

    def __init__(self, values: Sequence[int] | Int64s, heads: Sequence[int] | Int64s | None = None) -> None:
        self.values = np.array(values, np.int64)
        self.heads = np.full(self.values.size, START) if heads is None else np.array(heads, np.int64)
        self.words = np.empty(0, np.uint16)
        self.top = 0
        self.scratch = np.empty(2 * BLOCK)

    @property
    def tail(self) -> npt.NDArray[np.uint16]:
        return self.words[: self.top]

    def multiply(self, n: int | Int64s, d: int | Int64s, start: int = 0, stop: int | None = None) -> None:
        stop = self.values.size if stop is None else stop
        room = self.top + buffer.WORDS_PER_STEP * (stop - start)
        if self.words.size < room:
            self.words = np.append(self.tail, np.zeros(2 * room - self.top, np.uint16))
        self.top = buffer.multiply(self.values, self.heads, self.words, self.top, n, d, start, stop, self.scratch)

    def divide(self, n: int | Int64s, d: int | Int64s, start: int = 0, stop: int | None = None) -> None:
        stop = self.values.size if stop is None else stop
        self.top = buffer.divide(self.values, self.heads, self.words, self.top, n, d, start, stop, self.scratch)
        if self.top < 0:
            raise IndexError("pop from an empty tail")

    def information_bits(self) -> float:
        return 16.0 * self.top + float(np.log2(self.heads / START).sum())

    def state(self) -> dict[str, Any]:
        return {"values": self.values.copy(), "heads": self.heads.copy(), "tail": self.tail.copy()}


def twins(values: Sequence[int], heads: Sequence[int]) -> tuple[KernelBuffer, naive.StreamingBuffer]:
    """Make the kernel's buffer and the naive one, in the same state."""
    twin = naive.StreamingBuffer([int(c) for c in values])
    twin.heads = [int(h) for h in heads]
    return KernelBuffer(values, heads), twin


def assert_twins(kernel: KernelBuffer, twin: naive.StreamingBuffer) -> None:
    assert kernel.values.tolist() == twin.values
    assert kernel.heads.tolist() == twin.heads
    assert kernel.tail.tolist() == twin.tail


def check_against_twin(values: Sequence[int], heads: Sequence[int], ratios: Sequence[Ratio]) -> None:
    """Hold every state, there and back, against the naive twin's, and do and undo it all at once."""
    kernel, twin = twins(values, heads)
    for n, d in ratios:
        kernel.multiply(n, d)
        twin.multiply(n, d)
        assert_twins(kernel, twin)
    for n, d in reversed(ratios):
        kernel.divide(n, d)
        twin.divide(n, d)
        assert_twins(kernel, twin)
    assert_same(kernel.state(), KernelBuffer(values, heads).state())
    pairs = [(lambda n=n, d=d: kernel.multiply(n, d), lambda n=n, d=d: kernel.divide(n, d)) for n, d in ratios]
    assert_undone(*in_turn(pairs), kernel.state)


def edge_ks(n: int, d: int) -> list[int]:
    """All k of valid heads on a bound that multiplication by n/d compares with, and next to it."""
    least, most = LOW // n, (HIGH // BASE - 1) // n  # k is ambiguous from one to the other
    bounds = [least, most, HIGH // d, BASE * least, BASE * most, BASE * (most + 1), (HIGH - 1) // n]
    return sorted({k + by for k in bounds for by in (-1, 0, 1) if least <= k + by <= (HIGH - 1) // n})


def edge_heads(n: int, d: int) -> list[int]:
    heads = {k * n + s for k in edge_ks(n, d) for s in {0, n // 2, n - 1}}
    return sorted({h for h in heads if LOW <= h < HIGH} | {LOW, LOW + 1, HIGH - 1, START})


ratios = testing.ratios()


@st.composite
def states(draw: st.DrawFn, first: Ratio, sizes: Sequence[int] = SIZES) -> tuple[Int64s, Int64s]:
    """Values and heads, many of them at the edges of the first ratio."""
    size = draw(st.sampled_from(sizes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.integers(-(2**63), 2**63 - 1, size, endpoint=True) >> rng.integers(0, 63, size)
    values = np.where(rng.random(size) < 0.2, rng.choice(EDGE_VALUES, size), values)
    heads = np.exp2(rng.uniform(np.log2(LOW), np.log2(HIGH), size)).astype(np.int64).clip(LOW, HIGH - 1)
    return values, np.where(rng.random(size) < 0.3, rng.choice(edge_heads(*first), size), heads)


# ---- every state of a small machine --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("largest", "base"), [(2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8), (2, 5), (4, 9), (6, 7)]
)
def test_every_state_of_a_small_machine(largest: int, base: int) -> None:
    low, high = largest**2, base * (largest**2 + largest)
    reached = set()
    for d in range(1, largest + 1):
        values = list(range(-d, d))
        for n in range(1, d + 1):
            machine = naive.StreamingBuffer(values * (high - low), largest, base, start=low)
            machine.heads = heads = [h for h in range(low, high) for _ in values]
            machine.heads = list(heads)
            machine.multiply(n, d)  # asserts that heads stay in [low, high)
            if n < d:
                reached.update(machine.heads)
            assert all(
                abs(after * d - c * n) < d for after, c in zip(machine.values, values * (high - low), strict=True)
            )
            machine.divide(n, d)
            assert machine.values == values * (high - low)
            assert machine.heads == heads
            assert machine.tail == []
    assert max(reached) == high - 1
    assert low < min(reached) <= low + 2 * largest  # no step leaves low itself, but close to it


def test_constants() -> None:
    assert (MAX_DENOMINATOR, BASE) == (65536, 65536)
    assert (LOW, HIGH) == (2**32, 2**48 + 2**32)
    assert START == 0x9E3779B97F
    twin = naive.StreamingBuffer([])
    assert (twin.low, twin.high, twin.start) == (LOW, HIGH, START)
    assert HIGH < 2**52  # the kernel's reciprocals are at most one off below it


# ---- the kernel is its naive twin ----------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.data(), st.lists(ratios, min_size=1, max_size=5))
def test_kernel_is_its_naive_twin_word_for_word(data: st.DataObject, sequence: list[Ratio]) -> None:
    check_against_twin(*data.draw(states(sequence[0])), sequence)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.lists(ratios, min_size=1, max_size=40))
def test_long_runs_of_few_parameters(data: st.DataObject, sequence: list[Ratio]) -> None:
    check_against_twin(*data.draw(states(sequence[0], sizes=(1, 2, 15, 16, 17))), sequence)


@settings(deadline=None, max_examples=30)
@given(st.data(), st.lists(ratios, min_size=1, max_size=4))
def test_ranges_of_parameters(data: st.DataObject, sequence: list[Ratio]) -> None:
    values, heads = data.draw(states(sequence[0], sizes=(2, 600, 1100)))
    cut = data.draw(st.integers(0, values.size))
    kernel, twin = twins(values, heads)
    calls = [(n, d, *ends) for n, d in sequence for ends in ((0, cut), (cut, values.size))]
    for call in calls:
        kernel.multiply(*call)
        twin.multiply(*call)
        assert_twins(kernel, twin)
    for call in reversed(calls):
        kernel.divide(*call)
        twin.divide(*call)
        assert_twins(kernel, twin)
    assert_same(kernel.state(), KernelBuffer(values, heads).state())


@pytest.mark.parametrize(("n", "d"), testing.EDGE_RATIOS)
def test_every_edge_of_a_ratio(n: int, d: int) -> None:
    heads, values = edge_heads(n, d), [*EDGE_VALUES, d, -d, d - 1, d + 1, n, 1 - n]
    check_against_twin(values * len(heads), [h for h in heads for _ in values], [(n, d)])


# ---- worked numbers ------------------------------------------------------------------------------------------

# 9/10: LOW div 9 = 477218588 <= k <= 477225870 = (HIGH/b - 1) div 9 is ambiguous, k >= HIGH div 10 is too large.
# 1/65536 spills whatever has k >= 2**32 + 2**16, and k is the head itself.
WORKED = [
    ((9, 10), 477218588, [0]),
    ((9, 10), 477218589, [0]),
    ((9, 10), 477225870, [0]),
    ((9, 10), 477225871, []),
    ((9, 10), 28147927167794, []),  # HIGH div 10 - 1
    ((9, 10), 28147927167795, [0x3333]),  # HIGH div 10 = 429503283 b + 0x3333
    ((9, 10), 477218588 * BASE - 1, [0xFFFF]),  # leaves LOW div 9 - 1: only a spill can have
    ((9, 10), 477218588 * BASE, [0, 1]),
    ((9, 10), 477218588 * BASE + 0xABCD, [0xABCD, 1]),
    ((9, 10), 477225870 * BASE, [0, 1]),
    ((1, 65536), LOW, [0]),
    ((1, 65536), LOW + 65535, [0]),
    ((1, 65536), LOW + 65536, [0]),  # HIGH div 65536: spills 0 and leaves 65537
    ((1, 65536), HIGH - 1, [0xFFFF, 1]),  # leaves HIGH/b - 1, the last ambiguous k
    ((1, 65536), LOW * BASE, [0, 1]),
    ((1, 65536), LOW * BASE - 1, [0xFFFF]),
    ((65535, 65536), 65537, [0]),  # LOW div 65535
    ((65535, 65536), 65538, [0]),  # (HIGH/b - 1) div 65535
    ((65535, 65536), 65539, []),
    ((65535, 65536), HIGH // 65536 - 1, []),
    ((65535, 65536), HIGH // 65536, [0, 1]),
    ((65535, 65536), HIGH // 65536 + 1, [1, 1]),
    ((7, 7), LOW // 7 + 1, []),  # n = d does nothing at all
]  # fmt: skip


@pytest.mark.parametrize(("ratio", "k", "words"), WORKED)
@pytest.mark.parametrize("c", EDGE_VALUES)
def test_words_of_one_step(ratio: Ratio, k: int, words: list[int], c: int) -> None:
    n, d = ratio
    for s in sorted({0, n - 1}):
        head = k * n + s
        if not LOW <= head < HIGH:
            continue
        kernel, twin = twins([c], [head])
        kernel.multiply(n, d)
        twin.multiply(n, d)
        assert kernel.tail.tolist() == words
        assert_twins(kernel, twin)
        kernel.divide(n, d)
        assert_same(kernel.state(), KernelBuffer([c], [head]).state())


def test_one_step_by_hand() -> None:
    # s = 7 mod 9 from the head, 9 c + s = 9 * -25 + 7 = -218 = 10 * -22 + 2, and 2 goes on the head.
    kernel = KernelBuffer([-25], [9 * 10**10 + 7])
    kernel.multiply(9, 10)
    assert kernel.values.tolist() == [-22]
    assert kernel.heads.tolist() == [10 * 10**10 + 2]
    assert kernel.tail.tolist() == []


@pytest.mark.parametrize(
    ("words", "n", "d", "k"),
    [
        ([], 1, 2, LOW - 1),  # had spilled
        ([], 9, 10, LOW // 9 - 1),
        ([], 1, 2, LOW),  # ambiguous: the flag is missing
        ([1], 1, 2, LOW),  # had spilled, says the flag: the word is missing
        ([1], 65535, 65536, 65537),
    ],
)
def test_a_missing_word_is_an_error_not_a_guess(words: list[int], n: int, d: int, k: int) -> None:
    kernel, twin = twins([5], [k * d])
    kernel.words, kernel.top = np.array(words, np.uint16), len(words)
    twin.tail = list(words)
    with pytest.raises(IndexError):
        twin.divide(n, d)
    with pytest.raises(IndexError):
        kernel.divide(n, d)
    assert kernel.top == -1


def test_nothing_is_popped_for_a_ratio_of_one() -> None:
    kernel = KernelBuffer([1, -2], [LOW, HIGH - 1])
    before = kernel.state()
    for d in (1, 2, 65535, 65536):
        kernel.divide(d, d)
        kernel.multiply(d, d)
    assert_same(kernel.state(), before)


def test_no_parameters() -> None:
    kernel = KernelBuffer([])
    kernel.multiply(1, 2)
    kernel.divide(1, 2)
    assert kernel.top == 0


# ---- a ratio for each element --------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), testing.EDGE_RATIOS)
def test_equal_ratios_are_one_ratio(n: int, d: int) -> None:
    edges, values = edge_heads(n, d), [*EDGE_VALUES, d, -d]
    heads = [h for h in edges for _ in values]
    one, each = (KernelBuffer(values * len(edges), heads) for _ in range(2))
    arrays = np.full(one.values.size, n), np.full(one.values.size, d)
    for _ in range(3):
        one.multiply(n, d)
        each.multiply(*arrays)
        assert_same(each.state(), one.state())
    for _ in range(3):
        one.divide(n, d)
        each.divide(*arrays)
        assert_same(each.state(), one.state())


@settings(deadline=None, max_examples=60)
@given(st.sampled_from((*SIZES, 15, 16, 17)), st.integers(0, 2**32 - 1), st.integers(1, 5), st.data())
def test_a_ratio_for_each_is_the_naive_twin(size: int, seed: int, steps: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    some = np.array(data.draw(st.lists(ratios, min_size=1, max_size=8)))
    sequence = [some[rng.integers(len(some), size=size)].T.copy() for _ in range(steps)]
    values = rng.integers(-(2**63), 2**63 - 1, size, endpoint=True) >> rng.integers(0, 63, size)
    heads = [rng.choice(edge_heads(*ratio)) for ratio in sequence[0].T.tolist()]
    cut = data.draw(st.integers(0, size))
    kernel, twin = twins(values.tolist(), heads)
    calls = [(n, d, *ends) for n, d in sequence for ends in ((0, cut), (cut, size))]
    for n, d, *ends in calls:
        kernel.multiply(n, d, *ends)
        for p in range(*ends):
            twin.multiply(n[p], d[p], p, p + 1)
        assert_twins(kernel, twin)
    for n, d, *ends in reversed(calls):
        kernel.divide(n, d, *ends)
        for p in reversed(range(*ends)):
            twin.divide(n[p], d[p], p, p + 1)
        assert_twins(kernel, twin)
    assert_same(kernel.state(), KernelBuffer(values, heads).state())


def test_words_of_one_step_for_each() -> None:
    """All the worked numbers side by side, each with its own ratio."""
    n, d = np.array([ratio for ratio, _, _ in WORKED]).T.copy()
    heads = [k * n_p for (_, k, _), n_p in zip(WORKED, n.tolist(), strict=True)]
    expected = [word for (_, _, words), h in zip(WORKED, heads, strict=True) for word in words if LOW <= h < HIGH]
    inside = np.array([LOW <= h < HIGH for h in heads])
    n, d, heads = n[inside], d[inside], [h for h in heads if LOW <= h < HIGH]
    kernel = KernelBuffer(np.arange(len(heads)) - 9, heads)
    before = kernel.state()
    kernel.multiply(n, d)
    assert kernel.tail.tolist() == expected
    assert len(expected) > 15
    kernel.divide(n, d)
    assert_same(kernel.state(), before)


def test_elements_with_a_ratio_of_one_stay_as_they_are() -> None:
    """Between others that spill, at heads that would spill or be ambiguous."""
    heads = np.array([LOW, HIGH - 1, LOW + 1, HIGH - 1, START, HIGH - 1])
    n, d = np.array([[1, 1, 65536, 65536, 7, 1], [1, 2, 65536, 65536, 7, 65536]])
    kernel = KernelBuffer(np.array(EDGE_VALUES[-6:]), heads)
    before = kernel.state()
    kernel.multiply(n, d)
    kept = n == d
    assert kernel.values[kept].tolist() == before["values"][kept].tolist()
    assert kernel.heads[kept].tolist() == before["heads"][kept].tolist()
    assert (kernel.heads != heads).tolist() == (~kept).tolist()
    assert kernel.top == 4  # a word and a flag of each of the others
    kernel.divide(n, d)
    assert_same(kernel.state(), before)


def test_a_missing_word_of_one_element_is_an_error() -> None:
    kernel = KernelBuffer([5, 5], [START, LOW - 1])
    with pytest.raises(IndexError):
        kernel.divide(np.array([9, 1]), np.array([10, 2]))


# ---- what it costs, and how it rounds ------------------------------------------------------------------------


def random_ratios(seed: int, steps: int = 2000) -> list[Ratio]:
    rng = np.random.default_rng(seed)
    return [(int(rng.integers(1, d, endpoint=True)), int(d)) for d in rng.integers(1, 65536, steps, endpoint=True)]


RUNS = {
    "1/2": [(1, 2)] * 2000,
    "1/4": [(1, 4)] * 2000,
    "1/65536": [(1, 65536)] * 500,
    "9/10": [(9, 10)] * 2000,
    "99/100": [(99, 100)] * 2000,
    "65535/65536": [(65535, 65536)] * 2000,
    "random": random_ratios(0),
    "other random": random_ratios(1),
    "powers of two": [(1, 2 ** (t * t % 17)) for t in range(2000)],
    "close to 1": [(d - 1, d) for _, d in random_ratios(2) if d > 1],
}


@pytest.mark.parametrize("name", RUNS)
def test_stored_bits_are_those_of_the_big_integers(name: str) -> None:
    values = [0, -1, 2**51 + 12345, -(2**62) - 987654321, 2**63 - 1]
    kernel, paper = KernelBuffer(values), naive.BigIntegerBuffer(values)
    law = 0.0
    for n, d in RUNS[name]:
        kernel.multiply(n, d)
        paper.multiply(n, d)
        law += math.log2(d / n)
    assert abs(kernel.information_bits() / len(values) - law) < 64  # the law: a constant, whatever the run
    assert kernel.information_bits() / len(values) == pytest.approx(law, rel=1e-9, abs=1e-3)  # no flag came in these
    assert kernel.information_bits() == pytest.approx(paper.information_bits(), rel=1e-9, abs=1e-3 * len(values))


def test_flags_cost_next_to_nothing() -> None:
    rng = np.random.default_rng(0)
    size, run = 20_000, random_ratios(3, steps=100)
    heads = np.exp2(rng.uniform(np.log2(LOW), np.log2(HIGH), size)).astype(np.int64)
    kernel = KernelBuffer(rng.integers(-(2**62), 2**62, size), heads)
    before = kernel.information_bits()
    for n, d in run:
        kernel.multiply(n, d)
    excess = kernel.information_bits() - before - size * sum(math.log2(d / n) for n, d in run)
    assert -1e-6 < excess / (size * len(run)) < 1e-4  # bits a parameter a step


@settings(deadline=None, max_examples=60)
@given(st.data(), st.lists(ratios, min_size=1, max_size=8))
def test_each_product_is_within_one_grid_step(data: st.DataObject, sequence: list[Ratio]) -> None:
    values, heads = data.draw(states(sequence[0], sizes=(50,)))
    kernel = KernelBuffer(values, heads)
    exact = [Fraction(c) for c in values.tolist()]
    for steps, (n, d) in enumerate(sequence, 1):
        before = kernel.values.tolist()
        kernel.multiply(n, d)
        exact = [c * n / d for c in exact]
        assert all(abs(c * d - b * n) < d for c, b in zip(kernel.values.tolist(), before, strict=True))
        assert all(abs(c - e) < steps for c, e in zip(kernel.values.tolist(), exact, strict=True))


def test_the_published_order_is_up_to_n_steps_off() -> None:
    """Why the pop comes before the push: it stores the same, and errs by one grid step instead of n."""
    values = list(range(-(2**20), 2**20, 1009))
    errors = {}
    for step in (naive.exchange_digits, naive.rescale):
        big = naive.BigIntegerBuffer(values, step)
        big.multiply(65535, 65536)
        errors[step.__name__] = max(
            abs(Fraction(65535 * c, 65536) - r) for c, r in zip(values, big.values, strict=True)
        )
        big.divide(65535, 65536)
        assert big.values == values
        assert big.information == [START] * len(values)
    assert 65535 // 2 < errors["exchange_digits"] < 65535
    assert errors["rescale"] < 1


@settings(deadline=None, max_examples=60)
@given(st.data(), st.lists(ratios, min_size=1, max_size=20))
def test_streaming_is_rescaling_a_big_integer(data: st.DataObject, sequence: list[Ratio]) -> None:
    """While nothing has spilled, the head is the big integer; values differ then only by what a spill hides."""
    values = data.draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
    kernel, big = KernelBuffer(values), naive.BigIntegerBuffer(values, naive.rescale)
    for n, d in sequence:
        kernel.multiply(n, d)
        big.multiply(n, d)
        if kernel.top:
            return
        assert kernel.values.tolist() == big.values
        assert kernel.heads.tolist() == big.information


# ---- the format ----------------------------------------------------------------------------------------------


def test_golden_words() -> None:
    """A fixed run pins the format: words, flags, heads and values."""
    golden = 0x9E3779B97F4A7C15
    values = np.array([p * golden % 2**64 - 2**63 for p in range(1, 701)], np.int64)
    heads = np.array([LOW + p * golden % (HIGH - LOW) for p in range(1, 701)], np.int64)
    heads[::100], heads[50::100] = LOW, 9 * (LOW // 9) * BASE  # both flags
    kernel = KernelBuffer(values, heads)
    for n, d in [(9, 10), (1, 2), (65535, 65536), (1, 65536), (12345, 54321), (3, 3), (1, 3), (99, 100)] * 2:
        kernel.multiply(n, d)
    assert kernel.top == 2107
    assert kernel.tail[:8].tolist() == [0, 58031, 35963, 59554, 37486, 39010, 16941, 0]
    assert kernel.tail[-8:].tolist() == [58716, 48314, 55353, 62424, 58913, 422, 3196, 20775]
    assert kernel.heads[:3].tolist() == [3771136720920, 3586320873835, 1608301730661]
    assert kernel.values[:3].tolist() == [577368, -1291036, 1732106]
    little_endian = [kernel.tail.astype("<u2"), kernel.heads.astype("<i8"), kernel.values.astype("<i8")]
    digest = hashlib.sha256(b"".join(array.tobytes() for array in little_endian)).hexdigest()
    assert digest == "0932a38775bafd4f35cbfcef76fcdbb998110fd279604f2555b18fb5e4f1b889"
