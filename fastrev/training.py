"""Training forward on the grid."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from fastrev._engine import announcing
from fastrev._engine.lookers import Callback
from fastrev._engine.optimizer import Optimizer
from fastrev._files.replacing import StrPath
from fastrev.mlp import MLP
from fastrev.objective import Objective
from fastrev.runs import Run, make_all_steps, start

Examples = tuple[npt.ArrayLike, npt.ArrayLike]


def train(
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
    buffer: StrPath | None = None,
    curve: tuple[Any, ...] | None = None,
    callback: Callback | tuple[Callback, npt.ArrayLike] | None = None,
    checkpoint: StrPath | None = None,
    every: int | None = None,
    progress: bool = False,
) -> Run:
    """Train, by SGD with momentum or another optimizer, so that it can be taken back, and differentiated, exactly.

    Training inputs and targets are not copied where they are arrays of the model's dtype already: leave them alone
    until the run has been taken back.

    Parameters
    ----------
    model, w0, train, lr, decay, optimizer, steps, batch_size, seed, batches, l2, v0, example_weights, buffer, progress
        As in `meta_grad`.
    curve : tuple (Xv, Yv, every) or (f, every), optional
        Measure the loss of these examples, as ``model.loss_value`` does, on the way, and hand it over as ``run.curve``.
        An Objective needs the second form, with `f` a function from weights (P,) to a loss, or to a pair of loss and
        gradient as `valid` is; an objective of `fastrev.interop` stands for its loss at t = 0.  A whole number `every`
        means: before the first step, after every so many, and at the end.  An array (S,) of int holds the numbers of
        steps, from 0 to T and increasing, after which it is measured.
    callback : function, or pair (function, every), optional
        Called with the number of steps made and the weights, a (P,) float64 array of its own: after every step, or
        after those that `every` says as above, though not before the first step unless an array holds 0.  If it raises
        StopIteration the run ends there, as one of that many steps; any other exception leaves `train`, and with it the
        run is lost.
    checkpoint : str or path-like, optional
        A file in which the run is kept on its way, and at its end.  If it is there the run goes on from it, to the same
        bits as if nothing had happened: `curve` and `callback` see what comes from then on, the step that it stands at
        included.  Where all was done the run is there at once; where it has gone its way back, as that stands.
    every : int, optional
        After how many steps the file is written.  Default: about every second, or less often where that would take more
        than 2 % of the time.

    Returns
    -------
    Run
        Its `pullback` differentiates any loss of the final weights.

    Raises
    ------
    ArgumentError
        Before anything is computed, if an argument is at fault, or the checkpoint is damaged, of another run, or of a
        machine that computes other bits.  Later, if a function of an Objective, or that of
        `curve`, returns what it must not.
    DivergenceError
        If a step's gradient is not finite or the step would leave the grid.
    StorageError
        If a file of `buffer` cannot be written, with the run so far.
    TrainingInterrupt
        On Ctrl-C, with the run so far.

    Warns
    -----
    RuntimeWarning
        If the checkpoint cannot be written, for want of room, say.  The run goes on.

    Notes
    -----
    Neither `curve` nor `callback` changes a bit of the run, and no step is made twice.

    Examples
    --------
    Differentiate the norm of the final weights by the learning rate:

    >>> import numpy as np, fastrev
    >>> model = fastrev.MLP((2, 3), loss="squared_error")
    >>> X, Y = np.eye(2), np.ones((2, 3))
    >>> run = fastrev.train(model, model.init(seed=0), train=(X, Y), lr=0.1, decay=0.9, steps=5)
    >>> grad = run.pullback(run.w / np.linalg.norm(run.w))
    >>> round(float(grad.lr), 6), run.stats.exact
    (0.888132, True)

    Draw a loss curve, and stop at a loss that is good enough:

    >>> def enough(step, w):
    ...     if model.loss_value(w, X, Y) < 0.1:
    ...         raise StopIteration
    >>> run = fastrev.train(
    ...     model, model.init(seed=0), train=(X, Y), lr=0.1, decay=0.9, steps=1000, curve=(X, Y, 5), callback=enough)
    >>> print(run.stats.steps, run.curve.steps, run.curve.losses.round(2))
    13 [ 0  5 10 13] [1.41 0.93 0.3  0.09]

    Keep the run on disk, and go on from there, whatever stopped it:

    >>> import os, tempfile
    >>> def stopped(step, w):
    ...     if step == 700:
    ...         raise OSError("the power is gone")
    >>> arguments = {"train": (X, Y), "lr": 0.1, "decay": 0.9, "steps": 1000}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kept = {"checkpoint": os.path.join(folder, "run.npz"), "every": 100}
    ...     try:
    ...         fastrev.train(model, model.init(seed=0), callback=stopped, **kept, **arguments)
    ...     except OSError as error:
    ...         print(error)
    ...     run = fastrev.train(model, model.init(seed=0), **kept, **arguments)       # makes the last 300 steps
    the power is gone
    >>> bool((run.w == fastrev.train(model, model.init(seed=0), **arguments).w).all())
    True
    """
    run = start(
        model, w0, train=train, lr=lr, decay=decay, optimizer=optimizer, steps=steps, batch_size=batch_size, seed=seed,
        batches=batches, l2=l2, v0=v0, example_weights=example_weights, buffer=buffer,
    )  # fmt: skip
    make_all_steps(run, progress, curve=curve, callback=callback, checkpoint=checkpoint, every=every)
    announcing.end()
    return run
