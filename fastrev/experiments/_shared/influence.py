"""What others predict from a trained network alone: influence functions and gradient similarity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import fastrev
from fastrev.experiments._shared.datasets import Examples

Array = npt.NDArray[np.float64]

DAMPINGS = 10.0 ** np.arange(-3, 1, 0.125)  # of which one is the best


def gradients(model: fastrev.MLP, w: Array, examples: Examples) -> Array:
    """Of the loss of each example, (N, P)."""
    return np.stack([model.grad(w, *one) for one in zip(*(each[:, None] for each in examples), strict=True)])


def cosines(of_queries: Array, of_examples: Array) -> Array:
    """Of the angles between gradients, (Q, N)."""
    lengths = np.outer(np.linalg.norm(of_queries, axis=1), np.linalg.norm(of_examples, axis=1))
    return of_queries @ of_examples.T / np.maximum(lengths, np.finfo(np.float64).tiny)


def hessian(model: fastrev.MLP, w: Array, train: Examples) -> Array:
    """Of the training loss, (P, P)."""
    rows = np.stack([model.hvp(w, u, *train) for u in np.eye(model.num_params)])
    return (rows + rows.T) / 2


class Influence:
    """Influence functions (Koh and Liang 2017, arXiv 1703.04730) with the exact Hessian of the training loss.

    The change of a query's loss without an example is ``g_q (H + damping I)^-1 g_i / N``, at any damping by the
    eigenvalues of H.
    """

    def __init__(self, curvature: Array, of_examples: Array) -> None:
        self._values, self._vectors = np.linalg.eigh(curvature)
        self._examples = of_examples @ self._vectors / len(of_examples)

    def effects(self, of_queries: Array, damping: float) -> Array:
        """(Q, N)"""
        effects: Array = (of_queries @ self._vectors / (self._values + damping)) @ self._examples.T
        return effects
