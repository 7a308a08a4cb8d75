"""What classifier and regressor have in common: parameters, the learning of what trains, and outputs."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from fastrev._engine import arguments
from fastrev._engine.hyperparameters import axis_of_steps
from fastrev._engine.types import AnyArray, FloatArray
from fastrev.estimators._examples import Examples, as_weights
from fastrev.mlp import MLP
from fastrev.tuning import tune
from fastrev.tuning_results import TuneResult

LEARNED = ("lr", "decay", "l2", "init_scale")
_FIRST_RATE, _FIRST_PENALTY = 0.1, 1e-3
_BATCH, _PASSES, _FEWEST_STEPS, _MOST_STEPS = 64, 20, 200, 1000  # of "auto"


class MetaMLP(BaseEstimator):
    """Base of `MetaMLPClassifier` and `MetaMLPRegressor`; see there for the parameters."""

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        lr: Any = None,
        decay: Any = 0.9,
        l2: Any = None,
        init_scale: Any = None,
        learn: Any = LEARNED,
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
        return [self.model_.unflatten(self.w_)[name] for name in self.model_.groups if name.startswith("W")]

    @property
    def intercepts_(self) -> list[FloatArray]:
        return [self.model_.unflatten(self.w_)[name] for name in self.model_.groups if name.startswith("b")]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "w_")

    def _checked(self, X: Any, y: Any, sample_weight: Any, **how: bool) -> tuple[FloatArray, AnyArray, FloatArray]:
        """Inputs, targets and weights, as scikit-learn checks them."""
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2, **how)
        return X, y, as_weights(sample_weight, len(X))

    def _learn(self, examples: Examples, loss: str, outputs: int) -> None:
        """Learn how to train on a part of the examples, then train on all."""
        learn = arguments.distinct_choices("learn", self.learn, LEARNED)
        scaler = StandardScaler().fit(examples.X, sample_weight=examples.weights)
        model = MLP((examples.X.shape[1], *self._hidden(), outputs), self.activation, loss, self.dtype)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        found = tune(
            model, train=(scaler.transform(examples.X), examples.y), valid=self._share(),
            example_weights=None if (examples.weights == 1).all() else examples.weights,
            **self._start(model, len(examples.X)), learn=learn, meta_steps=self.meta_steps, meta_lr=self.meta_lr,
            runs=self.runs, workers=self.workers, seed=seed, progress=self.progress,
        )  # fmt: skip
        if not found.success:
            raise KeyboardInterrupt(found.message)
        self.w_ = found.train(seed=seed).w
        self.model_, self.scaler_, self.tuned_ = model, scaler, _without_data(found)
        self.lr_, self.decay_, self.l2_, self.init_scale_ = (getattr(found, name) for name in LEARNED)
        self.loss_ = found.loss

    def _inputs(self, X: Any) -> FloatArray:
        """What the network takes, if it is fitted."""
        check_is_fitted(self)
        standardised: FloatArray = self.scaler_.transform(validate_data(self, X, reset=False, dtype=np.float64))
        return standardised

    def _hidden(self) -> tuple[int, ...]:
        sizes = self.hidden_layer_sizes
        listed = [sizes] if isinstance(sizes, int | np.integer) else sizes
        if isinstance(listed, str) or not hasattr(listed, "__len__"):
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
        lr, l2, steps, batch = self.lr, self.l2, self.steps, self.batch_size
        if _is_auto(batch):
            trained = examples - max(1, round(self._share() * examples))  # others are held out
            batch = max(1, min(_BATCH, trained))
        count = _axis_of_steps(lr) or _axis_of_steps(self.decay)
        if _is_auto(steps):
            a_pass = 1 if batch is None else examples / arguments.count("batch_size", batch)
            steps = None if count else min(max(ceil(_PASSES * a_pass), _FEWEST_STEPS), _MOST_STEPS)
        if lr is None:
            lr = np.full(count or arguments.count("steps", steps), _FIRST_RATE)
        if l2 is None:
            l2 = np.full(len(model.groups), _FIRST_PENALTY)
        return {"steps": steps, "batch_size": batch, "lr": lr, "decay": self.decay, "l2": l2,
                "init_scale": self.init_scale}  # fmt: skip


def _axis_of_steps(value: Any) -> int | None:
    """T, of what has one value for each of T steps."""
    return axis_of_steps(np.shape(value))


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _without_data(found: TuneResult) -> TuneResult:
    """As a file would keep it: what was trained on is not part of an estimator."""
    given: dict[str, npt.ArrayLike | None] = {**found.training.arguments, "train": None, "example_weights": None}
    return replace(found, training=replace(found.training, arguments=given))
