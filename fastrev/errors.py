"""What can go wrong, each with a message that says what to do."""

from __future__ import annotations

import pickle
from typing import Any


class FastrevError(Exception):
    """Base of every error that fastrev raises on purpose."""


class ArgumentError(FastrevError, ValueError):
    """An argument is at fault.  The message quotes its name, what it must be, what came, and what to pass instead."""


class MissingExtraError(FastrevError, ImportError):
    """An optional dependency is not installed.  The message names the extra that installs it."""


class DivergenceError(FastrevError, ArithmeticError):
    """A training step was refused: its gradient is not finite, or it would take the state off the grid.

    Attributes
    ----------
    step : int
        The step that was refused, counted from 0.
    group : str
        The parameter group at fault, such as ``"W1"``.
    run : Run or None
        The run as it stood before that step.  It is whole: ``run.rewind()`` takes it back to the start exactly.
        None where there is no run (`ReversibleSGD`, whose own state is unchanged), or where it cannot be pickled, as
        with functions that are local to others, and the error came from another process.
    """

    # All arguments are kept in `args`, from which an exception is made anew where a process pool hands it on
    def __init__(self, message: str, step: int, group: str, run: Any = None) -> None:
        super().__init__(message, step, group, run)
        self.step = step
        self.group = group
        self.run = run

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        message, step, group, run = self.args
        try:
            pickle.dumps(run)
        except Exception:  # of whatever its objective is made of
            message, run = f"{message} That run stayed in the process that made it: it cannot be pickled.", None
        return type(self), (message, step, group, run), vars(self) | {"run": run}


class ReversalError(FastrevError, RuntimeError):
    """Reversal did not arrive, bit for bit, where the run had started: its results are worthless and withheld.

    Or an undo was refused, since it would not undo what was done: nothing has changed then.

    Attributes
    ----------
    run : Run or None
        The run, where the gradient of a step did not come again: ``run.rewind()`` goes on from there once it does.
        None elsewhere, and in another process.
    """

    run: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args


class StorageError(FastrevError, OSError):
    """What ``buffer=`` keeps on disk could not be written, or read again bit for bit.  The message names the file.

    Attributes
    ----------
    run : Run or None
        The run as it stands after its last whole step.  Where a file could not be written, ``run.rewind()`` takes it
        back and ``run.pullback(...)`` differentiates the steps that were made; where one could not be read, both go
        on once it is there again.  None in another process.
    """

    run: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args


class TrainingInterrupt(KeyboardInterrupt):
    """Ctrl-C came while training.

    Attributes
    ----------
    run : Run
        The run as it stood after its last whole step: ``run.rewind()`` takes it back, ``run.pullback(...)``
        differentiates the steps that were made.
    """

    def __init__(self, run: Any) -> None:
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        return f"interrupted after {self.run.stats.steps} steps"


class ChaosWarning(RuntimeWarning):
    """The meta-gradient exploded on its way back: training is chaotic there, and its value is noise."""
