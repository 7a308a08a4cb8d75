"""The same bits wherever it runs: ``python -m bench.environments``.

Meta-gradients by every rule, with one loss and with many, of a network and of plain functions, in processes of other
environments: cores, Numba's threads, a processor without AVX-512 and without fused multiply-adds, Python's options;
two runs at once in two threads; a fork of a process that was warm.  Each goes on from the files of runs in tests/data,
which it would refuse where it computed other bits, and prints digests of every bit, or an error that says what to do.
Writes docs/guarantees.md.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

import fastrev
from bench.interrupts import Sines
from bench.pages import GUARANTEES, ROOT, machine, rewrite, today
from tests import test_handover
from tests.cases import digits_like
from tests.test_golden import gone_on

MINUTES = 20
SAME, OTHER = "same bits", "OTHER BITS"


class Environment(NamedTuple):
    """How a process is started, and what it does."""

    variables: Mapping[str, str] = {}
    options: tuple[str, ...] = ()
    cores: int | None = None
    way: str = "once"  # or "threads", "fork"
    refused: str = ""  # of the error that is expected instead
    own_cache: bool = False


ENVIRONMENTS = {
    "all cores": Environment(),
    "one core": Environment(cores=1),
    "two cores": Environment(cores=2),
    "NUMBA_NUM_THREADS=1": Environment({"NUMBA_NUM_THREADS": "1"}),
    "OMP and BLAS with one thread": Environment({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}),
    "python -O": Environment(options=("-O",)),
    "python -OO, -X dev": Environment(options=("-OO", "-X", "dev")),
    "another hash seed": Environment({"PYTHONHASHSEED": "7"}),
    "two runs at once in two threads": Environment(way="threads"),
    "a fork after warm-up": Environment(way="fork"),
    "an empty cache": Environment(own_cache=True),
    "NUMBA_DISABLE_JIT=1": Environment({"NUMBA_DISABLE_JIT": "1"}, refused="Unset that variable"),
    "NUMBA_CPU_NAME=generic, no features": Environment(
        {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, own_cache=True
    ),
    "x86-64-v3, no AVX-512": Environment({"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": ""}, own_cache=True),
}  # fmt: skip


def digest() -> str:
    """Of every bit of some meta-gradients."""
    found = hashlib.sha256(test_handover.digest().encode())
    case = digits_like()
    adam = {"lr": None, "decay": None, "optimizer": fastrev.Adam(0.01, weight_decay=0.1)}
    run = case.train(**adam)
    parts = [run.w, run.pullback(np.eye(5, run.w.size)).w0]
    result = fastrev.meta_grad(Sines(), np.ones(30), valid=lambda w: (w @ w, 2 * w), lr=0.1, decay=0.9, steps=20)
    for array in (*parts, result.w, result.grad.w0, np.asarray(result.grad.lr)):
        found.update(array.tobytes())
    return found.hexdigest()


def digests(way: str) -> set[str]:
    """One, or those of two that are made at once, or of a process and of what it forks."""
    if way == "once":
        return {digest()}
    found = [digest()]
    if way == "threads":
        threads = [threading.Thread(target=lambda: found.append(digest())) for _ in range(2)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return set(found) if len(found) == 3 else set()
    reader, writer = os.pipe()
    if not os.fork():
        os.write(writer, digest().encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        return {*found, pipe.read()}


def expected() -> str:
    """What all are to print."""
    return f"{gone_on()} {digest()}"


def run(environment: Environment) -> str:
    """What a process of its own prints, or its error's last line."""
    script = "import os, sys\n"
    if environment.cores is not None:
        script += f"os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: {environment.cores}])\n"
    script += f"from bench.environments import digests, gone_on\nprint(gone_on(), *digests({environment.way!r}))"
    path = os.pathsep.join([str(ROOT), *map(str, sys.path)])
    with tempfile.TemporaryDirectory() as folder:
        variables = os.environ | {"PYTHONPATH": path} | environment.variables
        variables |= {"NUMBA_CACHE_DIR": folder} if environment.own_cache else {}
        command = [sys.executable, *environment.options, "-c", script]
        done = subprocess.run(
            command, env=variables, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60 * MINUTES
        )
    return done.stdout.strip() if not done.returncode else done.stderr.strip().splitlines()[-1]


def verdict(environment: Environment, same: str) -> str:
    """Whether it is as it should be."""
    found = run(environment)
    if environment.refused:
        return "a clear error" if environment.refused in found else f"NO CLEAR ERROR: {found}"
    return SAME if found == same else f"{OTHER}: {found}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=ENVIRONMENTS, nargs="+")
    parser.add_argument("--write", action="store_true", help="put the table on the page")
    given = parser.parse_args(arguments)
    same, lines = expected(), ["| environment | meta-gradients |", "|---|---|"]
    for name in given.only or ENVIRONMENTS:
        lines.append(f"| {name} | {verdict(ENVIRONMENTS[name], same)} |")
        print(lines[-1], flush=True)
    if given.write:
        rewrite(
            GUARANTEES,
            "bench.environments",
            "\n".join([*lines, "", f"Seen on {machine('numba', 'numpy')}, {today()}."]),
        )
    if any(OTHER in line or "NO CLEAR" in line for line in lines):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
