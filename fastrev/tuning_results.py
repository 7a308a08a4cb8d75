"""What the outer loops return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments, files
from fastrev._engine.python_objective import theta_name
from fastrev._engine.types import FloatArray
from fastrev._tuning.loop import HISTORY
from fastrev._tuning.trials import Training
from fastrev.mlp import MLP
from fastrev.training import Run, make_all_steps

_KIND = "tune result"


class History(NamedTuple):
    """The outer loop, meta-step by meta-step.

    Attributes
    ----------
    loss : (n,) float64 ndarray
        Mean loss of the meta-step's runs, before its step; infinite where none ended.
    gradient_norm : (n,) float64 ndarray
        Median norm of their gradients, in the coordinates that were moved in; NaN where there were none of use.
    rate : (n,) float64 ndarray
        Adam's rate.
    accepted : (n,) bool ndarray
        Whether the step was taken.
    """

    loss: FloatArray
    gradient_norm: FloatArray
    rate: FloatArray
    accepted: npt.NDArray[np.bool_]


def history(arrays: Mapping[str, Any]) -> History:
    """That of these arrays."""
    return History(arrays["loss"], arrays["gradient_norm"], arrays["rate"], np.asarray(arrays["accepted"], bool))


@dataclass(frozen=True, repr=False)
class MinimizeResult:
    """What `minimize` returns.

    Attributes
    ----------
    x : dict of str to float or float64 ndarray
        The best values found.
    fun, start_fun : float
        The mean loss there and where it began, of runs of fresh seeds.
    nit, nfev : int
        Meta-steps, and runs made.
    refused, diverged : int
        Steps that were taken back, and runs that were refused, exploded or had no finite gradient.
    success : bool
        False after Ctrl-C, or where a method of SciPy says so.
    message : str
        Why it ended.
    history : History
    """

    x: dict[str, Any]
    fun: float
    start_fun: float
    nit: int
    nfev: int
    refused: int
    diverged: int
    success: bool
    message: str
    history: History

    def __repr__(self) -> str:
        return _table("MinimizeResult", self.x, self.fun, self.start_fun, self)


@dataclass(frozen=True, repr=False)
class TuneResult:
    """What `tune` returns.

    Attributes
    ----------
    lr, decay, l2, init_scale, w0, v0, x, y, example_weights : float or ndarray
        As learned, in the shapes of the arguments; what was not learned, as it was given.
    theta : dict of str to float or ndarray
        Those of an Objective that were learned.
    learned : dict of str to float or ndarray
        All that was learned, by name.
    loss, start_loss : float
        Mean validation loss at the end and at the start, of runs of fresh seeds.  `fun` is another name of `loss`.
    nit, nfev : int
        Meta-steps, and runs made.
    refused, diverged : int
        Steps that were taken back, and runs that were refused, exploded or had no finite gradient.
    success : bool
        False after Ctrl-C, or where a method of SciPy says so.
    message : str
        Why it ended.
    history : History
    """

    learned: dict[str, Any]
    training: Training = field(repr=False)
    loss: float
    start_loss: float
    nit: int
    nfev: int
    refused: int
    diverged: int
    success: bool
    message: str
    history: History

    @property
    def fun(self) -> float:
        return self.loss

    @property
    def theta(self) -> dict[str, Any]:
        found = getattr(self.training.model, "theta", None) or {}
        return {name: self.learned[theta_name(name)] for name in found if theta_name(name) in self.learned}

    def __getattr__(self, name: str) -> Any:
        if name in _NAMES:
            return self._value(name)
        raise AttributeError(f"TuneResult has no attribute {name!r}.")

    def _value(self, name: str) -> Any:
        if name in self.learned:
            return self.learned[name]
        given = self.training.arguments
        if name == "w0":
            return self.training.w0
        if name in ("x", "y"):
            return None if given["train"] is None else given["train"][name == "y"]
        return given[name]

    def train(self, X: npt.ArrayLike | None = None, Y: npt.ArrayLike | None = None, *, seed: int = 0) -> Run:
        """Train with what was learned.

        Parameters
        ----------
        X, Y : array_like, optional
            Training examples; default those of `tune`, as learned.  Example weights are those of `tune`'s examples.
        seed : int
            Of initial weights and batches.

        Returns
        -------
        Run
            Its ``w`` are the final weights: ``model.predict(run.w, X)``.
        """
        if (X is None) != (Y is None):
            raise arguments.fault("X" if X is None else "Y", "be given together with the other", "None")
        training, values = self.training, dict(self.learned)
        if X is not None:
            if not isinstance(training.model, MLP):
                raise arguments.fault("X", "be left out where the model is a fastrev.Objective", "given")
            given = {**training.arguments, "train": (X, Y), "example_weights": None}
            training = Training(training.model, training.w0, given, training.valid)
            values = {name: value for name, value in values.items() if name not in ("x", "y", "example_weights")}
        elif isinstance(training.model, MLP) and training.arguments["train"] is None:
            raise arguments.fault("X", "be given: a loaded result has no training data", "None")
        run: Run = training.run(values, arguments.whole("seed", seed, 0))
        make_all_steps(run, False)
        return run

    def save(self, path: Any) -> None:
        """Write it to a file that `fastrev.load` reads: an ``.npz`` without pickle, whose arrays NumPy reads alone.

        The training and validation data are not kept, but for what was learned; of an Objective neither is the model.

        Parameters
        ----------
        path : str or path-like
            Taken as it is; no suffix is added.
        """
        given, model = self.training.arguments, self.training.model
        network = {"sizes": list(model.sizes), "activation": model.activation, "loss": model.loss,
                   "dtype": model.dtype.name} if isinstance(model, MLP) else None  # fmt: skip
        names = ("loss", "start_loss", "nit", "nfev", "refused", "diverged", "success", "message")
        about = {
            "model": network,
            "result": {name: getattr(self, name) for name in names},
            "settings": {name: None if given[name] is None else int(given[name]) for name in ("steps", "batch_size")},
        }
        arrays = {f"learned.{name}": np.asarray(value) for name, value in self.learned.items()}
        for name in ("lr", "decay", "l2", "v0", "init_scale", "batches"):
            if given[name] is not None and name not in self.learned:
                arrays[f"given.{name}"] = np.asarray(given[name])
        if self.training.w0 is not None and not callable(self.training.w0):
            arrays["given.w0"] = np.asarray(self.training.w0)
        arrays |= {f"history.{name}": each for name, each in zip(HISTORY, self.history, strict=True)}
        files.write(path, _KIND, about, arrays)

    def __repr__(self) -> str:
        return _table("TuneResult", self.learned, self.loss, self.start_loss, self)


_NAMES = ("lr", "decay", "l2", "init_scale", "w0", "v0", "x", "y", "example_weights")


def load(path: Any) -> TuneResult:
    """Read what `TuneResult.save` wrote.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    TuneResult
        Without training data: `TuneResult.train` takes them.  The model of an Objective's result is None.

    Raises
    ------
    ArgumentError
        If the file is damaged, or is none of these.
    """
    _, about, arrays = files.read(path, _KIND)
    parts: dict[str, dict[str, Any]] = {"learned": {}, "given": {}, "history": {}}
    for name, array in arrays.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = array[()]
    given, network = parts["given"], about["model"]
    model = None if network is None else MLP(**network)
    none = dict.fromkeys(("train", "batches", "v0", "example_weights", "init_scale", "lr", "decay", "l2"))
    training = Training(model, given.pop("w0", None), {**none, **about["settings"], **given, "seed": 0}, None)
    return TuneResult(learned=parts["learned"], training=training, history=history(parts["history"]), **about["result"])


def _table(kind: str, values: Mapping[str, Any], loss: float, start: float, result: Any) -> str:
    rows = [f"{name:>16}: {_brief(value)}" for name, value in values.items()]
    head = f"{kind}: {result.message}"
    counts = (
        f"{result.nit} meta-steps, {result.nfev} runs; {result.refused} steps taken back, {result.diverged} runs lost"
    )
    return "\n".join([head, f"{'loss':>16}: {loss:.6g}, from {start:.6g}", *rows, f"{'':>16}  {counts}"])


def _brief(value: Any) -> str:
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{float(array):.6g}"
    return f"{array.min():.4g} to {array.max():.4g}, shape {array.shape}"
