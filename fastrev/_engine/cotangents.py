"""The derivatives that a way back begins with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.problem import Problem
from fastrev._engine.types import FloatArray


def cotangents(w_bar: npt.ArrayLike, v_bar: npt.ArrayLike | None, problem: Problem) -> tuple[FloatArray, FloatArray]:
    """The checked derivatives of K losses by the final weights (K, P) and moments (K, M, P), copied."""
    size = problem.trained.num_params
    dw = arguments.parameters_or_rows("w_bar", w_bar, size)
    rows = dw.reshape(-1, size)
    dm = np.zeros((len(rows), len(problem.rule.moments), size))
    if v_bar is not None:
        dv = arguments.parameters_or_rows("v_bar", v_bar, size)
        if dv.shape != dw.shape:
            raise arguments.fault("v_bar", f"have the shape of w_bar, {dw.shape}", f"shape {dv.shape}")
        dm[:, 0] = dv
    return rows.copy(), dm
