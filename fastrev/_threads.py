"""A second thread for the way back."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from fastrev.kernels.handover import ABANDONED, PATIENCE, PATIENCE_ON_ONE_CORE, PATIENCE_ON_TWO
from fastrev.kernels.structures import Int64s

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@contextmanager
def beside(function: Callable[[], object], progress: Int64s) -> Iterator[Callable[[], None]]:
    """Run `function` on a thread of its own while the block runs; both hand over through `progress`, which starts at 0.

    The block calls what it is given when it has done its part, to wait for the thread and raise what it raised.  If it
    does not come to that, or the thread does not come to its end, the other side is told to give up.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            _keep_to(other_cores)
            function()
        except BaseException as error:
            errors.append(error)
            progress[ABANDONED] = True

    def finish() -> None:
        thread.join()
        if errors:
            raise errors[0]

    progress[:] = 0
    allowed, own_core = _cores()
    other_cores = allowed - own_core
    progress[PATIENCE] = PATIENCE_ON_TWO if other_cores else PATIENCE_ON_ONE_CORE
    thread = threading.Thread(target=run, name="fastrev-pullback")
    try:
        thread.start()
        _keep_to(own_core)
        yield finish
    finally:
        if thread.is_alive():  # the block failed, or was interrupted
            progress[ABANDONED] = True
            thread.join()
        _keep_to(allowed)


def _cores() -> tuple[set[int], set[int]]:
    """All cores that this thread may run on, and the one that it is on; both empty where nothing can be told or done.

    The two threads are kept to different ones while they work.  Linux likes to wake a thread on the core of the one
    that woke it, and then leaves both there for some 10 ms: a reversal of 1000 small steps took 4.4 ms instead of 2.2,
    nearly every time that the process had slept before.
    """
    if _libc is None:
        return set(), set()
    return os.sched_getaffinity(0), {_libc.sched_getcpu()}


def _keep_to(cores: set[int]) -> None:
    if cores:
        with suppress(OSError):  # a core that was taken from the process meanwhile
            os.sched_setaffinity(0, cores)
