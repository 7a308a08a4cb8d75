"""Tasks for whatever maps, and what all of them share, which a process is sent once.

The process that calls holds it under a token, where its threads find it, and children that are forked later.  Another
process answers that it does not have it.  Then some of those tasks are sent again with it, as many as there were
processes to answer so and at least twice as many as the time before, and the others without.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fastrev._engine.arguments import fault
from fastrev._engine.pooled import Stopped, at_work
from fastrev.errors import ArgumentError

_KEPT = 3  # things shared that a process keeps for calls to come
# Seconds that a process without the shared takes for its answer: meanwhile the others come to answer as well, and are
# known to be there.  One that answers at once could take every task before others look up.
_PAUSE = 0.005

_NOTHING = object()
_IMPORTED = uuid.uuid4().hex
_lent: dict[str, tuple[Any, threading.Event]] = {}  # by this process, to its threads and children
_received: dict[str, Any] = {}


@dataclass(frozen=True)
class Parcel:
    """One item to do."""

    token: str
    number: int
    item: Any
    attempt: int  # makes it another task than the last one, for a map that keeps results by what was asked
    shared: bytes | None = None


@dataclass(frozen=True)
class Done:
    """The result of the item of this number."""

    number: int
    result: Any


@dataclass(frozen=True)
class Missing:
    """Not done, for want of what is shared."""

    number: int
    process: str
    unreadable: str = ""  # why what was sent could not be read


class Lender:
    """Lends what all tasks share, from its beginning to its end."""

    def __init__(self, shared: Any) -> None:
        self.token, self._stop = uuid.uuid4().hex, threading.Event()
        self._shared = shared
        self._pickled: bytes | None = None
        self._by_value = False
        _lent[self.token] = shared, self._stop

    def end(self) -> None:
        """Tell threads that still work for it to stop, and let go of it."""
        self._stop.set()
        _lent.pop(self.token, None)

    def pickled(self) -> bytes:
        """It as bytes, made once."""
        if self._pickled is None:
            try:
                self._pickled = pickle.dumps(self._shared, pickle.HIGHEST_PROTOCOL)
            except Exception as error:
                self.pickle_by_value(_words(error))
        assert self._pickled is not None
        return self._pickled

    def pickle_by_value(self, why: str) -> None:
        """From now on send the code of local functions, or of a notebook's, too: where `pickle` failed, and why."""
        cloudpickle = None
        if not self._by_value:
            with contextlib.suppress(ModuleNotFoundError):
                cloudpickle = import_module("cloudpickle")
        if cloudpickle is None:
            raise _unsendable(why)
        try:
            self._pickled, self._by_value = cloudpickle.dumps(self._shared), True
        except Exception as error:
            raise _unsendable(_words(error)) from error


def do(function: Callable[[Any, Any], Any], parcel: Parcel) -> Done | Missing:
    """What threads and processes are given to call: ``function(shared, item)``, if what is shared is here."""
    shared, stop = _lent.get(parcel.token) or (_received.get(parcel.token, _NOTHING), threading.Event())
    if shared is _NOTHING:
        if parcel.shared is None:
            time.sleep(_PAUSE)
            return Missing(parcel.number, _this_process())
        try:
            shared = pickle.loads(parcel.shared)
        except Exception as error:
            return Missing(parcel.number, _this_process(), _words(error))
        _received[parcel.token] = shared
        for token in list(_received)[:-_KEPT]:
            _received.pop(token, None)
    try:
        with at_work(stop):
            return Done(parcel.number, function(shared, parcel.item))
    except Stopped:
        if not stop.is_set():
            raise  # it was another pool's, whose task this one is within
        return Missing(parcel.number, _this_process())  # nobody reads it; an exception could end somebody's thread


def _this_process() -> str:
    return f"{_IMPORTED} {os.getpid()}"  # the first differs between machines, the second between forked processes


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(". ")


def _unsendable(why: str) -> ArgumentError:
    return fault(
        "workers", "be an int, for threads, where the model or data cannot be sent to another process",
        f"a map onto processes ({why})",
        "Or define functions and classes at the top level of a module that those processes can import; or install "
        "cloudpickle here and there, which sends their code.",
    )  # fmt: skip
