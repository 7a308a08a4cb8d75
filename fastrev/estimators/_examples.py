"""Weighted examples in an order of their own: what a fit depends on, and nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.types import AnyArray, FloatArray


class Examples(NamedTuple):
    """Distinct examples, each with a weight, 1 in the mean."""

    X: FloatArray  # (N, D)
    y: AnyArray  # (N,) or (N, K)
    weights: FloatArray  # (N,)


def as_weights(sample_weight: Any, examples: int) -> FloatArray:
    """The argument `sample_weight`, None for ones, as weights (N,) of which two at least are above 0."""
    if sample_weight is None:
        return np.ones(examples)
    given = arguments.as_array("sample_weight", sample_weight)
    weights = arguments.real_array("sample_weight", given.astype(np.float64) if given.dtype == bool else given)
    if weights.shape not in ((), (examples,)):
        raise arguments.fault("sample_weight", f"have shape ({examples},), one per example", f"shape {weights.shape}")
    if (weights < 0).any():
        raise arguments.fault(
            "sample_weight", "not be negative", f"{weights.min():g}", "Pass 0 to leave an example out."
        )
    weights = np.broadcast_to(weights, (examples,))
    if (there := np.count_nonzero(weights)) < 2:
        raise arguments.fault(
            "sample_weight", "be above zero for at least 2 examples, one of which is held out", f"for {there}"
        )
    return weights


def merged(X: FloatArray, y: npt.NDArray[np.int64] | FloatArray, weights: FloatArray) -> Examples:
    """Each distinct example once, with the sum of its weights; those of weight 0 not at all.

    So a weight of two is an example given twice, to the last bit, and the held-out part never holds a copy of what is
    trained on.  They are in the order of their values, which does not change with the units of the features.
    """
    there = np.flatnonzero(weights > 0)
    X, y, weights = X[there] + 0.0, y[there] + 0, weights[there]  # + 0: no -0.0, which has other bits than 0.0
    rows = np.hstack([_in_order(part.reshape(len(there), -1)) for part in (X, y)]).astype(">u8")  # first byte first
    keys = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).ravel()
    _, first, of = np.unique(keys, return_index=True, return_inverse=True)
    total = np.bincount(of.ravel(), weights)
    return Examples(X[first], y[first], total / total.mean())


def _in_order(values: AnyArray) -> npt.NDArray[np.uint64]:
    """Numbers of eight bytes as whole ones in the same order."""
    bits = np.ascontiguousarray(values).view(np.int64)
    negative_float = (bits < 0) & (values.dtype.kind == "f")  # whose order is the other way round
    return np.where(negative_float, ~bits, bits ^ np.iinfo(np.int64).min).view(np.uint64)
