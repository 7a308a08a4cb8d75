"""Which training data decided a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from fastrev._attribution.columns import as_columns
from fastrev._attribution.queries import as_queries
from fastrev._attribution.source import Source, weights_of
from fastrev._engine import arguments
from fastrev._engine.optimizer import Optimizer
from fastrev._engine.problem import Problem, prepare
from fastrev._engine.python_objective import PythonObjective
from fastrev._engine.validation import Validation
from fastrev.attribution_results import Attribution
from fastrev.mlp import MLP
from fastrev.objective import Objective
from fastrev.optimizers import optimizer_of
from fastrev.training import Examples


def attribute(
    model: MLP | Objective,
    w0: npt.ArrayLike,
    *,
    train: Examples | None = None,
    queries: Examples | list[Examples | Validation],
    lr: npt.ArrayLike | None = None,
    decay: npt.ArrayLike | None = None,
    optimizer: Optimizer | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    batches: npt.ArrayLike | None = None,
    l2: npt.ArrayLike = 0.0,
    v0: npt.ArrayLike | None = None,
    example_weights: npt.ArrayLike | str | None = None,
    groups: npt.ArrayLike | Sequence[npt.ArrayLike] | None = None,
    progress: bool = False,
) -> Attribution:
    """What each training example did to the losses of some queries: how much they would change without it.

    It trains, takes the training back bit for bit, and differentiates the loss of every query by the weight of every
    training example on the way.  No retraining is needed; `Attribution.check` retrains to show how far one can rely on
    that.

    Parameters
    ----------
    model, w0, train, lr, decay, optimizer, steps, batch_size, seed, batches, l2, v0
        As in `meta_grad`.
    queries : pair (X, Y), or list
        Examples, each of which is a query with its own loss, without penalty.  Or a list of Q items, each a query of
        what `meta_grad` takes for `valid`: a function from the final weights (P,) to a pair of loss and gradient (P,),
        which an Objective needs, or a pair (X, Y) whose mean loss is asked about.
    example_weights : (N,) array_like, or str
        Weights of the training examples, as in `meta_grad`; default one.  Of an Objective, the name in its `theta` of
        what stands for them, of shape (N,): the factor of each example in its gradient.
    groups : (N,) array_like, or sequence of array_like of int, optional
        Leave out groups of examples at a time: a label for each example, whose groups are in the order of the sorted
        labels, or the rows of the examples of each group, which may overlap.  Small ones: a whole class is no small
        change, and of large groups the effects rank at best.
    progress : bool
        Show progress bars.

    Returns
    -------
    Attribution
        Its ``effects`` (Q, N): positive where an example helps.

    Raises
    ------
    ArgumentError, ReversalError, TrainingInterrupt
        As in `meta_grad`.
    DivergenceError
        As in `meta_grad`; also if the loss of a query after training, or its gradient, is not finite, of which it says
        the number.

    Warns
    -----
    ChaosWarning
        As in `meta_grad`; the effects are noise then.

    Notes
    -----
    With c_i the weight of example i and L_q the loss of query q after training, the effect is::

        effects[q, i] = -c[i] * dL_q / dc[i]

    the change of L_q to first order if c_i becomes 0, all steps, batches and other weights being as they were
    (see `Attribution.check` for what that means of a batch's mean).  A group's is the sum of its members'.

    First order suffices where the trained weights answer smoothly to the weights of what is left out, which
    `metasmoothness` with ``wrt=("example_weights",)`` tells beforehand and `Attribution.check` afterwards.  It fails
    where learning rates are near the edge of chaos, with activations with kinks such as "relu", and for large parts of
    the data, a fifth or so, whose effects do not add up.

    Queries are taken in blocks of 256 MB at most, or of one: one training and one reversal for each block.  A query of
    an MLP takes 8 bytes for each of 2 N numbers, some copies of the P parameters, 3 with SGD and 4 with Adam, twice
    the numbers of the optimizer, (T, G) of a table, and up to two thousand norms.  Of an Objective it is 5 P and 6 P,
    and in place of 2 N twice all of its `theta`, whose derivatives come together, and the largest array of it once
    more.  What is returned takes 8 Q N bytes, or 8 Q times the number of groups.

    References
    ----------
    A. Ilyas, L. Engstrom, "MAGIC: Near-Optimal Data Attribution for Deep Learning", 2025, arXiv:2504.16430.

    P. W. Koh, P. Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017, arXiv:1703.04730,
    asks the same at an optimum, without the training that led there.

    Examples
    --------
    >>> import numpy as np, fastrev
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 5))
    >>> Y = (X.sum(axis=1) > 0).astype(int)
    >>> Y[7] = 1 - Y[7]                                     # a wrong label
    >>> model = fastrev.MLP((5, 8, 2))
    >>> found = fastrev.attribute(
    ...     model, model.init(seed=0), train=(X[:150], Y[:150]), queries=(X[150:], Y[150:]),
    ...     lr=0.1, decay=0.9, steps=200, batch_size=30)
    >>> found
    Attribution(effects of 150 training examples on 50 queries, whose losses are ... to ...)
    >>> int(found.effects.sum(axis=0).argmin()), int(found.self_influence().argmax())     # the one that harms most
    (7, 7)
    >>> found.check(fraction=0.05, subsets=20).mean_score > 0.95
    True
    """
    network = isinstance(model, MLP)
    problem = prepare(
        model, w0, train=train, optimizer=optimizer_of(lr, decay, optimizer), steps=steps, batch_size=batch_size,
        seed=seed, batches=batches, l2=l2, v0=v0, example_weights=example_weights if network else None,
    )  # fmt: skip
    problem.trained.require_hvp()
    name = None if network else _name_of_weights(problem, example_weights)
    columns = as_columns(groups, weights_of(problem, name).size)
    source = Source(problem, name, as_queries(model, queries), columns)
    return Attribution(**vars(source.effects(progress)), source=source)


def _name_of_weights(problem: Problem, name: Any) -> str:
    """The checked argument `example_weights` of an Objective."""
    assert isinstance(problem.trained, PythonObjective)
    shapes = problem.trained.theta_shapes
    named = ", ".join(map(repr, shapes)) or "nothing"
    if not isinstance(name, str) or name not in shapes:
        raise arguments.fault(
            "example_weights", f"name what weighs the examples of the fastrev.Objective, in its theta of {named}",
            arguments.shown(name), "Give it such weights, factors of each example in grad, and pass their name.",
        )  # fmt: skip
    if len(shapes[name]) != 1:
        raise arguments.fault(
            "example_weights", "name weights of shape (N,), one for each example", f"{name!r}, of shape {shapes[name]}"
        )
    return name
