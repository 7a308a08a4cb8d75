"""A long run and many short ones: ``python -m bench.soak``.

Ten million steps of a small network and back, the information buffer accounted for to the bit, and 20,000 calls of
`meta_grad`, of each kind by turns, that leave no memory, thread or descriptor behind.  Writes docs/guarantees.md.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastrev
from bench.pages import GUARANTEES, machine, rewrite, today
from fastrev._engine import state as states

SETTLED = 0.25  # of the calls, after which caches are full; what grows later is a leak
PAGE = 4096  # bytes


class Account(NamedTuple):
    """The bits of an information buffer."""

    stored: float  # by the heads and the words on the tail
    owed: float  # log2(d / n) of each multiplication
    flags: float  # words that say how the one below came to be: 16 bits each, which hold no information

    @property
    def missing(self) -> float:
        """What is neither owed nor in a whole number of flags."""
        return self.stored - self.owed - 16 * round(self.flags)


def account(run: fastrev.Run, n: int, d: int) -> Account:
    """Of a run with one decay n/d."""
    state = run._state
    stored = states.stored_bits(state.heads, int(state.cursor[1]))
    owed = float(state.cursor[0]) * state.heads.size * (np.log2(d) - np.log2(n))
    return Account(stored, owed, (stored - owed) / 16)


def long_run(steps: int) -> list[str]:
    """There, and back."""
    model, w0, arguments = _small(steps)
    start = time.perf_counter()
    run = fastrev.train(model, w0, **arguments)
    there = time.perf_counter() - start
    held = account(run, 9, 10)
    assert abs(held.missing) < 0.5, held
    assert held.flags > -0.1, held
    start = time.perf_counter()
    run.rewind()
    back = time.perf_counter() - start
    state = run._state
    assert run.stats.exact
    assert states.stored_bits(state.heads, int(state.cursor[1])) == 0.0
    assert not state.cursor.any()
    assert (states.to_floats(state.w) == states.to_floats(run._problem.w0)).all()
    return [
        f"- **{steps:,} steps** of a network 4-8-3 by SGD at decay 0.9, {there:.0f} s there and {back:.0f} s back: "
        f"{held.stored:,.1f} bits held, of which {held.owed:,.1f} are log₂(10/9) a parameter a step and "
        f"16 each the {round(held.flags):,} flag words; {abs(held.missing):.2f} bits are neither. Back at the start "
        "all heads are fresh, the tail is empty, and no bit of the weights differs."
    ]


def many_calls(count: int) -> list[str]:
    """Of each kind by turns."""
    kinds = _kinds()
    for each in kinds:
        each()  # compiles
    begin, before = int(SETTLED * count), {}
    start = time.perf_counter()
    for i in range(count):
        if i == begin:
            before = held()
        kinds[i % len(kinds)]()
    took, after = time.perf_counter() - start, held()
    assert after["threads"] <= before["threads"], (before, after)
    assert after["descriptors"] <= before["descriptors"], (before, after)
    grown = after["memory"] - before["memory"]
    assert grown < 2**20, (before, after)
    return [
        f"- **{count:,} calls** of `meta_grad`, by SGD and Adam, in float64 and float32, with one loss and with three, "
        f"on one thread and two, refused ones among them, in {took:.0f} s: from call {begin:,} to the last "
        f"the resident memory grew by {max(grown, 0) / 1024:,.0f} KB, threads and descriptors by none."
    ]


def held() -> dict[str, int]:
    """What this process has of the system, once its threads are done."""
    gc.collect()
    time.sleep(0.2)
    memory = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    threads, descriptors = (sum(1 for _ in Path(f"/proc/self/{each}").iterdir()) for each in ("task", "fd"))
    return {"memory": memory, "threads": threads, "descriptors": descriptors}


def _small(steps: int, dtype: type = np.float64) -> tuple[fastrev.MLP, Any, dict[str, Any]]:
    rng = np.random.default_rng(0)
    X = rng.random((256, 4))
    Y = (X @ rng.standard_normal((4, 3))).argmax(axis=1)
    model = fastrev.MLP((4, 8, 3), dtype=dtype)
    data = {"train": (X, Y), "batch_size": 16, "l2": 1e-3, "steps": steps}
    return model, model.init(0), data | {"lr": 0.05, "decay": 0.9}


def _kinds() -> list[Callable[[], object]]:
    kinds: list[Callable[[], object]] = []
    for dtype in (np.float64, np.float32):
        model, w0, arguments = _small(10, dtype)
        valid = {"valid": arguments["train"]}
        adam = {**arguments, "lr": None, "decay": None, "optimizer": fastrev.Adam(0.01)}
        wide = fastrev.MLP((4, 96, 3), dtype=dtype)  # whose way back is one of two threads
        kinds += [
            partial(fastrev.meta_grad, model, w0, **arguments, **valid),
            partial(fastrev.meta_grad, model, w0, **adam, **valid),
            partial(fastrev.meta_grad, wide, wide.init(0), **arguments | {"batch_size": 200}, **valid),
            partial(_many, model, w0, **arguments),
            partial(_refused, model, w0, **arguments, **valid),
        ]
    return kinds


def _many(model: fastrev.MLP, w0: Any, **arguments: Any) -> None:
    fastrev.train(model, w0, **arguments).pullback(np.ones((3, model.num_params)))


def _refused(model: fastrev.MLP, w0: Any, **arguments: Any) -> None:
    """Once before its start, once at a step."""
    for lr in (-1.0, 1e9):
        try:
            fastrev.meta_grad(model, w0, **arguments | {"lr": lr})
        except (fastrev.ArgumentError, fastrev.DivergenceError):
            continue
        raise AssertionError(f"lr={lr} was not refused")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000_000)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--write", action="store_true", help="put the figures on the page")
    given = parser.parse_args(arguments)
    lines = long_run(given.steps) + many_calls(given.calls)
    print("\n".join(lines))
    if given.write:
        rewrite(
            GUARANTEES, "bench.soak", "\n".join([*lines, "", f"Measured on {machine('numba', 'numpy')}, {today()}."])
        )


if __name__ == "__main__":
    main()
