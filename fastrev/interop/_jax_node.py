"""A training as a node of JAX's graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import ceil
from typing import Any

import numpy as np

from fastrev._engine.arguments import as_array, fault
from fastrev._engine.extras import require
from fastrev._engine.optimizer import Optimizer
from fastrev._engine.types import AnyArray
from fastrev._engine.validation import Validation
from fastrev.interop._node import Recipe, divided, gather, twice
from fastrev.interop._shared import LossObjective
from fastrev.mlp import MLP
from fastrev.objective import Objective

_SMALL = 2**16  # bytes
_METHODS = ("grad", "hvp", "cross", "hvp_and_cross", "loss_and_grad")


def validation_loss(
    model: MLP | Objective,
    w0: Any,
    *,
    train: tuple[Any, Any] | None = None,
    valid: tuple[Any, Any] | Validation,
    lr: Any = None,
    decay: Any = None,
    optimizer: Optimizer | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    batches: Any = None,
    l2: Any = 0.0,
    v0: Any = None,
    example_weights: Any = None,
    theta: Mapping[str, Any] | None = None,
    truncate: int | None = None,
) -> Any:
    """The validation loss after a whole training, as one function that JAX differentiates, compiles and maps.

    Arguments are those of `fastrev.meta_grad`, of the same shapes.  Each array may be JAX's, traced or not, and is
    differentiated by if JAX asks for it; NumPy's arrays and floats are constants.

    Parameters
    ----------
    model : MLP or Objective
        Also an objective of `fastrev.interop`; of one in JAX see below.
    w0 : (P,) array
        Initial weights.
    train : pair (X, Y) of arrays
        Training inputs (N, D) and targets: (N, K), or (N,) int classes, which have no derivative.
    valid : pair (X, Y) of arrays, or function
        Validation examples, which may be traced but not differentiated by; or a function from the final weights (P,) to
        a pair of loss and gradient (P,), in NumPy.  One loss, not a list of them.
    lr, decay : float or (T,), (T, 1), (1, G), (T, G) array
        Learning rates and momentum decays.
    optimizer : SGD or Adam, optional
        In place of these, with arrays in it.
    steps, batch_size, seed : int, optional
        As in `fastrev.meta_grad`.  They are not traced: ``static_argnames`` of `jax.jit` keeps them what they are.
    batches : (T, B) array of int, optional
        Rows of the training examples to train on.
    l2 : float, (G,) or (P,) array
        Penalty coefficients.
    v0 : (P,) array, optional
        Initial velocity; default zero.
    example_weights : (N,) array, optional
        Weights of the training examples; default one.
    theta : dict of str to array, optional
        Of an Objective, other values of some or all of its hyperparameters.
    truncate : int, optional
        Differentiate through the last `truncate` steps only.

    Returns
    -------
    jax.Array
        The loss, a scalar.  Its dtype is that of all floating JAX arrays together by `jax.numpy.result_type`, without
        any JAX's default; each gradient has its argument's.

    Raises
    ------
    MissingExtraError
        If JAX is not installed.
    ArgumentError
        If an argument is at fault: while JAX traces if its shape, its dtype or a constant is, or what it is
        differentiated by, or how often.  If the values of a traced array are, JAX raises an error of its own where it
        runs, with the message in it.
    DivergenceError
        If a step is refused.  Under `jax.jit` and other tracing likewise an error of JAX, with the message in it.

    Warns
    -----
    ChaosWarning
        If the derivatives exploded on their way back, as in `fastrev.meta_grad`.

    Notes
    -----
    With L the loss and ``x`` what it is differentiated by, the node hands on ``L_bar * dL/dx``.  dL/dx is computed with
    L itself, by one run there and back, for what JAX differentiates by alone; where it does not differentiate, there is
    the training only.  What is kept from then on is these derivatives.

    Training is by NumPy and Numba on the host.  Where all values are known, as under `jax.grad` alone, it is made at
    once, and errors come as they are.  Under `jax.jit`, `jax.vmap`, `jax.checkpoint` and loops it is made in
    `jax.pure_callback`, one after the other if it is mapped.  JAX that is called within a callback may wait for itself
    for ever: an objective of `fastrev.interop.jax` is refused there, as `model` and as `valid`, and functions of your
    own must not call JAX.

    The gradient has no derivative of its own: `jax.hessian` raises an error.

    References
    ----------
    D. Maclaurin, D. Duvenaud, R. P. Adams, "Gradient-based Hyperparameter Optimization through Reversible Learning",
    ICML 2015.

    Examples
    --------
    The derivative by two numbers of which a schedule is made:

    >>> import jax, jax.numpy as jnp, numpy as np, fastrev
    >>> from fastrev.interop.jax import validation_loss
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 5))
    >>> Y = (X.sum(axis=1) > 0).astype(int)
    >>> model = fastrev.MLP((5, 8, 2))
    >>> @jax.jit
    ... def loss(schedule):
    ...     lr = jnp.exp(schedule["log_rate"] - schedule["slope"] * jnp.linspace(0, 1, 20))
    ...     return validation_loss(
    ...         model, model.init(seed=0), train=(X[:150], Y[:150]), valid=(X[150:], Y[150:]), lr=lr, decay=0.9)
    >>> value, gradient = jax.value_and_grad(loss)({"log_rate": -1.0, "slope": 0.5})
    >>> sorted(gradient), value.dtype
    (['log_rate', 'slope'], dtype('float32'))
    """
    jax = require("jax", "jax", "fastrev.interop.jax")
    _refuse_traced(jax, steps=steps, batch_size=batch_size, seed=seed, truncate=truncate)
    recipe, given = gather(
        model, w0, train=train, valid=valid, lr=lr, decay=decay, optimizer=optimizer, steps=steps,
        batch_size=batch_size, seed=seed, batches=batches, l2=l2, v0=v0, example_weights=example_weights, theta=theta,
        truncate=truncate,
    )  # fmt: skip
    arrays, constants = divided(given, jax.Array)
    floating = [array for array in arrays.values() if jax.numpy.issubdtype(array.dtype, jax.numpy.floating)]
    dtype = jax.numpy.result_type(*floating or [float])
    if _traced(jax, *arrays.values()):  # and run later, with constants as they are now
        constants = {
            name: each if each is None or np.isscalar(each) else as_array(name, each).copy()
            for name, each in constants.items()
        }
        constants |= {name: np.array(each) for name, each in arrays.items() if not _traced(jax, each)}
        arrays = {name: each for name, each in arrays.items() if _traced(jax, each)}
        stand_ins = {name: recipe.stand_in(name, each.shape, each.dtype) for name, each in arrays.items()}
        recipe.with_constants(constants).check(stand_ins)
    return _Node(jax, recipe.with_constants(constants), arrays, dtype).loss(arrays)


class _Node:
    """The loss as a function of arrays by name, with the training's own derivatives."""

    def __init__(self, jax: Any, recipe: Recipe, arrays: Mapping[str, Any], dtype: Any) -> None:
        self._jax, self._recipe, self._dtype = jax, recipe, dtype
        self._shapes = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in arrays.items()}
        self.loss = jax.custom_vjp(lambda arrays: self._computed(arrays, ())[0])
        self.loss.defvjp(self._forward, self._backward, symbolic_zeros=True)

    def _forward(self, arrays: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The loss, and for `_backward` its derivatives by whatever JAX differentiates by."""
        wanted = tuple(name for name, array in arrays.items() if array.perturbed)
        self._recipe.require_derivatives({name: self._shapes[name].shape for name in wanted})
        both = self._jax.custom_jvp(lambda values: self._computed(values, wanted))
        both.defjvp(_refuse_twice)
        loss, gradients = both({name: array.value for name, array in arrays.items()})
        return loss, gradients

    def _backward(self, gradients: dict[str, Any], loss_bar: Any) -> tuple[dict[str, Any]]:
        found: dict[str, Any] = dict.fromkeys(self._shapes)  # None: zero
        if not isinstance(loss_bar, self._jax.custom_derivatives.SymbolicZero):
            found |= {name: (loss_bar * each).astype(self._shapes[name].dtype) for name, each in gradients.items()}
        return (found,)

    def _computed(self, arrays: dict[str, Any], wanted: tuple[str, ...]) -> tuple[Any, dict[str, Any]]:
        """The loss, and its derivatives by what is wanted."""
        jax = self._jax
        if not _traced(jax, *arrays.values()):
            with jax.ensure_compile_time_eval():  # of a model in JAX, where something else is traced
                loss, gradients = self._on_host(arrays, wanted)
            return jax.numpy.asarray(loss), {name: jax.numpy.asarray(each) for name, each in gradients.items()}
        _refuse_jax_within(jax, model=self._recipe.model, valid=self._recipe.valid)
        shapes = (
            jax.ShapeDtypeStruct((), self._dtype),
            {name: jax.ShapeDtypeStruct(self._shapes[name].shape, self._dtype) for name in wanted},
        )

        def callback(pieces: dict[str, list[Any]]) -> tuple[AnyArray, dict[str, AnyArray]]:
            # NumPy from here on: JAX that is called by JAX may wait for itself for ever (jax #24255)
            joined = {name: np.concatenate([np.asarray(each).reshape(-1) for each in pieces[name]]) for name in pieces}
            return self._on_host({name: joined[name].reshape(self._shapes[name].shape) for name in joined}, wanted)

        loss, gradients = jax.pure_callback(callback, shapes, self._pieces(arrays), vmap_method="sequential")
        return loss, gradients

    def _on_host(self, arrays: dict[str, Any], wanted: tuple[str, ...]) -> tuple[AnyArray, dict[str, AnyArray]]:
        trained = self._recipe.run({name: np.asarray(array) for name, array in arrays.items()})
        gradients = trained.gradients(wanted) if wanted else {}
        rounded = {name: each.astype(self._dtype) for name, each in gradients.items()}  # each's own is at most as wide
        return np.asarray(trained.loss).astype(self._dtype), rounded

    def _pieces(self, arrays: dict[str, Any]) -> dict[str, list[Any]]:
        """The arrays, in pieces that JAX copies at once.

        What it hands to a callback it copies above some 100 kB in a thread of its pool, which has as many as there are
        cores: callbacks that are as many, one on one core, would wait for threads that they occupy themselves.
        """
        counts = {name: ceil(each.size * each.dtype.itemsize / _SMALL) for name, each in self._shapes.items()}
        split = self._jax.numpy.array_split
        return {
            name: split(array.reshape(-1), counts[name]) if counts[name] > 1 else [array]
            for name, array in arrays.items()
        }


def _refuse_twice(primals: Any, tangents: Any) -> Any:
    raise twice()


def _traced(jax: Any, *arrays: Any) -> bool:
    return any(isinstance(array, jax.core.Tracer) for array in arrays)


def _refuse_jax_within(jax: Any, **functions: Any) -> None:
    """Refuse what would call JAX while JAX waits for it."""
    for name, function in functions.items():
        if any(_in_jax(jax, each) for each in (function, *(getattr(function, each, None) for each in _METHODS))):
            raise fault(
                name, "compute without JAX in what JAX compiles or maps", repr(function),
                "JAX that is called by JAX may wait for itself for ever. Take jax.grad alone, without jax.jit, "
                "jax.vmap, jax.checkpoint and loops, or write it in NumPy, Numba, PyTorch or autograd.",
            )  # fmt: skip


def _in_jax(jax: Any, function: Any) -> bool:
    """Whether JAX compiles it, as far as can be seen from outside."""
    while isinstance(function, partial):
        function = function.func
    parts = function, getattr(function, "__self__", None), getattr(function, "__func__", None)  # of a method
    return any(
        each.jitted if isinstance(each, LossObjective) else isinstance(each, jax.stages.Wrapped) for each in parts
    )


def _refuse_traced(jax: Any, **settings: Any) -> None:
    for name, value in settings.items():
        if isinstance(value, jax.core.Tracer):
            raise fault(
                name, "be known while JAX traces", f"a {type(value).__name__}",
                f'Pass an int that JAX does not trace: jax.jit(..., static_argnames="{name}"), or one from outside.',
            )  # fmt: skip
