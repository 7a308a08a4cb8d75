"""What the adapters share: the objective in plain NumPy, the leaves of its parameters, and the checks of both."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastrev._engine.arguments import as_array, fault, real_array, whole
from fastrev._engine.types import AnyArray, FloatArray, Floating
from fastrev.errors import ArgumentError

Path = tuple[object, ...]  # the keys and indices that lead to a leaf


# ---- the objective -------------------------------------------------------------------------------------------


class Derivatives(Protocol):
    """What a library computes.

    All arrays that come are NumPy's, writable, of the parameters' dtype and nobody else's; all that go are such as
    `numpy.array` takes.
    """

    library: str  # its name
    jitted: bool  # whether all of it is compiled by `jax.jit`

    def loss(self, w: AnyArray, theta: dict[str, AnyArray], t: int) -> Any:
        """The loss."""

    def grad(self, w: AnyArray, theta: dict[str, AnyArray], t: int) -> Any:
        """Its gradient g by w."""

    def hvp(self, w: AnyArray, theta: dict[str, AnyArray], u: AnyArray, t: int) -> Any:
        """The gradient of g.u by w."""

    def cross(self, w: AnyArray, theta: dict[str, AnyArray], u: AnyArray, t: int) -> Mapping[str, Any]:
        """The gradient of g.u by theta."""

    def hvp_and_cross(
        self, w: AnyArray, theta: dict[str, AnyArray], u: AnyArray, t: int
    ) -> tuple[Any, Mapping[str, Any]]:
        """The gradients of g.u by w and by theta."""

    def unflatten(self, w: AnyArray) -> Any:
        """The parameters as the library's user has them."""


