"""The one place that chooses how the kernels are compiled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])

# No fast-math, not even `contract`: see the package's docstring.  `numpy` errors, because the Python model's check of
# every division keeps loops from vectorising.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": False, "boundscheck": False, "_nrt": False}


def _source_stamp() -> tuple[tuple[str, int, int], ...]:
    """Name, modification time and size of every source file of the kernels."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


_STAMP = _source_stamp()


def kernel(function: F) -> F:
    """Compile `function` lazily, one specialisation per dtype, cached on disk.

    Numba invalidates a cached function when its own file changes, but not when a file that it calls into does
    (https://numba.readthedocs.io/en/stable/developer/caching.html).  A stale half of a do/undo pair would be the worst
    of errors here, so the stamp of the index covers all of the kernels' files.
    """
    compiled = numba.njit(function, cache=True, nogil=True, **_OPTIONS)
    with contextlib.suppress(AttributeError):  # Numba's own stamp then stands
        compiled._cache._cache_file._source_stamp = _STAMP
    return compiled


def inlined(function: F) -> F:
    """Compile a scalar helper that must be inlined for the loop around it to vectorise."""
    return numba.njit(function, inline="always", **_OPTIONS)
