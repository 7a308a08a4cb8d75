"""What the tests of both nodes train: a small network with all that there is to differentiate by, and an Objective."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrev

RNG = np.random.default_rng(0)
MODEL = fastrev.MLP((3, 4, 2))
STEPS, ROWS = 5, 12
INPUTS = RNG.standard_normal((ROWS, 3))
VALID = (RNG.standard_normal((6, 3)), RNG.integers(0, 2, 6))
# by the names of MetaGradient.grad; decays are far from simple fractions, beside which the ratios n/d are sparse
ARRAYS: dict[str, np.ndarray] = {
    "w0": MODEL.init(seed=1),
    "lr": RNG.uniform(0.2, 0.6, (STEPS, 4)),
    "decay": RNG.uniform(0.61, 0.89, STEPS),
    "v0": RNG.normal(0, 0.1, MODEL.num_params),
    "l2": RNG.uniform(0.01, 0.1, 4),
    "x": INPUTS,
    "y": RNG.dirichlet([1, 1], ROWS),
    "example_weights": RNG.uniform(0.5, 1.5, ROWS),
}
NAMES = tuple(ARRAYS)
SETTINGS = {"valid": VALID, "batch_size": 4, "seed": 3}
CLASSES = (INPUTS[:, 0] > 0).astype(int)


def arguments(arrays: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `meta_grad` and of both nodes."""
    others = {name: value for name, value in arrays.items() if name not in ("x", "y")}
    return SETTINGS | {"train": (arrays["x"], arrays["y"])} | others


def expected(arrays: dict[str, np.ndarray], wrt: tuple[str, ...] = NAMES, **more: Any) -> fastrev.MetaGradient:
    return fastrev.meta_grad(MODEL, wrt=wrt, **(arguments(arrays) | more))


class Ridge:
    """An Objective with hyperparameters of two shapes."""

    def __init__(self, X: np.ndarray, y: np.ndarray, theta: dict[str, np.ndarray]) -> None:
        self.X, self.y, self.theta, self.num_params = X, y, theta, X.shape[1]

    def grad(self, w: np.ndarray, t: int) -> np.ndarray:
        return self.X.T @ (self.X @ w - self.theta["scale"] * self.y) / len(self.y) + self.theta["penalty"] * w

    def hvp(self, w: np.ndarray, u: np.ndarray, t: int) -> np.ndarray:
        return self.X.T @ (self.X @ u) / len(self.y) + self.theta["penalty"] * u

    def cross(self, w: np.ndarray, u: np.ndarray, t: int) -> dict[str, np.ndarray]:
        return {"penalty": w * u, "scale": -(self.X @ u) @ self.y / len(self.y)}


TARGETS = INPUTS @ [1.0, -2.0, 0.5]
THETA = {"penalty": np.array([0.1, 0.2, 0.3]), "scale": np.array(1.5)}
RIDGE = Ridge(INPUTS, TARGETS, THETA)
W0 = np.array([0.3, -0.1, 0.2])


def squares(w: np.ndarray) -> tuple[float, np.ndarray]:
    """A validation loss of three weights."""
    return float(w @ w) / 2, w


class Spy:
    """By what runs were pulled back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wrt: list[Any] = []
        pullback = fastrev.Run.pullback

        def noted(run: Any, w_bar: Any, v_bar: Any = None, wrt: Any = None, **more: Any) -> Any:
            self.wrt.append(wrt)
            return pullback(run, w_bar, v_bar, wrt, **more)

        monkeypatch.setattr(fastrev.Run, "pullback", noted)
