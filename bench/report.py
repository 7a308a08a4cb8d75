"""Write the table and the plots of docs/benchmarks.md: ``python -m bench.report``.

For the table, fastrev and its peers take turns within one process, so that what else the machine does falls on all of
them alike; the ratios of the medians are what counts.  For the plots, every point is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench.pages import BENCHMARKS, ROOT, machine, rewrite, today
from bench.peers import PEERS, UnfitError, contestant
from bench.products_alone import products_alone
from bench.workloads import PRECISIONS, SHAPES, workload

RULES = ("SGD", "Adam")
ROUNDS = 9
REST = 0.15  # seconds before a turn, for the threads of the last one's BLAS or OpenMP spin on for a while
SECONDS = 40.0  # after which a slow contestant has no further turn
COLUMNS = {"jax-stored": "JAX, stored", "jax-checkpointed": "JAX, checkpoints", "torch-unrolled": "PyTorch, unrolled",
           "original": "original algorithm", "products": "products alone"}  # fmt: skip
# Squares, for the checkpoints; the stored trajectory of 1600 steps takes gigabytes
CURVES = {
    "fastrev": [25, 100, 400, 1600, 10_000],
    "jax-stored": [25, 100, 400, 1600],
    "jax-checkpointed": [25, 100, 400, 1600],
}


def medians(contestants: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each over interleaved rounds, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(1 + ROUNDS):
        for name, run in contestants.items():
            if sum(times[name]) < SECONDS or len(times[name]) < 2:
                time.sleep(REST)
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def row(name: str, dtype: str, optimizer: str) -> str:
    """A line of the table: fastrev's time a step, and how many times as long the others take."""
    case = workload(name, PRECISIONS[dtype], optimizer=optimizer)
    contestants: dict[str, Callable[[], object]] = {"fastrev": contestant("fastrev", case)}
    for peer in PEERS:
        try:
            contestants[peer] = contestant(peer, case)
        except UnfitError as reason:
            print(f"{case.name} {dtype} {peer}: {reason}", file=sys.stderr)
    contestants["products"] = products_alone(case)
    found = medians(contestants)
    own = found["fastrev"]
    ratios = [
        f"{found[each] / own:.{1 if found[each] < 20 * own else 0}f}x" if each in found else "-" for each in COLUMNS
    ]
    microseconds = 1e6 * own / case.steps
    return f"| {case.name} {dtype} | {microseconds:.{1 if microseconds < 100 else 0}f} us | {' | '.join(ratios)} |"


def table() -> str:
    """The table in Markdown, with what it was measured on."""
    lines = [f"| | fastrev, a step | {' | '.join(COLUMNS.values())} |", "|---" * (2 + len(COLUMNS)) + "|"]
    lines += [row(name, dtype, optimizer) for optimizer in RULES for name in SHAPES for dtype in PRECISIONS]
    packages = [each for each in ("numba", "numpy", "jax", "torch", "autograd") if find_spec(each)]
    return "\n".join([*lines, "", f"Medians of {ROUNDS} interleaved runs on {machine(*packages)}, {today()}."])


def alone(name: str, dtype: str, peer: str, steps: int, repeat: int) -> dict[str, float]:
    """What `bench.one` measures.

    A shell stands between, for a process begins with the peak of the one that started it (178 MB are 789 MB from one
    that holds 800).
    """
    command = [sys.executable, "-m", "bench.one", name, dtype, peer, str(steps), "--repeat", str(repeat)]
    shell = ["sh", "-c", '"$@"; exit $?', "sh", *command]
    done = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def measure(peer: str, steps: int) -> dict[str, float]:
    """Time and peak memory of one W1 meta-gradient in a fresh process."""
    return alone("W1", "float64", peer, steps, repeat=3 if steps <= 400 else 1)


def curves() -> Iterator[tuple[str, list[int], list[dict[str, float]]]]:
    """Of every contestant: numbers of steps, and what they took."""
    for peer, steps in CURVES.items():
        if peer == "fastrev" or find_spec(PEERS[peer][0]):
            yield peer, steps, [measure(peer, each) for each in steps]


def plot(folder: Path) -> None:
    """Time and peak memory against T, as PNG and SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (time_axes, memory_axes) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for peer, steps, found in curves():
        label = COLUMNS.get(peer, peer)
        style: dict[str, Any] = {"marker": "o", "label": label, "linewidth": 2.5 if peer == "fastrev" else 1.5}
        time_axes.loglog(steps, [each["seconds"] for each in found], **style)
        memory_axes.loglog(steps, [each["peak_mb"] for each in found], **style)
    for axes, title in ((time_axes, "seconds"), (memory_axes, "peak memory of the process, MB")):
        axes.set(xlabel="steps of training, T", title=title)
        axes.grid(alpha=0.3)
    time_axes.legend(frameon=False)
    folder.mkdir(exist_ok=True)
    for suffix in ("png", "svg"):
        figure.savefig(
            folder / f"against_steps.{suffix}", dpi=150, metadata={"Date": None} if suffix == "svg" else None
        )


def main() -> None:
    """Measure, and replace the page's table and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["table", "plots"], help="leave the rest as it is")
    only = parser.parse_args().only
    if only != "plots":
        rewrite(BENCHMARKS, "bench.report", table())
    if only != "table":
        plot(ROOT / "bench" / "plots")


if __name__ == "__main__":
    main()
