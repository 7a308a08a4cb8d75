"""The derivatives of steps made by hand, against the training unrolled and differentiated by autograd."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import numpy.typing as npt
import pytest

from fastrev import ArgumentError, ReversalError, ReversibleSGD
from fastrev.testing import assert_same
from tests import naive
from tests.test_reversible import sgd_state

Floats = npt.NDArray[np.float64]

P, T = 7, 12
RNG = np.random.default_rng(0)
A, W0, V0, THETA, C = RNG.normal(size=(20, P)), *RNG.normal(size=(3, P)), RNG.normal(size=P)
LRS = {"number": RNG.uniform(0.1, 0.5, T), "each": RNG.uniform(0.1, 0.5, (T, P)) * (RNG.random((T, P)) > 0.2)}
DECAYS = {
    "number": RNG.uniform(0.3, 1.0, T),
    "each": np.where(RNG.random((T, P)) > 0.2, RNG.uniform(0.3, 0.999, (T, P)), 1.0),
}


def loss(w: Any, theta: Any) -> Any:
    """What the steps descend on: not convex, and its Hessian depends on w and theta."""
    return anp.mean(anp.cos(anp.dot(A, w)) + 0.1 * anp.dot(A, w * theta) ** 2)


def of_the_end(w: Any, v: Any) -> Any:
    return anp.sum(anp.sin(w) * C) + anp.sum(v**2)


gradient = autograd.grad(loss)
hvp = autograd.grad(lambda w, u: anp.dot(gradient(w, THETA), u))
by_theta = autograd.grad(lambda theta, w, u: anp.dot(gradient(w, theta), u))


def g_at(w: Floats) -> Floats:
    return np.asarray(gradient(w, THETA))


def unrolled(w: Any, v: Any, lrs: Any, decays: Any, theta: Any) -> Any:
    for t in range(T):
        v = decays[t] * v - (1.0 - decays[t]) * gradient(w, theta)
        w = w + lrs[t] * v
    return of_the_end(w, v)


def trained(lr: str = "number", decay: str = "number") -> ReversibleSGD:
    sgd = ReversibleSGD(W0, V0)
    for t in range(T):
        sgd.step(g_at, LRS[lr][t], DECAYS[decay][t])
    return sgd


@pytest.mark.parametrize("lr", LRS)
@pytest.mark.parametrize("decay", DECAYS)
def test_derivatives_are_those_of_the_unrolled_training(lr: str, decay: str) -> None:
    sgd = trained(lr, decay)
    w_bar, v_bar = autograd.grad(of_the_end, argnum=(0, 1))(sgd.w, sgd.v)
    found = {name: np.zeros(tables[kind].shape) for name, tables, kind in (("lr", LRS, lr), ("decay", DECAYS, decay))}
    d_theta = np.zeros(P)
    for t in reversed(range(T)):
        back = sgd.backward(g_at, hvp, w_bar, v_bar, lr=LRS[lr][t], decay=DECAYS[decay][t])
        for name, by in found.items():
            assert np.shape(getattr(back, name)) == by[t].shape
            by[t] = getattr(back, name)
        np.testing.assert_array_equal(back.w, sgd.w)
        d_theta -= by_theta(THETA, back.w, back.u)
        w_bar, v_bar = back.w_bar, back.v_bar
    sgd.verify()
    decays = naive.snap(DECAYS[decay])
    expected = autograd.grad(unrolled, argnum=(0, 1, 2, 3, 4))(W0, V0, LRS[lr], decays, THETA)
    for found_one, expected_one in zip((w_bar, v_bar, *found.values(), d_theta), expected, strict=True):
        np.testing.assert_allclose(found_one, expected_one, rtol=1e-10, atol=1e-10)


def test_no_velocity_counts_for_nothing_and_arguments_are_not_written_to() -> None:
    backs = []
    for v_bar in (None, np.zeros(P), [0.0] * P):
        sgd, w_bar = trained(), C.copy()
        w_bar.setflags(write=False)

        def careless(w: Floats, u: Floats) -> Floats:
            product = hvp(w, u)
            w[:], u[:] = np.nan, np.nan  # its own copies
            product.setflags(write=False)
            return np.asarray(product)

        backs.append(sgd.backward(g_at, careless, w_bar, v_bar, lr=LRS["number"][-1], decay=DECAYS["number"][-1]))
        assert w_bar.tolist() == C.tolist()
        assert np.isfinite(np.concatenate(backs[-1][:2] + backs[-1][4:])).all()
    for name in backs[0]._fields:
        assert_same({name: getattr(backs[1], name)}, {name: getattr(backs[0], name)})
        assert_same({name: getattr(backs[2], name)}, {name: getattr(backs[0], name)})
    assert isinstance(backs[0].lr, float)
    assert isinstance(backs[0].decay, float)


FAULTS = [
    ({"w_bar": [1.0]}, ArgumentError, f"Argument 'w_bar' must have shape ({P},), one number per parameter"),
    ({"w_bar": np.full(P, np.nan)}, ArgumentError, "Argument 'w_bar' must be finite, not nan at w_bar[0]."),
    ({"v_bar": 1.0}, ArgumentError, f"Argument 'v_bar' must have shape ({P},), one number per parameter"),
    ({"hvp": None}, ArgumentError, "Argument 'hvp' must be a function of w and u, not None."),
    ({"hvp": lambda w, u: u[:1]}, ArgumentError, f"Argument 'hvp' must have shape ({P},), one number per parameter"),
    ({"hvp": lambda w, u: u + np.inf}, ArgumentError, "Argument 'hvp' must be finite, not "),
    ({"hvp": lambda w, u: u * np.nan}, ArgumentError, "Argument 'hvp' must be finite, not nan at hvp[0]."),
    ({"hvp": lambda w, u: 1 / 0}, ZeroDivisionError, "division by zero"),
    ({"hvp": lambda: None}, TypeError, ""),
    ({"g": [1.0]}, ArgumentError, "Argument 'g' must have shape"),
    ({"g": lambda w: 1 / 0}, ZeroDivisionError, "division by zero"),
    ({"g": np.zeros(P)}, ReversalError, f"Step {T - 1}, the last one left to undo, was made with another gradient"),
    ({"lr": 0.7}, ReversalError, f"Step {T - 1}, the last one left to undo, was made with lr = "),
    ({"decay": 0.7}, ReversalError, f"Step {T - 1}, the last one left to undo, was made with decay = "),
    ({"lr": -0.7}, ArgumentError, "Argument 'lr' must not be negative, not -0.7."),
    ({"decay": [0.7]}, ArgumentError, f"Argument 'decay' must be a number or have shape ({P},)"),
]


@pytest.mark.parametrize(("change", "error", "message"), FAULTS)
@pytest.mark.parametrize("kind", ["number", "each"])
def test_a_failure_changes_nothing(kind: str, change: dict[str, Any], error: type[Exception], message: str) -> None:
    sgd = trained(kind, kind)
    before = sgd_state(sgd)
    right: dict[str, Any] = {
        "g": g_at, "hvp": hvp, "w_bar": C, "v_bar": None, "lr": LRS[kind][-1], "decay": DECAYS[kind][-1]
    }  # fmt: skip
    with pytest.raises(error, match="^" + re.escape(message)):
        sgd.backward(**(right | change))
    assert_same(sgd_state(sgd), before)
    sgd.backward(**right)


def test_a_step_after_a_failure_of_the_first() -> None:
    """Also where the undo came to the start, at which everything is compared."""
    sgd = ReversibleSGD(W0, V0)
    sgd.step(g_at, 0.1, 0.9)
    before = sgd_state(sgd)
    with pytest.raises(ZeroDivisionError):
        sgd.backward(g_at, lambda w, u: 1 / 0, C, lr=0.1, decay=0.9)
    assert_same(sgd_state(sgd), before)
    sgd.backward(g_at, hvp, C, lr=0.1, decay=0.9)
    sgd.verify()
    with pytest.raises(ReversalError, match=r"^There is no step left to undo\. Nothing has changed\."):
        sgd.backward(g_at, hvp, C, lr=0.1, decay=0.9)


@pytest.mark.parametrize("inner", [lambda sgd: sgd.step(W0, 0.1, 0.9), lambda sgd: sgd.verify()])
def test_a_product_that_calls_back_is_refused(inner: Callable[[ReversibleSGD], object]) -> None:
    sgd = trained()
    before = sgd_state(sgd)
    with pytest.raises(ReversalError, match="was called while another call is at work"):
        sgd.backward(g_at, lambda w, u: inner(sgd), C, lr=LRS["number"][-1], decay=DECAYS["number"][-1])
    assert_same(sgd_state(sgd), before)
