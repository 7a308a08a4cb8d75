"""What a run says where it is refused: on its way there, on its way back, or on arrival."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrev._engine.problem import Problem
from fastrev._engine.rule import rate_at
from fastrev.errors import DivergenceError, ReversalError, StorageError
from fastrev.kernels import outcomes

OF_THE_RUN = " The run up to that step is whole: error.run.rewind() takes it back to its start."


def divergence(problem: Problem, step: int, reason: int, parameter: int, run: Any) -> DivergenceError:
    """Of a step that cannot be made, for the reason that the kernel gave."""
    position = int(np.searchsorted(problem.trained.bounds, parameter, side="right")) - 1
    group, rate = problem.trained.group_names[position], rate_at(problem.rule, step, position)
    what = (
        "the gradient holds NaN or infinite values" if reason == outcomes.NOT_FINITE else problem.rule.off_grid(reason)
    )
    finite = reason != outcomes.NOT_FINITE
    advice = problem.rule.advice(reason) or problem.trained.suspect(step, rate, finite=finite)
    return DivergenceError(
        f"Step {step} of {problem.steps} was refused: {what}, in group '{group}'. {advice}{OF_THE_RUN}",
        step=step,
        group=group,
        run=run,
    )


def not_reproduced(problem: Problem, step: int, run: Any) -> ReversalError:
    """Of a step whose gradient did not come again."""
    changed = " and ".join(problem.changed())
    cause = (
        f"{changed} changed in place after the training began."
        if changed
        else "It must depend on w and t alone: give random numbers, those of dropout too, a seed made of t, and "
        "change neither its data nor, by train() or eval(), its mode."
    )
    error = ReversalError(
        f"Step {step} cannot be undone: model.grad(w, {step}) did not return the bits that it returned when the "
        f"step was made, at the same w. {cause} The way back begins with the last step. Nothing has changed: "
        "once it returns them again, error.run.rewind() takes the run back."
    )
    error.run = run
    return error


class with_the_run:  # noqa: N801  # as `waiting` (announcing.py)
    """Hand the run on with an error of what keeps its words, which knows none."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, StorageError):
            error.run = self._run


def no_arrival(problem: Problem, faults: list[str], *, kept: bool = False) -> ReversalError:
    """Of a run that came back to another start, and is kept in a checkpoint if so said."""
    changed = [f"'{name}'" for name in problem.changed()]
    cause = (
        f"{' and '.join(changed)} changed in place after the training began. Leave such an array alone until the "
        "run has been taken back, or pass a copy of it, and train again."
        if changed
        else "Memory failed, or the gradient was not reproduced bit for bit. Train again."
    )
    cause += " Pass a new checkpoint: this one may hold the fault." if kept else ""
    what = f" ({', '.join(faults)})" if faults else ""
    return ReversalError(f"The reversal did not arrive at the start of the run{what}: {cause} Results are withheld.")
