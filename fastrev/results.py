"""What the public functions return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastrev._engine.chaos import CHAOTIC_GROWTH
from fastrev._engine.types import FloatArray, Ints


@dataclass(frozen=True)
class Stats:
    """What a run took.

    Attributes
    ----------
    steps : int
        T, the steps made.
    stored_bits : float
        Information that the run held at its end so that it could be taken back.
    bits_per_parameter_step : float
        The same per parameter and step.  ``log2(1 / decay)`` is the least possible.
    bytes_held : int
        Memory of the state, its information, workspace and derivatives together.  The data are not counted.
    exact : bool or None
        True once the run has been taken back and found equal to its start bit for bit; None before.  Never False: a
        reversal that does not arrive raises `ReversalError`.
    adjoint_norms : (S,) float64 ndarray or None
        Euclidean norms of the derivative of the loss by the weights along the run, which a pullback wrote down: of at
        most some thousand steps, at even distances, and of the end.
    adjoint_steps : (S,) int64 ndarray or None
        Before which steps these were: 0, ..., T.
    """

    steps: int
    stored_bits: float
    bits_per_parameter_step: float
    bytes_held: int
    exact: bool | None
    adjoint_norms: FloatArray | None = field(default=None, compare=False, repr=False)
    adjoint_steps: Ints | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Gradients:
    """Derivatives of one loss, each of the shape of its argument; None where it was not asked for.

    Attributes
    ----------
    lr, decay, l2 : float or float64 ndarray
        By the learning rates, the momentum decays, the penalty coefficients.
    w0, v0 : (P,) float64 ndarray
        By the initial weights and velocity.
    x : (N, D) float64 ndarray
        By the training inputs.
    y : (N, K) float64 ndarray
        By the training targets; for targets given as integer classes, by their one-hot form.
    example_weights : (N,) float64 ndarray
        By the weights of the training examples.
    theta : dict of str to float or float64 ndarray
        By the hyperparameters of an `Objective`.
    """

    lr: Any = None
    decay: Any = None
    w0: FloatArray | None = None
    v0: FloatArray | None = None
    l2: Any = None
    x: FloatArray | None = None
    y: FloatArray | None = None
    example_weights: FloatArray | None = None
    theta: dict[str, Any] | None = None


@dataclass(frozen=True)
class MetaGradient:
    """What `meta_grad` returns.

    Attributes
    ----------
    loss : float
        Mean loss on the validation examples after training, without penalty.
    w, v : (P,) float64 ndarray
        Final weights and velocity.
    grad : Gradients
        Derivatives of `loss`.
    stats : Stats
    """

    loss: float
    w: FloatArray
    v: FloatArray
    grad: Gradients
    stats: Stats


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


@dataclass(frozen=True)
class HyperparameterCheck:
    """What `check_meta_grad` found of the derivative by one hyperparameter.

    Attributes
    ----------
    slope : float
        Order of the remainder of what the derivative predicts, in the worst of the directions: 2 where it is right, 1
        where it is wrong, NaN where the remainder is rounding at any length.
    error : float
        The least relative error of a prediction, in the worst of the directions.
    stored : float
        Largest difference from the derivative through a stored trajectory, relative.
    """

    slope: float
    error: float
    stored: float

    @property
    def smooth(self) -> bool:
        """Whether the remainder is of second order."""
        return not self.slope < 1.8 and self.error < np.inf

    @property
    def reversed(self) -> bool:
        """Whether the reversal gives what the stored trajectory gives."""
        return self.stored < 1e-3


@dataclass(frozen=True)
class TermCheck:
    """What `check_meta_grad` found of one second derivative of a step's loss.

    Attributes
    ----------
    error : float
        Largest difference from central differences of the gradient, relative.
    step : int
        Where that was.
    passed : bool
        Whether the differences are no better than that themselves.
    """

    error: float
    step: int
    passed: bool

    @property
    def word(self) -> str:
        """What that means."""
        if not self.passed:
            return "wrong"
        return "right" if self.error < 1e-2 else "right as far as differences tell: the gradient jumps, or is rounded"


@dataclass(frozen=True)
class MetaGradientCheck:
    """What `check_meta_grad` returns; printed, it is a table.

    Attributes
    ----------
    hyperparameters : dict of str to HyperparameterCheck
        By name; those of an `Objective` are ``"theta['name']"``.
    terms : dict of str to TermCheck
        Of ``"hvp"``, and of the cross derivative by each hyperparameter of what is trained.
    growth : float
        Of the derivative by the weights on its way back: far above 1 where training is chaotic.
    """

    hyperparameters: dict[str, HyperparameterCheck]
    terms: dict[str, TermCheck]
    growth: float

    @property
    def passed(self) -> bool:
        """Whether the meta-gradient is right and predicts what small moves do."""
        return not self._faults()

    @property
    def verdict(self) -> str:
        """The same in words."""
        return "\n".join(self._faults()) or (
            "Passed: each derivative predicts what small moves do, and the reversal gives what a stored run gives."
        )

    def __str__(self) -> str:
        lines = [f"{'':24}{'slope':>8}{'error':>10}{'stored':>10}"]
        lines += [
            f"{name:24}{each.slope:8.2f}{each.error:10.1e}{each.stored:10.1e}"
            for name, each in self.hyperparameters.items()
        ]
        lines += ["", f"{'second derivatives':24}{'step':>8}{'error':>10}"]
        lines += [f"{name:24}{each.step:8}{each.error:10.1e}  {each.word}" for name, each in self.terms.items()]
        return "\n".join([*lines, "", self.verdict])

    def _faults(self) -> list[str]:
        found = [
            f"Failed: {'model.hvp' if name == 'hvp' else f'the cross derivative by {name}'} is not the derivative of "
            f"the gradient: at step {each.step} it differs from differences by {each.error:.0e} of its size."
            for name, each in self.terms.items()
            if not each.passed
        ]
        if apart := [name for name, each in self.hyperparameters.items() if not each.reversed]:
            worst = max(self.hyperparameters[name].stored for name in apart)
            found.append(
                f"Failed: by {', '.join(apart)} the reversal differs from a stored trajectory by up to {worst:.0e}."
            )
        if not self.growth <= CHAOTIC_GROWTH:
            found.append(
                f"Failed: training is chaotic, derivatives grow {self.growth:.0e}-fold on their way back, and predict "
                "moves only that are smaller by as much. Lower lr, or train for fewer steps."
            )
        rough = [name for name, each in self.hyperparameters.items() if not each.smooth]
        if rough and not found:
            found.append(
                f"Failed: by {', '.join(rough)} the meta-gradient does not predict what small moves do, though its "
                "terms are right. Either valid(w) does not return the gradient of its loss, or the gradient has jumps, "
                "as that of relu has, or bends within moves so small that their effect is lost in rounding."
            )
        return found
