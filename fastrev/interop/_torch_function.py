"""The functions of PyTorch's graph that stand behind `validation_loss`.  Importing this imports PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import compress
from typing import Any

from fastrev._engine.arguments import as_array, fault
from fastrev._engine.extras import require
from fastrev._engine.types import AnyArray
from fastrev.interop._node import Recipe, Trained, divided, gather, twice

torch = require("torch", "torch", "fastrev.interop.torch")
_Function: Any = torch.autograd.Function
_not_compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = torch.compiler.disable


@_not_compiled
def validation_loss(model: Any, w0: Any, **arguments: Any) -> Any:
    """What `fastrev.interop.torch.validation_loss` returns."""
    recipe, given = gather(model, w0, **arguments)
    tensors, constants = divided(given, torch.Tensor)
    recipe = recipe.with_constants(constants)
    if torch.is_grad_enabled():
        recipe.require_derivatives({name: tuple(each.shape) for name, each in tensors.items() if each.requires_grad})
    else:  # needs_input_grad is of the tensors alone; tangents count in forward mode nevertheless, and are refused
        tensors = {name: tensor if _has_tangent(tensor) else tensor.detach() for name, tensor in tensors.items()}
    loss, _ = _Loss.apply(_Call(recipe, tuple(tensors)), *tensors.values())
    return loss


# ---- what goes from function to function beside tensors; torch.func looks for tensors in none of it -------------


@dataclass(frozen=True)
class _Call:
    """A training, and the names of the tensors that it is given."""

    recipe: Recipe
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Batch:
    """What was trained in each row of a batch."""

    rows: tuple[Any, ...]


@dataclass(frozen=True)
class _Pull:
    """What was trained, to be differentiated by those tensors that need it."""

    trained: Any
    names: tuple[str, ...]
    needed: tuple[bool, ...]


# ---- the functions -----------------------------------------------------------------------------------------------


class _Loss(_Function):  # type: ignore[misc]
    """Train; where a gradient is needed, take the training back as soon as it is made."""

    @staticmethod
    def forward(call: _Call, *tensors: Any) -> tuple[Any, Trained]:
        arrays = {name: _numpy(name, tensor) for name, tensor in zip(call.names, tensors, strict=True)}
        trained = call.recipe.run(arrays)
        device = tensors[0].device if tensors else None
        return torch.tensor(trained.loss, dtype=_common_dtype(tensors), device=device), trained

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, Any]) -> None:
        call, *tensors = inputs
        ctx.needed = ctx.needs_input_grad[1:]
        ctx.kinds = [(tensor.device, tensor.dtype) for tensor in tensors]
        if any(ctx.needed):
            differentiated = compress(zip(call.names, tensors, strict=True), ctx.needed)
            call.recipe.require_derivatives({name: tuple(tensor.shape) for name, tensor in differentiated})
            # with all tensors, so that vmap maps over the same ones as it did to train
            pull = _Pull(output[1], call.names, ctx.needed)
            with torch.enable_grad():  # behind the gradients stands what refuses to differentiate them
                gradients = _Gradients.apply(pull, *tensors)
            ctx.save_for_backward(*gradients)

    @staticmethod
    def backward(ctx: Any, loss_bar: Any, _: None) -> tuple[Any, ...]:
        gradients = iter(ctx.saved_tensors)
        return None, *(
            _times(loss_bar, next(gradients), *kind) if needed else None
            for needed, kind in zip(ctx.needed, ctx.kinds, strict=True)
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], call: _Call, *tensors: Any) -> tuple[Any, Any]:
        rows = [_Loss.apply(call, *row) for row in _rows(info.batch_size, in_dims[1:], tensors)]
        losses, trained = zip(*rows, strict=True)
        return (torch.stack(losses), _Batch(trained)), (0, None)


class _Gradients(_Function):  # type: ignore[misc]
    """Take a training back, to the derivatives by those of its tensors that need them; these have none themselves.

    They are float64 until they are multiplied: what scales a loss keeps gradients in float16 from vanishing.
    """

    @staticmethod
    def forward(pull: _Pull, *tensors: Any) -> tuple[Any, ...]:
        found = pull.trained.gradients(compress(pull.names, pull.needed))
        return tuple(
            torch.tensor(found[name], dtype=torch.float64).reshape(tensor.shape)
            for name, tensor in compress(zip(pull.names, tensors, strict=True), pull.needed)
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *bars: Any) -> Any:
        raise twice()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], pull: _Pull, *tensors: Any) -> tuple[Any, Any]:
        rows = zip(pull.trained.rows, _rows(info.batch_size, in_dims[1:], tensors), strict=True)
        gradients = [_Gradients.apply(_Pull(trained, pull.names, pull.needed), *row) for trained, row in rows]
        return tuple(torch.stack(each) for each in zip(*gradients, strict=True)), (0,) * sum(pull.needed)


# ---- tensors -----------------------------------------------------------------------------------------------------


def _numpy(name: str, tensor: Any) -> AnyArray:
    """The values of a tensor, which are not copied if they are on the CPU."""
    if tensor.layout != torch.strided:
        raise fault(name, "be dense", f"of {tensor.layout}", "Convert it with .to_dense().")
    return as_array(name, tensor.detach().cpu().resolve_conj().resolve_neg())


def _common_dtype(tensors: tuple[Any, ...]) -> Any:
    """That of all floating tensors together."""
    floating = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    return reduce(torch.promote_types, floating) if floating else torch.float64


def _rows(size: int, dims: tuple[int | None, ...], tensors: tuple[Any, ...]) -> Iterator[list[Any]]:
    """The tensors of each row of a batch."""
    for k in range(size):
        yield [tensor if dim is None else tensor.select(dim, k) for tensor, dim in zip(tensors, dims, strict=True)]


def _times(loss_bar: Any, gradient: Any, device: Any, dtype: Any) -> Any:
    return (loss_bar.cpu().double() * gradient).to(dtype).to(device)


def _has_tangent(tensor: Any) -> bool:
    return torch.autograd.forward_ad.unpack_dual(tensor).tangent is not None
