"""Reading what was written."""

from __future__ import annotations

from typing import Any, cast, overload

import numpy.typing as npt

from fastrev import runs, tuning_results
from fastrev._engine import arguments
from fastrev._engine.optimizer import Optimizer
from fastrev._files.replacing import StrPath
from fastrev.mlp import MLP
from fastrev.objective import Objective
from fastrev.runs import Run
from fastrev.training import Examples
from fastrev.tuning_results import TuneResult


@overload
def load(path: StrPath) -> TuneResult: ...
@overload
def load(
    path: StrPath,
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
) -> Run: ...
def load(
    path: StrPath,
    model: MLP | Objective | None = None,
    w0: npt.ArrayLike | None = None,
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
) -> TuneResult | Run:
    """Read what `TuneResult.save` wrote, or `Run.save`, or `train` as a checkpoint.

    Parameters
    ----------
    path : str or path-like
    model, w0, train, lr, decay, optimizer, steps, batch_size, seed, batches, l2, v0, example_weights, buffer : optional
        Of a run all that `train` was given: the file has of them only what tells whether they are the same.

    Returns
    -------
    TuneResult or Run
        A result without training data: `TuneResult.train` takes them, and the model of an Objective's is None.  Where a
        model is given, the run as it stood: at its end, on its way there or back, or at its start.

    Raises
    ------
    ArgumentError
        If the file is damaged, or is none of these; if the arguments are not those of the run, which it names, or this
        machine computes other bits than the one that it was made on.
    StorageError
        If a file of `buffer` that a checkpoint names is missing or damaged.

    Examples
    --------
    >>> import os, tempfile, numpy as np, fastrev
    >>> X, Y = np.random.default_rng(0).standard_normal((60, 3)), np.arange(60) % 2
    >>> result = fastrev.tune(
    ...     fastrev.MLP((3, 2)), train=(X, Y), valid=(X, Y), lr=np.full(5, 0.1), decay=0.9, learn=("lr",), meta_steps=2,
    ...     runs=2, progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "rates.npz")
    ...     result.save(path)
    ...     with np.load(path) as arrays:               # as anybody reads it
    ...         rates = arrays["learned.lr"]
    ...     again = fastrev.load(path)
    >>> np.array_equal(rates, result.lr), np.array_equal(again.train(X, Y).w, result.train().w)
    (True, True)

    A run, to be differentiated by another process:

    >>> model = fastrev.MLP((3, 2))
    >>> arguments = {"train": (X, Y), "lr": 0.1, "decay": 0.9, "steps": 20}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "run.npz")
    ...     fastrev.train(model, model.init(seed=0), **arguments).save(path)
    ...     run = fastrev.load(path, model, model.init(seed=0), **arguments)
    >>> run.pullback(run.w).lr.shape, run.stats.exact
    ((), True)
    """
    training: dict[str, Any] = {
        "train": train, "lr": lr, "decay": decay, "optimizer": optimizer, "steps": steps, "batch_size": batch_size,
        "batches": batches, "v0": v0, "example_weights": example_weights, "buffer": buffer,
    }  # fmt: skip
    if model is not None:
        run = runs.start(model, cast(npt.ArrayLike, w0), seed=seed, l2=l2, **training)
        return runs.restored(run, path)
    for name, value in ({"w0": w0} | training).items():
        if value is not None:
            remedy = "Pass them all for a run, none of them for what tune learned."
            raise arguments.fault(name, "be left out where there is no model", f"a {type(value).__name__}", remedy)
    return tuning_results.restored(path)
