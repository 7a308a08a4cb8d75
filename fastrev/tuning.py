"""A learned hyperparameter in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.architecture import initial_scales
from fastrev._engine.hyperparameters import LARGEST_DECAY, SMALLEST_DECAY
from fastrev._engine.optimizer import Optimizer, arguments_of, replaced
from fastrev._engine.python_objective import PythonObjective, is_theta, theta_name
from fastrev._engine.rule import Rule
from fastrev._engine.validation import Validation, require_one, validation
from fastrev._files.fingerprints import digest
from fastrev._tuning import outer
from fastrev._tuning.checkpoints import plan_fingerprint
from fastrev._tuning.held_out import HeldOut, held_out
from fastrev._tuning.space import Space, Values
from fastrev._tuning.transforms import Linear, Log, Logit, Softmax, Transform, as_mapping, choose
from fastrev._tuning.trials import Training, attempt
from fastrev.mlp import MLP
from fastrev.objective import Objective
from fastrev.optimizers import optimizer_of
from fastrev.runs import differentiable, values
from fastrev.training import Examples
from fastrev.tuning_results import TuneResult

_ON_THE_GRID = -2047.0, 2047.0  # weights and velocities
# without which no run can be made, whatever the transform
_ADMISSIBLE = {"init_scale": (0.0, np.inf), "w0": _ON_THE_GRID}
_FIXED: dict[str, Transform] = {
    "l2": Log(), "init_scale": Log(), "w0": Linear(*_ON_THE_GRID), "x": Linear(), "example_weights": Linear(0.0),
}  # fmt: skip
_OF_DATA = ("x", "y", "example_weights")
_FUNCTIONS = ("grad", "hvp", "cross", "hvp_and_cross", "with_theta", "with_seed")  # of an Objective
_TARGETS: dict[str, Transform] = {"cross_entropy": Softmax(), "logistic": Linear(0.0, 1.0), "squared_error": Linear()}


def tune(
    model: MLP | Objective,
    w0: npt.ArrayLike | Callable[[int], npt.ArrayLike] | None = None,
    *,
    learn: tuple[str, ...],
    train: Examples | None = None,
    valid: Examples | Validation | float,
    lr: npt.ArrayLike | None = None,
    decay: npt.ArrayLike | None = None,
    optimizer: Optimizer | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    batches: npt.ArrayLike | None = None,
    l2: npt.ArrayLike = 0.0,
    v0: npt.ArrayLike | None = None,
    example_weights: npt.ArrayLike | None = None,
    init_scale: npt.ArrayLike | None = None,
    transforms: Mapping[str, Any] | None = None,
    method: str = "adam",
    meta_steps: int = 100,
    meta_lr: float = 0.05,
    runs: int = 8,
    workers: Any = 1,
    seed: int = 0,
    truncate: int | None = None,
    patience: int | None = None,
    callback: Callable[[Any], object] | None = None,
    progress: bool = True,
    checkpoint: Any = None,
) -> TuneResult:
    """Learn hyperparameters, initial weights or training data by their exact meta-gradients.

    Every meta-step makes `runs` trainings of fresh initial weights and batches, differentiates the validation loss
    after each by all that is to be learned, clips each gradient to the running median of their norms, and moves by
    Adam, at a rate that falls to zero along half a cosine.  The step is tried on the seeds that made it, and where the
    mean loss rises by more than 2 % it is taken back and the rate halved.  Runs that diverge or explode are survived:
    where most runs do, learning rates are halved instead, unless the loss rises by it.  In the end the start, the best
    by a moving average and the last are compared on the same fresh seeds, and the best of them is returned.

    Parameters
    ----------
    model, train, lr, decay, optimizer, steps, batch_size, batches, l2, v0, example_weights, truncate
        As in `meta_grad`: where to begin.  The shapes of what is learned say how finely: `lr`, of an optimizer too, as
        a number, (T,), (1, G) or (T, G).
    valid : pair (X, Y), function, or float
        As in `meta_grad`, but one loss; or a share between 0 and 1 of the training examples of an MLP.  Each run then
        holds another such share out, drawn by its seed, of each class alike where the loss is cross_entropy, and is
        validated on it: where examples are few, all serve for both, and what is learned fits none of them in
        particular.  With `example_weights` the held-out examples keep theirs.  `TuneResult.train` trains on all.
    w0 : (P,) array_like, or function of a seed, optional
        Initial weights of all runs, or of each.  Default: ``model.init(seed, scale=init_scale)``.
    learn : tuple of str
        Names among "lr", "decay", "w0", "v0", or what `optimizer` has in place of these ("lr", "beta1", ...); of an MLP
        also "l2", "init_scale", "x", "y", "example_weights"; of an Objective also "theta".
    init_scale : float or (G,) array_like, optional
        Standard deviations of the initial weights of an MLP, of all or of each parameter group: see `MLP.init`.
    transforms : mapping of str to str or pair, optional
        In which coordinates something moves, where that is to be others than these; of `theta` for all, or a mapping
        of its names.  "linear", "log", "logit" (between 0 and 1), "softmax", "nonnegative" (as it is, at 0 or above),
        or a pair of bounds, between which it moves in logit.  Whatever the coordinates, rates, scales, decays and
        weights are kept where a run can be made.

        ==================== =================================================================
        learned              moves
        ==================== =================================================================
        lr, l2, init_scale,  in log: stays positive, and what is 0 stays 0
        eps, weight_decay
        decay, beta1, beta2  in logit between 2**-16 and 65535/65536, which the exact
                             arithmetic admits
        y                    in softmax for cross_entropy, classes smoothed by 1 %; kept in
                             [0, 1] for logistic; as it is for squared_error
        example_weights      as they are, at 0 or above
        w0, v0               as they are, kept on the grid
        x, theta             as they are
        ==================== =================================================================
    method : str
        "adam", or a method of `scipy.optimize.minimize` that needs a gradient only, such as "L-BFGS-B": the runs then
        have the same seeds at every point.
    meta_steps : int
        Meta-steps; of SciPy's methods, iterations.
    meta_lr : float
        Adam's rate in the coordinates above: 0.05 moves a learning rate by about 5 % a meta-step.
    runs : int
        Trainings a meta-step.  Where nothing of a run is drawn (`w0` given, and no `batch_size`), one is made.
    workers : int, map-like callable, or object with a method ``map``
        Who makes the runs: so many threads, -1 for one a core, or the map of a pool, such as a
        `concurrent.futures.Executor` or a Dask client's ``client.get_executor()``.  The result has the same bits with
        each.
    seed : int
        Seeds all that is drawn: initial weights and batches.
    patience : int, optional
        End when the moving average of the loss has not fallen for so many meta-steps.
    callback : function, optional
        Called with the state after every meta-step: ``state.nit``, ``state.loss``, ``state.average``,
        ``state.values()`` and more.  Raising StopIteration ends the loop.
    progress : bool
        Show a progress bar.
    checkpoint : str or path-like, optional
        A file to keep the state in, about every second.  If it is there the loop goes on from it, to the same bits as
        if it had never been interrupted.

    Returns
    -------
    TuneResult
        With ``lr``, ``decay``, ... as learned, ``optimizer`` with all of its own, ``loss``, ``history``, ``message``,
        and ``train`` to train with it.
        After Ctrl-C too, with ``success`` False.

    Raises
    ------
    ArgumentError
        Before anything is computed, if an argument is at fault.
    DivergenceError
        If no run of the first meta-step ends, at any learning rate if these are learned in log.
    ReversalError
        If a run does not come back to its start, as where the functions of an Objective are not reproducible.

    Warns
    -----
    RuntimeWarning
        If the checkpoint cannot be written, for want of room.  The loop goes on.

    Notes
    -----
    All that is against the edge of chaos, over which plain loops fall: learning rates grow until meta-gradients are
    noise (Figure 10 of Maclaurin et al. 2015).  `python -m bench.tuning_digits` takes the loop apart.

    Beside ``2 * meta_steps * runs`` trainings, half of them differentiated, it takes some ``5 * runs`` to find a rate
    to begin with, where `lr` is learned, and in the end up to three times the larger of 16 and
    ``meta_steps * runs / 20``.

    Examples
    --------
    >>> import numpy as np, fastrev
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 5))
    >>> Y = (X.sum(axis=1) > 0).astype(int)
    >>> result = fastrev.tune(
    ...     fastrev.MLP((5, 8, 2)), train=(X[:150], Y[:150]), valid=(X[150:], Y[150:]), steps=20, batch_size=30,
    ...     lr=np.full((20, 4), 0.05), decay=0.9, learn=("lr", "decay"), meta_steps=20, progress=False)
    >>> result.lr.shape, result.loss < result.start_loss
    ((20, 4), True)
    """
    require_one("valid", valid)
    if isinstance(model, MLP):
        train, valid = _own_examples(model, "train", train), _own_examples(model, "valid", valid)
    chosen = optimizer_of(lr, decay, optimizer)
    own = {name: _own(name, value) for name, value in arguments_of(chosen).items()}
    given = {"train": train, "steps": steps, "batch_size": batch_size, "seed": 0} | {
        name: _own(name, value) for name, value in {
            "batches": batches, "l2": l2, "v0": v0, "example_weights": example_weights, "init_scale": init_scale,
        }.items()
    } | {"optimizer": replaced(chosen, own)}  # fmt: skip
    if truncate is not None:
        truncate = arguments.count("truncate", truncate)
    validated: Any = held_out(model, valid, given) if isinstance(valid, int | float | np.floating) else valid
    training = Training(model, w0 if callable(w0) else _own("w0", w0), given, validated, truncate)
    _check_weights(training)
    runs = arguments.count("runs", runs)
    start = _start(training, learn)
    space = Space.of(_transforms(training, start, transforms), start)
    settings = outer.check(
        meta_steps=meta_steps, meta_lr=meta_lr, runs=runs if training.random else 1, random=training.random, seed=seed,
        patience=patience, method=method, callback=callback, progress=progress, checkpoint=checkpoint,
        brake="lr" if isinstance(space.transforms.get("lr"), Log) else None,
    )  # fmt: skip
    free = space.free(start)
    fingerprint = {} if checkpoint is None else _fingerprint(training, space) | plan_fingerprint(settings.plan)
    ending = outer.run(attempt, training, workers, space, free, settings, fingerprint)
    return TuneResult(
        learned={name: value[()] for name, value in ending.values.items()}, training=training, loss=ending.loss,
        start_loss=ending.start_loss, **vars(ending.account),
    )  # fmt: skip


def _fingerprint(training: Training, space: Space) -> dict[str, str]:
    """Of all that decides what becomes of the loop, but for its plan."""
    model, given = training.model, training.arguments
    parts = {**arguments_of(given["optimizer"]), **given, "w0": training.w0, "valid": training.valid}
    found = {name: digest(value) for name, value in parts.items()}
    found |= {"learn": repr(tuple(space.shapes)), "transforms": repr(space.transforms)}
    if isinstance(training.valid, HeldOut):
        found["valid"] = repr(training.valid.share)
    found |= {"truncate": repr(training.truncate)}
    if isinstance(model, MLP):
        return found | {"model": repr(model)}
    found |= {f"model.{name}": digest(value) for name, value in PythonObjective(model).values().items()}
    found |= {f"model.{name}": digest(getattr(model, name, None)) for name in _FUNCTIONS}
    return found | {"model": type(model).__qualname__}


def _own(name: str, value: Any) -> Any:
    """A copy of what is given as an array: whatever becomes of that, all runs have the same."""
    return value if value is None or isinstance(value, int | float) else arguments.as_array(name, value).copy()[()]


def _own_examples(model: MLP, name: str, pair: Any) -> Any:
    """A copy of examples, with inputs of the model's dtype, which no run has to convert."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return pair
    return arguments.real_array(f"{name}[0]", pair[0], model.dtype, own=True), _own(f"{name}[1]", pair[1])


