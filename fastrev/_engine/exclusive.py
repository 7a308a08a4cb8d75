"""What holds a reversible state: one call at a time, and copies that share nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np

from fastrev.errors import ReversalError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Holder = TypeVar("Holder", bound="Exclusive")


class Exclusive:
    """Base of the classes whose arrays kernels change in place, without the interpreter's lock."""

    def __init__(self) -> None:
        self._taken: dict[str, object] = {}  # "by" the call that is at work

    def _release(self, token: object) -> None:
        if self._taken.get("by") is token:
            self._taken.pop("by", None)

    def __copy__(self) -> Self:
        return copy.deepcopy(self)

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        """Arrays that come out of a pickle may not own their data, and cannot grow then."""
        self.__dict__.update({name: _own(value) for name, value in attributes.items()})
        self._taken = {}


def exclusive(
    method: Callable[Concatenate[Holder, Arguments], Result],
) -> Callable[Concatenate[Holder, Arguments], Result]:
    """Refuse a call while another is at work: of another thread, a signal's handler, or the caller's own gradient."""

    @wraps(method)
    def guarded(self: Holder, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        token = object()
        # released twice, for an interrupt may come in the first
        try:
            try:
                if self._taken.setdefault("by", token) is not token:
                    kind = type(self).__name__
                    raise ReversalError(
                        f"{kind}.{method.__name__} was called while another call is at work on the same {kind}. Let it "
                        "end first, or give each thread one of its own, as copy.deepcopy makes. Nothing has changed."
                    )
                return method(self, *args, **kwargs)
            finally:
                self._release(token)
        finally:
            self._release(token)

    return guarded


def _own(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value if value.flags.owndata else value.copy()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_own, value))
    return value
