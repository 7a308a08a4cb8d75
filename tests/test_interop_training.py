"""Training runs of losses written in JAX, PyTorch and autograd: differentiated by fastrev, and by the libraries."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import fastrev
from tests.unrolled import LIBRARIES, Library, central, computing_in_float64, meta_gradients

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((3, 6, 4)), RNG.standard_normal((3, 6, 2))


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Library:
    return Library(request.param)


@pytest.fixture(autouse=True)
def _wide_jax() -> Iterator[None]:
    yield from computing_in_float64()


FLAT = {"w1": (4, 3), "b1": (3,), "w2": (3, 2)}
SHAPES = [(), (4,), (1, 3), (4, 3), (4, 1)]


@dataclass
class Problem:
    """A loss with hyperparameters and all that a training run of it takes."""

    library: Library
    loss: Callable[..., Any]
    params: dict[str, Any]
    theta: dict[str, Any]
    arguments: dict[str, Any]

    def objective(self) -> tuple[Any, np.ndarray]:
        return self.library.adapter.objective(self.loss, self.params, self.theta)

    def unrolled(self) -> tuple[float, dict[str, Any]]:
        """The loss of step 4 at the final weights, and its derivatives by the library itself."""
        objective, w0 = self.objective()
        slices = objective.groups.items()

        def unflatten(w: Any) -> Any:
            return {name: w[where].reshape(FLAT[name]) for name, where in slices}

        constant = {name: self.library.array(value) for name, value in self.theta.items()}
        return meta_gradients(
            self.library, self.loss, unflatten, lambda w: self.loss(unflatten(w), constant, 4),
            groups=objective.groups, w0=w0, theta=self.theta, **self.arguments,
        )  # fmt: skip


def problem(library: Library, lr: tuple[int, ...], decay: tuple[int, ...]) -> Problem:
    xp, x, y = library.numpy, library.array(X), library.array(Y)

    def loss(params: Any, theta: Any, t: Any) -> Any:
        hidden = xp.tanh((x[t % 3] * theta["scale"]) @ params["w1"] + params["b1"])
        residual = hidden @ params["w2"] - y[t % 3]
        return (residual**2).mean() + theta["l2"] * (params["w1"] ** 2).sum()

    rng = np.random.default_rng(5)
    return Problem(
        library,
        loss,
        {name: rng.standard_normal(shape) for name, shape in FLAT.items()},
        {"l2": np.array(0.05), "scale": rng.uniform(0.5, 1.5, 4)},
        {
            "steps": 4,
            "v0": rng.normal(0, 0.1, 21),
            "lr": rng.uniform(0.1, 0.5, lr),
            "decay": rng.uniform(0.3, 1, decay),
        },
    )


def test_unrolled_references_agree(library: Library) -> None:
    value, found = problem(library, (4, 3), (4, 3)).unrolled()
    expected, reference = problem(Library("autograd"), (4, 3), (4, 3)).unrolled()
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    for name in ("w0", "v0", "lr", "decay"):
        np.testing.assert_allclose(found[name], reference[name], rtol=1e-10, atol=1e-13)
    for name, each in reference["theta"].items():
        np.testing.assert_allclose(found["theta"][name], each, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_unrolled_references_against_central_differences(shape: tuple[int, ...]) -> None:
    case = problem(Library("autograd"), shape, ())
    _, found = case.unrolled()
    step = np.cos(np.arange(case.arguments["lr"].size)).reshape(shape)

    def moved(h: float) -> float:
        return replace(case, arguments=case.arguments | {"lr": case.arguments["lr"] + h * step}).unrolled()[0]

    assert found["lr"].shape == shape
    np.testing.assert_allclose((found["lr"] * step).sum(), central(moved), rtol=1e-7)


# ---- trained and differentiated by fastrev -------------------------------------------------------------------


def assert_the_same(case: Problem) -> None:
    objective, w0 = case.objective()
    assert isinstance(objective, fastrev.Objective)
    result = fastrev.meta_grad(
        objective, w0, valid=lambda w: objective.loss_and_grad(w, 4),
        wrt=("lr", "decay", "w0", "v0", "theta"), **case.arguments,
    )  # fmt: skip
    value, expected = case.unrolled()
    np.testing.assert_allclose(result.loss, value, rtol=1e-11)
    for name in ("lr", "decay", "w0", "v0"):
        close(getattr(result.grad, name), expected[name])
    assert result.grad.theta.keys() == case.theta.keys()
    for name, each in expected["theta"].items():
        close(result.grad.theta[name], each)
    assert result.stats.exact


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("decay", SHAPES)
@pytest.mark.parametrize("lr", SHAPES)
def test_meta_gradients_of_every_shape(lr: tuple[int, ...], decay: tuple[int, ...]) -> None:
    assert_the_same(problem(Library("autograd"), lr, decay))


@pytest.mark.parametrize("shapes", [((), (4,)), ((4, 3), (1, 3)), ((4,), (4, 3))])
def test_meta_gradients(library: Library, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    assert_the_same(problem(library, *shapes))


def test_the_curved_valley_of_figure_1() -> None:
    """Maclaurin et al. 2015, figure 1: 50 steps in a valley of two parameters."""
    import autograd.numpy as anp

    def valley(w: Any, theta: Any, t: int) -> Any:
        rosenbrock = anp.sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2 + 200 * w[:-1])
        return 800 / (1 + anp.exp(-rosenbrock / 500))

    objective, w0 = Library("autograd").adapter.objective(valley, np.array([1.4, 3.9]))
    arguments = {"steps": 50, "v0": np.zeros(2), "lr": np.exp(-4.5), "decay": 0.99}
    result = fastrev.meta_grad(
        objective, w0, valid=lambda w: objective.loss_and_grad(w, 0),
        wrt=("lr", "decay", "w0", "v0"), **arguments,
    )  # fmt: skip
    assert result.loss == pytest.approx(395.355207, abs=5e-7)
    value, expected = meta_gradients(
        Library("autograd"), valley, lambda w: w, lambda w: valley(w, {}, 0),
        groups=objective.groups, w0=w0, theta={}, **arguments,
    )  # fmt: skip
    np.testing.assert_allclose(result.loss, value, rtol=1e-11)
    for name in ("lr", "decay", "w0", "v0"):
        close(getattr(result.grad, name), expected[name])


def loss_to_pickle(params: Any, theta: Any, t: Any) -> Any:
    """With operators alone, which all libraries have."""
    return (params["a"] ** 4).sum() + theta["l2"] * ((params["a"] - t) ** 2).sum()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))])
def test_runs_of_losses_are_copied_and_travel(library: Library, copied: Callable[[Any], Any]) -> None:
    objective, w0 = library.adapter.objective(loss_to_pickle, {"a": np.linspace(-1, 1, 5)}, {"l2": 0.5})
    objective = objective.with_theta({"l2": 0.25})
    run = fastrev.train(objective, w0, lr=0.1, decay=0.9, steps=7)
    other = copied(run)
    grad, expected = other.pullback(other.w), run.pullback(run.w)
    np.testing.assert_array_equal(grad.w0, expected.w0)
    np.testing.assert_array_equal(grad.theta["l2"], expected.theta["l2"])
    assert copied(objective).theta.keys() == {"l2"}
