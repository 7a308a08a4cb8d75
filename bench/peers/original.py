"""The paper's own algorithm, written the way its authors did: Python's big integers and HIPS autograd.

D. Maclaurin, D. Duvenaud, R. P. Adams, "Gradient-based Hyperparameter Optimization through Reversible Learning", ICML
2015, Algorithms 2 and 3.  Every parameter's information buffer is a Python integer in an object array.  The decay's
ratio n/d is used throughout (the authors' code mixes it with the float that it stands for).
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import grad

from bench.peers import Solve
from bench.workloads import Workload

SCALE = 2**52


class ExactVector:
    """Fixed-point numbers that can be multiplied by a ratio, and divided by it again, without loss."""

    def __init__(self, values: Any) -> None:
        self.grid = np.rint(values * SCALE).astype(np.int64)
        self.store = np.zeros(len(values), dtype=object)  # one big integer a parameter

    @property
    def values(self) -> Any:
        return self.grid / SCALE

    def add(self, values: Any) -> None:
        self.grid += np.rint(values * SCALE).astype(np.int64)

    def sub(self, values: Any) -> None:
        self.grid -= np.rint(values * SCALE).astype(np.int64)

    def scale(self, n: Any, d: Any) -> None:
        """Multiply by n / d; by d / n with the two exchanged, which undoes it."""
        self.store = self.store * d + self.grid % d
        self.grid = self.grid // d * n + (self.store % n).astype(np.int64)
        self.store = self.store // n


def meta_gradient(case: Workload) -> Solve:
    """A function that trains, takes the training back and differentiates on the way."""
    layers = list(pairwise(case.sizes))
    ends = np.cumsum([size for a, b in layers for size in (a * b, b)])
    starts, widths = np.concatenate([[0], ends[:-1]]), np.diff(ends, prepend=0)
    x_all, y_all = case.train
    ratios = {float(gamma): Fraction(gamma).limit_denominator(2**16) for gamma in np.unique(case.optimizer.decay)}

    def mean_loss(w: Any, x: Any, y: Any) -> Any:
        for layer, (a, b) in enumerate(layers):
            p = int(starts[2 * layer])
            x = anp.dot(x, anp.reshape(w[p : p + a * b], (a, b))) + w[p + a * b : p + a * b + b]
            x = anp.tanh(x) if layer < len(layers) - 1 else x
        top = anp.max(x, axis=1, keepdims=True)
        log_softmax = x - top - anp.log(anp.sum(anp.exp(x - top), axis=1, keepdims=True))
        return -anp.mean(anp.sum(log_softmax * y, axis=1))

    gradient = grad(mean_loss)
    hvp = grad(lambda w, u, x, y: anp.dot(gradient(w, x, y), u))

    def of_step(t: int) -> tuple[Any, ...]:
        rows = slice(None) if case.batches is None else case.batches[t]
        fractions = [ratios[float(gamma)] for gamma in case.optimizer.decay[t]]
        n = np.repeat([each.numerator for each in fractions], widths)
        d = np.repeat([each.denominator for each in fractions], widths)
        return np.repeat(case.optimizer.lr[t], widths), n, d, x_all[rows], y_all[rows]

    def solve() -> tuple[float, dict[str, Any]]:
        w, v = ExactVector(case.w0), ExactVector(np.zeros_like(case.w0))
        for t in range(case.steps):
            alpha, n, d, x, y = of_step(t)
            g = gradient(w.values, x, y)
            v.scale(n, d)
            v.sub((1 - n / d) * g)
            w.add(alpha * v.values)

        loss = mean_loss(w.values, *case.valid)
        dw, dv = gradient(w.values, *case.valid), np.zeros_like(case.w0)
        d_lr, d_decay = np.zeros_like(case.optimizer.lr), np.zeros_like(case.optimizer.decay)
        for t in range(case.steps - 1, -1, -1):
            alpha, n, d, x, y = of_step(t)
            d_lr[t] = np.add.reduceat(dw * v.values, starts)
            w.sub(alpha * v.values)
            g = gradient(w.values, x, y)
            v.add((1 - n / d) * g)
            v.scale(d, n)
            dv += alpha * dw
            d_decay[t] = np.add.reduceat(dv * (v.values + g), starts)
            dw -= hvp(w.values, (1 - n / d) * dv, x, y)
            dv *= n / d
        assert np.array_equal(w.grid, ExactVector(case.w0).grid)
        return float(loss), {"w0": dw, "v0": dv, "lr": d_lr, "decay": d_decay}

    return solve
