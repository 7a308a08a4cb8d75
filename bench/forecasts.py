"""What `fastrev.forecast` says beside what is then measured: ``python -m bench.forecasts``.

W1 to W4 with more steps than a forecast measures, by numbers that do not grow with them.  A forecast and a run take
turns; the medians count.  Asserts that memory and disk are within a tenth.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from typing import Any

import numpy as np

import fastrev
from bench.pages import ROOT, machine, rewrite, today
from bench.workloads import SHAPES, workload

PAGE = ROOT / "docs" / "guides" / "long-runs.md"
STEPS = {"W1": 1000, "W2": 10_000, "W3": 50_000, "W4": 3000}
STEPS_IN_FILES = {"W1": 2000, "W2": 20_000, "W3": 300_000, "W4": 6000}  # with a bit a parameter a step, several files
MB = 1e6


def steps_of(name: str, folder: str | None) -> int:
    """Of a run."""
    return (STEPS_IN_FILES if folder else STEPS)[name]


def turn(name: str, optimizer: str, folder: str | None) -> tuple[fastrev.Forecast, fastrev.Stats, float]:
    """What was forecast, and what a run then took."""
    case, shape, steps = workload(name, steps=1, optimizer=optimizer), SHAPES[name], steps_of(name, folder)
    numbers = {each: value.flat[0] for each, value in case.hyperparameters.items()}
    if folder:
        numbers["decay"] = 0.5
    chosen = type(case.optimizer)(**numbers)
    how: dict[str, Any] = {
        "optimizer": chosen, "l2": 0.0 if case.l2 is None else case.l2, "wrt": case.wrt, "batch_size": shape.batch,
        "steps": steps, "buffer": folder,
    }  # fmt: skip
    found = fastrev.forecast(case.model, examples=shape.rows, valid=shape.valid_rows, **how)
    start = time.perf_counter()
    stats = fastrev.meta_grad(case.model, case.w0, train=case.train, valid=case.valid, **how).stats
    return found, stats, time.perf_counter() - start


def line(name: str, optimizer: str, turns: int, folder: str | None) -> str:
    """A row of the table."""
    made = [turn(name, optimizer, folder) for _ in range(turns)]
    found, stats, _ = made[0]
    assert abs(found.bytes_held / stats.bytes_held - 1) < 0.1
    assert abs(found.bytes_on_disk - stats.bytes_on_disk) <= max(0.1 * stats.bytes_on_disk, 1.1 * MB)
    expected, taken = np.median([each.seconds for each, *_ in made]), np.median([each for *_, each in made])
    disk = f"{found.bytes_on_disk / MB:.1f} | {stats.bytes_on_disk / MB:.1f}" if folder else "- | -"
    what = f"{name}, {optimizer}{', decay 1/2, files' if folder else ''}"
    cells = [
        f"{what} | {steps_of(name, folder):,} | {found.bytes_held / MB:.2f} | {stats.bytes_held / MB:.2f}", disk,
        f"{expected:.2f} | {taken:.2f} | {expected / taken:.2f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, and replace the page's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("names", nargs="*", default=list(SHAPES), help="workloads; the page needs all")
    options = parser.parse_args()
    lines = [
        "| | T | MB forecast | held | MB on disk forecast | held | s forecast | taken | ratio |",
        "|---" * 9 + "|",
    ]  # fmt: skip
    warnings.simplefilter("ignore", fastrev.ChaosWarning)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names:
            for optimizer, where in ("SGD", None), ("SGD", folder), ("Adam", None):
                lines.append(line(name, optimizer, options.turns, where))
                print(lines[-1], flush=True)
    made = f"Medians of {options.turns} turns on {machine('numba', 'numpy')}, {today()}."
    if options.names == list(SHAPES):
        rewrite(PAGE, "bench.forecasts", "\n".join(lines) + f"\n\n{made}")


if __name__ == "__main__":
    main()
