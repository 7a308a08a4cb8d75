"""Loss curves and callbacks of one run: what they see, after which steps, and that the run does not notice them."""

from __future__ import annotations

import copy
import os
import pickle
import signal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fastrev
from fastrev._engine.mlp_objective import MLPObjective
from fastrev.testing import assert_same
from tests.cases import Case, digits_like, random_case
from tests.test_interrupts import ctrl_c, interrupt_at_chunk  # noqa: F401  # a fixture
from tests.test_training import steep

HESSIAN, SHIFTS = np.diag([1.0, 0.5, 0.2, 0.1]), np.random.default_rng(3).standard_normal((4, 4))


def quadratic(**more: Any) -> SimpleNamespace:
    """An objective whose steps differ."""
    grad = lambda w, t: HESSIAN @ w + SHIFTS[t % 4]
    return SimpleNamespace(**({"num_params": 4, "grad": grad, "hvp": lambda w, u, t: HESSIAN @ u} | more))


def train_quadratic(steps: int = 12, **more: Any) -> fastrev.Run:
    return fastrev.train(quadratic(), np.ones(4), **({"lr": 0.1, "decay": 0.9, "steps": steps} | more))


def energy(w: np.ndarray) -> float:
    return float(w @ w)


def cut(value: Any, steps: int) -> Any:
    """The first steps of an argument that has an axis of them."""
    array = np.asarray(value)
    return array[:steps] if array.ndim == 1 or (array.ndim == 2 and array.shape[0] > 1) else value


def weights_after(case: Case, steps: int) -> np.ndarray:
    """By a training of no more steps."""
    if steps == 0:
        return fastrev.ReversibleArray(case.w0).value
    a = case.arguments
    batches = None if a.get("batches") is None else a["batches"][:steps]
    return case.train(steps=steps, lr=cut(a["lr"], steps), decay=cut(a["decay"], steps), batches=batches).w


def everything(run: fastrev.Run) -> dict[str, Any]:
    """All bits that a run consists of."""
    state, top = run._state, int(run._state.cursor[1])
    return {name: getattr(state, name).copy() for name in ("w", "moments", "heads", "cursor")} | {
        "tail": state.tail[:top]
    }


def derivatives(run: fastrev.Run) -> dict[str, Any]:
    return {name: each for name, each in vars(run.pullback(run.w)).items() if each is not None}


def numbers(every: int, steps: int, first: int) -> list[int]:
    """What a whole number stands for, written down in full."""
    return [k for k in range(first, steps + 1) if k % every == 0 or k == steps]


def stop_at(step: int) -> Any:
    def callback(made: int, w: np.ndarray) -> None:
        if made == step:
            raise StopIteration

    return callback


# ---- what is seen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("batch_size", [8, None])
def test_the_losses_are_those_of_shorter_trainings(dtype, batch_size):
    case = digits_like(steps=13, dtype=dtype, batch_size=batch_size)
    valid, seen = case.arguments["valid"], []
    run = case.train(curve=(*valid, 3), callback=(lambda step, w: seen.append((step, w)), np.arange(14)))
    assert type(run.curve) is fastrev.Curve
    assert run.curve.steps.dtype == np.int64
    assert run.curve.losses.dtype == np.float64
    assert run.curve.steps.tolist() == [0, 3, 6, 9, 12, 13]
    expected = [weights_after(case, k) for k in range(14)]
    for steps, loss in zip(*run.curve, strict=True):
        assert loss == case.model.loss_value(expected[steps], *valid)
    assert [step for step, _ in seen] == list(range(14))
    for step, w in seen:
        assert w.dtype == np.float64
        assert np.array_equal(w, expected[step])


@pytest.mark.parametrize("seed", range(10))
def test_every_shape_of_every_argument(seed):
    case = random_case(seed, dtype=(np.float64, np.float32)[seed % 2])
    valid, steps = case.arguments["valid"], case.arguments["steps"]
    run = case.train(curve=(*valid, 1))
    assert run.curve.losses.tolist() == [
        case.model.loss_value(weights_after(case, k), *valid) for k in range(steps + 1)
    ]


