"""The second thread: its errors, its cores, and the end of both sides."""

from __future__ import annotations

import _thread
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fastrev
from fastrev._engine import companion as companions
from fastrev._engine import settings as process
from fastrev._engine.companion import Companion
from fastrev.kernels import handover
from tests.cases import WRT, digits_like, random_case

linux = pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs two cores")


@pytest.fixture
def companion():
    made = Companion()
    yield made
    made.give_up()


@pytest.fixture
def progress(companion):
    return companion.progress


def until(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within some seconds."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def system_threads() -> int:
    """How many the process has, whoever started them; 0 where that cannot be told."""
    return len(list(Path("/proc/self/task").iterdir())) if sys.platform == "linux" else 0


@pytest.fixture
def no_thread_is_left():
    before = system_threads()
    yield
    assert until(lambda: system_threads() <= before)


pytestmark = pytest.mark.usefixtures("no_thread_is_left")


def test_tasks_are_done_in_order(companion):
    done = []
    for i in range(5):
        companion.hand(lambda i=i: done.append(i))
    companion.dismiss()
    assert done == [0, 1, 2, 3, 4]


def test_nothing_to_do_starts_no_thread(companion):
    before = system_threads()
    companion.dismiss()
    assert system_threads() <= before


def test_both_tell_each_other_how_far_they_are(companion, progress):
    companion.hand(
        lambda: (
            handover.wait(progress, handover.BLOCKS_WRITTEN, 1)
            and handover.announce(progress, handover.STEPS_WRITTEN, 1)
        )
    )
    handover.announce(progress, handover.BLOCKS_WRITTEN, 1)
    assert handover.wait(progress, handover.STEPS_WRITTEN, 1)
    companion.dismiss()


def test_an_error_is_raised_where_the_thread_is_waited_for(companion, progress):
    def fail():
        raise ZeroDivisionError("beside")

    companion.hand(fail)
    assert not handover.wait(progress, handover.BLOCKS_WRITTEN, 1)
    with pytest.raises(ZeroDivisionError, match="beside"):
        companion.finish()


def test_a_thread_that_waits_ends_when_it_is_given_up(companion, progress):
    gave_up = []
    companion.hand(lambda: gave_up.append(handover.wait(progress, handover.BLOCKS_WRITTEN, 1)))
    companion.give_up()
    assert until(lambda: gave_up == [False])


@pytest.mark.parametrize("started", [False, True])
def test_an_interrupt_within_the_start_leaves_no_thread(monkeypatch, started):
    """It comes before the system's thread is there, or after."""
    start = _thread.start_new_thread

    def interrupted(function, arguments):
        if started:
            start(function, arguments)
        raise KeyboardInterrupt

    run = digits_like(steps=50).train()
    monkeypatch.setattr(_thread, "start_new_thread", interrupted)
    with fastrev.threads(per_run=2), pytest.raises(KeyboardInterrupt):
        run.pullback(run.w)
    monkeypatch.undo()
    run.rewind()
    assert run.stats.exact


@linux
def test_the_two_keep_apart_and_no_trace_is_left(companion, progress):
    before = os.sched_getaffinity(0)
    found = []
    companion.hand(lambda: found.append(os.sched_getaffinity(0)))
    companion.dismiss()
    core = int(progress[handover.CORE]) - 1
    assert found == [before - {core}]
    kept = handover.keep_to_core(progress)
    assert kept
    assert os.sched_getaffinity(0) == {core}
    handover.let_go(progress, kept)
    assert os.sched_getaffinity(0) == before


@linux
def test_nothing_is_kept_where_it_is_not_wanted_or_cannot_be_told(monkeypatch):
    before = os.sched_getaffinity(0)
    libc = type("Libc", (), {"sched_getcpu": staticmethod(lambda: -1)})
    for arrange in (lambda: fastrev.threads(pin=False), lambda: monkeypatch.setattr(companions, "_libc", libc)):
        arrange()
        found = []
        own = Companion()
        own.hand(lambda found=found: found.append(os.sched_getaffinity(0)))
        own.dismiss()
        assert found == [before]
        assert not handover.keep_to_core(own.progress)
        assert os.sched_getaffinity(0) == before
        own.give_up()
        fastrev.threads()


@linux
def test_a_core_that_is_gone_is_no_error(monkeypatch, progress):
    monkeypatch.setattr(companions, "_libc", type("Libc", (), {"sched_getcpu": staticmethod(lambda: 10**4)}))
    before = os.sched_getaffinity(0)
    progress[handover.CORE] = 1 + 1023  # no such core
    assert not handover.keep_to_core(progress)
    progress[handover.CORE] = 1 + 10**6
    assert not handover.keep_to_core(progress)
    assert os.sched_getaffinity(0) == before
    case = digits_like()
    assert case.meta_grad().stats.exact
    assert os.sched_getaffinity(0) == before


@linux
def test_one_core_is_enough():
    """With one thread, by itself, and with two that share it."""
    before = os.sched_getaffinity(0)
    case = digits_like(steps=40)
    expected = case.meta_grad().grad
    try:
        os.sched_setaffinity(0, {min(before)})
        assert process.one_thread()
        for per_run in (None, 2):
            with fastrev.threads(per_run=per_run):
                found = case.meta_grad().grad
            assert all(np.array_equal(getattr(found, name), getattr(expected, name)) for name in ("lr", "w0"))
            assert os.sched_getaffinity(0) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_patience_follows_the_number_of_cores(monkeypatch, system):
    """Also where no affinity can be asked for."""
    if system != "linux":
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(companions, "_libc", None)
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
    elif process.cores() < 2:
        pytest.skip("needs two cores")
    own = Companion()
    own.hand(lambda: None)
    own.dismiss()
    assert own.progress[handover.PATIENCE] == handover.PATIENCE_ON_TWO
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(companions, "cores", lambda: 1)
    own = Companion()
    own.hand(lambda: None)
    own.dismiss()
    assert own.progress[handover.PATIENCE] == handover.PATIENCE_ON_ONE_CORE


def test_one_thread_a_reversal(monkeypatch):
    started = []
    start = _thread.start_new_thread
    monkeypatch.setattr(_thread, "start_new_thread", lambda *a: (started.append(1), start(*a)))
    monkeypatch.setattr("fastrev._engine.compiled_walk._CHUNK_STEPS", 3)
    for per_run, expected in ((2, 1), (2, 2), (1, 2)):
        with fastrev.threads(per_run=per_run):
            digits_like(steps=50).meta_grad()
        assert len(started) == expected


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("seed", "batch"), [(3, 5), (6, None), (7, 600), (10, 257), (14, 1)])
def test_one_thread_gives_the_same_bits(seed, batch, dtype):
    case = random_case(seed, examples=700, batch=batch, dtype=dtype)
    with fastrev.threads(per_run=2):
        two = case.meta_grad()
    with fastrev.threads(per_run=1):
        one = case.meta_grad()
    assert one.stats.exact
    assert all(np.array_equal(getattr(one.grad, name), getattr(two.grad, name)) for name in WRT)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("optimizer", [fastrev.SGD(0.1, 0.9), fastrev.Adam(0.01, weight_decay=0.1)])
