"""Checks of arguments.  Every message names the argument, what it must be, what came, and what to pass."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine.received import UnreadableError, fits, plain
from fastrev._engine.received import is_missing as is_missing
from fastrev._engine.received import named as named
from fastrev._engine.received import not_real as not_real
from fastrev._engine.received import not_whole as not_whole
from fastrev._engine.received import shown as shown
from fastrev.errors import ArgumentError
from fastrev.kernels.checks import all_finite
from fastrev.kernels.fixed_point import LIMIT


def fault(name: str, requirement: str, received: object, remedy: str = "") -> ArgumentError:
    """The error for one argument, to be raised by the caller."""
    advice = f" {remedy}" if remedy else ""
    return ArgumentError(f"Argument '{name}' must {requirement}, not {received}.{advice}")


_LARGEST = 2**40  # numbers: such an array repeats a few, and no copy of it fits into memory


class ArgumentsError(ArgumentError):
    """Of arguments each of which is fine by itself, but not with the others."""


def fault_of_several(name: str, requirement: str, received: object, remedy: str = "") -> ArgumentsError:
    """The error for one argument beside others, to be raised by the caller."""
    return ArgumentsError(str(fault(name, requirement, received, remedy)))


def reason(error: Exception) -> str:
    """What went wrong, without number and path, which a message names in its own way."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def as_array(name: str, value: object) -> npt.NDArray[Any]:
    """An array of whatever it is."""
    try:
        array = plain(value)
    except UnreadableError as error:
        what = "be a rectangular array" if error.ragged else "be an array of numbers"
        raise fault(name, what, str(error), error.remedy) from None
    if array.size > _LARGEST:
        raise fault(name, "fit into memory", f"of shape {array.shape}", "Pass an array that is not broadcast.")
    return array


def real_array(
    name: str,
    value: object,
    dtype: npt.DTypeLike = np.float64,
    *,
    own: bool = False,
    remedy: str = "Pass finite numbers.",
) -> npt.NDArray[Any]:
    """A C-contiguous writeable array of finite real numbers, as kernels are compiled for.

    A copy only if need be, or if it is to be our `own`, which nobody else can write to.  `remedy` says what to pass in
    place of NaN and infinity.
    """
    if type(value) is float and dtype is np.float64 and math.isfinite(value):  # what most numbers are: 2 us less
        return np.array(value)
    array = value if type(value) is np.ndarray and value.size <= _LARGEST else as_array(name, value)
    if array.dtype == dtype and (own or array.flags.carray):  # without what the rest takes: 2 us of 3
        converted = np.array(array, order="C") if own else array
    else:
        array = as_array(name, array)
        if array.dtype.kind not in "fiu":
            raise fault(name, "be an array of real numbers", *not_real(value, array))
        with np.errstate(over="ignore"):  # becomes an infinity, refused below
            converted = np.array(array, dtype, order="C") if own else np.require(array, dtype, ["C", "A", "W"])
    if not all_finite(converted.reshape(-1)):
        raise _not_finite(name, array, converted, remedy)
    return converted


def _not_finite(name: str, array: npt.NDArray[Any], converted: npt.NDArray[Any], remedy: str) -> ArgumentError:
    """The error for the first element that is NaN or infinite, or becomes it."""
    where = np.argwhere(~np.isfinite(converted))[0]
    first, at = array[tuple(where)], f" at {name}{where.tolist()}" if where.size else ""
    if not np.isfinite(first):
        return fault(name, "be finite", f"{first}{at}", remedy if where.size else "Pass a finite number.")
    other = "" if converted.dtype == np.float64 else ", or give the model dtype=np.float64"
    return fault(name, f"be finite in {converted.dtype}", f"{first}{at}", f"Scale it down{other}.")


def precision(dtype: npt.DTypeLike) -> np.dtype[np.floating[Any]]:
    """The dtype, if the kernels compute in it."""
    try:
        found = np.dtype(dtype) if dtype is not None else None
    except TypeError:
        found = None
    if found not in (np.float64, np.float32):
        raise fault("dtype", "be numpy.float64 or numpy.float32", repr(dtype))
    return np.dtype(found)


