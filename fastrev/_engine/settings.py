"""What holds for the whole process, and what is found of the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fastrev._engine.pooled import in_a_pool


@dataclass
class Settings:
    """What `fastrev.threads` sets, for the process."""

    per_run: int | None = None  # None: as many as there are cores, at most 2, and one in a pool of runs
    pin: bool = True


settings = Settings()


def cores() -> int:
    """How many cores this thread may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_thread() -> bool:
    """Whether a reversal is to make do with the thread that called it."""
    return (settings.per_run or (1 if in_a_pool() else cores())) == 1


def may_pin() -> bool:
    """Whether this thread may choose its cores: in a pool of runs that would be the cores of others."""
    return settings.pin and not in_a_pool()
