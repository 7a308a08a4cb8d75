"""Networks trained by what was learned, from seeds that nothing was learned with.

The loss of a row may be on examples that were learned on; only the accuracy is on examples that nothing has seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import fastrev
from fastrev._engine.extras import require
from fastrev._engine.types import FloatArray
from fastrev.experiments._shared.datasets import Dataset
from fastrev.experiments._shared.output import Kept

SEEDS = 10  # trainings a row
_POINTS = 26  # of a curve
_WIDTH = 24


def seeds(*entropy: int) -> list[int]:
    """Seeds of the judging trainings, which depend on those of the experiment and are none of them."""
    found: list[int] = np.random.SeedSequence(entropy, spawn_key=(1,)).generate_state(SEEDS).tolist()
    return found


class Judge:
    """Trains in several ways, prints a row of a table for each, and keeps them all.

    What is kept: ``rows`` (R,), their names; ``curves`` (R, seeds, S), losses after each of ``curve_steps`` (S,),
    infinite where the training diverged; ``accuracies`` (R, seeds) on the test examples, NaN where it did; of each row
    what its result has learned (see `Kept.result`).

    Parameters
    ----------
    model : MLP
    data : Dataset
    seed : int
        Of the experiment.
    keep : Kept
    judged_on : str
        "training", "validation" or "test": which examples of `data` the loss is measured on.
    **training
        Arguments of `fastrev.train` for all rows.
    """

    def __init__(
        self,
        model: fastrev.MLP,
        data: Dataset,
        seed: int,
        keep: Kept,
        *,
        judged_on: str = "validation",
        **training: Any,
    ) -> None:
        self._model, self._data, self._seeds, self._keep = model, data, seeds(seed), keep
        self._judged_on, self._training = judged_on, training
        self._rows: dict[str, tuple[FloatArray, FloatArray]] = {}
        title = f"{judged_on} loss"
        print(f"{'':{_WIDTH}}{title:<18}test accuracy    (mean +- standard deviation of {SEEDS} trainings)")

    def row(self, name: str, result: fastrev.TuneResult | None = None, **training: Any) -> bool:
        """Train by what a result has learned and by the arguments of `fastrev.train`.  Returns False after Ctrl-C."""
        learned = {} if result is None else {k: v for k, v in result.learned.items() if k not in ("x", "y")}
        training = {**self._training, **learned, **training}
        init_scale = training.pop("init_scale", None)
        if result is not None:
            self._keep.result(name, result)
        steps = np.unique(np.linspace(0, training["steps"], _POINTS).astype(np.int64))
        data = self._data
        examples = {"training": data.train, "validation": data.valid, "test": data.test}[self._judged_on]
        curves, accuracies = np.full((SEEDS, len(steps)), np.inf), np.full(SEEDS, np.nan)
        for i, seed in enumerate(self._seeds):
            w0 = self._model.init(seed, scale=init_scale)
            try:
                run = fastrev.train(self._model, w0, seed=seed, curve=(*examples, steps), **training)
            except fastrev.DivergenceError:
                continue
            assert run.curve is not None
            curves[i], accuracies[i] = run.curve.losses, self._model.accuracy(run.w, *self._data.test)
        print(f"{name:<{_WIDTH - 2}}  {measures(curves[:, -1], accuracies):<35}{_note(result)}".rstrip(), flush=True)
        self._rows[name] = curves, accuracies
        every, right = zip(*self._rows.values(), strict=True)
        self._keep(
            rows=list(self._rows), curves=np.stack(every), accuracies=np.stack(right), curve_steps=steps,
            loss_name=f"{self._judged_on} loss",
        )  # fmt: skip
        return result is None or result.success


def measures(losses: FloatArray, accuracies: FloatArray) -> str:
    """Means and standard deviations over the seeds."""
    if np.isinf(losses).any():
        return f"{np.isinf(losses).sum()} of {len(losses)} trainings diverged"
    return f"{losses.mean():.4f} +- {losses.std(ddof=1):.4f}  {accuracies.mean():.1%} +- {accuracies.std(ddof=1):.1%}"


def detection(
    wrong: npt.NDArray[np.bool_], weights: FloatArray, dropped: npt.NDArray[np.bool_]
) -> tuple[float, float, float, float]:
    """How well low weights tell wrong labels from right ones: area under the curve, precision, recall and F1."""
    metrics = require("sklearn.metrics", "demo", "How well wrong labels are found")
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        wrong, dropped, average="binary", zero_division=0
    )
    return float(metrics.roc_auc_score(wrong, -weights)), float(precision), float(recall), float(f1)


def _note(result: fastrev.TuneResult | None) -> str:
    """What was learned, where it is a few numbers, or why it ended early."""
    if result is None:
        return ""
    few = {name: np.ravel(value) for name, value in result.learned.items() if np.size(value) <= 4}
    shown = ", ".join(f"{name} {' '.join(f'{each:.3g}' for each in values)}" for name, values in few.items())
    return shown if result.success else f"{shown} {result.message}".lstrip()
