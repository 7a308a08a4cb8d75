"""What the nodes of PyTorch and of JAX share: a training as a function of arrays that have names, in plain NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import numpy as np

from fastrev._engine import arguments
from fastrev._engine.architecture import Architecture
from fastrev._engine.arguments import fault
from fastrev._engine.examples import inputs_and_targets
from fastrev._engine.optimizer import arguments_of
from fastrev._engine.python_objective import PythonObjective, is_theta, theta_key, theta_name
from fastrev._engine.types import AnyArray, FloatArray
from fastrev._engine.validation import require_finite, require_one, validation
from fastrev.errors import ArgumentError
from fastrev.interop._shared import quoted, walk
from fastrev.optimizers import optimizer_of
from fastrev.runs import Run, make_all_steps, start

_OF_VALID = ("valid[0]", "valid[1]")
_NAMES = {"train[0]": "x", "train[1]": "y"}  # in `wrt`


@dataclass(frozen=True)
class Recipe:
    """All that a training depends on beside the arrays that it is given; of those, what is constant."""

    model: Any
    optimizer: Any  # which class
    valid: Any  # a function; None where the arrays valid[0] and valid[1] are to be taken
    settings: Mapping[str, Any]  # steps, batch_size, seed
    truncate: int | None
    constants: Mapping[str, Any]

    def with_constants(self, constants: Mapping[str, Any]) -> Recipe:
        """The same with these arrays, by name."""
        return replace(self, constants=dict(constants))

    def check(self, given: Mapping[str, Any]) -> None:
        """Refuse arguments that are at fault, before anything is computed."""
        self._start(given)

    def stand_in(self, name: str, shape: tuple[int, ...], dtype: Any) -> AnyArray:
        """An admissible array in place of one that is not known yet."""
        if is_theta(name) and (own := PythonObjective(self.model).theta()[theta_key(name)]).shape == shape:
            return own
        defaults = {each.name: each.default for each in fields(self.optimizer) if each.default is not MISSING}
        return np.full(shape, defaults.get(name, name in self.optimizer.kind.ratios), dtype)

    def require_derivatives(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse to differentiate by what has no derivative here, of the arrays of these names and shapes."""
        for name in _OF_VALID:
            if name in shapes:
                raise fault(
                    name, "be constant", "something to differentiate by",
                    "Detach it (stop_gradient in JAX). Its derivative needs no training: it is that of the validation "
                    "loss alone at the final weights, fastrev.train(...).w.",
                )  # fmt: skip
        for each in fields(self.optimizer):
            if each.name in shapes and each.name not in self.optimizer.kind.names:
                raise fault(
                    each.name, "be constant", "something to differentiate by",
                    "Detach it (stop_gradient in JAX): there is no derivative by it.",
                )  # fmt: skip
        if shapes and not isinstance(self.model, Architecture):
            PythonObjective(self.model).require_hvp()
        elif len(shapes.get("train[1]", (0, 0))) == 1 and self.model.sizes[-1] > 1:
            raise fault(
                "train[1]", f"have shape (N, {self.model.sizes[-1]}) to be differentiated by",
                f"classes of shape {shapes['train[1]']}",
                "Pass labels that may move: one_hot of torch.nn.functional or jax.nn makes them of classes.",
            )  # fmt: skip

    def run(self, given: Mapping[str, Any]) -> Trained:
        """Train."""
        run, validate = self._start(given)
        make_all_steps(run, progress=False)
        loss, w_bar = validate(run.w)
        require_finite(run, loss, w_bar)
        return Trained(self, given, run, loss, w_bar)

    def _start(self, given: Mapping[str, Any]) -> tuple[Run, Callable[[FloatArray], tuple[float, FloatArray]]]:
        arrays = {**self.constants, **given}
        theta = {name: arrays.pop(name) for name in list(arrays) if is_theta(name)}
        valid = tuple(arrays.pop(name) for name in _OF_VALID if name in arrays) or self.valid
        train = tuple(arrays.pop(name) for name in ("train[0]", "train[1]") if name in arrays) or None
        model = _with_theta(self.model, theta) if theta else self.model
        optimizer = self.optimizer(**{each.name: arrays.pop(each.name) for each in fields(self.optimizer)})
        optional = {"v0": None, "example_weights": None, "batches": None}
        run = start(model, train=train, optimizer=optimizer, **(optional | arrays), **self.settings)
        if self.truncate is not None:
            arguments.count("truncate", self.truncate)
        return run, validation(model, valid)


