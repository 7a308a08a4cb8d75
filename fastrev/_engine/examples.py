"""Examples as the user gives them, to the flat arrays of the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.architecture import Architecture
from fastrev._engine.types import Floating
from fastrev.kernels.structures import Data


def as_pair(
    model: Architecture, name: str, pair: Any, example_weights: npt.ArrayLike | None = None
) -> tuple[Data, int]:
    """Check an argument ``(X, Y)``.  Returns the data and N, the number of examples."""
    X, Y = inputs_and_targets(name, pair)
    return as_data(model, X, Y, f"{name}[0]", f"{name}[1]", example_weights)


def inputs_and_targets(name: str, pair: Any) -> tuple[Any, Any]:
    """The two of a pair, whatever they are."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        what = f"{len(pair)} items" if isinstance(pair, tuple | list) else type(pair).__name__
        raise arguments.fault(name, "be a pair (X, Y) of inputs and targets", what)
    return pair[0], pair[1]


def as_data(
    model: Architecture,
    X: npt.ArrayLike,
    Y: npt.ArrayLike,
    x_name: str,
    y_name: str,
    example_weights: npt.ArrayLike | None = None,
) -> tuple[Data, int]:
    """Check inputs (N, D), targets and example weights (N,).  Returns the data and N."""
    inputs, n = as_inputs(model, X, x_name)
    weights = np.empty(0, model.dtype)
    if example_weights is not None:
        weights = arguments.real_array("example_weights", example_weights, model.dtype, own=True)
        if weights.shape != (n,):
            raise arguments.fault(
                "example_weights", f"have shape ({n},), one per training example", f"shape {weights.shape}"
            )
    y = _targets(model, Y, n, y_name)
    return Data(inputs.x, y.reshape(-1), weights, unit_of(model, y)), n


def unit_of(model: Architecture, y: Floating) -> int:
    """1 if the mass of every target (N, K) is one (kernels/losses.py)."""
    return int(model.loss != "cross_entropy" or bool((y.sum(axis=1) == 1).all()))


def as_inputs(model: Architecture, X: npt.ArrayLike, name: str) -> tuple[Data, int]:
    """Check inputs (N, D).  Returns data without targets, and N."""
    x = arguments.real_array(name, X, model.dtype)
    d = model.sizes[0]
    if x.ndim != 2 or x.shape[1] != d:
        raise arguments.fault(
            name, f"have shape (N, {d}), N examples of the model's {d} inputs", f"shape {x.shape}",
            "Pass X.reshape(len(X), -1) for images." if x.ndim > 2
            else f"Make a model of {x.shape[1]} inputs, or pass those of this one." if x.ndim == 2
            else "Pass X[:, None] for a single input, X[None] for a single example.",
        )  # fmt: skip
    if len(x) == 0:
        raise arguments.fault(name, "hold at least one example", f"shape {x.shape}")
    return Data(x.reshape(-1), np.empty(0, model.dtype), np.empty(0, model.dtype), 1), len(x)


def _targets(model: Architecture, Y: npt.ArrayLike, n: int, name: str) -> npt.NDArray[Any]:
    """Targets (N, K) in the model's dtype; integer classes become one-hot."""
    k = model.sizes[-1]
    y = arguments.as_array(name, Y)
    if y.shape == (n, k):
        return arguments.real_array(name, y, model.dtype)
    unequal = f"The inputs hold {n} examples, row i of both is one." if y.ndim and len(y) != n else ""
    if model.loss != "cross_entropy":
        raise arguments.fault(
            name, f"have shape (N, K) = ({n}, {k}) for loss={model.loss!r}", f"shape {y.shape}",
            unequal or "Pass Y[:, None] for a single output.",
        )  # fmt: skip
    if y.shape != (n,):
        raise arguments.fault(
            name, f"have shape ({n}, {k}) of class probabilities or ({n},) of integer classes", f"shape {y.shape}",
            unequal or ("Pass Y.ravel() for classes." if y.shape == (n, 1) else ""),
        )  # fmt: skip
    if y.dtype.kind not in "iu":
        numbered = "Number them: classes, Y = np.unique(Y, return_inverse=True)."
        raise arguments.fault(
            name, "be of integer type where it holds classes", f"of dtype {y.dtype}",
            numbered if y.dtype.kind in "USO" else "Pass Y.astype(int), or probabilities of shape (N, K).",
        )  # fmt: skip
    if y.min() < 0 or y.max() >= k:
        bad = y[(y < 0) | (y >= k)][0]
        raise arguments.fault(
            name, f"hold classes from 0 to {k - 1}, for the model's {k} outputs", f"{bad}",
            "Number the classes from 0, or give the model more outputs.",
        )  # fmt: skip
    one_hot = np.zeros((n, k), model.dtype)
    one_hot[np.arange(n), y] = 1
    return one_hot
