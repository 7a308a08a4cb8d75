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

from bench.peers import Solve
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

    def meta_loss(inputs: dict[str, Any], y: Any, xv: Any, yv: Any) -> Any:
        x, l2 = inputs["x"], [] if case.l2 is None else split(inputs["l2"])

        def step(carry: Any, now: Any) -> Any:
            w, v = carry
            batch = (x, y) if case.batches is None else (x[now[2]], y[now[2]])
            g = jax.grad(objective)(w, *batch, l2)
            v = [gamma * each - (1 - gamma) * part for gamma, each, part in zip(now[1], v, g, strict=True)]
            return ([part + alpha * each for alpha, part, each in zip(now[0], w, v, strict=True)], v), None

        per_step = (inputs["lr"], inputs["decay"])
        if case.batches is not None:
            per_step += (jnp.asarray(case.batches),)
        start = split(inputs["w0"]), split(inputs["v0"])
        if strategy == "stored":
            (w, _), _ = jax.lax.scan(step, start, per_step)
        else:
            root = round(case.steps**0.5)
            segment = jax.checkpoint(lambda carry, now: (jax.lax.scan(step, carry, now)[0], None))
            cut = tuple(each.reshape(root, root, *each.shape[1:]) for each in per_step)
            (w, _), _ = jax.lax.scan(segment, start, cut)
        return mean_loss(w, xv, yv)

    everything = {
        "w0": case.w0, "v0": np.zeros_like(case.w0), "lr": case.lr, "decay": case.decay, "x": case.train[0],
        "l2": np.zeros(0) if case.l2 is None else case.l2,
    }  # fmt: skip
    arrays = {name: jnp.asarray(array, case.dtype) for name, array in everything.items()}
    wanted, others = ({n: a for n, a in arrays.items() if (n in case.wrt) == asked} for asked in (True, False))
    differentiate = jax.jit(jax.value_and_grad(lambda wanted, others, *data: meta_loss({**wanted, **others}, *data)))
    data = [jnp.asarray(array, case.dtype) for array in (case.train[1], *case.valid)]
    return lambda: jax.block_until_ready(differentiate(wanted, others, *data))
