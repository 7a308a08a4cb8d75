"""SGD with momentum as a rule by which steps are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

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
from fastrev._engine.rule import Moment, add_products, information, spans, spread
from fastrev._engine.state import checksum, imprint, new_state
from fastrev._engine.types import AnyArray, Fingerprint, FloatArray, Ints
from fastrev.kernels import momentum
from fastrev.kernels.fixed_point import GRID
from fastrev.kernels.information_buffer import SCRATCH
from fastrev.kernels.rules import BY_MOMENTUM, Walks


@dataclass(frozen=True)
class SGDRule:
    """Checked learning rates and decays."""

    lr: Table
    decay: Table
    tables: momentum.Tables

    walks: ClassVar[Walks] = BY_MOMENTUM
    names: ClassVar[tuple[str, ...]] = ("lr", "decay")
    ratios: ClassVar[tuple[str, ...]] = ("decay",)
    starts: ClassVar[tuple[str, ...]] = ("v0",)
    moments: ClassVar[tuple[Moment, ...]] = (Moment("velocities", GRID),)
    shrinks: ClassVar[bool] = False

    @property
    def axes(self) -> list[tuple[str, int | None]]:
        return [(table.name, table.steps) for table in (self.lr, self.decay)]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {table.name: table.shape for table in (self.lr, self.decay)}

    def over(self, steps: int) -> SGDRule:
        return self

    def values(self) -> dict[str, FloatArray]:
        decay = self.tables.n / self.tables.d
        return {"lr": self.lr.values.reshape(self.lr.shape), "decay": decay.reshape(self.decay.shape)}

    def with_value(self, name: str, value: FloatArray) -> SGDRule:
        values = {"lr": self.lr.values.reshape(self.lr.shape), "decay": self.decay.values.reshape(self.decay.shape)}
        return prepare(**(values | {name: value}), bounds=self.tables.groups)

    def off_grid(self, reason: int) -> str:
        return "the weights or their velocity would leave the grid, magnitudes below 2048"

    def advice(self, reason: int) -> str:
        return ""

    def given(self) -> dict[str, Any]:
        return {"optimizer": "SGD", **self.values()}

    def fingerprint(self) -> Fingerprint:
        tables = self.tables
        return {
            "lr": imprint(tables.lr),
            "decay": imprint(tables.n, tables.d),
            "lr or decay": imprint(tables.groups, tables.spans, tables.leaders),
        }

    def record(self) -> list[int]:
        """What one step leaves of lr and of n, d: their tables' dimensions, and of each its bits or a checksum."""
        lr, n, d = self.tables.lr, self.tables.n, self.tables.d
        return [lr.ndim, _word(lr), n.ndim, _word(n), _word(d)]

    def information(self, steps: int, bounds: Ints) -> tuple[int, float]:
        return information(self.tables.n / self.tables.d, steps, bounds)

    def new_adjoint(self, leading: tuple[int, ...] = ()) -> momentum.Adjoint:
        return momentum.Adjoint(np.zeros(leading + self.tables.lr.shape), np.zeros(leading + self.tables.n.shape))

    def gradients(self, adjoint: momentum.Adjoint, leading: tuple[int, ...] = ()) -> dict[str, FloatArray]:
        tables = self.lr, self.decay
        return {
            table.name: sums.reshape(leading + table.shape)[()] for table, sums in zip(tables, adjoint, strict=True)
        }

    @classmethod
    def smallest(cls, bounds: Ints) -> SGDRule:
        return prepare(0.0, 0.5, bounds)

    @classmethod
    def compile_steps(cls, dtype: np.dtype[np.floating[Any]]) -> None:
        state = new_state(np.zeros(0, np.int64), np.zeros((1, 0), np.int64))
        g, scratch = np.zeros(0, dtype), np.empty(SCRATCH)
        buffer = state.moments[0], state.heads[0], state.tail, 0
        momentum.step_span(state.w, *buffer, g, 0.0, 1, 2, 0, 0, scratch)
        momentum.undo_velocity_of_span(*buffer, g, 1, 2, 0, 0, scratch)

    def stored_back(self, bounds: Ints) -> StoredSGD:
        return StoredSGD(self, bounds)


class StoredSGD:
    """The way back through stored steps."""

    def __init__(self, rule: SGDRule, bounds: Ints) -> None:
        self._rule, self._bounds, self._sums = rule, bounds, rule.new_adjoint()
        self._decay = rule.tables.n / rule.tables.d
        self.moments = np.zeros((1, bounds[-1]))

    def position(
        self, t: int, w: FloatArray, dw: FloatArray, before: FloatArray, after: FloatArray, g: FloatArray
    ) -> FloatArray:
        (dv,) = self.moments
        add_products(self._sums.lr, t, dw * after[0], self._bounds)
        dv += spread(self._rule.lr.values, t, self._bounds) * dw
        add_products(self._sums.decay, t, dv * (before[0] + g), self._bounds)
        u: FloatArray = (1 - spread(self._decay, t, self._bounds)) * dv
        return u

    def rest(self, t: int, dw: FloatArray, hu: FloatArray) -> None:
        dw -= hu
        self.moments *= spread(self._decay, t, self._bounds)

    def gradients(self) -> dict[str, Any]:
        return self._rule.gradients(self._sums)


def prepare(lr: npt.ArrayLike, decay: npt.ArrayLike, bounds: Ints) -> SGDRule:
    """Check the hyperparameters of parameter groups that lie between the bounds (G + 1,)."""
    groups = bounds.size - 1
    rates = learning_rates(by_step_and_group("lr", lr, groups, FINITE_RATES))
    table = decays(by_step_and_group("decay", decay, groups, FINITE_DECAYS))
    n, d = ratios(table)
    return SGDRule(rates, table, momentum.Tables(rates.values, n, d, bounds, *spans(bounds, rates.values, n, d)))


def prepare_step(lr: npt.ArrayLike, decay: npt.ArrayLike, size: int, last: SGDRule | None) -> SGDRule:
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
    return SGDRule(rates, table, momentum.Tables(rates.values, n, d, bounds, bounds, np.zeros(1, np.int64)))


def difference(made: list[int], given: list[int]) -> str:
    """How the `SGDRule.record` of a step differs from what is given; empty if in nothing."""
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
