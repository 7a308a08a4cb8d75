"""Whether training answers smoothly to its hyperparameters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments, moves
from fastrev._engine.optimizer import Optimizer
from fastrev._engine.problem import Problem, prepare
from fastrev._engine.types import FloatArray
from fastrev.mlp import MLP
from fastrev.objective import Objective
from fastrev.optimizers import optimizer_of
from fastrev.runs import Run, make_all_steps
from fastrev.training import Examples


def metasmoothness(
    model: MLP | Objective,
    w0: npt.ArrayLike,
    *,
    train: Examples | None = None,
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
    wrt: tuple[str, ...] = ("lr",),
    h: float = 0.01,
    direction_seed: int = 0,
) -> float:
    """How smoothly the trained weights answer to hyperparameters, from three trainings: 1 is best, 0 and below noise.

    A meta-gradient may be exact and yet say nothing about a step of any use, because the loss is rugged at that scale.
    This says so beforehand, for moves of length `h`: where it is low, train more smoothly (lower learning rates, larger
    batches, smooth activations).

    Parameters
    ----------
    model, w0, train, lr, decay, optimizer, steps, batch_size, seed, batches, l2, v0, example_weights
        As in `meta_grad`.
    wrt : tuple of str
        What is moved, all of it at once along a random direction: names as in `meta_grad`.
    h : float
        Length of a move, relative, above 0 and below 0.1: 0.01 moves each hyperparameter by a hundredth of its size,
        root mean square.
    direction_seed : int
        Of the random direction.

    Returns
    -------
    float
        From -1 to 1, below 0 where the second move takes back what the first did:
        with ``d1 = w(z + h) - w(z)`` and ``d2 = w(z + 2 h) - w(z + h)`` the differences of the final
        weights, the mean of ``sign(d1) * sign(d2)``, every weight counting as much as it moved, ``abs(d1)``.

    Raises
    ------
    ArgumentError
        If an argument is at fault, or the move is too small to change any weight.
    DivergenceError
        If a step of one of the trainings is refused.

    References
    ----------
    L. Engstrom, A. Ilyas, B. Chen, A. Feldmann, W. Moses, A. Madry, "Optimizing ML Training with Metagradient Descent",
    2025, arXiv:2503.13751, definition 2.

    Examples
    --------
    >>> import numpy as np, fastrev
    >>> model = fastrev.MLP((2, 3), loss="squared_error")
    >>> X, Y = np.eye(2), np.ones((2, 3))
    >>> round(fastrev.metasmoothness(model, model.init(seed=0), train=(X, Y), lr=0.1, decay=0.9, steps=20), 3)
    1.0
    """
    problem = prepare(
        model, w0, train=train, optimizer=optimizer_of(lr, decay, optimizer), steps=steps, batch_size=batch_size,
        seed=seed, batches=batches, l2=l2, v0=v0, example_weights=example_weights,
    )  # fmt: skip
    choices = (*problem.rule.names, "w0", *problem.rule.starts, *problem.trained.names)
    names = moves.names_of(problem, arguments.distinct_choices("wrt", wrt, choices))
    if not names:
        raise arguments.fault("wrt", "name something to move", f"{wrt!r}")
    length = arguments.real_array("h", h)
    if length.shape != ():
        raise arguments.fault("h", "be a number", f"an array of shape {length.shape}")
    if not 0 < length < 0.1:
        raise arguments.fault("h", "be above 0 and below 0.1", f"{h}")
    rng = np.random.default_rng(arguments.whole("direction_seed", direction_seed, 0))
    values = problem.values()
    along = {name: length * moves.direction(problem.rule, name, values[name], rng) for name in names}

    ends = [_final_weights(moves.moved(problem, {name: k * each for name, each in along.items()})) for k in range(3)]
    first, second = ends[1] - ends[0], ends[2] - ends[1]
    if not first.any():
        raise arguments.fault("h", "be large enough to change the trained weights", f"{h}", "Pass a larger one.")
    weights = np.abs(first)
    return float(np.sum(weights * np.sign(first) * np.sign(second)) / np.sum(weights))


def _final_weights(problem: Problem) -> FloatArray:
    run = Run(problem)
    make_all_steps(run, progress=False)
    return run.w