class LossObjective:
    """A loss as a `fastrev.Objective`: NumPy arrays in, new NumPy arrays out.

    The functions `objective` of `fastrev.interop` make it.  Parameters are one vector of shape (P,): the leaves of the
    tree they came in, one after the other.

    Attributes
    ----------
    num_params : int
        P.
    dtype : numpy.dtype
        float32 or float64: what the loss computes in, and what all results are of.
    groups : mapping of str to slice
        Where each leaf is in the vector, by its dotted path.
    theta : mapping of str to ndarray
        Hyperparameters, read-only float64.
    library : str
        What the loss is written in: ``"JAX"``, ``"PyTorch"`` or ``"autograd"``.
    jitted : bool
        Whether `jax.jit` compiles it, so that no callback of JAX is to call it.
    """

    def __init__(self, derivatives: Derivatives, leaves: Leaves, theta: Mapping[str, FloatArray]) -> None:
        self.num_params = leaves.size
        self.dtype = leaves.dtype
        self.groups = leaves.groups
        self.theta = MappingProxyType(dict(theta))
        self._leaves = leaves
        self._derivatives = derivatives
        self._theta = {name: real_array(_of_theta(name), theta[name], self.dtype, own=True) for name in theta}

    def __repr__(self) -> str:
        return f"<objective of {self.num_params} {self.dtype} parameters, theta: {', '.join(self.theta) or 'none'}>"

    @property
    def library(self) -> str:
        return self._derivatives.library

    @property
    def jitted(self) -> bool:
        return self._derivatives.jitted

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"groups": dict(self.groups), "theta": dict(self.theta)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        maps = {"groups": state["groups"], "theta": hyperparameters(state["theta"])}
        vars(self).update(state | {name: MappingProxyType(each) for name, each in maps.items()})

    def __deepcopy__(self, memo: dict[int, Any]) -> LossObjective:
        return copy.copy(self)  # its derivatives never change, and keep what they have compiled

    def loss(self, w: npt.ArrayLike, t: int) -> float:
        """The loss of a step.

        Parameters
        ----------
        w : (P,) array_like
            Parameters.
        t : int
            The step.

        Returns
        -------
        float
            The loss.
        """
        return float(self._derivatives.loss(self._vector("w", w), self._own_theta(), whole("t", t, 0)))

    def grad(self, w: npt.ArrayLike, t: int) -> Floating:
        """The gradient of `loss` by the parameters: the same bits for the same arguments.

        Parameters
        ----------
        w : (P,) array_like
            Parameters.
        t : int
            The step.

        Returns
        -------
        (P,) ndarray
            The gradient.
        """
        return self._numpy(self._derivatives.grad(self._vector("w", w), self._own_theta(), whole("t", t, 0)))

    def loss_and_grad(self, w: npt.ArrayLike, t: int) -> tuple[float, Floating]:
        """Both, as what `fastrev.meta_grad` takes for `valid` is to return.

        Parameters
        ----------
        w : (P,) array_like
            Parameters.
        t : int
            The step.

        Returns
        -------
        tuple of float and (P,) ndarray
            Loss and gradient.
        """
        return self.loss(w, t), self.grad(w, t)

    def hvp(self, w: npt.ArrayLike, u: npt.ArrayLike, t: int) -> Floating:
        """The Hessian of `loss` by the parameters, times a vector.

        Parameters
        ----------
        w : (P,) array_like
            Parameters.
        u : (P,) array_like
            The vector that is multiplied.
        t : int
            The step.

        Returns
        -------
        (P,) ndarray
            The product.
        """
        return self._numpy(self._derivatives.hvp(*self._point(w, u, t)))

    def cross(self, w: npt.ArrayLike, u: npt.ArrayLike, t: int) -> dict[str, Floating]:
        """The derivative of ``grad(w, t) . u`` by each hyperparameter.

        Parameters
        ----------
        w : (P,) array_like
            Parameters.
        u : (P,) array_like
            The vector that is multiplied.
        t : int
            The step.

        Returns
        -------
        dict of str to ndarray
            Each of the hyperparameter's shape.
        """
        return self._numpy_by_name(self._derivatives.cross(*self._point(w, u, t))) if self.theta else {}

    def hvp_and_cross(self, w: npt.ArrayLike, u: npt.ArrayLike, t: int) -> tuple[Floating, dict[str, Floating]]:
        """`hvp` and `cross` at once, which costs little more than `hvp`.

        Parameters
        ----------
        w : (P,) array_like
            Parameters.
        u : (P,) array_like
            The vector that is multiplied.
        t : int
            The step.

        Returns
        -------
        tuple of (P,) ndarray and dict of str to ndarray
            The product, and the derivatives.
        """
        if not self.theta:
            return self.hvp(w, u, t), {}
        product, crossed = self._derivatives.hvp_and_cross(*self._point(w, u, t))
        return self._numpy(product), self._numpy_by_name(crossed)

    def with_theta(self, theta: Mapping[str, npt.ArrayLike]) -> LossObjective:
        """The same objective with other values of the same hyperparameters; nothing is compiled again.

        Parameters
        ----------
        theta : mapping of str to array_like
            All of them, by name, each in its shape.

        Returns
        -------
        LossObjective
            A new one.

        Raises
        ------
        ArgumentError
            If theta's names or shapes are not those of `self.theta`.
        """
        values = hyperparameters(theta)
        if values.keys() != self.theta.keys():
            raise fault("theta", f"hold {quoted(self.theta)}", quoted(values), "Pass {**objective.theta, ...}.")
        for name, value in values.items():
            if value.shape != self.theta[name].shape:
                raise fault(_of_theta(name), f"have shape {self.theta[name].shape}", f"shape {value.shape}")
        return LossObjective(self._derivatives, self._leaves, {name: values[name] for name in self.theta})

    def unflatten(self, w: npt.ArrayLike) -> Any:
        """Parameters as the tree that they came in; of a module, as its state dict.

        Parameters
        ----------
        w : (P,) array_like
            Parameters.

        Returns
        -------
        pytree
            With arrays of the library's own.
        """
        return self._derivatives.unflatten(self._vector("w", w))

    def _point(self, w: npt.ArrayLike, u: npt.ArrayLike, t: int) -> tuple[AnyArray, dict[str, AnyArray], AnyArray, int]:
        return self._vector("w", w), self._own_theta(), self._vector("u", u), whole("t", t, 0)

    def _vector(self, name: str, value: npt.ArrayLike) -> AnyArray:
        array = np.array(
            value, self.dtype
        )  # a copy: libraries may keep what they get, and callers write to what is theirs
        if array.shape != (self.num_params,):
            raise fault(name, f"have shape ({self.num_params},), one number per parameter", f"shape {array.shape}")
        return array

    def _own_theta(self) -> dict[str, AnyArray]:
        return {name: value.copy() for name, value in self._theta.items()}

    def _numpy(self, result: Any) -> Floating:
        return np.array(result, self.dtype)

    def _numpy_by_name(self, results: Mapping[str, Any]) -> dict[str, Floating]:
        return {name: self._numpy(results[name]) for name in self.theta}


# ---- leaves --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leaves:
    """Arrays that follow each other in one vector."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        return sum(map(prod, self.shapes))

    @property
    def slices(self) -> list[slice]:
        return [slice(*ends) for ends in pairwise(accumulate(map(prod, self.shapes), initial=0))]

    @property
    def groups(self) -> Mapping[str, slice]:
        """By name, without leaves that hold nothing."""
        named = zip(self.names, self.slices, strict=True)
        return MappingProxyType({name: where for name, where in named if where.start < where.stop})

    def pieces(self, vector: Any) -> list[Any]:
        """The leaves in a vector of any library, traced or not."""
        return [vector[where].reshape(shape) for where, shape in zip(self.slices, self.shapes, strict=True)]

    def named(self, vector: Any) -> dict[str, Any]:
        """The same by name."""
        return dict(zip(self.names, self.pieces(vector), strict=True))


def read_leaves(found: Iterable[tuple[Path, Any]], default: npt.DTypeLike) -> tuple[Leaves, FloatArray]:
    """The leaves of params, and their values as one float64 vector.

    Parameters
    ----------
    found : iterable of (path, array or float)
        All arrays are to be of one dtype, which Python's floats take too.
    default : dtype
        What Python's floats are where there is nothing else.
    """
    by_name: dict[str, Any] = {}
    for path, value in found:
        name = ".".join(map(str, path)) or "params"
        if name in by_name:
            raise fault("params", "have leaves of different names", f"two of {name!r}", "Rename a key of either.")
        by_name[name] = value
    dtype = _common_dtype(by_name) or np.dtype(default)
    arrays = {name: np.asarray(value, dtype) for name, value in by_name.items()}
    leaves = Leaves(tuple(arrays), tuple(array.shape for array in arrays.values()), dtype)
    if not leaves.size:
        raise fault("params", "hold at least one number to train", "a tree without any")
    return leaves, np.concatenate([array.ravel() for array in arrays.values()], dtype=np.float64)


def _common_dtype(by_name: Mapping[str, Any]) -> np.dtype[Any] | None:
    """The dtype of all arrays; None where all leaves are Python's floats."""
    names: dict[str, list[str]] = {}
    for name, value in by_name.items():
        names.setdefault(_dtype_of(value), []).append(name)
    names.pop("float", None)
    for dtype in names.keys() - {"float32", "float64"}:
        raise fault(
            "params", "have leaves of float32 or float64", f"{dtype} at {quoted(names[dtype])}",
            "Convert what is to be trained; let the loss take everything else from where it is defined.",
        )  # fmt: skip
    if len(names) > 1:
        received = " and ".join(f"{dtype} at {quoted(names[dtype])}" for dtype in sorted(names))
        raise fault("params", "have leaves of one dtype", received, "Convert them to either.")
    return next(map(np.dtype, names), None)


