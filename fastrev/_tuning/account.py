"""How an outer loop went: what the results of `tune` and `minimize` have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastrev._engine.types import FloatArray


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


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)  # arrays have no one truth
class Account:
    """How it went.

    Attributes
    ----------
    nit, nfev : int
        Meta-steps, and runs made, with and without derivatives.
    refused, diverged : int
        Steps that were taken back, and runs that were refused, exploded or had no finite gradient.
    success : bool
        False after Ctrl-C, or where a method of SciPy says so.
    message : str
        Why it ended.
    history : History
        Every meta-step.
    """

    nit: int
    nfev: int
    refused: int
    diverged: int
    success: bool
    message: str
    history: History
