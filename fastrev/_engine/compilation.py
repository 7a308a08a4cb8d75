"""The very first call: two halves of the kernels are compiled at once.

Numba compiles one function at a time in a process, 22 s for a first meta-gradient; with most of the way back compiled
by a second process, into the cache on disk that both share, it is 12 s (`python -m bench.choices first`).  Whatever
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
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fastrev._engine import announcing, evaluation, mlp_objective
from fastrev._engine.architecture import Architecture
from fastrev._engine.compiled_walk import CompiledWalk, CompiledWalkBack
from fastrev._engine.rule import Rule
from fastrev._engine.settings import cores
from fastrev._engine.state import new_state
from fastrev.kernels import code_cache as cache
from fastrev.kernels.structures import State

_TIME_LIMIT = 120.0  # seconds that a call waits for the second process, which needs 8
_SCRIPT = """
import gc, json, sys
gc.disable()
sys.path[:] = json.loads(sys.argv[1])
from fastrev._engine import compilation
compilation.way_back(*sys.argv[2:])
"""

_Which = tuple[np.dtype[np.floating], type[Rule]]  # precision, and by which steps are made
_asked: set[_Which] = set()  # for which the question arose, which it does once
_helpers: dict[_Which, subprocess.Popen[bytes]] = {}
# Several threads may have their first call at once: one starts the second process, all wait for it
_one_at_a_time = threading.RLock()


def begin(dtype: np.dtype[np.floating] | None, rule: type[Rule]) -> None:
    """If nothing is in the cache, say so, and start the second process if there is a core for it."""
    # without the lock, which an interrupt may leave with a thread for ever
    if dtype is None or (dtype, rule) in _asked:
        return
    with _one_at_a_time:
        if (dtype, rule) in _asked:
            return
        _asked.add((dtype, rule))
        with contextlib.suppress(Exception):  # such as of a system that allows no processes
            if _compiled(dtype, rule):
                return
            announcing.begin(dtype.name + (", once on this machine" if cache.writable() else ""))
            if _possible(rule):
                search = json.dumps([str(place) for place in sys.path])
                nothing = subprocess.DEVNULL
                _helpers[dtype, rule] = subprocess.Popen(
                    [sys.executable, "-c", _SCRIPT, search, dtype.name, rule.__module__, rule.__name__],
                    stdin=nothing, stdout=nothing, stderr=nothing,
                )  # fmt: skip


def finish(dtype: np.dtype[np.floating] | None) -> None:
    """Wait for what `begin` started in this precision, but not for ever; on Ctrl-C it ends as well."""
    if not _helpers or all(which[0] != dtype for which in list(_helpers)):
        return
    with _one_at_a_time:
        for which in [each for each in _helpers if each[0] == dtype]:
            helper = _helpers[which]
            try:
                # of the way back the undo is left to this process, which has compiled the way there by now
                walk = _smallest_walk(*which)
                walk.compile_undo(_zeros(walk))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    helper.wait(_TIME_LIMIT)
            finally:
                _end(helper)
                _helpers.pop(which, None)


def way_back(dtype: str, room: str, name: str) -> None:
    """Compile what a meta-gradient needs after its training: the gradient by the weights, and no step back."""
    precision, rule = np.dtype(dtype), getattr(import_module(room), name)
    rule.compile_steps(precision)
    walk = _smallest_walk(precision, rule)
    trained, w = walk.trained, np.zeros((1, walk.trained.num_params))
    moments = np.zeros((1, len(rule.moments), w.size))
    CompiledWalkBack(walk, w, moments, (), one_thread=False).compile_pull()
    evaluation.loss_and_gradient(trained.model, w[0].astype(dtype), trained.data, trained.examples)


def _zeros(walk: CompiledWalk) -> State:
    size, rule = walk.trained.num_params, walk.rule
    return new_state(np.zeros(size, np.int64), np.zeros((len(rule.moments), size), np.int64), shrinks=rule.shrinks)


def _smallest_walk(dtype: np.dtype[np.floating], rule: type[Rule]) -> CompiledWalk:
    trained = mlp_objective.prepare(
        Architecture((1, 2), dtype=dtype), train=(np.zeros((1, 1)), np.zeros((1, 2))), batch_size=None, seed=0,
        batches=None, l2=0.0, example_weights=None,
    )  # fmt: skip
    return CompiledWalk(trained, rule.smallest(trained.bounds), 1)


def _compiled(dtype: np.dtype[np.floating], rule: type[Rule]) -> bool:
    pull = _pull(rule)
    here = any(cache.precision(types) == dtype.name for types in pull.overloads)
    return here or cache.holds(pull, dtype.name)


def _possible(rule: type[Rule]) -> bool:
    return cores() > 1 and _is_python() and _pull(rule).stats.cache_path is not None and cache.writable()


def _pull(rule: type[Rule]) -> Any:
    """Numba's dispatcher."""
    return rule.walks.pull


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
