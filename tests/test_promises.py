"""The scripts behind the figures of docs/guarantees.md, on few seeded inputs of each kind."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc

import pytest

pytest.importorskip("bench.pages", reason="not a checkout")

from bench import environments, flips, fuzz, soak
from bench.pages import ROOT


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("name", fuzz.READERS)
def test_a_seeded_corpus_of_spoilt_files(name, traced):
    counts = fuzz.fuzz(name, 100, seed=2)
    assert counts.total() == 100
    assert counts[fuzz.REFUSED] > 50


def test_bits_that_flip_are_found_by_every_rule():
    found = list(flips.flips(150, seed=3))
    assert {name for name, *_ in found} == set(flips.problems())
    assert all(what != flips.SILENT for *_, what in found)


WARM = """
from bench import interrupts
for name in ("train, Adam", "pullback, 12 losses", "Objective"):
    assert interrupts.interrupted(name, 2, seed=4)["came"] >= 2
"""


@pytest.mark.skipif(not hasattr(os, "fork") or not hasattr(os, "sched_getaffinity"), reason="needs Linux")
def test_interruptions_of_a_warm_child():
    """Forked by a process of its own: in this one, other tests may have loaded what no fork survives."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *map(str, sys.path)])}
    command = [sys.executable, "-W", "error", "-c", WARM]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["python -O", "NUMBA_DISABLE_JIT=1"])
def test_an_environment_changes_no_bit(name):
    found = environments.verdict(environments.ENVIRONMENTS[name], environments.expected())
    assert found in (environments.SAME, "a clear error")


def test_a_short_soak_accounts_for_every_bit():
    (line,) = soak.long_run(5000)
    assert "0.00 bits are neither" in line
