"""What the machinery asks of a rule by which steps are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from fastrev._engine.hyperparameters import Table
from fastrev._engine.types import AnyArray, Fingerprint, FloatArray, Ints
from fastrev.kernels import information_buffer as buffer
from fastrev.kernels.fixed_point import Spacing
from fastrev.kernels.rules import Walks


class Moment(NamedTuple):
    """One of the arrays (P,) that a rule keeps beside the weights."""

    plural: str  # what its numbers are called
    spacing: Spacing  # of its grid


class Rule(Protocol):
    """Checked hyperparameters of every step, for the kernels and back."""

    walks: ClassVar[Walks]  # the kernels
    names: ClassVar[tuple[str, ...]]  # what there is to differentiate by; not negative, but for
    ratios: ClassVar[tuple[str, ...]]  # those of them for which there must be a ratio, as for decays
    starts: ClassVar[tuple[str, ...]]  # the arguments that moments begin with; where there are none, they begin at zero
    moments: ClassVar[tuple[Moment, ...]]  # M

    @property
    def lr(self) -> Table:
        """The learning rates."""

    @property
    def shrinks(self) -> bool:
        """Whether it multiplies the weights."""

    @property
    def tables(self) -> Any:
        """The tuple that the kernels take."""

    @property
    def axes(self) -> list[tuple[str, int | None]]:
        """Every argument with its number of steps, if it has an axis of them."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of every argument."""

    def over(self, steps: int) -> Rule:
        """The same for a run of so many steps."""

    def values(self) -> dict[str, FloatArray]:
        """What there is to differentiate by, as the exact arithmetic takes it."""

    def with_value(self, name: str, value: FloatArray) -> Rule:
        """The same with another value of one of these."""

    def off_grid(self, reason: int) -> str:
        """Of a step that was refused for this reason of `kernels.outcomes`: what would leave its grid."""

    def advice(self, reason: int) -> str:
        """What to do about it, where it is not a matter of what is trained; empty otherwise."""

    def given(self) -> dict[str, Any]:
        """All that makes it, by the name of the argument."""

    def fingerprint(self) -> Fingerprint:
        """What tells whether anything changed that the kernels read, by the name of the argument."""

    def information(self, steps: int, bounds: Ints) -> tuple[int, float]:
        """Words that so many steps push, and bits that they store in all, of parameters with these bounds of groups."""

    def new_adjoint(self, leading: tuple[int, ...] = ()) -> Any:
        """Zeros for the derivatives, behind the `leading` axes: a tuple for the kernels."""

    def gradients(self, adjoint: Any, leading: tuple[int, ...] = ()) -> dict[str, FloatArray]:
        """The derivatives in the shapes of the arguments, behind the `leading` axes."""

    @classmethod
    def smallest(cls, bounds: Ints) -> Rule:
        """One of the kind, of the same types, for one step."""

    @classmethod
    def compile_steps(cls, dtype: np.dtype[np.floating[Any]]) -> None:
        """Compile the exact arithmetic by itself, in calls for no parameters.

        Another process comes to it last (`compilation`): so each finds on disk what the other began with.
        """

    def stored_back(self, bounds: Ints) -> StoredBack:
        """The way back through steps that are stored, in plain NumPy."""


class StoredBack(Protocol):
    """The adjoint of a rule, written once more, for a trajectory that is known; all arrays (P,) or (M, P)."""

    moments: FloatArray  # derivatives by the moments, zero at the end

    def position(
        self, t: int, w: FloatArray, dw: FloatArray, before: FloatArray, after: FloatArray, g: FloatArray
    ) -> FloatArray:
        """Through what step t made of the weights w, from its moments before and after it; returns the direction u.

        Changes dw where the step multiplied the weights.
        """

    def rest(self, t: int, dw: FloatArray, hu: FloatArray) -> None:
        """Through the moments, given the Hessian times u; changes dw."""

    def gradients(self) -> dict[str, Any]:
        """The derivatives by the names of the arguments, in their shapes."""


def rate_at(rule: Rule, step: int, group: int) -> float:
    """The learning rate of one step and group."""
    lr = rule.lr.values
    return float(lr[min(step, lr.shape[0] - 1), min(group, lr.shape[1] - 1)])


def spread(table: FloatArray, t: int, bounds: AnyArray) -> FloatArray:
    """A step's row of a table, spread over the parameters."""
    row = table[min(t, table.shape[0] - 1)]
    return np.repeat(np.broadcast_to(row, bounds.size - 1), np.diff(bounds))


def add_products(sums: FloatArray, t: int, products: FloatArray, bounds: AnyArray) -> None:
    """Products of all parameters into a table of which an axis of length 1 stands for all steps, or all groups."""
    of_groups = np.add.reduceat(products, bounds[:-1])
    sums[min(t, sums.shape[0] - 1)] += of_groups if sums.shape[1] > 1 else of_groups.sum()


def information(ratios: FloatArray, steps: int, bounds: Ints) -> tuple[int, float]:
    """Words that multiplications by a table of ratios push in so many steps, and bits that they store."""
    bits = np.broadcast_to(-np.log2(ratios).sum(axis=0) * (steps / len(ratios)), bounds.size - 1)
    words = np.maximum(np.ceil((np.log2(buffer.START / buffer.HIGH) + bits) / np.log2(buffer.BASE)), 0)
    sizes = np.diff(bounds)
    return int(words @ sizes), float(bits @ sizes)


def spans(bounds: Ints, *tables: AnyArray) -> tuple[Ints, Ints]:
    """Neighbouring groups whose columns are equal in all tables: bounds of their parameters, and the first of each."""
    if all(table.shape[1] == 1 for table in tables):
        return np.array([bounds[0], bounds[-1]]), np.zeros(1, np.int64)
    differs = np.zeros(bounds.size - 1, bool)
    differs[0] = True
    for table in tables:
        if table.shape[1] > 1:
            differs[1:] |= (table[:, 1:] != table[:, :-1]).any(axis=0)
    leaders = np.flatnonzero(differs)
    return np.append(bounds[leaders], bounds[-1]), leaders
