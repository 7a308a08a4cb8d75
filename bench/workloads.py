"""Synthetic problems of the shapes that matter; the cost does not depend on the values.

| W1 | 784-50-50-50-10, batches of 200, T = 100 | the paper's schedule network |
| W2 | 64-32-10, batches of 50, T = 400         | digits                       |
| W3 | 10-16-2, batches of 32, T = 1000         | tiny                         |
| W4 | 784-10, all 10 images, T = 100           | distillation                 |

W1-W3 are differentiated by the initial weights and velocity and by the learning rates and decays of every step and
group; W4 by its training images and penalties, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

import fastrev

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Shape:
    """What a workload is made from."""

    sizes: tuple[int, ...]
    batch: int | None  # None: all rows
    steps: int
    rows: int
    valid_rows: int
    wrt: tuple[str, ...] = ("w0", "v0", "lr", "decay")


SHAPES = {
    "W1": Shape((784, 50, 50, 50, 10), 200, 100, 5000, 5000),
    "W2": Shape((64, 32, 10), 50, 400, 1000, 1000),
    "W3": Shape((10, 16, 2), 32, 1000, 500, 500),
    "W4": Shape((784, 10), None, 100, 10, 5000, ("w0", "v0", "lr", "decay", "l2", "x")),
}
PRECISIONS = {"float64": np.float64, "float32": np.float32}


@dataclass(frozen=True)
class Workload:
    """A meta-gradient to compute, in the given precision."""

    name: str
    sizes: tuple[int, ...]
    w0: npt.NDArray[np.float64]  # (P,)
    train: tuple[Array, Array]
    valid: tuple[Array, Array]
    lr: npt.NDArray[np.float64]  # (T, G)
    decay: npt.NDArray[np.float64]  # (T, G)
    l2: npt.NDArray[np.float64] | None  # (P,)
    batches: npt.NDArray[np.int64] | None  # (T, B); None: all rows in every step
    wrt: tuple[str, ...]
    dtype: np.dtype[np.floating]

    @property
    def steps(self) -> int:
        return len(self.lr)

    def run(self) -> fastrev.MetaGradient:
        """Solve it with fastrev."""
        return fastrev.meta_grad(
            fastrev.MLP(self.sizes, dtype=self.dtype), self.w0, train=self.train, valid=self.valid, lr=self.lr,
            decay=self.decay, batches=self.batches, l2=0.0 if self.l2 is None else self.l2, wrt=self.wrt,
        )  # fmt: skip


def workload(name: str, dtype: npt.DTypeLike = np.float64, steps: int | None = None) -> Workload:
    """One of `SHAPES`, with other than its own number of steps if asked to."""
    shape = SHAPES[name]
    steps = shape.steps if steps is None else steps
    rng = np.random.default_rng(0)
    d, k, groups = shape.sizes[0], shape.sizes[-1], 2 * (len(shape.sizes) - 1)
    rows = shape.rows + shape.valid_rows
    x = (rng.random((rows, d)) * (rng.random((rows, d)) < 0.2)).astype(dtype)
    y = np.eye(k, dtype=dtype)[rng.integers(k, size=rows)]
    w0 = np.concatenate(
        [
            part
            for a, b in pairwise(shape.sizes)
            for part in ((rng.standard_normal((a, b)) / np.sqrt(a)).ravel(), 0.01 * rng.standard_normal(b))
        ]
    )
    return Workload(
        name=name,
        sizes=shape.sizes,
        w0=w0,
        train=(x[: shape.rows], y[: shape.rows]),
        valid=(x[shape.rows :], y[shape.rows :]),
        lr=np.full((steps, groups), 0.1),
        decay=np.full((steps, groups), 0.9),
        l2=np.full(w0.size, 1e-3) if "l2" in shape.wrt else None,
        batches=None if shape.batch is None else rng.integers(shape.rows, size=(steps, shape.batch)),
        wrt=shape.wrt,
        dtype=np.dtype(dtype),
    )
