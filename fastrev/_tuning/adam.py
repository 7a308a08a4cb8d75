"""Adam, with steps that can be refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastrev._engine.types import FloatArray

_MEAN, _SQUARE, _EPS = 0.9, 0.999, 1e-8  # as published


@dataclass(frozen=True)
class Moments:
    """Running means of the gradient and of its square, after some steps.

    References
    ----------
    D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, Algorithm 1.
    """

    mean: FloatArray
    square: FloatArray
    steps: int = 0

    def after(self, gradient: FloatArray) -> Moments:
        """The means after one more gradient."""
        return Moments(
            _MEAN * self.mean + (1 - _MEAN) * gradient,
            _SQUARE * self.square + (1 - _SQUARE) * gradient**2,
            self.steps + 1,
        )

    @property
    def direction(self) -> FloatArray:
        """Down, in units of the rate."""
        mean, square = self.mean / (1 - _MEAN**self.steps), self.square / (1 - _SQUARE**self.steps)
        return np.asarray(-mean / (np.sqrt(square) + _EPS))

    def at_rest(self) -> Moments:
        """Without momentum: what led to a step that was refused."""
        return Moments(np.zeros_like(self.mean), self.square, self.steps)
