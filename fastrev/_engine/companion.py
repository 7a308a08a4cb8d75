"""The second thread of a reversal."""

from __future__ import annotations

import _thread
import ctypes
import os
import sys
from collections.abc import Callable
from queue import SimpleQueue

from fastrev._engine.settings import cores, may_pin
from fastrev._engine.types import Ints
from fastrev.kernels.handover import (
    ABANDONED,
    CORE,
    PATIENCE,
    PATIENCE_ON_ONE_CORE,
    PATIENCE_ON_TWO,
    TASKS_DONE,
    announce,
    wait,
)

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Companion:
    """A second thread that does what it is handed, in order, beside the one that hands it on.

    Both tell each other how far they are through `progress` (`kernels.handover`).  It starts with the first thing to do
    and ends after the last.  Whoever hands it something gives it up in the end, whatever happens: the thread is told by
    `progress` and by its queue.  Nobody waits for it then, for nobody knows after an interrupt whether it was started;
    it finds both if so.  It works on arrays of its own and keeps no process from ending, so nothing depends on when it
    does.

    ``threading.Thread`` would wait for a first sign of life: 50 of the 110 us that a thread costs (`python -m
    bench.choices thread`).
    """

    def __init__(self, progress: Ints) -> None:
        self._progress = progress
        self._tasks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._begun, self._handed, self._done = False, 0, 0
        self._at_work = _thread.allocate_lock()
        self._error: BaseException | None = None

    def hand(self, task: Callable[[], object], *, last: bool) -> None:
        """Have it do something, after what it was handed before."""
        self._handed += 1
        self._tasks.put(task)
        if last:
            self._tasks.put(None)
        if not self._begun:
            self._begun = True
            self._at_work.acquire()
            _thread.start_new_thread(self._run, (self._share_cores(),))

    def finish(self) -> None:
        """Wait until it has done the last thing, or failed, and raise what it raised."""
        with self._at_work:
            if self._error is not None:
                raise self._error

    def meet(self) -> None:
        """Wait until it has done all that it was handed, which was not the last, and raise what it raised instead."""
        if not wait(self._progress, TASKS_DONE, self._handed):
            self.finish()

    def see_through(self, action: Callable[[], None]) -> None:
        """Do what hands it its tasks, wait for the last, and give it up whatever happens."""
        try:  # given up twice, for an interrupt may come in the first
            try:
                action()
                self.finish()
            finally:
                self.give_up()
        finally:
            self.give_up()

    def give_up(self) -> None:
        """Tell it to end, if it has not."""
        self._progress[ABANDONED] = True
        self._tasks.put(None)

    def _run(self, own_cores: set[int]) -> None:
        try:
            if own_cores:
                os.sched_setaffinity(0, own_cores)
        except OSError:  # cores that were taken from the process meanwhile
            pass
        try:
            while (task := self._tasks.get()) is not None:
                task()
                self._done += 1
                announce(self._progress, TASKS_DONE, self._done)
        except BaseException as error:
            self._error = error
        finally:
            self._progress[ABANDONED] = True  # whoever still waits for something waits in vain
            self._at_work.release()

    def _share_cores(self) -> set[int]:
        """Keep the calling thread, while it is within a kernel, to the core that it is on.  Returns the others.

        Both stay apart while they work.  Linux likes to wake a thread on the core of the one that woke it, and then
        leaves both there for some 10 ms: a reversal of 1000 small steps took 4.4 ms instead of 2.2, nearly every time
        that the process had slept before (`python -m bench.choices apart`).  Nothing is kept apart where the cores
        cannot be told.
        """
        own = _libc.sched_getcpu() if _libc is not None and may_pin() else -1
        others = os.sched_getaffinity(0) - {own} if own >= 0 else set()
        self._progress[PATIENCE] = PATIENCE_ON_TWO if cores() > 1 else PATIENCE_ON_ONE_CORE
        self._progress[CORE] = own + 1 if others else 0
        return others
