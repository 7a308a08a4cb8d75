"""Where the outer loop stands, on disk: what is killed goes on to the same bits."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from fastrev._engine.types import AnyArray
from fastrev._engine.version import __version__
from fastrev._files import files
from fastrev._files.fingerprints import require_same
from fastrev._tuning.account import History
from fastrev._tuning.adam import Moments
from fastrev._tuning.loop import Descent, Plan, Progress
from fastrev.errors import ArgumentError

_REST = 1.0  # seconds between two writings, which a disk may take 10 ms for
_ARRAYS = ("z", "best")
_NUMBERS = tuple(each.name for each in fields(Progress) if each.name not in (*_ARRAYS, "moments", "history"))


def check(path: Any) -> None:
    """Refuse a path that could not be written to later."""
    files.writable(path, "checkpoint")


def plan_fingerprint(plan: Plan) -> dict[str, str]:
    """Of each of its numbers, by the name of the argument."""
    return {each.name: repr(getattr(plan, each.name)) for each in fields(plan)}


class Keeper:
    """Writes now and then, and restores."""

    def __init__(self, path: Any, fingerprint: Mapping[str, str]) -> None:
        self._path, self._fingerprint = path, {**fingerprint, "fastrev": __version__}
        self._written_at, self._nit = -np.inf, -1
        self._warned = False

    def restore(self, descent: Descent) -> None:
        """Go on from the file, if there is one."""
        if self._path is None or not Path(self._path).exists():
            return
        _, about, arrays = files.read(self._path, files.TUNING_CHECKPOINT, "checkpoint")
        with files.as_written(self._path, "checkpoint"):
            kept = dict(about["fingerprint"])
        require_same("checkpoint", self._path, kept, self._fingerprint)
        with files.as_written(self._path, "checkpoint"):
            restored = _progress(about, arrays, descent.progress.z.shape)
        vars(descent.progress).update(vars(restored))
        self._nit = restored.nit

    def keep(self, descent: Descent, *, last: bool = False) -> None:
        """Write, if it is time."""
        progress = descent.progress
        due = last or time.monotonic() - self._written_at >= _REST
        if self._path is None or not due or progress.nit == self._nit:
            return
        about = {
            "fingerprint": self._fingerprint,
            "progress": {name: getattr(progress, name) for name in _NUMBERS},
            "moments": progress.moments.steps,
        }
        arrays = {
            **{name: getattr(progress, name) for name in _ARRAYS},
            "mean": progress.moments.mean,
            "square": progress.moments.square,
            **{f"history.{name}": np.array(progress.history[name]) for name in History._fields},
        }
        try:
            files.write(self._path, files.TUNING_CHECKPOINT, about, arrays, "checkpoint")
        except ArgumentError as error:  # what was learned is worth more than the file
            self._written_at = time.monotonic()
            if not self._warned:
                self._warned = True
                warnings.warn(f"The checkpoint is not written, and the loop goes on: {error}", RuntimeWarning, 2)
            return
        self._written_at, self._nit = time.monotonic(), progress.nit


def _progress(about: Mapping[str, Any], arrays: Mapping[str, AnyArray], shape: tuple[int, ...]) -> Progress:
    """What `Keeper.keep` wrote of a loop over numbers of this shape, or a ValueError."""
    vectors = [arrays[name] for name in (*_ARRAYS, "mean", "square")]
    history = {name: arrays[f"history.{name}"] for name in History._fields}
    numbers = {name: about["progress"][name] for name in _NUMBERS}
    whole = [about["moments"], *(numbers[each.name] for each in fields(Progress) if type(each.default) is int)]
    if (
        any(each.shape != shape or each.dtype != np.float64 for each in vectors)
        or {each.shape for each in history.values()} != {(len(history["loss"]),)}
        or not all(type(each) in (int, float) for each in numbers.values())
        or not all(type(each) is int and each >= 0 for each in whole)
    ):
        raise ValueError("it is of another shape or type")
    z, best, mean, square = vectors
    lists = {name: each.tolist() for name, each in history.items()}
    return Progress(z=z, best=best, moments=Moments(mean, square, about["moments"]), history=lists, **numbers)
