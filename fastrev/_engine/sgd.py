"""SGD with momentum as a rule by which steps are made: its hyperparameters, for the kernels and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fastrev._engine.hyperparameters import (
    FINITE_DECAYS,
    FINITE_RATES,
    Table,
    by_parameter,
    by_step_and_group,
    decays,
    learning_rates,
    ratios,
)
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

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every argument."""
        return {table.name: table.shape for table in (self.lr, self.decay)}

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

    def record(self) -> list[int]:
        """What one step leaves of lr and of n, d: their tables' dimensions, and of each its bits or a checksum."""
        lr, n, d = self.tables.lr, self.tables.n, self.tables.d
        return [lr.ndim, _word(lr), n.ndim, _word(n), _word(d)]

    def new_adjoint(self, leading: tuple[int, ...] = ()) -> MomentumAdjoint:
        """Zeros for the derivatives, with so many axes before their own."""
        return MomentumAdjoint(np.zeros(leading + self.tables.lr.shape), np.zeros(leading + self.tables.n.shape))

    def gradients(self, adjoint: MomentumAdjoint, leading: tuple[int, ...] = ()) -> dict[str, FloatArray]:
        """The derivatives in the shapes of the arguments, behind the `leading` axes."""
        return {
            "lr": adjoint.lr.reshape(leading + self.lr.shape)[()],
            "decay": adjoint.decay.reshape(leading + self.decay.shape)[()],
        }


def prepare(lr: npt.ArrayLike, decay: npt.ArrayLike, bounds: Ints) -> SGD:
    """Check the hyperparameters of parameter groups that lie between the bounds (G + 1,)."""
    groups = bounds.size - 1
    rates = learning_rates(by_step_and_group("lr", lr, groups, FINITE_RATES))
    table = decays(by_step_and_group("decay", decay, groups, FINITE_DECAYS))
    n, d = ratios(table)
    return SGD(rates, table, Momentum(rates.values, n, d, bounds, *_spans(bounds, rates.values, n, d)))


def prepare_step(lr: npt.ArrayLike, decay: npt.ArrayLike, size: int, last: SGD | None) -> SGD:
    """Check the hyperparameters of one step: numbers, or one for each parameter.

    Where the decays are those of the `last` call so are the ratios, which take ten times as long as the step itself
    (`python -m bench.choices ratios check`).
    """
    rates = learning_rates(by_parameter("lr", lr, size, FINITE_RATES))
    table = by_parameter("decay", decay, size, FINITE_DECAYS)
    if last is not None and np.array_equal(table.values, last.decay.values):
        n, d = last.tables.n, last.tables.d
    else:
        n, d = ratios(decays(table))
    bounds = np.array([0, size])
    return SGD(rates, table, Momentum(rates.values, n, d, bounds, bounds, np.zeros(1, np.int64)))


def difference(made: list[int], given: list[int]) -> str:
    """How the `SGD.record` of a step differs from what is given; empty if in nothing."""
    for name, was, now in ("lr", made[:2], given[:2]), ("decay", made[2:], given[2:]):
        if was != now:
            return f"{name} = {_quoted(*was)}, not {_quoted(*now)}"
    return ""


def _word(table: AnyArray) -> int:
    return int(table.view(np.int64)[0, 0]) if table.ndim == 2 else checksum(table)[0]


def _quoted(dimensions: int, *words: int) -> str:
    if dimensions == 1:
        return "an array of checksum " + "/".join(f"{word % 2**64:016x}" for word in words)
    return "/".join(map(str, words)) if len(words) == 2 else repr(np.array(words).view(np.float64).item())


def _spans(bounds: Ints, *tables: AnyArray) -> tuple[Ints, Ints]:
    """Neighbouring groups whose columns are equal in all tables: bounds of their parameters, and the first of each."""
    differs = np.zeros(bounds.size - 1, bool)
    differs[0] = True
    for table in tables:
        if table.shape[1] > 1:
            differs[1:] |= (table[:, 1:] != table[:, :-1]).any(axis=0)
    leaders = np.flatnonzero(differs)
    return np.append(bounds[leaders], bounds[-1]), leaders
