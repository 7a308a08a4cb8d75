"""The model, and its derivatives by two independent ways."""

from __future__ import annotations

import autograd
import numpy as np
import pytest

import fastrev
from fastrev.kernels.mlp_gradient import ROWS
from tests import naive
from tests.cases import ACTIVATIONS, LOSSES, relative_error


def problem(sizes, activation, loss, examples=9, seed=0):
    """A model, its parameters, inputs, and targets that are soft and do not sum to one."""
    rng = np.random.default_rng(seed)
    model = fastrev.MLP(sizes, activation, loss)
    x, y = rng.standard_normal((examples, sizes[0])), rng.random((examples, sizes[-1]))
    return model, model.init(seed, scale=0.6), x, y


def objective(model, x, y, l2):
    """The objective of `MLP.grad` for autograd."""
    spread = naive.by_parameter(l2, model.sizes)
    ones = np.ones(len(x))
    return lambda w: naive.objective(
        w, x, y, ones, spread, sizes=model.sizes, activation=model.activation, loss=model.loss
    )


@pytest.mark.parametrize("depth", range(4))
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_and_hessian_vector_product(depth, activation, loss):
    model, w, x, y = problem((*(4, 5, 3, 6)[: depth + 1], 3), activation, loss)
    rng = np.random.default_rng(1)
    u = rng.standard_normal(w.size)
    l2 = [0.1, rng.random(len(model.groups)), rng.random(w.size)][depth % 3]
    f = objective(model, x, y, l2)
    assert relative_error(model.grad(w, x, y, l2), autograd.grad(f)(w)) < 1e-12
    assert relative_error(model.hvp(w, u, x, y, l2), autograd.make_hvp(f)(w)[0](u)) < 1e-11

    # a second way, along the random direction u
    step = 1e-5
    slope = (f(w + step * u) - f(w - step * u)) / (2 * step)
    assert model.grad(w, x, y, l2) @ u == pytest.approx(slope, rel=1e-6, abs=1e-8)
    if activation != "relu":  # whose gradient has jumps
        difference = (model.grad(w + step * u, x, y, l2) - model.grad(w - step * u, x, y, l2)) / (2 * step)
        assert relative_error(model.hvp(w, u, x, y, l2), difference) < 1e-6


@pytest.mark.parametrize("examples", [1, 2, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS, 2 * ROWS + 88])
def test_any_number_of_examples(examples):
    model, w, x, y = problem((3, 4, 2), "tanh", "cross_entropy", examples)
    f = objective(model, x, y, 0.0)
    u = np.random.default_rng(2).standard_normal(w.size)
    assert model.loss_value(w, x, y) == pytest.approx(f(w), rel=1e-13)
    assert relative_error(model.grad(w, x, y), autograd.grad(f)(w)) < 1e-12
    assert relative_error(model.hvp(w, u, x, y), autograd.make_hvp(f)(w)[0](u)) < 1e-11
    assert relative_error(model.outputs(w, x), naive.outputs(w, x, model.sizes, "tanh")) < 1e-13


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_float32_agrees_with_float64(activation, loss):
    model, w, x, y = problem((4, 5, 3), activation, loss)
    single = fastrev.MLP(model.sizes, activation, loss, np.float32)
    u = np.random.default_rng(1).standard_normal(w.size)
    assert relative_error(single.grad(w, x, y), model.grad(w, x, y)) < 1e-5
    assert relative_error(single.hvp(w, u, x, y), model.hvp(w, u, x, y)) < 1e-5
    assert single.loss_value(w, x, y) == pytest.approx(model.loss_value(w, x, y), rel=1e-5)
    assert single.grad(w, x, y).dtype == np.float64


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_large_outputs_stay_finite(loss, activation):
    model, w, x, y = problem((4, 5, 3), activation, loss)
    w, x = 50 * w, 20 * x
    f = objective(model, x, y, 0.0)
    assert model.loss_value(w, x, y) == pytest.approx(f(w), rel=1e-12)
    assert relative_error(model.grad(w, x, y), autograd.grad(f)(w)) < 1e-9


def test_init():
    model = fastrev.MLP((100, 400, 3))
    parts = model.unflatten(model.init(seed=1))
    assert parts["W1"].std() == pytest.approx(0.1, rel=0.02)
    assert parts["W2"].std() == pytest.approx(0.05, rel=0.1)
    assert not parts["b1"].any()
    assert not parts["b2"].any()
    assert np.array_equal(model.init(seed=1), model.init(seed=1))
    assert not np.array_equal(model.init(seed=1), model.init(seed=2))
    scaled = model.unflatten(model.init(seed=1, scale=[1, 2, 0, 0.5]))
    assert scaled["b1"].std() == pytest.approx(2, rel=0.1)
    assert not scaled["W2"].any()
    assert np.array_equal(model.init(1, scale=2), 2 * model.init(1, scale=1))


def test_groups():
    model = fastrev.MLP((4, 3, 2))
    assert model.num_params == 4 * 3 + 3 + 3 * 2 + 2
    assert list(model.groups) == ["W1", "b1", "W2", "b2"]
    w = np.arange(model.num_params, dtype=np.float64)
    parts = model.unflatten(w)
    assert [part.shape for part in parts.values()] == [(4, 3), (3,), (3, 2), (2,)]
    assert all(np.shares_memory(part, w) for part in parts.values())
    assert np.array_equal(np.concatenate([w[where] for where in model.groups.values()]), w)
    assert np.array_equal(model.flatten(parts), w)
    assert model.group_sums(w).tolist() == [part.sum() for part in parts.values()]
    assert repr(model) == "MLP((4, 3, 2), activation='tanh', loss='cross_entropy', dtype=numpy.float64)"


def test_predictions():
    x = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]])
    w = np.array([1.0, -1.0, -1.0, 1.0, 0.0, 0.0])  # z = (x0 - x1, x1 - x0)
    classes = fastrev.MLP((2, 2))
    assert classes.predict(w, x).tolist() == [0, 1, 0]
    assert classes.accuracy(w, x, [0, 1, 1]) == pytest.approx(2 / 3)
    assert classes.accuracy(w, x, np.eye(2)[[0, 1, 0]]) == 1
    binary = fastrev.MLP((2, 2), loss="logistic")
    assert binary.predict(w, x).tolist() == [[1, 0], [0, 1], [1, 0]]
    assert binary.accuracy(w, x, [[1, 0], [1, 1], [1, 0]]) == pytest.approx(5 / 6)
    values = fastrev.MLP((2, 2), loss="squared_error")
    assert values.predict(w, x).tolist() == [[1, -1], [-1, 1], [3, -3]]
    assert values.loss_value(w, x, np.zeros((3, 2))) == pytest.approx((1 + 1 + 9) / 3)
