"""The time of one call, where there is next to nothing to compute: ``python -m bench.calls``.

MLP((4, 8, 3)), batches of 16, one step: what is left are checks, allocations, threads and the way into compiled code.
Back to back, and after a rest of 0.2 s, from which caches and the second core come back cold.  Medians; what an
optimisation gains here shows in a run of some hundred small steps, where it is up to a quarter of the whole.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import fastrev
from bench.workloads import PRECISIONS, Shape, of_shape

SHAPE = Shape((4, 8, 3), 16, 1, 64, 64)
REST = 0.2  # seconds


def times(call: Callable[[], object], count: int, rest: float = 0.0) -> list[float]:
    """Of so many calls, in microseconds."""
    found = []
    for _ in range(count):
        if rest:
            time.sleep(rest)
        start = time.perf_counter()
        call()
        found.append(1e6 * (time.perf_counter() - start))
    return found


def calls() -> dict[str, Callable[[], object]]:
    """What is measured, by its name; hyperparameters are numbers, as most calls' are."""
    found: dict[str, Callable[[], object]] = {}
    for optimizer in (fastrev.SGD(0.1, 0.9), fastrev.Adam(0.01)):
        for precision, dtype in PRECISIONS.items():
            problem = of_shape("", SHAPE, dtype)
            arguments = {"train": problem.train, "optimizer": optimizer, "batch_size": 16, "steps": 1}
            what = f"{type(optimizer).__name__} {precision}"
            model, w0 = problem.model, problem.w0
            found[f"meta_grad, {what}"] = partial(fastrev.meta_grad, model, w0, valid=problem.valid, **arguments)
            found[f"train, {what}"] = partial(fastrev.train, model, w0, **arguments)
    return found


def main() -> None:
    print(f"{'us, median':30}{'back to back':>14}{'after 0.2 s':>14}")
    for name, call in calls().items():
        times(call, 20)  # compiles
        soon, late = times(call, 500), times(call, 15, REST)
        print(f"{name:30}{statistics.median(soon):14.0f}{statistics.median(late):14.0f}")


if __name__ == "__main__":
    main()
