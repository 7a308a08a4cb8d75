"""What a run says where it is refused: on its way there, on its way back, or on arrival."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.problem import Problem
from fastrev._engine.types import AnyArray
from fastrev.errors import DivergenceError, ReversalError
from fastrev.kernels import outcomes

OF_THE_RUN = " The run up to that step is whole: error.run.rewind() takes it back to its start."


def divergence(problem: Problem, step: int, reason: int, parameter: int, run: Any) -> DivergenceError:
    """Of a step that cannot be made, for the reason that the kernel gave."""
    position = int(np.searchsorted(problem.trained.bounds, parameter, side="right")) - 1
    group, rate = problem.trained.group_names[position], problem.rule.rate_at(step, position)
    what = (
        "the gradient holds NaN or infinite values"
        if reason == outcomes.NOT_FINITE
        else "the weights or their velocity would leave the grid, magnitudes below 2048"
    )
    return DivergenceError(
        f"Step {step} of {problem.steps} was refused: {what}, in group '{group}'. "
        f"{_cause(problem, step, reason, rate)}{OF_THE_RUN}",
        step=step,
        group=group,
        run=run,
    )


def _cause(problem: Problem, step: int, reason: int, rate: float) -> str:
    """What made a step grow, as far as the numbers of the problem tell, and what to do."""
    trained = problem.trained
    if not isinstance(trained, MLPObjective):
        if step == 0 and reason == outcomes.NOT_FINITE:
            return "It is so at w0 itself, whatever lr: look at model.grad(w0, 0), and begin with smaller weights."
        return f"The likely cause is a learning rate that is too high (lr = {rate:g} there): lower lr."
    x, y = _largest(trained.data.x), _largest(trained.data.y)
    l2, weights = _largest(trained.l2), _largest(trained.data.weights)
    cause = f"The likely cause is a learning rate (lr = {rate:g} there) that is too high"
    if trained.model.loss == "squared_error" and y > max(_LARGE, x):
        return f"{cause} for targets of up to {y:g}: standardise them, (Y - Y.mean()) / Y.std(), or lower lr."
    if x > _LARGE:
        return f"{cause} for inputs of up to {x:g}: scale them to about 1, X / {x:g}, or lower lr."
    if weights > _LARGE:
        return f"{cause} for example weights of up to {weights:g}: divide them by their mean, or lower lr."
    if rate * l2 > 1 and l2 > 1:
        return f"{cause} for penalties of up to l2 = {l2:g}: lower l2 or lr."
    return f"{cause}: lower lr."


_LARGE = 10.0  # standardised numbers are below, pixels from 0 to 255 above


def _largest(values: AnyArray) -> float:
    """The largest magnitude, without a copy of them all."""
    return float(max(values.max(initial=0), -values.min(initial=0)))


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


def no_arrival(problem: Problem, faults: list[str]) -> ReversalError:
    """Of a run that came back to another start."""
    changed = [f"'{name}'" for name in problem.changed()]
    cause = (
        f"{' and '.join(changed)} changed in place after the training began. Leave such an array alone until the "
        "run has been taken back, or pass a copy of it, and train again."
        if changed
        else "Memory failed, or the gradient was not reproduced bit for bit. Train again."
    )
    what = f" ({', '.join(faults)})" if faults else ""
    return ReversalError(f"The reversal did not arrive at the start of the run{what}: {cause} Results are withheld.")