class Trained:
    """A training that was made, and is taken back where derivatives are asked for."""

    def __init__(self, recipe: Recipe, given: Mapping[str, Any], run: Run, loss: float, w_bar: FloatArray) -> None:
        self.loss = loss
        self._recipe, self._given, self._w_bar = recipe, given, w_bar
        self._run: Run | None = run
        self._found: dict[str, AnyArray] = {}

    def gradients(self, names: Iterable[str]) -> dict[str, AnyArray]:
        """The derivatives of the loss by the arrays of these names."""
        names = list(names)
        if not self._found.keys() >= {*names}:
            run = self._run or self._recipe.run(self._given)._run
            assert run is not None
            self._run = None
            self._found |= self._pulled_back(run, names)
        return {name: self._found[name] for name in names}

    def _pulled_back(self, run: Run, names: list[str]) -> dict[str, AnyArray]:
        wrt = dict.fromkeys("theta" if is_theta(name) else _NAMES.get(name, name) for name in names)
        found = vars(run.pullback(self._w_bar, wrt=tuple(wrt), truncate=self._recipe.truncate))
        return {
            name: np.asarray(found["theta"][theta_key(name)] if is_theta(name) else found[_NAMES.get(name, name)])
            for name in names
        }


def gather(
    model: Any,
    w0: Any,
    *,
    train: Any,
    valid: Any,
    lr: Any,
    decay: Any,
    optimizer: Any,
    l2: Any,
    theta: Any,
    truncate: int | None,
    steps: int | None,
    batch_size: int | None,
    seed: int,
    **arrays: Any,
) -> tuple[Recipe, dict[str, Any]]:
    """A training without its arrays, and those that were passed, of whatever library, by the names of errors."""
    chosen = optimizer_of(lr, decay, optimizer)
    given = {"w0": w0, **arguments_of(chosen), "l2": l2}
    given |= {name: value for name, value in arrays.items() if value is not None}
    if train is not None:
        given |= zip(("train[0]", "train[1]"), inputs_and_targets("train", train), strict=True)
    require_one("valid", valid)
    if isinstance(valid, tuple | list):
        given |= zip(_OF_VALID, inputs_and_targets("valid", valid), strict=True)
        valid = None
    given |= _hyperparameters(model, theta)
    settings = {"steps": steps, "batch_size": batch_size, "seed": seed}
    return Recipe(model, type(chosen), valid, settings, truncate, {}), given


def divided(given: Mapping[str, Any], kind: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays of a library, which are differentiated by, and all others, which are constants."""
    for name, value in given.items():
        if isinstance(value, list | tuple) and any(isinstance(each, kind) for _, each in walk(value)):
            raise fault(
                name, "be one array", f"a {type(value).__name__} of several",
                "Stack them with torch.stack or jax.numpy.stack, which hand derivatives on.",
            )  # fmt: skip
    arrays = {name: value for name, value in given.items() if isinstance(value, kind)}
    return arrays, {name: value for name, value in given.items() if name not in arrays}


def twice() -> ArgumentError:
    """The error for a derivative of a derivative, to be raised by the caller."""
    return ArgumentError(
        "The gradient of validation_loss has no derivative of its own: a training is differentiated once. For second "
        "derivatives take differences of its gradients."
    )


def _hyperparameters(model: Any, theta: Any) -> dict[str, Any]:
    if theta is None:
        return {}
    if isinstance(model, Architecture):
        raise fault(
            "theta", "be left out where the model is a fastrev.MLP", f"a {type(theta).__name__}",
            "It is of a fastrev.Objective; an MLP's hyperparameters are arguments of their own.",
        )  # fmt: skip
    if not hasattr(theta, "items"):
        raise fault("theta", "be a dictionary of names and arrays", f"a {type(theta).__name__}")
    own = PythonObjective(model).theta_shapes
    for name, _ in theta.items():
        if name not in own:
            raise fault("theta", f"hold names of model.theta, {quoted(own)}", repr(name))
    return {theta_name(name): value for name, value in theta.items()}


def _with_theta(model: Any, given: Mapping[str, Any]) -> Any:
    trained = PythonObjective(model)
    theta = {theta_key(name): arguments.real_array(name, value) for name, value in given.items()}
    for name, value in theta.items():
        if value.shape != trained.theta_shapes[name]:
            required = f"have shape {trained.theta_shapes[name]}, that of model.theta"
            raise fault(theta_name(name), required, f"shape {value.shape}")
    return trained.with_theta(theta).objective
