"""Training unrolled in JAX, PyTorch and autograd, which differentiate it themselves: they know nothing of reversal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests import naive

LIBRARIES = ("jax", "torch", "autograd")

Array = Any  # of any of the libraries
Loss = Callable[[Any, Mapping[str, Array], Any], Array]


class Library:
    """What differs between the libraries, under names of ours."""

    def __init__(self, name: str) -> None:
        pytest.importorskip(name, reason="PyTorch is not in the test extra")
        self.name = name
        self.adapter: ModuleType = import_module(f"fastrev.interop.{name}")
        self.numpy = import_module({"jax": "jax.numpy", "torch": "torch", "autograd": "autograd.numpy"}[name])

    def array(self, value: Any, dtype: type | None = None) -> Array:
        """An array of the library; autograd's are NumPy's."""
        value = np.asarray(value, dtype)
        return value if self.name == "autograd" else self.numpy.asarray(value)

    def gradient(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        """The gradient of a function of one array, to be differentiated again."""
        if self.name == "torch":
            torch = self.numpy

            def gradient(w: Array) -> Array:
                w = w if w.requires_grad else w.detach().requires_grad_()
                return torch.autograd.grad(function(w), w, create_graph=True)[0]

            return gradient
        return import_module(self.name).grad(function)

    def value_and_gradients(
        self, function: Callable[..., Array], arguments: Sequence[np.ndarray]
    ) -> tuple[float, list[np.ndarray]]:
        """A function's value, and its derivative by each argument."""
        if self.name == "torch":
            torch = self.numpy
            tensors = [torch.tensor(each, requires_grad=True) for each in arguments]
            value = function(*tensors)
            found = torch.autograd.grad(value, tensors, allow_unused=True, materialize_grads=True)
            return value.item(), [each.numpy() for each in found]
        where = tuple(range(len(arguments)))
        if self.name == "jax":
            jax = import_module("jax")
            value, found = jax.jit(jax.value_and_grad(function, where))(*arguments)
        else:
            value = function(*arguments)
            found = import_module("autograd").grad(function, where)(*arguments)
        return float(value), [np.asarray(each) for each in found]


def meta_gradients(
    library: Library,
    loss: Loss,
    unflatten: Callable[[Array], Any],
    final: Callable[[Array], Array],
    *,
    groups: Mapping[str, slice],
    steps: int,
    w0: np.ndarray,
    v0: np.ndarray,
    lr: np.ndarray,
    decay: np.ndarray,
    theta: Mapping[str, np.ndarray],
) -> tuple[float, dict[str, Any]]:
    """The loss of the final weights, and the library's own derivatives of it.

    ``v <- decay v - (1 - decay) g``, ``w <- w + lr v``, with the ratio n/d that fastrev takes for each decay.
    `lr` and `decay` are of shape (), (T,), (T, 1), (1, G) or (T, G); ``final(w)`` is the loss of the final weights.
    """
    group_of = np.concatenate([np.full(each.stop - each.start, k) for k, each in enumerate(groups.values())])
    ones = library.array(np.ones((steps, group_of.size)))

    def every(value: Array) -> Array:
        """The (T, P) table of a hyperparameter."""
        if value.ndim == 2 and value.shape[1] > 1:
            value = value[:, group_of]
        return (value.reshape((-1, 1)) if value.ndim == 1 else value) * ones

    def train(w: Array, v: Array, lr: Array, decay: Array, *hyper: Array) -> Array:
        lr, decay = every(lr), every(decay)
        named = dict(zip(theta, hyper, strict=True))
        for t in range(steps):
            g = library.gradient(lambda w, t=t: loss(unflatten(w), named, t))(w)
            v = decay[t] * v - (1 - decay[t]) * g
            w = w + lr[t] * v
        return final(w)

    arguments = [w0, v0, lr, naive.snap(decay), *theta.values()]
    value, found = library.value_and_gradients(train, [np.array(each, np.float64) for each in arguments])
    named = dict(zip(("w0", "v0", "lr", "decay"), found[:4], strict=True))
    return value, named | {"theta": dict(zip(theta, found[4:], strict=True))}


def computing_in_float64() -> Iterator[None]:
    """For a fixture: JAX computes in float64 meanwhile."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def central(function: Callable[[float], Any], h: float = 1e-5) -> Any:
    """The derivative at 0, by a central difference."""
    return (function(h) - function(-h)) / (2 * h)
