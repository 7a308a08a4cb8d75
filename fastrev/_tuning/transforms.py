"""In which coordinates a hyperparameter moves: free numbers z, of which every one stands for an admissible value.

Each transform is a pair, `free` from values to z and `value` back, with `pull`, which takes a derivative by the value
to the one by z.  `bounds` are those of z.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from fastrev._engine import arguments
from fastrev._engine.types import FloatArray

LABEL_SMOOTHING = 0.01  # of labels that rule a class out, which in softmax would be infinitely far away
_TINY, _HUGE = 1e-300, 1e300


class Transform(Protocol):
    """One way to move."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Of z."""
        ...

    def free(self, name: str, value: FloatArray) -> FloatArray:
        """The free numbers of a value, of its shape, or an ArgumentError."""
        ...

    def value(self, z: FloatArray) -> FloatArray:
        """The value of free numbers."""
        ...

    def pull(self, value: FloatArray, gradient: FloatArray) -> FloatArray:
        """The derivative by z, from that by the value."""
        ...


@dataclass(frozen=True)
class Linear:
    """As it is, or kept between bounds."""

    low: float = -np.inf
    high: float = np.inf

    @property
    def bounds(self) -> tuple[float, float]:
        """Of z."""
        return self.low, self.high

    def free(self, name: str, value: FloatArray) -> FloatArray:
        """Itself."""
        if not self.low <= value.min(initial=self.low) <= value.max(initial=self.high) <= self.high:
            raise _outside(name, value, self.low, self.high)
        return value.copy()

    def value(self, z: FloatArray) -> FloatArray:
        """Itself."""
        return z.copy()

    def pull(self, value: FloatArray, gradient: FloatArray) -> FloatArray:
        """Itself."""
        return gradient


@dataclass(frozen=True)
class Log:
    """Positive numbers by their logarithms, or kept between bounds.  A 0 has none, and stays."""

    low: float = _TINY
    high: float = _HUGE

    @property
    def bounds(self) -> tuple[float, float]:
        """Of z."""
        return float(np.log(self.low)), float(np.log(self.high))

    def free(self, name: str, value: FloatArray) -> FloatArray:
        """The logarithm, and that of the smallest number for 0, which `pull` keeps there."""
        if (value < 0).any():
            raise arguments.fault(name, "not be negative to be learned in log", f"{value.min():g}")
        if not value.any():
            raise arguments.fault(
                name, "hold a number above 0 to be learned in log", "0",
                f"A 0 stays 0: pass a small number such as 1e-4, or transforms={{{name!r}: 'linear'}}.",
            )  # fmt: skip
        positive = value[value > 0]
        if (self.low > _TINY and positive.min() < self.low) or positive.max() > self.high:
            raise _outside(name, positive, self.low, self.high)
        return np.where(value > 0, np.log(np.maximum(value, _TINY)), -np.inf)

    def value(self, z: FloatArray) -> FloatArray:
        """The exponential."""
        return np.where(np.isneginf(z), 0.0, np.clip(np.exp(z), self.low, self.high))  # which rounding would leave

    def pull(self, value: FloatArray, gradient: FloatArray) -> FloatArray:
        """Times the value: 0 where that is 0."""
        return gradient * value


@dataclass(frozen=True)
class Logit:
    """Numbers between two bounds, both excluded."""

    low: float = 0.0
    high: float = 1.0

    bounds: ClassVar[tuple[float, float]] = (-30.0, 30.0)  # 1e-13 of the range from either end

    def free(self, name: str, value: FloatArray) -> FloatArray:
        """The logit of where it lies between the bounds."""
        if not (self.low < value.min(initial=np.inf) and value.max(initial=-np.inf) < self.high):
            raise _outside(name, value, self.low, self.high, excluded=True)
        logit = np.asarray(np.log(value - self.low) - np.log(self.high - value))
        z = np.asarray(np.clip(logit, *self.bounds))
        if not np.allclose(self.value(z)[z != logit], value[z != logit], rtol=1e-6, atol=0):
            raise arguments.fault(
                f"transforms[{name!r}]", f"be bounds of a range of which {name} is more than 1e-13",
                f"({self.low:g}, {self.high:g})", "Pass 'log' for numbers of any size.",
            )  # fmt: skip
        return z

    def value(self, z: FloatArray) -> FloatArray:
        """The bounds, weighed by the logistic function."""
        share = 1 / (1 + np.exp(-z))
        return np.asarray(self.low + (self.high - self.low) * share)

    def pull(self, value: FloatArray, gradient: FloatArray) -> FloatArray:
        """Times the slope of the logistic function."""
        return np.asarray(gradient * (value - self.low) * (self.high - value) / (self.high - self.low))


