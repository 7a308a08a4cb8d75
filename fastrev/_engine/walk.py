"""What a run asks of its walks through the training, there and back, whatever is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from fastrev._engine.rule import Rule
from fastrev._engine.types import AnyArray, FloatArray
from fastrev.kernels.checks import all_within
from fastrev.kernels.structures import State

Make = Callable[[State, int], tuple[int, int]]  # make steps until so many are done; returns as `Walk.maker` says
Undo = Callable[[int], int]  # undo steps until so many are done, or fewer; returns why it ended, of `kernels.outcomes`

_SQUARABLE = 2.0**480  # the squares of 2**48 numbers of up to that have a sum
_NORMS = 1024  # of the adjoint, at most: 8 KB, whatever the number of steps


class Walk(Protocol):
    """Steps made, and undone again with nobody reading along."""

    @property
    def nbytes(self) -> int:
        """Memory of all that it works in."""

    def chunk_steps(self, progress: bool) -> int:
        """How many steps at a time: between two chunks Ctrl-C and `progress` are seen to."""

    def compile_make(self, state: State) -> None:
        """Have making compiled."""

    def compile_undo(self, state: State) -> None:
        """Have `undo` compiled."""

    def maker(self, begin: int, end: int) -> Make:
        """What makes these steps, until so many are done; returns why it ended and, of a refused step, a parameter.

        It may be called several times: where somebody looks at the run in between, its batches are drawn only once.
        """

    def undo(self, state: State, stop: int) -> int:
        """Undo steps until `stop` are done, or fewer: what is left is asked for again.  Returns why it ended."""

    def release(self) -> None:
        """Give back what it worked in, until it works again."""

    def kept(self, done: int) -> dict[str, AnyArray]:
        """What it must have beside the state to undo so many steps: the arrays themselves, to be read or filled."""

    def back(self, w_bar: FloatArray, m_bar: FloatArray, wrt: tuple[str, ...], through: range) -> WalkBack:
        """A walk back that differentiates these steps, the last ones made, and owns the derivatives by the end."""


class WalkBack(Protocol):
    """Steps undone, and the adjoint pulled back through each of them."""

    @property
    def nbytes(self) -> int:
        """Memory of the adjoint and of all that it works in, beside the walk's."""

    def chunk_steps(self, progress: bool) -> int:
        """How many steps at a time: between two chunks Ctrl-C and `progress` are seen to."""

    def compile(self, state: State) -> None:
        """Have all that it needs compiled."""

    def through(self, state: State, take_back: Callable[[Undo], None]) -> None:
        """Have all steps taken back by `take_back`, which is given the function for it."""

    def kept(self) -> dict[str, AnyArray]:
        """The adjoint where the steps undone are pulled through: the arrays themselves, to be read or filled.

        Between two calls of what undoes the steps; what has been begun beside them is waited for.
        """

    def gradients(self) -> dict[str, Any]:
        """The derivatives by the names of the arguments, in their shapes."""

    def norms(self) -> tuple[FloatArray, AnyArray]:
        """Those of the derivative by the weights, and before which steps; the last is that of the end."""


class Trace:
    """The adjoints' norms: before the first of the steps that they come through, every so many, and at the end."""

    def __init__(self, through: range, w_bar: FloatArray) -> None:
        self._through, self._every = through, max(-(-len(through) // _NORMS), 1)
        self._last = [norm(each) for each in w_bar]
        self.norms = np.empty((len(w_bar), -(-len(through) // self._every)))
        self.norms.fill(np.nan)

    @property
    def tables(self) -> tuple[FloatArray, int, int]:
        """The last fields of an `Adjoint` of as many losses."""
        return self.norms, self._through.start, self._every

    def read(self) -> tuple[FloatArray, AnyArray]:
        """The norms, a row for each loss, and their steps."""
        norms = np.empty((len(self._last), self.norms.shape[1] + 1))
        norms[:, :-1], norms[:, -1] = self.norms, self._last
        return norms, np.array([*self._through[:: self._every], self._through.stop])


def gradients_by_the_start(w: FloatArray, moments: FloatArray, rule: Rule, until: int) -> dict[str, FloatArray]:
    """The derivatives (C, P) by w0 and v0: zero where they came down to step `until` only, all before being fixed."""
    found = {"w0": w, **{name: moments[:, i] for i, name in enumerate(rule.starts)}}
    return {name: np.zeros_like(each) if until else each for name, each in found.items()}


def kept_of(
    w: FloatArray, moments: FloatArray, norms: FloatArray, *sums: Mapping[str, AnyArray]
) -> dict[str, AnyArray]:
    """The arrays of an adjoint by name, with the sums of derivatives by other than weights and moments."""
    by = {f"by {name}": each for some in sums for name, each in some.items()}
    return {"w": w, "moments": moments, "norms": norms, **by}


def named(adjoint: Any) -> dict[str, AnyArray]:
    """The arrays of a tuple by the names of its fields."""
    return dict(zip(adjoint._fields, adjoint, strict=True))


def in_rows(gradients: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Derivatives of some losses as arrays with a row for each."""
    first, *_ = gradients
    return {
        name: in_rows([each[name] for each in gradients]) if isinstance(value, Mapping)
        else np.array([each[name] for each in gradients])
        for name, value in first.items()
    }  # fmt: skip


def norm(x: FloatArray) -> float:
    """The Euclidean norm.

    NumPy's own wakes BLAS, whose threads keep the second core from ours for a while after (`python -m bench.choices
    patience`): with it W1's way back took 310 ms instead of 250.
    """
    flat = x.reshape(-1)
    if all_within(flat, -_SQUARABLE, _SQUARABLE):
        return math.sqrt(np.add.reduce(np.square(flat)))
    with np.errstate(over="ignore"):  # takes 27 us after a rest
        return math.sqrt(np.add.reduce(np.square(flat)))


def nbytes(*arrays: AnyArray | None) -> int:
    """Memory of some arrays together."""
    return sum([array.nbytes for array in arrays if array is not None])
