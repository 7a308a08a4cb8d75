"""The same meta-gradient in jitted JAX, by reverse mode through `lax.scan`.

``strategy`` is "stored", which keeps every intermediate (memory grows with T), or "checkpointed", which keeps every
sqrt(T)-th state and recomputes between them (T must be a square).
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
    layers = list(pairwise(case.sizes))
    ends = np.cumsum([size for a, b in layers for size in (a * b, b)])
    widths = np.diff(ends, prepend=0)

    def spread(by_group: Any) -> Any:
        return jnp.repeat(by_group, widths, total_repeat_length=int(ends[-1]))

    def mean_loss(w: Any, x: Any, y: Any) -> Any:
        parts = jnp.split(w, ends[:-1])
        for layer, (a, b) in enumerate(layers):
            x = x @ parts[2 * layer].reshape(a, b) + parts[2 * layer + 1]
            x = jnp.tanh(x) if layer < len(layers) - 1 else x
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(x) * y, axis=1))

    def objective(w: Any, x: Any, y: Any, l2: Any) -> Any:
        return mean_loss(w, x, y) if case.l2 is None else mean_loss(w, x, y) + 0.5 * jnp.sum(l2 * w * w)

    def meta_loss(inputs: dict[str, Any], y: Any, xv: Any, yv: Any) -> Any:
        x, l2 = inputs["x"], inputs["l2"]

        def step(carry: Any, now: Any) -> Any:
            w, v = carry
            alpha, gamma = spread(now[0]), spread(now[1])
            batch = (x, y) if case.batches is None else (x[now[2]], y[now[2]])
            v = gamma * v - (1 - gamma) * jax.grad(objective)(w, *batch, l2)
            return (w + alpha * v, v), None

        per_step = (inputs["lr"], inputs["decay"])
        if case.batches is not None:
            per_step += (jnp.asarray(case.batches),)
        start = inputs["w0"], inputs["v0"]
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
