"""Who looks at a run while its steps are made, and after how many of them."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np

from fastrev._engine import arguments
from fastrev._engine import state as states
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.problem import Problem
from fastrev._engine.types import FloatArray, Ints
from fastrev._engine.validation import loss_function
from fastrev.kernels.structures import State

Callback = Callable[[int, FloatArray], object]  # of the steps made and the weights (P,)

_NEVER = sys.maxsize
_NUMBERS = "be a whole number or an array of numbers of steps"
_EVERY = "every is a whole number, or an array of numbers of steps."


class Looker:
    """A function, and the numbers of steps after which it is called."""

    def __init__(self, call: Callback, counts: Iterator[int], *, at_the_end: bool) -> None:
        self._call, self._counts, self._at_the_end = call, counts, at_the_end
        self._last = -1
        self.due = next(counts, _NEVER)

    def look(self, state: State, *, ended: bool = False) -> None:
        """Call the function if that is due, or if the run has ended before its time and the end is to be seen."""
        done = int(state.cursor[0])
        if done == self.due:
            self.due = next(self._counts, _NEVER)
        elif not (ended and self._at_the_end and done != self._last):
            return
        self._last = done
        self._call(done, states.to_floats(state.w))

    def skip(self, done: int) -> None:
        """Go on as one that has seen all before so many steps."""
        while self.due < done:
            self.due = next(self._counts, _NEVER)


class Losses:
    """A curve as it is measured, 16 bytes a point; whole at every moment, since a point is there with its loss."""

    def __init__(self, asked: Any = None) -> None:
        self.asked = asked  # the argument
        self._steps, self._losses = array("q"), array("d")

    def __getstate__(self) -> dict[str, Any]:
        """Without the argument: functions may not be pickled."""
        return vars(self) | {"asked": None}

    def add(self, steps: int, loss: float) -> None:
        """One more point."""
        del self._steps[len(self._losses) :]
        self._steps.append(steps)
        self._losses.append(loss)

    def read(self) -> tuple[Ints, FloatArray]:
        """Numbers of steps (S,) and losses (S,), copied."""
        losses = np.array(self._losses, np.float64)
        return np.array(self._steps[: losses.size], np.int64), losses

    def put(self, steps: Ints, losses: FloatArray) -> None:
        """What was measured before, in place of all."""
        self._steps, self._losses = array("q", steps.tolist()), array("d", losses.tolist())


class Keeper(Protocol):
    """Who writes down where a run stands."""

    due: int  # the next number of steps after which it is to look; it may look earlier
    impatient: bool  # whether it is to look as often as can be

    def look(self, state: State) -> None:
        """Write, if it is time."""

    def floor(self, done: int) -> int:
        """On the way back from so many steps: the next number after which it is to look."""

    def end(self, state: State) -> None:
        """Write for the last time."""


@dataclass(frozen=True)
class Audience:
    """All who look at one run: a curve that is measured, then a callback, each or none."""

    curve: Looker | None = None
    callback: Looker | None = None
    losses: Losses | None = None  # of the curve
    keeper: Keeper | None = None

    @property
    def due(self) -> int:
        """After how many steps the next of them looks."""
        lookers = self.curve, self.callback, self.keeper
        return min([each.due for each in lookers if each is not None], default=_NEVER)

    def go_on(self, measured: Losses | None, done: int, *, ended: bool) -> None:
        """Go on as one that has seen all before so many steps, and is to see what there is after them.

        A run that has ended is not looked at again.
        """
        if self.losses is not None and measured is not None:
            steps, losses = measured.read()
            seen = steps.size if ended else int(np.searchsorted(steps, done))
            self.losses.put(steps[:seen], losses[:seen])
        for each in (self.curve, self.callback):
            if each is not None:
                each.skip(done)

    def goes_on(self, state: State) -> bool:
        """Let all look who are due.  Returns whether the run is to go on."""
        if self.keeper is not None:  # before the others: where it goes on from there, all others look again
            self.keeper.look(state)
        if self.curve is not None:
            self.curve.look(state)
        if self.callback is not None:
            try:
                self.callback.look(state)
            except StopIteration:
                if self.curve is not None:
                    self.curve.look(state, ended=True)
                return False
        return True


NOBODY = Audience()


def prepare(problem: Problem, curve: Any, callback: Any) -> Audience:
    """Check the arguments `curve` and `callback` of a run."""
    if curve is None and callback is None:
        return NOBODY
    losses = None if curve is None else Losses(curve)
    return Audience(
        None if losses is None else _curve(problem, curve, losses),
        None if callback is None else _callback(problem, callback),
        losses,
    )


def _curve(problem: Problem, curve: Any, losses: Losses) -> Looker:
    model = problem.trained.model if isinstance(problem.trained, MLPObjective) else None
    form = "be (f, every), f a function from weights (P,) to a loss"
    form = form if model is None else f"be (Xv, Yv, every), or {form[3:]}"
    if not isinstance(curve, tuple | list) or not 2 <= len(curve) <= (2 if model is None else 3):
        received = f"{len(curve)} items" if isinstance(curve, tuple | list) else f"a {type(curve).__name__}"
        raise arguments.fault("curve", form, received, _EVERY)
    *what, every = curve
    loss = loss_function(model, "curve", what)
    if loss is None:
        raise arguments.fault("curve", form, f"a pair that begins with a {type(what[0]).__name__}", _EVERY)
    counts = _counts(f"curve[{len(what)}]", every, problem.steps, first=0)
    return Looker(lambda steps, w: losses.add(steps, loss(w)), counts, at_the_end=np.ndim(every) == 0)


def _callback(problem: Problem, callback: Any) -> Looker:
    function, every = callback, 1
    if not callable(callback):
        if not isinstance(callback, tuple | list) or len(callback) != 2 or not callable(callback[0]):
            received = f"{len(callback)} items" if isinstance(callback, tuple | list) else repr(callback)
            if isinstance(callback, tuple | list) and len(callback) == 2:
                received = f"a pair that begins with a {type(callback[0]).__name__}"
            raise arguments.fault("callback", "be a function (step, w) or a pair (function, every)", received, _EVERY)
        function, every = callback
    return Looker(function, _counts("callback[1]", every, problem.steps, first=1), at_the_end=False)


def _counts(name: str, every: Any, steps: int, first: int) -> Iterator[int]:
    """The numbers of steps that `every` says, of `steps` in all; of a number they are not before `first`."""
    given = arguments.as_array(name, every)
    if given.ndim == 0:
        apart = arguments.count(name, every)
        return chain(range(apart if first else 0, steps, apart), [steps])
    if given.ndim != 1 or given.size == 0:
        raise arguments.fault(name, f"{_NUMBERS}, (S,)", f"of shape {given.shape}")
    if given.dtype.kind not in "iu":
        raise arguments.fault(name, _NUMBERS, *arguments.not_whole(every, given))
    if given.min() < 0 or given.max() > steps:
        bad = given[(given < 0) | (given > steps)][0]
        raise arguments.fault(name, f"hold numbers of steps from 0 to {steps}", f"{bad}")
    counts = given.astype(np.int64)
    if (falls := np.flatnonzero(np.diff(counts) <= 0)).size:
        k = int(falls[0])
        raise arguments.fault(name, "be increasing", f"{counts[k + 1]} after {counts[k]}", "Pass numpy.unique of it.")
    return iter(counts.tolist())