@pytest.mark.parametrize("f", [energy, lambda w: (energy(w), 2 * w), lambda w: np.array([energy(w)]),
                               lambda w: w.fill(7) or 196])  # fmt: skip
def test_an_objective_is_judged_by_a_function(f):
    run, seen = train_quadratic(), []
    other = train_quadratic(curve=(f, 5), callback=(lambda step, w: seen.append(f(w)), [0, 5, 10, 12]))
    assert other.curve.steps.tolist() == [0, 5, 10, 12]
    first = lambda value: float(np.ravel(value[0] if isinstance(value, tuple) else value)[0])
    assert other.curve.losses.tolist() == [first(each) for each in seen]
    assert np.array_equal(other.w, run.w)  # which f may do with as it likes


def test_an_mlp_takes_a_function_for_its_curve():
    case = digits_like()
    valid = case.arguments["valid"]
    by_function = case.train(curve=(lambda w: case.model.loss_value(w, *valid), 4)).curve
    assert_same(by_function._asdict(), case.train(curve=(*valid, 4)).curve._asdict())
    assert_same(by_function._asdict(), case.train(curve=[*valid, np.int32(4)]).curve._asdict())


def test_an_objective_of_interop_stands_for_its_loss():
    pytest.importorskip("autograd")
    from fastrev.interop import autograd

    loss = lambda params, theta, t: (params["w"] ** 2).sum() + t
    valid, w0 = autograd.objective(loss, {"w": np.ones(4)})
    curve = fastrev.train(valid, w0, lr=0.1, decay=0.9, steps=6, curve=(valid, 2)).curve
    weights = [w0, *(fastrev.train(valid, w0, lr=0.1, decay=0.9, steps=k).w for k in (2, 4, 6))]
    assert curve.losses.tolist() == [valid.loss(w, 0) for w in weights]


def test_losses_that_are_not_finite_are_part_of_a_curve():
    curve = train_quadratic(curve=(lambda w: [np.nan, np.inf][int(w[0] == 1)], [0, 12])).curve
    assert np.array_equal(curve.losses, [np.inf, np.nan], equal_nan=True)


def test_neither_is_the_default():
    assert digits_like().train().curve is None
    assert digits_like().train(callback=lambda step, w: None).curve is None


# ---- after which steps ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 40), st.booleans())
@example(1, 1, 2, True)
@example(8, 7, 8, True)
@example(8, 9, 1, False)
def test_a_number_is_every_so_many_steps(steps, of_curve, of_callback, progress):
    seen = []
    callback = (lambda step, w: seen.append(step), of_callback)
    run = train_quadratic(steps, curve=(energy, of_curve), callback=callback, progress=progress)
    assert run.curve.steps.tolist() == numbers(of_curve, steps, 0)
    assert seen == numbers(of_callback, steps, 1)
    assert_same(everything(run), everything(train_quadratic(steps)))


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_an_array_is_as_it_says(data):
    steps = data.draw(st.integers(1, 30))
    counts = st.sets(st.integers(0, steps), min_size=1).map(sorted)
    of_curve, of_callback, seen = data.draw(counts), data.draw(counts), []
    case = digits_like(steps=steps)
    run = case.train(
        curve=(*case.arguments["valid"], np.array(of_curve, np.uint16)),
        callback=(lambda step, w: seen.append(step), of_callback),
    )
    assert run.curve.steps.tolist() == of_curve
    assert seen == of_callback
    assert_same(everything(run), everything(case.train()))


def test_a_callback_sees_what_its_step_made_after_the_curve_was_measured():
    order = []
    train_quadratic(2, curve=(lambda w: order.append("curve") or 0, 1), callback=lambda step, w: order.append(step))
    assert order == ["curve", "curve", 1, "curve", 2]


@pytest.mark.parametrize("steps", [2047, 2048, 2049, 5000])
def test_across_chunks(steps):
    case, seen = digits_like(steps=steps, lr=0.01), []
    run = case.train(callback=(lambda step, w: seen.append(step), 1000))
    assert seen == numbers(1000, steps, 1)
    assert_same(everything(run), everything(case.train()))


