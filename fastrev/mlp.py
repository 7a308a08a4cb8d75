"""The model: a multilayer perceptron whose parameters are one flat vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fastrev import _arguments as arguments
from fastrev._examples import as_data, as_inputs
from fastrev._workspace import record_for, tangents_for, workspace_for
from fastrev.hyperparameters import penalty
from fastrev.kernels import activations, losses, mlp_gradient, mlp_hvp
from fastrev.kernels.structures import Data, Network

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

FloatArray = npt.NDArray[np.float64]


class MLP:
    """A multilayer perceptron; its parameters are one flat vector W1, b1, W2, b2, ..., each row-major.

    Parameters
    ----------
    sizes : sequence of int
        Units of every layer from the D inputs to the K outputs, ``(D, ..., K)``.  Two sizes make a linear model.
    activation : {"tanh", "sigmoid", "relu", "softplus", "identity"}
        Of the hidden layers.  The outputs are linear.
    loss : {"cross_entropy", "squared_error", "logistic"}
        Of one example with outputs z and targets y: ``-sum(y * log(softmax(z)))`` with one-hot or soft labels,
        ``sum((z - y)**2) / 2``, or ``sum(log(1 + exp(z)) - y * z)`` for independent binary targets.
    dtype : {numpy.float64, numpy.float32}
        Precision of the gradients' arithmetic.  Parameters are float64 in either case.

    Attributes
    ----------
    num_params : int
        P, the length of a parameter vector.
    groups : dict of str to slice
        Where each parameter group lies in a parameter vector: ``"W1"``, ``"b1"``, ``"W2"``, ...; G of them.

    Examples
    --------
    >>> import fastrev
    >>> model = fastrev.MLP((64, 32, 10), activation="tanh", loss="cross_entropy")
    >>> model.num_params, list(model.groups)
    (2410, ['W1', 'b1', 'W2', 'b2'])
    >>> w = model.init(seed=0)
    >>> model.unflatten(w)["W1"].shape
    (64, 32)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "tanh",
        loss: str = "cross_entropy",
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        if isinstance(sizes, str) or not hasattr(sizes, "__len__") or len(sizes) < 2:
            raise arguments.fault(
                "sizes", "hold at least two layer sizes", repr(sizes), "Pass (inputs, hidden, ..., outputs)."
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

        self._shapes: dict[str, tuple[int, ...]] = {}
        for layer, (a, b) in enumerate(pairwise(self.sizes), start=1):
            self._shapes[f"W{layer}"] = (a, b)
            self._shapes[f"b{layer}"] = (b,)
        bounds = np.cumsum([0, *(int(np.prod(shape)) for shape in self._shapes.values())], dtype=np.int64)
        self.num_params = int(bounds[-1])
        self.groups = {
            name: slice(int(start), int(stop))
            for name, start, stop in zip(self._shapes, bounds, bounds[1:], strict=False)
        }
        self._network = Network(
            np.array(self.sizes, np.int64), bounds, _ACTIVATIONS[self.activation], _LOSSES[self.loss]
        )

    def __repr__(self) -> str:
        return f"MLP({self.sizes}, activation={self.activation!r}, loss={self.loss!r}, dtype=numpy.{self.dtype.name})"

    def init(self, seed: int = 0, scale: float | Sequence[float] | FloatArray | None = None) -> FloatArray:
        """Random parameters: standard normal, times a scale per group.

        Parameters
        ----------
        seed : int
            Of ``numpy.random.default_rng``.
        scale : float or (G,) array_like, optional
            Standard deviation of every group, or of each.  Default: ``1 / sqrt(fan_in)`` for weights, 0 for biases.

        Returns
        -------
        (P,) float64 ndarray

        Notes
        -----
        With ``w0 = scale * noise``, a meta-gradient by the logarithms of the scales, (G,), is one line::

            model.group_sums(w0 * result.grad.w0)
        """
        arguments.whole("seed", seed, 0)
        if scale is None:
            scales = np.array([s[0] ** -0.5 if len(s) == 2 else 0.0 for s in self._shapes.values()])
        else:
            scales = arguments.real_array("scale", scale)
            if scales.shape not in ((), (len(self.groups),)):
                raise arguments.fault(
                    "scale", f"be a number or one per group, shape ({len(self.groups)},)", f"shape {scales.shape}",
                    f"The groups are {', '.join(self.groups)}.",
                )  # fmt: skip
            if (scales < 0).any():
                raise arguments.fault("scale", "not be negative", f"{scales.min():g}")
        noise = np.random.default_rng(seed).standard_normal(self.num_params)
        scaled: FloatArray = noise * np.repeat(np.broadcast_to(scales, len(self.groups)), np.diff(self._network.bounds))
        return scaled

    def unflatten(self, w: npt.ArrayLike) -> dict[str, FloatArray]:
        """The parameter groups as views of a flat (P,) vector: W's of shape (inputs, outputs), b's (outputs,)."""
        flat = np.asarray(w)
        if flat.shape != (self.num_params,):
            raise arguments.fault("w", f"have shape ({self.num_params},)", f"shape {flat.shape}")
        return {name: flat[where].reshape(self._shapes[name]) for name, where in self.groups.items()}

    def flatten(self, groups: Mapping[str, npt.ArrayLike]) -> FloatArray:
        """The inverse of `unflatten`: a new (P,) float64 vector."""
        if set(groups) != set(self.groups):
            raise arguments.fault("groups", f"hold exactly {', '.join(self.groups)}", ", ".join(map(str, groups)))
        flat = np.empty(self.num_params)
        for name, where in self.groups.items():
            part = arguments.real_array(name, groups[name])
            if part.shape != self._shapes[name]:
                raise arguments.fault(name, f"have shape {self._shapes[name]}", f"shape {part.shape}")
            flat[where] = part.reshape(-1)
        return flat

    def group_sums(self, values: npt.ArrayLike) -> FloatArray:
        """Sum a (P,) vector over each parameter group, to (G,)."""
        flat = arguments.parameters("values", values, self.num_params)
        return np.add.reduceat(flat, self._network.bounds[:-1])

    def outputs(self, w: npt.ArrayLike, X: npt.ArrayLike) -> FloatArray:
        """Outputs z (N, K) of the last layer for inputs X (N, D): logits, or fitted values."""
        data, n = as_inputs(self, X, "X")
        return self._outputs(w, data, n).reshape(n, self.sizes[-1]).astype(np.float64)

    def predict(self, w: npt.ArrayLike, X: npt.ArrayLike) -> npt.NDArray[np.int64] | FloatArray:
        """Predictions for inputs X (N, D).

        Returns
        -------
        (N,) int64 ndarray of classes for cross_entropy, (N, K) int64 ndarray of 0 and 1 for logistic, (N, K) float64
        ndarray for squared_error.
        """
        z = self.outputs(w, X)
        if self.loss == "cross_entropy":
            classes: npt.NDArray[np.int64] = z.argmax(axis=1)
            return classes
        return (z > 0).astype(np.int64) if self.loss == "logistic" else z

    def accuracy(self, w: npt.ArrayLike, X: npt.ArrayLike, Y: npt.ArrayLike) -> float:
        """Share of right predictions, 0 to 1: of examples for cross_entropy, of single targets for logistic."""
        if self.loss == "squared_error":
            raise arguments.fault(
                "loss", "be 'cross_entropy' or 'logistic' for an accuracy", "'squared_error'", "Use model.loss_value."
            )
        data, _ = as_data(self, X, Y, "X", "Y")
        targets = data.y.reshape(-1, self.sizes[-1])
        if self.loss == "cross_entropy":
            return float(np.mean(self.predict(w, X) == targets.argmax(axis=1)))
        return float(np.mean(self.predict(w, X) == (targets > 0.5)))

    def loss_value(self, w: npt.ArrayLike, X: npt.ArrayLike, Y: npt.ArrayLike) -> float:
        """Mean loss over the examples X (N, D), Y (N, K) or (N,) classes.  No l2 penalty."""
        data, n = as_data(self, X, Y, "X", "Y")
        z = self._outputs(w, data, n)
        mean, k = np.empty_like(z), self.sizes[-1]
        losses.predict(self._network.loss, z, 0, n, k, mean)
        total = losses.total(self._network.loss, z, 0, mean, data.y, data.weights, 0, n, k)
        return float(total / n)

    def grad(self, w: npt.ArrayLike, X: npt.ArrayLike, Y: npt.ArrayLike, l2: npt.ArrayLike = 0.0) -> FloatArray:
        """Gradient (P,) of ``loss_value(w, X, Y) + sum(l2 * w**2) / 2`` by w.

        Parameters
        ----------
        w : (P,) array_like
        X : (N, D) array_like
        Y : (N, K) array_like, or (N,) array_like of int classes for cross_entropy
        l2 : float, (G,) or (P,) array_like
            Penalty coefficient of all, of each group, or of each parameter.
        """
        data, n = as_data(self, X, Y, "X", "Y")
        weights, coefficients = self._parameters("w", w), penalty(self, l2)
        g = np.empty(self.num_params, self.dtype)
        mlp_gradient.mean_loss_and_gradient(
            self._network, weights, data, n, record_for(self, n), workspace_for(self), g
        )
        mlp_gradient.add_penalty(self._network.bounds, weights, coefficients, g)
        return g.astype(np.float64)

    def hvp(
        self, w: npt.ArrayLike, u: npt.ArrayLike, X: npt.ArrayLike, Y: npt.ArrayLike, l2: npt.ArrayLike = 0.0
    ) -> FloatArray:
        """Hessian of the objective of `grad` at w, times the direction u (P,): analytic, to (P,).

        References
        ----------
        B. A. Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6 (1994), section 4.
        """
        data, n = as_data(self, X, Y, "X", "Y")
        weights, coefficients = self._parameters("w", w), penalty(self, l2)
        tangents = tangents_for(self, n, inputs=False)
        tangents.u[:] = self._parameters("u", u)
        mlp_hvp.mean_hvp(self._network, weights, data, n, record_for(self, n), workspace_for(self), tangents)
        mlp_gradient.add_penalty(self._network.bounds, tangents.u, coefficients, tangents.hu)
        return tangents.hu.astype(np.float64)

    def _outputs(self, w: npt.ArrayLike, data: Data, n: int) -> npt.NDArray[np.floating]:
        """Flat outputs (N K,) in the model's dtype."""
        z = np.empty(n * self.sizes[-1], self.dtype)
        mlp_gradient.outputs(self._network, self._parameters("w", w), data, n, record_for(self, n), z)
        return z

    def _parameters(self, name: str, w: npt.ArrayLike) -> npt.NDArray[np.floating]:
        flat = arguments.parameters(name, w, self.num_params)
        return flat.astype(self.dtype, copy=False)
