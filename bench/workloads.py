"""Synthetic problems of the shapes that matter; the cost does not depend on the values.

| W1 | 784-50-50-50-10, batches of 200, T = 100 | the paper's schedule network |
| W2 | 64-32-10, batches of 50, T = 400         | digits                       |
| W3 | 10-16-2, batches of 32, T = 1000         | tiny                         |
| W4 | 784-10, all 10 images, T = 100           | distillation                 |

`HELD_OUT` are others, which nobody tunes for: wide and large ones, odd widths, one example a step and a thousand, other
activations and losses.

Each is differentiated by the initial weights (of SGD by the velocity, too) and by the hyperparameters of the optimizer,
of every step and group but for Adam's eps and weight decay; W4 by its training images and penalties, too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

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
    by: tuple[str, ...] = ()  # differentiated by these, too
    activation: str = "tanh"
    loss: str = "cross_entropy"

    def __str__(self) -> str:
        """The network, and what else is not the same in all."""
        what = ["-".join(map(str, self.sizes)), *({self.activation, self.loss} - {"tanh", "cross_entropy"}), *self.by]
        batch = f"all {self.rows}" if self.batch is None else f"batch {self.batch}"
        return ", ".join([*(each.replace("_", " ") for each in what), batch, f"T = {self.steps}"])


SHAPES = {
    "W1": Shape((784, 50, 50, 50, 10), 200, 100, 5000, 5000),
    "W2": Shape((64, 32, 10), 50, 400, 1000, 1000),
    "W3": Shape((10, 16, 2), 32, 1000, 500, 500),
    "W4": Shape((784, 10), None, 100, 10, 5000, ("l2", "x")),
}
HELD_OUT = {
    "wide layers": Shape((784, 300, 100, 10), 128, 100, 5000, 5000),
    "regression": Shape((32, 64, 64, 1), 64, 500, 1000, 1000, activation="softplus", loss="squared_error"),
    "by images": Shape((784, 10), 500, 200, 5000, 5000, ("x",)),
    "tinier": Shape((4, 8, 3), 16, 5000, 500, 500),
    "one wide layer": Shape((256, 1024, 10), 64, 50, 2000, 2000),
    "all rows": Shape((20, 20, 2), None, 1000, 200, 500),
    "relu": Shape((100, 50, 10), 32, 2000, 2000, 2000, activation="relu"),
    "P = 1e5": Shape((311, 311, 10), 64, 100, 2000, 2000),
    "P = 5e5": Shape((702, 702, 10), 64, 49, 2000, 2000),
    "P = 1e6": Shape((995, 995, 10), 64, 25, 2000, 2000),
    "batch 257": Shape((784, 50, 50, 50, 10), 257, 49, 5000, 5000),
    "batch 1000": Shape((64, 32, 10), 1000, 100, 5000, 1000),
    "batch 1": Shape((50, 37, 23, 5), 1, 1600, 1000, 500),
    "3,000 units": Shape((784, 3000, 10), 64, 9, 2000, 1000),
    "depth 6": Shape((64, 33, 31, 29, 27, 25, 10), 50, 400, 1000, 1000),
}
OPTIMIZERS = ("SGD", "Adam", "AdamW")
PRECISIONS = {"float64": np.float64, "float32": np.float32}


@dataclass(frozen=True)
class Workload:
    """A meta-gradient to compute, in the given precision."""

    name: str
    sizes: tuple[int, ...]
    w0: npt.NDArray[np.float64]  # (P,)
    train: tuple[Array, Array]
    valid: tuple[Array, Array]
    optimizer: Any  # its tables are (T, G)
    l2: npt.NDArray[np.float64] | None  # (P,)
    batches: npt.NDArray[np.int64] | None  # (T, B); None: all rows in every step
    wrt: tuple[str, ...]
    dtype: np.dtype[np.floating]
    activation: str = "tanh"
    loss: str = "cross_entropy"

    @property
    def model(self) -> fastrev.MLP:
        return fastrev.MLP(self.sizes, activation=self.activation, loss=self.loss, dtype=self.dtype)

    @property
    def steps(self) -> int:
        return len(self.optimizer.lr)

    @property
    def hyperparameters(self) -> dict[str, npt.NDArray[np.float64]]:
        """All arguments of the optimizer that are not 0, by name."""
        values = {each.name: np.asarray(getattr(self.optimizer, each.name)) for each in fields(self.optimizer)}
        return {name: value for name, value in values.items() if value.any()}

    def run(self) -> fastrev.MetaGradient:
        """Solve it with fastrev."""
        return fastrev.meta_grad(
            self.model, self.w0, train=self.train, valid=self.valid,
            optimizer=self.optimizer, batches=self.batches, l2=0.0 if self.l2 is None else self.l2, wrt=self.wrt,
        )  # fmt: skip

    def forward(self) -> fastrev.Run:
        """Train only."""
        return fastrev.train(
            self.model, self.w0, train=self.train, optimizer=self.optimizer, batches=self.batches,
            l2=0.0 if self.l2 is None else self.l2,
        )  # fmt: skip


def workload(
    name: str, dtype: npt.DTypeLike = np.float64, steps: int | None = None, optimizer: str = "SGD"
) -> Workload:
    """One of `SHAPES` or `HELD_OUT` by one of `OPTIMIZERS`, with other than its own number of steps if asked to."""
    return of_shape(name, (SHAPES | HELD_OUT)[name], dtype, steps, optimizer)


def of_shape(
    name: str, shape: Shape, dtype: npt.DTypeLike = np.float64, steps: int | None = None, optimizer: str = "SGD"
) -> Workload:
    """A workload of any shape."""
    steps = shape.steps if steps is None else steps
    rng = np.random.default_rng(0)
    d, k, groups = shape.sizes[0], shape.sizes[-1], 2 * (len(shape.sizes) - 1)
    rows = shape.rows + shape.valid_rows
    x = (rng.random((rows, d)) * (rng.random((rows, d)) < 0.2)).astype(dtype)
    y = np.eye(k, dtype=dtype)[rng.integers(k, size=rows)]
    if shape.loss == "squared_error":
        y = rng.standard_normal((rows, k)).astype(dtype)
    w0 = np.concatenate(
        [
            part
            for a, b in pairwise(shape.sizes)
            for part in ((rng.standard_normal((a, b)) / np.sqrt(a)).ravel(), 0.01 * rng.standard_normal(b))
        ]
    )
    wrt, chosen = _optimizer(optimizer, (steps, groups))
    return Workload(
        name=name if optimizer == "SGD" else f"{name} {optimizer}",
        sizes=shape.sizes,
        w0=w0,
        train=(x[: shape.rows], y[: shape.rows]),
        valid=(x[shape.rows :], y[shape.rows :]),
        optimizer=chosen,
        l2=np.full(w0.size, 1e-3) if "l2" in shape.by else None,
        batches=None if shape.batch is None else rng.integers(shape.rows, size=(steps, shape.batch)),
        wrt=("w0", *wrt, *shape.by),
        dtype=np.dtype(dtype),
        activation=shape.activation,
        loss=shape.loss,
    )


def _optimizer(name: str, shape: tuple[int, int]) -> tuple[tuple[str, ...], Any]:
    """What it is differentiated by, and the optimizer, of (T, G)."""
    if name == "SGD":
        return ("v0", "lr", "decay"), fastrev.SGD(np.full(shape, 0.1), np.full(shape, 0.9))
    rates, betas = np.full(shape, 3e-3), (np.full(shape, 0.9), np.full(shape, 0.999))
    if name == "Adam":
        return ("lr", "beta1", "beta2", "eps"), fastrev.Adam(rates, *betas)
    return ("lr", "beta1", "beta2", "eps", "weight_decay"), fastrev.Adam(rates, *betas, weight_decay=0.01)