def test_batches_are_drawn_once_whoever_looks(monkeypatch):
    chunk, drawn = MLPObjective.chunk, []
    case = digits_like(steps=5000, lr=0.01)
    case.train(curve=(*case.arguments["valid"], 5000))
    monkeypatch.setattr(MLPObjective, "chunk", lambda *a: drawn.append(a[1:]) or chunk(*a))
    case.train(callback=lambda step, w: None)
    assert drawn == [(0, 2048), (2048, 4096), (4096, 5000)]


def test_no_step_is_computed_twice():
    asked, model = [], quadratic()
    model.grad = lambda w, t: asked.append(t) or HESSIAN @ w
    watched = {"curve": (energy, 7), "callback": lambda step, w: None}
    fastrev.train(model, np.ones(4), lr=0.1, decay=0.9, steps=150, **watched)
    assert asked == list(range(150))


# ---- the run afterwards --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_way_back_is_as_it_would_have_been(dtype):
    case = digits_like(steps=30, dtype=dtype, lr=np.full((30, 4), 0.3))
    kept: list[np.ndarray] = []
    watched = case.train(curve=(*case.arguments["valid"], 7), callback=lambda step, w: kept.append(w) or w.fill(np.nan))
    plain = case.train()
    assert watched.stats == plain.stats
    curve = watched.curve
    assert_same(derivatives(watched), derivatives(plain))
    assert watched.stats.exact
    assert_same(watched.curve._asdict(), curve._asdict())
    again = case.train(curve=(*case.arguments["valid"], 7))
    again.rewind()
    assert_same(again.curve._asdict(), curve._asdict())


def test_copies_and_pickles_have_the_curve_but_not_the_functions():
    run = digits_like().train(curve=(lambda w: energy(w), 5), callback=lambda step, w: None)
    for other in (copy.copy(run), copy.deepcopy(run), pickle.loads(pickle.dumps(run))):
        assert_same(other.curve._asdict(), run.curve._asdict())
        other.curve.losses[:] = 0
        other.rewind()
        assert_same(other.curve._asdict(), run.curve._asdict())


# ---- runs that end early -------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [1, 6, 7, 19, 20])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_early_end_is_a_run_of_so_many_steps(end, dtype):
    groups = np.linspace(0.1, 0.4, 80).reshape(20, 4)
    case = digits_like(dtype=dtype, lr=groups, decay=1 - groups)
    valid = case.arguments["valid"]
    run = case.train(curve=(*valid, 6), callback=stop_at(end))
    shorter = case.train(lr=groups[:end], decay=1 - groups[:end], steps=end, curve=(*valid, 6))
    assert run.stats.steps == end
    assert run.stats.stored_bits == shorter.stats.stored_bits
    assert run.curve.steps.tolist() == numbers(6, end, 0)
    assert_same(run.curve._asdict(), shorter.curve._asdict())
    assert_same(everything(run), everything(shorter))
    rewound = copy.deepcopy(run)
    rewound.rewind()
    assert rewound.stats.exact
    found, expected = derivatives(run), derivatives(shorter)
    for name in ("lr", "decay"):
        assert found[name].shape == (20, 4)
        assert not found[name][end:].any()
        found[name] = found[name][:end]
    assert_same(found, expected)
    assert run.stats.exact


@pytest.mark.parametrize("end", [1, 5, 12, 64, 65, 99, 100])
def test_an_early_end_of_an_objectives_run(end):
    lr = np.linspace(0.05, 0.1, 100)
    run = train_quadratic(100, lr=lr, curve=(energy, 10), callback=stop_at(end))
    shorter = train_quadratic(end, lr=lr[:end], curve=(energy, 10))
    assert run.stats.steps == end
    assert_same(run.curve._asdict(), shorter.curve._asdict())
    assert_same(everything(run), everything(shorter))
    found, expected = run.pullback(run.w), shorter.pullback(shorter.w)
    assert found.lr.shape == (100,)
    assert np.array_equal(found.lr[:end], expected.lr)
    assert not found.lr[end:].any()
    assert np.array_equal(found.w0, expected.w0)
    assert run.stats.exact


