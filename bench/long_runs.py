"""Memory of long runs, from /proc, with and without a folder for what they store: ``python -m bench.long_runs``.

Each run is W1's meta-gradient in a process of its own, whose peak counts from behind a first short one.  The last takes
some minutes.  Asserts that with a folder 100,000 steps stay within 5 MB of 1,000.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import fastrev
from bench.pages import ROOT, machine, rewrite, today
from bench.workloads import Workload, workload

PAGE = ROOT / "docs" / "guides" / "long-runs.md"
STEPS = 1_000, 10_000, 100_000
MB = 1e6


def meta_grad(case: Workload, steps: int, buffer: str | None) -> fastrev.MetaGradient:
    """By numbers that do not grow with the steps."""
    how: dict[str, Any] = {"lr": 0.1, "decay": 0.9, "batch_size": 200, "steps": steps, "buffer": buffer}
    return fastrev.meta_grad(case.model, case.w0, train=case.train, valid=case.valid, **how)


def peak() -> float:
    """The largest resident memory of this process, in bytes."""
    (line,) = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM")]
    return 1024 * float(line.split()[1])


def child(steps: int, buffer: str | None) -> None:
    """Print the peak, and what the run says that it held."""
    case = workload("W1", steps=1)
    meta_grad(case, 50, buffer)
    ctypes.CDLL(None).malloc_trim(0)  # what it has given back would hide as much
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what there is now
    stats = meta_grad(case, steps, buffer).stats
    print(peak(), stats.bytes_held, stats.bytes_on_disk)


def figures(steps: int, buffer: str | None) -> list[float]:
    """The same, of a child."""
    command = [sys.executable, "-m", "bench.long_runs", "--child", str(steps), buffer or ""]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [float(each) / MB for each in done.stdout.split()]


def line(steps: int, folder: str) -> tuple[str, float]:
    """A row of the table, and the peak with a folder."""
    with ThreadPoolExecutor() as beside:
        (without, held, _), (within, kept, disk) = beside.map(partial(figures, steps), (None, folder))
    print(steps, without, within, flush=True)
    return f"| {steps:,} | {without:.1f} | {held:.1f} | {within:.1f} | {kept:.1f} | {disk:.1f} |", within


def main() -> None:
    """Measure, and replace the page's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(int(options.child[0]), options.child[1] or None)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [line(steps, folder) for steps in STEPS]
    assert rows[-1][1] - rows[0][1] < 5 * MB
    head = [
        "| T | MB at the peak | of the run | at the peak with `buffer=` | of the run | in files |",
        "|---" * 6 + "|",
    ]
    made = f"Resident memory of the process, from /proc, on {machine('numba', 'numpy')}, {today()}."
    rewrite(PAGE, "bench.long_runs", "\n".join([*head, *(row for row, _ in rows)]) + f"\n\n{made}")


if __name__ == "__main__":
    main()
