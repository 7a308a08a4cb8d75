"""What the outer loops return."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.architecture import described, initial_scales
from fastrev._engine.equality import compared_by_value
from fastrev._engine.examples import as_data
from fastrev._engine.optimizer import Optimizer, arguments_of, replaced
from fastrev._engine.python_objective import is_theta, theta_key, theta_name
from fastrev._engine.types import AnyArray
from fastrev._files import files
from fastrev._pictures import outer_loop
from fastrev._tuning.account import Account, table
from fastrev._tuning.account import History as History
from fastrev._tuning.trials import Training
from fastrev.errors import ArgumentError
from fastrev.mlp import MLP
from fastrev.optimizers import BY_NAME
from fastrev.runs import Run, make_all_steps


@compared_by_value
@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class MinimizeResult(Account):
    """What `minimize` returns.

    Attributes
    ----------
    x : dict of str to float or float64 ndarray
        The best values found.
    fun, start_fun : float
        The mean loss there and where it began, of the same runs of fresh seeds, of those that ended; `start_fun` is
        infinite where more of them diverged.  After Ctrl-C: the lowest moving average, and the mean of the first runs.
    nit, nfev : int
        Meta-steps, and runs made, with and without derivatives.
    refused, diverged : int
        Steps that were taken back, and runs that were refused, exploded or had no finite gradient.
    success : bool
        False after Ctrl-C, or where a method of SciPy says so.
    message : str
        Why it ended; where the start was best, that nothing was learned and what to try; and how many of the final runs
        diverged if any did.
    history : History
        Every meta-step.

    Notes
    -----
    Two are equal if all of these are, arrays by their shapes and values.
    """

    x: dict[str, Any]
    fun: float
    start_fun: float

    def plot(self) -> Any:
        """Draw what happened and what was found: as `TuneResult.plot` does, but for where it began.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        return outer_loop.of_result(self.history, (self.start_fun, self.fun), self.x, {}, (), {})

    def __repr__(self) -> str:
        return table("MinimizeResult", self.x, self.fun, self.start_fun, self)


