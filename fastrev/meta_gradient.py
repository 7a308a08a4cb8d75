"""The front door."""

from __future__ import annotations

import numpy.typing as npt

from fastrev._engine import arguments, chaos
from fastrev._engine.companion import in_company
from fastrev._engine.optimizer import Optimizer
from fastrev._engine.validation import Validation, require_finite, validations
from fastrev._files.replacing import StrPath
from fastrev.mlp import MLP
from fastrev.objective import Objective
from fastrev.results import MetaGradient
from fastrev.runs import differentiable, make_all_steps, start
from fastrev.training import Examples


def meta_grad(
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
    buffer: StrPath | None = None,
    wrt: tuple[str, ...] | None = None,
    truncate: int | None = None,
    checkpoint: StrPath | None = None,
    every: int | None = None,
    progress: bool = False,
) -> MetaGradient:
    """Gradient of a validation loss after a whole training run, by everything that the run depended on.

    Trains `model` from `w0` for T steps of SGD with momentum, or of another `optimizer`::

        v <- decay * v - (1 - decay) * g          w <- w + lr * v

    with g the gradient of ``mean(example_weights * loss) + sum(l2 * w**2) / 2`` on the step's batch, or an Objective's
    own; then takes the training back bit for bit, differentiating on the way.  No trajectory is stored.

    Parameters
    ----------
    model : MLP or Objective
        An Objective has data and penalties of its own: `train`, `batch_size`, `seed`, `batches`, `l2` and
        `example_weights` are left out then.
    w0 : (P,) array_like
        Initial weights, magnitudes below 2048; rounded to multiples of 2**-52, to which a reversal returns.
    train : pair (X, Y)
        Training inputs (N, D) and targets: (N, outputs), or (N,) classes for cross_entropy, or (N,) for one output;
        see `MLP`.  Arrays of the model's dtype are not copied; one that changes in place during the call is a
        `ReversalError`.
    valid : pair (X, Y), or function, or list of K such
        Validation examples, of any number.  They may be the training examples; the gradients by `x` and `y` are then
        still those of training alone.  Or a function from the final weights (P,) to a pair of loss and gradient (P,),
        which an Objective needs; an objective of `fastrev.interop` stands for its loss at t = 0.  A list of pairs, each
        a tuple, or of functions means K losses: `loss` (K,) and all gradients have a first axis of K, from one training
        and one reversal; see `Run.pullback` for the memory.  A list ``[X, Y]`` of two arrays is one pair.
    lr : float or (T,), (T, 1), (1, G), (T, G) array_like
        Learning rates, not negative: of all, per step, per parameter group, or both.
    decay : float or array_like, as lr
        Momentum decays in (0, 1].  Each is replaced by the nearest ratio n/d with d <= 65536, which mostly
        differs by less than 1e-9, beside 0, 1/2, 1 and other simple fractions by up to 8e-6 (`fastrev.ratio`).
    optimizer : SGD or Adam, optional
        In place of `lr` and `decay`: what makes the steps, with hyperparameters of its own in these shapes.
    steps : int, optional
        T; needed only where no argument has an axis of steps, and where `lr` or `decay` of shape (T,) would have as
        many values as there are parameter groups, for which it might be meant.
    batch_size, seed : int, optional
        Train on shuffled mini-batches: the rows that ``minibatches(N, batch_size, T, seed)`` gives.
    batches : (T, B) array_like of int, optional
        Train on these rows of the training examples.  With neither, every step sees all examples.
    l2 : float, (G,) or (P,) array_like
        Penalty coefficients: of all parameters, of each group, or of each parameter.
    v0 : (P,) array_like, optional
        Initial velocity of SGD; default zero.
    example_weights : (N,) array_like, optional
        Weights of the training examples; default one.  They are not normalised, and may be negative (see `MLP`).
    buffer : str or path-like, optional
        A folder for the stored information, all but its last megabytes: memory then does not grow with T.  The files
        are gone when the run is, or when the process ends but by force; their names begin with ``fastrev-``.
    wrt : tuple of str, optional
        What to differentiate by: names among "lr", "decay", "w0", "v0" (by Adam "lr", "beta1", "beta2", "eps",
        "weight_decay", "w0"), and of an MLP "l2", "x", "y", "example_weights", of an Objective "theta", all of its own
        hyperparameters.  Default: all but the last three of an MLP.
    truncate : int, optional
        Differentiate through the last `truncate` steps only, as if all before had been fixed: derivatives by what came
        before, `w0` and `v0` among it, are zero.  The run is taken back to its start nevertheless.
    checkpoint, every : optional
        As of `train`: one file, in which the run is kept on its way there and back.  The same call again goes on from
        it, and where all was done returns the same at once.
    progress : bool
        Show a progress bar.

    Returns
    -------
    MetaGradient
        With ``loss``, ``w``, ``v``, ``grad.lr`` ... and ``stats``.

    Raises
    ------
    ArgumentError
        Before anything is computed, if an argument is at fault, or the checkpoint, as of `train`.  Later, if a function
        of an Objective returns what it must not.
    DivergenceError
        If a step's gradient is not finite or the step would leave the grid.
    ReversalError
        If the reversal does not arrive at the start of the run bit for bit.
    StorageError
        If a file of `buffer` cannot be written, or read again; ``error.run`` is the run so far.
    TrainingInterrupt
        On Ctrl-C while training, with the run so far.

    Warns
    -----
    RuntimeWarning
        If the checkpoint cannot be written, for want of room, say.  The run goes on.
    ChaosWarning
        If the derivatives exploded on their way back: training is chaotic there, and they are noise.

    Notes
    -----
    The state is int64 with 52 fraction bits, whatever `model.dtype`, which is the precision of gradients only.

    References
    ----------
    D. Maclaurin, D. Duvenaud, R. P. Adams, "Gradient-based Hyperparameter Optimization through Reversible Learning",
    ICML 2015.

    Examples
    --------
    >>> import numpy as np, fastrev
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 5))
    >>> Y = (X.sum(axis=1) > 0).astype(int)
    >>> model = fastrev.MLP((5, 8, 2))
    >>> result = fastrev.meta_grad(
    ...     model, model.init(seed=0), train=(X[:150], Y[:150]), valid=(X[150:], Y[150:]),
    ...     lr=np.full(20, 0.5), decay=0.9, batch_size=30)
    >>> result.grad.lr.shape, result.grad.decay.shape, result.stats.exact
    ((20,), (), True)

    The losses of ten examples apart, in one reversal:

    >>> result = fastrev.meta_grad(
    ...     model, model.init(seed=0), train=(X[:150], Y[:150]),
    ...     valid=[(X[i : i + 1], Y[i : i + 1]) for i in range(150, 160)],
    ...     lr=np.full(20, 0.5), decay=0.9, batch_size=30, wrt=("lr", "example_weights"))
    >>> result.loss.shape, result.grad.lr.shape, result.grad.example_weights.shape
    ((10,), (10, 20), (10, 150))
    """
    run = start(
        model, w0, train=train, lr=lr, decay=decay, optimizer=optimizer, steps=steps, batch_size=batch_size, seed=seed,
        batches=batches, l2=l2, v0=v0, example_weights=example_weights, buffer=buffer,
    )  # fmt: skip
    names = differentiable(run, wrt)
    validate = validations(model, valid)
    if truncate is not None:
        arguments.count("truncate", truncate)

    def there_and_back(_: object) -> MetaGradient:
        make_all_steps(run, progress, checkpoint=checkpoint, every=every)
        w = run.w
        loss, w_bar = validate(w)
        require_finite(run, loss, w_bar)
        with chaos.naming("valid"):
            grad = run.pullback(
                w_bar, wrt=names, truncate=truncate, checkpoint=checkpoint, every=every, progress=progress
            )
        return MetaGradient(loss=loss, w=w, v=run.v, grad=grad, stats=run.stats)

    return in_company(there_and_back)