def _dtype_of(value: object) -> str:
    """The name of an array's dtype, or of the type of what is no array."""
    dtype = getattr(value, "dtype", type(value))
    return str(getattr(dtype, "name", getattr(dtype, "__name__", dtype))).removeprefix("torch.")


def quoted(names: Iterable[str]) -> str:
    """The first few names."""
    first, *others = [repr(name) for name in names] or ["nothing"]
    return ", ".join([first, *others[:2]]) + (f" and {len(others) - 2} more" if len(others) > 2 else "")


# ---- trees of dictionaries, lists and tuples -----------------------------------------------------------------


def walk(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every leaf and its path; dictionaries by sorted keys, which equal trees share, as in JAX and autograd."""
    if not isinstance(tree, dict | list | tuple):
        yield path, tree
        return
    for key, child in _children(tree):
        yield from walk(child, (*path, key))


def rebuild(tree: Any, leaves: Iterator[Any]) -> Any:
    """The tree with other leaves, in the order of `walk`."""
    if not isinstance(tree, dict | list | tuple):
        return next(leaves)
    built = {key: rebuild(child, leaves) for key, child in _children(tree)}
    if isinstance(tree, dict):
        return built
    return type(tree)(*built.values()) if hasattr(tree, "_fields") else type(tree)(built.values())


def _children(tree: Any) -> list[tuple[Any, Any]]:
    if not isinstance(tree, dict):
        return list(zip(getattr(tree, "_fields", range(len(tree))), tree, strict=True))
    try:
        return [(key, tree[key]) for key in sorted(tree)]
    except TypeError:
        raise fault("params", "have dictionaries of keys that can be sorted", quoted(map(str, tree))) from None


# ---- hyperparameters and losses ------------------------------------------------------------------------------


def hyperparameters(
    theta: Mapping[str, npt.ArrayLike] | None, read: Callable[[str, Any], Any] = lambda name, value: value
) -> dict[str, FloatArray]:
    """Read-only float64 copies of theta's arrays, of which `read` makes such as NumPy takes."""
    if theta is None:
        return {}
    if not isinstance(theta, Mapping) or not all(isinstance(name, str) for name in theta):
        raise fault("theta", "be a dictionary of names and arrays", repr(theta), 'Pass {"l2": 1e-4}, say.')
    return {name: _hyperparameter(_of_theta(name), read(_of_theta(name), value)) for name, value in theta.items()}


def _hyperparameter(name: str, value: object) -> FloatArray:
    array = as_array(name, value)
    if array.dtype.kind != "f":
        raise fault(
            name, "hold floats", f"{array.dtype}", "Pass floats, such as 1.0: a derivative by it is to be taken."
        )
    own = real_array(name, array, own=True)
    own.setflags(write=False)
    return own


def _of_theta(name: str) -> str:
    return f"theta[{name!r}]"


def callable_loss(loss: object) -> None:
    """Refuse what cannot be called."""
    if not callable(loss):
        raise fault("loss", "be a function of (params, theta, t)", repr(loss))


def real_scalar(loss: Any) -> None:
    """Refuse an array of a library that is not one real number."""
    shape, dtype = tuple(np.shape(loss)), _dtype_of(loss)
    if shape:
        raise fault("loss", "return one number", f"an array of shape {shape}", "Return its mean or its sum.")
    if "float" not in dtype:
        raise fault("loss", "return a real floating number", dtype, "Return its real part, or convert it.")


def detached(received: object, library: str) -> ArgumentError:
    """The error for a loss without derivative, to be raised by the caller."""
    return fault(
        "loss", "return a number computed from its params", received,
        f"Compute it from them with {library} alone: NumPy, float() and detaching lose the derivative.",
    )  # fmt: skip
