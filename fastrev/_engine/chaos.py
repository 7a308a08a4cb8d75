"""Whether a meta-gradient means anything."""

from __future__ import annotations

import inspect
import os
import warnings
from pathlib import Path

import numpy as np

from fastrev._engine.types import FloatArray, Ints
from fastrev.errors import ChaosWarning

# How much the adjoint may grow on its way back.  Of three networks at 40 learning rates each, what a gradient by lr
# says of a change of lr by 0.1 % is off by 0.002 % in the median below this growth, and by half at most but once; above
# it is off by 74 % at least, and worth nothing (`python -m bench.choices chaos`)
CHAOTIC_GROWTH = 1e3


def guard(norms: FloatArray, at: Ints, reference: float) -> None:
    """Warn if the adjoint, of these norms before these steps, outgrew the norm that it began with.

    A product of T Jacobians grows exponentially where training is chaotic (Figure 2 of the paper), and
    norms of a few steps up or down say as much as all.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        exploded = ~(norms <= CHAOTIC_GROWTH * reference)  # also where it is NaN
    if not exploded[:-1].any() or reference == 0.0:
        return
    # the first from which on it is small enough
    step, end = int(at[1:][exploded[:-1]].max()), int(at[-1])
    largest = float(np.max(norms))
    growth = f"grew {largest / reference:.1g}-fold" if np.isfinite(largest) else "overflowed"
    advice = f", or differentiate through the last steps only: truncate={end - step}" if step < end else ""
    _warn(
        f"The meta-gradient {growth} on its way back through training. Training is chaotic at these learning rates: "
        f"the smallest changes decide how it ends, and the gradient by anything before step {step} is noise. "
        f"Lower lr, train for fewer steps{advice}."
    )


def _warn(message: str) -> None:
    """From the line that called the library."""
    package, level, frame = str(Path(__file__).parents[1]) + os.sep, 1, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, ChaosWarning, stacklevel=level)
