"""Many losses in one reversal, beside as many pullbacks of one: ``python -m bench.many_losses``.

A turn takes runs back for one loss, one for K losses, and some for one again; the median of the turns' ratios counts.
Asserts that a row of many has the bits of one.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import fastrev
from bench.pages import BENCHMARKS, machine, rewrite, today
from bench.workloads import PRECISIONS, Workload, workload

COUNTS = 1, 2, 8, 64, 256
CASES = {
    "W1": ("w0", "v0", "lr", "decay"),
    "W2": ("w0", "v0", "lr", "decay"),
    "W2 by example_weights": ("example_weights",),
    "W3": ("w0", "v0", "lr", "decay"),
}


def trained(case: Workload) -> fastrev.Run:
    """A run to be taken back."""
    return fastrev.train(
        fastrev.MLP(case.sizes, dtype=case.dtype), case.w0, train=case.train, optimizer=case.optimizer,
        batches=case.batches,
    )  # fmt: skip


def seconds(case: Workload, w_bar: np.ndarray, wrt: tuple[str, ...]) -> tuple[float, fastrev.Gradients]:
    """How long a pullback takes, and what it finds."""
    run = trained(case)
    start = time.perf_counter()
    found = run.pullback(w_bar, wrt=wrt)
    return time.perf_counter() - start, found


def turn(case: Workload, w_bar: np.ndarray, wrt: tuple[str, ...]) -> tuple[float, float]:
    """Seconds of a pullback of one loss, and of one of all."""
    singles = min(max(len(w_bar) // 4, 2), 8)
    before = [seconds(case, w_bar[0], wrt)[0] for _ in range(singles)]
    taken, many = seconds(case, w_bar, wrt)
    after = [seconds(case, w_bar[0], wrt)[0] for _ in range(singles)]
    _, one = seconds(case, w_bar[0], wrt)
    assert all(np.array_equal(getattr(many, each)[0], getattr(one, each)) for each in wrt)
    return float(np.mean(before + after)), taken


def line(name: str, precision: str, turns: int) -> str:
    """A row of the table."""
    case, wrt = workload(name.split()[0], PRECISIONS[precision]), CASES[name]
    w_bar = np.random.default_rng(0).standard_normal((max(COUNTS), case.w0.size))
    found = {count: [turn(case, w_bar[:count], wrt) for _ in range(turns)] for count in COUNTS}
    ratios = " | ".join(f"{np.median([n * one / many for one, many in found[n]]):.2f}x" for n in COUNTS)
    one, many = np.median(found[64], axis=0)
    return f"| {name}, {precision} | {1e3 * one:.1f} ms | {ratios} | {1e3 * many / 64:.2f} ms |"


def main() -> None:
    """Measure, and replace the page's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    lines = [
        "| | one pullback | " + " | ".join(f"K = {count}" for count in COUNTS) + " | a loss of 64 |",
        "|---" * (3 + len(COUNTS)) + "|",
    ]
    for name in CASES:
        for precision in PRECISIONS:
            lines.append(line(name, precision, turns))
            print(lines[-1], flush=True)
    made = f"Medians of {turns} interleaved turns on {machine('numba', 'numpy')}, {today()}."
    rewrite(BENCHMARKS, "bench.many_losses", "\n".join(lines) + f"\n\n{made}")


if __name__ == "__main__":
    main()
