"""Whether a meta-gradient is right, and means anything."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments, differences, moves
from fastrev._engine.optimizer import Optimizer
from fastrev._engine.problem import Problem, prepare
from fastrev._engine.python_objective import theta_name
from fastrev._engine.stored import StoredRun
from fastrev._engine.types import FloatArray
from fastrev._engine.validation import Validation, require_finite, validation
from fastrev.errors import ArgumentError, ChaosWarning, DivergenceError
from fastrev.kernels.fixed_point import GRID
from fastrev.mlp import MLP
from fastrev.objective import Objective
from fastrev.optimizers import optimizer_of
from fastrev.results import Gradients
from fastrev.runs import Run, differentiable, make_all_steps
from fastrev.training import Examples
from fastrev.verdicts import HyperparameterCheck, MetaGradientCheck, TermCheck

_LENGTHS = 0.1 * 0.25 ** np.arange(18)  # of the moves, relative: from a tenth to 6e-12, or to where rounding hides all
_ABOVE_NOISE = 30.0  # remainders are read where they are that many times the rounding


def check_meta_grad(
    model: MLP | Objective,
    w0: npt.ArrayLike,
    *,
    train: Examples | None = None,
    valid: Examples | Validation,
    lr: npt.ArrayLike | None = None,
    decay: npt.ArrayLike | None = None,
    optimizer: Optimizer | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    batches: npt.ArrayLike | None = None,
    l2: npt.ArrayLike = 0.0,
    v0: npt.ArrayLike | None = None,
    example_weights: npt.ArrayLike | None = None,
    wrt: tuple[str, ...] | None = None,
    directions: int = 2,
    direction_seed: int = 0,
) -> MetaGradientCheck:
    """Whether a meta-gradient is the derivative that it claims to be, hyperparameter by hyperparameter.

    Three questions, each of which a wrong `hvp` or `cross` of an `Objective` answers with no:

    - is the Hessian-vector product of a step, and each cross derivative, the derivative of the gradient there?
    - does a run whose trajectory is stored give the same meta-gradient as the reversal?
    - does the loss after a move of a hyperparameter differ from what the meta-gradient predicts by a remainder of
      second order, four times less for half the move?

    Parameters
    ----------
    model, w0, train, valid, lr, decay, optimizer, steps, batch_size, seed, batches, l2, v0, example_weights, wrt
        As in `meta_grad`, but `valid` is one loss.
    directions : int
        Random directions in which each hyperparameter is moved.
    direction_seed : int
        Of the random directions.

    Returns
    -------
    MetaGradientCheck
        ``passed``, a ``verdict`` in words, and all figures; printed, it is a table.

    Raises
    ------
    ArgumentError, DivergenceError
        As in `meta_grad`.

    Notes
    -----
    It trains up to ``18 * directions`` times for each hyperparameter and keeps one trajectory, 24 bytes a parameter a
    step: check a short run of a small model, with the functions that the large one will use.

    Examples
    --------
    >>> import numpy as np, fastrev
    >>> model = fastrev.MLP((2, 3), loss="squared_error")
    >>> X, Y = np.eye(2), np.ones((2, 3))
    >>> check = fastrev.check_meta_grad(
    ...     model, model.init(seed=0), train=(X, Y), valid=(X, Y), lr=0.1, decay=0.9, steps=20)
    >>> check.passed
    True
    """
    problem = prepare(
        model, w0, train=train, optimizer=optimizer_of(lr, decay, optimizer), steps=steps, batch_size=batch_size,
        seed=seed, batches=batches, l2=l2, v0=v0, example_weights=example_weights,
    )  # fmt: skip
    run = Run(problem)
    names, validate = differentiable(run, wrt), validation(model, valid)
    count = arguments.count("directions", directions)
    rng = np.random.default_rng(arguments.whole("direction_seed", direction_seed, 0))
    make_all_steps(run, progress=False)
    loss, w_bar = validate(run.w)
    require_finite(run, loss, w_bar)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ChaosWarning)  # the verdict says it
        grad = _flat(run.pullback(w_bar, wrt=names))
    norms = run.stats.adjoint_norms
    assert norms is not None
    stored = StoredRun(problem)
    again = _flat(Gradients(**{name: each for name, each in stored.pullback(w_bar, names).items() if name in names}))

    def loss_of(other: Problem) -> float:
        moved_run = Run(other)
        make_all_steps(moved_run, progress=False)
        return validate(moved_run.w)[0]

    unit = _unit(problem, stored)
    noise = _noise(problem, unit, differences.size_of(stored.w), loss, loss_of, rng)
    checks = {}
    for name in moves.names_of(problem, names):
        lines = [_taylor(problem, name, grad[name], loss, loss_of, noise, rng) for _ in range(count)]
        slopes, errors, reaches = zip(*lines, strict=True)
        checks[name] = HyperparameterCheck(
            slope=float(np.fmin.reduce(slopes)), error=max(errors), reach=min(reaches),
            stored=_disagreement(grad[name], again[name]),
        )  # fmt: skip
    found = differences.of_terms(problem, list(checks), stored.w, validate, unit, rng)
    terms = {name: TermCheck(*each) for name, each in found.items()}
    # where the loss has no derivative there is nothing that could grow
    growth = float(np.max(norms) / norms[-1]) if norms[-1] else 1.0
    return MetaGradientCheck(checks, terms, growth, complete=problem.steps <= differences.STEPS)


def _flat(gradients: Gradients) -> dict[str, FloatArray]:
    """The derivatives by name, those by an objective's own hyperparameters among them."""
    found = {name: each for name, each in vars(gradients).items() if each is not None and name != "theta"}
    return found | {theta_name(name): each for name, each in (gradients.theta or {}).items()}


