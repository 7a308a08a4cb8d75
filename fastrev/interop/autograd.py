"""Losses written with HIPS autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine.extras import require
from fastrev._engine.types import AnyArray, FloatArray
from fastrev.interop._shared import (
    Leaves,
    LossObjective,
    callable_loss,
    detached,
    hyperparameters,
    read_leaves,
    real_scalar,
    rebuild,
    walk,
)


def objective(
    loss: Callable[[Any, dict[str, Any], int], Any],
    params: Any,
    theta: Mapping[str, npt.ArrayLike] | None = None,
) -> tuple[LossObjective, FloatArray]:
    """A loss written with autograd, as an objective to train and differentiate.

    Parameters
    ----------
    loss : callable
        ``loss(params, theta, t)``, the scalar loss of step t, written in `autograd.numpy`: a function of its arguments
        alone.
    params : array, float, or dict, list or tuple of params
        Initial weights, all float32 or all float64.
    theta : dict of str to array, optional
        Hyperparameters of the loss, floats of any shape.  The loss gets them in the dtype of params, and an empty
        dictionary if there are none.

    Returns
    -------
    objective : LossObjective
        See its methods.
    w0 : ndarray of float64, shape (P,)
        The weights of params in one vector, dictionaries by sorted keys.

    Raises
    ------
    MissingExtraError
        If autograd is not installed.
    ArgumentError
        If params have leaves of another dtype or of several; if theta is not a dictionary of finite floats.  On use, if
        the loss is not a real scalar, or has no derivative by any of the params.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrev.interop import autograd
    >>> def loss(params, theta, t):
    ...     return ((params["a"] - t) ** 2).sum() + theta["l2"] * params["b"] ** 2
    >>> objective, w0 = autograd.objective(loss, {"a": np.ones(2), "b": 3.0}, {"l2": 0.5})
    >>> dict(objective.groups)
    {'a': slice(0, 2, None), 'b': slice(2, 3, None)}
    >>> objective.grad(w0, 2)
    array([-2., -2.,  3.])
    >>> objective.cross(w0, [0, 0, 1], 2)
    {'l2': array(6.)}
    """
    require("autograd", "autograd", "fastrev.interop.autograd")
    callable_loss(loss)
    leaves, w0 = read_leaves(walk(params), np.float64)
    hyper = hyperparameters(theta)
    named = Leaves(tuple(hyper), tuple(value.shape for value in hyper.values()), leaves.dtype)
    return LossObjective(_derivatives(loss, params, leaves, named), leaves, hyper), w0


def _derivatives(loss: Callable[..., Any], tree: Any, leaves: Leaves, theta: Leaves) -> _Derivatives:
    autograd = require("autograd", "autograd", "fastrev.interop.autograd")
    return _Derivatives(autograd, loss, tree, leaves, theta)


class _Derivatives:
    """Derivatives, traced anew at every call.

    Reverse over reverse: 3.0 ms an `hvp` and 3.5 an `hvp_and_cross` of a 64-32-10 MLP, where reverse over forward takes
    2.5 and 2.6, and a gradient 1.2 (`python -m bench.choices autograd`).  That would need a forward rule of every
    function that the loss uses, and 89 of autograd's 216 have none.
    """

    library = "autograd"
    jitted = False

    def __init__(self, autograd: Any, loss: Callable[..., Any], tree: Any, leaves: Leaves, theta: Leaves) -> None:
        self._autograd, self._loss, self._tree, self._leaves, self._theta = autograd, loss, tree, leaves, theta
        self._gradient = autograd.grad(self._checked)

    def __reduce__(self) -> tuple[Any, ...]:
        return _derivatives, (self._loss, self._tree, self._leaves, self._theta)

    def loss(self, w: AnyArray, theta: Mapping[str, Any], t: int) -> Any:
        return self._value(w, theta, t)

    def grad(self, w: AnyArray, theta: Mapping[str, Any], t: int) -> Any:
        return self._gradient(w, theta, t)

    def hvp(self, w: AnyArray, theta: Mapping[str, Any], u: AnyArray, t: int) -> Any:
        return self._along(lambda vector: (vector, theta), w, u, t)

    def cross(self, w: AnyArray, theta: Mapping[str, Any], u: AnyArray, t: int) -> Mapping[str, Any]:
        crossed = self._along(lambda vector: (w, self._theta.named(vector)), self._vector(theta), u, t)
        return self._theta.named(crossed)

    def hvp_and_cross(
        self, w: AnyArray, theta: Mapping[str, Any], u: AnyArray, t: int
    ) -> tuple[Any, Mapping[str, Any]]:
        def parts(joint: Any) -> tuple[Any, Mapping[str, Any]]:
            return joint[: w.size], self._theta.named(joint[w.size :])

        return parts(self._along(parts, np.concatenate([w, self._vector(theta)]), u, t))

    def unflatten(self, w: Any) -> Any:
        return rebuild(self._tree, iter(self._leaves.pieces(w)))

    def _along(
        self, point: Callable[[Any], tuple[Any, Mapping[str, Any]]], vector: AnyArray, u: AnyArray, t: int
    ) -> AnyArray:
        """The derivative of gradient . u by the vector, of which `point` makes weights and hyperparameters."""

        def along(vector: Any) -> Any:
            nothing = vector[:0].sum()  # or autograd warns where, as of a linear loss, the result does not depend on it
            return self._autograd.numpy.dot(self._gradient(*point(vector), t), u) + nothing

        derivative: AnyArray = self._autograd.grad(along)(vector)
        return derivative

    def _value(self, w: Any, theta: Mapping[str, Any], t: int) -> Any:
        return self._loss(self.unflatten(w), theta, t)

    def _checked(self, w: Any, theta: Mapping[str, Any], t: int) -> Any:
        value = self._value(w, theta, t)
        if not isinstance(value, self._autograd.tracer.Box):
            raise detached(f"a {type(value).__name__}", "autograd.numpy")
        real_scalar(self._autograd.tracer.getval(value))
        return value

    def _vector(self, theta: Mapping[str, Any]) -> AnyArray:
        return np.concatenate([theta[name].ravel() for name in self._theta.names])
