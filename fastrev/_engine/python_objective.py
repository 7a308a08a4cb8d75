"""Whatever a user trains, as functions of his own: its description checked once, what they return at every call."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastrev._engine import arguments
from fastrev._engine.groups import bounds_of
from fastrev._engine.received import UnreadableError, plain
from fastrev._engine.state import imprint
from fastrev._engine.types import AnyArray, Fingerprint, FloatArray
from fastrev.errors import ArgumentError
from fastrev.kernels import checks

_FLOAT64 = np.dtype(np.float64)


class PythonObjective:
    """A `fastrev.Objective` that was checked.

    The functions are given arrays of their own at every call, and what they return is copied: they may keep or change
    the one and change the other afterwards.
    """

    dtype = None  # no walk is compiled for it

    def __init__(self, objective: Any) -> None:
        if isinstance(objective, type):
            raise arguments.fault("model", "be an object", f"the class {objective.__name__}", "Pass an instance of it.")
        self.objective = objective
        if not hasattr(objective, "grad") or not hasattr(objective, "num_params"):
            raise arguments.fault(
                "model", "be a fastrev.MLP, or a fastrev.Objective with num_params, grad and hvp",
                f"a {type(objective).__name__}",
            )  # fmt: skip
        self.num_params = arguments.count("model.num_params", objective.num_params)
        for name in ("grad", "hvp", "cross", "hvp_and_cross"):
            if not callable(getattr(objective, name, _nothing)):
                raise arguments.fault(f"model.{name}", "be a method", repr(getattr(objective, name)))
        groups = _optional(objective, "groups")
        self.group_names, self.bounds = bounds_of("model.groups", groups, self.num_params)
        self.theta_shapes = {name: each.shape for name, each in self.theta().items()}
        if self.theta_shapes and not _has(objective, "cross", "hvp_and_cross"):
            raise arguments.fault(
                "model.cross", "be there, as there is model.theta", "missing",
                "Give it a method cross(w, u, t) that returns {name: derivative of grad(w, t) . u by theta[name]}.",
            )  # fmt: skip
        self.imprints = self.fingerprint()

    @property
    def names(self) -> tuple[str, ...]:
        """What there is to differentiate by."""
        return ("theta",) if self.theta_shapes else ()

    @property
    def names_by_default(self) -> tuple[str, ...]:
        """Of these, what it is differentiated by where nothing is said."""
        return self.names

    @property
    def axes(self) -> list[tuple[str, int | None]]:
        """Every argument with its number of steps, if it has an axis of them: its own are the user's business."""
        return []

    def theta(self) -> dict[str, FloatArray]:
        """Its own hyperparameters as they are now."""
        theta = _optional(self.objective, "theta")
        if theta is None:
            return {}
        if not isinstance(theta, Mapping) or not all(isinstance(name, str) for name in theta):
            raise arguments.fault("model.theta", "map names to arrays", f"a {type(theta).__name__}")
        return {name: arguments.real_array(f"model.{theta_name(name)}", theta[name]) for name in theta}

    def given(self) -> dict[str, Any]:
        """What is known of it, by the name of the member."""
        groups = dict(zip(self.group_names, self.bounds.tolist(), strict=False))
        found = {"model": type(self.objective).__qualname__, "model.num_params": self.num_params}
        return {**found, "model.groups": repr(groups)} | {f"model.{name}": each for name, each in self.values().items()}

    def fingerprint(self) -> Fingerprint:
        """What tells whether its hyperparameters changed.  The rest of it nobody can know but its own functions."""
        return {f"model.{theta_name(name)}": imprint(each) for name, each in self.theta().items()}

    def layout(self) -> Fingerprint:
        """Its functions find their way by themselves."""
        return {}

    def require_hvp(self) -> None:
        """Refuse to differentiate what has no second derivatives."""
        if not _has(self.objective, "hvp"):
            raise arguments.fault(
                "model.hvp", "be there to differentiate by anything", "missing",
                "Give it a method hvp(w, u, t) that returns the Hessian of step t at w times u, (P,).",
            )  # fmt: skip

    def gradient(self, w: FloatArray, t: int, out: FloatArray) -> None:
        """The gradient of step t at the weights w, which are given away."""
        self._vector("grad(w, {t})", t, self.objective.grad(w, t), out)

    def new_sums(self, wrt: tuple[str, ...]) -> dict[str, FloatArray]:
        """Zeros for the derivatives by its own hyperparameters, if they are wanted."""
        return {name: np.zeros(shape) for name, shape in self.theta_shapes.items()} if "theta" in wrt else {}

    def pull(self, w: FloatArray, u: FloatArray, t: int, hu: FloatArray, sums: dict[str, FloatArray]) -> bool:
        """The Hessian of step t at w times u; the derivatives of the gradient times u are subtracted from the sums.

        w and u are given away.  Returns whether the latter are finite.
        """
        fine = True
        for name, cross in self._derive(w, u, t, hu, bool(sums)).items():
            fine = fine and checks.all_finite(cross.reshape(-1))
            with np.errstate(over="ignore", invalid="ignore"):
                sums[name] -= cross
        return bool(fine)

    def require_finite(self, w: FloatArray, t: int, sums: dict[str, FloatArray]) -> None:
        """Refuse second derivatives that are not finite for a u of length 1 either: so it was no overflow."""
        hu, u = np.empty(w.size), np.full(w.size, w.size**-0.5)
        named = {"hvp(w, u, {t})": hu}
        for name, cross in self._derive(w, u, t, hu, bool(sums)).items():
            named["cross(w, u, {t})" + f"[{name!r}]"] = cross
        for what, each in named.items():
            if not checks.all_finite(each.reshape(-1)):
                raise _fault(
                    what, t, "finite numbers",
                    "NaN or infinity, even for a u of length 1: look for what has no derivative, such as a norm at 0",
                )  # fmt: skip

    def suspect(self, step: int, rate: float, *, finite: bool) -> str:
        """What made a step grow at a learning rate, or its gradient not finite, as far as one can tell; what to do."""
        if step == 0 and not finite:
            return "It is so at w0 itself, whatever lr: look at model.grad(w0, 0), and begin with smaller weights."
        return f"The likely cause is a learning rate that is too high (lr = {rate:g} there): lower lr."

    def gradients(self, sums: dict[str, FloatArray]) -> dict[str, Any]:
        """The derivatives in the shapes of the arguments."""
        return {"theta": {name: each[()] for name, each in sums.items()}}

    def values(self) -> dict[str, FloatArray]:
        """What there is to differentiate by, each number of it."""
        return {theta_name(name): each for name, each in self.theta().items()}

    def with_value(self, name: str, value: FloatArray) -> PythonObjective:
        """The same with another value of one of its hyperparameters."""
        return self.with_theta({theta_key(name): value})

    def with_theta(self, values: Mapping[str, FloatArray]) -> PythonObjective:
        """The same with other values of some of its hyperparameters."""
        theta = self.theta() | dict(values)
        if _has(self.objective, "with_theta"):
            return PythonObjective(self.objective.with_theta(theta))
        other = copy.copy(self.objective)
        try:
            object.__setattr__(other, "theta", theta)
        except AttributeError as error:
            raise arguments.fault(
                "model", "have a method with_theta(theta), which returns it with other hyperparameters",
                f"a {type(other).__name__} whose theta cannot be set ({error})",
            ) from None  # fmt: skip
        return PythonObjective(other)

    def _derive(self, w: FloatArray, u: FloatArray, t: int, hu: FloatArray, crossed: bool) -> dict[str, FloatArray]:
        if not crossed:
            self._vector("hvp(w, u, {t})", t, self.objective.hvp(w, u, t), hu)
            return {}
        if not _has(self.objective, "hvp_and_cross"):
            self._vector("hvp(w, u, {t})", t, self.objective.hvp(w.copy(), u.copy(), t), hu)
            return self._thetas("cross(w, u, {t})", t, self.objective.cross(w, u, t))
        what = "hvp_and_cross(w, u, {t})"
        both = self.objective.hvp_and_cross(w, u, t)
        if not isinstance(both, tuple) or len(both) != 2:
            raise _fault(what, t, "a pair of what hvp and cross return", type(both).__name__)
        self._vector(what + "[0]", t, both[0], hu)
        return self._thetas(what + "[1]", t, both[1])

    def _vector(self, what: str, t: int, value: Any, out: FloatArray) -> None:
        if type(value) is not np.ndarray or value.dtype != _FLOAT64 or value.shape != out.shape:
            value = _real(what, t, value)
            if value.shape != out.shape:
                raise _fault(what, t, f"shape {out.shape}, one number per parameter", f"shape {value.shape}")
        np.copyto(out, value)

    def _thetas(self, what: str, t: int, values: Any) -> dict[str, FloatArray]:
        if not isinstance(values, Mapping) or not self.theta_shapes.keys() <= values.keys():
            received = (
                ", ".join(map(repr, values)) or "an empty one" if isinstance(values, Mapping) else type(values).__name__
            )
            raise _fault(what, t, f"a dict with {', '.join(map(repr, self.theta_shapes))}", received)
        found = {}
        for name, shape in self.theta_shapes.items():
            array = _real(f"{what}[{name!r}]", t, values[name])
            if array.shape != shape:
                raise _fault(f"{what}[{name!r}]", t, f"shape {shape}, that of theta[{name!r}]", f"shape {array.shape}")
            found[name] = array.astype(np.float64)
        return found


