"""Matrix products on one core beside NumPy's BLAS on one, at the shapes of W1 and W2."""

from __future__ import annotations

import numpy as np
import pytest

from fastrev.kernels.products import product

SHAPES = {f"{m}x{k}x{n}": (m, k, n) for m, k, n in [(200, 784, 50), (784, 200, 50), (200, 50, 50), (50, 64, 32)]}


@pytest.fixture(params=SHAPES)
def matrices(request, benchmark):
    m, k, n = SHAPES[request.param]
    benchmark.group = f"product {request.param} float64"
    rng = np.random.default_rng(0)
    return rng.random((m, k)), rng.random((k, n)), np.zeros((m, n))


def test_fastrev(benchmark, matrices) -> None:
    a, b, c = matrices
    (m, k), n = a.shape, b.shape[1]
    flat = a.ravel(), b.ravel(), c.ravel()
    benchmark(lambda: product(flat[0], 0, k, 1, flat[1], 0, m, n, k, flat[2], 0))
    c[:] = 0
    product(flat[0], 0, k, 1, flat[1], 0, m, n, k, flat[2], 0)
    assert np.allclose(c, a @ b, rtol=1e-13)


def test_blas(benchmark, matrices) -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="it limits BLAS to one core: pip install '.[bench]'")
    a, b, c = matrices
    with threadpoolctl.threadpool_limits(1):
        benchmark(lambda: np.dot(a, b, out=c))
