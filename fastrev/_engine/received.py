"""What came in place of an array of numbers: read if it can be, named with what to pass instead if not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import chain
from numbers import Number, Real
from typing import Any

import numpy as np
import numpy.typing as npt

_LONGEST = 80  # characters of a value that a message quotes
_MOST = "1.8e308"  # of float64


class UnreadableError(ValueError):
    """What is no array.  Its text says what came, `remedy` what to pass, `ragged` whether only rows differ."""

    def __init__(self, received: str, remedy: str, *, ragged: bool = False) -> None:
        super().__init__(received)
        self.remedy, self.ragged = remedy, ragged

    @property
    def in_full(self) -> str:
        """What came, and what to pass: the end of a message, without its full stop."""
        return f"{self}. {self.remedy}".rstrip(". ")


def plain(value: object) -> npt.NDArray[Any]:
    """An array of whatever it is, or an `UnreadableError`.  bfloat16 becomes float64, which loses nothing."""
    array = value if type(value) is np.ndarray else np.asarray(value) if type(value) is float else _read(value)
    if array.dtype.kind == "V" and array.dtype.names is None and np.can_cast(array.dtype, np.float64):
        return array.astype(np.float64)
    return array


def shown(value: object) -> str:
    """A value as a message quotes it: on one line, and not a million digits of it."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an int of more digits than Python prints
        return named(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def named(value: object) -> str:
    """What kind of thing it is."""
    name = type(value).__name__
    return f"a{'n' if name.startswith((*'aeiouAEIO', 'nd', 'MLP')) else ''} {name}"


def not_real(value: object, array: npt.NDArray[Any], dtype: str = "float64") -> tuple[str, str]:
    """What came in place of real numbers, and what to pass instead."""
    if hasattr(value, "toarray"):  # of scipy.sparse
        return f"a sparse {type(value).__name__}", "Pass .toarray() of it."
    if value is None:
        return "None", "Pass numbers."
    kind = array.dtype.kind
    if kind == "O":
        one = not array.ndim and not isinstance(value, np.ndarray)
        return (named(value), _in_place_of(value, dtype)) if one else _objects(value, array, dtype)
    if kind in "SU":
        return f"of dtype {array.dtype}", _in_place_of_text(value, array, dtype)
    if kind == "b" and not array.ndim:
        return f"of dtype {array.dtype}", "Pass a number."
    if array.dtype.names:
        columns = "numpy.lib.recfunctions.structured_to_unstructured"
        return "of structured dtype", f"Pass its fields as columns of one array, as {columns} makes them."
    return f"of dtype {array.dtype}", _REMEDIES.get(kind, _cast(value, dtype))


_REMEDIES = {
    "V": "Raw bytes stand for no numbers.",
    "c": "Pass its .real, or its parts as numbers of their own.",
    "m": "Pass it in one unit: x / np.timedelta64(1, 's').",
    "M": "Pass the time since one date, in one unit: (x - x.min()) / np.timedelta64(1, 'D').",
}


def not_whole(value: object, array: npt.NDArray[Any]) -> tuple[str, str]:
    """What came in place of whole numbers, and what to pass instead."""
    if array.dtype.kind == "f":
        return f"of dtype {array.dtype}", _cast(value, "int64")
    if array.dtype.kind == "b" and array.ndim:
        return f"of dtype {array.dtype}", "Pass numbers: np.flatnonzero gives those of a mask."
    return not_real(value, array, "int64")


def is_missing(value: object) -> bool:
    """Whether it stands for what is not there."""
    if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    return isinstance(value, Real | np.generic) and bool(value != value)  # NaN, and NaT of NumPy


def fits(number: Any) -> bool:
    """Whether a real number is one in float64."""
    try:
        float(number)
    except (OverflowError, TypeError, ValueError):
        return False
    return True


def _read(value: object) -> npt.NDArray[Any]:
    if getattr(value, "requires_grad", False) is True:  # of PyTorch
        raise UnreadableError(f"{named(value)} that requires grad", "Pass .detach() of it.")
    if "Tracer" in type(value).__name__:  # of JAX
        remedy = (
            "Call fastrev outside of what JAX traces; fastrev.interop.jax.validation_loss is what JAX differentiates."
        )
        raise UnreadableError(f"{named(value)}, whose values are not known yet", remedy)
    try:
        array = np.asarray(_widened(value))
    except MemoryError:
        raise
    except Exception as error:  # of a framework that does not hand it over, or whatever else an __array__ does
        if not isinstance(value, list | tuple):
            what = f"{named(value)}: {str(error).rstrip('.')}"
            raise UnreadableError(what, "Pass its values as a NumPy array.") from None
        if any(getattr(each, "requires_grad", False) is True for each in value):
            raise UnreadableError(f"{named(value)} of tensors that require grad", "Pass .detach() of each.") from None
        if isinstance(error, np.ma.MaskError | UserWarning):  # which NumPy's masked numbers are for a list
            raise _masked() from None
        if isinstance(error, ValueError):
            raise UnreadableError("a ragged sequence", "Pass rows of equal length.", ragged=True) from None
        raise UnreadableError(f"{named(value)}: {str(error).rstrip('.')}", "Pass one array of its numbers.") from None
    if _holds_masked(value, array):
        raise _masked()
    return array


def _masked() -> UnreadableError:
    return UnreadableError(
        "a masked array with masked elements, which stand for no number: fill them in with .filled()", ""
    )


def _holds_masked(value: object, array: npt.NDArray[Any]) -> bool:
    """Whether it is, or a list of lists holds, a masked array with masked elements, whose mask is lost in `array`.

    Level by level, and without the numbers themselves where none of them is NaN, as NumPy makes of one that is masked:
    0.5 ms for a list (20000, 64), which NumPy reads in 21, and 4 ms for one (200000, 3), which it reads in 26.
    """
    if not isinstance(value, list | tuple | np.ma.MaskedArray):
        return False
    level: list[Any] = [value]
    for depth in range(max(1, array.ndim) + (array.dtype.kind == "f" and bool(np.isnan(array).any()))):
        if depth:
            level = list(chain.from_iterable(each for each in level if isinstance(each, list | tuple)))
        there = any(issubclass(kind, np.ma.MaskedArray) for kind in set(map(type, level)))
        if there and any(isinstance(each, np.ma.MaskedArray) and _is_masked(each) for each in level):
            return True
    return False


def _is_masked(array: np.ma.MaskedArray[Any, Any]) -> bool:
    """Whether any element is masked, or any field of one."""
    return bool(np.ascontiguousarray(np.ma.getmaskarray(array)).view(np.bool_).any())


def _widened(value: Any) -> Any:
    """A tensor of 16 or 8 bits of PyTorch that NumPy has no dtype for in float64, anything else as it is."""
    return value.double() if str(getattr(value, "dtype", "")).startswith(("torch.bfloat16", "torch.float8")) else value


def _in_place_of(value: Any, dtype: str) -> str:
    """What to pass in place of one object."""
    if hasattr(value, "w"):  # a run, or what it returned
        return "Pass its w."
    if isinstance(value, Number | Decimal):
        return f"Pass {dtype.removesuffix('64')}() of it." if fits(value) else f"Pass a number below {_MOST}."
    if isinstance(value, Iterator):
        return "Pass a list of what it yields."
    if callable(value) and not isinstance(value, type):
        return "Pass the numbers that it returns."
    return "Pass its values as an array."


def _objects(value: object, array: npt.NDArray[Any], dtype: str) -> tuple[str, str]:
    """The first element that is no real number, and what to do about it."""
    for i, each in enumerate(array.flat):
        if isinstance(each, Real | Decimal | np.bool_) and fits(each):
            continue
        at = f" at {[int(k) for k in np.unravel_index(i, array.shape)]}" if array.ndim else ""
        return f"of dtype object, with {shown(each)}{at}", _in_place_of_element(each)
    return "of dtype object", _cast(value, dtype)


def _in_place_of_element(value: object) -> str:
    if is_missing(value):
        return "Remove or fill in what is missing."
    if isinstance(value, str | bytes):
        return "Strings stand for no numbers: encode them first."
    if isinstance(value, Real):
        return f"Pass numbers below {_MOST}."
    if isinstance(value, Mapping) or not hasattr(value, "__len__"):
        return "Pass numbers."
    return "Pass one array of numbers, its rows of equal length."


def _in_place_of_text(value: object, array: npt.NDArray[Any], dtype: str) -> str:
    try:
        float(array.reshape(-1)[0])
    except (ValueError, IndexError):
        return "Strings stand for no numbers: encode them first." if array.ndim else "Pass numbers."
    return _cast(value, dtype) if array.ndim else f"Pass {dtype.removesuffix('64')}() of it."


def _cast(value: object, dtype: str) -> str:
    """How to convert what has a dtype, if it can be converted by itself."""
    if hasattr(value, "astype"):
        return f"Convert it with .astype(np.{dtype})."
    if callable(getattr(value, "double", None)):  # of PyTorch
        return f"Convert it with .{'double' if dtype == 'float64' else 'long'}()."
    return f"Convert it with np.array(..., np.{dtype})."