def _disagreement(a: FloatArray, b: FloatArray) -> float:
    """The largest, relative to the largest magnitude."""
    largest = float(np.max(np.abs(b), initial=0.0))
    return float(np.max(np.abs(np.subtract(a, b)), initial=0.0)) / largest if largest else float(np.any(a != b))


def _unit(problem: Problem, stored: StoredRun) -> float:
    """The rounding of a number near 1 in the gradient's precision: float32's, if each of its numbers is one."""
    single = stored.g.any() and np.array_equal(stored.g, stored.g.astype(np.float32))
    return float(np.finfo(problem.trained.dtype or (np.float32 if single else np.float64)).eps)


def _noise(
    problem: Problem,
    unit: float,
    size: float,
    loss: float,
    loss_of: Callable[[Problem], float],
    rng: np.random.Generator,
) -> float:
    """What rounding does to the loss: the effect of moving the initial weights by some units in their last place."""
    start, length = problem.values()["w0"], max(unit * size, GRID.step)
    losses = [
        loss_of(problem.with_value("w0", start + times * length * rng.standard_normal(start.size)))
        for times in (2, 4, 6, 8)
    ]
    return float(np.max(np.abs(np.subtract(losses, loss)))) + 10 * unit * abs(loss)


def _taylor(
    problem: Problem,
    name: str,
    grad: FloatArray,
    loss: float,
    loss_of: Callable[[Problem], float],
    noise: float,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """Along a random direction, the slope of the remainder, the least relative error of a prediction, and its reach.

    A move is what the exact arithmetic makes of it, rounded to the grid or to a ratio: that is not in the remainder.
    Moves get shorter until the remainder is rounding, so that jumps of the gradient, which short ones do not meet, do
    not decide.
    """
    value = problem.values()[name]
    along = moves.direction(problem.rule, name, value, rng)
    lengths, remainders, error, reach = [], [], np.inf, 0.0
    for length in _LENGTHS:
        try:
            other = problem.with_value(name, value + length * along)
            move = other.values()[name] - value
            change, predicted = loss_of(other) - loss, float(np.sum(grad * move))
        except (ArgumentError, DivergenceError):
            reach = 0.0
            continue  # too far, or between the largest ratio and 1
        if not move.any():
            break  # too short to be told
        rest, size = abs(change - predicted), max(abs(change), abs(predicted))
        hidden = rest <= _ABOVE_NOISE * noise
        error = min(error, rest / max(size, noise, np.finfo(float).tiny))
        if not (hidden or rest <= 0.1 * size):
            reach = 0.0
        elif reach == 0.0:
            reach = float(length)
        lengths.append(float(np.linalg.norm(move)))
        remainders.append(max(rest, noise, np.finfo(float).tiny))
        if hidden:
            break
    return _slope(lengths, remainders, noise), error, reach


def _slope(lengths: list[float], remainders: list[float], noise: float) -> float:
    """Of the shortest moves whose remainders can be told from rounding, or down to it if that is steeper."""
    told = sum(rest > _ABOVE_NOISE * noise for rest in remainders)
    if told < 3:
        return np.nan
    ends = [(k - 1, k) for k in (told - 1, told) if k < len(lengths)]
    return max(float(np.log(remainders[a] / remainders[b]) / np.log(lengths[a] / lengths[b])) for a, b in ends)
