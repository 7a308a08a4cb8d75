"""How an outer loop went: what the results of `tune` and `minimize` have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrev._engine.equality import compared_by_value
from fastrev._engine.types import FloatArray


@compared_by_value
class History(NamedTuple):
    """The outer loop, meta-step by meta-step.

    Attributes
    ----------
    loss : (n,) float64 ndarray
        Mean loss of the meta-step's runs, before its step; infinite where none ended.
    gradient_norm : (n,) float64 ndarray
        Median norm of their gradients, in the coordinates that were moved in; NaN where there were none of use, or
        learning rates were halved instead.
    rate : (n,) float64 ndarray
        Adam's rate; 0 where no step of Adam's was tried, 1 with a method of SciPy.
    accepted : (n,) bool ndarray
        Whether the step was taken.
    """

    loss: FloatArray
    gradient_norm: FloatArray
    rate: FloatArray
    accepted: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Account:
    """How it went: `fastrev.MinimizeResult` says what each of these is."""

    nit: int
    nfev: int
    refused: int
    diverged: int
    success: bool
    message: str
    history: History


def table(kind: str, values: Mapping[str, Any], loss: float, start: float, result: Account) -> str:
    """A result as a person reads it."""
    rows = [f"{name:>16}: {_brief(value)}" for name, value in values.items()]
    head = f"{kind}: {result.message}"
    counts = (
        f"{_count(result.nit, 'meta-step')}, {_count(result.nfev, 'run')}; "
        f"{_count(result.refused, 'step')} taken back, {_count(result.diverged, 'run')} lost"
    )
    return "\n".join([head, f"{'loss':>16}: {loss:.6g}, from {start:.6g}", *rows, f"{'':>16}  {counts}"])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _brief(value: Any) -> str:
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{float(array):.6g}"
    if not array.size:
        return f"none, shape {array.shape}"
    return f"{array.min():.4g} to {array.max():.4g}, shape {array.shape}"
