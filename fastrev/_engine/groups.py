"""Parameter groups as slices that follow each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrev._engine import arguments
from fastrev._engine.types import Ints


def bounds_of(argument: str, groups: Any, size: int) -> tuple[tuple[str, ...], Ints]:
    """The names of the groups of `size` parameters, and the bounds (G + 1,) between them."""
    if groups is None:
        return ("all",), np.array([0, size])
    if not isinstance(groups, Mapping) or not groups:
        raise arguments.fault(argument, "map names to slices", repr(groups), "Leave it out for one group of all.")
    end, bounds = 0, [0]
    for name, where in groups.items():
        start, stop = _ends(where, size)
        if start != end or not start < stop <= size:
            raise arguments.fault(
                argument, f"be slices that follow each other from 0 to {size}, none empty",
                f"{name!r}: {where!r} after {end} parameters",
            )  # fmt: skip
        end = stop
        bounds.append(stop)
    if end != size:
        raise arguments.fault(argument, f"hold all {size} parameters", f"the first {end} only")
    return tuple(map(str, groups)), np.array(bounds)


def _ends(where: Any, size: int) -> tuple[int, int]:
    """Where a slice of `size` numbers begins and ends, which may be beyond them; -1, -1 for what is no such slice."""
    if not isinstance(where, slice) or where.step not in (None, 1):
        return -1, -1
    ends = 0 if where.start is None else where.start, size if where.stop is None else where.stop
    if not all(isinstance(each, int | np.integer) for each in ends):
        return -1, -1
    start, stop = (int(each) + size if each < 0 else int(each) for each in ends)
    return start, stop
