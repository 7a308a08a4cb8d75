"""Many losses in one reversal: each row has the bits that it has alone, whatever goes beside it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import fastrev
from fastrev._engine import compiled_many, workspace
from fastrev.interop import jax as fastrev_jax
from fastrev.interop import torch as fastrev_torch
from fastrev.testing import assert_same
from tests.cases import WRT, Case, digits_like, random_case, relative_error
from tests.test_interrupts import at_every_line, cores
from tests.test_objective import Quadratic
from tests.test_training import arrays_of

COUNTS = (1, 2, 3, 63, 64, 65, 1000)


def cotangents(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    return rng.standard_normal((count, size)), rng.standard_normal((count, size))


def assert_rows_are_those_alone(case: Case, count: int, rows: Any = None, **settings: Any) -> None:
    """Of a pullback of `count` losses, some rows or all."""
    w_bar, v_bar = cotangents(count, case.model.num_params)
    run = case.train()
    many = run.pullback(w_bar, v_bar, WRT, **settings)
    assert run.stats.exact
    for row in range(count) if rows is None else rows:
        alone = case.train()
        one = alone.pullback(w_bar[row], v_bar[row], WRT, **settings)
        found = {name: np.asarray(getattr(many, name))[row] for name in WRT}
        assert_same(found, {name: np.asarray(getattr(one, name)) for name in WRT})
        assert_same({"": run.stats.adjoint_norms[row]}, {"": alone.stats.adjoint_norms})
    for name in WRT:
        assert np.shape(getattr(many, name)) == (count, *np.shape(getattr(one, name)))
    np.testing.assert_array_equal(run.stats.adjoint_steps, alone.stats.adjoint_steps)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps on record, small and unequal blocks of losses, few steps between two returns to the run."""
    monkeypatch.setattr(workspace, "_BLOCK_LOSSES", (2, 2))
    monkeypatch.setattr(workspace, "_RECORD_STEPS", (3, 3))
    monkeypatch.setattr("fastrev._engine.compiled_walk._CHUNK_STEPS", 7)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", range(15))
def test_each_row_is_that_of_a_pullback_alone(seed, dtype):
    """All activations, losses, depths and shapes of arguments, by all that there is."""
    assert_rows_are_those_alone(random_case(seed, dtype=dtype), 5)


@pytest.mark.parametrize("per_run", [1, 2])
@pytest.mark.parametrize(("seed", "batch"), [(3, 600), (7, None), (10, 257), (14, 1)])
def test_batches_of_every_size(seed, batch, per_run, small_pieces):
    with fastrev.threads(per_run=per_run):
        assert_rows_are_those_alone(random_case(seed, examples=700, batch=batch), 7)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("count", COUNTS)
