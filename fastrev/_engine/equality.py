"""Results that hold arrays, compared as a whole: equal or not, and never an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

Class = TypeVar("Class", bound=type)


def compared_by_value(kind: Class) -> Class:
    """Let two of a dataclass or named tuple be equal if all their fields are, and have no hash, as arrays have none.

    Arrays and numbers are equal by shape and values, NaN to NaN, in lists, tuples and mappings too; what is neither and
    cannot be compared is equal to itself.  What ``field(compare=False)`` marks does not count.
    """
    kind.__eq__ = _equal  # type: ignore[method-assign, assignment]
    kind.__ne__ = _unequal  # type: ignore[method-assign, assignment]
    kind.__hash__ = None  # type: ignore[method-assign, assignment]
    return kind


def _equal(self: Any, other: Any) -> Any:
    if type(self) is not type(other):
        return False if isinstance(other, tuple) else NotImplemented  # whose own comparison has arrays for its truth
    try:
        return all(_same(getattr(self, name), getattr(other, name)) for name in _compared(self))
    except Exception:  # of a field that is no result of ours, such as a tensor, whose comparison has no truth
        return False


def _unequal(self: Any, other: Any) -> Any:
    found = _equal(self, other)
    return found if found is NotImplemented else not found


def _compared(result: Any) -> tuple[str, ...]:
    if is_dataclass(result):
        return tuple(each.name for each in fields(result) if each.compare)
    names: tuple[str, ...] = result._fields
    return names


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, list | tuple) and type(a) is type(b):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(each, b[name]) for name, each in a.items())
    if not (_is_numeric(a) and _is_numeric(b)):
        return not (_is_numeric(a) or _is_numeric(b)) and bool(a == b)
    x, y = np.asarray(a), np.asarray(b)
    return x.shape == y.shape and bool(np.all((x == y) | ((x != x) & (y != y))))


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | float | int)
