"""Write tables and plots of docs/benchmarks.md: ``python -m bench.report``.

For the tables, of W1-W4 beside everybody, of the held-out shapes beside JAX, and of training alone, fastrev and its
peers take turns within one process, so that what else the machine does falls on all of them alike; the ratios of the
medians are what counts.  For the plots, every point is a process of its own.  ``--only`` makes one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench.pages import BENCHMARKS, ROOT, machine, rewrite, today
from bench.peers import PEERS, UnfitError, assert_same, contestant, tolerance
from bench.products_alone import at_peak, products_alone
from bench.workloads import HELD_OUT, PRECISIONS, SHAPES, Workload, workload

RULES = ("SGD", "Adam")
ROUNDS = 9
REST = 0.15  # seconds before a turn, for the threads of the last one's BLAS or OpenMP spin on for a while
SECONDS = 40.0  # after which a slow contestant has no further turn
COLUMNS = {"jax-stored": "JAX, stored", "jax-checkpointed": "JAX, checkpoints", "torch-unrolled": "PyTorch, unrolled",
           "original": "original algorithm", "products": "products alone", "peak": "products at peak"}  # fmt: skip
JAX = "jax-stored", "jax-checkpointed"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# Steps after which gradients are compared where all are too many: 2,000 of relu in float32 differ by 3e-3, as some
# rows are on the other side of the kink
FEWER = {"relu": 200}
# Squares, for the checkpoints; the stored trajectory of 1600 steps takes gigabytes
CURVES = {
    "fastrev": [25, 100, 400, 1600, 10_000],
    "jax-stored": [25, 100, 400, 1600],
    "jax-checkpointed": [25, 100, 400, 1600],
}


def medians(contestants: Mapping[str, Callable[[], object]], rounds: int, calls: int = 1) -> dict[str, float]:
    """Median seconds of a call of each over interleaved rounds, after one that is not counted.  A turn has so many."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(1 + rounds):
        for name, run in contestants.items():
            if calls * sum(times[name]) < SECONDS or len(times[name]) < 2:
                time.sleep(REST)
                start = time.perf_counter()
                for _ in range(calls):
                    run()
                times[name].append((time.perf_counter() - start) / calls)
    return {name: float(np.median(values[1:])) for name, values in times.items()}


# ---- tables --------------------------------------------------------------------------------------------------


def cells(found: Mapping[str, float], columns: Iterable[str], steps: int) -> list[str]:
    """The time a step of fastrev, and how many times as long the others take; a dash for who is not there."""
    own = found["fastrev"]
    ratios = [ratio(found[each] / own) if each in found else "-" for each in columns]
    microseconds = 1e6 * own / steps
    return [f"{microseconds:.{1 if microseconds < 100 else 0}f} us", *ratios]


def ratio(value: float) -> str:
    """With two digits, from 20 on as a whole number."""
    return f"{value:.{2 if value < 0.995 else 1 if value < 20 else 0}f}x"


def row(case: Workload, rounds: int) -> list[str]:
    """A workload beside everybody."""
    contestants: dict[str, Callable[[], object]] = {"fastrev": contestant("fastrev", case)}
    for peer in PEERS:
        try:
            solve = contestants[peer] = contestant(peer, case)
        except UnfitError as reason:
            print(f"{case.name} {case.dtype} {peer}: {reason}", file=sys.stderr)
        else:
            assert_same(case, *solve())
    contestants["products"] = products_alone(case)
    found = medians(contestants, rounds) | {"peak": at_peak(case, CORES)}
    return cells(found, COLUMNS, case.steps)


def beside_jax(case: Workload, rounds: int, calls: int = 1) -> dict[str, float]:
    """Median seconds of fastrev and of JAX both ways, which all compute the same, and those of products at peak."""
    contestants = {each: contestant(each, case) for each in ("fastrev", *JAX)}
    fewer = workload(case.name, case.dtype, FEWER[case.name]) if case.name in FEWER else None
    for peer in JAX:
        assert_same(fewer or case, *(contestant(peer, fewer) if fewer else contestants[peer])())
    return medians(contestants, rounds, calls) | {"peak": at_peak(case, CORES)}