def parameters(name: str, value: object, size: int, *, remedy: str = "Pass finite numbers.") -> npt.NDArray[np.float64]:
    """A float64 array of shape (P,)."""
    array = real_array(name, value, remedy=remedy)
    if array.shape != (size,):
        remedy = f"Pass numpy.ravel({name})." if array.size == size else ""
        raise fault(name, f"have shape ({size},), one number per parameter", f"shape {array.shape}", remedy)
    return array


def parameters_or_rows(name: str, value: object, size: int) -> npt.NDArray[np.float64]:
    """A float64 array of shape (P,), or (K, P) with a row for each of K losses."""
    array = real_array(name, value, remedy="Pass finite numbers.")
    if array.ndim != 2 or array.shape[1] != size or not len(array):
        remedy = f"Pass numpy.ravel({name})." if array.size == size else ""
        if array.shape != (size,):
            wanted = f"have shape ({size},), one number per parameter, or (K, {size}) for K losses, at least one"
            raise fault(name, wanted, f"shape {array.shape}", remedy)
    return array


def on_grid(name: str, array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The array, if all of it is within the grid's range."""
    largest = np.abs(array).max(initial=0.0)
    if not largest < LIMIT:
        raise fault(
            name,
            f"be within the grid's range, magnitudes below {LIMIT:g}",
            f"up to {largest:g}",
            "Rescale the problem so that its weights and velocities are smaller.",
        )
    return array


def whole(name: str, value: object, minimum: int) -> int:
    """An int of at least `minimum`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        instead = f"int({name})," if _is_whole(value) else "an int"
        raise fault(name, "be a whole number", shown(value), f"Pass {instead} of at least {minimum}.")
    if value < minimum:
        raise fault(name, f"be at least {minimum}", shown(int(value)))
    return int(value)


def _is_whole(value: Any) -> bool:
    """Whether it is a float, or an array without dimensions, that an int can stand for."""
    if (
        not (isinstance(value, float | np.floating) or hasattr(value, "__array__"))
        or isinstance(value, np.bool_)
        or np.ndim(value)
    ):
        return False
    try:
        return bool(int(value) == value)
    except (TypeError, ValueError, OverflowError):
        return False


def count(name: str, value: object) -> int:
    """A whole number of things, of at least 1."""
    number = whole(name, value, 1)
    if number >= 2**63:
        raise fault(name, "be below 2**63", shown(number))
    return number


def index(name: str, value: object, size: int) -> int:
    """The number of one of so many."""
    number = whole(name, value, 0)
    if number >= size:
        raise fault(name, f"be at most {size - 1}, of {size} in all", shown(number))
    return number


def is_number(value: object) -> bool:
    """Whether it is a real number in float64, infinity and NaN too, and no bool."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool) and fits(value)


def whole_array(name: str, value: object, shape: tuple[int, ...]) -> npt.NDArray[np.integer[Any]]:
    """Integers of the given shape, or one for all of it."""
    array = as_array(name, value)
    if array.ndim == 0:
        return np.array(count(name, value))
    if array.dtype.kind not in "iu":
        received, remedy = not_whole(value, array)
        raise fault(name, "be whole numbers", f"an array {received}", remedy)
    if array.shape != shape:
        raise fault(name, f"be a whole number or have shape {shape}", f"shape {array.shape}")
    return array


def flag(name: str, value: object) -> bool:
    """A bool."""
    if not isinstance(value, bool | np.bool_):
        raise fault(name, "be True or False", shown(value))
    return bool(value)


def takes(function: Any, count: int) -> bool:
    """Whether something can be called with so many arguments, as far as it says."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # it does not say
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def choice(name: str, value: object, choices: Iterable[str]) -> str:
    """One of the names in `choices`."""
    names = list(choices)
    if not isinstance(value, str) or value not in names:
        raise fault(name, "be one of " + ", ".join(map(repr, names)), shown(value))
    return value


def distinct_choices(name: str, value: object, choices: Iterable[str]) -> tuple[str, ...]:
    """Names in `choices`, none of them twice."""
    names = list(choices)
    if isinstance(value, str) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        raise fault(name, "be a sequence of names", shown(value), f"Pass a tuple such as ({names[0]!r},).")
    chosen = tuple(value)
    for each in chosen:
        if not isinstance(each, str) or each not in names:
            raise fault(name, "hold names among " + ", ".join(map(repr, names)), shown(each))
    if len(set(chosen)) != len(chosen):
        raise fault(name, "name each thing once", shown(chosen))
    return chosen
