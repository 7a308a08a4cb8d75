"""Compilation that Ctrl-C ends."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

_compiled: set[tuple[str, type, np.dtype[np.floating[Any]]]] = set()
# As Numba compiles, and so that each puts back the hook that it found; a signal's handler may come to it again
_one_at_a_time = threading.RLock()


def compile_here(name: str, rule: object, dtype: np.dtype[np.floating[Any]], call: Callable[[], object]) -> None:
    """Make the first call of a kernel for this rule in this precision, for no steps; afterwards there is nothing to do.

    An exception in what LLVM calls back to hand over its code is printed and forgotten, and a Ctrl-C would be as well.
    """
    which = name, type(rule), dtype
    if which in _compiled:
        return
    with _one_at_a_time:
        missed = []
        hook = sys.unraisablehook

        def keep(unraisable: Any) -> None:
            if issubclass(unraisable.exc_type, KeyboardInterrupt):
                missed.append(unraisable.exc_value)
            else:
                hook(unraisable)

        sys.unraisablehook = keep
        try:
            call()
        finally:
            sys.unraisablehook = hook
        if missed:
            raise KeyboardInterrupt
        _compiled.add(which)
