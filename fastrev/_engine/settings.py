"""What holds for the whole process, and what is found of the machine."""

from __future__ import annotations

import math
import os
import sys
import threading
from dataclasses import dataclass

from fastrev._engine.pooled import in_a_pool


@dataclass
class Settings:
    """What `fastrev.threads` sets, for the process."""

    per_run: int | None = None  # None: as many as there are cores, at most 2, and one in a pool of runs
    pin: bool = True


settings = Settings()

# A way back of less work is done before a second thread has started, helped and been joined.  Two threads begin to pay
# between 1e6 (4-8-3, batches of 500) and 5e6 (64-32-10 and 784-10): up to here one takes 0.7 to 0.9 of their time
# (`python -m bench.choices short`)
_WORK_OF_A_THREAD = 1e6


def cores() -> int:
    """How many cores this thread may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_thread(work: float = math.inf) -> bool:
    """Whether what takes so many multiply-adds is to make do with the thread that called it."""
    if sys.is_finalizing() or not threading.main_thread().is_alive():
        return True  # the process ends: a second thread would not start, or not be let go on, and be waited for forever
    if settings.per_run is not None:
        return settings.per_run == 1
    return work < _WORK_OF_A_THREAD or in_a_pool() or cores() == 1


def may_pin() -> bool:
    """Whether this thread may choose its cores: in a pool of runs that would be the cores of others."""
    return settings.pin and not in_a_pool()
