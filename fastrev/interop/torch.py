"""Losses written in PyTorch, and a training as a node of its graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy.typing as npt

from fastrev._engine.arguments import fault
from fastrev._engine.extras import require
from fastrev._engine.types import AnyArray, FloatArray
from fastrev.interop._shared import (
    Leaves,
    LossObjective,
    Path,
    callable_loss,
    detached,
    hyperparameters,
    read_leaves,
    real_scalar,
    rebuild,
    walk,
)
from fastrev.interop._torch_node import validation_loss as validation_loss


def objective(
    loss: Callable[[Any, dict[str, Any], int], Any],
    params: Any,
    theta: Mapping[str, npt.ArrayLike] | None = None,
) -> tuple[LossObjective, FloatArray]:
    """A loss written in PyTorch, as an objective to train and differentiate, on the CPU.

    Parameters
    ----------
    loss : callable
        ``loss(params, theta, t)``, the scalar loss of step t: a function of its arguments alone (random numbers, say,
        from a generator seeded by t).
    params : Module, or tensor, array, float, or dict, list or tuple of params
        Initial weights, all float32 or all float64.  Of a module, those parameters that require a gradient: the loss
        gets the module with others in their place.  The module itself stays as it is.  So do its buffers, of which
        every call gets a copy as they are now.
    theta : dict of str to array, optional
        Hyperparameters of the loss, floats of any shape.  The loss gets them as tensors of the dtype of params, and an
        empty dictionary if there are none.

    Returns
    -------
    objective : LossObjective
        See its methods.  `unflatten` gives a state dict of a module, for ``module.load_state_dict``.
    w0 : ndarray of float64, shape (P,)
        The weights of params in one vector: a module's in the order of ``named_parameters()``, dictionaries by sorted
        keys.

    Raises
    ------
    MissingExtraError
        If PyTorch is not installed.
    ArgumentError
        If params have leaves of another dtype or of several, or on another device; if theta is not a dictionary of
        finite floats.  On use, if the loss is not a real scalar, or has no derivative by any of the params.

    Notes
    -----
    Small networks are several times as fast after ``torch.set_num_threads(1)``.  Pass a module itself, not what
    ``torch.compile`` makes of it, which has no second derivative.

    Second derivatives are PyTorch's own.  Those of ``torch.nn.utils.parametrizations.weight_norm`` are wrong in PyTorch
    2.13; those of ``spectral_norm`` and of an embedding with a ``padding_idx`` leave out what their gradients take for
    constant.  `fastrev.check_meta_grad` finds such.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrev.interop import torch
    >>> def loss(params, theta, t):
    ...     return ((params["a"] - t) ** 2).sum() + theta["l2"] * params["b"] ** 2
    >>> objective, w0 = torch.objective(loss, {"a": np.ones(2), "b": np.float64(3)}, {"l2": 0.5})
    >>> dict(objective.groups)
    {'a': slice(0, 2, None), 'b': slice(2, 3, None)}
    >>> objective.grad(w0, 2)
    array([-2., -2.,  3.])
    >>> objective.cross(w0, [0, 0, 1], 2)
    {'l2': array(6.)}
    """
    torch = require("torch", "torch", "fastrev.interop.torch")
    callable_loss(loss)
    model = _model(torch, loss, params)
    found = [(path, _array(torch, "params", leaf, _at(path))) for path, leaf in model.found]
    leaves, w0 = read_leaves(found, str(torch.get_default_dtype()).removeprefix("torch."))
    hyper = hyperparameters(theta, lambda name, value: _array(torch, name, value))
    return LossObjective(_derivatives(model, leaves), leaves, hyper), w0


def _derivatives(model: _Model, leaves: Leaves) -> _Derivatives:
    return _Derivatives(require("torch", "torch", "fastrev.interop.torch"), model, leaves)


def _at(path: Path) -> str:
    return f" at {'.'.join(map(str, path))!r}" if path else ""


def _array(torch: Any, argument: str, value: Any, where: str = "") -> Any:
    """A tensor's NumPy array; anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    if value.device.type != "cpu":
        remedy = "Pass it after .cpu(), and let the loss use the CPU."
        raise fault(argument, "be on the CPU", f"on {value.device}{where}", remedy)
    if value.layout != torch.strided:
        raise fault(argument, "be dense", f"of {value.layout}{where}", "Convert it with .to_dense().")
    try:
        return value.detach().resolve_conj().resolve_neg().numpy()
    except TypeError:  # bfloat16, which NumPy does not know, and narrower ones
        received = f"{str(value.dtype).removeprefix('torch.')}{where}"
        raise fault(argument, "be float32 or float64", received, "Convert it with .float().") from None