def test_any_number_of_losses(count, dtype):
    case = digits_like(steps=30, dtype=dtype)
    assert_rows_are_those_alone(case, count, {0, 1, count // 2, count - 2, count - 1} & set(range(count)))


@pytest.mark.parametrize("per_run", [1, 2])
@pytest.mark.parametrize("truncate", [None, 1, 6, 25, 100])
@pytest.mark.parametrize("count", [2, 5])
def test_steps_in_pieces(count, truncate, per_run, small_pieces):
    with fastrev.threads(per_run=per_run):
        assert_rows_are_those_alone(digits_like(steps=25), count, truncate=truncate)


def test_by_adam():
    case = digits_like(steps=20)
    model, arguments = case.model, {name: case.arguments[name] for name in ("train", "batch_size", "steps")}
    w_bar, _ = cotangents(3, model.num_params)

    def pullback(w_bar: np.ndarray) -> fastrev.Gradients:
        adam = fastrev.Adam(lr=np.full((20, 4), 0.01))
        return fastrev.train(model, case.w0, optimizer=adam, **arguments).pullback(w_bar)

    many = pullback(w_bar)
    for row in range(3):
        for name, one in vars(pullback(w_bar[row])).items():
            assert one is None or np.array_equal(getattr(many, name)[row], one)


def test_what_does_not_depend_on_the_other_rows():
    case = digits_like(steps=20, dtype=np.float32)
    w_bar, _ = cotangents(9, case.model.num_params)
    expected = case.train().pullback(w_bar, wrt=("w0", "x")).x[4]
    w_bar[[0, 1, 2, 3, 5, 6, 7, 8]] = 1e100  # which overflow on their way
    with pytest.warns(fastrev.ChaosWarning):
        found = case.train().pullback(w_bar, wrt=("w0", "x"))
    np.testing.assert_array_equal(found.x[4], expected)


@pytest.mark.parametrize("per_run", [1, 2])
def test_bytes_held_are_those_of_every_array(monkeypatch, per_run):
    case, made = random_case(7, examples=300, batch=280), []
    case.train().pullback(*cotangents(5, case.model.num_params), WRT)
    monkeypatch.setattr(compiled_many.CompiledManyBack, "compile", lambda back, state: made.append(back))
    run = case.train()
    held = run.stats.bytes_held
    with fastrev.threads(per_run=per_run):
        run.pullback(*cotangents(5, case.model.num_params), WRT)
    more: dict[int, np.ndarray] = {}
    for name, part in vars(made[0]).items():
        if name != "_walk":
            arrays_of(part, more)
    assert run.stats.bytes_held == held + sum(array.nbytes for array in more.values())


def test_one_row_is_no_vector():
    case = digits_like(steps=5)
    run = case.train()
    grad = run.pullback(np.ones((1, case.model.num_params)))
    assert (grad.lr.shape, grad.w0.shape) == ((1,), (1, case.model.num_params))
    assert run.stats.adjoint_norms.shape == (1, 6)


def test_a_list_of_validation_sets_is_that_of_each(monkeypatch):
    """Against autograd, unrolled."""
    case = random_case(4)
    xv, yv = case.arguments["valid"]
    sets = [(xv[:2], yv[:2]), (xv[2:], yv[2:]), (xv, yv)]
    result = case.meta_grad(valid=sets)
    assert result.loss.shape == (3,)
    for row, each in enumerate(sets):
        case.arguments["valid"] = each
        loss, expected = case.oracle()
        assert result.loss[row] == pytest.approx(loss, rel=1e-12)
        for name in WRT:
            assert relative_error(getattr(result.grad, name)[row], expected[name]) < 1e-9
        alone = case.meta_grad()
        assert result.loss[row] == alone.loss
        np.testing.assert_array_equal(result.grad.w0[row], alone.grad.w0)


def test_what_is_a_list_of_losses():
    case = digits_like(steps=5)
    xv, yv = case.arguments["valid"]
    f = lambda w: (w @ w, 2 * w)
    assert case.meta_grad(valid=[xv, yv], wrt=("lr",)).grad.lr.shape == ()
    assert case.meta_grad(valid=[(xv, yv)], wrt=("lr",)).grad.lr.shape == (1,)
    assert case.meta_grad(valid=[f, (xv, yv), f], wrt=("lr",)).loss.shape == (3,)
    with pytest.raises(fastrev.ArgumentError, match=r"'valid\[1\]' must be a function of the final weights alone"):
        case.meta_grad(valid=[f, lambda w, t: f(w)])
    with pytest.raises(fastrev.ArgumentError, match=r"^valid\[1\]\(w\) must return a pair of loss and gradient"):
        case.meta_grad(valid=[f, lambda w: 1.0])
    with pytest.raises(fastrev.DivergenceError, match=r"loss of valid\[1\] after training is inf"):
        case.meta_grad(valid=[f, lambda w: (np.inf, w)])


def test_who_takes_one_loss_says_who_takes_many():
    case = digits_like(steps=5)
    named = case.arguments | {"valid": [case.arguments["valid"]] * 2}
    tuned = {"learn": ("lr",), "meta_steps": 1, "runs": 1, "progress": False}
    doors = [
        lambda: fastrev.check_meta_grad(case.model, case.w0, **named),
        lambda: fastrev.tune(case.model, case.w0, **named, **tuned),
        lambda: fastrev_jax.validation_loss(case.model, case.w0, **named),
    ]
    if find_spec("torch"):  # which is not in the test extra
        doors.append(lambda: fastrev_torch.validation_loss(case.model, case.w0, **named))
    for door in doors:
        with pytest.raises(
            fastrev.ArgumentError, match=r"'valid' must be one loss here, .*a list of 2.*meta_grad takes"
        ):
            door()
    del named["valid"]
    with pytest.raises(fastrev.ArgumentError, match=r"'queries\[1\]' must be one loss here, .*a list of 1.*by itself"):
        fastrev.attribute(case.model, case.w0, queries=[lambda w: (0.0, w), [lambda w: (0.0, w)]], **named)


def test_an_objective():
    quadratic = Quadratic()
    settings = {"lr": 0.1, "decay": 0.9, "steps": 12}
    w0 = np.linspace(-1, 1, quadratic.num_params)
    w_bar, v_bar = cotangents(4, quadratic.num_params)
    many = fastrev.train(quadratic, w0, **settings).pullback(w_bar, v_bar)
    for row in range(4):
        one = fastrev.train(quadratic, w0, **settings).pullback(w_bar[row], v_bar[row])
        for name in ("lr", "decay", "w0", "v0"):
            np.testing.assert_array_equal(getattr(many, name)[row], getattr(one, name))
        for name, each in (one.theta or {}).items():
            np.testing.assert_array_equal(many.theta[name][row], each)
    losses = [lambda w: (w @ w, 2 * w), lambda w: (w.sum(), 0 * w + 1)]
    result = fastrev.meta_grad(quadratic, w0, valid=losses, **settings)
    assert result.grad.lr.shape == (2,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"w_bar": np.zeros((0, 43))},
            r"'w_bar' must have shape \(43,\).*, or \(K, 43\) for K losses, at least one, not",
        ),
        ({"w_bar": np.zeros((2, 42))}, r"'w_bar' must have shape \(43,\).*not shape \(2, 42\)"),
        ({"w_bar": np.zeros((1, 2, 43))}, r"'w_bar' must have shape \(43,\)"),
        ({"w_bar": np.full((2, 43), np.nan)}, r"'w_bar' must be finite, not nan at w_bar\[0, 0\]"),
        ({"v_bar": np.zeros(43)}, r"'v_bar' must have the shape of w_bar, \(2, 43\), not shape \(43,\)"),
        ({"v_bar": np.zeros((3, 43))}, r"'v_bar' must have the shape of w_bar"),
    ],
)
def test_errors_leave_the_run_as_it_was(changes, message):
    run = digits_like(steps=5).train()
    with pytest.raises(fastrev.ArgumentError, match=message):
        run.pullback(**({"w_bar": np.zeros((2, 43))} | changes))
    run.pullback(np.ones((2, 43)))
    assert run.stats.exact