def is_theta(name: str) -> bool:
    """Whether this is what `theta_name` makes."""
    return name.startswith("theta[")


def theta_key(name: str) -> str:
    """The name in `theta` that `theta_name` was made of."""
    return str(ast.literal_eval(name.removeprefix("theta[").removesuffix("]")))


def theta_name(name: str) -> str:
    """That of one of an objective's own hyperparameters among all others."""
    return f"theta[{name!r}]"


def _real(what: str, t: int, value: Any) -> AnyArray:
    """An array of real numbers, of which NaN and infinity are for others to judge."""
    try:
        array = plain(value)
    except UnreadableError as error:
        raise _fault(what, t, "an array of real numbers", error.in_full) from None
    if array.dtype.kind not in "fiu":
        raise _fault(what, t, "an array of real numbers", "None" if value is None else f"one of dtype {array.dtype}")
    return array


def _optional(objective: Any, name: str) -> Any:
    """A member, or None where there is none: a property that fails is not taken for one that is missing."""
    try:
        return getattr(objective, name)
    except AttributeError:
        if inspect.getattr_static(objective, name, _nothing) is not _nothing:
            raise
        return None


def _has(objective: Any, *names: str) -> bool:
    return any(callable(getattr(objective, name, None)) for name in names)


_nothing: Callable[[], None] = lambda: None  # noqa: E731  # stands for what is not there


def _fault(what: str, t: int, expected: str, received: str) -> ArgumentError:
    return ArgumentError(f"model.{what.replace('{t}', str(t))} must return {expected}, not {received}.")
