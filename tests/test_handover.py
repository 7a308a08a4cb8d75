"""Two threads on one record: what is waited for, who gives up, and that the bits depend on none of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fastrev
from fastrev._engine import workspace
from fastrev.kernels import handover, products, vectors
from tests.cases import WRT, digits_like, random_case
from tests.test_golden import gone_on

ROOT = Path(__file__).parent.parent
SCRIPT = """
import hashlib, os, sys
if hasattr(os, "sched_setaffinity") and sys.argv[1] != "all":
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
from tests.test_handover import digest
print(digest())
"""


def digest() -> str:
    """Of every bit of some meta-gradients."""
    found = hashlib.sha256()
    for case in (random_case(3), random_case(10, dtype=np.float32), random_case(7, examples=700, batch=600)):
        result = case.meta_grad()
        for array in (result.w, result.v, *(np.asarray(getattr(result.grad, name)) for name in WRT)):
            found.update(array.tobytes())
    return found.hexdigest()


@pytest.mark.parametrize(("cores", "threads"), [("1", "1"), ("1", "2"), ("2", "1"), ("all", "2")])
def test_bits_do_not_depend_on_cores_or_threads_of_blas(cores, threads):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OPENBLAS_NUM_THREADS": threads,
        "OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", SCRIPT, cores]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest()


@pytest.mark.parametrize("slots", [2, 3, 5, 16])
@pytest.mark.parametrize("batch", [None, 5, 256, 257, 1000])
def test_bits_do_not_depend_on_the_size_of_the_ring(monkeypatch, slots, batch):
    """Also where a step has more blocks of examples than the ring has slots."""
    case = random_case(6, examples=1100, batch=batch)
    one = case.meta_grad()
    monkeypatch.setattr(workspace, "_RING_STEPS", (slots, slots))
    other = case.meta_grad()
    assert other.stats.exact
    for name in WRT:
        assert np.array_equal(getattr(one.grad, name), getattr(other.grad, name))


def test_many_runs_at_once():
    case = digits_like(steps=200)
    alone = case.meta_grad()
    results: list[fastrev.MetaGradient] = []
    threads = [threading.Thread(target=lambda: results.append(case.meta_grad())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    for result in results:
        assert result.stats.exact
        assert np.array_equal(result.grad.w0, alone.grad.w0)
        assert np.array_equal(result.grad.lr, alone.grad.lr)


def test_wait_returns_when_the_count_is_reached():
    progress = np.zeros(handover.PROGRESS, np.int64)
    assert handover.wait(progress, handover.STEPS_READ, 0)
    assert handover.wait(progress, handover.STEPS_READ, -3)
    waited = []
    thread = threading.Thread(target=lambda: waited.append(handover.wait(progress, handover.STEPS_READ, 2)))
    thread.start()
    handover.announce(progress, handover.STEPS_READ, 1)
    time.sleep(0.05)
    assert not waited
    handover.announce(progress, handover.STEPS_READ, 2)
    thread.join()
    assert waited == [True]


def test_wait_gives_up_only_for_what_will_not_come():
    progress = np.zeros(handover.PROGRESS, np.int64)
    handover.announce(progress, handover.STEPS_READ, 5)
    handover.announce(progress, handover.ABANDONED, 1)
    assert handover.wait(progress, handover.STEPS_READ, 5)
    assert not handover.wait(progress, handover.STEPS_READ, 6)


def test_counts_have_cache_lines_of_their_own():
    counts = sorted([
        handover.BLOCKS_WRITTEN, handover.STEPS_WRITTEN, handover.BLOCKS_READ, handover.STEPS_READ, handover.ABANDONED,
    ])  # fmt: skip
    assert min(np.diff(counts)) * 8 >= 128
    assert counts[-1] < handover.PROGRESS


OTHER_VECTORS = """
import llvmlite.binding as llvm
import numba
numba.njit(lambda: 0)                  # Numba has asked for itself by now
true = llvm.get_host_cpu_features
llvm.get_host_cpu_features = lambda: true() | {"avx512f": not true().get("avx512f")}
from fastrev.kernels import products, vectors
llvm.get_host_cpu_features = true      # LLVM itself emits what this processor has
from tests.test_golden import gone_on
from tests.test_handover import digest
print(digest(), vectors.VECTOR, products.ROWS, gone_on(["sgd-back", "float32-there"]))
"""


def test_bits_do_not_depend_on_the_width_of_vectors(tmp_path):
    """AVX-512 is chosen at import, with tiles of another shape: the other choice is run in a process of its own."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *map(str, sys.path)]), "NUMBA_CACHE_DIR": str(tmp_path)
    }  # fmt: skip
    command = [sys.executable, "-c", OTHER_VECTORS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    other, vector, rows, gone_on_there = done.stdout.split()
    assert {(int(vector), int(rows)), (vectors.VECTOR, products.ROWS)} == {(32, 4), (64, 8)}
    assert other == digest()
    assert gone_on_there == gone_on(["sgd-back", "float32-there"])  # from files of the others
