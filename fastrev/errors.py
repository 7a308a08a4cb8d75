"""What can go wrong, each with a message that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastrev.training import Run


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
        None where there is no run (`ReversibleSGD`, whose own state is unchanged).
    """

    def __init__(self, message: str, step: int, group: str, run: Run | None = None) -> None:
        super().__init__(message)
        self.step = step
        self.group = group
        self.run = run


class ReversalError(FastrevError, RuntimeError):
    """Reversal did not arrive, bit for bit, where the run had started; its results are worthless and withheld."""


class TrainingInterrupt(KeyboardInterrupt):
    """Ctrl-C came while training.

    Attributes
    ----------
    run : Run
        The run as it stood after its last whole step: ``run.rewind()`` takes it back, ``run.pullback(...)``
        differentiates the steps that were made.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(f"interrupted after {run.stats.steps} steps")
        self.run = run
