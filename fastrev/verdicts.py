"""What `check_meta_grad` returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastrev._engine.chaos import CHAOTIC_GROWTH
from fastrev._engine.equality import compared_by_value

_LEAST_SLOPE = 1.8  # smooth remainders have 2 within hundredths, a wrong derivative 1 (tests/test_checking.py)
_LEAST_REACH = 1e-3  # moves of any use are of about that length
_LARGEST_DIFFERENCE = 1e-3  # of two float32 ways back, 1e-4; of two in float64, 1e-12


@compared_by_value
@dataclass(frozen=True, eq=False)
class HyperparameterCheck:
    """What was found of the derivative by one hyperparameter, in the worst of the directions.

    Attributes
    ----------
    slope : float
        Order of the remainder of what the derivative predicts, where moves are short: 2 where it is right, 1 where it
        is wrong, NaN where rounding hides too much of it.
    error : float
        The least relative error of a prediction.
    reach : float
        How long a move may be for its effect to be predicted within a tenth, or within rounding: 0.1 for a tenth of the
        hyperparameter's size, the longest that is tried; 0 if none is.
    stored : float
        Largest difference from the derivative through a stored trajectory, relative.
    """

    slope: float
    error: float
    reach: float
    stored: float


@compared_by_value
@dataclass(frozen=True, eq=False)
class TermCheck:
    """What was found of one second derivative of a step's loss.

    Attributes
    ----------
    error : float
        Difference from central differences of the gradient, relative, where it is the largest in units of what their
        own errors allow; infinite where it is not a number, or differs from call to call.
    step : int
        Where that is.
    passed : bool
        Whether the errors of the differences allow it.
    moved : bool
        Whether the gradient changes at all with what it is differentiated by.
    """

    error: float
    step: int
    passed: bool
    moved: bool = True


@compared_by_value
@dataclass(frozen=True, repr=False, eq=False)
class MetaGradientCheck:
    """What `check_meta_grad` returns; printed, it is a table and a verdict.

    Attributes
    ----------
    hyperparameters : dict of str to HyperparameterCheck
        By name; those of an `Objective` are ``"theta['name']"``.
    terms : dict of str to TermCheck
        Of ``"hvp"``, of the cross derivative by each hyperparameter of what is trained, and of the gradient of
        ``"valid"``.
    growth : float
        Of the derivative by the weights on its way back: far above 1 where training is chaotic.
    complete : bool
        Whether every step was looked at for the terms: otherwise the slopes have to tell of the others.
    """

    hyperparameters: dict[str, HyperparameterCheck]
    terms: dict[str, TermCheck]
    growth: float
    complete: bool

    @property
    def passed(self) -> bool:
        """Whether the meta-gradient is right, and training is not chaotic."""
        return not self._faults()

    @property
    def verdict(self) -> str:
        """The same in words, with how far predictions reach."""
        passed = "Passed: the derivatives are right, and a stored run gives the same."
        if rough := self._names(lambda each: not each.reach >= _LEAST_REACH):
            least = min(each.reach for each in self.hyperparameters.values())
            passed += (
                f" But by {rough} they predict moves only up to {least:.0e} of the size of what is moved: training is "
                "not smooth at a larger scale. Lower lr, activations without kinks and larger batches help; "
                "metasmoothness tells how much."
            )
        if hidden := self._names(lambda each: np.isnan(each.slope) and each.error > 1e-3):
            worst = max(each.error for each in self.hyperparameters.values() if np.isnan(each.slope))
            passed += f" By {hidden} rounding hides how right: it leaves predictions an error of up to {worst:.0e}."
        return "\n".join(self._faults()) or passed

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.verdict}>"

    def __str__(self) -> str:
        lines = [f"{'derivative by':24}{'slope':>8}{'error':>10}{'reach':>10}{'stored':>10}"]
        lines += [
            f"{name:24}{_number(each.slope, '8.2f')}{each.error:10.1e}{each.reach:10.1e}{each.stored:10.1e}"
            for name, each in self.hyperparameters.items()
        ]
        lines += ["", f"{'derivative of a step':24}{'step':>8}{'error':>10}"]
        lines += [
            f"{name:24}{each.step:8}{each.error:10.1e}  {'right' if each.passed else 'wrong'}"
            for name, each in self.terms.items()
        ]
        return "\n".join([*lines, "", f"growth of derivatives on their way back: {self.growth:.3g}", self.verdict])

    def _faults(self) -> list[str]:
        found = [_wrong_term(name, each) for name, each in self.terms.items() if not each.passed]
        if apart := self._names(lambda each: not each.stored < _LARGEST_DIFFERENCE):
            found.append(f"Failed: by {apart} the reversal differs from a stored run.")
        if found:
            return found
        if not self.growth <= CHAOTIC_GROWTH:
            return [
                f"Failed: training is chaotic. Derivatives grow {self.growth:,.0f}-fold on their way back, and predict "
                "moves only that are smaller by as much. Lower lr, or train for fewer steps."
            ]
        if not self.complete and (wrong := self._names(lambda each: each.slope < _LEAST_SLOPE)):
            return [
                f"Failed: by {wrong} the loss does not change as the meta-gradient says, however short the move, "
                "though the derivatives are right at the steps that were looked at. Check a shorter run."
            ]
        return []

    def _names(self, choose: Callable[[HyperparameterCheck], bool]) -> str:
        return ", ".join(name for name, each in self.hyperparameters.items() if choose(each))


def _wrong_term(name: str, term: TermCheck) -> str:
    if name == "valid":
        return f"Failed: valid(w)[1] is not the gradient of valid(w)[0]: it is off by {100 * term.error:.2g} %."
    what = "model.hvp" if name == "hvp" else f"the cross derivative by {name}"
    if not term.moved:
        return (
            f"Failed: the gradient does not change at all when {name} does, and {what} says that it should: read "
            "self.theta in grad, or give the model a method with_theta(theta) that makes it anew."
        )
    if not np.isfinite(term.error):
        return f"Failed: {what} at step {term.step} is not a number, or not the same in two calls."
    return (
        f"Failed: {what} is not the derivative of the gradient: at step {term.step} it is off by "
        f"{100 * term.error:.2g} % of its size."
    )


def _number(value: float, form: str) -> str:
    """The number, or a dash in its place where there is none."""
    return format(value, form) if np.isfinite(value) else f"{'-':>{form.partition('.')[0]}}"
