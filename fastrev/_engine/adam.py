"""Adam and AdamW as a rule by which steps are made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.hyperparameters import (
    LARGEST_DECAY,
    SMALLEST_DECAY,
    Table,
    by_step_and_group,
    learning_rates,
    ratios,
)
from fastrev._engine.rule import Moment, add_products, information, spans, spread
from fastrev._engine.state import checksum, imprint, new_state
from fastrev._engine.types import AnyArray, Fingerprint, FloatArray, Ints
from fastrev.errors import ArgumentError
from fastrev.kernels import adam, adam_numbers, outcomes, shrinking
from fastrev.kernels.checks import all_within
from fastrev.kernels.fixed_point import GRID
from fastrev.kernels.information_buffer import SCRATCH
from fastrev.kernels.rules import BY_ADAM, Walks

SMALLEST_EPS = 1e-8  # sqrt(2**-62 / (1 - 0.999)) is 1.5e-8: what the root is off by in the first steps


@dataclass(frozen=True)
class AdamRule:
    """Checked hyperparameters, for a number of steps once it is known."""

    lr: Table
    beta1: Table
    beta2: Table
    eps: Table
    weight_decay: Table
    eps_root: float
    bounds: Ints
    tables: adam.Tables

    walks: ClassVar[Walks] = BY_ADAM
    names: ClassVar[tuple[str, ...]] = ("lr", "beta1", "beta2", "eps", "weight_decay")
    ratios: ClassVar[tuple[str, ...]] = ("beta1", "beta2")
    starts: ClassVar[tuple[str, ...]] = ()
    moments: ClassVar[tuple[Moment, ...]] = (Moment("first moments", GRID), Moment("second moments", adam.SQUARES))

    @property
    def shrinks(self) -> bool:
        return not all_within(self.weight_decay.values.reshape(-1), 0.0, 0.0)

    @property
    def axes(self) -> list[tuple[str, int | None]]:
        return [(name, table.steps) for name, table in self._tables().items()]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: table.shape for name, table in self._tables().items()}

    def over(self, steps: int) -> AdamRule:
        tables = self.tables
        c1, c2 = (1.0 - _products(n / d, steps) for n, d in ((tables.n1, tables.d1), (tables.n2, tables.d2)))
        spills = _spills(self._factors(), steps) if self.shrinks else np.zeros((steps, tables.lr.shape[1]), np.int64)
        return replace(self, tables=tables._replace(c1=c1, c2=c2, spills=spills))

    def after(self, progress: FloatArray) -> tuple[AdamRule, FloatArray]:
        """The same for one step after others, and their progress (3, G) with this one.

        That is the products of all beta1 and of all beta2, and the bits by which the weights have shrunk.
        """
        t, groups = self.tables, self.bounds.size - 1
        bits = -np.log2(self._factors())
        beta1, beta2, shrunk = (np.broadcast_to(each[0], groups) for each in (t.n1 / t.d1, t.n2 / t.d2, bits))
        now = np.stack([progress[0] * beta1, progress[1] * beta2, progress[2] + shrunk])
        spills = (now[2] // shrinking.WORD - progress[2] // shrinking.WORD).astype(np.int64)
        later = {"c1": 1.0 - now[:1], "c2": 1.0 - now[1:2], "spills": spills[np.newaxis]}
        # what came before may tell groups apart whose numbers are equal now
        merged = spans(self.bounds, t.lr, t.n1, t.d1, t.n2, t.d2, t.eps, t.weight_decay, *later.values())
        return replace(self, tables=t._replace(**later, spans=merged[0], leaders=merged[1])), now

    def _factors(self) -> FloatArray:
        """By which the steps multiply the weights."""
        factors: FloatArray = 1.0 - self.lr.values * self.weight_decay.values
        if (least := float(factors.min())) < SMALLEST_DECAY:
            raise arguments.fault_of_several(
                "weight_decay", "be at most (1 - 2**-16) / lr, as a step multiplies weights by 1 - lr * weight_decay",
                f"{self.weight_decay.values.max():g} with lr = {self.lr.values.max():g}, which makes {least:g}",
            )  # fmt: skip
        return factors

    def record(self) -> list[int]:
        """A checksum of each number that one step is made with."""
        t = self.tables
        parts = t.lr, np.concatenate([t.n1, t.d1]), np.concatenate([t.n2, t.d2]), t.eps, t.weight_decay
        return [checksum(np.ascontiguousarray(each))[0] for each in parts]

    def values(self) -> dict[str, FloatArray]:
        tables = self.tables
        as_taken = {"beta1": tables.n1 / tables.d1, "beta2": tables.n2 / tables.d2}
        return {name: as_taken.get(name, table.values).reshape(table.shape) for name, table in self._tables().items()}

    def with_value(self, name: str, value: FloatArray) -> AdamRule:
        given = {each: table.values.reshape(table.shape) for each, table in self._tables().items()}
        return prepare(**(given | {name: value}), eps_root=self.eps_root, bounds=self.bounds).over(len(self.tables.c1))

    def off_grid(self, reason: int) -> str:
        if reason == outcomes.SQUARES_OFF_GRID:
            return "the mean of the squared gradient would leave its grid, numbers below 2"
        return "the weights or their first moment would leave the grid, magnitudes below 2048"

    def advice(self, reason: int) -> str:
        if reason == outcomes.SQUARES_OFF_GRID:
            return (
                "Scale the loss down: by c, with eps by c and eps_root by c**2, the steps are the same. An MLP's is "
                "scaled by example_weights, and l2 with them, an Objective's within its functions."
            )
        return ""

    def given(self) -> dict[str, Any]:
        return {"optimizer": "Adam", **self.values(), "eps_root": self.eps_root}

    def fingerprint(self) -> Fingerprint:
        t = self.tables
        parts: dict[str, tuple[AnyArray, ...]] = {
            "lr": (t.lr,), "beta1": (t.n1, t.d1, t.c1), "beta2": (t.n2, t.d2, t.c2), "eps": (t.eps,),
            "weight_decay": (t.weight_decay, t.spills), "optimizer": (t.groups, t.spans, t.leaders),
        }  # fmt: skip
        return {name: imprint(*arrays) for name, arrays in parts.items()}

    def information(self, steps: int, bounds: Ints) -> tuple[int, float]:
        t = self.tables
        ratios = t.n1 / t.d1, t.n2 / t.d2
        first, second = (information(each, steps, bounds) for each in ratios)
        of_carries = int(np.broadcast_to(t.spills.sum(axis=0), bounds.size - 1) @ np.diff(bounds))
        return first[0] + second[0] + of_carries, first[1] + second[1] + 16.0 * of_carries

    def new_adjoint(self, leading: tuple[int, ...] = ()) -> adam.Adjoint:
        t = self.tables
        like = t.lr, t.n1, t.n2, t.eps, t.weight_decay, t.c1[:1], t.c2[:1]
        return adam.Adjoint(*[np.zeros(leading + each.shape) for each in like])

    def gradients(self, adjoint: adam.Adjoint, leading: tuple[int, ...] = ()) -> dict[str, FloatArray]:
        return {
            name: sums.reshape(leading + table.shape)[()]
            for (name, table), sums in zip(self._tables().items(), adjoint, strict=False)
        }

    @classmethod
    def smallest(cls, bounds: Ints) -> AdamRule:
        return prepare(0.5, 0.5, 0.5, 0.5, 0.0, eps_root=0.5, bounds=bounds).over(1)

    @classmethod
    def compile_steps(cls, dtype: np.dtype[np.floating[Any]]) -> None:
        w, moments, carry, heads, tail, _ = new_state(np.zeros(0, np.int64), np.zeros((2, 0), np.int64))
        buffer, g, scratch = (moments, heads, tail, 0), np.zeros(0, dtype), np.empty(SCRATCH)
        place, rates = (w, carry, moments, tail, 0), adam_numbers.Rates(0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
        adam.make_moments_of_span(*buffer, g, 1, 2, 1, 2, 0, 0, scratch)
        adam.make_position_of_span(*place, rates, 0, 0, 0)
        adam.undo_position_of_span(*place, rates, 0, 0, 0)
        adam.undo_moments_of_span(*buffer, g, 1, 2, 1, 2, 0, 0, scratch)

    def stored_back(self, bounds: Ints) -> StoredAdam:
        return StoredAdam(self, bounds)

    def _tables(self) -> dict[str, Table]:
        return {name: getattr(self, name) for name in self.names}


class StoredAdam:
    """The way back through stored steps."""

    def __init__(self, rule: AdamRule, bounds: Ints) -> None:
        self._rule, self._bounds, self._sums = rule, bounds, rule.new_adjoint()
        self._beta1, self._beta2 = rule.tables.n1 / rule.tables.d1, rule.tables.n2 / rule.tables.d2
        self.moments = np.zeros((2, bounds[-1]))

    def position(
        self, t: int, w: FloatArray, dw: FloatArray, before: FloatArray, after: FloatArray, g: FloatArray
    ) -> FloatArray:
        tables, sums, (dm, ds) = self._rule.tables, self._sums, self.moments
        alpha, decay, eps = (self._at(each, t) for each in (tables.lr, tables.weight_decay, tables.eps))
        beta1, beta2, c1, c2 = (self._at(each, t) for each in (self._beta1, self._beta2, tables.c1, tables.c2))
        m, s = after
        r = np.sqrt(s / c2 + tables.eps_root)
        z = m / c1 / (r + eps)
        d_den = dw * alpha * z / (r + eps)
        with np.errstate(divide="ignore", invalid="ignore"):
            d_square = np.where(r > 0, d_den / (2 * r), 0.0)
        self._add(sums.lr, t, -dw * (z + decay * w))
        self._add(sums.weight_decay, t, -dw * alpha * w)
        self._add(sums.eps, t, d_den)
        dm -= dw * alpha / (r + eps) / c1
        ds += d_square / c2
        self._add(sums.product1, 0, -(1 - c1) * dw * alpha * z / c1)
        self._add(sums.product2, 0, (1 - c2) * d_square * s / c2**2)
        self._add(sums.beta1, t, dm * (before[0] - g))
        self._add(sums.beta2, t, ds * (before[1] - g**2))
        for total, product, beta in (sums.beta1, sums.product1, self._beta1), (sums.beta2, sums.product2, self._beta2):
            total[min(t, len(total) - 1)] += product[0] / beta[min(t, len(beta) - 1)]
        dw *= 1 - alpha * decay
        u: FloatArray = -(1 - beta1) * dm - 2 * (1 - beta2) * g * ds
        dm *= beta1
        ds *= beta2
        return u

    def rest(self, t: int, dw: FloatArray, hu: FloatArray) -> None:
        dw -= hu

    def gradients(self) -> dict[str, Any]:
        return self._rule.gradients(self._sums)

    def _at(self, table: FloatArray, t: int) -> FloatArray:
        return spread(table, t, self._bounds)

    def _add(self, sums: FloatArray, t: int, products: FloatArray) -> None:
        add_products(sums, t, products, self._bounds)


def prepare(
    lr: npt.ArrayLike,
    beta1: npt.ArrayLike,
    beta2: npt.ArrayLike,
    eps: npt.ArrayLike,
    weight_decay: npt.ArrayLike,
    *,
    eps_root: float,
    bounds: Ints,
) -> AdamRule:
    """Check the hyperparameters of parameter groups that lie between the bounds (G + 1,)."""
    groups = bounds.size - 1
    rates = learning_rates(by_step_and_group("lr", lr, groups, "Pass finite rates, such as 0.001."))
    first, second = (_betas(name, value, groups) for name, value in (("beta1", beta1), ("beta2", beta2)))
    (n1, d1), (n2, d2) = ratios(first), ratios(second)
    for table, n, d in (first, n1, d1), (second, n2, d2):
        if np.count_nonzero(n == d):
            raise _too_near_one(table.name, table.values.max())
    root = arguments.real_array("eps_root", eps_root)
    if root.shape:
        raise arguments.fault("eps_root", "be one number", f"an array of shape {root.shape}")
    _not_negative(Table("eps_root", root, ()))
    softening = _not_negative(by_step_and_group("eps", eps, groups, "Pass finite numbers, such as 1e-8."))
    if (least := float(softening.values.min() + np.sqrt(root))) < SMALLEST_EPS * (1 - 1e-6):  # float32's 1e-8 is less
        raise arguments.fault_of_several(
            "eps", f"be at least {SMALLEST_EPS:g} together with the root of eps_root", f"{least:.7g}",
            "The second moment is a multiple of 2**-62, so with less steps would be far above lr where gradients are "
            "small. Pass eps=1e-8, or leave eps_root at its default.",
        )  # fmt: skip
    decay = _not_negative(by_step_and_group("weight_decay", weight_decay, groups, "Pass finite decays; 0 is none."))
    unknown = np.ones((1, 1)), np.ones((1, 1)), np.zeros((1, 1), np.int64)
    tables = adam.Tables(
        rates.values, n1, d1, n2, d2, softening.values, float(root), decay.values, *unknown, bounds,
        *spans(bounds, rates.values, n1, d1, n2, d2, softening.values, decay.values),
    )  # fmt: skip
    return AdamRule(rates, first, second, softening, decay, float(root), bounds, tables)


def _betas(name: str, value: npt.ArrayLike, groups: int) -> Table:
    table = by_step_and_group(name, value, groups, "Pass numbers between 0 and 1, such as 0.9.")
    if all_within(table.values.reshape(-1), SMALLEST_DECAY, LARGEST_DECAY):
        return table
    low, high = table.values.min(), table.values.max()
    if low <= 0:
        raise arguments.fault(
            name, "be between 0 and 1", f"{low:g}",
            "At 0 a moment is made of the last gradient alone, as in RMSprop without momentum: a step then depends on "
            "the gradient at weights that are to be found when it is undone, so it cannot be. 1e-3, say, is close.",
        )  # fmt: skip
    if high > LARGEST_DECAY:
        raise _too_near_one(name, high)
    raise arguments.fault(
        name, "be at least 2**-16, the smallest ratio of the exact arithmetic", f"{low:g}", "Pass 1e-4, say."
    )


def _too_near_one(name: str, value: float) -> ArgumentError:
    return arguments.fault(
        name, "be at most 65535/65536, the largest ratio below 1 of the exact arithmetic", f"{value:.12g}",
        "At 1 a moment would never learn of a gradient; pass 0.99998, say.",
    )  # fmt: skip


def _not_negative(table: Table) -> Table:
    if not all_within(table.values.reshape(-1), 0.0, np.inf):
        raise arguments.fault(table.name, "not be negative", f"{table.values.min():g}")
    return table


def _products(betas: FloatArray, steps: int) -> FloatArray:
    """(T, G or 1): of all betas up to and including each step's."""
    of_steps = np.empty((steps, betas.shape[1]))
    of_steps[:] = betas  # np.broadcast_to takes 5 us
    found: FloatArray = np.multiply.accumulate(of_steps, axis=0)
    return found


def _spills(factors: FloatArray, steps: int) -> Ints:
    """(T, G or 1): 1 in each step by which the weights have shrunk by another word."""
    bits = np.add.accumulate(np.broadcast_to(-np.log2(factors), (steps, factors.shape[1])), axis=0)
    return np.diff(bits // shrinking.WORD, axis=0, prepend=0).astype(np.int64)
