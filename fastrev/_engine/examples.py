"""Examples as the user gives them, to the flat arrays of the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.architecture import Architecture
from fastrev._engine.types import Floating
from fastrev.kernels import checks, losses
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
        raise arguments.fault(name, "be a pair (X, Y) of inputs and targets", what, f"Pass {name}=(X, Y).")
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
    x, n = _inputs(model, X, x_name)
    weights = np.empty(0, model.dtype) if example_weights is None else as_weights(model, example_weights, n)
    y = _targets(model, Y, n, y_name)
    return Data(x, y.reshape(-1), weights, unit_of(model, y)), n


def as_weights(model: Architecture, example_weights: npt.ArrayLike, n: int) -> npt.NDArray[Any]:
    """Check example weights (N,)."""
    finite = "Pass finite weights; 0 leaves an example out."
    weights = arguments.real_array("example_weights", example_weights, model.dtype, own=True, remedy=finite)
    if weights.shape != (n,):
        raise arguments.fault(
            "example_weights", f"have shape ({n},), one per training example", f"shape {weights.shape}",
            "Pass numpy.ravel(example_weights)." if weights.size == n else "",
        )  # fmt: skip
    return weights


def unit_of(model: Architecture, y: Floating) -> int:
    """1 if the mass of every target (N, K) is one (kernels/losses.py)."""
    if model.loss != "cross_entropy" or checks.all_one_hot(y.reshape(-1), model.sizes[-1]):
        return 1
    return int((y.sum(axis=1) == 1).all())


def as_inputs(model: Architecture, X: npt.ArrayLike, name: str) -> tuple[Data, int]:
    """Check inputs (N, D).  Returns data without targets, and N."""
    x, n = _inputs(model, X, name)
    return Data(x, np.empty(0, model.dtype), np.empty(0, model.dtype), 1), n


def _inputs(model: Architecture, X: npt.ArrayLike, name: str) -> tuple[npt.NDArray[Any], int]:
    """The same as a flat array."""
    x = arguments.real_array(name, X, model.dtype, remedy="Remove or impute NaN and infinite entries first.")
    d = model.sizes[0]
    if x.ndim and len(x) == 0:
        raise arguments.fault(name, "hold at least one example", f"shape {x.shape}")
    if x.ndim != 2 or x.shape[1] != d:
        raise arguments.fault(
            name, f"have shape (N, {d}), N examples of the model's {d} inputs", f"shape {x.shape}",
            "Pass X.reshape(len(X), -1) for images." if x.ndim > 2
            else f"Make a model of {x.shape[1]} inputs, or pass those of this one." if x.ndim == 2
            else "Pass X[:, None] for a single input, X[None] for a single example." if x.ndim
            else "Pass an array of a row for each example.",
        )  # fmt: skip
    return x.reshape(-1), len(x)


def shape_of_targets(model: Architecture, Y: npt.ArrayLike, n: int) -> tuple[int, ...]:
    """That of targets which were checked, and of derivatives by them: (N,) for one output, if they came so."""
    k = model.sizes[-1]
    return (n,) if k == 1 and np.ndim(Y) == 1 else (n, k)


def _targets(model: Architecture, Y: npt.ArrayLike, n: int, name: str) -> npt.NDArray[Any]:
    """Targets (N, K) in the model's dtype; classes become one-hot, (N,) targets of one output a column."""
    k = model.sizes[-1]
    y = arguments.as_array(name, Y)
    if y.shape == (n, k) or (k == 1 and y.shape == (n,)):
        values = y.astype(model.dtype) if y.dtype.kind == "b" else y  # the only ones that False and True stand for
        return arguments.real_array(name, values, model.dtype, remedy=_NO_TARGET).reshape(n, k)
    if y.dtype.kind in "OSU" and y.ndim == 0:
        raise arguments.fault(name, "be an array of targets", *arguments.not_real(Y, y))
    unequal = f"The inputs hold {n} examples, row i of both is one." if y.ndim and len(y) != n else ""
    if model.loss != "cross_entropy":
        shapes = f"(N, K) = ({n}, {k})" + (f" or (N,) = ({n},)" if k == 1 else "")
        raise arguments.fault(
            name, f"have shape {shapes} for loss={model.loss!r}", f"shape {y.shape}",
            unequal or ("Make a model of one output for one target, of loss='cross_entropy' for classes."
                        if y.ndim == 1 else "Every output has a column."),
        )  # fmt: skip
    if y.shape != (n,):
        raise arguments.fault(
            name, f"have shape ({n}, {k}) of class probabilities or ({n},) of classes", f"shape {y.shape}",
            unequal or ("Pass numpy.ravel(Y) for classes." if y.shape == (n, 1) else ""),
        )  # fmt: skip
    one_hot = np.zeros((n, k), model.dtype)
    if y.dtype.kind in "biu" and losses.mark(y.astype(np.int64), k, one_hot.reshape(-1)):
        return one_hot
    losses.mark(_classes(y, k, name), k, one_hot.reshape(-1))
    return one_hot


_NO_TARGET = "Remove the examples that have no finite target."


def _classes(y: npt.NDArray[Any], k: int, name: str) -> npt.NDArray[np.integer[Any]]:
    """Classes (N,) from 0 to K - 1: integers, or floats and bools that are as good."""
    if y.dtype.kind not in "biuf":
        received, remedy = arguments.not_whole(y, y)
        if y.dtype.kind == "O" and any(map(arguments.is_missing, y)):
            remedy = "Remove the examples that have no class."
        elif y.dtype.kind in "OSUM":
            remedy = "Number them: classes, Y = np.unique(Y, return_inverse=True)."
        raise arguments.fault(name, "hold whole numbers where it holds classes", received, remedy)
    outside = ~((y >= 0) & (y < k) & (np.floor(y) == y) if y.dtype.kind == "f" else (y >= 0) & (y < k))
    if not outside.any():
        return y.astype(np.int64)
    at = int(outside.argmax())
    first = y[at]
    if y.dtype.kind == "f" and not np.isfinite(first):
        raise arguments.fault(name, "be finite", f"{first} at {name}[{at}]", _NO_TARGET)
    if y.dtype.kind == "f" and np.floor(first) != first:
        raise arguments.fault(
            name, "hold whole numbers where it holds classes", f"{first} at {name}[{at}]",
            f"Pass probabilities of shape (N, {k}), or for other targets make the model with loss='squared_error'.",
        )  # fmt: skip
    raise arguments.fault(
        name, f"hold classes from 0 to {k - 1}, for the model's {k} outputs", f"{first} at {name}[{at}]",
        "Number the classes from 0, or give the model more outputs.",
    )  # fmt: skip
