"""The one place that chooses how the kernels are compiled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.extending import intrinsic

Function = Callable[..., Any]

_OPTIONS: dict[str, Any] = {
    "fastmath": False,  # not even `contract`: see the package's docstring
    "error_model": "numpy",  # the Python model's check of every division keeps loops from vectorising
    "boundscheck": False,
    "no_cfunc_wrapper": True,  # nobody calls kernels from C: 16 s of compilation become 14.3
    "_nrt": False,  # kernels own no memory, so they need not count references: W3 took 19 us a step with, 12 without
}


def _source_stamp() -> tuple[tuple[str, int, int], ...]:
    """Name, modification time and size of every source file of the kernels."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


_STAMP = _source_stamp()


def kernel(function: Function) -> Function:
    """Compile `function` lazily, one specialisation per dtype, cached on disk.

    Numba invalidates a cached function when its own file changes, but not when a file that it calls into does
    (https://numba.readthedocs.io/en/stable/developer/caching.html).  A stale half of a do/undo pair would be the worst
    of errors here, so the stamp of the index covers all of the kernels' files.
    """
    compiled: Function = numba.njit(function, cache=True, nogil=True, **_OPTIONS)
    with contextlib.suppress(AttributeError):  # Numba's own stamp then stands
        compiled._cache._cache_file._source_stamp = _STAMP  # type: ignore[attr-defined]
    return compiled


def inlined(function: Function) -> Function:
    """A helper that becomes part of its callers before they are compiled.

    For scalars, so that the loop around them vectorises, and for the walks that pass the tuples of structures.py on:
    compiled by itself, each of those took seconds, and again within each caller (42 s for a first call; so 13 s).
    """
    compiled: Function = numba.njit(function, inline="always", **_OPTIONS)
    return compiled


def primitive(function: Function) -> Function:
    """A Numba intrinsic: a function that writes the LLVM instructions of its call."""
    built: Function = intrinsic(function)
    return built
