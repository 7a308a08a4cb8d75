"""The types that the machinery shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Floating = npt.NDArray[np.floating[Any]]  # float64 or float32: the precision of the gradient's arithmetic
Grid = npt.NDArray[np.int64]  # multiples of 2**-52
Ints = npt.NDArray[np.int64]
AnyArray = npt.NDArray[Any]
Fingerprint = dict[str, tuple[int | bytes, ...]]  # what tells whether it changed, by the argument's name
