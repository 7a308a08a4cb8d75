"""The pool for `workers=2`: threads of our own, each with a share of the cores."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from fastrev._engine.settings import may_pin, settings

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@contextmanager
def own_threads(count: int) -> Iterator[Map]:
    """A map on so many threads, which are gone afterwards; after an error, as soon as they see that they may stop.

    Kernels release the interpreter's lock, so two threads gain what two processes would, but for 2 to 5 % of runs of
    some milliseconds, and need no start-up and no pickling: 16 runs of W2 take two thirds of the time of a plain loop,
    in which each run has both cores (`python -m bench.choices workers`).
    """
    shares = _shares(count)
    pool = ThreadPoolExecutor(count, "fastrev", initializer=_keep_to_one_of, initargs=(shares,))

    def spread(task: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """The results in any order, or the first error as soon as it comes."""
        answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()  # whole after Ctrl-C, as no lock is left

        def answer(item: Any) -> None:
            try:
                answers.put((task(item), None))
            except BaseException as error:
                answers.put((None, error))

        results = []
        for _ in [pool.submit(answer, item) for item in items]:
            result, error = answers.get()
            if error is not None:
                raise error
            results.append(result)
        return results

    try:
        yield spread
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _shares(count: int) -> SimpleQueue[set[int]]:
    """A set of cores for each thread, which no other has.

    Linux likes to wake threads on the core of the one that woke them, and leaves them there for some 10 ms: after a
    rest, runs of 7 ms on two threads gained 1.2x over a plain loop where those kept apart gained 1.5x.  There are none
    where there are fewer cores than threads, or where each run shall have two threads.
    """
    shares: SimpleQueue[set[int]] = SimpleQueue()
    if hasattr(os, "sched_getaffinity") and may_pin() and settings.per_run != 2:
        allowed = sorted(os.sched_getaffinity(0))
        for i in range(count if count <= len(allowed) else 0):
            shares.put(set(allowed[i::count]))
    return shares


def _keep_to_one_of(shares: SimpleQueue[set[int]]) -> None:
    if not shares.empty():
        with contextlib.suppress(OSError):  # cores that were taken from the process meanwhile
            os.sched_setaffinity(0, shares.get())
