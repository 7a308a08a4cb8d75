"""Networks trained by what was learned, judged on examples and by seeds that it was not learned with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import fastrev
from fastrev._engine.extras import require
from fastrev.experiments._shared.datasets import Dataset

_SEEDS = 10
_POINTS = 26  # of a curve
_WIDTH = 21


class Judge:
    """Trains from seeds of its own, and prints a row of a table for each way to train.

    Parameters
    ----------
    model : MLP
    data : Dataset
    seed : int
        Of the experiment.  Those of the trainings are others.
    loss : str
        "training" or "validation": which examples of `data` the loss is measured on.
    **training
        Arguments of `fastrev.train` for all rows.
    """

    def __init__(
        self, model: fastrev.MLP, data: Dataset, seed: int, *, loss: str = "validation", **training: Any
    ) -> None:
        self._model, self._data, self._training, self._loss = model, data, training, loss
        self._seeds = np.random.SeedSequence(seed, spawn_key=(1,)).generate_state(_SEEDS).tolist()
        self._rows: dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
        self._steps = np.empty(0, np.int64)
        title = f"{loss} loss"
        print(f"{'':{_WIDTH}}{title:<18}test accuracy    (mean +- standard deviation of {_SEEDS} trainings)")

    def __call__(self, name: str, result: fastrev.TuneResult | None = None, **training: Any) -> None:
        """Train by what a result has learned and by the arguments of `fastrev.train`, and print a row."""
        learned = {} if result is None else {key: value for key, value in result.learned.items() if key not in "xy"}
        training = {**self._training, **learned, **training}
        init_scale = training.pop("init_scale", None)
        self._steps = np.unique(np.linspace(0, training["steps"], _POINTS).astype(np.int64))
        examples = {"training": self._data.train, "validation": self._data.valid}[self._loss]
        curves, accuracies = np.full((_SEEDS, len(self._steps)), np.inf), np.zeros(_SEEDS)
        for i, seed in enumerate(self._seeds):
            w0 = self._model.init(seed, scale=init_scale)
            try:
                run = fastrev.train(self._model, w0, seed=seed, curve=(*examples, self._steps), **training)
            except fastrev.DivergenceError:
                continue
            assert run.curve is not None
            curves[i], accuracies[i] = run.curve.losses, self._model.accuracy(run.w, *self._data.test)
        self._rows[name] = curves, accuracies
        print(f"{name:<{_WIDTH}}{measures(curves[:, -1], accuracies):<35}{_note(result)}".rstrip(), flush=True)

    @property
    def arrays(self) -> dict[str, Any]:
        """All rows, to be kept.

        ``rows`` (R,), their names; ``curves`` (R, seeds, S), losses after each of ``curve_steps`` (S,), infinite where
        the training diverged; ``accuracies`` (R, seeds) on the test examples.
        """
        curves, accuracies = zip(*self._rows.values(), strict=True)
        named = {"rows": list(self._rows), "curves": np.stack(curves), "accuracies": np.stack(accuracies)}
        return named | {"curve_steps": self._steps, "loss_name": f"{self._loss} loss"}


def _note(result: fastrev.TuneResult | None) -> str:
    """What was learned, where it is single numbers, or why it ended early."""
    if result is None or not result.success:
        return "" if result is None else result.message
    return ", ".join(f"{name} {value:.3g}" for name, value in result.learned.items() if np.ndim(value) == 0)


def measures(losses: npt.NDArray[np.float64], accuracies: npt.NDArray[np.float64]) -> str:
    """Means and standard deviations over the seeds."""
    if np.isinf(losses).any():
        return f"{np.isinf(losses).sum()} of {len(losses)} trainings diverged"
    return f"{losses.mean():.4f} +- {losses.std(ddof=1):.4f}  {accuracies.mean():.1%} +- {accuracies.std(ddof=1):.1%}"


def detection(
    wrong: npt.NDArray[np.bool_], weights: npt.NDArray[np.float64], dropped: npt.NDArray[np.bool_]
) -> tuple[float, float, float, float]:
    """How well low weights tell wrong labels from right ones: area under the curve, precision, recall and F1."""
    metrics = require("sklearn.metrics", "demo", "How well wrong labels are found")
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        wrong, dropped, average="binary", zero_division=0
    )
    return float(metrics.roc_auc_score(wrong, -weights)), float(precision), float(recall), float(f1)
