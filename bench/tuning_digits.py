"""What `fastrev.tune` finds for digits, and what becomes of it without a part: ``python -m bench.tuning_digits``.

The task of the race (`bench.tuning`), everything learned: 1,605 numbers, with rates and decays by step and group, or 7.
Losses are means of 20 runs of seeds that the tuner has not seen.  A line gives their mean over the seeds of the tuner,
the worst, the seconds of the longest, and how far an end lies at most above the best of ten points of its way.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np

import fastrev
from bench.tuning_task import BATCH, STEPS, Task, Values, load
from fastrev._tuning import loop

LEARN = ("lr", "decay", "l2", "init_scale")
RATES = {"1,605": 0.05, "7": 0.08}  # Adam's, by how many numbers are learned
# what takes a part away: attributes and what they become
TRIAL = (loop, "rises", lambda before, after: False)
CLIPPING = (loop.Descent, "_mean", lambda self, pulled: (1.0, np.mean(pulled, axis=0)))
SEARCH = (loop.Descent, "_search_along_the_rates", lambda self: None)
WITHOUT: dict[str, list[tuple[Any, str, Any]]] = {
    "nothing": [], "trial": [TRIAL], "clipping": [CLIPPING], "search": [SEARCH], "averaging": [],
    "all of these": [TRIAL, CLIPPING, SEARCH],
}  # fmt: skip
ONE_RUN = ("averaging", "all of these")  # a meta-step, of which there are eight times as many


def solve(task: Task, numbers: str, seed: int, meta_steps: int, runs: int) -> tuple[list[float], float]:
    """Judged losses of ten points of the way and the end, and the seconds that it took."""
    shape = (STEPS, len(task.model.groups)) if numbers != "7" else ()
    start = task.start | {name: np.full(shape, task.start[name]) for name in ("lr", "decay")}
    way: list[Values] = []

    def callback(state: Any) -> None:
        if state.nit % -(-meta_steps // 10) == 0:
            way.append(state.current())

    began = time.perf_counter()
    result = fastrev.tune(
        task.model, train=task.train, valid=task.valid, steps=STEPS, batch_size=BATCH, **start, learn=LEARN,
        meta_steps=meta_steps, meta_lr=RATES[numbers], runs=runs, workers=2, seed=seed, progress=False,
        callback=callback,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    with ThreadPoolExecutor(2) as pool:
        return [task.judge(task.start | each, pool) for each in (*way, result.learned)], seconds


def main() -> None:
    """Print a line for each part and number of numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--meta-steps", type=int, default=75, help="default: 75, for ten seconds")
    parser.add_argument("--without", choices=WITHOUT, help="one part only (default: each in turn)")
    options = parser.parse_args()
    task = load(None)
    fastrev.compile(np.float64)
    for part in WITHOUT if options.without is None else [options.without]:
        for numbers in RATES:
            runs, found = 1 if part in ONE_RUN else 8, []
            steps = options.meta_steps * (8 // runs)
            with ExitStack() as stack:
                for owner, name, value in WITHOUT[part]:
                    stack.enter_context(patch.object(owner, name, value))
                for seed in range(options.seeds):
                    found.append(solve(task, numbers, seed, steps, runs))
            ends = np.array([losses[-1] for losses, _ in found])
            above = max(losses[-1] / min(losses) - 1 for losses, _ in found)
            label, longest = "as it is" if part == "nothing" else f"without {part}", max(took for _, took in found)
            print(
                f"{label}, {numbers} numbers: mean {ends.mean():.4f}, worst {ends.max():.4f}, at most {longest:.1f} s, "
                f"{above:.0%} above the best of the way",
                flush=True,
            )


if __name__ == "__main__":
    main()