@compared_by_value
@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class TuneResult(Account):
    """What `tune` returns.

    Attributes
    ----------
    lr, decay, l2, init_scale, w0, v0, x, y, example_weights : float or ndarray
        As learned, in the shapes of the arguments; what was not learned, as it was given.  In place of `decay`, what
        another optimizer has: ``beta1``, ``beta2``, ...
    optimizer : SGD or Adam
        With all of its own that was learned: ``fastrev.train(..., optimizer=result.optimizer)``.
    theta : dict of str to float or ndarray
        Those of an Objective that were learned.
    learned : dict of str to float or ndarray
        All that was learned, by name.
    loss, start_loss : float
        Mean validation loss at the end and at the start, of the same runs of fresh seeds, of those that ended;
        `start_loss` is infinite where more of them diverged.  After Ctrl-C: the lowest moving average, and the mean of
        the first runs.  `fun` is another name of `loss`.
    nit, nfev, refused, diverged, success, message, history
        How it went, as in `MinimizeResult`.

    Notes
    -----
    Two are equal if all that was learned and recorded is, that is ``learned``, the losses and how it went: not what
    was trained on, of which a file keeps little.
    """

    learned: dict[str, Any]
    training: Training = field(compare=False)
    loss: float
    start_loss: float

    l2 = property(lambda self: self._value("l2"))
    init_scale = property(lambda self: self._value("init_scale"))
    w0 = property(lambda self: self._value("w0"))
    v0 = property(lambda self: self._value("v0"))
    x = property(lambda self: self._value("x"))
    y = property(lambda self: self._value("y"))
    example_weights = property(lambda self: self._value("example_weights"))

    def __getattr__(self, name: str) -> Any:
        """What the optimizer has."""
        training = vars(self).get("training")
        if training is not None and name in (own := arguments_of(training.arguments["optimizer"])):
            return self.learned.get(name, own[name])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *arguments_of(self.training.arguments["optimizer"])]

    @property
    def optimizer(self) -> Optimizer:
        return replaced(self.training.arguments["optimizer"], self.learned)

    @property
    def fun(self) -> float:
        return self.loss

    @property
    def theta(self) -> dict[str, Any]:
        return {theta_key(name): value for name, value in self.learned.items() if is_theta(name)}

    def _value(self, name: str) -> Any:
        if name in self.learned:
            return self.learned[name]
        given = self.training.arguments
        if name == "w0":
            return self.training.w0
        if name in ("x", "y"):
            return None if given["train"] is None else given["train"][name == "y"]
        return given[name]

    def train(
        self,
        X: npt.ArrayLike | None = None,
        Y: npt.ArrayLike | None = None,
        *,
        example_weights: npt.ArrayLike | None = None,
        seed: int = 0,
    ) -> Run:
        """Train with what was learned.

        Parameters
        ----------
        X, Y : array_like, optional
            Training examples, in place of those of `tune`, and of what was learned of these.
        example_weights : (N,) array_like, optional
            Those of `X` and `Y`; must be given with these where `tune` had or learned any: ``result.example_weights``
            for the same examples, ones for others.
        seed : int
            Of initial weights and batches.

        Returns
        -------
        Run
            Its ``w`` are the final weights: ``model.predict(run.w, X)``.

        Raises
        ------
        ArgumentError
            If an argument is at fault, or the result is a loaded one that cannot train by itself.
        DivergenceError, TrainingInterrupt
            As `train`.
        """
        seed = arguments.whole("seed", seed, 0)
        if X is None and Y is None and example_weights is None:
            training, values = self.training, dict(self.learned)
            if training.model is None:
                raise ArgumentError(
                    "A loaded result of a fastrev.Objective cannot train, since its model is not in the file. Call "
                    "fastrev.train(model, w0, optimizer=result.optimizer, ...)."
                )
            if isinstance(training.model, MLP) and training.arguments["train"] is None:
                raise ArgumentError("Arguments 'X' and 'Y' must be given: this result is kept without its data.")
        else:
            training, values = self._with(X, Y, example_weights)
        run: Run = training.run(values, seed)
        make_all_steps(run, False)
        return run

    def _with(self, X: Any, Y: Any, example_weights: Any) -> tuple[Training, dict[str, Any]]:
        """A training on other examples, and what was learned but for the examples."""
        training = self.training
        if not isinstance(training.model, MLP):
            raise ArgumentError("Arguments 'X' and 'Y' must be left out where the model is a fastrev.Objective.")
        if X is None or Y is None:
            raise ArgumentError("Arguments 'X' and 'Y' must be given together: pass train(X, Y).")
        if example_weights is None and self.example_weights is not None:
            raise ArgumentError(
                "Argument 'example_weights' must be given with X and Y, since tune had weights for its examples. Pass "
                "result.example_weights if these are the same, numpy.ones(len(X)) if not."
            )
        _, examples = as_data(training.model, X, Y, "X", "Y", example_weights)
        size = training.arguments["batch_size"]
        if size is not None and examples < size:
            raise arguments.fault(
                "X", f"hold {size} examples or more, the batch_size that was learned with", f"{examples}"
            )
        given = {**training.arguments, "train": (X, Y), "example_weights": example_weights}
        kept = {name: value for name, value in self.learned.items() if name not in ("x", "y", "example_weights")}
        return Training(training.model, training.w0, given, training.valid), kept

    def save(self, path: Any) -> None:
        """Write it to a file that `fastrev.load` reads: an ``.npz`` without pickle, whose arrays NumPy reads alone.

        ``numpy.load(path)["learned.lr"]`` is what was learned of `lr`, ``["history.loss"]`` the loss by meta-step.

        The training and validation data are not kept, but for what was learned, and for targets of inputs that were,
        or inputs of targets.  Neither are functions: of initial weights, or an Objective.

        Parameters
        ----------
        path : str or path-like
            Taken as it is; no suffix is added.

        Raises
        ------
        ArgumentError
            If the file cannot be written.  One that was there stays.
        """
        given, model = self.training.arguments, self.training.model
        names = ("loss", "start_loss", "nit", "nfev", "refused", "diverged", "success", "message")
        about = {
            "model": described(model) if isinstance(model, MLP) else None,
            "result": {name: getattr(self, name) for name in names},
            "settings": {name: None if given[name] is None else int(given[name]) for name in ("steps", "batch_size")},
            "drawn": callable(self.training.w0),
            "optimizer": type(given["optimizer"]).__name__,
        }
        arrays = {f"learned.{name}": np.asarray(value) for name, value in self.learned.items()}
        kept = {name: given[name] for name in ("l2", "v0", "init_scale", "batches", "example_weights")}
        kept |= arguments_of(given["optimizer"])
        arrays |= {f"given.{name}": np.asarray(value) for name, value in kept.items() if value is not None}
        if self.training.w0 is not None and not callable(self.training.w0):
            arrays["given.w0"] = np.asarray(self.training.w0)
        if not {"x", "y"}.isdisjoint(self.learned):
            arrays |= {
                f"given.{name}": np.asarray(self._value(name)) for name in ("x", "y") if name not in self.learned
            }
        arrays |= {f"history.{name}": each for name, each in zip(History._fields, self.history, strict=True)}
        files.write(path, files.TUNE_RESULT, about, arrays)

    def plot(self) -> Any:
        """Draw what happened and what was learned, for matplotlib (extra ``plot``).

        The loss by meta-step, with the steps that were taken back; below it a row for each thing learned, from where it
        began: a panel for each parameter group of a schedule, decays on a log scale of one minus them, dots for a
        number a group, histograms of weights and data.

        Returns
        -------
        matplotlib.figure.Figure
            Of no window and no state of ``pyplot``: ``figure.savefig("tuned.png")``, or let a notebook show it.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.

        Examples
        --------
        >>> import numpy as np, fastrev
        >>> X, Y = np.random.default_rng(0).standard_normal((60, 3)), np.arange(60) % 2
        >>> result = fastrev.tune(
        ...     fastrev.MLP((3, 2)), train=(X, Y), valid=(X, Y), lr=np.full((5, 2), 0.1), decay=0.9, steps=5,
        ...     learn=("lr", "decay"), meta_steps=2, runs=2, progress=False)
        >>> [axis.get_title() for axis in result.plot().axes]
        ['', 'momentum decay', 'W1', 'b1']
        """
        groups = tuple(getattr(self.training.model, "groups", None) or ())
        ends = self.start_loss, self.loss
        kind = self.training.arguments["optimizer"].kind
        scheduled = {name: name in kind.ratios for name in kind.names}
        return outer_loop.of_result(self.history, ends, self.learned, self._first(), groups, scheduled)

    def _first(self) -> dict[str, Any]:
        """Where all that was learned began, as far as that is known: a file keeps no training data."""
        given, model = self.training.arguments, self.training.model
        first: dict[str, Any] = {name: given.get(name) for name in ("l2", "init_scale")}
        first |= arguments_of(given["optimizer"])
        first |= {"w0": self.training.w0, "v0": 0.0, "example_weights": 1.0}
        first |= {name: given[name] for name in ("v0", "example_weights") if given.get(name) is not None}
        if given["train"] is not None:
            pairs = zip(("x", "y"), given["train"], strict=True)
            # of a loaded result they are what was learned
            first |= {name: value for name, value in pairs if not np.array_equal(value, self.learned.get(name, ()))}
            if np.ndim(first.get("y", 0)) == 1 and np.ndim(self.learned.get("y", 0)) == 2:  # classes
                first["y"] = np.eye(len(self.learned["y"].T))[np.asarray(first["y"]).astype(np.int64)]
        if first["init_scale"] is None and isinstance(model, MLP):
            first["init_scale"] = initial_scales(model, None, "init_scale")
        first |= {theta_name(name): value for name, value in (getattr(model, "theta", None) or {}).items()}
        return first

    def __repr__(self) -> str:
        return table("TuneResult", self.learned, self.loss, self.start_loss, self)


