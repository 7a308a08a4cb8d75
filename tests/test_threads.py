"""The second thread: its errors, its cores, and the end of both sides."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest

from fastrev._threads import beside
from fastrev.kernels import handover

linux = pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs two cores")


@pytest.fixture
def progress():
    return np.full(handover.PROGRESS, 7, np.int64)


def test_both_run_from_a_fresh_start(progress):
    with beside(lambda: handover.wait(progress, 0, 1) and handover.announce(progress, 16, 1), progress) as finish:
        assert not progress[:16].any()
        handover.announce(progress, 0, 1)
        assert handover.wait(progress, 16, 1)
        finish()
    assert not progress[handover.ABANDONED]


def test_an_error_is_raised_where_the_thread_is_waited_for(progress):
    def fail():
        raise ZeroDivisionError("beside")

    with beside(fail, progress) as finish:
        assert not handover.wait(progress, 0, 1)
        with pytest.raises(ZeroDivisionError, match="beside"):
            finish()


def test_the_thread_is_told_when_the_block_fails(progress):
    gave_up = []
    with pytest.raises(KeyError), beside(lambda: gave_up.append(handover.wait(progress, 0, 1)), progress):
        raise KeyError
    assert gave_up == [False]


@linux
def test_the_two_keep_apart_and_no_trace_is_left(progress):
    before = os.sched_getaffinity(0)
    found = []

    def look():
        found.append(os.sched_getaffinity(0))

    with beside(look, progress) as finish:
        own = os.sched_getaffinity(0)
        finish()
    assert len(own) == 1
    assert found == [before - own]
    assert os.sched_getaffinity(0) == before


@linux
def test_one_core_is_enough(progress):
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        found = []
        with beside(lambda: found.append(os.sched_getaffinity(0)), progress) as finish:
            finish()
        assert found == [os.sched_getaffinity(0)] == [{min(before)}]
    finally:
        os.sched_setaffinity(0, before)


def test_threads_do_not_pile_up(progress):
    before = threading.active_count()
    for _ in range(20):
        with beside(lambda: None, progress) as finish:
            finish()
    assert threading.active_count() == before
