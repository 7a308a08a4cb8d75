"""How many threads walk through a kernel together, each with its share (kernels/team.py), and where the shares end."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise
from typing import TypeVar

import numpy as np

from fastrev._engine.architecture import Architecture
from fastrev._engine.companion import Companion, in_company, present
from fastrev._engine.settings import one_thread
from fastrev.kernels import handover
from fastrev.kernels.structures import Team

Result = TypeVar("Result")

_NOBODYS = np.zeros(handover.PROGRESS, np.int64)  # the progress of those who have nobody to tell of it
_LINE = 16  # elements: a share begins with a cache line in both precisions, and the checksum of one with a whole word
_LEAST = 256  # parameters that are cut in two
# Multiply-adds of a step, or of all passes, from which on a second thread pays: below, what the two need of each other
# takes longer than what it saves, or than it takes to wake (`python -m bench.choices sharing`)
WORTH_A_STEP, WORTH_A_CALL = 1.2e6, 2e7


def cut_of(model: Architecture) -> int:
    """The parameter at which the second of two about equal shares begins, a row of some weights; 0 for no second.

    It depends on the model alone: a state is made and undone with the same shares, whoever does them.
    """
    return _cut_of(model.sizes, model.num_params)


@lru_cache(maxsize=256)  # to find it takes 20 to 40 us, and a meta-gradient asks twice
def _cut_of(sizes: tuple[int, ...], size: int) -> int:
    start, found = 0, 0
    if size < _LEAST:
        return 0
    for a, b in pairwise(sizes):
        at = start + b * np.arange(a + 2)
        at = at[at % _LINE == 0]
        if at.size:
            nearest = int(at[np.argmin(np.abs(2 * at - size))])
            found = min(found, nearest, key=lambda each: abs(2 * each - size))
        start += (a + 1) * b
    return found


def size_for(work: float) -> int:
    """How many threads are to do so many multiply-adds: one where two have found that the cores are not there."""
    companion = present()
    crowded = companion is not None and companion.crowded
    return 1 if crowded or one_thread(work) else 2


def size_to_share(model: Architecture, work: float, worth: float) -> int:
    """The same for a kernel that they walk through together."""
    return size_for(work) if work >= worth and cut_of(model) else 1


def part() -> None:
    """Let all that follows in this call be done by one thread."""
    companion = present()
    if companion is not None:
        companion.crowded = True


def alone(cut: int = 0) -> Team:
    """A team of one."""
    return Team(0, 1, cut, _NOBODYS)


def together(cut: int, size: int, walk: Callable[[Team], Result]) -> Result:
    """Have so many threads do the same, and return what this one found."""
    if size == 1:
        return walk(alone(cut))

    def both(companion: Companion) -> Result:
        own, other = (partial(walk, Team(me, 2, cut, companion.progress)) for me in range(2))
        return companion.join(own, other)

    return in_company(both)
