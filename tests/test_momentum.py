"""One step of SGD with momentum: word for word its naive twin, undone exactly even where it left the grid."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrev import testing
from fastrev.kernels import information_buffer as buffer
from fastrev.kernels import momentum, outcomes
from fastrev.testing import assert_same, assert_undone, in_turn
from tests import naive

Floats = npt.NDArray[Any]
Row = tuple[float, int, int]  # lr, n, d of one group
GRADIENT_DTYPES = [np.float64, np.float32]


class KernelSGD:
    """The kernels with the methods of `naive.NaiveSGD`."""

    def __init__(self, w0: Sequence[int], v0: Sequence[int], groups: Sequence[tuple[int, int]]) -> None:
        self.w, self.v = np.array(w0, np.int64), np.array(v0, np.int64)
        self.heads = np.full(self.w.size, buffer.START)
        self.words = np.zeros(100 * self.w.size + 100, np.uint16)
        self.top = 0
        self.groups = list(groups)
        self.scratch = np.empty(2 * buffer.BLOCK)

    def step(self, g: Floats, rows: Sequence[Row]) -> bool:
        fine = True
        for (start, stop), (lr, n, d) in zip(self.groups, rows, strict=True):
            self.top, group_fine = momentum.step_span(
                self.w, self.v, self.heads, self.words, self.top, g, lr, n, d, start, stop, self.scratch
            )
            fine &= group_fine
        return fine

    def undo_position(self, rows: Sequence[Row]) -> None:
        for (start, stop), (lr, _, _) in zip(reversed(self.groups), reversed(rows), strict=True):
            momentum.undo_position_of_span(self.w, self.v, lr, start, stop)

    def undo_velocity(self, g: Floats, rows: Sequence[Row]) -> None:
        for (start, stop), (_, n, d) in zip(reversed(self.groups), reversed(rows), strict=True):
            self.top = momentum.undo_velocity_of_span(
                self.v, self.heads, self.words, self.top, g, n, d, start, stop, self.scratch
            )
            assert self.top >= 0

    def unstep(self, g: Floats, rows: Sequence[Row]) -> None:
        self.undo_position(rows)
        self.undo_velocity(g, rows)

    def state(self) -> dict[str, Any]:
        return {
            "w": self.w.copy(), "v": self.v.copy(), "heads": self.heads.copy(), "tail": self.words[: self.top].copy()
        }  # fmt: skip


rates = st.one_of(st.sampled_from([0.0, 0.1, 1.0]), st.floats(0.0, 2.0))
rows = st.tuples(rates, testing.ratios()).map(lambda row: (row[0], *row[1]))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([(0, 3), (0, 1, 2), (0, 5, 5, 9), (0, 511, 600), (0, 64, 576, 1089)]),
    st.sampled_from(GRADIENT_DTYPES),
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_kernel_is_its_naive_twin_word_for_word(
    bounds: tuple[int, ...], dtype: Any, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    groups, size = list(pairwise(bounds)), bounds[-1]
    w0, v0 = rng.uniform(-100.0, 100.0, (2, size))
    steps = data.draw(st.lists(st.lists(rows, min_size=len(groups), max_size=len(groups)), min_size=1, max_size=4))
    gradients = [(rng.normal(size=size) * 10.0 ** rng.integers(-9, 2)).astype(dtype) for _ in steps]

    twin = naive.NaiveSGD(w0, v0, groups)
    kernel = KernelSGD(twin.w, twin.v, groups)
    start = kernel.state()

    def assert_twins() -> None:
        assert kernel.w.tolist() == twin.w
        assert kernel.v.tolist() == twin.v
        assert kernel.heads.tolist() == twin.buffer.heads
        assert kernel.words[: kernel.top].tolist() == twin.buffer.tail

    for g, step in zip(gradients, steps, strict=True):
        assert kernel.step(g, step)
        twin.step(g.astype(np.float64), *zip(*step, strict=True))
        assert_twins()
    for g, step in zip(reversed(gradients), reversed(steps), strict=True):
        lr, n, d = zip(*step, strict=True)
        kernel.undo_position(step)
        twin.undo_position(lr)
        assert_twins()
        kernel.undo_velocity(g, step)
        twin.undo_velocity(g.astype(np.float64), n, d)
        assert_twins()
    assert_same(kernel.state(), start)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 70), st.sampled_from(GRADIENT_DTYPES), st.integers(0, 2**32 - 1), st.data())
def test_any_step_is_undone_even_off_the_grid(size: int, dtype: Any, seed: int, data: st.DataObject) -> None:
    """All states, all gradients, NaN and infinities too, all learning rates."""
    rng = np.random.default_rng(seed)
    kernel = KernelSGD(*rng.integers(-(2**63), 2**63 - 1, (2, size), endpoint=True), [(0, size)])
    for lr, n, d in data.draw(st.lists(rows, min_size=1, max_size=6)):
        g = np.exp2(rng.uniform(-60, 12 if rng.random() < 0.5 else 127, size)) * rng.choice([-1, 1], size)
        g[rng.random(size) < 0.05] = np.nan
        g[rng.random(size) < 0.05] = -np.inf
        call = (g.astype(dtype), [(lr * 10.0 ** data.draw(st.sampled_from([0, 4, 300])), n, d)])
        assert_undone(lambda call=call: kernel.step(*call), lambda call=call: kernel.unstep(*call), kernel.state)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 70), st.integers(0, 2**32 - 1), st.lists(rows, min_size=1, max_size=30))
def test_many_steps(size: int, seed: int, sequence: list[Row]) -> None:
    rng = np.random.default_rng(seed)
    kernel = KernelSGD([naive.to_grid(x) for x in rng.normal(size=size)], [0] * size, [(0, size)])
    calls = [(rng.normal(size=size), [row]) for row in sequence]
    pairs = [(lambda call=call: kernel.step(*call), lambda call=call: kernel.unstep(*call)) for call in calls]
    assert_undone(*in_turn(pairs), kernel.state)


def test_one_step_by_hand() -> None:
    # v = 1/2 * 3 - 1/2 * 4 = -1/2, w = 1 + 1/4 * -1/2 = 7/8
    kernel = KernelSGD([1 << 52], [3 << 52], [(0, 1)])
    assert kernel.step(np.array([4.0]), [(0.25, 1, 2)])
    assert kernel.v.tolist() == [-(1 << 51)]
    assert kernel.w.tolist() == [7 << 49]


def test_a_decay_of_one_keeps_the_velocity() -> None:
    kernel = KernelSGD([0, 0], [5, -7], [(0, 2)])
    assert kernel.step(np.array([1e3, -1e3]), [(0.0, 1, 1)])
    assert (kernel.w.tolist(), kernel.v.tolist(), kernel.top) == ([0, 0], [5, -7], 0)


def test_only_the_group_is_touched() -> None:
    kernel = KernelSGD(range(9), range(9), [(3, 6)])
    before = kernel.state()
    kernel.step(np.full(9, 0.5), [(0.1, 1, 3)])
    for name in ("w", "v", "heads"):
        changed = np.flatnonzero(kernel.state()[name] != before[name])
        assert changed.tolist() == [3, 4, 5], name


@pytest.mark.parametrize("dtype", GRADIENT_DTYPES)
@pytest.mark.parametrize("place", [0, 1, 40, 66])
@pytest.mark.parametrize(
    ("w", "v", "g", "lr", "n", "d", "fine"),
    [
        (0.0, 0.0, np.nan, 0.1, 9, 10, False),
        (0.0, 0.0, np.inf, 0.1, 9, 10, False),
        (0.0, 0.0, -np.inf, 0.1, 9, 10, False),
        (0.0, 0.0, np.nan, 0.0, 9, 10, False),
        (0.0, 0.0, np.nan, 0.1, 1, 1, False),  # 0 times NaN
        (0.0, 0.0, 1e30, 0.0, 1, 2, False),
        (0.0, 0.0, 4096.0, 0.0, 1, 2, False),  # a change of just 2048
        (0.0, 0.0, 4095.0, 0.0, 1, 2, True),
        (0.0, 2047.0, -4095.0, 0.0, 1, 2, False),  # 1023.5 + 2047.5
        (0.0, 2047.0, 4095.0, 0.0, 1, 2, True),  # 1023.5 - 2047.5
        (2047.0, 0.0, -4.0, 1.0, 1, 2, False),  # w = 2047 + 2
        (2046.0, 0.0, -2.0, 1.0, 1, 2, True),  # w = 2046 + 1
        (-2047.0, 0.0, 4.0, 1.0, 1, 2, False),
        (0.0, 1.0, 0.0, 1e4, 1, 2, False),  # the step alone is too large
        (0.0, 1.0, 0.0, 1e308, 1, 2, False),
        (0.0, 0.0, 0.0, 1e308, 1, 2, True),
        (1.0, 1.0, 1.0, 0.1, 9, 10, True),
    ],
)
def test_what_is_refused(
    w: float, v: float, g: float, lr: float, n: int, d: int, fine: bool, place: int, dtype: Any
) -> None:
    size = 67
    w0, v0, gradient = [0] * size, [0] * size, np.zeros(size, dtype)
    w0[place], v0[place], gradient[place] = naive.to_grid(w), naive.to_grid(v), g
    kernel = KernelSGD(w0, v0, [(0, size)])
    before = kernel.state()
    assert kernel.step(gradient, [(lr, n, d)]) == fine
    kernel.unstep(gradient, [(lr, n, d)])
    assert_same(kernel.state(), before)
    if not fine:
        found = momentum._diagnose(kernel.w, kernel.v, gradient, lr, n, d, 0, size)
        assert found == (outcomes.OFF_GRID if np.isfinite(g) else outcomes.NOT_FINITE, place)
