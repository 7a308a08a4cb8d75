"""The model: a multilayer perceptron whose parameters are one flat vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments, evaluation
from fastrev._engine.architecture import Architecture, described, initial_scales
from fastrev._engine.examples import as_data, as_inputs
from fastrev._engine.hyperparameters import penalty
from fastrev._engine.types import FloatArray, Floating
from fastrev._files import files


class MLP(Architecture):
    """A multilayer perceptron; its parameters are one flat vector W1, b1, W2, b2, ..., each row-major.

    Parameters
    ----------
    sizes : sequence of int
        Units of every layer from the D inputs to the K outputs, ``(D, ..., K)``.  Two sizes make a linear model.
    activation : {"tanh", "sigmoid", "relu", "softplus", "identity"}
        Of the hidden layers.  The outputs are linear.
    loss : {"cross_entropy", "squared_error", "logistic"}
        Of one example with outputs z and targets y: ``-sum(y * log(softmax(z)))`` with one-hot or soft labels,
        ``sum((z - y)**2) / 2``, or ``sum(log(1 + exp(z)) - y * z)`` for independent binary targets.  Targets may be any
        numbers: see Notes.
    dtype : {numpy.float64, numpy.float32}
        Precision of the gradients' arithmetic.  Parameters are float64 in either case.

    Attributes
    ----------
    sizes, activation, loss, dtype
        As given.
    num_params : int
        P, the length of a parameter vector.
    groups : dict of str to slice
        Where each parameter group lies in a parameter vector: ``"W1"``, ``"b1"``, ``"W2"``, ...; G of them.

    Notes
    -----
    Targets Y are (N, K), or (N,): for cross_entropy classes from 0 to K - 1, as integers, bools, or floats that are
    whole; for one output its target.

    Nothing is normalised: the formulas are taken at their word.  For cross_entropy a label of mass m = sum(y) counts as
    m examples of the label y / m.  A negative part of such a label, a target of logistic outside [0, 1] or a negative
    example weight makes a loss that falls without bound as predictions get worse: training with much of it diverges.
    Derivatives are exact nevertheless.

    Examples
    --------
    >>> import fastrev
    >>> model = fastrev.MLP((64, 32, 10), activation="tanh", loss="cross_entropy")
    >>> model.num_params, list(model.groups)
    (2410, ['W1', 'b1', 'W2', 'b2'])
    >>> w = model.init(seed=0)
    >>> model.unflatten(w)["W1"].shape
    (64, 32)
    >>> model == fastrev.MLP((64, 32, 10))              # the same sizes, activation, loss and dtype
    True
    """

    def __repr__(self) -> str:
        return f"MLP({self.sizes}, activation={self.activation!r}, loss={self.loss!r}, dtype=numpy.{self.dtype.name})"

    def __eq__(self, other: object) -> bool:
        return described(self) == described(other) if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.sizes, self.activation, self.loss, self.dtype))

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
        scales = initial_scales(self, scale, "scale")
        noise = np.random.default_rng(seed).standard_normal(self.num_params)
        scaled: FloatArray = noise * np.repeat(np.broadcast_to(scales, len(self.groups)), np.diff(self.network.bounds))
        return scaled

    def unflatten(self, w: npt.ArrayLike) -> dict[str, FloatArray]:
        """The parameter groups as views of a flat vector.

        Parameters
        ----------
        w : (P,) array_like
            Parameters, or anything else that is one number for each.

        Returns
        -------
        dict of str to ndarray
            ``"W1"``, ... of shape (inputs, outputs), ``"b1"``, ... of shape (outputs,).
        """
        flat = arguments.as_array("w", w)
        if flat.ndim == 0 and flat.dtype == object:
            raise arguments.fault("w", f"have shape ({self.num_params},)", *arguments.not_real(w, flat))
        if flat.shape != (self.num_params,):
            raise arguments.fault("w", f"have shape ({self.num_params},)", f"shape {flat.shape}")
        return {name: flat[where].reshape(self.shapes[name]) for name, where in self.groups.items()}

    def flatten(self, groups: Mapping[str, npt.ArrayLike]) -> FloatArray:
        """The inverse of `unflatten`.

        Parameters
        ----------
        groups : mapping of str to array_like
            Each parameter group by its name, in its shape.

        Returns
        -------
        (P,) float64 ndarray
            A new vector.
        """
        if not isinstance(groups, Mapping):
            raise arguments.fault("groups", "map names to arrays", arguments.named(groups), "unflatten makes such.")
        if set(groups) != set(self.groups):
            raise arguments.fault("groups", f"hold exactly {', '.join(self.groups)}", ", ".join(map(str, groups)))
        flat = np.empty(self.num_params)
        for name, where in self.groups.items():
            part = arguments.real_array(name, groups[name])
            if part.shape != self.shapes[name]:
                raise arguments.fault(name, f"have shape {self.shapes[name]}", f"shape {part.shape}")
            flat[where] = part.reshape(-1)
        return flat

    def group_sums(self, values: npt.ArrayLike) -> FloatArray:
        """Sum over each parameter group.

        Parameters
        ----------
        values : (P,) array_like
            A number for each parameter.

        Returns
        -------
        (G,) float64 ndarray
            Its sums.
        """
        flat = arguments.parameters("values", values, self.num_params)
        return np.add.reduceat(flat, self.network.bounds[:-1])

    def outputs(self, w: npt.ArrayLike, X: npt.ArrayLike) -> FloatArray:
        """Outputs of the last layer: logits, or fitted values.

        Parameters
        ----------
        w : (P,) array_like
            Parameters.
        X : (N, D) array_like
            Inputs.

        Returns
        -------
        (N, K) float64 ndarray
            The outputs z.
        """
        data, n = as_inputs(self, X, "X")
        z = evaluation.outputs(self, self._parameters(w), data, n)
        return z.reshape(n, self.sizes[-1]).astype(np.float64)

    def predict(self, w: npt.ArrayLike, X: npt.ArrayLike) -> npt.NDArray[np.int64] | FloatArray:
        """Predictions.

        Parameters
        ----------
        w : (P,) array_like
            Parameters.
        X : (N, D) array_like
            Inputs.

        Returns
        -------
        ndarray
            Classes (N,), int64, for cross_entropy; 0 and 1 (N, K), int64, for logistic; outputs (N, K), float64, for
            squared_error.
        """
        z = self.outputs(w, X)
        if self.loss == "cross_entropy":
            classes: npt.NDArray[np.int64] = z.argmax(axis=1)
            return classes
        return (z > 0).astype(np.int64) if self.loss == "logistic" else z

    def predict_proba(self, w: npt.ArrayLike, X: npt.ArrayLike) -> FloatArray:
        """Probabilities, of classes or of single targets.

        Parameters
        ----------
        w : (P,) array_like
            Parameters.
        X : (N, D) array_like
            Inputs.

        Returns
        -------
        (N, K) float64 ndarray
            For cross_entropy those of the K classes, softmax(z), which sum to 1 in every row; for logistic those of
            each target being 1, sigmoid(z), also where there is only one.

        Raises
        ------
        ArgumentError
            If the loss is squared_error.

        Examples
        --------
        >>> import numpy as np, fastrev
        >>> model = fastrev.MLP((2, 3))
        >>> p = model.predict_proba(model.init(seed=0), [[1.0, 2.0], [3.0, -1.0]])
        >>> p.shape, p.sum(axis=1)
        ((2, 3), array([1., 1.]))
        """
        if self.loss == "squared_error":
            raise arguments.fault(
                "model.loss", "be 'cross_entropy' or 'logistic' for probabilities", "'squared_error'",
                "Use model.outputs or model.predict.",
            )  # fmt: skip
        return evaluation.means(self, self.outputs(w, X))

    def accuracy(self, w: npt.ArrayLike, X: npt.ArrayLike, Y: npt.ArrayLike) -> float:
        """Share of right predictions: of examples for cross_entropy, of single targets for logistic.

        Parameters
        ----------
        w : (P,) array_like
            Parameters.
        X : (N, D) array_like
            Inputs.
        Y : (N, K) or (N,) array_like
            Targets: see the notes of the class.

        Returns
        -------
        float
            From 0 to 1.

        Raises
        ------
        ArgumentError
            If the loss is squared_error.
        """
        if self.loss == "squared_error":
            raise arguments.fault(
                "model.loss", "be 'cross_entropy' or 'logistic' for an accuracy", "'squared_error'",
                "Use model.loss_value.",
            )  # fmt: skip
        data, _ = as_data(self, X, Y, "X", "Y")
        targets = data.y.reshape(-1, self.sizes[-1])
        if self.loss == "cross_entropy":
            return float(np.mean(self.predict(w, X) == targets.argmax(axis=1)))
        return float(np.mean(self.predict(w, X) == (targets > 0.5)))

    def loss_value(self, w: npt.ArrayLike, X: npt.ArrayLike, Y: npt.ArrayLike) -> float:
        """Mean loss over examples, without a penalty.

        Parameters
        ----------
        w : (P,) array_like
            Parameters.
        X : (N, D) array_like
            Inputs.
        Y : (N, K) or (N,) array_like
            Targets: see the notes of the class.

        Returns
        -------
        float
            The mean.
        """
        data, n = as_data(self, X, Y, "X", "Y")
        return evaluation.loss_value(self, self._parameters(w), data, n)

    def grad(self, w: npt.ArrayLike, X: npt.ArrayLike, Y: npt.ArrayLike, l2: npt.ArrayLike = 0.0) -> FloatArray:
        """Gradient of ``loss_value(w, X, Y) + sum(l2 * w**2) / 2`` by w.

        Parameters
        ----------
        w : (P,) array_like
            Parameters.
        X : (N, D) array_like
            Inputs.
        Y : (N, K) or (N,) array_like
            Targets: see the notes of the class.
        l2 : float, (G,) or (P,) array_like
            Penalty coefficient of all, of each group, or of each parameter.

        Returns
        -------
        (P,) float64 ndarray
            The gradient.
        """
        data, n = as_data(self, X, Y, "X", "Y")
        weights, (coefficients, _) = self._parameters(w), penalty(self, l2)
        return evaluation.loss_and_gradient(self, weights, data, n, coefficients)[1].astype(np.float64)

    def hvp(
        self, w: npt.ArrayLike, u: npt.ArrayLike, X: npt.ArrayLike, Y: npt.ArrayLike, l2: npt.ArrayLike = 0.0
    ) -> FloatArray:
        """Hessian of the objective of `grad`, times a vector: analytic.

        Parameters
        ----------
        w : (P,) array_like
            Parameters.
        u : (P,) array_like
            The vector.
        X : (N, D) array_like
            Inputs.
        Y : (N, K) or (N,) array_like
            Targets: see the notes of the class.
        l2 : float, (G,) or (P,) array_like
            Penalty coefficient of all, of each group, or of each parameter.

        Returns
        -------
        (P,) float64 ndarray
            The product.

        References
        ----------
        B. A. Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6 (1994), section 4.
        """
        data, n = as_data(self, X, Y, "X", "Y")
        weights, (coefficients, _) = self._parameters(w), penalty(self, l2)
        return evaluation.hvp(
            self, weights, arguments.parameters("u", u, self.num_params), data, n, coefficients
        ).astype(np.float64)

    def save(self, path: Any, w: npt.ArrayLike) -> None:
        """Write the model and its parameters to a file that `load` reads: an ``.npz`` without pickle.

        ``numpy.load(path)["w"]`` are the parameters, for whoever has no fastrev.

        Parameters
        ----------
        path : str or path-like
            Taken as it is; no suffix is added.  A file that was there is replaced as a whole.
        w : (P,) array_like
            Parameters, such as the ``w`` of a `Run`.

        Raises
        ------
        ArgumentError
            If `w` is at fault, or the file cannot be written.  One that was there stays.
        """
        weights = arguments.parameters("w", w, self.num_params, remedy=_FINITE)
        files.write(path, files.MODEL, {"model": described(self)}, {"w": weights})

    @classmethod
    def load(cls, path: Any) -> tuple[Self, FloatArray]:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file, by the name that `save` was given.

        Returns
        -------
        model : MLP
            One of the same sizes, activation, loss and dtype.
        w : (P,) float64 ndarray
            The parameters, the same bits.

        Raises
        ------
        ArgumentError
            If the file is damaged, or is none of these.

        Examples
        --------
        >>> import os, tempfile, fastrev
        >>> model = fastrev.MLP((4, 8, 3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.npz")
        ...     model.save(path, model.init(seed=0))
        ...     again, w = fastrev.MLP.load(path)
        >>> again, bool((w == model.init(seed=0)).all())
        (MLP((4, 8, 3), activation='tanh', loss='cross_entropy', dtype=numpy.float64), True)
        """
        _, about, arrays = files.read(path, files.MODEL)
        with files.as_written(path):
            model = cls(**about["model"])
            w = arguments.parameters("w", arrays["w"], model.num_params)
        return model, w

    def _parameters(self, w: npt.ArrayLike) -> Floating:
        flat = arguments.parameters("w", w, self.num_params, remedy=_FINITE)
        return flat.astype(self.dtype, copy=False)


_FINITE = "Pass finite weights, such as the w of a run."
