"""The scripts of the benchmarks beyond what they measure: tables, pictures and peers on small problems."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bench.pages", reason="not a checkout")
pytest.importorskip("jax", reason="the extra jax is not installed")
import jax

from bench import kernels, pages, products_alone, report, scaling, throughput
from bench.peers import assert_same
from bench.workloads import HELD_OUT, SHAPES, workload

jax.config.update("jax_enable_x64", False)  # which the peers switch on for themselves

ROOT = Path(__file__).parents[1]
SCRIPTS = "report", "throughput", "scaling"


@pytest.fixture(autouse=True)
def in_double_precision():
    """As the peers have it, and nobody else."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def short(monkeypatch):
    """Workloads of a few steps, and turns without rests."""
    few = lambda name, dtype=np.float64, steps=None, optimizer="SGD": workload(name, dtype, steps or 5, optimizer)
    monkeypatch.setattr(report, "REST", 0)
    monkeypatch.setattr(report, "workload", few)
    monkeypatch.setattr(throughput, "workload", few)


def columns(lines):
    return {each.count("|") for each in lines}


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_say_what_they_do(script):
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{script}", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"python -m bench.{script}" in done.stdout


@pytest.mark.parametrize(
    "maker", [*(f"bench.report --only {part}" for part in report.TABLES), "bench.throughput", "bench.scaling"]
)
def test_the_page_has_room_for_each(maker, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(pages.BENCHMARKS.read_text(encoding="utf-8"), encoding="utf-8")
    pages.rewrite(page, maker, "what was found")
    assert page.read_text(encoding="utf-8").count("\nwhat was found\n") == 1


def test_cells_are_times_and_ratios():
    assert report.cells({"fastrev": 1e-3, "a": 2.5e-3, "b": 0.04}, ["a", "b", "c"], 10) == [
        "100 us",
        "2.5x",
        "40x",
        "-",
    ]
    assert report.cells({"fastrev": 1e-4, "a": 9.7e-5, "b": 9.96e-5}, ["a", "b"], 10) == ["10.0 us", "0.97x", "1.0x"]


def test_products_at_peak_are_all_those_of_the_steps_and_of_validation():
    case = workload("W3", steps=3)  # 10-16-2, 32 of 500
    gradient = 2 * 32 * (10 * 16) + 3 * 32 * (16 * 2)
    hvp = 2 * 32 * (10 * 16) + 6 * 32 * (16 * 2)
    validation = len(case.valid[0]) * (2 * 10 * 16 + 3 * 16 * 2)
    seconds = (3 * (2 * gradient + hvp) + validation) / (2 * products_alone.peak(case.dtype))
    assert products_alone.at_peak(case, 2) == pytest.approx(seconds)


def test_every_kernel_of_a_step_can_be_called():
    for call in kernels.calls("W3"):
        call.kernel(*call.arguments)
        assert call.operations + call.bytes > 0, call.name


@pytest.mark.parametrize(("part", "name"), [("held-out", "tinier"), ("forward", "W3")])
def test_a_table_has_rows_of_one_length(part, name, short):
    rows_of, _ = report.TABLES[part]
    lines = list(rows_of([name], 1))
    assert len(lines) == 3
    assert len(columns(lines)) == 1
    assert all(" us |" in each and "x |" in each for each in lines[2:])


def test_who_computes_something_else_is_not_timed(short, monkeypatch):
    own = report.contestant
    monkeypatch.setattr(
        report, "contestant",
        lambda name, case: own(name, case) if name == "fastrev" else lambda: (0.0, own("fastrev", case)()[1]),
    )  # fmt: skip
    with pytest.raises(AssertionError):
        list(report.held_out(["tinier"], 1))


def test_runs_of_jax_at_once_are_those_of_fastrev(short):
    from bench.peers import jax_scan

    cases = throughput.independent("W3", "float64", count=3)
    assert len({case.w0.tobytes() for case in cases}) == 3
    losses, gradients = jax_scan.meta_gradients(cases, at_once=True)()
    alone = jax_scan.meta_gradients(cases, at_once=False)()
    for number, case in enumerate(cases):
        assert_same(case, losses[number], {name: values[number] for name, values in gradients.items()})
        assert_same(case, *alone[number])


def test_throughput_has_a_row(short, monkeypatch):
    monkeypatch.setattr(throughput, "RUNS", 2)
    monkeypatch.setattr(throughput.independent, "__defaults__", (2,))
    row = throughput.row("W3", "float64", 1)
    assert row.startswith("| W3, float64 | ")
    assert row.count("x |") == len(throughput.COLUMNS)


def test_all_sizes_have_shapes():
    for name, of in scaling.GROWTHS.items():
        assert set(of.few) <= of.shapes.keys(), name
    for size, shape in scaling.GROWTHS["P"].shapes.items():
        d, _, k = shape.sizes
        assert size == d * d + d + d * k + k
    assert all(size in scaling.GROWTHS[name].shapes for name, *sizes in scaling.RATIOS.values() for size in sizes)
    assert not SHAPES.keys() & HELD_OUT.keys()


def test_growth_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    curves = {
        name: {
            dtype: [{"size": size, "fastrev": 1e-6 * size, "jax": 2e-6 * size} for size in of.shapes]
            for dtype in ("float64", "float32")
        }
        for name, of in scaling.GROWTHS.items()
    }
    scaling.plot(curves, tmp_path)
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "scaling.svg").read_text(encoding="utf-8")
    lines = scaling.table(curves)
    assert len(columns(lines)) == 1
    assert lines[2].endswith("| 1.00x | 1.00x | 1.00x | 1.00x |")
