"""What classifier and regressor have in common: parameters, the learning of what trains, and outputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from fastrev._attribution.columns import Columns, as_columns
from fastrev._attribution.queries import as_queries
from fastrev._attribution.shown import Shown
from fastrev._attribution.source import Source
from fastrev._engine import arguments
from fastrev._engine.examples import inputs_and_targets
from fastrev._engine.hyperparameters import axis_of_steps, refuse_ambiguity
from fastrev._engine.optimizer import arguments_of
from fastrev._engine.problem import prepare
from fastrev._engine.types import AnyArray, FloatArray
from fastrev.attribution_results import Attribution
from fastrev.estimators._examples import Examples, as_weights, distinct, merged
from fastrev.mlp import MLP
from fastrev.optimizers import BY_NAME, optimizer_of
from fastrev.training import train
from fastrev.tuning import tune
from fastrev.tuning_results import TuneResult

_OF_THE_MODEL = ("l2", "init_scale")
_FIRST_PENALTY = 1e-3
_BATCH, _PASSES, _FEWEST_STEPS, _MOST_STEPS = 64, 20, 200, 1000  # of "auto"


class MetaMLP(BaseEstimator):
    """Base of `MetaMLPClassifier` and `MetaMLPRegressor`; see there for the parameters."""

    _real = False  # targets

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        optimizer: Any = None,
        lr: Any = None,
        decay: Any = None,
        l2: Any = None,
        init_scale: Any = None,
        learn: Any = "auto",
        validation_fraction: float = 0.2,
        steps: Any = "auto",
        batch_size: Any = "auto",
        meta_steps: int = 20,
        meta_lr: float = 0.2,
        runs: int = 4,
        workers: Any = 1,
        dtype: Any = "float32",
        random_state: Any = None,
        progress: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.optimizer = optimizer
        self.lr = lr
        self.decay = decay
        self.l2 = l2
        self.init_scale = init_scale
        self.learn = learn
        self.validation_fraction = validation_fraction
        self.steps = steps
        self.batch_size = batch_size
        self.meta_steps = meta_steps
        self.meta_lr = meta_lr
        self.runs = runs
        self.workers = workers
        self.dtype = dtype
        self.random_state = random_state
        self.progress = progress

    @property
    def coefs_(self) -> list[FloatArray]:
        """Weights of each layer, (inputs, outputs)."""
        return [self.model_.unflatten(self.w_)[name] for name in self.model_.groups if name.startswith("W")]

    @property
    def intercepts_(self) -> list[FloatArray]:
        """Biases of each layer, (outputs,)."""
        return [self.model_.unflatten(self.w_)[name] for name in self.model_.groups if name.startswith("b")]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "w_")

    def _checked(self, X: Any, y: Any, sample_weight: Any) -> tuple[FloatArray, AnyArray, FloatArray]:
        """Inputs, targets and weights above 0, as scikit-learn checks them; what was fitted before is forgotten."""
        for name in [each for each in vars(self) if each.endswith("_")]:
            delattr(self, name)
        X, y = self._validated(X, y, ensure_min_samples=2)
        weights = as_weights(sample_weight, len(X))
        there = weights > 0
        return X[there], y[there], weights[there]

    def _validated(self, X: Any, y: Any, **how: Any) -> tuple[FloatArray, AnyArray]:
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=self._real, **how)
        return X, y.toarray() if issparse(y) else y

    def _learn(self, examples: Examples, loss: str, outputs: int) -> None:
        """Learn how to train on a part of the examples, then train on all."""
        examples = examples.normalised()
        X = examples.X
        if len(X) < 2:
            raise arguments.fault(
                "X", "hold at least 2 different examples with a weight, one of which is held out", f"{len(X)}"
            )
        model = MLP((X.shape[1], *self._hidden(), outputs), self.activation, loss, self.dtype)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        scaler = standardiser("X", X, examples.weights)
        how = self._start(model, len(X))
        learn = self._learned(how)
        how |= _data(examples, scaler)
        tuned: TuneResult | None = None
        validated: float | None = None
        if learn:
            found = self._tuned(model, how, learn, seed)
            tuned, validated = _without_data(found), found.loss
            how |= {name: getattr(found, name) for name in ("optimizer", *_OF_THE_MODEL)}
        w0 = model.init(seed, scale=how["init_scale"])
        w = train(model, w0, seed=seed, **{name: how[name] for name in how if name != "init_scale"}).w
        self.model_, self.scaler_, self.tuned_, self.loss_ = model, scaler, tuned, validated
        self.optimizer_, self.l2_, self.init_scale_ = (how[name] for name in ("optimizer", *_OF_THE_MODEL))
        for name, value in arguments_of(self.optimizer_).items():
            setattr(self, f"{name}_", value)
        self._trained = {"seed": seed, "steps": how["steps"], "batch_size": how["batch_size"]}
        self.w_ = w  # from here on it is fitted

    def attribute(
        self,
        X_queries: Any,
        y_queries: Any,
        *,
        train: Any,
        sample_weight: Any = None,
        groups: Any = None,
        progress: bool = False,
    ) -> Attribution:
        """What each training example did to the losses of some queries: how much they would change without it.

        That is `fastrev.attribute` for the last training of `fit`.  What was learned of how to train stays as it is,
        and so do the scalers and the weights of the other examples.

        Parameters
        ----------
        X_queries : (n_queries, n_features) array_like or DataFrame
            Inputs.
        y_queries : (n_queries,) or (n_queries, n_outputs) array_like
            Targets: the loss is that of them, the true ones or others.
        train : pair (X, y)
            What `fit` was given, which an estimator does not keep.
        sample_weight : (n_samples,) array_like, optional
            Likewise.
        groups : (n_samples,) array_like, or sequence of array_like of int, optional
            Leave out groups of examples at a time, as in `fastrev.attribute`.
        progress : bool
            Show progress bars.

        Returns
        -------
        fastrev.Attribution
            Its ``effects`` (n_queries, n_samples) are in the order of the rows that `fit` was given: positive where an
            example helps.  Its losses are those that were trained on, of a regressor half the squared errors of
            standardised targets.

        Raises
        ------
        NotFittedError, ValueError
            If `fit` was not called, or an argument is at fault: also if a training on `train` does not lead to the
            weights that `fit` found, bit for bit.

        Notes
        -----
        Copies of an example are one to a network.  They share its effect by their weights, and one of weight 0 has
        none.
        """
        check_is_fitted(self)
        X, y = self._validated(*inputs_and_targets("train", train), reset=False)
        examples, columns = self._attributable(X, self._encoded("train[1]", y), as_weights(sample_weight, len(X)))
        read_as = self.predict(X_queries)  # by the names of features that it may have
        X_queries, y_queries = self._validated(X_queries, y_queries, reset=False)
        targets = self._as_trained(self._encoded("y_queries", y_queries))
        problem = prepare(
            self.model_, self.model_.init(self._trained["seed"], scale=self.init_scale_), **self._trained,
            **_data(examples, self.scaler_), optimizer=self.optimizer_, l2=self.l2_, batches=None, v0=None,
        )  # fmt: skip
        queries = as_queries(self.model_, (self.scaler_.transform(X_queries), targets))
        source = Source(problem, None, queries, columns(as_columns(groups, len(X))))
        shown = Shown(X, _single(y), X_queries, _single(y_queries), _single(read_as))
        return Attribution(**vars(source.effects(progress, self._require_own)), source=source, shown=shown)

    def _require_own(self, w: FloatArray) -> None:
        """Refuse final weights of a training on other examples."""
        if not np.array_equal(w, self.w_):
            raise arguments.fault(
                "train", "hold the examples that fit was given, and sample_weight their weights", "others",
                "A training on these ends at other weights than fit found.",
            )  # fmt: skip

    def _attributable(
        self, X: FloatArray, y: AnyArray, weights: FloatArray
    ) -> tuple[Examples, Callable[[Columns], Columns]]:
        """What was trained on of these rows, and what turns columns of rows into those of examples."""
        some = np.flatnonzero(weights > 0)
        together = merged(X[some], y[some], weights[some])
        examples = self._weighed(together)
        there, of = examples.there(), distinct(X[some], y[some])[1]
        kept = there[of]
        place, shares = np.zeros(len(X), np.int64), np.zeros(len(X))
        place[some[kept]] = (np.cumsum(there) - 1)[of[kept]]
        shares[some[kept]] = weights[some[kept]] / together.weights[of[kept]]
        trained = examples._replace(y=self._as_trained(examples.y)).normalised()
        return trained, lambda columns: columns.of_rows(len(trained.X), place, shares)

    def _learned(self, how: dict[str, Any]) -> tuple[str, ...]:
        """The names of what is learned."""
        optimizer = how["optimizer"]
        values = {name: getattr(optimizer, name) for name in optimizer.kind.names}
        values |= {name: how[name] for name in _OF_THE_MODEL}
        # which stays 0
        zero = [name for name, value in values.items() if value is not None and not np.any(value)]
        if _is_auto(self.learn):
            return tuple(name for name in values if name not in zero)
        learn = arguments.distinct_choices("learn", self.learn, values)
        for name in learn:
            if name in zero and name not in optimizer.kind.ratios:
                raise arguments.fault(
                    name, "hold a number above 0 to be learned", "0", f"What is not in learn stays: leave {name!r} out."
                )
        return learn

    def _tuned(self, model: MLP, how: dict[str, Any], learn: tuple[str, ...], seed: int) -> TuneResult:
        found = tune(
            model, **how, valid=self._share(), learn=learn, meta_steps=self.meta_steps, meta_lr=self.meta_lr,
            runs=self.runs, workers=self.workers, seed=seed, progress=self.progress,
        )  # fmt: skip
        if not found.success:  # after Ctrl-C; another one leaves the estimator unfitted
            if not found.nit:
                raise KeyboardInterrupt(found.message)
            warnings.warn(f"{found.message} Training with what was learned so far.", RuntimeWarning, stacklevel=4)
        return found

    def _encoded(self, name: str, y: AnyArray) -> AnyArray:
        """Targets as they are merged by."""
        raise NotImplementedError

    def _weighed(self, examples: Examples) -> Examples:
        """With the weights that are trained with."""
        return examples

    def _as_trained(self, y: AnyArray) -> AnyArray:
        """Targets as they are trained on."""
        return y

    def _inputs(self, X: Any) -> FloatArray:
        """What the network takes, if it is fitted."""
        check_is_fitted(self)
        standardised: FloatArray = self.scaler_.transform(validate_data(self, X, reset=False, dtype=np.float64))
        return standardised

    def _hidden(self) -> tuple[int, ...]:
        sizes = self.hidden_layer_sizes
        listed = sizes.tolist() if isinstance(sizes, np.ndarray) else sizes
        listed = [listed] if isinstance(listed, int | np.integer) else listed
        if not isinstance(listed, list | tuple):
            raise arguments.fault(
                "hidden_layer_sizes", "be a sequence of whole numbers", repr(sizes), "Pass (100,) for one hidden layer."
            )
        return tuple(arguments.whole(f"hidden_layer_sizes[{i}]", size, 1) for i, size in enumerate(listed))

    def _share(self) -> float:
        share = self.validation_fraction
        if isinstance(share, bool) or not isinstance(share, float | np.floating) or not 0 < share < 1:
            raise arguments.fault("validation_fraction", "be between 0 and 1", repr(share), "Pass 0.2 for a fifth.")
        return float(share)

    def _start(self, model: MLP, examples: int) -> dict[str, Any]:
        """Where the learning begins."""
        l2, steps, batch = self.l2, self.steps, self.batch_size
        optimizer, own = self._optimizer()
        if batch is not None:
            trained = examples - max(1, round(self._share() * examples))  # others are held out
            batch = max(1, min(trained, _BATCH if _is_auto(batch) else arguments.count("batch_size", batch)))
        if _is_auto(steps):
            shapes = {name: arguments.as_array(name, value).shape for name, value in own.items()}
            refuse_ambiguity(shapes, len(model.groups))
            a_pass = 1 if batch is None else examples / batch
            automatic = min(max(ceil(_PASSES * a_pass), _FEWEST_STEPS), _MOST_STEPS)
            steps = next(filter(None, map(axis_of_steps, shapes.values())), automatic)
        usual = {**optimizer.usual, "lr": np.full(arguments.count("steps", steps), optimizer.usual["lr"])}
        if l2 is None:
            l2 = np.full(len(model.groups), _FIRST_PENALTY)
        return {"steps": steps, "batch_size": batch, "optimizer": optimizer(**{**usual, **own}), "l2": l2,
                "init_scale": self.init_scale}  # fmt: skip

    def _optimizer(self) -> tuple[Any, dict[str, Any]]:
        """The class of the optimizer, and those of its arguments that are given."""
        optimizer, own = self.optimizer, {"lr": self.lr, "decay": self.decay}
        kinds = {name.lower(): each for name, each in BY_NAME.items()}
        if optimizer is not None and not isinstance(optimizer, str):
            chosen = optimizer_of(**own, optimizer=optimizer)
            return type(chosen), arguments_of(chosen)
        kind = kinds[arguments.choice("optimizer", "sgd" if optimizer is None else optimizer, kinds)]
        own = {name: value for name, value in own.items() if value is not None}
        for name in own:
            if name not in kind.kind.names:
                raise arguments.fault(
                    name, "be left out where the optimizer has none", arguments.shown(own[name]),
                    f"{kind.__name__} has {', '.join(kind.kind.names)}.",
                )  # fmt: skip
        return kind, own


def _data(examples: Examples, scaler: Any) -> dict[str, Any]:
    """What a training takes of normalised examples."""
    weights = None if (examples.weights == 1).all() else examples.weights
    return {"train": (scaler.transform(examples.X), examples.y), "example_weights": weights}


def standardiser(name: str, values: FloatArray, weights: FloatArray) -> Any:
    """The scaler of the columns of an argument, if these have variances."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaler = StandardScaler().fit(values, sample_weight=weights)
    if not np.isfinite([scaler.mean_, scaler.var_]).all():
        raise arguments.fault(
            name, "have variances below 1e308", f"values up to {np.abs(values).max():g}", "Pass it in other units."
        )
    return scaler


def _single(values: AnyArray) -> AnyArray | None:
    """One for each row, (n_samples,), if it is one."""
    return values.reshape(len(values)) if values.size == len(values) else None


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _without_data(found: TuneResult) -> TuneResult:
    """As a file would keep it: with weights, which others are to be given, but no examples."""
    given: dict[str, npt.ArrayLike | None] = {**found.training.arguments, "train": None}
    return replace(found, training=replace(found.training, arguments=given, valid=None))
