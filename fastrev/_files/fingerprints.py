"""What a file was made with, by the names of arguments: a file of something else is refused by them."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from types import CodeType
from typing import Any

import numpy as np

from fastrev._engine import arguments


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
                found = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
                found.update(array.reshape(-1).view(np.uint8).data)  # without a copy
                return found.hexdigest()
    if isinstance(value, tuple | list):  # inputs and targets
        return repr([digest(each) for each in value])
    return type(value).__name__


def _text(part: object) -> str:
    """What makes a function's code, in the same words in every process."""
    if isinstance(part, CodeType):
        return f"{part.co_code.hex()} {part.co_names} {part.co_varnames} {[_text(each) for each in part.co_consts]}"
    return str(sorted(map(repr, part))) if isinstance(part, frozenset) else repr(part)


def require_same(name: str, path: Any, kept: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse a file that was made with other arguments; the one for its path is called `name`."""
    differs = [each for each in {**kept, **own} if kept.get(each) != own.get(each)]
    if differs:
        raise arguments.fault(
            name, "be of the same problem, or a new path",
            f"{str(path)!r}, which differs in {', '.join(map(repr, differs))}",
            "Pass the arguments that it was made with, or another path to begin anew.",
        )  # fmt: skip
