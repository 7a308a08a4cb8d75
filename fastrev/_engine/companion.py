"""The second thread of a call."""

from __future__ import annotations

import _thread
import ctypes
import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

import numpy as np

from fastrev._engine.settings import cores, may_pin
from fastrev._engine.types import Ints
from fastrev.kernels.handover import (
    ABANDONED,
    BLOCKS_READ,
    BLOCKS_WRITTEN,
    CORE,
    PATIENCE,
    PATIENCE_ON_ONE_CORE,
    PATIENCE_ON_TWO,
    PROGRESS,
    STEPS_READ,
    STEPS_WRITTEN,
    TASKS_DONE,
    announce,
    wait,
)

Result = TypeVar("Result")

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

    def __init__(self) -> None:
        self.progress: Ints = np.zeros(PROGRESS, np.int64)
        self._tasks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._begun, self._handed, self._done = False, 0, 0
        self._at_work = _thread.allocate_lock()
        self._error: BaseException | None = None
        self.crowded = False  # two threads were found to be too many for the cores that there are
        # In the midst of a walk, there for nobody else: from its beginning, and for ever if an exception left it there
        self.engaged = False
        self.around: Companion | None = None  # that of the call within which a signal's handler makes this one's

    def hand(self, task: Callable[[], object]) -> None:
        """Have it do something, after what it was handed before."""
        self._handed += 1
        self._tasks.put(task)
        if not self._begun:
            self._begun = True
            self._at_work.acquire()
            _thread.start_new_thread(self._run, (self._share_cores(),))

    def finish(self) -> None:
        """Wait until it has done the last thing, or failed, and raise what it raised."""
        with self._at_work:
            if self._error is not None:
                raise self._error

    def dismiss(self) -> None:
        """See it to its end, if it has begun and knows one."""
        if self._begun and not self.engaged:
            self.engaged = True
            self._tasks.put(None)
            self.finish()

    def meet(self) -> None:
        """Wait until it has done all that it was handed, and raise what it raised instead."""
        if not wait(self.progress, TASKS_DONE, self._handed):
            self.finish()

    def join(self, own: Callable[[], Result], other: Callable[[], object]) -> Result:
        """Have it do something while this thread does its part, and wait for both."""
        self.engaged = True
        self.hand(other)
        found = own()
        self.release()
        return found

    def release(self) -> None:
        """Wait for it, after which it is there for others."""
        self.meet()
        self.engaged = False

    @property
    def at_hand(self) -> bool:
        """Whether it can be handed something: it has nothing to do, was not given up, and has not failed."""
        return not (self.engaged or self.progress[ABANDONED])

    def engage(self, *, read: int = 0) -> None:
        """Count what goes on a record from 0 on, until `release`; `read` of it is what a writer need not wait for."""
        self.engaged = True
        self.progress[BLOCKS_WRITTEN] = self.progress[STEPS_WRITTEN] = 0
        self.progress[BLOCKS_READ] = self.progress[STEPS_READ] = read

    def give_up(self) -> None:
        """Tell it to end, if it has not."""
        self.progress[ABANDONED] = True
        self._tasks.put(None)

    def lose(self) -> None:
        """Do without it from now on, in a process that was forked and has no such thread: wait for it nowhere."""
        self.progress[ABANDONED] = True
        self._at_work = _thread.allocate_lock()
        if self.engaged:
            self._error = RuntimeError(
                "This process was forked in the midst of a walk of two threads, of which it has one: what they were at "
                "ends here. Fork between two calls, or within a callback."
            )

    def _run(self, own_cores: set[int]) -> None:
        try:
            if own_cores:
                os.sched_setaffinity(0, own_cores)
        except OSError:  # cores that were taken from the process meanwhile
            pass
        try:
            while (task := self._tasks.get()) is not None:
                task()
                del task  # and with it all that it holds, before anybody goes on
                self._done += 1
                announce(self.progress, TASKS_DONE, self._done)
        except BaseException as error:
            self._error = error
        finally:
            self.progress[ABANDONED] = True  # whoever still waits for something waits in vain
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
        self.progress[PATIENCE] = PATIENCE_ON_TWO if cores() > 1 else PATIENCE_ON_ONE_CORE
        self.progress[CORE] = own + 1 if others else 0
        return others


class _Here(threading.local):
    companion: Companion | None = None  # of the call that this thread is in


_here = _Here()


def in_company(action: Callable[[Companion], Result]) -> Result:
    """Do something with a second thread at hand: the same for all that a call does, started when first needed.

    So a call starts one thread, whatever it goes through, and leaves none.  What a signal's handler calls while that is
    engaged has a thread of its own.
    """
    around = _here.companion
    if around is not None and around.at_hand:
        try:
            return action(around)
        finally:
            if around.engaged:  # and waits for what does not come, whoever survives the exception
                around.give_up()
    companion = Companion()
    companion.around = around
    # given up twice, for an interrupt may come in the first
    try:
        try:
            _here.companion = companion
            found = action(companion)
            companion.dismiss()
            return found
        finally:
            _here.companion = around
            companion.give_up()
    finally:
        _here.companion = around
        companion.give_up()


def present() -> Companion | None:
    """The one at hand, if this is within a call that has one."""
    return _here.companion


def _lose_all() -> None:
    companion, _here.companion = _here.companion, None
    while companion is not None:
        companion.lose()
        companion = companion.around


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lose_all)
