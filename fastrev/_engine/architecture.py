"""The shape and the arithmetic of a multilayer perceptron, as the kernels take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.types import FloatArray
from fastrev.kernels import activations, losses
from fastrev.kernels.structures import Network

_ACTIVATIONS = {
    "tanh": activations.TANH,
    "sigmoid": activations.SIGMOID,
    "relu": activations.RELU,
    "softplus": activations.SOFTPLUS,
    "identity": activations.IDENTITY,
}
_LOSSES = {
    "cross_entropy": losses.CROSS_ENTROPY,
    "squared_error": losses.SQUARED_ERROR,
    "logistic": losses.LOGISTIC,
}


class Architecture:
    """What `fastrev.MLP` is made of; see there for the parameters.

    Attributes
    ----------
    shapes : dict of str to tuple
        Of every parameter group.
    network : Network
        The same for the kernels.
    width : int
        H, the outputs of all layers together.
    largest, largest_above : int
        Weights of the largest matrix, and of the largest behind the first.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "tanh",
        loss: str = "cross_entropy",
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        unordered = isinstance(sizes, str | bytes | set | frozenset | Mapping)
        if unordered or not hasattr(sizes, "__len__") or getattr(sizes, "ndim", 1) != 1 or len(sizes) < 2:
            raise arguments.fault(
                "sizes", "hold at least two layer sizes", arguments.shown(sizes), "Pass (inputs, hidden, ..., outputs)."
            )
        self.sizes = tuple(arguments.whole(f"sizes[{i}]", size, 1) for i, size in enumerate(sizes))
        self.activation = arguments.choice("activation", activation, _ACTIVATIONS)
        self.loss = arguments.choice("loss", loss, _LOSSES)
        if self.loss == "cross_entropy" and self.sizes[-1] < 2:
            raise arguments.fault(
                "sizes", "end in at least 2 classes for loss='cross_entropy'", f"{self.sizes[-1]}",
                "Pass loss='logistic' for one binary target.",
            )  # fmt: skip
        self.dtype = arguments.precision(dtype)

        self.shapes: dict[str, tuple[int, ...]] = {}
        for layer, (a, b) in enumerate(pairwise(self.sizes), start=1):
            self.shapes[f"W{layer}"] = (a, b)
            self.shapes[f"b{layer}"] = (b,)
        counts = [prod(shape) for shape in self.shapes.values()]
        if sum(counts) >= 2**48:  # which no machine holds: less overflows no index
            raise arguments.fault("sizes", "make fewer than 2**48 parameters", arguments.shown(self.sizes))
        bounds = np.cumsum([0, *counts], dtype=np.int64)
        self.num_params = int(bounds[-1])
        self.groups = {
            name: slice(int(start), int(stop))
            for name, start, stop in zip(self.shapes, bounds, bounds[1:], strict=False)
        }
        self.width = sum(self.sizes[1:])
        weights = [a * b for a, b in pairwise(self.sizes)]
        self.largest, self.largest_above = max(weights), max(weights[1:], default=0)
        self.network = Network(
            np.array(self.sizes, np.int64), bounds, _ACTIVATIONS[self.activation], _LOSSES[self.loss]
        )


def described(model: Architecture) -> dict[str, Any]:
    """The arguments that make a model like this one, as JSON holds them."""
    return {
        "sizes": list(model.sizes), "activation": model.activation, "loss": model.loss, "dtype": model.dtype.name
    }  # fmt: skip


def initial_scales(model: Architecture, scale: npt.ArrayLike | None, name: str) -> FloatArray:
    """Standard deviations of initial weights as given, of all groups or of each; or what they are by default."""
    if scale is None:
        return np.array([shape[0] ** -0.5 if len(shape) == 2 else 0.0 for shape in model.shapes.values()])
    scales = arguments.real_array(name, scale, own=True, remedy="Pass finite standard deviations.")
    if scales.shape not in ((), (len(model.groups),)):
        raise arguments.fault(
            name, f"be a number or one per group, shape ({len(model.groups)},)", f"shape {scales.shape}",
            f"The groups are {', '.join(model.groups)}.",
        )  # fmt: skip
    if (scales < 0).any():
        raise arguments.fault(name, "not be negative", f"{scales.min():g}")
    return scales
