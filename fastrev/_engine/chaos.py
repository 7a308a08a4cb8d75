"""Whether a meta-gradient means anything."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from weakref import ref

import numpy as np

from fastrev._engine import complaints
from fastrev._engine.types import FloatArray, Ints
from fastrev.errors import ChaosWarning
from fastrev.kernels.checks import all_within

# How much the adjoint may grow on its way back.  Of three networks at 40 learning rates each, what a gradient by lr
# says of a change of lr by 0.1 % is off by 0.002 % in the median below this growth, and by half at most but once; above
# it is off by 74 % at least, and worth nothing (`python -m bench.choices chaos`)
CHAOTIC_GROWTH = 1e3
_STEADY_GROWTH = 10.0  # up to which truncation is proposed: there predictions hold for moves of a tenth, in most cases

_NAMED = 8  # losses, at most


class _Here(threading.local):
    unheard: Callable[[], unheard | None] = staticmethod(lambda: None)
    names: Callable[[], naming | None] = staticmethod(lambda: None)


_here = _Here()


class unheard:  # noqa: N801  # as contextlib names what is called like a function
    """Have this thread not warned, where whoever asks for the derivatives looks at their growth for himself.

    It ends with its block by itself, too: an interrupt may come before `__exit__` has done anything.
    """

    def __enter__(self) -> None:
        self._before, _here.unheard = _here.unheard, ref(self)

    def __exit__(self, *raised: object) -> None:
        _here.unheard = self._before


class naming:  # noqa: N801  # likewise
    """Have this thread told of losses by these names and numbers: it did not pass the rows of w_bar itself.

    It ends with its block as `unheard` does.
    """

    def __init__(self, name: str, numbers: Ints | None = None) -> None:
        self.named = name, numbers

    def __enter__(self) -> None:
        self._before, _here.names = _here.names, ref(self)

    def __exit__(self, *raised: object) -> None:
        _here.names = self._before


def growth(norms: FloatArray | None) -> float:
    """How much the adjoint grew on its way back: infinity where it overflowed."""
    if norms is None or not norms.size or norms[-1] == 0:
        return 1.0
    largest = float(np.max(norms) / norms[-1])
    return largest if np.isfinite(largest) else np.inf


def guard(norms: FloatArray, at: Ints, references: Sequence[float]) -> None:
    """Warn if the adjoint of any loss, of these norms (K, S) before these steps, outgrew the norm that it began with.

    A product of T Jacobians grows exponentially where training is chaotic (Figure 10 of the paper), and
    norms of a few steps up or down say as much as all.
    """
    if _here.unheard() is not None:
        return
    rows = [
        row for row, reference in enumerate(references)
        if reference != 0.0 and not all_within(norms[row, :-1], 0.0, CHAOTIC_GROWTH * reference)  # nor is NaN
    ]  # fmt: skip
    if not rows:
        return
    step = max(_first_below(norms[row], at, CHAOTIC_GROWTH * references[row]) for row in rows)
    steady = max(_first_below(norms[row], at, _STEADY_GROWTH * references[row]) for row in rows)
    largest, end = float(np.max([np.max(norms[row]) / references[row] for row in rows])), int(at[-1])
    growth = f"grew {largest:.3g}-fold" if np.isfinite(largest) else "overflowed"
    advice = f", or differentiate through the last steps only: truncate={end - steady}" if steady < end else ""
    complaints.complain(
        f"The meta-gradient {_of(rows, len(references))}{growth} on its way back through training. Training is chaotic "
        "at these learning rates: the smallest changes decide how it ends, and the gradient by anything before step "
        f"{step} is noise. Lower lr, train for fewer steps{advice}.",
        ChaosWarning,
    )


def _of(rows: list[int], count: int) -> str:
    """Of which of some losses, where there is more than one, or it has a number among others."""
    names = _here.names()
    name, numbers = ("w_bar", None) if names is None else names.named
    if count == 1:
        return "" if numbers is None else f"of {name}[{numbers[0]}] "
    which = rows if numbers is None else numbers[rows].tolist()
    first = ", ".join(map(str, which[:_NAMED])) + (", ..." if len(which) > _NAMED else "")
    return f"of {len(rows)} of {count} losses ({name}[{first}]) "


def _first_below(norms: FloatArray, at: Ints, bound: float) -> int:
    """The first step from which on all norms, but that of the end, are below the bound; NaN is not."""
    above = np.flatnonzero(~(norms[:-1] <= bound))
    return int(at[above[-1] + 1] if above.size else at[0])