@dataclass(frozen=True)
class Softmax:
    """Rows (N, K) of mass 1."""

    bounds: ClassVar[tuple[float, float]] = (-700.0, 700.0)

    def free(self, name: str, value: FloatArray) -> FloatArray:
        """The logarithm, of labels that are smoothed where they rule a class out."""
        if value.ndim != 2:
            raise _no_shares(name, f"shape {value.shape}")
        if (value < 0).any():
            raise _no_shares(name, f"{value.min():g}")
        if (wrong := ~np.isclose(value.sum(axis=1), 1)).any():
            raise _no_shares(name, f"a row that sums to {value.sum(axis=1)[wrong][0]:g}")
        ruled_out = (value == 0).any(axis=1, keepdims=True)
        smooth = (1 - LABEL_SMOOTHING) * value + LABEL_SMOOTHING / value.shape[1]
        return np.log(np.where(ruled_out, smooth, value))

    def value(self, z: FloatArray) -> FloatArray:
        """The softmax of every row."""
        mass = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(mass / mass.sum(axis=1, keepdims=True))

    def pull(self, value: FloatArray, gradient: FloatArray) -> FloatArray:
        """What is common to a row has no effect."""
        return np.asarray(value * (gradient - (gradient * value).sum(axis=1, keepdims=True)))


NAMED = ("linear", "log", "logit", "nonnegative", "softmax")


def choose(name: str, chosen: object, low: float = -np.inf, high: float = np.inf) -> Transform:
    """What a user writes for the transform of `name`: one's name, or a pair of bounds.

    The values stay between `low` and `high`, beyond which no run can be made.
    """
    if isinstance(chosen, str) and chosen in NAMED:
        return _within(name, chosen, low, high)
    if isinstance(chosen, tuple | list) and len(chosen) == 2 and all(map(arguments.is_number, chosen)):
        least, most = map(float, chosen)
        if np.isfinite([least, most]).all() and least < most:
            if low <= least and most <= high:
                return Logit(least, most)
            raise arguments.fault(
                f"transforms[{name!r}]", f"be bounds between {low:.9g} and {high:.9g}, which {name} must lie between",
                arguments.shown(chosen),
            )  # fmt: skip
    raise arguments.fault(
        f"transforms[{name!r}]", f"be one of {', '.join(map(repr, NAMED))}, or a pair of bounds (low, high)",
        arguments.shown(chosen),
    )  # fmt: skip


def as_mapping(given: object) -> dict[str, Any]:
    """The argument `transforms`, if it is one."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise arguments.fault(
            "transforms", "map names to transforms", repr(given), "Pass a dict such as {'lr': 'linear'}."
        )
    return dict(given)


def _within(name: str, chosen: str, low: float, high: float) -> Transform:
    if chosen == "log":
        return Log(max(_TINY, low), min(_HUGE, high))
    if chosen == "logit":
        return Logit(max(0.0, low), min(1.0, high))
    if chosen == "softmax":
        if low > 0 or high < 1:
            raise arguments.fault(f"transforms[{name!r}]", f"keep {name} between {low:.9g} and {high:.9g}", "'softmax'")
        return Softmax()
    return Linear(max(0.0, low) if chosen == "nonnegative" else low, high)


def _no_shares(name: str, received: str) -> Exception:
    return arguments.fault(
        name, "have rows that are not negative and sum to 1 to be learned in softmax", received,
        f"Pass transforms={{{name!r}: 'linear'}} for other targets.",
    )  # fmt: skip


def _outside(name: str, value: FloatArray, low: float, high: float, excluded: bool = False) -> Exception:
    if excluded:
        bounds, fine = f"above {low:.9g} and below {high:.9g}", (low < value) & (value < high)
    else:
        bounds = f"at least {low:.9g}" + (f" and at most {high:.9g}" if np.isfinite(high) else "")
        fine = (low <= value) & (value <= high)
    return arguments.fault(name, f"be {bounds} to be learned", f"{value[~fine].flat[0]:.9g}")