@pytest.mark.parametrize("train", [train_quadratic, digits_like().train], ids=["objective", "mlp"])
def test_an_end_before_the_first_step(train):
    run = train(callback=(stop_at(0), [0, 3]), curve=(energy, 4))
    assert run.curve.steps.tolist() == [0]
    assert run.stats.steps == 0
    assert np.array_equal(run.pullback(run.w).w0, run.w)
    assert run.stats.exact


def test_an_array_holds_the_points_of_a_curve_wherever_the_run_ends():
    run = train_quadratic(curve=(energy, [0, 2, 9]), callback=stop_at(5))
    assert run.curve.steps.tolist() == [0, 2]


def test_the_last_point_of_an_early_end_is_its_own_even_if_it_was_due():
    run = train_quadratic(curve=(energy, 3), callback=stop_at(6))
    assert run.curve.steps.tolist() == [0, 3, 6]


def test_another_exception_leaves_train():
    def fail(*_):
        raise ZeroDivisionError("of the user's")

    for how in ({"callback": fail}, {"callback": (fail, [7])}, {"curve": (fail, 1)}):
        with pytest.raises(ZeroDivisionError, match="of the user's"):
            train_quadratic(**how)


def test_a_stop_iteration_of_the_curves_function_is_no_end():
    with pytest.raises(StopIteration):
        train_quadratic(curve=(lambda w: next(iter(())), 3))


def test_ctrl_c_in_a_callback(ctrl_c):  # noqa: F811
    def callback(step, w):
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    case = digits_like()
    for train, curve in ((case.train, (*case.arguments["valid"], 2)), (train_quadratic, (energy, 2))):
        with pytest.raises(fastrev.TrainingInterrupt, match="after 7 steps") as info:
            train(curve=curve, callback=callback)
        run = info.value.run
        assert run.curve.steps.tolist() == [0, 2, 4, 6]
        run.pullback(run.w)
        assert run.stats.exact
        assert len(run.curve.losses) == 4


def test_ctrl_c_between_looks(ctrl_c, monkeypatch):  # noqa: F811
    case = digits_like(steps=20_000, lr=0.01, decay=0.999)
    interrupt_at_chunk(monkeypatch, 2)
    with pytest.raises(fastrev.TrainingInterrupt) as info:
        case.train(curve=(*case.arguments["valid"], 1000))
    assert info.value.run.curve.steps.tolist() == [0, 1000, 2000]


def test_divergence_leaves_the_curve_so_far():
    model, w0, arguments = steep()
    with pytest.raises(fastrev.DivergenceError) as info:
        fastrev.train(model, w0, curve=(*arguments["train"], 1), **arguments)
    error = info.value
    assert error.run.curve.steps.tolist() == list(range(error.step + 1))
    travelled = pickle.loads(pickle.dumps(error))
    assert_same(travelled.run.curve._asdict(), error.run.curve._asdict())


# ---- arguments at fault --------------------------------------------------------------------------------------

EVERY = [
    (0, r"must be at least 1, not 0"),
    (-1, r"must be at least 1, not -1"),
    (2.0, r"must be a whole number, not 2.0"),
    (True, r"must be a whole number, not True"),
    (None, r"must be a whole number, not None"),
    ([], r"must be a whole number or an array of numbers of steps, \(S,\), not of shape \(0,\)"),
    ([[1, 2]], r"not of shape \(1, 2\)"),
    ([1.0, 2.0], r"not of dtype float64"),
    ([True, False], r"not of dtype bool"),
    ([0, -1], r"must hold numbers of steps from 0 to 12, not -1"),
    ([12, 13], r"must hold numbers of steps from 0 to 12, not 13"),
    (np.array([1, 2**64 - 1], np.uint64), r"from 0 to 12, not 18446744073709551615"),
    ([1, 1], r"must be increasing, not 1 after 1. Pass numpy.unique"),
    (np.array([5, 3], np.uint8), r"must be increasing, not 3 after 5"),
]


def untouched(**more: Any) -> dict[str, Any]:
    """Arguments of a training that must not begin."""
    return {"lr": 0.1, "decay": 0.9, "steps": 12} | more


