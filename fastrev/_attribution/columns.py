"""What is left out at a time: single examples, or groups of them, or parts of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrev._engine import arguments
from fastrev._engine.types import AnyArray, FloatArray, Ints

_NOTHING_LEFT = 1e-9  # of a weight, below which it is rounding


class Shares(NamedTuple):
    """Entries of a matrix: what leaving out a column takes of the weight of an example, from 0 to 1."""

    examples: Ints
    columns: Ints
    shares: FloatArray


class Columns:
    """J things to leave out, each of which takes shares of the weights of N examples away.

    Parameters
    ----------
    examples, count : int
        N and J.
    of : Shares, optional
        Default: each column is an example.
    labels : (J,) ndarray, optional
        Of groups.
    rows : pair of (R,) ndarray, optional
        Of the user's rows, the example of each, and its share in that.  Default: they are the examples.
    """

    def __init__(
        self,
        examples: int,
        count: int,
        of: Shares | None = None,
        labels: AnyArray | None = None,
        rows: tuple[Ints, FloatArray] | None = None,
    ) -> None:
        self.examples, self.count, self.labels, self._of = examples, count, labels, of
        self.rows = (np.arange(examples), np.ones(examples)) if rows is None else rows

    @property
    def overlap(self) -> bool:
        """Whether two of them take from the same example more than there is."""
        if self._of is None:
            return False
        return bool(np.bincount(self._of.examples, self._of.shares).max(initial=0.0) > 1 + _NOTHING_LEFT)

    def gathered(self, by_example: FloatArray) -> FloatArray:
        """Sums (K, J) of the shares of what belongs to the examples, (K, N)."""
        if self._of is None:
            return by_example
        from scipy.sparse import csr_array  # here, so that an import of fastrev stays light

        matrix = csr_array((self._of.shares, (self._of.columns, self._of.examples)), (self.count, self.examples))
        return np.ascontiguousarray((matrix @ by_example.T).T)

    def left(self, without: Ints) -> FloatArray:
        """The share (N,) that is left of the weight of each example without these columns."""
        rest = np.ones(self.examples)
        if self._of is None:
            rest[without] = 0
            return rest
        gone = np.isin(self._of.columns, without)
        rest -= np.bincount(self._of.examples[gone], self._of.shares[gone], self.examples)
        return np.where(rest < _NOTHING_LEFT, 0.0, rest)

    def of_rows(self, examples: int, place: Ints, shares: FloatArray) -> Columns:
        """The same of rows that are shares of so many examples, each of that in its place."""
        every = np.arange(self.examples)
        of = Shares(every, every, np.ones(self.examples)) if self._of is None else self._of
        entries = Shares(place[of.examples], of.columns, shares[of.examples] * of.shares)
        return Columns(examples, self.count, entries, self.labels, (place, shares))


def as_columns(groups: Any, examples: int) -> Columns:
    """The checked argument `groups`: labels of all examples, or a list of their indices for each group."""
    if groups is None:
        return Columns(examples, examples)
    if isinstance(groups, list | tuple) and groups and all(np.ndim(each) == 1 for each in groups):
        members = [_indices(f"groups[{g}]", each, examples) for g, each in enumerate(groups)]
        of = np.repeat(np.arange(len(members)), [len(each) for each in members])
        return _of_groups(examples, np.arange(len(members)), np.concatenate(members), of)
    labels = arguments.as_array("groups", groups)
    if labels.shape != (examples,):
        raise arguments.fault(
            "groups", f"hold a label for each of the {examples} examples, or be a list of arrays of their indices",
            f"an array of shape {labels.shape}",
        )  # fmt: skip
    try:
        names, of = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise arguments.fault("groups", "hold labels that can be sorted", f"labels that cannot ({error})") from None
    return _of_groups(examples, names, np.arange(examples), of)


def _of_groups(examples: int, names: AnyArray, rows: Ints, of: Ints) -> Columns:
    return Columns(examples, len(names), Shares(rows, of, np.ones(len(rows))), names)


def _indices(name: str, value: Sequence[int] | AnyArray, examples: int) -> Ints:
    """Distinct indices of examples, also of a mask."""
    found = arguments.as_array(name, value)
    if found.dtype == bool and found.shape == (examples,):
        return np.flatnonzero(found)
    if found.dtype.kind not in "iu" and found.size:
        raise arguments.fault(name, "hold indices of examples", *arguments.not_whole(value, found))
    if found.size and not 0 <= found.min() <= found.max() < examples:
        bad = found.min() if found.min() < 0 else found.max()
        raise arguments.fault(name, f"hold indices from 0 to {examples - 1}", f"{bad}", "Count from 0.")
    return np.unique(found).astype(np.int64)
