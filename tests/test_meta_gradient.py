"""Meta-gradients against training unrolled in autograd, which knows nothing of reversal."""

from __future__ import annotations

import numpy as np
import pytest

import fastrev
from tests.cases import WRT, digits_like, random_case, relative_error


@pytest.mark.parametrize("seed", range(60))
def test_every_meta_gradient_is_the_unrolled_one(seed):
    case = random_case(seed)
    result = case.meta_grad()
    loss, expected = case.oracle()
    assert result.loss == pytest.approx(loss, rel=1e-12)
    assert result.stats.exact
    for name in WRT:
        gradient = getattr(result.grad, name)
        assert np.shape(gradient) == np.shape(expected[name]), name
        assert relative_error(gradient, expected[name]) < 1e-9, name


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_full_batch_and_more_rows_than_a_block(seed):
    case = random_case(seed, examples=300, batch=None)
    _, expected = case.oracle()
    result = case.meta_grad()
    for name in WRT:
        assert relative_error(getattr(result.grad, name), expected[name]) < 1e-9, name


def test_batches_larger_than_a_block_with_repeated_rows():
    case = random_case(7, examples=20, batch=600)
    _, expected = case.oracle()
    result = case.meta_grad()
    for name in WRT:
        assert relative_error(getattr(result.grad, name), expected[name]) < 1e-9, name


@pytest.mark.parametrize("seed", range(8))
def test_float32_agrees_with_float64(seed):
    double, single = random_case(seed).meta_grad(), random_case(seed, dtype=np.float32).meta_grad()
    for name in WRT:
        assert getattr(single.grad, name).dtype == np.float64
        assert relative_error(getattr(single.grad, name), getattr(double.grad, name)) < 1e-4, name


@pytest.mark.parametrize(("lr", "decay"), [(0.0, 0.9), (0.3, 1.0), (0.3, 2.0**-16), (0.0, 1.0)])
def test_edges_of_the_hyperparameters(lr, decay):
    case = random_case(5)
    case.arguments |= {"lr": lr, "decay": decay}
    _, expected = case.oracle()
    result = case.meta_grad()
    for name in WRT:
        error = np.abs(getattr(result.grad, name) - expected[name]).max()
        assert error <= 1e-9 * max(np.abs(expected[name]).max(), 1e-6), name


@pytest.mark.parametrize("argument", ["lr", "decay", "l2"])
def test_against_central_differences(argument):
    case = digits_like(l2=0.01)
    step = 1e-5
    losses = [case.meta_grad(**{argument: case.arguments[argument] + sign * step}).loss for sign in (1, -1)]
    numeric = (losses[0] - losses[1]) / (2 * step)
    assert getattr(case.meta_grad().grad, argument) == pytest.approx(numeric, rel=1e-4)


def test_scalars_give_scalars_and_what_is_not_asked_for_is_none():
    grad = digits_like().meta_grad(wrt=("lr", "l2")).grad
    assert isinstance(grad.lr, float)
    assert np.shape(grad.l2) == ()
    assert all(getattr(grad, name) is None for name in WRT if name not in ("lr", "l2"))
    assert digits_like().meta_grad(wrt=()).grad == fastrev.Gradients()


def test_wrt_changes_no_other_gradient():
    case = random_case(11)
    together = case.meta_grad().grad
    for name in WRT:
        assert np.array_equal(getattr(case.meta_grad(wrt=(name,)).grad, name), getattr(together, name))


def test_batch_size_and_seed_stand_for_minibatches():
    case = digits_like()
    drawn = case.meta_grad(seed=3)
    given = case.meta_grad(batch_size=None, batches=fastrev.minibatches(40, 8, 20, seed=3))
    assert drawn.loss == given.loss
    assert np.array_equal(drawn.grad.x, given.grad.x)
    assert drawn.loss != case.meta_grad(seed=4).loss


def test_classes_are_one_hot_targets():
    case = digits_like()
    x, y = case.arguments["train"]
    one_hot = case.meta_grad(train=(x, np.eye(3)[y]))
    classes = case.meta_grad()
    assert classes.loss == one_hot.loss
    assert classes.grad.y.shape == (40, 3)
    assert np.array_equal(classes.grad.y, one_hot.grad.y)


def test_the_training_set_may_validate():
    case = random_case(8)
    case.arguments["valid"] = case.arguments["train"]
    _, expected = case.oracle()
    result = case.meta_grad()
    for name in WRT:
        assert relative_error(getattr(result.grad, name), expected[name]) < 1e-9, name


def test_gradient_by_the_logarithms_of_initial_scales():
    case = digits_like()
    scale = np.array([0.5, 0.1, 0.4, 0.2])
    w0 = case.model.init(0, scale=scale)

    def loss(log_scale):
        case.w0 = case.model.init(0, scale=np.exp(log_scale))
        return case.meta_grad(wrt=()).loss

    case.w0 = w0
    by_log_scale = case.model.group_sums(w0 * case.meta_grad().grad.w0)
    numeric = [(loss(np.log(scale) + e) - loss(np.log(scale) - e)) / 2e-5 for e in 1e-5 * np.eye(4)]
    assert by_log_scale == pytest.approx(np.array(numeric), rel=1e-4, abs=1e-8)


def test_an_overflowing_adjoint_is_warned_of():
    # a steep basin: each step multiplies the distance by -9, its derivative by 81 over a step and back
    model = fastrev.MLP((1, 1), "identity", "squared_error", np.float32)
    x = np.full((1, 1), 3e3, np.float32)
    with pytest.warns(fastrev.ChaosWarning, match="meta-gradient overflowed"):
        result = fastrev.meta_grad(
            model, [0.0, 0.0], train=(x, np.zeros((1, 1))), valid=(x, np.ones((1, 1))), lr=1.0, decay=0.9, steps=60
        )
    assert result.stats.exact
