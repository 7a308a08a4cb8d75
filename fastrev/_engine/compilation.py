"""The very first call: two halves of the kernels are compiled at once.

Numba compiles one function at a time in a process, 13 s for a first meta-gradient; with most of the way back compiled
by a second process, into the cache on disk that both share, it is 8 s (`python -m bench.choices first`).  Whatever
keeps the second process from working only costs its gain: what it did not leave in the cache is compiled here.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fastrev._engine import evaluation
from fastrev._engine.architecture import Architecture
from fastrev._engine.problem import prepare
from fastrev._engine.settings import cores
from fastrev._engine.walk import Walk, WalkBack
from fastrev.kernels import adjoint
from fastrev.kernels import code_cache as cache

_TIME_LIMIT = 120.0  # seconds that a call waits for the second process, which needs 8
_SCRIPT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from fastrev._engine import compilation
compilation.way_back(sys.argv[2])
"""

_pull: Any = adjoint.pull  # Numba's dispatcher
_asked: set[np.dtype[np.floating]] = set()  # for which precisions the question arose, which it does once
_helpers: dict[np.dtype[np.floating], subprocess.Popen[bytes]] = {}


def begin(dtype: np.dtype[np.floating]) -> None:
    """Start the second process, if nothing is in the cache and there is a core for it."""
    if dtype in _asked:
        return
    _asked.add(dtype)
    with contextlib.suppress(Exception):  # such as of a system that allows no processes
        if not _compiled(dtype) and _possible():
            search = json.dumps([str(place) for place in sys.path])
            nothing = subprocess.DEVNULL
            _helpers[dtype] = subprocess.Popen(
                [sys.executable, "-c", _SCRIPT, search, dtype.name], stdin=nothing, stdout=nothing, stderr=nothing
            )


def finish(dtype: np.dtype[np.floating]) -> None:
    """Wait for what `begin` started, but not for ever; on Ctrl-C it ends as well."""
    if helper := _helpers.pop(dtype, None):
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                helper.wait(_TIME_LIMIT)
        finally:
            _end(helper)


def way_back(dtype: str) -> None:
    """Compile what a meta-gradient needs after its training: the gradient by the weights, and no step back."""
    model = Architecture((1, 2), dtype=dtype)
    w, x, y = np.zeros(model.num_params), np.zeros((1, 1)), np.zeros((1, 2))
    problem = prepare(
        model, w, train=(x, y), lr=0.0, decay=1.0, steps=1, batch_size=None, seed=0, batches=None, l2=0.0, v0=None,
        example_weights=None,
    )  # fmt: skip
    WalkBack(Walk(problem), w, w, (), one_thread=False).compile_pull()
    trained = problem.trained
    evaluation.gradient(model, w.astype(model.dtype), trained.data, trained.examples, trained.l2)


def _compiled(dtype: np.dtype[np.floating]) -> bool:
    here = any(cache.precision(types) == dtype.name for types in _pull.overloads)
    return here or cache.holds(_pull, dtype.name)


def _possible() -> bool:
    return cores() > 1 and _is_python() and _pull.stats.cache_path is not None and cache.writable()


def _is_python() -> bool:
    """Whether the executable is an interpreter: that of a program with one inside would start the program again."""
    name = Path(sys.executable or "").name
    return not getattr(sys, "frozen", False) and re.fullmatch(r"(?i)pythonw?[\d.]*[a-z]?(\.exe)?", name) is not None


def _end(helper: subprocess.Popen[bytes]) -> None:
    helper.kill()  # nothing, if it has ended
    helper.wait()


@atexit.register
def _end_all() -> None:
    """Leave no process behind where there was training only."""
    for helper in _helpers.values():
        _end(helper)