def test_a_short_way_back_starts_no_thread_and_has_the_same_bits(monkeypatch, optimizer, dtype):
    """By the work that it is, unless two threads are asked for."""
    started = []
    start = _thread.start_new_thread
    monkeypatch.setattr(_thread, "start_new_thread", lambda *a: (started.append(1), start(*a)))
    rng = np.random.default_rng(0)
    model, X, Y = fastrev.MLP((4, 8, 3), dtype=dtype), rng.standard_normal((64, 4)), rng.integers(3, size=64)
    run = partial(
        fastrev.meta_grad, model, model.init(seed=1), train=(X, Y), valid=(X, Y), optimizer=optimizer, batch_size=16
    )
    long = int(2 * process._WORK_OF_A_THREAD / model.num_params / 100)
    for steps in (1, 3, 40, long):
        alone = run(steps=steps)
        assert len(started) == (steps == long and process.cores() > 1)
        with fastrev.threads(per_run=2):
            beside = run(steps=steps)
        started.clear()
        assert alone.grad == beside.grad
        assert np.array_equal(alone.stats.adjoint_norms, beside.stats.adjoint_norms)
        assert np.array_equal(alone.w, beside.w)


def test_settings_hold_until_the_end_of_the_block():
    fastrev.threads(per_run=1)
    try:
        with fastrev.threads(pin=False):
            assert process.settings == process.Settings(None, False)
        assert process.settings == process.Settings(1, True)
    finally:
        fastrev.threads()
    assert process.settings == process.Settings(None, True)


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        ({"per_run": 0}, "'per_run' must be at least 1, not 0"),
        ({"per_run": 3}, "'per_run' must be 1, 2 or None, not 3"),
        ({"per_run": 1.0}, "'per_run' must be a whole number, not 1.0"),
        ({"pin": "no"}, "'pin' must be True or False, not 'no'"),
        ({"pin": False, "per_run": -1}, "'per_run' must be at least 1, not -1"),
    ],
)
def test_bad_settings_change_nothing(arguments, pieces):
    with pytest.raises(fastrev.ArgumentError, match=pieces):
        fastrev.threads(**arguments)
    assert process.settings == process.Settings(None, True)
