"""Networks of several tasks that are tied together: an `fastrev.Objective`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastrev.experiments._shared.tasks import Examples

Array = npt.NDArray[np.float64]

NO_TIES = np.zeros((2, 1, 1))


class Networks:
    """Networks of one hidden layer for K tasks, with a penalty w^T A w / 2 on each layer.

    Parameters
    ----------
    examples : pair
        Inputs (K, N, D), which end in a 1 for the biases, and targets (K, N, C).
    hidden : int
        H.
    theta : dict
        "l2" and perhaps "ties", of the shape (2, K, K), for the lower and the upper layer, or with 1 in the place of K
        where one number is for all.
    ties : array_like
        Those that are not learned, where `theta` has none.
    """

    def __init__(self, examples: Examples, hidden: int, theta: dict[str, Array], ties: Array = NO_TIES) -> None:
        (self.X, self.Y), self.theta, self.ties = examples, theta, ties  # these ties if theta has none
        count, _, inputs = self.X.shape
        self.shapes = (count, inputs, hidden), (count, hidden, self.Y.shape[2])
        lower, self.num_params = np.cumsum([np.prod(shape) for shape in self.shapes]).tolist()
        self.groups = {"lower": slice(0, lower), "upper": slice(lower, self.num_params)}

    def init(self, seed: int) -> Array:
        """One network for all tasks, so that every hidden unit has its counterparts."""
        rng = np.random.default_rng(seed)
        return flat(*(np.tile(rng.standard_normal((1, d, h)) / d**0.5, (k, 1, 1)) for k, d, h in self.shapes))

    def layers(self, w: Array) -> list[Array]:
        """(K, D, H) and (K, H, C)."""
        return [w[part].reshape(shape) for part, shape in zip(self.groups.values(), self.shapes, strict=True)]

    def outputs(self, w: Array) -> tuple[Array, Array]:
        """Hidden units and probabilities."""
        W, V = self.layers(w)
        H = np.tanh(self.X @ W)
        Z = H @ V
        P = np.exp(Z - Z.max(axis=2, keepdims=True))
        return H, P / P.sum(axis=2, keepdims=True)

    def penalty(self) -> Array:
        """A (2, K, K)."""
        each = np.eye(len(self.X))
        ties = self.theta.get("ties", self.ties) * (1 - each)
        ties = (ties + transposed(ties)) / 2
        A: Array = (self.theta["l2"] + ties.sum(axis=2, keepdims=True)) * each - ties
        return A

    def penalized(self, w: Array) -> Array:
        """A w."""
        return flat(*(np.tensordot(A, layer, 1) for A, layer in zip(self.penalty(), self.layers(w), strict=True)))

    def grad(self, w: Array, t: int = 0) -> Array:
        """Of the sum over tasks of their mean losses, and of the penalty."""
        (_, V), (H, P) = self.layers(w), self.outputs(w)
        E = (P - self.Y) / P.shape[1]
        return flat(transposed(self.X) @ (E @ transposed(V) * (1 - H**2)), transposed(H) @ E) + self.penalized(w)

    def hvp(self, w: Array, u: Array, t: int = 0) -> Array:
        """By Pearlmutter's R-operator: R of a value is its derivative along u."""
        (_, V), (RW, RV), (H, P) = self.layers(w), self.layers(u), self.outputs(w)
        RH = (1 - H**2) * (self.X @ RW)
        RZ = RH @ V + H @ RV
        E, RE = (P - self.Y) / P.shape[1], P * (RZ - (P * RZ).sum(axis=2, keepdims=True)) / P.shape[1]
        RB = (RE @ transposed(V) + E @ transposed(RV)) * (1 - H**2) - 2 * H * RH * (E @ transposed(V))
        return flat(transposed(self.X) @ RB, transposed(RH) @ E + transposed(H) @ RE) + self.penalized(u)

    def cross(self, w: Array, u: Array, t: int = 0) -> dict[str, Array]:
        """By l2 u_i . w_i, by a tie (u_i - u_j) . (w_i - w_j) / 2; summed where one number is for all."""
        pairs = zip(self.layers(u), self.layers(w), strict=True)
        dots = np.stack([np.einsum("idh,jdh->ij", a, b) for a, b in pairs])
        own = np.diagonal(dots, axis1=1, axis2=2)[:, :, None]
        found = {"l2": own, "ties": (own + transposed(own) - dots - transposed(dots)) / 2}
        return {
            name: found[name].sum(axis=tuple(np.flatnonzero(np.array(each.shape) == 1)), keepdims=True)
            for name, each in self.theta.items()
        }

    def measure(self, w: Array) -> tuple[float, float]:
        """Mean loss and accuracy over all tasks."""
        P = self.outputs(w)[1]
        return -np.log((P * self.Y).sum(axis=2)).mean(), (P.argmax(axis=2) == self.Y.argmax(axis=2)).mean()


def transposed(matrices: Array) -> Array:
    """Each matrix of a stack."""
    return matrices.swapaxes(-1, -2)


def flat(*arrays: Array) -> Array:
    """Joined to one vector."""
    return np.concatenate([array.ravel() for array in arrays])
