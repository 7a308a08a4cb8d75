"""The loss that a run is differentiated for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments, compilation
from fastrev._engine.architecture import Architecture
from fastrev._engine.evaluation import loss_and_gradient
from fastrev._engine.examples import as_pair
from fastrev._engine.types import AnyArray, FloatArray
from fastrev.errors import ArgumentError, DivergenceError

Validation = Callable[[FloatArray], tuple[float, npt.ArrayLike]]  # weights (P,) to a loss and its gradient (P,)


def validation(model: Any, valid: Any) -> Callable[[FloatArray], tuple[float, FloatArray]]:
    """The checked argument `valid` as a function of the final weights."""
    if callable(getattr(valid, "loss_and_grad", None)):
        return lambda w: _checked(valid.loss_and_grad(w.copy(), 0), w.size)
    if callable(valid):
        return lambda w: _checked(valid(w.copy()), w.size)
    if not isinstance(model, Architecture):
        raise arguments.fault(
            "valid",
            "be a function from weights (P,) to a pair of loss and gradient (P,), or an objective of fastrev.interop",
            f"a {type(valid).__name__}",
        )
    data, examples = as_pair(model, "valid", valid)

    def evaluate(w: FloatArray) -> tuple[float, FloatArray]:
        compilation.finish(model.dtype)
        loss, gradient = loss_and_gradient(model, w.astype(model.dtype), data, examples)
        return loss, gradient.astype(np.float64)

    return evaluate


def require_finite(run: Any, loss: float, w_bar: FloatArray) -> None:
    """Refuse a validation loss from which no meta-gradient can begin."""
    if not (np.isfinite(loss) and np.isfinite(w_bar).all()):
        raise DivergenceError(
            f"The validation loss after training is {loss:g} and its gradient is not finite. The likely cause is a "
            "learning rate that is too high, or validation inputs on another scale than the training inputs.",
            step=run.stats.steps, group="", run=run,
        )  # fmt: skip


def _checked(result: Any, size: int) -> tuple[float, FloatArray]:
    """What the user's function returned, NaN and infinity included, which others judge."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise ArgumentError(f"valid(w) must return a pair of loss and gradient (P,), not {type(result).__name__}.")
    loss, gradient = (_read(f"valid(w)[{position}]", each) for position, each in enumerate(result))
    if loss.shape not in ((), (1,)) or loss.dtype.kind not in "fiu":
        raise ArgumentError(f"valid(w)[0] must be a number, the loss, not {result[0]!r}.")
    if gradient.shape != (size,) or gradient.dtype.kind not in "fiu":
        raise ArgumentError(
            f"valid(w)[1] must be the gradient by the weights, of shape ({size},), not of shape {gradient.shape} and "
            f"dtype {gradient.dtype}."
        )
    return float(loss.reshape(-1)[0]), gradient.astype(np.float64)


def _read(what: str, value: Any) -> AnyArray:
    try:
        return arguments.plain(value)
    except ValueError as error:
        raise ArgumentError(f"{what} must be an array of real numbers, not {error}.") from None
