"""SGD with momentum as a rule by which steps are made: its hyperparameters, for the kernels and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fastrev._engine.hyperparameters import Table, decays, learning_rates, ratios
from fastrev._engine.state import checksum
from fastrev._engine.types import AnyArray, Fingerprint, FloatArray, Ints
from fastrev.kernels.structures import Momentum, MomentumAdjoint


@dataclass(frozen=True)
class SGD:
    """Checked learning rates and decays."""

    lr: Table
    decay: Table
    tables: Momentum

    names: ClassVar[tuple[str, ...]] = ("lr", "decay")  # what there is to differentiate by

    @property
    def axes(self) -> list[tuple[str, int | None]]:
        """Every argument with its number of steps, if it has an axis of them."""
        return [(table.name, table.steps) for table in (self.lr, self.decay)]

    def values(self) -> dict[str, FloatArray]:
        """What there is to differentiate by: of the decays, the ratios that stand for them."""
        decay = self.tables.n / self.tables.d
        return {"lr": self.lr.values.reshape(self.lr.shape), "decay": decay.reshape(self.decay.shape)}

    def with_value(self, name: str, value: FloatArray) -> SGD:
        """The same with another value of one of these."""
        values = {"lr": self.lr.values.reshape(self.lr.shape), "decay": self.decay.values.reshape(self.decay.shape)}
        return prepare(**(values | {name: value}), bounds=self.tables.groups)

    def rate_at(self, step: int, group: int) -> float:
        """The learning rate of one step and group."""
        lr = self.lr.values
        return float(lr[min(step, lr.shape[0] - 1), min(group, lr.shape[1] - 1)])

    def fingerprint(self) -> Fingerprint:
        """A checksum of all that the kernels read, by the name of the argument."""
        tables = self.tables
        return {
            "lr": checksum(tables.lr),
            "decay": checksum(tables.n, tables.d),
            "lr or decay": checksum(tables.groups, tables.spans, tables.leaders),
        }

    def new_adjoint(self) -> MomentumAdjoint:
        """Zeros for the derivatives."""
        return MomentumAdjoint(np.zeros(self.tables.lr.shape), np.zeros(self.tables.n.shape))

    def gradients(self, adjoint: MomentumAdjoint) -> dict[str, FloatArray]:
        """The derivatives in the shapes of the arguments."""
        return {"lr": adjoint.lr.reshape(self.lr.shape)[()], "decay": adjoint.decay.reshape(self.decay.shape)[()]}


def prepare(lr: npt.ArrayLike, decay: npt.ArrayLike, bounds: Ints) -> SGD:
    """Check the hyperparameters of parameter groups that lie between the bounds (G + 1,)."""
    groups = bounds.size - 1
    rates, table = learning_rates(lr, groups), decays(decay, groups)
    n, d = ratios(table)
    return SGD(rates, table, Momentum(rates.values, n, d, bounds, *_spans(bounds, rates.values, n, d)))


def _spans(bounds: Ints, *tables: AnyArray) -> tuple[Ints, Ints]:
    """Neighbouring groups whose columns are equal in all tables: bounds of their parameters, and the first of each."""
    differs = np.zeros(bounds.size - 1, bool)
    differs[0] = True
    for table in tables:
        if table.shape[1] > 1:
            differs[1:] |= (table[:, 1:] != table[:, :-1]).any(axis=0)
    leaders = np.flatnonzero(differs)
    return np.append(bounds[leaders], bounds[-1]), leaders
