"""The peer: the same meta-gradient in jitted JAX, by reverse mode through `lax.scan`.

``strategy`` is "stored", which keeps every intermediate (memory grows with T), or "checkpointed", which keeps every
sqrt(T)-th state and recomputes between them (T must be a square).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.workloads import Workload

jax.config.update("jax_enable_x64", True)


def meta_gradient(case: Workload, strategy: str = "stored") -> Callable[[], tuple[Any, Any]]:
    """A function that computes (loss, gradients by w0, v0, lr, decay) and waits for the result."""
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

    def meta_loss(w0: Any, v0: Any, lr: Any, decay: Any, x: Any, y: Any, xv: Any, yv: Any) -> Any:
        def step(carry: Any, inputs: Any) -> Any:
            w, v = carry
            alpha, gamma, rows = inputs
            alpha, gamma = spread(alpha), spread(gamma)
            v = gamma * v - (1 - gamma) * jax.grad(mean_loss)(w, x[rows], y[rows])
            return (w + alpha * v, v), None

        per_step = (lr, decay, jnp.asarray(case.batches))
        if strategy == "stored":
            (w, _), _ = jax.lax.scan(step, (w0, v0), per_step)
        else:
            root = round(len(case.batches) ** 0.5)
            if root * root != len(case.batches):
                raise ValueError(f"checkpointing needs a square number of steps, not {len(case.batches)}")
            segment = jax.checkpoint(lambda carry, inputs: (jax.lax.scan(step, carry, inputs)[0], None))
            cut = tuple(each.reshape(root, root, *each.shape[1:]) for each in per_step)
            (w, _), _ = jax.lax.scan(segment, (w0, v0), cut)
        return mean_loss(w, xv, yv)

    differentiate = jax.jit(jax.value_and_grad(meta_loss, argnums=(0, 1, 2, 3)))
    arrays = [
        jnp.asarray(a, case.dtype)
        for a in (case.w0, np.zeros_like(case.w0), case.lr, case.decay, *case.train, *case.valid)
    ]
    return lambda: jax.block_until_ready(differentiate(*arrays))
