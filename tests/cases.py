"""Problems that several tests share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import fastrev
from tests import naive

ACTIVATIONS = ("tanh", "sigmoid", "relu", "softplus", "identity")
LOSSES = ("cross_entropy", "squared_error", "logistic")
WRT = ("lr", "decay", "w0", "v0", "l2", "x", "y", "example_weights")


@dataclass
class Case:
    """A model, and arguments of `fastrev.meta_grad` for it."""

    model: fastrev.MLP
    w0: np.ndarray
    arguments: dict[str, Any]

    def meta_grad(self, **changes: Any) -> fastrev.MetaGradient:
        return fastrev.meta_grad(self.model, self.w0, **({"wrt": WRT} | self.arguments | changes))

    def train(self, **changes: Any) -> fastrev.Run:
        arguments = {name: value for name, value in self.arguments.items() if name not in ("valid", "wrt")}
        return fastrev.train(self.model, self.w0, **(arguments | changes))

    def oracle(self) -> tuple[float, dict[str, np.ndarray]]:
        """The loss and all gradients by autograd, unrolled.  Decays are the ratios that fastrev takes for them."""
        a = self.arguments
        return naive.meta_gradient(
            self.w0, a.get("v0"), a["lr"], naive.snap(a["decay"]), a["l2"], *a["train"], a.get("example_weights"),
            batches=a.get("batches"), steps=a.get("steps"), valid=a["valid"], sizes=self.model.sizes,
            activation=self.model.activation, loss=self.model.loss, wrt=WRT,
        )  # fmt: skip


def random_case(seed: int, *, examples: int = 12, batch: int | None = 5, dtype: type = np.float64) -> Case:
    """All that can vary, varied by the seed: depth, activation, loss, and the shape of every argument."""
    rng = np.random.default_rng(seed)
    depth, steps = seed % 4, int(rng.integers(1, 9))
    sizes = (3, *rng.integers(2, 6, depth).tolist(), 3)
    model = fastrev.MLP(sizes, ACTIVATIONS[seed % 5], LOSSES[seed % 3], dtype)
    groups, size = len(model.groups), model.num_params
    shapes = [(), (steps,), (steps, 1), (1, groups), (steps, groups)]
    lr, decay = (shapes[i] for i in rng.integers(5, size=2))
    l2 = [(), (groups,), (size,)][rng.integers(3)]
    return Case(
        model,
        model.init(seed, scale=0.5),
        {
            "train": (rng.standard_normal((examples, 3)), rng.random((examples, 3))),
            "valid": (rng.standard_normal((7, 3)), rng.random((7, 3))),
            "lr": rng.uniform(0, 0.5, lr),
            "decay": rng.uniform(0.3, 1, decay),
            "l2": rng.uniform(0, 0.1, l2),
            "v0": 0.1 * rng.standard_normal(size),
            "example_weights": rng.uniform(0, 2, examples),
            "steps": steps,
            "batches": None if batch is None else rng.integers(examples, size=(steps, batch)),
        },
    )


def digits_like(steps: int = 20, dtype: type = np.float64, **changes: Any) -> Case:
    """A small classification problem with classes, as most users have it."""
    rng = np.random.default_rng(0)
    x = rng.random((60, 4))
    y = (x @ rng.standard_normal((4, 3))).argmax(axis=1)
    model = fastrev.MLP((4, 5, 3), dtype=dtype)
    data = {"train": (x[:40], y[:40]), "valid": (x[40:], y[40:]), "batch_size": 8}
    return Case(model, model.init(0), data | {"lr": 0.3, "decay": 0.9, "steps": steps, "l2": 0.0} | changes)


def relative_error(a: Any, b: Any) -> float:
    """The largest difference, in units of the largest magnitude of b."""
    return float(np.abs(np.asarray(a) - b).max() / max(np.abs(b).max(), 1e-300))
