"""Checks of arguments.  Every message names the argument, what it must be, what came, and what to pass."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev.errors import ArgumentError
from fastrev.kernels.checks import all_finite
from fastrev.kernels.fixed_point import LIMIT


def fault(name: str, requirement: str, received: object, remedy: str = "") -> ArgumentError:
    """The error for one argument, to be raised by the caller."""
    advice = f" {remedy}" if remedy else ""
    return ArgumentError(f"Argument '{name}' must {requirement}, not {received}.{advice}")


def reason(error: Exception) -> str:
    """What went wrong, without number and path, which a message names in its own way."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def plain(value: object) -> npt.NDArray[Any]:
    """An array of whatever it is, or a ValueError that says what came."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError("a masked array with masked elements, which stand for no number: fill them in with .filled()")
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # of a framework that does not hand it over
        if isinstance(value, list | tuple) and isinstance(error, ValueError):
            raise ValueError("a ragged sequence") from None
        raise ValueError(f"a {type(value).__name__}: {str(error).rstrip('.')}") from None


def as_array(name: str, value: object) -> npt.NDArray[Any]:
    """An array of whatever it is."""
    try:
        return plain(value)
    except ValueError as error:
        if isinstance(value, list | tuple):
            raise fault(name, "be a rectangular array", str(error), "Pass rows of equal length.") from None
        raise fault(name, "be an array of numbers", str(error)) from None


def real_array(name: str, value: object, dtype: npt.DTypeLike = np.float64, *, own: bool = False) -> npt.NDArray[Any]:
    """A C-contiguous writeable array of finite real numbers, as kernels are compiled for.

    A copy only if need be, or if it is to be our `own`, which nobody else can write to.
    """
    array = as_array(name, value)
    if array.dtype.kind not in "fiu":
        raise fault(name, "be an array of real numbers", *_not_real(value, array))
    with np.errstate(over="ignore"):  # becomes an infinity, refused below
        converted = np.array(array, dtype, order="C") if own else np.require(array, dtype, ["C", "A", "W"])
    if not all_finite(converted.reshape(-1)):
        where = np.argwhere(~np.isfinite(converted))[0]
        at = f" at {name}{where.tolist()}" if where.size else ""
        raise fault(
            name,
            "be finite" if np.dtype(dtype) == np.float64 else f"be finite in {np.dtype(dtype)}",
            f"{array[tuple(where)]}{at}",
            "Remove or impute NaN and infinite entries first." if where.size else "Pass a finite number.",
        )
    return converted


def _not_real(value: object, array: npt.NDArray[Any]) -> tuple[str, str]:
    """What came in place of real numbers, and what to pass instead."""
    if hasattr(value, "toarray"):  # of scipy.sparse
        return f"a sparse {type(value).__name__}", "Pass .toarray() of it."
    if value is None:
        return "None", "Pass a number or an array."
    if array.dtype.kind == "O" and array.ndim == 0:
        return f"a {type(value).__name__}", "Pass its w." if hasattr(value, "w") else "Pass its values as an array."
    if array.dtype.kind in "US":
        return f"of dtype {array.dtype}", "Strings stand for no numbers: encode them first."
    if array.dtype.kind == "c":
        return f"of dtype {array.dtype}", "Pass its .real, or its parts as numbers of their own."
    return f"of dtype {array.dtype}", "Convert it with .astype(np.float64)."


def precision(dtype: npt.DTypeLike) -> np.dtype[np.floating[Any]]:
    """The dtype, if the kernels compute in it."""
    try:
        found = np.dtype(dtype) if dtype is not None else None
    except TypeError:
        found = None
    if found not in (np.float64, np.float32):
        raise fault("dtype", "be numpy.float64 or numpy.float32", repr(dtype))
    return np.dtype(found)


def parameters(name: str, value: object, size: int) -> npt.NDArray[np.float64]:
    """A float64 array of shape (P,)."""
    array = real_array(name, value)
    if array.shape != (size,):
        raise fault(name, f"have shape ({size},), one number per parameter", f"shape {array.shape}")
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
        raise fault(name, "be a whole number", f"{value!r}", f"Pass an int of at least {minimum}.")
    if value < minimum:
        raise fault(name, f"be at least {minimum}", f"{value}")
    return int(value)


def whole_array(name: str, value: object, shape: tuple[int, ...]) -> npt.NDArray[np.integer[Any]]:
    """Integers of the given shape, or one for all of it."""
    array = as_array(name, value)
    if array.ndim == 0:
        number = whole(name, value, 1)
        if number >= 2**63:
            raise fault(name, "be below 2**63", f"{number}")
        return np.array(number)
    if array.dtype.kind not in "iu":
        raise fault(name, "be whole numbers", f"an array of dtype {array.dtype}", "Convert it with .astype(np.int64).")
    if array.shape != shape:
        raise fault(name, f"be a whole number or have shape {shape}", f"shape {array.shape}")
    return array


def flag(name: str, value: object) -> bool:
    """A bool."""
    if not isinstance(value, bool | np.bool_):
        raise fault(name, "be True or False", f"{value!r}")
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
        raise fault(name, "be one of " + ", ".join(map(repr, names)), f"{value!r}")
    return value


def distinct_choices(name: str, value: object, choices: Iterable[str]) -> tuple[str, ...]:
    """Names in `choices`, none of them twice."""
    names = list(choices)
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise fault(name, "be a sequence of names", f"{value!r}", f"Pass a tuple such as ({names[0]!r},).")
    chosen = tuple(value)
    for each in chosen:
        if not isinstance(each, str) or each not in names:
            raise fault(name, "hold names among " + ", ".join(map(repr, names)), f"{each!r}")
    if len(set(chosen)) != len(chosen):
        raise fault(name, "name each thing once", f"{chosen!r}")
    return chosen
