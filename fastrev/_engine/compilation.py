"""The very first call: two halves of the kernels are compiled at once.

Numba compiles one function at a time in a process, 13 s for a first meta-gradient; with the way back compiled by a
second process, into the cache on disk that both share, it is 8 s.  Whatever keeps the second process from working only
costs its gain: what it did not leave in the cache is compiled here.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fastrev._engine import evaluation
from fastrev._engine.architecture import Architecture
from fastrev._engine.problem import prepare
from fastrev._engine.threads import cores
from fastrev._engine.walk import Walk, WalkBack
from fastrev.kernels import adjoint

_pull: Any = adjoint.pull  # Numba's dispatcher
_helpers: dict[str, subprocess.Popen[bytes]] = {}


def begin(dtype: np.dtype[np.floating]) -> None:
    """Start the second process, if nothing is in the cache and there is a core for it."""
    if not _pull.overloads and dtype.name not in _helpers and not _cached() and _possible():
        command = [
            sys.executable,
            "-c",
            f"from fastrev._engine import compilation; compilation.way_back({dtype.name!r})",
        ]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        nothing = subprocess.DEVNULL
        with contextlib.suppress(OSError):  # a system that allows no processes
            _helpers[dtype.name] = subprocess.Popen(
                command, env=environment, stdin=nothing, stdout=nothing, stderr=nothing
            )


def finish(dtype: np.dtype[np.floating]) -> None:
    """Wait for what `begin` started."""
    if dtype.name in _helpers:
        _helpers[dtype.name].wait()


def way_back(dtype: str) -> None:
    """Compile what a meta-gradient needs after its training: the gradient by the weights, and no step back."""
    model = Architecture((1, 2), "tanh", "cross_entropy", dtype)
    w, x, y = np.zeros(model.num_params), np.zeros((1, 1)), np.zeros((1, 2))
    problem = prepare(
        model, w, train=(x, y), lr=0.0, decay=1.0, steps=1, batch_size=None, seed=0, batches=None, l2=0.0, v0=None,
        example_weights=None,
    )  # fmt: skip
    WalkBack(Walk(problem), w, w, (), one_thread=False).compile()
    trained = problem.trained
    evaluation.gradient(model, w.astype(model.dtype), trained.data, trained.examples, trained.l2)


def _cached() -> bool:
    return any(Path(_pull.stats.cache_path).glob("adjoint.pull-*.nbi"))


def _possible() -> bool:
    # an interpreter inside another program names that program as its executable
    return cores() > 1 and Path(sys.executable or "").name.startswith("python")
