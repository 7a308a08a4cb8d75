"""The same meta-gradient in jitted JAX, by reverse mode through `lax.scan`.

``strategy`` is "stored", which keeps every intermediate (memory grows with T), or "checkpointed", which keeps every
sqrt(T)-th state and recomputes between them.  The weights are a list of matrices and vectors, each
with a rate of its own, as one would write it: one flat vector, whose rates are repeated to all parameters, takes up to
1.4 times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.peers import Solve, rules
from bench.workloads import Workload

jax.config.update("jax_enable_x64", True)

ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu, "softplus": jax.nn.softplus}


def meta_gradient(case: Workload, strategy: str) -> Solve:
    """A function that computes the loss and its gradients, and waits for the result."""
    descent = _Descent(case)
    differentiate = jax.jit(descent.differentiated(strategy))
    wanted, others = descent.wanted_and_others()
    data = descent.data()
    return lambda: jax.block_until_ready(differentiate(wanted, others, *data))


def meta_gradients(cases: Sequence[Workload], *, at_once: bool) -> Callable[[], Any]:
    """The same of many runs of one shape, with the trajectories stored, by `jax.vmap` or one after the other.

    Each has weights, hyperparameters and batches of its own; all share the data.  At once, losses and gradients have
    a first axis of runs; else there is a list.
    """
    descent = _Descent(cases[0])
    function, (_, others), data = descent.differentiated("stored"), descent.wanted_and_others(), descent.data()
    own = [(_Descent(case).wanted_and_others()[0], jnp.asarray(case.batches)) for case in cases]

    def one(own: Any, others: dict[str, Any], *data: Any) -> Any:
        wanted, batches = own
        return function(wanted, {**others, "batches": batches}, *data)

    if at_once:
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *own)
        differentiate = jax.jit(jax.vmap(one, in_axes=(0, *[None] * (1 + len(data)))))
        return lambda: jax.block_until_ready(differentiate(stacked, others, *data))
    differentiate = jax.jit(one)
    return lambda: jax.block_until_ready([differentiate(each, others, *data) for each in own])


def training(case: Workload) -> Callable[[], Any]:
    """A function that trains, computes the final weights alone, and waits for them."""
    descent = _Descent(case)
    train = jax.jit(lambda inputs, y: jnp.concatenate([w.ravel() for w in descent.end_of(inputs, y, "stored")]))
    arrays, y = descent.arguments(), jnp.asarray(case.train[1], case.dtype)
    return lambda: jax.block_until_ready(train(arrays, y))


class _Descent:
    """The training, as a function of all that there is to differentiate by."""

    def __init__(self, case: Workload) -> None:
        self.case = case
        self.shapes = [shape for a, b in pairwise(case.sizes) for shape in ((a, b), (b,))]
        self.activation = ACTIVATIONS[case.activation]

    def arguments(self) -> dict[str, Any]:
        """Its arguments by name, in the precision of the workload."""
        case = self.case
        found = {"w0": case.w0, **case.hyperparameters, "x": case.train[0]}
        found["l2"] = np.zeros(0) if case.l2 is None else case.l2
        found |= {"v0": np.zeros_like(case.w0)} if "v0" in case.wrt else {}
        return {name: jnp.asarray(array, case.dtype) for name, array in found.items()}

    def wanted_and_others(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The arguments that there are derivatives by, and the rest."""
        arrays, wrt = self.arguments(), self.case.wrt
        wanted, others = ({n: a for n, a in arrays.items() if (n in wrt) == asked} for asked in (True, False))
        return wanted, others

    def data(self) -> list[Any]:
        """Targets, and validation examples."""
        return [jnp.asarray(array, self.case.dtype) for array in (self.case.train[1], *self.case.valid)]

    def differentiated(self, strategy: str) -> Callable[..., Any]:
        """The validation loss and its gradients, of what is wanted, the other arguments and the data."""

        def meta_loss(wanted: dict[str, Any], others: dict[str, Any], y: Any, xv: Any, yv: Any) -> Any:
            return self.mean_loss(self.end_of({**wanted, **others}, y, strategy), xv, yv)

        return jax.value_and_grad(meta_loss)

    def split(self, flat: Any) -> list[Any]:
        """Matrices and vectors."""
        ends = np.cumsum([np.prod(shape) for shape in self.shapes])[:-1]
        return [part.reshape(shape) for part, shape in zip(jnp.split(flat, ends), self.shapes, strict=True)]

    def mean_loss(self, w: list[Any], x: Any, y: Any) -> Any:
        for layer in range(0, len(w), 2):
            x = (self.activation(x) if layer else x) @ w[layer] + w[layer + 1]
        if self.case.loss == "squared_error":
            return 0.5 * jnp.mean(jnp.sum((x - y) ** 2, axis=1))
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(x) * y, axis=1))

    def objective(self, w: list[Any], x: Any, y: Any, l2: list[Any]) -> Any:
        return self.mean_loss(w, x, y) + 0.5 * sum(jnp.sum(c * part * part) for c, part in zip(l2, w, strict=False))

    def end_of(self, inputs: dict[str, Any], y: Any, strategy: str) -> list[Any]:
        """The final weights."""
        case = self.case
        x, l2 = inputs["x"], [] if case.l2 is None else self.split(inputs["l2"])
        batches = inputs.get("batches", case.batches)
        hyperparameters = {name: inputs[name] for name in case.hyperparameters}
        tables = rules.with_corrections(hyperparameters, lambda table: jnp.cumprod(table, 0))
        constant = {name: table for name, table in tables.items() if not table.ndim}

        def sqrt(x: Any) -> Any:
            """With a derivative of 0 at 0, where there is nothing under the root but the moment."""
            if "eps_root" in case.hyperparameters:
                return jnp.sqrt(x)
            return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)

        def step(carry: Any, now: Any) -> Any:
            w, moments = carry
            rates, rows = now
            batch = (x, y) if rows is None else (x[rows], y[rows])
            g = jax.grad(self.objective)(w, *batch, l2)
            made = [
                rules.step(part, of_part, slope, {name: rates[name][k] for name in rates} | constant, sqrt)
                for k, (part, of_part, slope) in enumerate(zip(w, moments, g, strict=True))
            ]
            return ([part for part, _ in made], [of_part for _, of_part in made]), None

        per_step = ({name: table for name, table in tables.items() if table.ndim},
                    None if batches is None else jnp.asarray(batches))  # fmt: skip
        start = self.split(inputs["w0"])
        velocities = self.split(inputs["v0"]) if "v0" in inputs else [None] * len(start)
        state = start, [rules.begin(*each) for each in zip(start, velocities, strict=True)]
        if strategy == "stored":
            return jax.lax.scan(step, state, per_step)[0][0]

        def segment(carry: Any, now: Any) -> Any:
            return jax.lax.scan(step, carry, now)[0], None

        length = max(round(case.steps**0.5), 1)
        whole = case.steps // length * length
        cut = jax.tree.map(lambda each: each[:whole].reshape(-1, length, *each.shape[1:]), per_step)
        state, _ = jax.lax.scan(jax.checkpoint(segment), state, cut)
        rest = jax.tree.map(lambda each: each[whole:], per_step)
        return jax.checkpoint(segment)(state, rest)[0][0]
