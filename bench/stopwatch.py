"""The time of a kernel's call from compiled code."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numba


def stopwatch(kernel: Callable[..., Any], *arguments: Any) -> Callable[[], float]:
    """A function that takes some 2 ms to measure the seconds of a call.  All is compiled before."""

    @numba.njit
    def repeat(count, *arguments):
        for _ in range(count):
            kernel(*arguments)

    def measure(count: int) -> float:
        start = time.perf_counter()
        repeat(count, *arguments)
        return (time.perf_counter() - start) / count

    repeat(1, *arguments)
    count = max(10, int(2e-3 / measure(10)))
    return lambda: measure(count)
