"""The outer optimiser."""

from __future__ import annotations

import numpy as np

from fastrev._engine.types import FloatArray


class Adam:
    """Adam (Kingma and Ba 2015) on one array, in place.

    Parameters
    ----------
    x : float64 ndarray
        What `step` changes.
    rate : float
        Size of a step.
    """

    def __init__(self, x: FloatArray, rate: float) -> None:
        self._x = x
        self._rate = rate
        self._mean = np.zeros_like(x)
        self._square = np.zeros_like(x)
        self._steps = 0

    def step(self, gradient: FloatArray) -> None:
        """Descend along a gradient of the shape of x."""
        self._steps += 1
        self._mean += 0.1 * (gradient - self._mean)
        self._square += 0.001 * (gradient**2 - self._square)
        mean = self._mean / (1 - 0.9**self._steps)
        square = self._square / (1 - 0.999**self._steps)
        self._x -= self._rate * mean / (np.sqrt(square) + 1e-8)
