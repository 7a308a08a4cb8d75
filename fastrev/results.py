"""What the public functions return.

Two of a kind are equal if all their fields are, arrays by their shapes and values, NaN to NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastrev._engine.equality import compared_by_value
from fastrev._engine.types import FloatArray, Ints


@compared_by_value
@dataclass(frozen=True, eq=False)
class Stats:
    """What a run took.

    Attributes
    ----------
    steps : int
        T, the steps made.
    stored_bits : float
        Information that the run held at its end, in memory and on disk, so that it could be taken back.
    bits_per_parameter_step : float
        The same per parameter and step.  The least possible is ``log2(1 / decay)``, of Adam ``log2(1 / beta1) +
        log2(1 / beta2)``, and with weight decay ``log2(1 / (1 - lr * weight_decay))`` more.
    bytes_held : int
        Memory of the state, its information, workspace and derivatives together.  The data are not counted.
    bytes_on_disk : int
        Size of the files that ``buffer=`` held at its end; 0 without.
    exact : bool or None
        True once the run has been taken back and found equal to its start bit for bit; None before.  Never False: a
        reversal that does not arrive raises `ReversalError`.
    adjoint_norms : (S,) or (K, S) float64 ndarray or None
        Euclidean norms of the derivative of the loss by the weights along the run, which a pullback wrote down: of at
        most some thousand steps, at even distances, and of the end.
    adjoint_steps : (S,) int64 ndarray or None
        Before which steps these were: from the first that was differentiated, 0 unless truncated, to T.
    """

    steps: int
    stored_bits: float
    bits_per_parameter_step: float
    bytes_held: int
    bytes_on_disk: int
    exact: bool | None
    adjoint_norms: FloatArray | None = field(default=None, repr=False)
    adjoint_steps: Ints | None = field(default=None, repr=False)


@compared_by_value
@dataclass(frozen=True, repr=False, eq=False)
class Gradients:
    """Derivatives of one loss, each of the shape of its argument; None where it was not asked for.

    Of K losses, where `Run.pullback` or `meta_grad` was given so many, all have a first axis of that length, also for
    one in a list.

    Attributes
    ----------
    lr, decay, l2 : float or float64 ndarray
        By the learning rates, the momentum decays, the penalty coefficients.
    beta1, beta2, eps, weight_decay : float or float64 ndarray
        By these numbers of `Adam`.
    w0, v0 : (P,) float64 ndarray
        By the initial weights and velocity.
    x : (N, D) float64 ndarray
        By the training inputs.
    y : (N, outputs) or (N,) float64 ndarray
        By the training targets, (N,) if these were; for targets given as classes, by their one-hot form.
    example_weights : (N,) float64 ndarray
        By the weights of the training examples.
    theta : dict of str to float or float64 ndarray
        By the hyperparameters of an `Objective`.
    """

    lr: Any = None
    decay: Any = None
    beta1: Any = None
    beta2: Any = None
    eps: Any = None
    weight_decay: Any = None
    w0: FloatArray | None = None
    v0: FloatArray | None = None
    l2: Any = None
    x: FloatArray | None = None
    y: FloatArray | None = None
    example_weights: FloatArray | None = None
    theta: dict[str, Any] | None = None

    def __repr__(self) -> str:
        parts = [f"{name}={_brief(each)}" for name, each in vars(self).items() if each is not None]
        return f"Gradients({', '.join(parts)})"


@compared_by_value
@dataclass(frozen=True, repr=False, eq=False)
class MetaGradient:
    """What `meta_grad` returns.

    Attributes
    ----------
    loss : float, or (K,) float64 ndarray
        The validation loss after training, or those of a list: of examples the mean, without penalty.
    w, v : (P,) float64 ndarray
        Final weights and velocity; of Adam, which has none, v is the first moment m.
    grad : Gradients
        Derivatives of `loss`.
    stats : Stats
    """

    loss: Any
    w: FloatArray
    v: FloatArray
    grad: Gradients
    stats: Stats

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={_brief(getattr(self, name))}" for name in ("loss", "w", "v", "grad"))
        return f"MetaGradient({parts}, stats={self.stats!r})"


@compared_by_value
class Curve(NamedTuple):
    """Losses along a run, where `train` was asked for them.

    Attributes
    ----------
    steps : (S,) int64 ndarray
        After how many steps each was measured.
    losses : (S,) float64 ndarray
    """

    steps: Ints
    losses: FloatArray


@compared_by_value
class StepPullback(NamedTuple):
    """What `ReversibleSGD.backward` returns: the derivatives of a loss of what a step arrived at.

    Attributes
    ----------
    w_bar, v_bar : (P,) float64 ndarray
        By the parameters and the velocity before the step.
    lr, decay : float or (P,) float64 ndarray
        By this step's learning rate and momentum decay, each of the shape of its argument.
    w : (P,) float64 ndarray
        The parameters before the step, at which its gradient was taken.
    u : (P,) float64 ndarray
        The direction that the Hessian was applied to.  If the gradient g depends on anything else, the derivative by it
        is that of ``-(g @ u)`` at w.
    """

    w_bar: FloatArray
    v_bar: FloatArray
    lr: Any
    decay: Any
    w: FloatArray
    u: FloatArray


@compared_by_value
class AdamPullback(NamedTuple):
    """What `ReversibleAdam.backward` returns: the derivatives of a loss of what a step arrived at.

    Attributes
    ----------
    w_bar, m_bar, s_bar : (P,) float64 ndarray
        By the parameters and both moments before the step.
    products_bar : (2, G) float64 ndarray
        By the logarithms of the products of all beta1 and of all beta2 before the step, by which the moments are
        corrected from it on.
    lr, beta1, beta2, eps, weight_decay : float or (G,) float64 ndarray
        By these numbers of this step, each of the shape of its argument.
    w : (P,) float64 ndarray
        The parameters before the step, at which its gradient was taken.
    u : (P,) float64 ndarray
        The direction that the Hessian was applied to.  If the gradient g depends on anything else, the derivative by it
        is that of ``-(g @ u)`` at w.
    """

    w_bar: FloatArray
    m_bar: FloatArray
    s_bar: FloatArray
    products_bar: FloatArray
    lr: Any
    beta1: Any
    beta2: Any
    eps: Any
    weight_decay: Any
    w: FloatArray
    u: FloatArray


def _brief(value: Any) -> str:
    """A number, or what an array is."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {_brief(each)}" for name, each in value.items()) + "}"
    if isinstance(value, Gradients):
        return repr(value)
    return f"array{value.shape}" if np.ndim(value) else f"{value:.6g}"
