"""Learning rates, decays and penalties: every accepted shape to a table.

A table has shape (T or 1, G or 1); an axis of length 1 stands for all steps, or for all groups.  One of a single step
may have a value for each parameter instead, (P,).  Nothing is expanded, so a derivative summed into a table has the
argument's shape already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.architecture import Architecture
from fastrev.kernels.checks import all_within
from fastrev.kernels.rationals import best_ratios

FINITE_RATES, FINITE_DECAYS = "Pass finite rates, such as 0.1.", "Pass decays in (0, 1], such as 0.9."
SMALLEST_DECAY, LARGEST_DECAY = 2.0**-16, 65535 / 65536  # for which there is a ratio, but for 1


@dataclass(frozen=True)
class Table:
    """One hyperparameter of every step and group, or of every parameter in one step."""

    name: str
    values: npt.NDArray[np.float64]  # (T or 1, G or 1), or (P,)
    shape: tuple[int, ...]  # of the argument

    @property
    def steps(self) -> int | None:
        """T, if the argument has an axis of steps."""
        return axis_of_steps(self.shape)


def axis_of_steps(shape: tuple[int, ...]) -> int | None:
    """T, of the shape of what has one value for each of T steps."""
    return shape[0] if len(shape) == 1 or (len(shape) == 2 and shape[0] > 1) else None


def by_step_and_group(name: str, value: npt.ArrayLike, groups: int, finite: str) -> Table:
    """The table of a whole run.  `finite` says what to pass in place of NaN and infinity."""
    values = arguments.real_array(name, value, own=True, remedy=finite)
    shape = values.shape
    if len(shape) > 2 or 0 in shape or (len(shape) == 2 and shape[1] not in (1, groups)):
        raise arguments.fault(
            name, f"be a number or have shape (T,), (T, 1), (1, {groups}) or (T, {groups})", f"shape {shape}",
            f"T is the number of steps, {groups} the number of parameter groups.",
        )  # fmt: skip
    return Table(name, values if len(shape) == 2 else values.reshape(-1, 1), shape)


def by_parameter(name: str, value: npt.ArrayLike, size: int, finite: str) -> Table:
    """The table of one step."""
    values = arguments.real_array(name, value, own=True, remedy=finite)
    if values.shape not in ((), (size,)):
        raise arguments.fault(
            name, f"be a number or have shape ({size},), one number per parameter", f"shape {values.shape}"
        )
    return Table(name, values if values.shape else values.reshape(1, 1), values.shape)


def learning_rates(lr: Table) -> Table:
    """Check the values of `lr`."""
    if not all_within(lr.values.reshape(-1), 0.0, np.inf):
        raise arguments.fault("lr", "not be negative", f"{lr.values.min():g}", "A rate of 0 freezes the weights.")
    return lr


def decays(decay: Table) -> Table:
    """Check the values of `decay`."""
    if all_within(decay.values.reshape(-1), SMALLEST_DECAY, 1.0):
        return decay
    low, high = decay.values.min(initial=1.0), decay.values.max(initial=1.0)
    if low <= 0:
        raise arguments.fault(
            "decay", "be in (0, 1]", f"{low:g}",
            "A decay of 0 forgets the velocity, which no reversal can bring back; a small one such as 1e-3 is close.",
        )  # fmt: skip
    if high > 1:
        raise arguments.fault("decay", "be in (0, 1]", f"{high:g}", "Above 1 the velocity would grow without a force.")
    raise arguments.fault(
        "decay", "be at least 2**-16, the smallest ratio of the exact arithmetic", f"{low:g}", "Pass 1e-4, say."
    )


def ratios(decay: Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Numerator n and denominator d of every decay, each in the table's shape: the best rational with d <= 2**16."""
    n, d = np.empty((2, decay.values.size), np.int64)
    best_ratios(decay.values.reshape(-1), n, d)
    if not all_within(decay.values.reshape(-1), 0.0, LARGEST_DECAY):
        lost = decay.values[(n == d).reshape(decay.values.shape) & (decay.values < 1 - 1e-9)]
        if lost.size:
            raise arguments.fault(
                decay.name, "be 1 or at most 65535/65536, the largest ratio below 1 of the exact arithmetic",
                f"{lost[0]:.8g}",
                "At 1 the gradient has no influence; pass 0.99998, say.",
            )  # fmt: skip
    return n.reshape(decay.values.shape), d.reshape(decay.values.shape)


def penalty(model: Architecture, l2: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], tuple[int, ...]]:
    """Check `l2`.  Returns its coefficients (1,), (G,) or (P,), and the shape that it came in."""
    values = arguments.real_array("l2", l2, own=True, remedy="Pass finite penalties; 0 is none.")
    groups = len(model.groups)
    if values.shape not in ((), (groups,), (model.num_params,)):
        raise arguments.fault(
            "l2", f"be a number, one per group ({groups},) or one per parameter ({model.num_params},)",
            f"shape {values.shape}",
        )  # fmt: skip
    return values.reshape(-1), values.shape


def number_of_steps(steps: int | None, axes: Iterable[tuple[str, int | None]]) -> int:
    """T, from `steps` and from every argument with an axis of steps, which must agree."""
    found = [("steps", arguments.count("steps", steps))] if steps is not None else []
    found += [(name, count) for name, count in axes if count is not None]
    if not found:
        raise arguments.fault(
            "steps", "be given where no other argument has an axis of steps", "None",
            "Pass steps=T, or lr, decay or batches with a first axis of length T.",
        )  # fmt: skip
    first_name, count = found[0]
    for name, other in found[1:]:
        if other != count:
            raise arguments.fault(
                name, f"have {count} steps, as {first_name} has", f"{other}",
                f"For one value per parameter group, give {name} the shape (1, G).",
            )  # fmt: skip
    return count


def refuse_ambiguity(shapes: Mapping[str, tuple[int, ...]], size: int) -> None:
    """Refuse (G,) where nothing else gives the number of steps: who means the groups would train for G steps."""
    found = {name: shape for name, shape in shapes.items() if axis_of_steps(shape)}
    if size > 1 and found and set(found.values()) == {(size,)}:
        name = next(iter(found))
        raise arguments.fault(
            name, "be unambiguous where nothing else gives the number of steps",
            f"of shape ({size},): it may be for {size} steps, or for the {size} parameter groups",
            f"Pass steps={size} too for one value per step, {name}.reshape(1, {size}) and steps=T for one per group.",
        )  # fmt: skip
