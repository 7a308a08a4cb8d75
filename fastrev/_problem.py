"""The arguments that `train` and `meta_grad` share, checked and in the form that the kernels take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev import _arguments as arguments
from fastrev._examples import as_pair
from fastrev._state import Grid, checksum, to_grid
from fastrev.batches import Batches, plan
from fastrev.hyperparameters import Table, decays, learning_rates, number_of_steps, penalty, ratios
from fastrev.kernels.structures import Data, Schedule
from fastrev.mlp import MLP


@dataclass(frozen=True)
class Problem:
    """Everything that a training run depends on."""

    model: MLP
    w0: Grid
    v0: Grid | None  # None: zero
    data: Data
    examples: int  # N
    batches: Batches
    steps: int  # T
    lr: Table
    decay: Table
    l2_shape: tuple[int, ...]
    schedule: Schedule  # without the batches' rows

    def schedule_of(self, begin: int, end: int) -> Schedule:
        """The schedule with the batches of the steps begin <= t < end."""
        return self.schedule._replace(rows=self.batches.rows(begin, end), first=begin)

    def fingerprint(self) -> dict[str, int]:
        """A checksum of everything that a step or its derivative depends on, by the name of the argument."""
        schedule = self.schedule
        parts = {
            "lr": (schedule.lr,),
            "decay": (schedule.n, schedule.d),
            "lr or decay": (schedule.bounds, schedule.leaders),
            "l2": (schedule.l2,),
            "batches": (self.batches.table,),
            "train[0]": (self.data.x,),
            "train[1]": (self.data.y,),
            "example_weights": (self.data.weights,),
        }
        return {name: hash(tuple(map(checksum, arrays))) for name, arrays in parts.items()}


def prepare(
    model: MLP,
    w0: npt.ArrayLike,
    *,
    train: Any,
    lr: npt.ArrayLike,
    decay: npt.ArrayLike,
    steps: int | None,
    batch_size: int | None,
    seed: int,
    batches: npt.ArrayLike | None,
    l2: npt.ArrayLike,
    v0: npt.ArrayLike | None,
    example_weights: npt.ArrayLike | None,
) -> Problem:
    """Check every argument before anything is computed."""
    if not isinstance(model, MLP):
        raise arguments.fault("model", "be a fastrev.MLP", type(model).__name__)
    groups = len(model.groups)
    weights = arguments.parameters("w0", w0, model.num_params)
    velocity = None if v0 is None else arguments.parameters("v0", v0, model.num_params)
    rates, decay_table, l2_values = learning_rates(lr, groups), decays(decay, groups), penalty(model, l2)
    data, examples = as_pair(model, "train", train, example_weights)
    batch_plan = plan(examples, batch_size, seed, batches)
    axes = [("batches", batch_plan.steps), ("lr", rates.steps), ("decay", decay_table.steps)]
    n, d = ratios(decay_table)
    return Problem(
        model=model,
        w0=to_grid("w0", weights),
        v0=None if velocity is None else to_grid("v0", velocity),
        data=data,
        examples=examples,
        batches=batch_plan,
        steps=number_of_steps(steps, axes),
        lr=rates,
        decay=decay_table,
        l2_shape=np.shape(l2),
        schedule=Schedule(
            rates.values, n, d, *_spans(model._network.bounds, rates.values, n, d), l2_values,
            rows=np.empty((0, 0), np.int64), first=0,
        ),
    )  # fmt: skip


def _spans(bounds: Grid, *tables: npt.NDArray[Any]) -> tuple[Grid, Grid]:
    """Neighbouring groups whose columns are equal in all tables: bounds of their parameters, and the first of each."""
    differs = np.zeros(bounds.size - 1, bool)
    differs[0] = True
    for table in tables:
        if table.shape[1] > 1:
            differs[1:] |= (table[:, 1:] != table[:, :-1]).any(axis=0)
    leaders = np.flatnonzero(differs)
    return np.append(bounds[leaders], bounds[-1]), leaders
