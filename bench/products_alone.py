"""The limit: the matrix products of a meta-gradient alone.

By NumPy's BLAS with its own number of threads, and at the rate of the fastest tile on all cores, which nobody is above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

import numba
import numpy as np
import numpy.typing as npt

from bench.stopwatch import stopwatch
from bench.workloads import Workload
from fastrev.kernels import products
from fastrev.kernels.primitives import ONE, ZERO
from fastrev.kernels.vectors import VECTOR

# rows, inner, columns
Product = tuple[int, int, int]


def products_of_a_gradient(sizes: tuple[int, ...], batch: int) -> Iterator[Product]:
    """Forward and backward."""
    for layer, (a, b) in enumerate(pairwise(sizes)):
        yield batch, a, b  # A W
        yield a, batch, b  # A^T delta
        if layer:
            yield batch, b, a  # delta W^T


def products_of_an_hvp(sizes: tuple[int, ...], batch: int, inputs: bool) -> Iterator[Product]:
    """The R-operator passes; with `inputs`, down to the derivative by the inputs."""
    for layer, (a, b) in enumerate(pairwise(sizes)):
        yield batch, a, b  # A U
        yield a, batch, b  # A^T R{delta}
        if layer:
            yield batch, a, b  # R{A} W
            yield a, batch, b  # R{A}^T delta
        if layer or inputs:
            yield batch, b, a  # R{delta} W^T
            yield batch, b, a  # delta U^T


def of_a_step(case: Workload) -> list[Product]:
    """The gradient is computed on the way there and on the way back."""
    batch = len(case.train[0]) if case.batches is None else case.batches.shape[1]
    once = list(products_of_a_gradient(case.sizes, batch))
    return [*once, *once, *products_of_an_hvp(case.sizes, batch, "x" in case.wrt)]


def of_validation(case: Workload) -> list[Product]:
    """Of the validation gradient."""
    return list(products_of_a_gradient(case.sizes, len(case.valid[0])))


def at_peak(case: Workload, cores: int) -> float:
    """Seconds that the multiply-adds of all products take at the peak of so many cores."""
    in_a_step, at_the_end = (sum(m * k * n for m, k, n in of) for of in (of_a_step(case), of_validation(case)))
    return (case.steps * in_a_step + at_the_end) / (cores * peak(case.dtype))


@cache
def peak(dtype: npt.DTypeLike) -> float:
    """Multiply-adds a second of the fastest tile, all of it in the L1 cache, on one core."""
    m, k, n = products.ROWS, 128, products.COLUMNS * VECTOR // np.dtype(dtype).itemsize
    a, b, c = (np.full(size, 1e-3, dtype) for size in (m * k, k * n, m * n))
    seconds = stopwatch(tile, a, b, m, n, k, c)
    return m * k * n / min(seconds() for _ in range(15))


@numba.njit
def tile(a, b, m, n, k, c):
    """`products.product`, which is a part of its callers."""
    products.product(a, ZERO, k, ONE, b, ZERO, m, n, k, c, ZERO)


def products_alone(case: Workload) -> Callable[[], None]:
    """A function that makes the products of all steps and of the validation gradient, and nothing else."""
    rng = np.random.default_rng(0)

    def prepared(products: list[Product]) -> list[tuple[np.ndarray, ...]]:
        return [
            (*(rng.random(shape).astype(case.dtype) for shape in ((m, k), (k, n))), np.empty((m, n), case.dtype))
            for m, k, n in products
        ]

    step = prepared(of_a_step(case))
    validation = prepared(of_validation(case))

    def solve() -> None:
        for _ in range(case.steps):
            for a, b, out in step:
                np.dot(a, b, out=out)
        for a, b, out in validation:
            np.dot(a, b, out=out)

    return solve
