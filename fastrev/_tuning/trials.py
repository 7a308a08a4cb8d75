"""One training with given hyperparameters, as a function that may be called in any thread or process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fastrev._engine import arguments, chaos, refusals
from fastrev._engine.examples import as_pair
from fastrev._engine.optimizer import replaced
from fastrev._engine.python_objective import PythonObjective, is_theta, theta_key
from fastrev._engine.types import FloatArray
from fastrev._engine.validation import of_examples, require_finite, validation
from fastrev._tuning.held_out import HeldOut
from fastrev._tuning.space import Values
from fastrev.errors import DivergenceError
from fastrev.kernels.fixed_point import LIMIT
from fastrev.mlp import MLP
from fastrev.runs import make_all_steps, start


class Trial(NamedTuple):
    """What is tried."""

    values: Values  # of what is learned
    seed: int  # of initial weights and batches
    differentiate: bool


class Outcome(NamedTuple):
    """What came of it."""

    loss: float  # infinite where the run was refused
    gradients: Values | None = None  # None where not wanted, or where there are none of any use
    growth: float = 1.0  # of the adjoint on its way back
    refusal: str = ""  # what the DivergenceError said


@dataclass(frozen=True)
class Training:
    """All that a run is made from but for what is learned."""

    model: Any
    w0: Any  # (P,), a function of the seed, or None for `MLP.init`
    arguments: Mapping[str, Any]  # of `fastrev.train`
    valid: Any  # of `fastrev.meta_grad`, or what each run holds out of the training examples
    truncate: int | None = None

    @property
    def random(self) -> bool:
        """Whether anything of a run depends on its seed."""
        drawn = self.w0 is None or callable(self.w0) or callable(getattr(self.model, "with_seed", None))
        return drawn or self.arguments.get("batch_size") is not None or isinstance(self.valid, HeldOut)

    def drawn(self, seed: int) -> Training:
        """The training of this seed: where examples are held out, on the others, and validated on these."""
        if not isinstance(self.valid, HeldOut):
            return self
        (X, Y), weights = self.arguments["train"], self.arguments["example_weights"]
        (x, y, c), (x_out, y_out, c_out) = (
            (X[rows], Y[rows], None if weights is None else weights[rows]) for rows in self.valid.split(seed)
        )
        given = {**self.arguments, "train": (x, y), "example_weights": c}
        return replace(
            self, arguments=given, valid=of_examples(self.model, *as_pair(self.model, "valid", (x_out, y_out), c_out))
        )

    def run(self, values: Mapping[str, Any], seed: int, weights: Any = None) -> Any:
        """A run of which no step is made yet, from these weights or from its own."""
        model = self.seeded(values, seed)
        given = {name: value for name, value in {**self.arguments, **values}.items() if name in _OF_TRAIN}
        given["optimizer"] = replaced(given["optimizer"], values)
        if isinstance(model, MLP):
            given["seed"] = seed
            if "x" in values or "y" in values:
                X, Y = self.arguments["train"]
                given["train"] = values.get("x", X), values.get("y", Y)
        return start(model, self.weights(values, seed) if weights is None else weights, **given)

    def seeded(self, values: Mapping[str, Any], seed: int) -> Any:
        """The model, with these hyperparameters of its own and for this seed."""
        model = self.model.with_seed(seed) if callable(getattr(self.model, "with_seed", None)) else self.model
        theta = {name: value for name, value in values.items() if is_theta(name)}
        for name, value in theta.items():
            model = PythonObjective(model).with_value(name, value).objective
        return model

    def weights(self, values: Mapping[str, Any], seed: int) -> Any:
        """The initial weights."""
        if "w0" in values:
            return values["w0"]
        if self.w0 is None:
            return self.model.init(seed, scale=values.get("init_scale", self.arguments.get("init_scale")))
        return self.w0(seed) if callable(self.w0) else self.w0


def attempt(training: Training, trial: Trial) -> Outcome:
    """Train, and differentiate if that is wanted; what diverges is an outcome as well."""
    values, seed, differentiate = trial
    training = training.drawn(seed)
    try:
        weights = training.weights(values, seed)
        if not np.abs(arguments.real_array("w0", weights)).max(initial=0.0) < LIMIT:  # as seed or scales have it
            return Outcome(np.inf, refusal="The initial weights would leave the grid, magnitudes below 2048.")
        run = training.run(values, seed, weights)
        make_all_steps(run, False)
        loss, w_bar = validation(training.model, training.valid)(run.w)
        require_finite(run, loss, w_bar)
    except arguments.ArgumentsError as error:  # of hyperparameters that have moved apart
        return Outcome(np.inf, refusal=str(error))
    except DivergenceError as error:
        return Outcome(np.inf, refusal=str(error).removesuffix(refusals.OF_THE_RUN))  # which is not handed on
    if not differentiate:
        return Outcome(loss)
    with chaos.unheard():
        found = run.pullback(w_bar, wrt=_wanted(values), truncate=training.truncate)
    gradients = {name: np.asarray(_gradient(training, found, name, trial)) for name in values}
    return Outcome(loss, gradients if usable(gradients) else None, chaos.growth(run.stats.adjoint_norms))


def usable(gradients: Values) -> bool:
    """Whether gradients are finite, and their norm is, with which they are clipped."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(sum(np.sum(each**2) for each in gradients.values())))


_OF_TRAIN = ("train", "optimizer", "steps", "batch_size", "seed", "batches", "l2", "v0", "example_weights")


def _wanted(values: Values) -> tuple[str, ...]:
    names = {"init_scale": "w0"}
    return tuple(dict.fromkeys("theta" if is_theta(each) else names.get(each, each) for each in values))


def _gradient(training: Training, found: Any, name: str, trial: Trial) -> Any:
    if name == "init_scale":
        noise: FloatArray = training.model.init(trial.seed, scale=1.0)
        by_group = training.model.group_sums(noise * found.w0)
        return by_group if trial.values[name].ndim else by_group.sum()
    if is_theta(name):
        return found.theta[theta_key(name)]
    return getattr(found, name)
