"""Whole meta-gradients: each workload is a group in which every peer stands beside fastrev, and the limit as well."""

from __future__ import annotations

import pytest

from bench.peers import PEERS, UnfitError, assert_same, contestant
from bench.products_alone import products_alone
from bench.report import RULES
from bench.workloads import OPTIMIZERS, PRECISIONS, SHAPES, Workload, workload

SLOW = {"original": 1, "torch-unrolled": 3}  # rounds; the others take 9


CASES = [(name, dtype, optimizer) for optimizer in RULES for dtype in PRECISIONS for name in SHAPES]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest, benchmark) -> Workload:
    name, dtype, optimizer = request.param
    found = workload(name, PRECISIONS[dtype], optimizer=optimizer)
    benchmark.group = f"{found.name} {dtype}"
    return found


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


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("shape", ["W3", "W4"])
@pytest.mark.parametrize("name", PEERS)
def test_peers_compute_the_same(name: str, shape: str, dtype: str, optimizer: str) -> None:
    """Of a few steps, by all optimizers."""
    case = workload(shape, PRECISIONS[dtype], 9, optimizer)
    try:
        solve = contestant(name, case)
    except UnfitError as reason:
        pytest.skip(str(reason))
    assert_same(case, *solve())