@dataclass(frozen=True)
class _Model:
    """Where parameters are, and what to do with tensors in their place."""

    found: list[tuple[Path, Any]]
    within: Callable[[list[Any], Callable[[Any], Any]], Any]  # calls with what the loss is to be given for its params
    loss: Callable[..., Any]
    unflatten: Callable[[list[Any]], Any]
    made_of: tuple[Any, ...]  # after the library, the arguments of `_model`

    def __reduce__(self) -> tuple[Any, ...]:
        return _model_anew, self.made_of


def _model_anew(*made_of: Any) -> _Model:
    return _model(require("torch", "torch", "fastrev.interop.torch"), *made_of)


def _model(torch: Any, loss: Callable[..., Any], params: Any, buffers: dict[str, Any] | None = None) -> _Model:
    if isinstance(params, torch.nn.Module):
        return _of_module(torch, loss, params, buffers)
    return _of_tree(loss, params)


def _of_tree(loss: Callable[..., Any], tree: Any) -> _Model:
    def unflatten(tensors: list[Any]) -> Any:
        return rebuild(tree, iter(tensors))

    def within(tensors: list[Any], work: Callable[[Any], Any]) -> Any:
        return work(unflatten(tensors))

    return _Model(list(walk(tree)), within, loss, unflatten, (loss, tree))


