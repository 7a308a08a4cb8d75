"""Losses that are asked about, each a function of the final weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from fastrev._engine import arguments, compilation, interruptible
from fastrev._engine.architecture import Architecture
from fastrev._engine.evaluation import loss_and_gradient, loss_of_each
from fastrev._engine.examples import as_pair
from fastrev._engine.types import FloatArray, Floating, Ints
from fastrev._engine.validation import of_examples, validation
from fastrev.kernels.structures import Data


class Queries(Protocol):
    """Q losses."""

    count: int  # Q
    name: str  # in messages, which put a number behind it

    @property
    def data(self) -> Data | None:
        """Inputs and targets, if they are examples."""

    def losses(self, w: FloatArray) -> FloatArray:
        """All of them, (Q,)."""

    def cotangents(self, w: FloatArray, which: Ints) -> tuple[FloatArray, FloatArray]:
        """Some of them, (K,), and their gradients, (K, P)."""


class ExampleQueries:
    """The loss of each of some checked examples of a network."""

    def __init__(self, model: Architecture, data: Data, count: int, name: str = "queries") -> None:
        self.count, self.name, self._model = count, name, model
        self.data = data._replace(weights=np.empty(0, model.dtype))

    def _example(self, query: int) -> tuple[Floating, Floating]:
        """Inputs (D,) and targets (K,) of one."""
        d, k = self._model.sizes[0], self._model.sizes[-1]
        return self.data.x[query * d : (query + 1) * d], self.data.y[query * k : (query + 1) * k]

    def losses(self, w: FloatArray) -> FloatArray:
        """All of them, (Q,)."""
        model, weights = self._model, w.astype(self._model.dtype)
        interruptible.compile_here("losses", None, model.dtype, lambda: loss_of_each(model, weights, self.data, 1))
        return loss_of_each(model, weights, self.data, self.count)

    def cotangents(self, w: FloatArray, which: Ints) -> tuple[FloatArray, FloatArray]:
        """Some of them, (K,), and their gradients, (K, P)."""
        compilation.finish(self._model.dtype)
        weights = w.astype(self._model.dtype)
        losses, gradients = np.empty(len(which)), np.empty((len(which), w.size))
        for at, i in enumerate(which.tolist()):
            x, y = self._example(i)
            losses[at], gradients[at] = loss_and_gradient(self._model, weights, self.data._replace(x=x, y=y), 1)
        return losses, gradients


class FunctionQueries:
    """Losses with their gradients, each by a function."""

    name = "queries"
    data = None

    def __init__(self, functions: Sequence[Callable[[FloatArray], tuple[float, FloatArray]]]) -> None:
        self.count, self._functions = len(functions), functions

    def losses(self, w: FloatArray) -> FloatArray:
        """All of them, (Q,)."""
        return np.array([function(w)[0] for function in self._functions])

    def cotangents(self, w: FloatArray, which: Ints) -> tuple[FloatArray, FloatArray]:
        """Some of them, (K,), and their gradients, (K, P)."""
        found = [self._functions[i](w) for i in which.tolist()]
        return np.array([loss for loss, _ in found]), np.stack([gradient for _, gradient in found])


def as_queries(model: Any, queries: Any) -> Queries:
    """The checked argument `queries`: a pair of examples, or a list of whatever `valid` may be."""
    if isinstance(model, Architecture) and isinstance(queries, tuple):
        return ExampleQueries(model, *_own(*as_pair(model, "queries", queries)))
    if not isinstance(queries, list) or not queries:
        pair = "a pair (X, Y) of examples or " if isinstance(model, Architecture) else ""
        raise arguments.fault(
            "queries", f"be {pair}a list of functions from weights (P,) to a pair of loss and gradient (P,)",
            "an empty list" if isinstance(queries, list) else arguments.named(queries),
        )  # fmt: skip
    return FunctionQueries([_function(model, f"queries[{i}]", each) for i, each in enumerate(queries)])


def _function(model: Any, name: str, query: Any) -> Callable[[FloatArray], tuple[float, FloatArray]]:
    if isinstance(model, Architecture) and isinstance(query, tuple):
        return of_examples(model, *_own(*as_pair(model, name, query)))
    return validation(model, query, name)


def _own(data: Data, count: int) -> tuple[Data, int]:
    """A copy of examples that are asked about again after retrainings."""
    return data._replace(x=data.x.copy(), y=data.y.copy()), count
