"""What holds for a thread while it does a task of a pool: it has company, and may be told to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(BaseException):
    """Nobody waits for this run any more.  It is no Exception, so that no task takes it for an error to survive."""


class _Here(threading.local):
    stops: tuple[threading.Event, ...] = ()  # those of all pools that this thread is at work for


_here = _Here()


@contextmanager
def at_work(stop: threading.Event) -> Iterator[None]:
    """Do a task of a pool in this thread, which is as before afterwards: it may be somebody else's."""
    before = _here.stops
    _here.stops = (*before, stop)
    try:
        yield
    finally:
        _here.stops = before


def in_a_pool() -> bool:
    """Whether other runs have the other cores."""
    return bool(_here.stops)


def heed() -> None:
    """Stop if told to; what a run asks wherever it returns to Python."""
    for stop in _here.stops:
        if stop.is_set():
            raise Stopped