def restored(path: Any) -> TuneResult:
    """Read what `TuneResult.save` wrote."""
    _, about, arrays = files.read(path, files.TUNE_RESULT)
    with files.as_written(path):
        return _result(path, about, arrays)


def _result(path: Any, about: dict[str, Any], arrays: dict[str, AnyArray]) -> TuneResult:
    parts: dict[str, dict[str, Any]] = {"learned": {}, "given": {}, "history": {}}
    for name, array in arrays.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = array[()]
    given, network = parts["given"], about["model"]
    model = None if network is None else MLP(**network)
    none = dict.fromkeys(("train", "batches", "v0", "example_weights", "init_scale", "l2"))
    given["optimizer"] = _optimizer(path, about["optimizer"], given)
    learned, w0 = parts["learned"], _not_kept if about["drawn"] else given.pop("w0", None)
    x, y = (given.pop(name, learned.get(name)) for name in ("x", "y"))
    none["train"] = None if x is None else (x, y)
    training = Training(model, w0, {**none, **about["settings"], **given, "seed": 0}, None)
    return TuneResult(learned=learned, training=training, history=History(**parts["history"]), **about["result"])


def _optimizer(path: Any, name: str, given: dict[str, Any]) -> Optimizer:
    """The optimizer of a file, whose numbers it is given among others and takes."""
    kind = BY_NAME.get(name)
    names = [] if kind is None else [each.name for each in fields(kind)]
    missing = [each for each in names if each not in given]
    if kind is None or missing:
        what = f"its optimizer {name!r}" if kind is None else f"{' and '.join(map(repr, missing))} of its {name}"
        raise files.unfit("path", str(path), f"{what} is unknown here" if kind is None else f"{what} is missing")
    optimizer: Optimizer = kind(**{each: given.pop(each) for each in names})
    return optimizer


def _not_kept(seed: int) -> Any:
    raise ArgumentError(
        "The initial weights of this result were those of a function, which its file does not hold. "
        "Call fastrev.train(model, w0, optimizer=result.optimizer, ...) with weights of your own."
    )
