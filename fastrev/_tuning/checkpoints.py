"""Where the outer loop stands, on disk: what is killed goes on to the same bits."""

from __future__ import annotations

import hashlib
import inspect
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

from fastrev._engine import arguments
from fastrev._engine.version import __version__
from fastrev._files import files
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


def digest(value: Any) -> str:
    """Of one argument, arrays by their bits, functions by their names and code, though not by what that refers to."""
    if isinstance(value, np.generic):
        value = value.item()  # a number is the same from wherever it comes
    if value is None or isinstance(value, str | int | float | bool):
        return repr(value)
    if isinstance(value, partial):
        given = sorted((name, digest(each)) for name, each in value.keywords.items())
        return repr((digest(value.func), [digest(each) for each in value.args], given))
    if callable(value):
        function = inspect.unwrap(value)
        code = getattr(function, "__code__", None)
        name = str(getattr(function, "__qualname__", type(value).__name__))
        return f"{name} {hashlib.sha256(_text(code).encode()).hexdigest()}" if isinstance(code, CodeType) else name
    if isinstance(value, tuple | list | np.ndarray) or hasattr(value, "__array__"):
        with suppress(Exception):  # of what is no array, or will not be one
            array = np.ascontiguousarray(value)
            if array.dtype != object:
                return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()
    if isinstance(value, tuple | list):  # inputs and targets
        return repr([digest(each) for each in value])
    return type(value).__name__


def _text(part: object) -> str:
    """What makes a function's code, in the same words in every process."""
    if isinstance(part, CodeType):
        return f"{part.co_code.hex()} {part.co_names} {part.co_varnames} {[_text(each) for each in part.co_consts]}"
    return str(sorted(map(repr, part))) if isinstance(part, frozenset) else repr(part)


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
        kept = about["fingerprint"]
        differs = [each for each in {**kept, **self._fingerprint} if kept.get(each) != self._fingerprint.get(each)]
        if differs:
            raise arguments.fault(
                "checkpoint", "be of the same problem, or a new path",
                f"{str(self._path)!r}, which differs in {', '.join(map(repr, differs))}",
                "Pass the arguments that it was made with, or another path to begin anew.",
            )  # fmt: skip
        progress = descent.progress
        for name in _NUMBERS:
            setattr(progress, name, about["progress"][name])
        for name in _ARRAYS:
            setattr(progress, name, arrays[name])
        progress.moments = Moments(arrays["mean"], arrays["square"], about["moments"])
        progress.history = {name: arrays[f"history.{name}"].tolist() for name in History._fields}
        self._nit = progress.nit

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
