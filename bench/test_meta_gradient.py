"""Whole meta-gradients, each workload a group in which the peer stands beside fastrev."""

from __future__ import annotations

import numpy as np
import pytest

from bench.workloads import SHAPES, Workload, workload

PRECISIONS = {"float64": np.float64, "float32": np.float32}


@pytest.fixture(params=[(name, dtype) for dtype in PRECISIONS for name in SHAPES], ids=lambda p: "-".join(p))
def case(request: pytest.FixtureRequest, benchmark) -> Workload:
    name, dtype = request.param
    benchmark.group = f"{name} {dtype}"
    return workload(name, PRECISIONS[dtype])


def test_fastrev(benchmark, case: Workload) -> None:
    result = benchmark.pedantic(case.run, rounds=9, warmup_rounds=2)
    assert result.stats.exact


@pytest.mark.parametrize("strategy", ["stored", "checkpointed"])
def test_jax(benchmark, case: Workload, strategy: str) -> None:
    pytest.importorskip("jax", reason="the peer is not installed: pip install '.[bench]'")
    from bench.jax_peer import meta_gradient

    if strategy == "checkpointed" and round(len(case.batches) ** 0.5) ** 2 != len(case.batches):
        pytest.skip("checkpointing needs a square number of steps")
    loss, gradients = benchmark.pedantic(meta_gradient(case, strategy), rounds=9, warmup_rounds=2)

    # No peer is beaten by computing something else.
    ours = case.run()
    tolerance = 1e-9 if case.dtype == np.float64 else 2e-3
    assert loss == pytest.approx(ours.loss, rel=tolerance)
    for theirs, name in zip(gradients, ("w0", "v0", "lr", "decay"), strict=True):
        mine = getattr(ours.grad, name)
        assert np.abs(theirs - mine).max() <= tolerance * np.abs(mine).max()