def never(*_: Any) -> Any:
    raise AssertionError("something was computed")


@pytest.mark.parametrize(("every", "message"), EVERY)
@pytest.mark.parametrize("name", ["curve", "callback"])
def test_every_at_fault(name, every, message):
    with pytest.raises(fastrev.ArgumentError, match=rf"Argument '{name}\[1\]' .*{message}"):
        fastrev.train(quadratic(grad=never), np.ones(4), **untouched(**{name: (never, every)}))


@pytest.mark.parametrize(("curve", "message"), [
    (never, r"'curve' must be \(f, every\), f a function .* not a function. every is a whole number"),
    ((never,), r"'curve' must be .* not 1 items"),
    ((np.ones((2, 4)), np.ones((2, 4)), 1), r"'curve' must be \(f, every\).* not 3 items"),
    (("f", 1), r"'curve' must be \(f, every\).* not a pair that begins with a str"),
    (5, r"'curve' must be \(f, every\).* not a int"),
])  # fmt: skip
def test_a_curve_at_fault(curve, message):
    with pytest.raises(fastrev.ArgumentError, match=message):
        fastrev.train(quadratic(grad=never), np.ones(4), **untouched(curve=curve))


@pytest.mark.parametrize(("curve", "message"), [
    ((np.ones((3, 4)), 1), r"'curve' must be \(Xv, Yv, every\), or \(f, every\).* a pair that begins with a ndarray"),
    (((np.ones((3, 4)), np.ones(3)), 1), r"'curve' must be .* a pair that begins with a tuple"),
    ((1, 2, 3, 4), r"'curve' must be .* not 4 items"),
    ((np.ones((3, 5)), np.zeros(3, int), 1), r"'curve\[0\]' must have shape \(N, 4\)"),
    ((np.ones((3, 4)), np.zeros(2, int), 1), r"'curve\[1\]' must have shape \(3, 3\)"),
    ((np.full((3, 4), np.nan), np.zeros(3, int), 1), r"'curve\[0\]' must be finite"),
    ((np.ones((3, 4)), np.zeros(3, int), 0), r"'curve\[2\]' must be at least 1"),
    ((np.ones((3, 4)), np.zeros(3, int), [21]), r"'curve\[2\]' must hold numbers of steps from 0 to 20"),
])  # fmt: skip
def test_a_curve_of_an_mlp_at_fault(monkeypatch, curve, message):
    monkeypatch.setattr(MLPObjective, "chunk", never)
    with pytest.raises(fastrev.ArgumentError, match=message):
        digits_like().train(curve=curve)


@pytest.mark.parametrize(("callback", "message"), [
    (5, r"'callback' must be a function \(step, w\) or a pair \(function, every\), not 5"),
    ((never, 1, 1), r"'callback' must be .* not 3 items"),
    ((1, never), r"'callback' must be .* not a pair that begins with a int"),
])  # fmt: skip
def test_a_callback_at_fault(callback, message):
    with pytest.raises(fastrev.ArgumentError, match=message):
        fastrev.train(quadratic(grad=never), np.ones(4), **untouched(callback=callback))


@pytest.mark.parametrize(("f", "message"), [
    (lambda w: None, r"curve\[0\]\(w\) must be a number, the loss, not None"),
    (lambda w: (None, w), r"curve\[0\]\(w\)\[0\] must be a number, the loss, not None"),
    (lambda w: w, r"curve\[0\]\(w\) must be a number, the loss, not array"),
    (lambda w: 1j, r"curve\[0\]\(w\) must be a number, the loss, not 1j"),
    (lambda w: [[1], [1, 2]], r"curve\[0\]\(w\) must be an array of real numbers, not a ragged sequence"),
])  # fmt: skip
def test_a_function_that_returns_no_loss(f, message):
    with pytest.raises(fastrev.ArgumentError, match=message):
        train_quadratic(curve=(f, 3))


def test_meta_grad_takes_neither():
    for name in ("curve", "callback"):
        with pytest.raises(TypeError, match=name):
            digits_like().meta_grad(**{name: None})
