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
            keep_to(other_cores)
            function()
        except BaseException as error:
            errors.append(error)
            progress[ABANDONED] = True

    def finish() -> None:
        thread.join()
        if errors:
            raise errors[0]

    progress[:] = 0
    with _keeping_apart() as (other_cores, keep_to):
        progress[PATIENCE] = PATIENCE_ON_TWO if other_cores else PATIENCE_ON_ONE_CORE
        thread = threading.Thread(target=run, name="fastrev-pullback")
        thread.start()
        try:
            yield finish
        finally:
            progress[ABANDONED] |= thread.is_alive()
            thread.join()


@contextmanager
def _keeping_apart() -> Iterator[tuple[set[int], Callable[[set[int]], None]]]:
    """Keep this thread to its core for a while; yields the other cores, and what keeps a second thread to them.

    Linux likes to wake a thread on the core of the one that woke it, and then leaves both there for some 10 ms: a
    reversal of 1000 small steps took 4.4 ms instead of 2.2, nearly every time that the process had slept before.
    """
    allowed = os.sched_getaffinity(0) if _libc else set()
    if _libc is None or len(allowed) < 2:
        yield set(), lambda cores: None
        return
    own = {_libc.sched_getcpu()}
    _keep_to(own)
    try:
        yield allowed - own, _keep_to
    finally:
        _keep_to(allowed)


def _keep_to(cores: set[int]) -> None:
    with suppress(OSError):  # a core that was taken from the process meanwhile
        os.sched_setaffinity(0, cores)
