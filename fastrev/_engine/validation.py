"""The loss that a run is differentiated for, and losses along its way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine import announcing, arguments, compilation, interruptible
from fastrev._engine.architecture import Architecture
from fastrev._engine.evaluation import loss_and_gradient, loss_value
from fastrev._engine.examples import as_data, as_pair
from fastrev._engine.received import UnreadableError, plain
from fastrev._engine.types import AnyArray, FloatArray
from fastrev.errors import ArgumentError, DivergenceError
from fastrev.kernels.checks import all_finite
from fastrev.kernels.structures import Data

Validation = Callable[[FloatArray], tuple[float, npt.ArrayLike]]  # weights (P,) to a loss and its gradient (P,)


def validations(model: Any, valid: Any) -> Callable[[FloatArray], tuple[Any, FloatArray]]:
    """The same of a list of such: a function from weights to K losses (K,) and their gradients (K, P)."""
    if not is_list(valid):
        return validation(model, valid)
    functions = [validation(model, each, f"valid[{i}]") for i, each in enumerate(valid)]

    def evaluate(w: FloatArray) -> tuple[Any, FloatArray]:
        losses, gradients = zip(*(function(w) for function in functions), strict=True)
        return np.array(losses), np.stack(gradients)

    return evaluate


def is_list(valid: Any) -> bool:
    """Whether there are several losses: a list of pairs, which are tuples, or functions.  Else it is one pair X, Y."""
    return isinstance(valid, list) and bool(valid) and all(_is_one(each) for each in valid)


def _is_one(valid: Any) -> bool:
    pair = isinstance(valid, tuple) and len(valid) == 2
    return pair or callable(valid) or callable(getattr(valid, "loss_and_grad", None))


def require_one(name: str, valid: Any) -> None:
    """Refuse a list of losses where one is to be passed."""
    if is_list(valid):
        remedy = "fastrev.meta_grad takes a list of them." if name == "valid" else "Pass each by itself."
        raise arguments.fault(name, "be one loss here, a pair (X, Y) or a function", f"a list of {len(valid)}", remedy)


def validation(model: Any, valid: Any, name: str = "valid") -> Callable[[FloatArray], tuple[float, FloatArray]]:
    """The checked argument `valid`, or what else takes the same, as a function of the final weights."""
    require_one(name, valid)
    if callable(getattr(valid, "loss_and_grad", None)):
        return lambda w: _checked(name, valid.loss_and_grad(w.copy(), 0), w.size)
    if callable(valid):
        if not arguments.takes(valid, 1):
            called = getattr(valid, "__name__", repr(valid))
            raise arguments.fault(
                name, "be a function of the final weights alone", f"{called}, which takes other arguments",
                "For a loss in JAX, PyTorch or autograd pass the objective that fastrev.interop makes of it.",
            )  # fmt: skip
        return lambda w: _checked(name, valid(w.copy()), w.size)
    if not isinstance(model, Architecture):
        raise arguments.fault(
            name,
            "be a function from weights (P,) to a pair of loss and gradient (P,), or an objective of fastrev.interop",
            f"a {type(valid).__name__}",
        )
    return of_examples(model, *as_pair(model, name, valid))


def of_examples(model: Architecture, data: Data, examples: int) -> Callable[[FloatArray], tuple[float, FloatArray]]:
    """The mean loss of checked examples and its gradient, as a function of the final weights."""

    def evaluate(w: FloatArray) -> tuple[float, FloatArray]:
        with announcing.waiting():
            compilation.finish(model.dtype)
        loss, gradient = loss_and_gradient(model, w.astype(model.dtype, copy=False), data, examples)
        return loss, gradient.astype(np.float64, copy=False)

    return evaluate


def loss_function(model: Architecture | None, name: str, what: Sequence[Any]) -> Callable[[FloatArray], float] | None:
    """Examples X, Y of a network, or one function, as a function of weights that are given away; None for neither."""
    if model is not None and len(what) == 2:
        data, examples = as_data(model, what[0], what[1], f"{name}[0]", f"{name}[1]")

        def evaluate(w: FloatArray) -> float:
            weights = w.astype(model.dtype, copy=False)
            interruptible.compile_here("loss", None, model.dtype, lambda: loss_value(model, weights, data, 1))
            return loss_value(model, weights, data, examples)

        return evaluate
    function = what[0]
    if callable(getattr(function, "loss_and_grad", None)):
        return lambda w: _loss(f"{name}[0].loss(w, 0)", function.loss(w, 0))
    if callable(function):
        return lambda w: _loss_of_pair(f"{name}[0](w)", function(w))
    return None


def require_finite(run: Any, loss: Any, w_bar: FloatArray) -> None:
    """Refuse a validation loss, or one of several, from which no meta-gradient can begin."""
    if all_finite(np.array(loss, np.float64, ndmin=1)) and all_finite(w_bar.reshape(-1)):
        return
    for i, (each, gradient) in enumerate(zip(np.atleast_1d(loss), np.atleast_2d(w_bar), strict=True)):
        if not (np.isfinite(each) and np.isfinite(gradient).all()):
            which = f" of valid[{i}]" if np.ndim(loss) else ""
            raise DivergenceError(
                f"The validation loss{which} after training is {each:g} and its gradient is not finite. The likely "
                "cause is a learning rate that is too high, or validation inputs on another scale than the training "
                "inputs.",
                step=run.stats.steps, group="", run=run,
            )  # fmt: skip


def _checked(name: str, result: Any, size: int) -> tuple[float, FloatArray]:
    """What the user's function returned, NaN and infinity included, which others judge."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise ArgumentError(f"{name}(w) must return a pair of loss and gradient (P,), not {type(result).__name__}.")
    loss, gradient = _loss(f"{name}(w)[0]", result[0]), _read(f"{name}(w)[1]", result[1])
    if gradient.shape != (size,) or gradient.dtype.kind not in "fiu":
        raise ArgumentError(
            f"{name}(w)[1] must be the gradient by the weights, of shape ({size},), not of shape {gradient.shape} and "
            f"dtype {gradient.dtype}."
        )
    return loss, gradient.astype(np.float64)


def _loss_of_pair(what: str, result: Any) -> float:
    """The loss, whether the gradient comes with it or not."""
    if isinstance(result, tuple) and len(result) == 2:
        return _loss(f"{what}[0]", result[0])
    return _loss(what, result)


def _loss(what: str, value: Any) -> float:
    loss = _read(what, value)
    if loss.shape not in ((), (1,)) or loss.dtype.kind not in "fiu":
        raise ArgumentError(f"{what} must be a number, the loss, not {value!r}.")
    return float(loss.reshape(-1)[0])


def _read(what: str, value: Any) -> AnyArray:
    try:
        return plain(value)
    except UnreadableError as error:
        raise ArgumentError(f"{what} must be an array of real numbers, not {error.in_full}.") from None
