"""Learn a schedule of learning rates and momentum decays (Maclaurin et al. 2015, section 3.1).

It is held against what it has to beat: not the rate that it began with, but the best constant rate and decay.  Both are
learned by `fastrev.tune` from the same start, by as many meta-steps of as many runs; all that differs is how many
numbers there are to learn, 2 or 2 T G.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastrev
from fastrev.experiments import judging, output, plots
from fastrev.experiments.datasets import Dataset


@dataclass(frozen=True)
class Settings:
    """What the command line sets."""

    sizes: tuple[int, ...]
    steps: int  # T
    meta_steps: int
    batch_size: int
    lr: float  # of every step and group, to begin with
    decay: float
    meta_lr: float
    runs: int  # a meta-step
    workers: int
    seed: int


def run(settings: Settings, data: Dataset, folder: Path) -> bool:
    """Learn, report, and leave ``schedule.png`` and ``schedule.npz`` in the folder.  Returns False after Ctrl-C."""
    model = fastrev.MLP(settings.sizes, activation="tanh")
    fixed: dict[str, Any] = {"train": data.train, "steps": settings.steps, "batch_size": settings.batch_size}
    judge: Callable[..., judging.Judgement] = partial(judging.judge, model, data, settings.seed, **fixed)

    print(judging.HEAD)
    judged = {"as started": judge("as started", lr=settings.lr, decay=settings.decay)}
    results = {}
    for name, shape in {"best constant": (), "learned schedule": (settings.steps, len(model.groups))}.items():
        result = results[name] = fastrev.tune(
            model, **fixed, valid=data.valid, lr=np.full(shape, settings.lr), decay=np.full(shape, settings.decay),
            learn=("lr", "decay"), meta_steps=settings.meta_steps, meta_lr=settings.meta_lr, runs=settings.runs,
            workers=settings.workers, seed=settings.seed,
        )  # fmt: skip
        output.save_arrays(folder, "schedule", _learned(model, settings, results))  # safe, whatever comes after
        note = "" if shape else f"lr {result.lr:.3g}, decay {result.decay:.3g}"
        judged[name] = judge(name, lr=result.lr, decay=result.decay, note=note if result.success else result.message)
        if not result.success:
            break

    arrays = _learned(model, settings, results) | {
        "rows": list(judged),
        "curve_steps": judged["as started"].steps,
        "curves": np.stack([each.curves for each in judged.values()]),  # (rows, seeds, S)
        "accuracies": np.stack([each.accuracies for each in judged.values()]),  # (rows, seeds)
    }
    start = {"lr": settings.lr, "decay": settings.decay}
    output.save(folder, "schedule", arrays, lambda: plots.schedule(list(model.groups), start, judged, results))
    return result.success


def _learned(model: fastrev.MLP, settings: Settings, results: Mapping[str, fastrev.TuneResult]) -> dict[str, Any]:
    """What there is to keep of both results."""
    arrays: dict[str, Any] = {
        "groups": list(model.groups), "sizes": model.sizes, "batch_size": settings.batch_size,
        "start_lr": settings.lr, "start_decay": settings.decay,
    }  # fmt: skip
    for name, result in results.items():
        prefix = "constant_" if name == "best constant" else ""
        arrays |= {f"{prefix}lr": result.lr, f"{prefix}decay": result.decay, f"{prefix}meta_curve": result.history.loss}
    return arrays
