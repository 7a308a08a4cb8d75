"""What a thread has worked in, for its next call to work in.

To make the arrays that kernels need takes 26 of the 254 us of a call of one tiny step, and after a rest 50 of 960
(`python -m bench.calls`).  Whoever is done with his, and alone with them, gives them back and works in them no more;
where an interrupt or an error comes first, nobody gives them back.  So what is lent is nobody else's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Scratch = TypeVar("Scratch")

_MOST = 16  # that a thread keeps


class _Here(threading.local):
    def __init__(self) -> None:
        self.free: dict[Hashable, Any] = {}


_here = _Here()


def lent(kind: Hashable, make: Callable[[], Scratch]) -> Scratch:
    """What was given back of this kind, with whatever is in it, or else what `make` makes."""
    found: Scratch | None = _here.free.pop(kind, None)
    return make() if found is None else found


def give_back(kind: Hashable, scratch: object) -> None:
    """Have it lent again, and forget what was given back longest ago."""
    free = _here.free
    free[kind] = scratch
    if len(free) > _MOST:
        free.pop(next(iter(free)), None)