def _of_module(torch: Any, loss: Callable[..., Any], module: Any, kept: dict[str, Any] | None) -> _Model:
    # once where weights are tied, as `named_parameters` has them: functional_call puts one tensor in all their places
    trained = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if name not in trained:
            _array(torch, "params", tensor, f" at {name!r}")  # refuses other devices
    with torch.inference_mode(False):  # in which no tensor is made that could not be differentiated
        buffers = kept or {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    # functional_call calls modules only, so the work is the forward of one that has the user's as its child.  It is to
    # differentiate, too: torch.utils.checkpoint calls the module anew where derivatives are taken
    caller = torch.nn.Module()
    caller.params, caller.forward = module, lambda work: work(module)

    def within(tensors: list[Any], work: Callable[[Any], Any]) -> Any:
        swapped = dict(zip(trained, tensors, strict=True)) | {name: value.clone() for name, value in buffers.items()}
        return torch.func.functional_call(caller, {f"params.{name}": swapped[name] for name in swapped}, (work,))

    def state_dict(tensors: list[Any]) -> dict[str, Any]:
        places = {id(weight): tensor for weight, tensor in zip(trained.values(), tensors, strict=True)}
        state = module.state_dict(keep_vars=True)
        return {
            name: places.get(id(value), value).detach().clone() if isinstance(value, torch.Tensor) else value
            for name, value in state.items()
        }

    found = [(tuple(name.split(".")), weight) for name, weight in trained.items()]
    return _Model(found, within, loss, state_dict, (loss, module, buffers))


class _Derivatives:
    """Derivatives by double backward.

    An `hvp` takes 1.5 ms of a 64-32-10 MLP and 2.1 of a small convolution; forward over reverse, with dual numbers, 4.9
    and 5.8; a gradient 0.7 and 0.9 (`python -m bench.choices torch`).  Reverse over forward raises an error at its own
    cross-entropy, whose forward rule overwrites what the reverse needs.
    """

    library = "PyTorch"
    jitted = False

    def __init__(self, torch: Any, model: _Model, leaves: Leaves) -> None:
        self._torch, self._model, self._leaves = torch, model, leaves
        self._attention = require("torch.nn.attention", "torch", "fastrev.interop.torch")

    def __reduce__(self) -> tuple[Any, ...]:
        return _derivatives, (self._model, self._leaves)

    def loss(self, w: AnyArray, theta: dict[str, AnyArray], t: int) -> Any:
        with self._recording():
            hyper = self._hyperparameters(theta)
            return self._model.within(self._weights(w), lambda params: self._value(params, hyper, t)).detach()

    def grad(self, w: AnyArray, theta: dict[str, AnyArray], t: int) -> Any:
        with self._recording():
            weights, hyper = self._weights(w), self._hyperparameters(theta)
            return self._vector(
                self._model.within(
                    weights, lambda params: self._gradient(params, weights, hyper, t, create_graph=False)
                )
            )

    def hvp(self, w: AnyArray, theta: dict[str, AnyArray], u: AnyArray, t: int) -> Any:
        with self._recording_twice():
            weights, hyper = self._weights(w), self._hyperparameters(theta)
            return self._vector(self._along(weights, hyper, u, t, by=weights))

    def cross(self, w: AnyArray, theta: dict[str, AnyArray], u: AnyArray, t: int) -> dict[str, Any]:
        with self._recording_twice():
            weights, hyper = self._weights(w), self._hyperparameters(theta, differentiated=True)
            return self._by_name(hyper, self._along(weights, hyper, u, t, by=[*hyper.values()]))

    def hvp_and_cross(self, w: AnyArray, theta: dict[str, AnyArray], u: AnyArray, t: int) -> tuple[Any, dict[str, Any]]:
        with self._recording_twice():
            weights, hyper = self._weights(w), self._hyperparameters(theta, differentiated=True)
            both = self._along(weights, hyper, u, t, by=[*weights, *hyper.values()])
            return self._vector(both[: len(weights)]), self._by_name(hyper, both[len(weights) :])

    def unflatten(self, w: AnyArray) -> Any:
        return self._model.unflatten([piece.clone() for piece in self._leaves.pieces(self._torch.from_numpy(w))])

    def _along(self, weights: list[Any], hyper: dict[str, Any], u: AnyArray, t: int, by: list[Any]) -> list[Any]:
        """The derivatives of gradient . u."""

        def work(params: Any) -> list[Any]:
            return self._pulled(self._gradient(params, weights, hyper, t, create_graph=True), u, by)

        found: list[Any] = self._model.within(weights, work)
        return found

    def _pulled(self, gradient: list[Any], u: AnyArray, by: list[Any]) -> list[Any]:
        directions = self._leaves.pieces(self._torch.from_numpy(u))
        varying = [pair for pair in zip(gradient, directions, strict=True) if pair[0].requires_grad]
        if not varying:  # a loss that is linear in the weights
            return self._filled([None] * len(by), by)
        outputs, along = zip(*varying, strict=True)
        return self._filled(self._torch.autograd.grad(outputs, by, grad_outputs=along, allow_unused=True), by)

    def _gradient(
        self, params: Any, weights: list[Any], hyper: dict[str, Any], t: int, create_graph: bool
    ) -> list[Any]:
        value = self._value(params, hyper, t)
        if not value.requires_grad:
            raise detached("a tensor that requires no gradient", "PyTorch")
        found = self._torch.autograd.grad(value, weights, create_graph=create_graph, allow_unused=True)
        if all(each is None for each in found):
            raise detached("one that does not depend on them", "PyTorch")
        return self._filled(found, weights)

    def _filled(self, found: Sequence[Any], by: list[Any]) -> list[Any]:
        """Zeros in place of the derivatives that are None: the library's for what nothing depends on."""
        pairs = zip(found, by, strict=True)
        return [self._torch.zeros_like(each) if derivative is None else derivative for derivative, each in pairs]

    def _value(self, params: Any, hyper: dict[str, Any], t: int) -> Any:
        value = self._model.loss(params, hyper, t)
        if not isinstance(value, self._torch.Tensor):
            raise detached(f"a {type(value).__name__}", "PyTorch")
        real_scalar(value)
        return value

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """The library's graph is on, whatever the caller has set."""
        with self._torch.inference_mode(False), self._torch.enable_grad():
            yield

    @contextmanager
    def _recording_twice(self) -> Iterator[None]:
        """The same, and attention is computed by the one kernel that has a second derivative."""
        with self._recording(), self._attention.sdpa_kernel(self._attention.SDPBackend.MATH):
            yield

    def _weights(self, w: AnyArray) -> list[Any]:
        # in memory of the library's own alignment, on which the bits of a sum may depend
        return [piece.requires_grad_() for piece in self._leaves.pieces(self._torch.from_numpy(w).clone())]

    def _hyperparameters(self, theta: dict[str, AnyArray], differentiated: bool = False) -> dict[str, Any]:
        return {name: self._torch.from_numpy(theta[name]).requires_grad_(differentiated) for name in theta}

    def _vector(self, tensors: list[Any]) -> Any:
        return self._torch.cat([tensor.reshape(-1) for tensor in tensors]).numpy()

    def _by_name(self, names: Iterable[str], tensors: list[Any]) -> dict[str, Any]:
        return {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
