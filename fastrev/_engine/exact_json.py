"""Plain Python data as JSON text that brings every bit of it back.

JSON in Python keeps the bits of finite floats, infinities and the usual NaN.  NaNs of other bits are listed beside the
data, by where they are and what they are.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from fastrev._engine.arguments import fault

_DEPTH = 100  # of lists and dicts within each other: far from where Python's own recursion ends
_NAN = struct.pack(">d", float("nan"))
# Text need not be proper Unicode: half a surrogate pair stands for a byte in the name of a file
_ENCODING = "utf-8", "surrogatepass"

Place = tuple[str | int, ...]


def encode(name: str, value: object, beside: Mapping[str, object]) -> bytes:
    """The text of an object with `beside`, and `value` under this name.

    Parameters
    ----------
    value
        Dicts with keys that are str, lists, str, int, float, bool and None.  A tuple becomes a list.
    beside
        More for the object, of which nothing has to be checked.

    Raises
    ------
    ArgumentError
        If there is anything else in `value`; it says where.
    """
    nans: list[tuple[Place, str]] = []
    whole = {**beside, name: _plain(name, value, (), nans), "nans": nans}
    try:
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode(*_ENCODING)
    except ValueError as error:  # of more than 4300 digits
        raise fault(name, "hold ints that can be written out", str(error)) from error


def decode(name: str, text: bytes) -> dict[str, Any]:
    """The object.  Raises what comes of a text of other origin: ValueError, LookupError, TypeError, RecursionError."""
    whole: dict[str, Any] = json.loads(text.decode(*_ENCODING))
    for place, bits in whole.pop("nans"):
        node, last = whole, name
        for key in place:
            node, last = node[last], key
        (node[last],) = struct.unpack(">d", bytes.fromhex(bits))
    return whole


def _plain(name: str, value: object, place: Place, nans: list[tuple[Place, str]]) -> Any:
    if len(place) > _DEPTH:
        raise fault(name, f"be nested at most {_DEPTH} deep", "deeper", "It may hold itself.")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        bits = struct.pack(">d", value)
        if value != value and bits != _NAN:
            nans.append((place, bits.hex()))
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(name, each, (*place, i), nans) for i, each in enumerate(value)]
    where = "".join(f"[{key!r}]" for key in place)
    if not isinstance(value, dict):
        came = f"a {type(value).__name__} at {name}{where}"
        raise fault(name, "hold dicts, lists, str, int, float, bool and None", came, "Arrays belong in `arrays`.")
    for key in value:
        if not isinstance(key, str):
            raise fault(name, "have keys that are str", f"{key!r} in {name}{where}")
    return {str(key): _plain(name, each, (*place, key), nans) for key, each in value.items()}
