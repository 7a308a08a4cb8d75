"""Losses written in JAX, and a training as a node of its graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine.arguments import fault
from fastrev._engine.extras import require
from fastrev._engine.types import AnyArray, FloatArray
from fastrev.interop._jax_node import validation_loss as validation_loss
from fastrev.interop._shared import (
    Leaves,
    LossObjective,
    Path,
    callable_loss,
    detached,
    hyperparameters,
    read_leaves,
    real_scalar,
)


def objective(
    loss: Callable[[Any, dict[str, Any], Any], Any],
    params: Any,
    theta: Mapping[str, npt.ArrayLike] | None = None,
) -> tuple[LossObjective, FloatArray]:
    """A loss written in JAX, as an objective to train and differentiate.

    Parameters
    ----------
    loss : callable
        ``loss(params, theta, t)``, the scalar loss of step t, which JAX can trace: a function of its arguments alone.
        `t` is an int32 scalar that is traced too, for ``batches[t]`` and ``jax.random.fold_in(key, t)``.
    params : pytree of arrays or floats
        Initial weights, all float32 or all float64.
    theta : dict of str to array, optional
        Hyperparameters of the loss, floats of any shape.  The loss gets them in the dtype of params, and an empty
        dictionary if there are none.

    Returns
    -------
    objective : LossObjective
        Compiled by its first use; see its methods.
    w0 : ndarray of float64, shape (P,)
        The weights of params in one vector, in the order of `jax.flatten_util.ravel_pytree`.

    Raises
    ------
    MissingExtraError
        If JAX is not installed.
    ArgumentError
        If params have leaves of another dtype or of several, or float64 ones while JAX computes in float32; if theta
        is not a dictionary of finite floats.  On first use, if the loss is not a real scalar, or has no derivative by
        any of the params.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrev.interop import jax
    >>> def loss(params, theta, t):
    ...     return ((params["a"] - t) ** 2).sum() + theta["l2"] * params["b"] ** 2
    >>> params = {"a": np.ones(2, np.float32), "b": np.float32(3)}
    >>> objective, w0 = jax.objective(loss, params, {"l2": 0.5})
    >>> dict(objective.groups)
    {'a': slice(0, 2, None), 'b': slice(2, 3, None)}
    >>> objective.grad(w0, 2)
    array([-2., -2.,  3.], dtype=float32)
    >>> objective.cross(w0, [0, 0, 1], 2)
    {'l2': array(6., dtype=float32)}
    """
    jax = require("jax", "jax", "fastrev.interop.jax")
    callable_loss(loss)
    found, structure = jax.tree_util.tree_flatten_with_path(params)
    wide = jax.config.jax_enable_x64
    leaves, w0 = read_leaves([(_keys(path), leaf) for path, leaf in found], np.float64 if wide else np.float32)
    if leaves.dtype == np.float64 and not wide:
        raise fault(
            "params", "be float32 while JAX computes in it", "float64",
            'Call jax.config.update("jax_enable_x64", True) first, or convert them to float32.',
        )  # fmt: skip
    return LossObjective(_derivatives(loss, structure, leaves), leaves, hyperparameters(theta)), w0


def _derivatives(loss: Callable[..., Any], structure: Any, leaves: Leaves) -> _Derivatives:
    return _Derivatives(require("jax", "jax", "fastrev.interop.jax"), loss, structure, leaves)


def _keys(path: tuple[Any, ...]) -> Path:
    """What leads to a leaf: keys of dictionaries, indices of sequences, names of attributes."""
    return tuple(next(getattr(step, of) for of in ("key", "idx", "name") if hasattr(step, of)) for step in path)


class _Derivatives:
    """Compiled derivatives.

    Within, params are the list of their leaves: to differentiate by the vector would add up a vector for each leaf.

    All orders of differentiation take the same time, within 6 %, of a 64-32-10 MLP and of a small convolution: 170-200
    and 260-280 us an `hvp`, 180 and 280 an `hvp_and_cross`, where a gradient takes 140 and 210
    (`python -m bench.choices jax`).  `hvp` is forward over reverse, which keeps no second record of intermediate
    results; where theta's part is wanted, reverse over reverse, as reverse over forward refuses a `jax.custom_vjp`.
    """

    library = "JAX"
    jitted = True

    def __init__(self, jax: Any, loss: Callable[..., Any], structure: Any, leaves: Leaves) -> None:
        self._jax, self._loss, self._structure, self._leaves = jax, loss, structure, leaves
        self.loss = jax.jit(self._traced_loss)
        self.grad = jax.jit(self._traced_grad)
        self.hvp = jax.jit(self._traced_hvp)
        self.cross = jax.jit(self._traced_cross)
        self.hvp_and_cross = jax.jit(self._traced_hvp_and_cross)

    def __reduce__(self) -> tuple[Any, ...]:
        return _derivatives, (self._loss, self._structure, self._leaves)

    def unflatten(self, w: AnyArray) -> Any:
        # of copies: JAX may keep NumPy's memory
        leaves = [self._jax.numpy.array(piece) for piece in self._leaves.pieces(w)]
        return self._jax.tree_util.tree_unflatten(self._structure, leaves)

    def _traced_loss(self, w: Any, theta: Any, t: Any) -> Any:
        return self._value(self._leaves.pieces(w), theta, t)

    def _traced_grad(self, w: Any, theta: Any, t: Any) -> Any:
        return self._vector(self._gradient(self._leaves.pieces(w), theta, t))

    def _traced_hvp(self, w: Any, theta: Any, u: Any, t: Any) -> Any:
        weights, tangents = self._leaves.pieces(w), self._leaves.pieces(u)
        _, product = self._jax.jvp(lambda weights: self._gradient(weights, theta, t), (weights,), (tangents,))
        return self._vector(product)

    def _traced_cross(self, w: Any, theta: Any, u: Any, t: Any) -> Any:
        return self._jax.grad(self._along, 1)(self._leaves.pieces(w), theta, u, t)

    def _traced_hvp_and_cross(self, w: Any, theta: Any, u: Any, t: Any) -> Any:
        product, crossed = self._jax.grad(self._along, (0, 1))(self._leaves.pieces(w), theta, u, t)
        return self._vector(product), crossed

    def _along(self, weights: list[Any], theta: Any, u: Any, t: Any) -> Any:
        return self._jax.numpy.vdot(self._vector(self._gradient(weights, theta, t)), u)

    def _gradient(self, weights: list[Any], theta: Any, t: Any) -> list[Any]:
        """The gradient by each leaf; checks, while JAX traces, that the loss depends on any."""
        reached: list[bool] = []

        def watched(weights: list[Any]) -> Any:
            return self._watch(self._value(weights, theta, t), reached)

        gradient: list[Any] = self._jax.grad(watched)(weights)
        if not any(reached):
            raise detached("one that does not depend on them", "jax.numpy")
        return gradient

    def _watch(self, value: Any, reached: list[bool]) -> Any:
        """The value; notes in `reached` whether the derivative of it that JAX asks for is other than nothing."""
        jax = self._jax

        def rule(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
            nothing = isinstance(tangents[0], jax.custom_derivatives.SymbolicZero)
            reached.append(not nothing)
            return primals[0], jax.numpy.zeros_like(primals[0]) if nothing else tangents[0]

        identity = jax.custom_jvp(lambda value: value)
        identity.defjvp(rule, symbolic_zeros=True)
        return identity(value)

    def _value(self, weights: list[Any], theta: Any, t: Any) -> Any:
        jax = self._jax
        if weights[0].dtype != self._leaves.dtype:  # set otherwise since the objective was made
            raise fault(
                "w", f"be {self._leaves.dtype} to JAX, as params were", f"{weights[0].dtype}",
                'Call jax.config.update("jax_enable_x64", True) again.',
            )  # fmt: skip
        value = self._loss(jax.tree_util.tree_unflatten(self._structure, weights), theta, jax.numpy.int32(t))
        if not isinstance(value, jax.Array):
            raise detached(f"a {type(value).__name__}", "jax.numpy")
        real_scalar(value)
        return value

    def _vector(self, leaves: list[Any]) -> Any:
        return self._jax.numpy.concatenate([leaf.ravel() for leaf in leaves])