def test_chaos_names_the_losses():
    case = digits_like(steps=60, lr=40.0)
    w_bar, _ = cotangents(12, case.model.num_params)
    w_bar[3] = 0.0
    with pytest.warns(
        fastrev.ChaosWarning, match=r"of 11 of 12 losses \(w_bar\[0, 1, 2, 4, 5, 6, 7, 8, \.\.\.\]\) grew"
    ) as caught:
        case.train().pullback(w_bar)
    assert len(caught) == 1


@pytest.mark.parametrize("per_run", [1, 2])
def test_interrupted_at_any_line(per_run, small_pieces):
    case = digits_like(steps=10)
    w_bar, _ = cotangents(5, case.model.num_params)
    case.train().pullback(w_bar)
    runs: list[fastrev.Run] = []
    before = cores()

    def make():
        runs.append(case.train())
        return lambda: runs[-1].pullback(w_bar)

    with fastrev.threads(per_run=per_run):
        for where in at_every_line(make):
            assert cores() == before, where
            if not runs[-1].stats.exact:
                runs[-1].rewind()
            assert runs[-1].stats.exact, where
    assert len(runs) > 60


def test_what_the_second_thread_raises_is_raised(monkeypatch, small_pieces):
    case = digits_like(steps=20)
    pull = compiled_many.CompiledManyBack._pull

    def fail(back: Any, hand: Any, *others: Any) -> None:
        if hand is back._hands[1]:
            raise ZeroDivisionError("beside")
        pull(back, hand, *others)

    monkeypatch.setattr(compiled_many.CompiledManyBack, "_pull", fail)
    run = case.train()
    with fastrev.threads(per_run=2), pytest.raises(ZeroDivisionError, match="beside"):
        run.pullback(np.ones((64, case.model.num_params)))
    run.rewind()
    assert run.stats.exact