def forward(case: Workload, rounds: int) -> dict[str, float]:
    """The same of training alone, beside jitted JAX that keeps nothing."""
    from bench.peers import jax_scan

    contestants = {"fastrev": case.forward, "jax": jax_scan.training(case)}
    w, own = contestants["jax"](), case.forward().w
    np.testing.assert_allclose(w, own, rtol=0, atol=tolerance(case) * np.abs(own).max())
    return medians(contestants, rounds)


def table(shapes: Sequence[str], rounds: int) -> Iterator[str]:
    """W1-W4 by both optimizers, beside everybody."""
    yield from head("", "fastrev, a step", *COLUMNS.values())
    for optimizer in RULES:
        for name in (each for each in SHAPES if each in shapes):
            for dtype in PRECISIONS:
                case = workload(name, PRECISIONS[dtype], optimizer=optimizer)
                yield line(f"{case.name} {dtype}", *row(case, rounds))


def held_out(shapes: Sequence[str], rounds: int) -> Iterator[str]:
    """The held-out shapes, beside JAX."""
    beside = *JAX, "peak"
    columns = [COLUMNS[each] for each in beside]
    yield from head("", "network, batch, steps", "float64, a step", *columns, "float32, a step", *columns)
    for name in (each for each in HELD_OUT if each in shapes):
        yield line(name, str(HELD_OUT[name]), *both(name, beside_jax, beside, rounds))


def forward_only(shapes: Sequence[str], rounds: int) -> Iterator[str]:
    """All shapes without their way back."""
    yield from head("", "float64, a step", "JAX", "float32, a step", "JAX")
    for name in (each for each in SHAPES | HELD_OUT if each in shapes):
        yield line(name, *both(name, forward, ("jax",), rounds))


def both(
    name: str, measure: Callable[[Workload, int], dict[str, float]], columns: Iterable[str], rounds: int
) -> list[str]:
    """The cells of a workload in float64, then in float32."""
    cases = (workload(name, precision) for precision in PRECISIONS.values())
    return [cell for case in cases for cell in cells(measure(case, rounds), columns, case.steps)]


def head(*columns: str) -> tuple[str, str]:
    """The first lines of a table."""
    return line(*columns), "|---" * len(columns) + "|"


def line(*cells: str) -> str:
    """One of a table."""
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


TABLES: dict[str, tuple[Callable[[Sequence[str], int], Iterator[str]], tuple[str, ...]]] = {  # and their packages
    "table": (table, ("numba", "numpy", "jax", "torch", "autograd")),
    "held-out": (held_out, ("numba", "numpy", "jax")),
    "forward": (forward_only, ("numba", "numpy", "jax")),
}


# ---- plots ---------------------------------------------------------------------------------------------------


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
    """Measure, and replace the page's tables and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*TABLES, "plots"], help="leave the rest as it is")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of each that count (default: {ROUNDS})")
    parser.add_argument(
        "--shapes", nargs="+", choices=[*SHAPES, *HELD_OUT], metavar="NAME",
        help=f"print the tables of these, and leave pages and plots as they are: {', '.join([*SHAPES, *HELD_OUT])}",
    )  # fmt: skip
    args = parser.parse_args()
    for part, (rows, packages) in TABLES.items():
        if args.only in (None, part):
            lines = []
            for each in rows(args.shapes or [*SHAPES, *HELD_OUT], args.rounds):
                print(each, flush=True)
                lines.append(each)
            there = [each for each in packages if find_spec(each)]
            made = f"Medians of {args.rounds} interleaved runs on {machine(*there)}, {today()}."
            if not args.shapes:
                rewrite(BENCHMARKS, f"bench.report --only {part}", "\n".join([*lines, "", made]))
    if args.only in (None, "plots") and not args.shapes:
        plot(ROOT / "bench" / "plots")


if __name__ == "__main__":
    main()
