"""The exact arithmetic as users meet it: what is done can be undone, and what is refused changes nothing."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import fastrev
from fastrev import ArgumentError, DivergenceError, ReversalError, ReversibleArray, ReversibleSGD, testing
from fastrev.testing import assert_same, assert_undone, in_turn
from tests import naive

Floats = npt.NDArray[np.float64]

STEP = 2.0**-52
LARGEST = float(np.nextafter(2048.0, 0.0))

ratios, decays = testing.ratios(), testing.decays()


def array_state(a: ReversibleArray) -> dict[str, Any]:
    cursor = a._cursor.copy()
    return {
        "grid": a._flat.copy(), "heads": a._heads.copy(), "tail": a._tail[: cursor[1]].copy(), "cursor": cursor,
        "made": a._made[: cursor[0]].copy(), "bits": a.bits,
    }  # fmt: skip


def sgd_state(sgd: ReversibleSGD) -> dict[str, Any]:
    w, _, v, heads, tail, cursor = (array.copy() for array in sgd._state)
    made = sgd._made[: cursor[0]].copy()
    return {
        "w": w, "v": v, "heads": heads, "tail": tail[: cursor[1]], "cursor": cursor, "made": made, "bits": sgd.bits
    }  # fmt: skip


# ---- ReversibleArray: laws -----------------------------------------------------------------------------------


@st.composite
def runs(draw: st.DrawFn) -> tuple[Floats, list[tuple[str, tuple[Any, ...]]]]:
    """Draw an array of any shape, and calls that keep it on the grid."""
    shape = draw(array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
    terms = st.one_of(st.floats(-100.0, 100.0), testing.grid_values(shape, 100.0))
    ds = arrays(np.int64, shape, elements=st.integers(1, 65536))
    each = st.one_of(st.tuples(st.just(1), ds), st.tuples(arrays(np.int64, shape, elements=st.integers(1, 9)), ds).map(
        lambda pair: (np.minimum(*pair), pair[1])
    ), ds.map(lambda d: (d, 65536)))  # fmt: skip
    call = st.one_of(
        st.tuples(st.just("mul"), st.one_of(ratios, each if shape else ratios)),
        st.tuples(st.just("add"), st.tuples(terms)),
        st.tuples(st.just("sub"), st.tuples(terms)),
    )
    return draw(testing.grid_values(shape, 500.0)), draw(st.lists(call, max_size=12))


@settings(deadline=None, max_examples=100)
@given(runs())
def test_calls_in_the_opposite_order_bring_every_bit_back(
    run: tuple[Floats, list[tuple[str, tuple[Any, ...]]]],
) -> None:
    x, calls = run
    a = ReversibleArray(x)
    undo = {"mul": "div", "add": "sub", "sub": "add"}
    pairs = [
        (
            lambda name=name, args=args: getattr(a, name)(*args),
            lambda name=name, args=args: getattr(a, undo[name])(*args),
        )
        for name, args in calls
    ]
    start = array_state(a)
    assert_undone(*in_turn(pairs), lambda: array_state(a))
    assert_same(array_state(a), start)
    a.verify()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(-2047.0, 2047.0), max_size=10), st.lists(ratios, min_size=1, max_size=50))
def test_mul_is_the_naive_streaming_buffer(x: list[float], sequence: list[tuple[int, int]]) -> None:
    a, twin = ReversibleArray(x), naive.StreamingBuffer([naive.to_grid(each) for each in x])
    for n, d in sequence:
        a.mul(n, d)
        twin.multiply(n, d)
    assert a._flat.tolist() == twin.values
    assert a._heads.tolist() == twin.heads
    assert a._tail[: a._cursor[1]].tolist() == twin.tail
    assert a.bits == pytest.approx(twin.information_bits(), abs=1e-6)
    for n, d in reversed(sequence):
        a.div(n, d)
    assert_same(array_state(a), array_state(ReversibleArray(x)))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(-1000.0, 1000.0), max_size=10), st.floats(-1000.0, 1000.0))
def test_addition_is_exact_on_the_grid(x: list[float], y: float) -> None:
    a = ReversibleArray(x)
    a.add(y)
    assert a._flat.tolist() == [naive.to_grid(each) + naive.to_grid(y) for each in x]
    a.sub(y)
    assert a._flat.tolist() == [naive.to_grid(each) for each in x]


def largest_on_the_grid(sign: int) -> ReversibleArray:
    """Make the last integer of the grid: 2**63 - 1 steps, or -2**63."""
    a = ReversibleArray([sign * LARGEST])
    a.add(sign * (2**10 - (sign > 0)) * STEP)
    assert a._flat.tolist() == [2**63 - 1 if sign > 0 else -(2**63)]
    return a


@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 2), (1, 3), (9, 10), (5051, 15706), (65535, 65536), (1, 65536)])
@pytest.mark.parametrize("sign", [1, -1])
def test_mul_is_undone_at_the_ends_of_the_grid(sign: int, n: int, d: int) -> None:
    for a in (ReversibleArray([0.0, sign * LARGEST]), largest_on_the_grid(sign)):
        assert_undone(lambda: a.mul(n, d), lambda: a.div(n, d), lambda: array_state(a))


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 200), ratios)
def test_mul_is_undone_close_to_the_ends_of_the_grid(floats_below: int, ratio: tuple[int, int]) -> None:
    x = 2048.0 - floats_below * 2.0**-42
    a = ReversibleArray([x, -x])
    assert_undone(lambda: a.mul(*ratio), lambda: a.div(*ratio), lambda: array_state(a))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (100,), (7, 3), (1000,)])
def test_a_fresh_array_holds_no_bits(shape: tuple[int, ...]) -> None:
    a = ReversibleArray(np.ones(shape))
    assert a.bits == 0.0
    a.mul(9, 10)
    a.div(9, 10)
    assert a.bits == 0.0


def test_bits_are_what_multiplications_lose() -> None:
    a = ReversibleArray(np.linspace(-1.0, 1.0, 50))
    for _ in range(300):
        a.mul(1, 2)
    a.mul(9, 10)
    assert a.bits == pytest.approx(50 * (300 + np.log2(10 / 9)), abs=0.1)


def test_value_keeps_shape_and_is_a_copy() -> None:
    x = np.arange(6.0).reshape(2, 3)
    a = ReversibleArray(x)
    a.value[0, 0] = 99.0
    np.testing.assert_array_equal(a.value, x)
    x[0, 0] = 99.0
    assert a.value[0, 0] == 0.0
    assert ReversibleArray(2.5).value.shape == ()
    assert ReversibleArray([1, 2]).value.dtype == np.float64
    assert repr(ReversibleArray([1.0])) == "ReversibleArray(array([1.]), bits=0.0)"


def test_non_contiguous_arrays_are_taken() -> None:
    x = np.arange(24.0).reshape(4, 6)
    a = ReversibleArray(x.T[::2])
    a.add(x.T[1::2])
    np.testing.assert_array_equal(a.value, x.T[::2] + x.T[1::2])


# ---- ReversibleArray: what is refused ------------------------------------------------------------------------

RATIO_FAULTS = [
    ((11, 10), "Argument 'n' must be at most d = 10, not 11. A growing ratio has no stored digits to take"),
    ((1, 65537), "Argument 'd' must be at most 65536, not 65537."),
    ((1, 2**70), "Argument 'd' must be below 2**63, not 1180591620717411303424."),
    ((np.ma.array([1, 2], mask=[0, 1]), 3), "Argument 'n' must be an array of numbers, not a masked array"),
    ((0, 10), "Argument 'n' must be at least 1, not 0."),
    ((-1, 10), "Argument 'n' must be at least 1, not -1."),
    ((1, 0), "Argument 'd' must be at least 1, not 0."),
    ((0.9, 1), "Argument 'n' must be a whole number, not 0.9. Pass an int of at least 1."),
    ((9.0, 10), "Argument 'n' must be a whole number, not 9.0."),
    ((9, 10.0), "Argument 'd' must be a whole number, not 10.0."),
    ((True, 2), "Argument 'n' must be a whole number, not True."),
    ((1, np.True_), f"Argument 'd' must be a whole number, not {np.True_!r}."),  # NumPy 1 says True
    (("1", 2), "Argument 'n' must be a whole number, not '1'."),
    ((None, 2), "Argument 'n' must be a whole number, not None."),
]
TERM_FAULTS = [
    ([1.0, 2.0], "Argument 'y' must be a number or have shape (3,), not shape (2,)."),
    ([[1.0, 2.0, 3.0]], "Argument 'y' must be a number or have shape (3,), not shape (1, 3)."),
    ([1.0], "Argument 'y' must be a number or have shape (3,), not shape (1,)."),
    ([0.0, np.nan, 0.0], "Argument 'y' must be finite, not nan at y[1]."),
    (np.inf, "Argument 'y' must be finite, not inf."),
    (2048.0, "Argument 'y' must be within the grid's range, magnitudes below 2048, not up to 2048."),
    (-1e300, "Argument 'y' must be within the grid's range, magnitudes below 2048, not up to 1e+300."),
    (True, "Argument 'y' must be an array of real numbers, not of dtype bool."),
    (1j, "Argument 'y' must be an array of real numbers, not of dtype complex128."),
    ("1", "Argument 'y' must be an array of real numbers, not of dtype <U1."),
    (None, "Argument 'y' must be an array of real numbers, not None."),
    ([[1.0], [1.0, 2.0]], "Argument 'y' must be a rectangular array, not a ragged sequence."),
]
RATIOS_FAULTS = [
    (([9, 9], 10), "Argument 'n' must be a whole number or have shape (3,), not shape (2,)."),
    ((9, [[10, 10, 10]]), "Argument 'd' must be a whole number or have shape (3,), not shape (1, 3)."),
    (([1.0, 1.0, 1.0], 10), "Argument 'n' must be whole numbers, not an array of dtype float64. Convert it with"),
    (([True] * 3, 10), "Argument 'n' must be whole numbers, not an array of dtype bool."),
    (([9, [1]], 10), "Argument 'n' must be a rectangular array, not a ragged sequence."),
    (([9, 9, 0], 10), "Argument 'n' must be at least 1, not 0 at n[2]."),
    (([9, -1, 0], [10, 10, 10]), "Argument 'n' must be at least 1, not -1 at n[1]."),
    (([9, 11, 9], 10), "Argument 'n' must be at most d = 10, not 11 at n[1]. A growing ratio has no stored digits"),
    ((9, [10, 10, 8]), "Argument 'n' must be at most d = 8, not 9 at n[2]."),
    ((9, [10, 10, -8]), "Argument 'n' must be at most d = -8, not 9 at n[2]."),
    ((9, [10, 65537, 8]), "Argument 'd' must be at most 65536, not 65537 at d[1]. fastrev.ratio(x) finds the"),
    ((1, np.array([2, 2**64 - 1, 2], np.uint64)), "Argument 'd' must be at most 65536, not 18446744073709551615 at"),
    ((0, [1, 2, 3]), "Argument 'n' must be at least 1, not 0."),
    ((0.5, [1, 2, 3]), "Argument 'n' must be a whole number, not 0.5."),
]  # fmt: skip
RATIO_FAULTS += RATIOS_FAULTS
ARRAY_FAULTS = [
    *[("mul", args, message) for args, message in RATIO_FAULTS],
    *[("div", args, message) for args, message in RATIO_FAULTS],
    *[("add", (y,), message) for y, message in TERM_FAULTS],
    *[("sub", (y,), message) for y, message in TERM_FAULTS],
    ("add", (LARGEST,), "Argument 'y' must keep the sum within the grid's range, magnitudes below 2048, not larger."),
    ("sub", (-LARGEST,), "Argument 'y' must keep the difference within the grid's range, magnitudes below 2048"),
]


@pytest.mark.parametrize(("method", "args", "message"), ARRAY_FAULTS)
def test_array_unchanged_by_a_bad_call(method: str, args: tuple[Any, ...], message: str) -> None:
    a = ReversibleArray([1.0, -2.0, 3.0])
    a.mul(9, 10)
    before = array_state(a)
    with pytest.raises(ArgumentError, match="^" + re.escape(message)):
        getattr(a, method)(*args)
    assert_same(array_state(a), before)
    a.div(9, 10)
    assert_same(array_state(a), array_state(ReversibleArray([1.0, -2.0, 3.0])))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([1.0, 2048.0], "Argument 'x' must be within the grid's range, magnitudes below 2048, not up to 2048."),
        ([1.0, -1e9], "Argument 'x' must be within the grid's range, magnitudes below 2048, not up to 1e+09."),
        ([1.0, np.nan], "Argument 'x' must be finite, not nan at x[1]."),
        ([[1.0], [-np.inf]], "Argument 'x' must be finite, not -inf at x[1, 0]."),
        ([True], "Argument 'x' must be an array of real numbers, not of dtype bool."),
        ("abc", "Argument 'x' must be an array of real numbers"),
        ([[1.0], []], "Argument 'x' must be a rectangular array, not a ragged sequence."),
    ],
)
def test_bad_initial_values(x: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match="^" + re.escape(message)):
        ReversibleArray(x)


@pytest.mark.parametrize(("n", "d"), [(1, 65536), (1, 2), (9, 10)])
def test_nothing_to_undo(n: int, d: int) -> None:
    a = ReversibleArray([1e-6, -1e-6])
    message = (
        f"div({n}, {d}) undoes mul({n}, {d}), and there is no multiplication left to undo. The array is unchanged."
    )
    with pytest.raises(ReversalError, match="^" + re.escape(message)):
        a.div(n, d)
    assert_same(array_state(a), array_state(ReversibleArray([1e-6, -1e-6])))


def test_nothing_left_to_undo() -> None:
    a = ReversibleArray([1e-9, -1e-9])
    for _ in range(5):
        a.mul(1, 1000)
    for _ in range(5):
        a.div(1, 1000)
    with pytest.raises(ReversalError, match=r"no multiplication left to undo\. The array is unchanged\.$"):
        a.div(1, 1000)
    assert_same(array_state(a), array_state(ReversibleArray([1e-9, -1e-9])))


@pytest.mark.parametrize(("n", "d"), [(1, 2), (1, 65536), (18, 20), (9, 11), (1, 1)])
def test_another_ratio_than_the_last_is_refused(n: int, d: int) -> None:
    a = ReversibleArray([1.0, 2.0])
    a.mul(3, 7)
    a.mul(9, 10)
    before = array_state(a)
    with pytest.raises(
        ReversalError, match=r"the last multiplication left to undo was mul\(9, 10\): call div\(9, 10\)"
    ):
        a.div(n, d)
    assert_same(array_state(a), before)
    a.div(9, 10)
    with pytest.raises(ReversalError, match=r"was mul\(3, 7\): call div\(3, 7\)"):
        a.div(9, 10)
    a.div(3, 7)
    a.verify()


@pytest.mark.parametrize("made", [(9, 10), ([9, 9], 10), ([9, 8], [10, 9]), ([1, 2], 2)])
@pytest.mark.parametrize("given", [(9, 10), ([9, 9], 10), ([8, 9], [9, 10]), ([9, 8], [10, 11]), (1, [2, 1])])
def test_other_ratios_than_the_last_are_refused(made: Any, given: Any) -> None:
    if made == given:
        return
    a = ReversibleArray([1.0, 2.0])
    a.mul(*made)
    before = array_state(a)
    this = "9, 10" if given == (9, 10) else "n, d"
    last = (
        "mul(9, 10): call div(9, 10). The" if made == (9, 10)
        else "mul(n, d) with other arrays than these: call div(n, d) with those. The"
    )  # fmt: skip
    message = f"div({this}) undoes mul({this}), and the last multiplication left to undo was {last} array is unchanged."
    with pytest.raises(ReversalError, match="^" + re.escape(message)):
        a.div(*given)
    assert_same(array_state(a), before)
    a.div(*made)
    a.verify()


def test_ratios_are_taken_from_any_array_of_whole_numbers() -> None:
    a, b = ReversibleArray(np.ones((2, 3))), ReversibleArray(np.ones((2, 3)))
    n, d = np.arange(1, 7).reshape(3, 2).T, np.full((4, 3), 10, np.uint16)[::2]
    n.setflags(write=False)
    a.mul(n, d)
    b.mul(np.ascontiguousarray(n), 10)
    np.testing.assert_array_equal(a.value, b.value)
    np.testing.assert_allclose(a.value, n / 10, rtol=1e-12)
    a.div(n.tolist(), d.tolist())
    a.verify()


@pytest.mark.parametrize("term", [2.0**-52, 1.0, [0.0, -3.5]])
def test_an_addition_that_was_not_undone_is_found(term: Any) -> None:
    a = ReversibleArray([1.0, 2.0])
    a.mul(9, 10)
    a.add(term)
    before = array_state(a)
    with pytest.raises(ReversalError, match="the values are not those that it left: an add or sub since then"):
        a.div(9, 10)
    assert_same(array_state(a), before)
    a.sub(term)
    a.div(9, 10)
    a.verify()
    a.add(term)
    with pytest.raises(
        ReversalError, match=r"^The array is not at its start: the values differ: an add or sub was not"
    ):
        a.verify()


def test_verify_tells_what_is_left() -> None:
    a = ReversibleArray([1.0, 2.0])
    a.verify()
    for _ in range(3):
        a.mul(1, 3)
    with pytest.raises(ReversalError, match=r"3 multiplications are left to undo; the values differ.* 2 heads of"):
        a.verify()
    a._cursor[0] = 0
    a._flat[:] = 2**52, 2**53
    with pytest.raises(ReversalError, match=r"^The array is not at its start: 2 heads of information buffers differ"):
        a.verify()


def test_a_damaged_head_is_found_with_the_last_division() -> None:
    a = ReversibleArray([1.0, 2.0])
    a.mul(9, 10)
    a.mul(1, 1)
    a._heads[1] += 10
    a.div(1, 1)
    with pytest.raises(ReversalError, match="1 heads of information buffers differ"):
        a.div(9, 10)


# ---- ReversibleSGD: laws -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 8), st.data())
def test_sgd_is_its_naive_twin_and_is_undone(size: int, data: st.DataObject) -> None:
    w0, v0 = data.draw(testing.grid_values((size,), 100.0)), data.draw(testing.grid_values((size,), 100.0))
    lrs = st.floats(0.0, 1.0)
    call = st.tuples(
        testing.grid_values((size,), 100.0), lrs | arrays(np.float64, size, elements=lrs),
        decays | arrays(np.float64, size, elements=decays),
    )  # fmt: skip
    calls = data.draw(st.lists(call, max_size=10))
    sgd, twin = ReversibleSGD(w0, v0), naive.NaiveSGD(w0, v0)
    start = sgd_state(sgd)
    for g, lr, decay in calls:
        sgd.step(g, lr, decay)
        pairs = [naive.decay_ratio(gamma) for gamma in np.broadcast_to(decay, size)]
        twin.step(g, lr, *zip(*pairs, strict=True))
        assert sgd._state.w.tolist() == twin.w
        assert sgd._state.moments[0].tolist() == twin.v
        assert sgd._state.heads[0].tolist() == twin.buffer.heads
        assert sgd._state.tail[: sgd._state.cursor[1]].tolist() == twin.buffer.tail
    assert sgd.steps == len(calls)
    for call in reversed(calls):
        sgd.unstep(*call)
    assert_same(sgd_state(sgd), start)
    pairs = [(lambda call=call: sgd.step(*call), lambda call=call: sgd.unstep(*call)) for call in calls]
    assert_undone(*in_turn(pairs), lambda: sgd_state(sgd))


def test_a_whole_training_is_undone_with_the_gradient_function() -> None:
    rng = np.random.default_rng(0)
    x, y, w0 = rng.normal(size=(40, 30)), rng.normal(size=40), rng.normal(size=30)

    def gradient(w: Floats) -> Floats:
        return x.T @ (np.tanh(x @ w) - y) / 40

    sgd = ReversibleSGD(w0)
    start = sgd_state(sgd)
    schedule = [(0.5 / (1 + t), 0.5 + 0.49 * t / 500) for t in range(500)]
    for lr, decay in schedule:
        sgd.step(gradient, lr, decay)
    assert sgd.bits == pytest.approx(
        30 * sum(np.log2(d / n) for n, d in (naive.decay_ratio(decay) for _, decay in schedule)), abs=1.0
    )
    for lr, decay in reversed(schedule):
        sgd.unstep(gradient, lr, decay)
    assert_same(sgd_state(sgd), start)


def test_the_gradient_function_sees_the_parameters_before_the_step() -> None:
    sgd = ReversibleSGD([1.0, 2.0], [0.5, -0.5])
    seen = []

    def gradient(w: Floats) -> Floats:
        seen.append(w.copy())
        w[:] = 99.0  # its own copy
        return np.ones(2)

    sgd.step(gradient, 0.1, 0.9)
    assert sgd.unstep(gradient, 0.1, 0.9).tolist() == [1.0, 2.0]
    np.testing.assert_array_equal(seen, [[1.0, 2.0], [1.0, 2.0]])


@pytest.mark.parametrize("size", [1, 3, 100, 1000])
def test_fresh_sgd_holds_no_bits(size: int) -> None:
    sgd = ReversibleSGD(np.ones(size))
    assert (sgd.bits, sgd.steps) == (0.0, 0)


# ---- ReversibleSGD: what is refused --------------------------------------------------------------------------

STEP_FAULTS = [
    ({"g": [1.0, np.nan]}, "Argument 'g' must be finite, not nan at g[1]."),
    ({"g": [-np.inf, 1.0]}, "Argument 'g' must be finite, not -inf at g[0]."),
    ({"g": [1.0]}, "Argument 'g' must have shape (2,), one number per parameter, not shape (1,)."),
    ({"g": 1.0}, "Argument 'g' must have shape (2,), one number per parameter, not shape ()."),
    ({"g": [[1.0, 1.0]]}, "Argument 'g' must have shape (2,)"),
    ({"g": lambda w: w[:1]}, "Argument 'g' must have shape (2,)"),
    ({"g": lambda w: w * np.nan}, "Argument 'g' must be finite, not nan at g[0]."),
    ({"g": None}, "Argument 'g' must be an array of real numbers, not None."),
    ({"lr": -0.1}, "Argument 'lr' must not be negative, not -0.1. A rate of 0 freezes the weights."),
    ({"lr": np.nan}, "Argument 'lr' must be finite, not nan."),
    ({"lr": np.inf}, "Argument 'lr' must be finite, not inf."),
    ({"lr": [0.1]}, "Argument 'lr' must be a number or have shape (2,), one number per parameter, not shape (1,)."),
    ({"lr": [0.1, -0.1]}, "Argument 'lr' must not be negative, not -0.1."),
    ({"lr": [0.1, np.nan]}, "Argument 'lr' must be finite, not nan at lr[1]."),
    ({"lr": True}, "Argument 'lr' must be an array of real numbers, not of dtype bool."),
    ({"decay": 0.0}, "Argument 'decay' must be in (0, 1], not 0. A decay of 0 forgets the velocity"),
    ({"decay": -0.5}, "Argument 'decay' must be in (0, 1], not -0.5."),
    ({"decay": 1.5}, "Argument 'decay' must be in (0, 1], not 1.5. Above 1 the velocity would grow"),
    ({"decay": 2.0**-17}, "Argument 'decay' must be at least 2**-16, the smallest ratio"),
    ({"decay": np.nan}, "Argument 'decay' must be finite, not nan."),
    ({"decay": [[0.9]]}, "Argument 'decay' must be a number or have shape (2,), one number per parameter, not shape"),
    ({"decay": [0.9, 0.0]}, "Argument 'decay' must be in (0, 1], not 0."),
]  # fmt: skip


@pytest.mark.parametrize("method", ["step", "unstep"])
@pytest.mark.parametrize(("change", "message"), STEP_FAULTS)
def test_sgd_unchanged_by_a_bad_call(method: str, change: dict[str, Any], message: str) -> None:
    sgd = ReversibleSGD([1.0, -2.0], [0.25, 3.0])
    sgd.step([0.1, -0.2], 0.1, 0.9)
    before = sgd_state(sgd)
    with pytest.raises(ArgumentError, match="^" + re.escape(message)):
        getattr(sgd, method)(**({"g": [0.1, -0.2], "lr": 0.1, "decay": 0.9} | change))
    assert_same(sgd_state(sgd), before)
    sgd.unstep([0.1, -0.2], 0.1, 0.9)
    assert_same(sgd_state(sgd), sgd_state(ReversibleSGD([1.0, -2.0], [0.25, 3.0])))


@pytest.mark.parametrize(
    ("g", "lr", "decay"),
    [
        ([0.0, 1e300], 0.1, 0.9),
        ([0.0, 40000.0], 0.1, 0.9),  # a change of the velocity by 4000
        ([-1000.0, 0.0], 1e4, 0.9),
        ([0.0, 0.0], 1e300, 0.9),
        ([0.0, 0.0], 800.0, 1.0),  # w = -2 + 800 * 3
    ],
)
def test_a_step_off_the_grid_is_refused(g: list[float], lr: float, decay: float) -> None:
    sgd = ReversibleSGD([1.0, -2.0], [0.25, 3.0])
    sgd.step([0.1, -0.2], 0.1, 0.9)
    before = sgd_state(sgd)
    with pytest.raises(DivergenceError) as caught:
        sgd.step(g, lr, decay)
    assert str(caught.value) == (
        "Step 1 was refused: the weights or their velocity would leave the grid, magnitudes below 2048. The likely "
        f"cause is a learning rate that is too high (lr = {lr:g}): lower lr. Nothing has changed."
    )
    assert (caught.value.step, caught.value.group, caught.value.run) == (1, "", None)
    assert_same(sgd_state(sgd), before)
    sgd.unstep([0.1, -0.2], 0.1, 0.9)
    assert_same(sgd_state(sgd), sgd_state(ReversibleSGD([1.0, -2.0], [0.25, 3.0])))


def test_a_refused_step_names_the_learning_rate_of_the_parameter() -> None:
    sgd = ReversibleSGD([1.0, -2.0], [0.25, 3.0])
    before = sgd_state(sgd)
    with pytest.raises(DivergenceError, match=r"a learning rate that is too high \(lr\[1\] = 800\): lower lr\."):
        sgd.step([0.0, 0.0], [0.1, 800.0], [1.0, 1.0])
    assert_same(sgd_state(sgd), before)


def test_equal_numbers_for_each_parameter_are_one_number() -> None:
    rng = np.random.default_rng(0)
    w0, v0, g = rng.normal(size=(3, 1100))
    both = [ReversibleSGD(w0, v0) for _ in range(4)]
    ways = [(0.1, 0.9), (np.full(1100, 0.1), 0.9), (0.1, np.full(1100, 0.9)), (np.full(1100, 0.1), np.full(1100, 0.9))]
    for _ in range(20):
        for sgd, way in zip(both, ways, strict=True):
            sgd.step(g, *way)
    for sgd in both[1:]:
        for name in ("w", "v", "heads", "tail", "cursor"):
            assert_same({name: sgd_state(sgd)[name]}, {name: sgd_state(both[0])[name]})
    for _ in range(20):
        for sgd, way in zip(both, ways, strict=True):
            sgd.unstep(g, *way)


def test_frozen_parameters_and_those_without_friction() -> None:
    sgd = ReversibleSGD([1.0, 2.0, 3.0], [0.5, 0.5, 0.5])
    way = {"g": [1.0, 1.0, 1.0], "lr": [0.0, 0.1, 0.1], "decay": [0.5, 1.0, 0.5]}
    sgd.step(**way)
    np.testing.assert_allclose(sgd.w, [1.0, 2.05, 2.975], rtol=1e-15)
    np.testing.assert_allclose(sgd.v, [-0.25, 0.5, -0.25], rtol=1e-15)
    assert sgd._state.heads[0, 1] == ReversibleSGD([0.0])._state.heads[0, 0]
    np.testing.assert_array_equal(sgd.unstep(**way), [1.0, 2.0, 3.0])
    sgd.verify()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 600), st.integers(0, 2**32 - 1), decays, st.floats(0.0, 3000.0))
def test_steps_are_made_or_refused_whole(size: int, seed: int, decay: float, lr: float) -> None:
    rng = np.random.default_rng(seed)
    sgd = ReversibleSGD(*rng.uniform(-2047.0, 2047.0, (2, size)))
    for g in rng.normal(size=(3, size)) * 10.0 ** rng.integers(-3, 5):
        before = sgd_state(sgd)
        try:
            sgd.step(g, lr, decay)
        except DivergenceError:
            assert_same(sgd_state(sgd), before)
        else:
            sgd.unstep(g, lr, decay)
            assert_same(sgd_state(sgd), before)


def test_no_step_to_undo() -> None:
    sgd = ReversibleSGD([1.0])
    for _ in range(2):
        with pytest.raises(ReversalError, match=r"^There is no step left to undo\. Nothing has changed\."):
            sgd.unstep([0.0], 0.1, 0.9)
        assert_same(sgd_state(sgd), sgd_state(ReversibleSGD([1.0])))
        sgd.step([1.0], 0.1, 0.9)
        sgd.unstep([1.0], 0.1, 0.9)


WRONG_UNDOS = [
    ({"decay": 0.8}, "was made with decay = 9/10, not 4/5. Undo each step once, last first"),
    ({"decay": 1e-4}, "was made with decay = 9/10, not 1/10000."),
    ({"decay": 1.0}, "was made with decay = 9/10, not 1/1."),
    ({"lr": 0.2}, "was made with lr = 0.1, not 0.2."),
    ({"lr": np.nextafter(0.1, 1)}, "was made with lr = 0.1, not 0.10000000000000002."),
    ({"lr": [0.1, 0.1]}, "was made with lr = 0.1, not an array of checksum"),
    ({"decay": [0.9, 0.9]}, "was made with decay = 9/10, not an array of checksum"),
    ({"g": [1.0, -0.5 + 1e-12]}, "was made with another gradient, in one bit at least."),
    ({"g": [-0.5, 1.0]}, "was made with another gradient"),
    ({"g": lambda w: np.array([1.0, -0.5]) + 1e-15 * w}, "was made with another gradient"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_UNDOS)
@pytest.mark.parametrize("steps", [1, 20])
@pytest.mark.parametrize("decay", [0.9, 1.0])
def test_a_wrong_undo_is_refused_at_once(steps: int, decay: float, change: dict[str, Any], message: str) -> None:
    """Also of the first step, and at decay 1, where the gradient leaves no trace in the state."""
    if decay == 1.0:
        message = message.replace("9/10", "1/1")
        if change.get("decay") == 1.0:
            return
    right = {"g": [1.0, -0.5], "lr": 0.1, "decay": decay}
    sgd = ReversibleSGD([1.0, 2.0])
    start = sgd_state(sgd)
    for _ in range(steps):
        sgd.step(**right)
    before = sgd_state(sgd)
    with pytest.raises(ReversalError, match=re.escape(f"Step {steps - 1}, the last one left to undo, {message}")):
        sgd.unstep(**(right | change))
    assert_same(sgd_state(sgd), before)
    with pytest.raises(ReversalError, match=f"^The state is not that of the start: {steps} steps are left to undo"):
        sgd.verify()
    for _ in range(steps):
        sgd.unstep(**right)
    sgd.verify()
    assert_same(sgd_state(sgd), start)


@pytest.mark.parametrize("change", [{"lr": 0.1}, {"lr": [0.1, 0.3]}, {"decay": 0.9}, {"decay": [0.5, 0.9]}])
def test_a_wrong_undo_of_arrays_is_refused(change: dict[str, Any]) -> None:
    right = {"g": [1.0, -0.5], "lr": [0.1, 0.2], "decay": [0.9, 0.5]}
    sgd = ReversibleSGD([1.0, 2.0])
    sgd.step(**right)
    before = sgd_state(sgd)
    (name,) = change
    with pytest.raises(ReversalError, match=rf"was made with {name} = an array of checksum [0-9a-f/]+, not "):
        sgd.unstep(**(right | change))
    assert_same(sgd_state(sgd), before)
    sgd.unstep(**right)


@pytest.mark.parametrize(("name", "message"), [("w", "the parameters differ"), ("moments", "the velocity differs")])
def test_a_damaged_state_is_found_with_the_last_step(name: str, message: str) -> None:
    sgd = ReversibleSGD([1.0, 2.0])
    for _ in range(3):
        sgd.step([0.5, 0.25], 0.1, 0.9)
    getattr(sgd._state, name).reshape(-1)[1] ^= 1 << 20
    for _ in range(2):
        sgd.unstep([0.5, 0.25], 0.1, 0.9)
    with pytest.raises(ReversalError, match=message):
        sgd.unstep([0.5, 0.25], 0.1, 0.9)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_gradient_that_raises_changes_nothing(error: type[BaseException]) -> None:
    def gradient(w: Floats) -> Floats:
        raise error

    sgd = ReversibleSGD([1.0, -2.0], [0.25, 3.0])
    sgd.step([0.1, -0.2], 0.1, 0.9)
    before = sgd_state(sgd)
    for method in (sgd.step, sgd.unstep):
        with pytest.raises(error):
            method(gradient, 0.1, 0.9)
        assert_same(sgd_state(sgd), before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReversibleSGD(1.0), "Argument 'w0' must have shape (P,) with P at least 1, not shape ()."),
        (lambda: ReversibleSGD([]), "Argument 'w0' must have shape (P,) with P at least 1, not shape (0,)."),
        (lambda: ReversibleSGD([[1.0]]), "Argument 'w0' must have shape (P,) with P at least 1, not shape (1, 1)."),
        (lambda: ReversibleSGD([np.nan]), "Argument 'w0' must be finite, not nan at w0[0]."),
        (lambda: ReversibleSGD([2048.0]), "Argument 'w0' must be within the grid's range, magnitudes below 2048"),
        (lambda: ReversibleSGD([True]), "Argument 'w0' must be an array of real numbers, not of dtype bool."),
        (lambda: ReversibleSGD([1.0], [1.0, 2.0]), "Argument 'v0' must have shape (1,)"),
        (lambda: ReversibleSGD([1.0], 1.0), "Argument 'v0' must have shape (1,)"),
        (lambda: ReversibleSGD([1.0], [-2048.0]), "Argument 'v0' must be within the grid's range"),
        (lambda: ReversibleSGD([1.0], [np.inf]), "Argument 'v0' must be finite, not inf at v0[0]."),
    ],
)
def test_bad_starts(make: Callable[[], ReversibleSGD], message: str) -> None:
    with pytest.raises(ArgumentError, match="^" + re.escape(message)):
        make()


def test_arguments_are_not_written_to() -> None:
    w0, v0, g = np.ones(3), np.ones(3), np.ones(3)
    for array in (w0, v0, g):
        array.setflags(write=False)
    sgd = ReversibleSGD(w0, v0)
    sgd.step(g, 0.1, 0.9)
    sgd.unstep(g, 0.1, 0.9)
    a = ReversibleArray(w0)
    a.add(g)
    assert w0.tolist() == v0.tolist() == g.tolist() == [1.0] * 3


def test_errors_are_of_the_kinds_that_users_catch() -> None:
    assert issubclass(ArgumentError, fastrev.FastrevError)
    assert issubclass(ArgumentError, ValueError)
    assert issubclass(DivergenceError, fastrev.FastrevError)
    assert issubclass(DivergenceError, ArithmeticError)
    assert issubclass(ReversalError, fastrev.FastrevError)
    assert issubclass(ReversalError, RuntimeError)


# ---- copies, and calls at once -------------------------------------------------------------------------------

COPIES = [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))]


@pytest.mark.parametrize("make_copy", COPIES)
def test_copies_of_an_array_share_nothing_and_go_on(make_copy: Callable[[Any], Any]) -> None:
    a = ReversibleArray([[1.0, 2.0]])
    a.mul(9, 10)
    before = array_state(a)
    b = make_copy(a)
    assert_same(array_state(b), before)
    for _ in range(2000):
        b.mul(1, 3)
    b.add(1.0)
    assert b.value.tolist() == [[1.0, 1.0]]
    assert_same(array_state(a), before)
    b.sub(1.0)
    for _ in range(2000):
        b.div(1, 3)
    for each in (a, b):
        each.div(9, 10)
        each.verify()


@pytest.mark.parametrize("make_copy", COPIES)
def test_copies_of_an_sgd_share_nothing_and_go_on(make_copy: Callable[[Any], Any]) -> None:
    sgd = ReversibleSGD([1.0, 2.0])
    sgd.step([0.5, 0.25], 0.1, 0.9)
    before = sgd_state(sgd)
    other = make_copy(sgd)
    for _ in range(2000):
        other.step([0.5, 0.25], 0.1, 0.5)
    assert_same(sgd_state(sgd), before)
    for _ in range(2000):
        other.unstep([0.5, 0.25], 0.1, 0.5)
    for each in (sgd, other):
        each.unstep([0.5, 0.25], 0.1, 0.9)
        each.verify()


@pytest.mark.parametrize("outer", ["step", "unstep"])
@pytest.mark.parametrize("inner", ["step", "unstep", "verify"])
def test_a_gradient_that_steps_is_refused(outer: str, inner: str) -> None:
    sgd = ReversibleSGD([1.0, 2.0])
    sgd.step([0.5, 0.25], 0.1, 0.9)
    before = sgd_state(sgd)

    def gradient(w: Floats) -> Floats:
        sgd.verify() if inner == "verify" else getattr(sgd, inner)([0.5, 0.25], 0.1, 0.9)
        return np.array([0.5, 0.25])

    with pytest.raises(ReversalError, match=f"ReversibleSGD.{inner} was called while another call is at work"):
        getattr(sgd, outer)(gradient, 0.1, 0.9)
    assert_same(sgd_state(sgd), before)
    sgd.unstep([0.5, 0.25], 0.1, 0.9)


def test_values_of_which_halves_are_zeros_are_told_apart() -> None:
    """Sums and gradients of simple numbers, in whose checksums only one half of each element counts."""
    a = ReversibleArray(np.ones(64))
    up, down = np.zeros(64), np.zeros(64)
    up[[0, 3]], down[[1, 2]] = 1, 1
    a.add(up)
    a.sub(down)
    with pytest.raises(ReversalError, match="the values differ"):
        a.verify()
    sgd = ReversibleSGD(np.zeros(7))
    g, h = np.zeros(7), np.zeros(7)
    g[[3, 6]], h[[4, 5]] = 1, 1
    sgd.step(g, 0.1, 0.9)
    with pytest.raises(ReversalError, match="another gradient"):
        sgd.unstep(h, 0.1, 0.9)
