"""Arrays that begin with a line of the cache: vectors of 64 bytes lie across two lines from anywhere else.

An exact step takes 1.17 times as long on arrays that begin where NumPy lets large ones begin, 16 bytes after a line
(`python -m bench.choices lines`).
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

_LINE = 64  # bytes
_SMALL = 2**12  # bytes, below which it takes longer to look than it saves


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
    """As ``np.empty``."""
    size = prod(shape) * np.dtype(dtype).itemsize
    if size < _SMALL:
        return np.empty(shape, dtype)
    room = np.empty(size + _LINE, np.uint8)
    address = room.__array_interface__["data"][0]  # `ctypes` imports a module, which no interpreter that ends does
    start = -address % _LINE
    return room[start : start + size].view(dtype).reshape(shape)
