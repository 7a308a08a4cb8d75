"""A short race of tuners: that all start alike, report in order, and are judged by seeds of their own."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("optuna", reason="it is raced against: pip install '.[bench]'")
pytest.importorskip("sklearn", reason="its digits are what is learned: pip install '.[bench]'")

from bench.tuners import Race
from bench.tuning import problems, race
from bench.tuning_task import Task, load, ramps, seven_numbers, whole_schedule

SECONDS = 1.0
TASK = load(None)
ENTRIES = {f"{key} {name}": (key, name) for key, problem in problems(TASK).items() for name in problem.contenders}


@pytest.fixture(scope="module")
def task() -> Task:
    return TASK


@pytest.mark.parametrize(("key", "name"), ENTRIES.values(), ids=ENTRIES)
def test_race(benchmark, task: Task, key: str, name: str) -> None:
    benchmark.group = f"race of tuners ({key})"
    contend = problems(task)[key].contenders[name]
    curve = benchmark.pedantic(lambda: race(task, contend, SECONDS, seed=0), rounds=1)
    assert np.all(np.diff(curve["runs"]) >= 0)
    assert curve["loss"][-1] < curve["start"]
    benchmark.extra_info |= {"loss": curve["loss"][-1], "runs": curve["runs"][-1]}


@pytest.mark.parametrize(
    "space",
    [seven_numbers(TASK), ramps(TASK, by_group=False), ramps(TASK, by_group=True), whole_schedule(TASK)],
    ids=["7", "2", "8", "800"],
)
def test_a_space_begins_where_all_do(task: Task, space) -> None:
    values = space.values(space.start)
    assert task.loss(values, 0) == pytest.approx(task.loss(task.start, 0), rel=1e-9)
    for name, (low, high) in space.ranges().items():
        assert low < space.start[name] < high


def test_a_run_that_diverges_counts_as_a_guess(task: Task) -> None:
    assert task.loss(task.start | {"lr": np.array(1e6)}, 0) == np.log(10)


def test_nothing_is_reported_before_the_race() -> None:
    track = Race(TASK, 0.0, seed=0)
    assert not track.reports
    assert not track.on
