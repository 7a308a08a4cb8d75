"""What it costs to keep a run: ``python -m bench.saving``, for a table of docs/guides/durable.md.

Medians of what one writing adds to a run, there and back, with its gradient, its SHA-256 and its fsync.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import fastrev
from bench.pages import ROOT, machine, rewrite, today
from bench.workloads import Workload, workload
from fastrev._durable import checkpoints

WORKLOADS = {
    "W1, 44,860 parameters": ("W1", "SGD"),
    "the same by Adam": ("W1", "Adam"),
    "1,000,980 parameters": ("P = 1e6", "SGD"),
}
STEPS = 24


def writings(problem: Workload, path: Path) -> tuple[list[float], list[float], float, float]:
    """Seconds of each writing there and back, and bytes of a file of each."""
    times: list[float] = []
    sizes: list[int] = []
    write = checkpoints.Keeper._write

    def timed(self: checkpoints.Keeper, done: int) -> None:
        begun = time.perf_counter()
        write(self, done)
        times.append(time.perf_counter() - begun)
        sizes.append(path.stat().st_size)

    checkpoints.Keeper._write = timed
    try:
        fastrev.meta_grad(
            problem.model, problem.w0, train=problem.train, valid=problem.valid, optimizer=problem.optimizer,
            batches=problem.batches, wrt=problem.wrt, checkpoint=path, every=2,
        )  # fmt: skip
    finally:
        checkpoints.Keeper._write = write
    half = len(times) // 2
    return times[1:half], times[half + 1 :], sizes[half - 1], sizes[half]


def main() -> None:
    lines = [
        "| | a writing on the way there | on the way back | file there | file back | seconds between, by default |",
        "|---|---|---|---|---|---|",
    ]
    for name, (which, optimizer) in WORKLOADS.items():
        with tempfile.TemporaryDirectory(dir=ROOT) as folder:  # on a disk: /tmp may be memory
            found = writings(workload(which, steps=STEPS, optimizer=optimizer), Path(folder) / "run")
        there, back = (statistics.median(each) for each in found[:2])
        rests = " and ".join(f"{max(checkpoints._REST, checkpoints._SHARE * each):.1f}" for each in (there, back))
        sizes = " | ".join(f"{each / 1e6:.1f} MB" for each in found[2:])
        lines.append(f"| {name} | {1e3 * there:.0f} ms | {1e3 * back:.0f} ms | {sizes} | {rests} |")
    text = "\n".join([*lines, "", f"Medians; {machine('numba', 'numpy')}, {today()}."])
    print(text)
    rewrite(ROOT / "docs" / "guides" / "durable.md", "bench.saving", text)


if __name__ == "__main__":
    main()
