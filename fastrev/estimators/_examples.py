"""Weighted examples in an order of their own: what a fit depends on, and nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.types import AnyArray, FloatArray, Ints


class Examples(NamedTuple):
    """Distinct examples, each with a weight above 0."""

    X: FloatArray  # (N, D)
    y: AnyArray  # (N,) or (N, K)
    weights: FloatArray  # (N,)

    def weighed(self, factors: FloatArray) -> Examples:
        """With weights that are multiplied."""
        return self._replace(weights=self.weights * factors)

    def normalised(self) -> Examples:
        """With weights that are 1 in the mean; equal ones are 1, to the last bit.  What weighs nothing is not there."""
        there, weights = self.there(), self.weights / self.weights.max()
        weights = weights[there]
        return Examples(self.X[there], self.y[there], weights / weights.mean())

    def there(self) -> npt.NDArray[np.bool_]:
        """Which of them weigh something beside the others."""
        return np.asarray(self.weights / self.weights.max() > np.finfo(np.float32).tiny)


def as_weights(sample_weight: Any, examples: int) -> FloatArray:
    """The argument `sample_weight`, None for ones, as weights (N,) of which two at least are above 0."""
    if sample_weight is None:
        return np.ones(examples)
    given = arguments.as_array("sample_weight", sample_weight)
    weights = arguments.real_array("sample_weight", given.astype(np.float64) if given.dtype == bool else given)
    if weights.shape not in ((), (examples,)):
        raise arguments.fault("sample_weight", f"have shape ({examples},), one per example", f"shape {weights.shape}")
    if (weights < 0).any():
        raise arguments.fault("sample_weight", "not be negative", f"{weights.min():g}", "Pass 0 to leave one out.")
    weights = np.broadcast_to(weights, (examples,))
    with np.errstate(over="ignore"):
        if np.isinf(weights.sum()):
            raise arguments.fault("sample_weight", "have a finite sum", f"up to {weights.max():g}")
    if (there := np.count_nonzero(weights)) < 2:
        raise arguments.fault(
            "sample_weight", "be above zero for at least 2 examples, one of which is held out", f"for {there}"
        )
    return weights


def merged(X: FloatArray, y: npt.NDArray[np.int64] | FloatArray, weights: FloatArray) -> Examples:
    """Each distinct example once, with the sum of its weights.

    So a weight of two is an example given twice, to the last bit, and the held-out part never holds a copy of what is
    trained on.  They are in the order of their values, which does not change with the units of the features.
    """
    first, of = distinct(X, y)
    return Examples(X[first] + 0.0, y[first] + 0, sums(of, weights))  # no -0.0, which has other bits than 0.0


def distinct(X: FloatArray, y: npt.NDArray[np.int64] | FloatArray) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where each distinct example is first, in the order of `merged`, and which of them each row is."""
    rows = np.hstack([_in_order(part.reshape(len(part), -1)) for part in (X + 0.0, y + 0)]).astype(">u8")  # as bytes
    keys = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).ravel()
    _, first, of = np.unique(keys, return_index=True, return_inverse=True)
    return first, of.ravel()


def sums(of: npt.NDArray[np.intp] | Ints, weights: FloatArray) -> FloatArray:
    """Of the weights of each group, added from the smallest on: to the same bits, in whatever order they come."""
    order = np.argsort(weights, kind="stable")
    return np.asarray(np.bincount(of[order], weights[order]), np.float64)


def _in_order(values: AnyArray) -> npt.NDArray[np.uint64]:
    """Numbers of eight bytes as whole ones in the same order."""
    bits = np.ascontiguousarray(values).view(np.int64)
    negative_float = (bits < 0) & (values.dtype.kind == "f")  # whose order is the other way round
    return np.where(negative_float, ~bits, bits ^ np.iinfo(np.int64).min).view(np.uint64)
