"""Whole meta-gradients: each workload is a group in which every peer stands beside fastrev, and the limit as well."""

from __future__ import annotations

import pytest

from bench.peers import PEERS, UnfitError, assert_same, contestant
from bench.products_alone import products_alone
from bench.workloads import PRECISIONS, SHAPES, Workload, workload

SLOW = {"original": 1, "torch-unrolled": 3}  # rounds; the others take 9


@pytest.fixture(params=[(name, dtype) for dtype in PRECISIONS for name in SHAPES], ids="-".join)
def case(request: pytest.FixtureRequest, benchmark) -> Workload:
    name, dtype = request.param
    benchmark.group = f"{name} {dtype}"
    return workload(name, PRECISIONS[dtype])


@pytest.mark.parametrize("name", ["fastrev", *PEERS])
def test_meta_gradient(benchmark, case: Workload, name: str) -> None:
    try:
        solve = contestant(name, case)
    except UnfitError as reason:
        pytest.skip(str(reason))
    loss, gradients = benchmark.pedantic(solve, rounds=SLOW.get(name, 9), warmup_rounds=1 if name in SLOW else 2)
    benchmark.extra_info["us_per_step"] = 1e6 * benchmark.stats.stats.median / case.steps
    assert_same(case, loss, gradients)


def test_products_alone(benchmark, case: Workload) -> None:
    benchmark.pedantic(products_alone(case), rounds=9, warmup_rounds=2)
    benchmark.extra_info["us_per_step"] = 1e6 * benchmark.stats.stats.median / case.steps
