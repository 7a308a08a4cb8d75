"""The exact arithmetic by itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine import state as states
from fastrev._engine.exclusive import Exclusive, exclusive
from fastrev._engine.types import AnyArray, FloatArray, Ints
from fastrev.errors import ArgumentError, ReversalError
from fastrev.kernels import by_hand, checks, fixed_point
from fastrev.kernels import information_buffer as buffer


class ReversibleArray(Exclusive):
    """Numbers on the grid that can be added to and multiplied by ratios, and taken back exactly.

    Parameters
    ----------
    x : array_like
        Initial values, of any shape, magnitudes below 2048; rounded to multiples of 2**-52.

    Notes
    -----
    ``sub`` undoes ``add`` and ``div`` undoes ``mul``: called in the opposite order with the same arguments they bring
    every bit back.  What a multiplication by n/d would lose, log2(d/n) bits an element, is kept (a variant of
    Algorithm 3 of Maclaurin et al. 2015).  A ``div`` that would not undo the last ``mul`` exactly is refused and
    changes nothing: each ``mul`` leaves its ratio, or a checksum of its ratios, and a checksum of the values, 24 bytes,
    whatever their number.

    Examples
    --------
    >>> import fastrev
    >>> a = fastrev.ReversibleArray([1.0, -2.0])
    >>> a.mul(9, 10); a.add([0.1, 0.1])
    >>> a.value
    array([ 1. , -1.7])
    >>> a.sub([0.1, 0.1]); a.div(9, 10)
    >>> a.value
    array([ 1., -2.])
    >>> a.verify()                                      # every bit is as it was

    Each element has a ratio of its own if n or d is an array:

    >>> a.mul([1, 9], 10)
    >>> a.value
    array([ 0.1, -1.8])
    >>> a.div([1, 9], 10)

    NumPy takes it for an array of its values, and it has the truth of one: that of a single element, of several none.

    >>> import numpy as np
    >>> len(a), a.shape, float(np.sum(a)), bool(fastrev.ReversibleArray([0.0]))
    (2, (2,), -1.0, False)
    """

    def __init__(self, x: npt.ArrayLike) -> None:
        super().__init__()
        grid = states.to_grid("x", arguments.real_array("x", x))
        self._shape, self._flat = grid.shape, grid.reshape(-1).copy()
        self._start = states.checksum(self._flat)
        self._heads = states.new_heads(self._flat.size)
        self._tail = np.empty(0, np.uint16)
        self._cursor = np.zeros(2, np.int64)  # multiplications made and not undone, top of the tail
        # of each: n, d, checksum of the values that it left; 0 and a checksum for the n, d of arrays
        self._made = np.empty((0, 3), np.int64)
        self._scratch = states.new_scratch()

    def __repr__(self) -> str:
        return f"ReversibleArray({self.value!r}, bits={self.bits:.1f})"

    def __len__(self) -> int:
        if not self._shape:
            raise TypeError("len() of a ReversibleArray without dimensions")
        return int(self._shape[0])

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"The truth of a ReversibleArray of {self.size} elements is ambiguous: use .size, or .value.any()."
            )
        return bool(self._flat[0])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        """What ``numpy.asarray(a)`` is: `value`, which no array of NumPy's can share memory with."""
        if copy is False:
            raise ValueError("A ReversibleArray cannot become an array without a copy: leave copy=False out.")
        return self.value.astype(dtype, copy=False)

    @property
    def dtype(self) -> np.dtype[np.float64]:
        """That of `value`, float64."""
        return np.dtype(np.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values."""
        return self._shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """The number of values."""
        return self._flat.size

    @property
    def value(self) -> FloatArray:
        """The values as a float64 array, rounded to 53 significant bits."""
        return states.to_floats(self._flat).reshape(self._shape)

    @property
    def bits(self) -> float:
        """Information kept so far so that multiplications can be taken back, in bits."""
        return states.stored_bits(self._heads, int(self._cursor[1]))

    @exclusive
    def add(self, y: npt.ArrayLike) -> None:
        """Add numbers, rounded to the grid.

        Parameters
        ----------
        y : float or array_like
            A number, or an array of the shape of this one.

        Raises
        ------
        ArgumentError
            If a sum would leave the grid.  Nothing has changed then.
        """
        if not fixed_point.add(self._flat, self._term(y)):
            raise _leaves_grid("sum")

    @exclusive
    def sub(self, y: npt.ArrayLike) -> None:
        """Undo ``add(y)``.

        Parameters
        ----------
        y : float or array_like
            As in `add`.

        Raises
        ------
        ArgumentError
            If a difference would leave the grid.  Nothing has changed then.
        """
        if not fixed_point.subtract(self._flat, self._term(y)):
            raise _leaves_grid("difference")

    @exclusive
    def mul(self, n: npt.ArrayLike, d: npt.ArrayLike) -> None:
        """Multiply by the ratio n/d; each result is within one grid step of the exact one.

        Parameters
        ----------
        n, d : int or array_like of int
            1 <= n <= d <= 65536.  An array has the shape of this one: every element is multiplied by its own ratio.
            `fastrev.ratio` finds the nearest for any decay.

        Raises
        ------
        ArgumentError
            If it is not such a ratio.  Nothing has changed then.
        """
        n, d, record = self._ratio(n, d)
        done = int(self._cursor[0])
        states.make_room(self._tail, int(self._cursor[1]), self._flat.size)
        states.make_row(self._made, done)
        self._made[done, :2] = record  # which counts once the multiplication is made
        by_hand.multiply(self._flat, self._heads, self._tail, self._cursor, self._made, n, d, self._scratch)

    @exclusive
    def div(self, n: npt.ArrayLike, d: npt.ArrayLike) -> None:
        """Undo ``mul(n, d)``.

        Parameters
        ----------
        n, d : int or array_like of int
            As in `mul`.

        Raises
        ------
        ReversalError
            If that is not what it would do: the last multiplication left to undo was by another ratio, or the values
            are not those that it left.  Nothing has changed then.
        """
        n, d, record = self._ratio(n, d)
        this = _quoted(*record)
        done = int(self._cursor[0])
        if done == 0:
            raise ReversalError(
                f"div({this}) undoes mul({this}), and there is no multiplication left to undo. The array is unchanged."
            )
        *made, left = self._made[done - 1].tolist()
        if record != made:
            last = _quoted(*made)
            arrays = "" if made[0] else " with other arrays than these"
            raise ReversalError(
                f"div({this}) undoes mul({this}), and the last multiplication left to undo was mul({last}){arrays}: "
                f"call div({last}){' with those' if arrays else ''}. The array is unchanged."
            )
        if states.checksum(self._flat) != (left,):
            raise ReversalError(
                f"div({this}) undoes mul({this}), and the values are not those that it left: an add or sub since "
                "then was not undone, or with another argument. The array is unchanged."
            )
        if not by_hand.divide(self._flat, self._heads, self._tail, self._cursor, n, d, self._scratch):
            raise _not_at_start(["the stored information ran out, so heads or tail were damaged"])
        if done == 1 and (faults := states.faults_of_buffer(self._heads, int(self._cursor[1]))):
            raise _not_at_start(faults)

    @exclusive
    def verify(self) -> None:
        """Prove that everything was undone.

        Raises
        ------
        ReversalError
            If a multiplication is left to undo, or values, heads or tail are not those of the start, in every bit.
        """
        faults = [f"{self._cursor[0]} multiplications are left to undo"] if self._cursor[0] else []
        if states.checksum(self._flat) != self._start:
            faults.append("the values differ: an add or sub was not undone, or with another argument")
        if faults := faults + states.faults_of_buffer(self._heads, int(self._cursor[1])):
            raise _not_at_start(faults)

    def _term(self, y: npt.ArrayLike) -> FloatArray:
        term = arguments.on_grid("y", arguments.real_array("y", y))
        if term.shape not in ((), self._shape):
            raise arguments.fault("y", f"be a number or have shape {self._shape}", f"shape {term.shape}")
        return np.ascontiguousarray(np.broadcast_to(term, self._shape)).reshape(-1)

    def _ratio(self, n: npt.ArrayLike, d: npt.ArrayLike) -> tuple[int | Ints, int | Ints, list[int]]:
        """The checked ratio or the flat arrays of ratios, own copies, and what a multiplication leaves on record."""
        given = [arguments.whole_array(name, each, self._shape) for name, each in (("n", n), ("d", d))]
        pair = np.empty((2, *np.broadcast_shapes(*(each.shape for each in given))), np.int64)
        pair[0], pair[1] = given
        numerators, denominators = pair.reshape(2, -1)
        if not checks.all_ratios(numerators, denominators, buffer.MAX_DENOMINATOR):
            raise _not_a_ratio(*np.broadcast_arrays(*given))
        if pair.ndim == 1:
            return int(pair[0]), int(pair[1]), pair.tolist()
        return numerators, denominators, [0, *states.checksum(pair)]


def _not_a_ratio(n: AnyArray, d: AnyArray) -> ArgumentError:
    """The error for the first element that n/d cannot multiply."""
    where = np.argwhere((n < 1) | (n > d) | (d > buffer.MAX_DENOMINATOR))[0].tolist()
    numerator, denominator = int(n[tuple(where)]), int(d[tuple(where)])
    if denominator > buffer.MAX_DENOMINATOR:
        return arguments.fault(
            "d", f"be at most {buffer.MAX_DENOMINATOR}", f"{denominator}{_at('d', where)}",
            "fastrev.ratio(x) finds the nearest ratio.",
        )  # fmt: skip
    if numerator < 1:
        return arguments.fault("n", "be at least 1", f"{numerator}{_at('n', where)}")
    return arguments.fault(
        "n", f"be at most d = {denominator}", f"{numerator}{_at('n', where)}",
        "A growing ratio has no stored digits to take up; div(n, d) is for undoing mul(n, d).",
    )  # fmt: skip


def _at(name: str, where: list[int]) -> str:
    return f" at {name}{where}" if where else ""


def _quoted(n: int, d: int) -> str:
    """A ratio on record, as the arguments of a call."""
    return f"{n}, {d}" if n else "n, d"


def _leaves_grid(what: str) -> ArgumentError:
    return arguments.fault(
        "y", f"keep the {what} within the grid's range, magnitudes below {fixed_point.LIMIT:g}", "larger",
        "The array is unchanged.",
    )  # fmt: skip


def _not_at_start(faults: list[str]) -> ReversalError:
    return ReversalError(f"The array is not at its start: {'; '.join(faults)}.")