def _check_weights(training: Training) -> None:
    """Refuse initial weights that cannot be made."""
    scale = training.arguments["init_scale"]
    if not isinstance(training.model, MLP):
        PythonObjective(training.model)  # is refused here, if it is none
        if scale is not None:
            raise arguments.fault("init_scale", "be left out where the model is a fastrev.Objective", repr(scale))
        if training.w0 is None:
            raise arguments.fault(
                "w0", "be given where the model is a fastrev.Objective", "None", "Pass (P,), or a function of a seed."
            )
    elif scale is not None:
        if training.w0 is not None:
            raise arguments.fault("init_scale", "be left out where w0 is given", repr(scale))
        initial_scales(training.model, scale, "init_scale")


def _start(training: Training, learn: Any) -> Values:
    """The values that are learned, checked with everything else of a run."""
    drawn = training.drawn(0)
    run = drawn.run({}, 0)
    found = values(run)
    network, optimizer = isinstance(training.model, MLP), training.arguments["optimizer"]
    thetas = [name for name in found if is_theta(name)]
    own = ("l2", *_OF_DATA) if network else ("theta",) if thetas else ()
    names = [*optimizer.kind.names, *optimizer.kind.starts, *own]
    names += ["w0"] if training.w0 is not None and not callable(training.w0) else ["init_scale"] if network else []
    in_order = sorted(learn, key=str) if isinstance(learn, set | frozenset) else learn  # the same in every process
    if isinstance(in_order, tuple | list) and "w0" in in_order and "w0" not in names:
        raise arguments.fault("learn", "hold 'w0' only where w0 is an array", "'w0'", "Pass w0=model.init(seed=0).")
    if isinstance(in_order, tuple | list) and isinstance(training.valid, HeldOut):
        for name in _OF_DATA:
            if name in in_order:
                raise arguments.fault(
                    "learn", f"hold {name!r} only where valid holds examples or is a function", f"{in_order!r}",
                    "What is held out is not trained on; pass valid=(Xv, Yv).",
                )  # fmt: skip
    chosen = arguments.distinct_choices("learn", in_order, names)
    if not chosen:
        raise arguments.fault("learn", "name something", "nothing", f"Pass names among {', '.join(names)}.")
    differentiable(run, tuple({"init_scale": "w0"}.get(name, name) for name in chosen))
    validation(training.model, drawn.valid)
    start: Values = {}
    for name in chosen:
        if name == "theta":
            start |= {each: found[each] for each in thetas}
        elif name == "init_scale":
            start[name] = initial_scales(training.model, training.arguments[name], name)
        elif name in optimizer.kind.names:  # as given: not the ratio that stands for it
            start[name] = np.array(getattr(optimizer, name), np.float64)
        else:
            start[name] = found[name]
    return start


