"""Many runs on two cores: each way to make them stands beside a plain loop, in which each run has both cores."""

from __future__ import annotations

import pytest

from bench.many_runs import TASKS, WAYS, Results, all_runs

first: dict[str, Results] = {}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("task", TASKS)
def test_many_runs(benchmark, task: str, way: str) -> None:
    benchmark.group = f"16 runs of {task}"
    with all_runs(task, way) as run:
        results = benchmark.pedantic(run, rounds=9, warmup_rounds=1)
    assert results == first.setdefault(task, results)
