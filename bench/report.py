"""Write the README's benchmark table: ``python -m bench.report``.

fastrev and its peers take turns within one process, so that what else the machine does falls on all of them alike; the
ratios of the medians are what counts.
"""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bench.jax_peer import meta_gradient
from bench.workloads import SHAPES, Workload, workload

ROUNDS = 11
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- made by python -m bench.report -->", "<!-- end -->"


def medians(contestants: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, after two rounds that are not counted."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(2 + ROUNDS):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values[2:])) for name, values in times.items()}


def contestants(case: Workload) -> dict[str, Callable[[], object]]:
    """Fastrev, and JAX by both strategies where the number of steps is a square."""
    found: dict[str, Callable[[], object]] = {"fastrev": case.run, "stored": meta_gradient(case, "stored")}
    if round(len(case.batches) ** 0.5) ** 2 == len(case.batches):
        found["checkpointed"] = meta_gradient(case, "checkpointed")
    return found


def table() -> str:
    """The table in Markdown, with what it was measured on."""
    lines = [
        "| network, batch, steps | precision | fastrev | JAX, stored | JAX, checkpointed |",
        "|---|---|---|---|---|",
    ]
    for name, (sizes, batch, steps, _) in SHAPES.items():
        for dtype in (np.float64, np.float32):
            found = medians(contestants(workload(name, dtype)))
            ours = found["fastrev"]
            peers = [
                f"{found[peer] / ours:.1f}x" if peer in found else "needs a square T"
                for peer in ("stored", "checkpointed")
            ]
            network = "-".join(map(str, sizes))
            row = [f"{network}, {batch}, {steps}", np.dtype(dtype).name, f"{1e6 * ours / steps:.0f} us a step", *peers]
            lines.append(f"| {' | '.join(row)} |")
    packages = ", ".join(f"{name} {version(name)}" for name in ("numba", "numpy", "jax"))
    lines += [
        "",
        "Time of a whole meta-gradient by w0, v0, lr (T, G) and decay (T, G), and how many times as long jitted JAX "
        f"takes for the same. Medians of {ROUNDS} interleaved runs on {processor()}, {packages}, Python "
        f"{platform.python_version()}, {datetime.date.today():%Y-%m-%d}.",
    ]
    return "\n".join(lines)


def processor() -> str:
    """The processor, as the system calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}" if names else platform.processor()


def main() -> None:
    """Measure, and replace the README's table."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    README.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