def _transforms(training: Training, start: Values, given: Mapping[str, Any] | None) -> dict[str, Transform]:
    """How each moves."""
    chosen = as_mapping(given)
    mine = [name for name in start if is_theta(name)]
    theta = chosen.pop("theta", {}) if mine else {}
    if isinstance(theta, Mapping):
        chosen |= {theta_name(name): each for name, each in theta.items()}
    else:
        chosen |= dict.fromkeys(mine, theta)
    for name in chosen:
        if name not in start:
            learned = ", ".join(repr(each) for each in start)
            raise arguments.fault("transforms", f"name only what is learned, {learned}", repr(name))
    kind = training.arguments["optimizer"].kind
    admissible = {**_ADMISSIBLE, **{name: _admissible(kind, name) for name in kind.names}}
    admissible |= dict.fromkeys(kind.starts, _ON_THE_GRID)
    found = {**_FIXED, **dict.fromkeys(mine, Linear()), **dict.fromkeys(kind.starts, Linear(*_ON_THE_GRID))}
    found |= {name: Logit(*admissible[name]) if name in kind.ratios else Log() for name in kind.names}
    if isinstance(training.model, MLP):
        found["y"] = _TARGETS[training.model.loss]
    return {
        name: choose(name, chosen[name], *admissible.get(name, ())) if name in chosen else found[name] for name in start
    }


def _admissible(kind: type[Rule], name: str) -> tuple[float, float]:
    """The bounds of what is of a rule."""
    return (SMALLEST_DECAY, LARGEST_DECAY) if name in kind.ratios else (0.0, np.inf)
