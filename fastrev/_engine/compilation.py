"""The very first call: two halves of the kernels are compiled at once.

Numba compiles one function at a time in a process, 25 s for a first meta-gradient; with most of the way back compiled
by a second process, into the cache on disk that both share, it is 13 s (`python -m bench.choices first`).  Whatever
keeps the second process from working only costs its gain: what it did not leave in the cache is compiled here.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from fastrev._engine import evaluation, mlp_objective, sgd
from fastrev._engine.architecture import Architecture
from fastrev._engine.compiled_walk import CompiledWalk, CompiledWalkBack
from fastrev._engine.settings import cores
from fastrev._engine.state import make_room, new_state
from fastrev.kernels import code_cache as cache
from fastrev.kernels import momentum
from fastrev.kernels.information_buffer import SCRATCH
from fastrev.kernels.rules import BY_MOMENTUM
from fastrev.kernels.structures import State

_TIME_LIMIT = 120.0  # seconds that a call waits for the second process, which needs 8
_SCRIPT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from fastrev._engine import compilation
compilation.way_back(sys.argv[2])
"""

_pull: Any = BY_MOMENTUM.pull  # Numba's dispatcher
_asked: set[np.dtype[np.floating]] = set()  # for which precisions the question arose, which it does once
_helpers: dict[np.dtype[np.floating], subprocess.Popen[bytes]] = {}
# Several threads may have their first call at once: one starts the second process, all wait for it
_one_at_a_time = threading.RLock()


def begin(dtype: np.dtype[np.floating] | None) -> None:
    """Start the second process, if nothing is in the cache and there is a core for it."""
    if dtype is None or dtype in _asked:  # without the lock, which an interrupt may leave with a thread for ever
        return
    with _one_at_a_time:
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


def finish(dtype: np.dtype[np.floating] | None) -> None:
    """Wait for what `begin` started, but not for ever; on Ctrl-C it ends as well."""
    if dtype is None or dtype not in _helpers:
        return
    with _one_at_a_time:
        if (helper := _helpers.get(dtype)) is None:
            return
        try:
            # of the way back the undo is left to this process, which has compiled the way there by now
            walk = _smallest_walk(dtype)
            walk.compile_undo(_zeros(walk.trained.num_params))
            with contextlib.suppress(subprocess.TimeoutExpired):
                helper.wait(_TIME_LIMIT)
        finally:
            _end(helper)
            _helpers.pop(dtype, None)


def way_back(dtype: str) -> None:
    """Compile what a meta-gradient needs after its training: the gradient by the weights, and no step back."""
    _compile_steps(np.dtype(dtype))
    walk = _smallest_walk(np.dtype(dtype))
    trained, w = walk.trained, np.zeros((1, walk.trained.num_params))
    CompiledWalkBack(walk, w, w[:, np.newaxis], (), one_thread=False).compile_pull()
    evaluation.loss_and_gradient(trained.model, w[0].astype(dtype), trained.data, trained.examples)


def _compile_steps(dtype: np.dtype[np.floating]) -> None:
    """The exact arithmetic, which the other process comes to last: so each finds on disk what the other began with."""
    state, g, scratch = _zeros(1), np.zeros(1, dtype), np.empty(SCRATCH)
    make_room(state.tail, 0, 1)
    buffer = state.moments[0], state.heads[0], state.tail, 0
    momentum.step_span(state.w, *buffer, g, 0.0, 1, 2, 0, 1, scratch)
    momentum.undo_velocity_of_span(*buffer, g, 1, 2, 0, 1, scratch)


def _zeros(size: int) -> State:
    return new_state(np.zeros(size, np.int64), np.zeros((1, size), np.int64))


def _smallest_walk(dtype: np.dtype[np.floating]) -> CompiledWalk:
    trained = mlp_objective.prepare(
        Architecture((1, 2), dtype=dtype), train=(np.zeros((1, 1)), np.zeros((1, 2))), batch_size=None, seed=0,
        batches=None, l2=0.0, example_weights=None,
    )  # fmt: skip
    return CompiledWalk(trained, sgd.prepare(0.0, 1.0, trained.bounds), 1)


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
