"""The same meta-gradient in jitted JAX, by reverse mode through `lax.scan`.

``strategy`` is "stored", which keeps every intermediate (memory grows with T), or "checkpointed", which keeps every
sqrt(T)-th state and recomputes between them (T must be a square).  The weights are a list of matrices and vectors, each
with a rate of its own, as one would write it: one flat vector, whose rates are repeated to all parameters, takes up to
1.4 times as long.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.peers import Solve, rules
from bench.workloads import Workload

jax.config.update("jax_enable_x64", True)


def meta_gradient(case: Workload, strategy: str) -> Solve:
    """A function that computes the loss and its gradients, and waits for the result."""
    shapes = [shape for a, b in pairwise(case.sizes) for shape in ((a, b), (b,))]
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]

    def split(flat: Any) -> list[Any]:
        return [part.reshape(shape) for part, shape in zip(jnp.split(flat, ends), shapes, strict=True)]

    def mean_loss(w: list[Any], x: Any, y: Any) -> Any:
        for layer in range(0, len(w), 2):
            x = (jnp.tanh(x) if layer else x) @ w[layer] + w[layer + 1]
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(x) * y, axis=1))

    def objective(w: list[Any], x: Any, y: Any, l2: list[Any]) -> Any:
        return mean_loss(w, x, y) + 0.5 * sum(jnp.sum(c * part * part) for c, part in zip(l2, w, strict=False))

    def sqrt(x: Any) -> Any:
        """With a derivative of 0 at 0, where there is nothing under the root but the moment."""
        if "eps_root" in case.hyperparameters:
            return jnp.sqrt(x)
        return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)

    def meta_loss(inputs: dict[str, Any], y: Any, xv: Any, yv: Any) -> Any:
        x, l2 = inputs["x"], [] if case.l2 is None else split(inputs["l2"])

        hyperparameters = {name: inputs[name] for name in case.hyperparameters}
        tables = rules.with_corrections(hyperparameters, lambda table: jnp.cumprod(table, 0))
        constant = {name: table for name, table in tables.items() if not table.ndim}

        def step(carry: Any, now: Any) -> Any:
            w, moments = carry
            rates, rows = now
            batch = (x, y) if rows is None else (x[rows], y[rows])
            g = jax.grad(objective)(w, *batch, l2)
            made = [
                rules.step(part, of_part, slope, {name: rates[name][k] for name in rates} | constant, sqrt)
                for k, (part, of_part, slope) in enumerate(zip(w, moments, g, strict=True))
            ]
            return ([part for part, _ in made], [of_part for _, of_part in made]), None

        per_step = ({name: table for name, table in tables.items() if table.ndim},
                    None if case.batches is None else jnp.asarray(case.batches))  # fmt: skip
        start = split(inputs["w0"])
        velocities = split(inputs["v0"]) if "v0" in inputs else [None] * len(start)
        state = start, [rules.begin(*each) for each in zip(start, velocities, strict=True)]
        if strategy == "stored":
            (w, _), _ = jax.lax.scan(step, state, per_step)
        else:
            root = round(case.steps**0.5)
            segment = jax.checkpoint(lambda carry, now: (jax.lax.scan(step, carry, now)[0], None))
            cut = jax.tree.map(lambda each: each.reshape(root, root, *each.shape[1:]), per_step)
            (w, _), _ = jax.lax.scan(segment, state, cut)
        return mean_loss(w, xv, yv)

    everything = {
        "w0": case.w0, **case.hyperparameters, "x": case.train[0], "l2": np.zeros(0) if case.l2 is None else case.l2,
    } | ({"v0": np.zeros_like(case.w0)} if "v0" in case.wrt else {})  # fmt: skip
    arrays = {name: jnp.asarray(array, case.dtype) for name, array in everything.items()}
    wanted, others = ({n: a for n, a in arrays.items() if (n in case.wrt) == asked} for asked in (True, False))
    differentiate = jax.jit(jax.value_and_grad(lambda wanted, others, *data: meta_loss({**wanted, **others}, *data)))
    data = [jnp.asarray(array, case.dtype) for array in (case.train[1], *case.valid)]
    return lambda: jax.block_until_ready(differentiate(wanted, others, *data))
