"""Sixteen independent runs, all at once and one after the other: ``python -m bench.throughput``.

Each has weights, learning rates and batches of its own.  By fastrev with ``workers=2`` and in a plain loop, in which
each run has both cores; by JAX under `jax.vmap`, which makes one computation of all, and in a plain loop.  They take
turns.  Asserts that workers have the bits of the loop, and that JAX computes the same gradients.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import fastrev
from bench.pages import BENCHMARKS, machine, rewrite, today
from bench.peers import assert_same
from bench.report import ROUNDS, head, line, medians
from bench.workloads import PRECISIONS, Workload, workload
from fastrev._pool.workers import fan_out

RUNS = 16
SHAPES = "W2", "W3"
COLUMNS = {"loop": "a plain loop", "jax-vmap": "JAX, vmap", "jax-loop": "JAX, a plain loop"}


def independent(name: str, dtype: str, count: int = RUNS) -> list[Workload]:
    """As many runs of a workload, of other seeds and learning rates."""
    case = workload(name, PRECISIONS[dtype])
    rates = case.optimizer.lr * np.geomspace(0.5, 2, count)[:, None, None]
    assert case.batches is not None
    return [
        replace(
            case, w0=case.model.init(seed), optimizer=fastrev.SGD(rates[seed], case.optimizer.decay),
            batches=np.random.default_rng(seed).integers(len(case.train[0]), size=case.batches.shape),
        )
        for seed in range(count)
    ]  # fmt: skip


def run(cases: Sequence[Workload], number: int) -> fastrev.MetaGradient:
    """One of them."""
    return cases[number].run()


def contestants(cases: Sequence[Workload], spread: Callable[[range], list[Any]]) -> dict[str, Callable[[], Any]]:
    """What makes all runs, by what the table calls it: fastrev is the one with workers."""
    from bench.peers import jax_scan

    numbers = range(len(cases))
    return {
        "fastrev": lambda: spread(numbers),
        "loop": lambda: [run(cases, number) for number in numbers],
        "jax-vmap": jax_scan.meta_gradients(cases, at_once=True),
        "jax-loop": jax_scan.meta_gradients(cases, at_once=False),
    }


def assert_all_same(cases: Sequence[Workload], found: dict[str, Callable[[], Any]]) -> None:
    """Of every run."""
    (losses, gradients), alone = found["jax-vmap"](), found["jax-loop"]()
    for number, (case, spread, looped) in enumerate(zip(cases, found["fastrev"](), found["loop"](), strict=True)):
        assert all(np.array_equal(getattr(spread.grad, each), getattr(looped.grad, each)) for each in case.wrt)
        assert_same(case, losses[number], {name: values[number] for name, values in gradients.items()})
        assert_same(case, *alone[number])


def row(name: str, dtype: str, rounds: int) -> str:
    """A line of the table: all runs by workers, and how many times as long the others take."""
    cases = independent(name, dtype)
    with fan_out(run, cases, workers=2) as spread:
        ways = contestants(cases, spread)
        assert_all_same(cases, ways)
        found = medians(ways, rounds)
    own = found["fastrev"]
    return line(f"{name}, {dtype}", f"{1e3 * own:.0f} ms", *(f"{found[each] / own:.2f}x" for each in COLUMNS))


def main() -> None:
    """Measure, and replace the page's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of each that count (default: {ROUNDS})")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, help="print these, and leave the page as it is")
    args = parser.parse_args()
    lines = [*head("16 runs of", "fastrev, workers=2", *COLUMNS.values())]
    print(*lines, sep="\n")
    for name in args.shapes or SHAPES:
        for dtype in PRECISIONS:
            lines.append(row(name, dtype, args.rounds))
            print(lines[-1], flush=True)
    made = f"Medians of {args.rounds} interleaved runs on {machine('numba', 'numpy', 'jax')}, {today()}."
    if not args.shapes:
        rewrite(BENCHMARKS, "bench.throughput", "\n".join([*lines, "", made]))


if __name__ == "__main__":
    main()
