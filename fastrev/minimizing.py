"""The outer loop for any function with gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._files.fingerprints import digest
from fastrev._tuning import outer
from fastrev._tuning import transforms as moves
from fastrev._tuning.checkpoints import plan_fingerprint
from fastrev._tuning.space import Space, Values
from fastrev._tuning.trials import Outcome, Trial, usable
from fastrev.errors import ArgumentError, DivergenceError
from fastrev.tuning_results import MinimizeResult

Function = Callable[[dict[str, Any], int], tuple[float, Mapping[str, npt.ArrayLike]]]


def minimize(
    fun: Function,
    x0: Mapping[str, npt.ArrayLike],
    *,
    loss: Callable[[dict[str, Any], int], float] | None = None,
    transforms: Mapping[str, Any] | None = None,
    method: str = "adam",
    meta_steps: int = 100,
    meta_lr: float = 0.05,
    runs: int = 8,
    workers: Any = 1,
    seed: int = 0,
    patience: int | None = None,
    callback: Callable[[Any], object] | None = None,
    progress: bool = True,
    checkpoint: Any = None,
) -> MinimizeResult:
    """Minimize the mean of a noisy function of named arrays: the loop of `tune`, for anything that has gradients.

    Parameters
    ----------
    fun : function
        ``fun(values, seed)`` returns a pair of loss and gradients: `values` maps the names of `x0` to arrays of their
        shapes (numbers for 0-d ones), the gradients do as well.  It may raise `DivergenceError`, which is survived.
    x0 : mapping of str to array_like
        Where to begin.
    loss : function, optional
        ``loss(values, seed)``, the loss alone, where that takes less time: each step is tried before it is taken.
    transforms : mapping of str to str or pair, optional
        In which coordinates each moves, as in `tune`; default "linear".
    method, meta_steps, meta_lr, runs, workers, seed, patience, callback, progress, checkpoint
        As in `tune`.  ``runs=1`` is for functions that do not depend on the seed.

    Returns
    -------
    MinimizeResult
        With ``x`` by name, ``fun``, ``history``, ``message``.  After Ctrl-C too, with ``success`` False.

    Raises
    ------
    ArgumentError
        If an argument is at fault, or `fun` returns what it must not.
    DivergenceError
        If no run of the first meta-step ends.

    Examples
    --------
    >>> import numpy as np, fastrev
    >>> def fun(values, seed):
    ...     noise = 0.1 * np.random.default_rng(seed).standard_normal(3)
    ...     away = values["x"] - 1 + noise
    ...     return away @ away, {"x": 2 * away}
    >>> result = fastrev.minimize(fun, {"x": np.zeros(3)}, progress=False)
    >>> bool(np.abs(result.x["x"] - 1).max() < 0.1), result.nit
    (True, 100)
    """
    settings = outer.check(
        meta_steps=meta_steps, meta_lr=meta_lr, runs=runs, random=runs != 1, seed=seed, patience=patience,
        method=method, callback=callback, progress=progress, checkpoint=checkpoint,
    )  # fmt: skip
    for name, function in (("fun", fun), ("loss", loss)):
        if not callable(function) and (name == "fun" or function is not None):
            raise arguments.fault(name, "be a function of values and seed", f"a {type(function).__name__}")
    if not isinstance(x0, Mapping) or not x0 or not all(isinstance(name, str) for name in x0):
        received = repr(list(x0)) if isinstance(x0, Mapping) else f"a {type(x0).__name__}"
        raise arguments.fault("x0", "map names to arrays", received, "Pass a dict such as {'x': np.zeros(3)}.")
    start = {name: arguments.real_array(f"x0[{name!r}]", value, own=True) for name, value in x0.items()}
    chosen = moves.as_mapping(transforms)
    for name in chosen:
        arguments.choice("transforms", name, start)
    space = Space.of({name: moves.choose(name, chosen.get(name, "linear")) for name in start}, start)
    kept: dict[str, str] = {}
    if checkpoint is not None:
        kept = {f"x0[{name!r}]": digest(value) for name, value in start.items()} | plan_fingerprint(settings.plan)
        kept |= {"fun": digest(fun), "loss": digest(loss), "transforms": repr(space.transforms)}
    ending = outer.run(_attempt, (fun, loss), workers, space, space.free(start), settings, kept)
    return MinimizeResult(
        x={name: value[()] for name, value in ending.values.items()}, fun=ending.loss, start_fun=ending.start_loss,
        **vars(ending.account),
    )  # fmt: skip


def _attempt(functions: tuple[Function, Any], trial: Trial) -> Outcome:
    fun, loss = functions
    values = {name: value.copy()[()] for name, value in trial.values.items()}  # its own, to do with as it likes
    try:
        if loss is not None and not trial.differentiate:
            return _outcome(loss(values, trial.seed), "loss")
        result = fun(values, trial.seed)
    except DivergenceError as error:
        return Outcome(np.inf, refusal=str(error))
    if not isinstance(result, tuple) or len(result) != 2:
        raise ArgumentError(f"fun(values, seed) must return a pair of loss and gradients, not {type(result).__name__}.")
    outcome = _outcome(result[0], "fun")
    if not trial.differentiate or outcome.loss == np.inf:
        return outcome
    gradients = _gradients(result[1], trial.values)
    return Outcome(outcome.loss, gradients if usable(gradients) else None)


def _outcome(value: Any, name: str) -> Outcome:
    found = arguments.as_array(f"{name}(values, seed)", value)
    if found.size != 1 or found.dtype.kind not in "fiu":
        raise ArgumentError(f"{name}(values, seed) must return a number as loss, not {value!r}.")
    number = float(found.reshape(-1)[0])
    return Outcome(number if np.isfinite(number) else np.inf, refusal=f"{name} returned a loss of {number}.")


def _gradients(found: Any, values: Values) -> Values:
    if not isinstance(found, Mapping) or not values.keys() <= found.keys():
        received = ", ".join(map(repr, found)) if isinstance(found, Mapping) else type(found).__name__
        raise ArgumentError(
            f"fun(values, seed)[1] must map {', '.join(map(repr, values))} to gradients, not {received}."
        )
    gradients = {}
    for name, value in values.items():
        gradient = arguments.as_array(f"fun(values, seed)[1][{name!r}]", found[name])
        if gradient.shape != value.shape or gradient.dtype.kind not in "fiu":
            raise ArgumentError(
                f"fun(values, seed)[1][{name!r}] must have shape {value.shape}, that of x0[{name!r}], and be real, "
                f"not shape {gradient.shape} and dtype {gradient.dtype}."
            )
        gradients[name] = gradient.astype(np.float64)
    return gradients
