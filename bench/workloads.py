"""Synthetic problems of the shapes that matter; the cost does not depend on the values.

| W1 | 784-50-50-50-10, batch 200, T = 100  | the paper's schedule network |
| W2 | 64-32-10, batch 50, T = 400          | digits                       |
| W3 | 10-16-2, batch 32, T = 1000          | tiny                         |
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

import fastrev

Array = npt.NDArray[np.floating]

SHAPES = {
    "W1": ((784, 50, 50, 50, 10), 200, 100, 5000),
    "W2": ((64, 32, 10), 50, 400, 1000),
    "W3": ((10, 16, 2), 32, 1000, 500),
}


@dataclass(frozen=True)
class Workload:
    """A meta-gradient to compute, in the given precision."""

    name: str
    sizes: tuple[int, ...]
    w0: npt.NDArray[np.float64]
    train: tuple[Array, Array]
    valid: tuple[Array, Array]
    lr: npt.NDArray[np.float64]
    decay: npt.NDArray[np.float64]
    batches: npt.NDArray[np.int64]
    dtype: np.dtype[np.floating]

    def run(self) -> fastrev.MetaGradient:
        """Solve it with fastrev, by everything that the peers differentiate by."""
        model = fastrev.MLP(self.sizes, dtype=self.dtype)
        return fastrev.meta_grad(
            model, self.w0, train=self.train, valid=self.valid, lr=self.lr, decay=self.decay, batches=self.batches,
            wrt=("lr", "decay", "w0", "v0"),
        )  # fmt: skip


def workload(name: str, dtype: npt.DTypeLike = np.float64, steps: int | None = None) -> Workload:
    """One of `SHAPES`, with other than its own number of steps if asked to."""
    sizes, batch, default_steps, rows = SHAPES[name]
    steps = default_steps if steps is None else steps
    rng = np.random.default_rng(0)
    d, k, groups = sizes[0], sizes[-1], 2 * (len(sizes) - 1)
    x = (rng.random((2 * rows, d)) * (rng.random((2 * rows, d)) < 0.2)).astype(dtype)
    y = np.eye(k, dtype=dtype)[rng.integers(k, size=2 * rows)]
    w0 = [
        part
        for a, b in pairwise(sizes)
        for part in ((rng.standard_normal((a, b)) / np.sqrt(a)).ravel(), 0.01 * rng.standard_normal(b))
    ]
    return Workload(
        name=name,
        sizes=sizes,
        w0=np.concatenate(w0),
        train=(x[:rows], y[:rows]),
        valid=(x[rows:], y[rows:]),
        lr=np.full((steps, groups), 0.1),
        decay=np.full((steps, groups), 0.9),
        batches=rng.integers(rows, size=(steps, batch)),
        dtype=np.dtype(dtype),
    )
