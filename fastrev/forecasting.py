"""What a meta-gradient is going to take, found out before it is begun."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.hyperparameters import axis_of_steps
from fastrev._engine.optimizer import Optimizer, arguments_of, replaced
from fastrev._engine.python_objective import PythonObjective
from fastrev._engine.types import AnyArray
from fastrev._files.replacing import StrPath
from fastrev.forecasts import Forecast
from fastrev.meta_gradient import meta_grad
from fastrev.mlp import MLP
from fastrev.objective import Objective
from fastrev.optimizers import optimizer_of
from fastrev.runs import differentiable, expected_stats, start

_LONG_ENOUGH = 0.4  # seconds of the longest run that is measured
_TURNS, _FEW = 5, 2
_RATE = 0.1  # where none is given
_NEAR_ZERO = 1e-3
_BATCHES = 16  # of which there are examples, where nobody says of how many
_HARMLESS = 1e-6  # times the learning rates: made-up data do not diverge, and no number is so small that it is slow
# what a training has by default
_ABSENT: dict[str, Any] = dict.fromkeys(("train", "batches", "v0", "example_weights")) | {"seed": 0}


def forecast(
    model: MLP | Objective,
    steps: int,
    decay: npt.ArrayLike | None = None,
    batch_size: int | None = None,
    *,
    examples: int | None = None,
    valid: int | None = None,
    lr: npt.ArrayLike | None = None,
    optimizer: Optimizer | None = None,
    l2: npt.ArrayLike = 0.0,
    wrt: tuple[str, ...] | None = None,
    losses: int = 1,
    buffer: StrPath | None = None,
    timed: bool = True,
) -> Forecast:
    """What a meta-gradient is going to take: memory, disk and time.

    Memory and disk are counted, of the arrays that such a run has; time is measured on short runs, of some seconds
    together, with made-up data of the same shapes.

    Parameters
    ----------
    model : MLP or Objective
        An Objective's functions are called, at weights near zero, where the time is measured.
    steps : int
        T.
    decay : float or array_like, optional
        As in `meta_grad`: it decides how much information has to be kept.
    batch_size : int, optional
        Examples of a step; default all.
    examples : int, optional
        N, the number of training examples; default those of 16 batches.  Their derivatives by "x" take memory.
    valid : int, optional
        Number of validation examples of each loss; default `examples`, or else `batch_size`.
    lr : float or array_like, optional
        As in `meta_grad`; of this only the shape matters.
    optimizer : SGD or Adam, optional
        In place of `lr` and `decay`.
    l2 : float or array_like
        As in `meta_grad`.
    wrt : tuple of str, optional
        What to differentiate by, as in `meta_grad`.
    losses : int
        K, how many losses are differentiated in one reversal.
    buffer : str or path-like, optional
        As in `meta_grad`: what is kept goes to files there, of which this writes none to speak of.
    timed : bool
        Whether to measure the time.

    Returns
    -------
    Forecast

    Raises
    ------
    ArgumentError
        If an argument is at fault.

    Notes
    -----
    A head holds 16 bits more than it began with before the first word is pushed: short runs keep all in the heads.
    What is kept on the way is ``log2(1 / decay)`` bits a parameter a step, of Adam those of both betas together, and of
    weight decay ``log2(1 / (1 - lr * weight_decay))`` more.

    Examples
    --------
    >>> import fastrev
    >>> model = fastrev.MLP((784, 50, 50, 50, 10))
    >>> print(fastrev.forecast(model, 10_000_000, decay=0.9, batch_size=200, timed=False))
    10,000,000 steps of 44,860 parameters
    memory       8.89 GB
    disk         0 bytes
    information  8.52 GB, 0.152 bits per parameter and step
    """
    chosen = optimizer_of(_RATE if optimizer is None and lr is None else lr, decay, optimizer)
    losses, timed = arguments.count("losses", losses), arguments.flag("timed", timed)
    rows = {"examples": examples, "valid": valid, "batch_size": batch_size}
    examples, valid, batch_size = (None if each is None else arguments.count(name, each) for name, each in rows.items())
    training = _made_up(model, batch_size, examples, valid) | {"l2": l2}
    run = start(model, optimizer=chosen, steps=steps, buffer=buffer, **_ABSENT | training)
    names = differentiable(run, wrt)
    stats = expected_stats(run, losses, names)
    seconds = None
    if timed:
        loss = _made_up_loss(model, valid or examples or batch_size)
        how = training | {"valid": [loss] * losses if losses > 1 else loss, "wrt": names}
        seconds = _seconds(
            lambda made: _elapsed(model, how | {"optimizer": _beginning(chosen, made), "steps": made}), stats.steps
        )
    return Forecast(
        steps=stats.steps, num_params=run.w.size, bytes_held=stats.bytes_held, bytes_on_disk=stats.bytes_on_disk,
        stored_bits=stats.stored_bits, bits_per_parameter_step=stats.bits_per_parameter_step, seconds=seconds,
    )  # fmt: skip


def _seconds(once: Callable[[int], float], steps: int) -> float:
    """Those of so many steps, of which no more are made than it takes to tell.

    What they have in common with one of a few steps is theirs once; held against half as many instead, an error in
    either counts three times.  Medians, not the best: what disturbs these runs now and then will disturb a longer one
    as often.
    """
    few = min(steps, _FEW)
    once(few)  # all is compiled by then
    made = min(steps, 8)
    taken = once(made)
    while made < steps and taken < _LONG_ENOUGH:
        made = min(2 * made, steps)
        taken = once(made)
    if made == steps:
        return median([taken, *(once(made) for _ in range(_TURNS - 1))])
    turns = [(once(few), once(made)) for _ in range(_TURNS)]
    short, whole = median(short for short, _ in turns), median(whole for _, whole in turns)
    return whole + (whole - short) / (made - few) * (steps - made)


def _elapsed(model: MLP | Objective, how: dict[str, Any]) -> float:
    """Seconds of a meta-gradient that sees its examples in an order that none before has seen."""
    order: dict[str, Any] = {"seed": secrets.randbits(31)} if isinstance(model, MLP) else {}
    begun = time.perf_counter()
    meta_grad(model, **how, **order)
    return time.perf_counter() - begun


def _beginning(optimizer: Optimizer, made: int) -> Optimizer:
    """The same for its first steps, with learning rates that move nothing far."""
    given = {name: np.asarray(value) for name, value in arguments_of(optimizer).items()}
    first = {name: each[:made] if axis_of_steps(each.shape) else each for name, each in given.items()}
    return replaced(optimizer, first | {"lr": _HARMLESS * first["lr"]})


def _made_up(model: MLP | Objective, batch_size: int | None, examples: int | None, valid: int | None) -> dict[str, Any]:
    """Where a training begins, and what it sees."""
    if not isinstance(model, MLP):
        size = PythonObjective(model).num_params
        for name, each in {"examples": examples, "valid": valid}.items():
            if each is not None:
                raise arguments.fault(name, "be left out where the model has its own", f"{each}")
        return {"w0": _NEAR_ZERO * np.random.default_rng(0).standard_normal(size), "batch_size": batch_size}
    if examples is None:
        if batch_size is None:
            raise arguments.fault("examples", "be given where batch_size is not", "None", "Pass how many a step sees.")
        examples = _BATCHES * batch_size
    return {"w0": model.init(0), "train": _examples(model, examples), "batch_size": batch_size}


def _made_up_loss(model: MLP | Objective, rows: int | None) -> Any:
    """What is differentiated in the end."""
    return _examples(model, rows) if isinstance(model, MLP) and rows else lambda w: (0.0, w)


def _examples(model: MLP, rows: int) -> tuple[AnyArray, AnyArray]:
    rng, outputs = np.random.default_rng(0), model.sizes[-1]
    x = rng.standard_normal((rows, model.sizes[0]), dtype=model.dtype)
    y = np.eye(outputs)[rng.integers(outputs, size=rows)]
    return x, y.astype(model.dtype)
