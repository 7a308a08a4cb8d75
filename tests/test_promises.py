"""The scripts behind the figures of docs/guarantees.md, on few seeded inputs of each kind."""

from __future__ import annotations

import os
import tracemalloc

import pytest

pytest.importorskip("bench.pages", reason="not a checkout")

from bench import environments, flips, fuzz, interrupts, soak


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


@pytest.mark.skipif(not hasattr(os, "fork") or not hasattr(os, "sched_getaffinity"), reason="needs Linux")
@pytest.mark.parametrize("name", ["train, Adam", "pullback, 12 losses", "Objective"])
def test_interruptions_of_a_warm_child(name):
    assert interrupts.interrupted(name, 2, seed=4)["came"] >= 2


@pytest.mark.parametrize("name", ["python -O", "NUMBA_DISABLE_JIT=1"])
def test_an_environment_changes_no_bit(name):
    found = environments.verdict(environments.ENVIRONMENTS[name], environments.digest())
    assert found in (environments.SAME, "a clear error")


def test_a_short_soak_accounts_for_every_bit():
    (line,) = soak.long_run(5000)
    assert "0.00 bits are neither" in line
