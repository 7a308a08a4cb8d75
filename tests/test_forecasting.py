"""A forecast is what the run then says of itself: to the byte in memory and on disk; time is another matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrev
from fastrev import forecasting
from fastrev._files import shelf
from tests.cases import digits_like
from tests.test_shelf import OPTIMIZERS, quadratic

workloads = pytest.importorskip("bench.workloads", reason="the benchmarks are not installed")


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Two may part where the cores are taken, and then have other records."""
    with fastrev.threads(per_run=1):
        yield


@pytest.mark.parametrize("optimizer", workloads.OPTIMIZERS)
@pytest.mark.parametrize("name", workloads.SHAPES)
def test_workloads_take_what_was_forecast(name: str, optimizer: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(shelf, "WORDS", 256)
    steps = {"W1": 12, "W4": 130}.get(name, 150)
    case = workloads.workload(name, steps=steps, optimizer=optimizer)
    l2 = 0.0 if case.l2 is None else case.l2
    found = fastrev.forecast(
        case.model, steps, batch_size=None if case.batches is None else case.batches.shape[1],
        examples=len(case.train[0]), optimizer=case.optimizer, l2=l2, wrt=case.wrt, buffer=tmp_path, timed=False,
    )  # fmt: skip
    stats = fastrev.meta_grad(
        case.model, case.w0, train=case.train, valid=case.valid, optimizer=case.optimizer, l2=l2, wrt=case.wrt,
        batch_size=None if case.batches is None else case.batches.shape[1], buffer=tmp_path,
    ).stats  # fmt: skip
    assert found.bytes_held == stats.bytes_held
    assert found.bytes_on_disk == pytest.approx(stats.bytes_on_disk, abs=2 * (56 + 512), rel=1e-3)
    assert found.stored_bits == pytest.approx(stats.stored_bits, rel=1e-3)
    assert found.bits_per_parameter_step == pytest.approx(stats.bits_per_parameter_step, rel=1e-3)
    assert (found.steps, found.num_params, found.seconds) == (steps, case.w0.size, None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("decay", [0.3, 0.5, 0.9, 0.99, 1.0, "per step and group"])
@pytest.mark.parametrize("steps", [1, 10, 57, 58, 100, 1000])
def test_memory_with_no_folder(steps: int, decay: Any) -> None:
    """Around the first words, too: at decay 0.9 heads are full after 57 steps."""
    if isinstance(decay, str):
        decay = np.random.default_rng(0).uniform(0.5, 1, (steps, 4))
    case = digits_like(steps=steps, decay=decay)
    stats = case.meta_grad(wrt=None).stats
    found = fastrev.forecast(case.model, steps, decay, 8, examples=40, timed=False)
    assert found.bytes_held == pytest.approx(stats.bytes_held, rel=0.01)
    assert found.stored_bits == pytest.approx(stats.stored_bits, rel=1e-3, abs=1e-6)
    assert found.bytes_on_disk == stats.bytes_on_disk == 0


@pytest.mark.parametrize("losses", [1, 5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_objectives_and_many_losses(losses: int, optimizer: str) -> None:
    run = fastrev.train(quadratic(), np.ones(40), optimizer=OPTIMIZERS[optimizer], steps=300)
    run.pullback(np.zeros((losses, 40)))
    found = fastrev.forecast(quadratic(), 300, optimizer=OPTIMIZERS[optimizer], losses=losses)
    assert found.bytes_held == pytest.approx(run.stats.bytes_held, rel=0.01)
    assert found.stored_bits == pytest.approx(run.stats.stored_bits, rel=1e-3)
    assert found.seconds is not None
    case = digits_like(steps=300, lr=None, decay=None, optimizer=OPTIMIZERS[optimizer])
    valid = [case.arguments["valid"]] * losses
    stats = case.meta_grad(valid=valid, wrt=("lr", "x")).stats
    how: dict[str, Any] = {"optimizer": OPTIMIZERS[optimizer], "losses": losses, "wrt": ("lr", "x")}
    found = fastrev.forecast(case.model, 300, batch_size=8, examples=40, timed=False, **how)
    assert (losses == 1) or found.bytes_held == pytest.approx(stats.bytes_held, rel=0.01)


def test_time_is_that_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """3 s for a call and 0.02 for a step, by a clock that only they move."""
    made: list[int] = []

    def meta_grad(model: Any, *, steps: int, optimizer: Any, **_: Any) -> None:
        assert len(optimizer.lr) == steps
        assert np.all(optimizer.lr < 1e-5)
        made.append(steps)

    clock = iter(range(10**6))
    monkeypatch.setattr(forecasting, "meta_grad", meta_grad)
    monkeypatch.setattr(forecasting.time, "perf_counter", lambda: next(clock) and 0.3 * len(made) + 0.02 * sum(made))
    model = fastrev.MLP((2, 2))
    for steps in 3, 50, 1000:
        made.clear()
        found = fastrev.forecast(model, steps, 0.9, 4, lr=np.ones(steps))
        assert found.seconds == pytest.approx(0.3 + 0.02 * steps)
        assert max(made) <= 64


def test_it_prints_well() -> None:
    found = fastrev.Forecast(1000, 1234, 12_345_678, 999, 8e9, 0.152, 7260.0)
    assert str(found).splitlines() == [
        "1,000 steps of 1,234 parameters",
        "memory       12.3 MB",
        "disk         999 bytes",
        "information  1 GB, 0.152 bits per parameter and step",
        "time         2.02 h",
    ]
    assert "time" not in str(fastrev.Forecast(1, 1, 1, 0, 0.0, 0.0, None))
    assert str(fastrev.Forecast(1, 1, 1, 0, 0.0, 0.0, 3e-8)).endswith("0.03 us")
    assert str(fastrev.Forecast(1, 1, 1, 0, 0.0, 0.0, 200.0)).endswith("3.33 min")


def test_arguments_are_checked() -> None:
    model = fastrev.MLP((2, 2))
    for change, said in [
        ({"batch_size": None}, "Argument 'examples' must be given where batch_size is not"),
        ({"losses": 0}, "Argument 'losses' must be at least 1"),
        ({"timed": 1}, "Argument 'timed' must be True or False"),
        ({"wrt": ("theta",)}, "Argument 'wrt' must hold names among"),
        ({"wrt": np.array(3)}, "Argument 'wrt' must be a sequence of names, not array"),
        *(({name: 0}, f"Argument '{name}' must be at least 1") for name in ("examples", "valid", "batch_size")),
        ({"valid": "3", "timed": False}, "Argument 'valid' must be a whole number, not '3'"),
        ({"decay": None}, "Argument 'decay' must"),
        ({"examples": 3}, "Argument 'batch_size' must be at most 3"),
        ({"buffer": 3}, "Argument 'buffer' must be the path of a folder"),
    ]:
        with pytest.raises(fastrev.ArgumentError, match=said):
            fastrev.forecast(model, **{"steps": 10, "decay": 0.9, "batch_size": 4} | change)
    with pytest.raises(fastrev.ArgumentError, match="Argument 'examples' must be left out where the model has its own"):
        fastrev.forecast(quadratic(), 10, 0.9, examples=3)
    with pytest.raises(fastrev.ArgumentError, match="Argument 'valid' must be left out where the model has its own"):
        fastrev.forecast(quadratic(), 10, 0.9, valid=3)
    with pytest.raises(fastrev.ArgumentError, match=r"Argument 'model' must be a fastrev.MLP, or .* not a str"):
        fastrev.forecast("MLP", 10, 0.9)
    with pytest.raises(fastrev.ArgumentError, match="Argument 'batch_size' must be left out where the model is"):
        fastrev.forecast(quadratic(), 10, 0.9, 3)
