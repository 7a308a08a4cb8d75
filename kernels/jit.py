"""The one place that chooses how the kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numba
from numba.extending import intrinsic

from . import code_cache
from .code_cache import config

try:
    from .linking import Compiler as _Compiler
except Exception:  # another Numba: its own takes nearly twice as long
    _Compiler = None  # type: ignore[assignment, misc]  # njit's own default

if config.DISABLE_JIT:
    raise ImportError(
        f"fastrev needs Numba's compiler, which NUMBA_DISABLE_JIT={config.DISABLE_JIT} switches off: its kernels are "
        "written in instructions that only compiled code has. Unset that variable and start Python again."
    )

Function = Callable[..., Any]

_OPTIONS: dict[str, Any] = {
    "fastmath": False,  # not even `contract`: see the package's docstring
    # the Python model's check of a division keeps loops from vectorising (`python -m bench.choices division`)
    "error_model": "numpy",
    "boundscheck": False,
    # nobody calls kernels from C: 16 s of compilation become 14.3 (`python -m bench.choices wrapper`)
    "no_cfunc_wrapper": True,
    # kernels own no memory, so need not count references: with it W3 takes 1.2 times as long (`python -m bench.choices
    # references`)
    "_nrt": False,
}


_names: set[tuple[str, str]] = set()


def kernel(function: Function) -> Function:
    """Compile `function` lazily, one specialisation per dtype, cached on disk under its name (code_cache.py)."""
    name = function.__module__, function.__qualname__
    if name in _names:
        raise ValueError(
            f"There is a kernel {'.'.join(name)} already, and the cache knows kernels by their names. Give this one "
            "another; and start a new process after an edit, as a reloaded module would be taken for the old one."
        )
    _names.add(name)
    compiled: Function = numba.njit(function, nogil=True, pipeline_class=_Compiler, **_OPTIONS)
    code_cache.attach(compiled)
    return compiled


def kernel_by(rule: ModuleType) -> Function:
    """`kernel` for a function that was written for any rule and is made for one: the name is of both."""

    def compiled(function: Function) -> Function:
        function.__name__ = function.__qualname__ = f"{function.__name__}_by_{rule.__name__.rpartition('.')[2]}"
        return kernel(function)

    return compiled


def inlined(function: Function) -> Function:
    """A helper that becomes part of its callers before they are compiled.

    For scalars, so that the loop around them vectorises, and for the walks that pass the tuples of structures.py on:
    compiled by itself, each of those takes seconds: a first call took 1.5 times as long, when each caller held a copy
    as well (`python -m bench.choices inlined`; 42 s and 13 s as kernels were first written).
    """
    compiled: Function = numba.njit(function, inline="always", **_OPTIONS)
    return compiled


def primitive(function: Function) -> Function:
    """A Numba intrinsic: a function that writes the LLVM instructions of its call."""
    built: Function = intrinsic(function)
    return built
