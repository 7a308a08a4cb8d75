"""The same meta-gradient through PyTorch's unrolled graph: what `higher` and TorchOpt do underneath."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch

from bench.peers import Solve, rules
from bench.workloads import Workload


def meta_gradient(case: Workload) -> Solve:
    """A function that trains with ``create_graph=True`` and differentiates through the graph."""
    layers = list(pairwise(case.sizes))
    widths = [size for a, b in layers for size in (a * b, b)]
    dtype = torch.from_numpy(np.empty(0, case.dtype)).dtype

    def tensor(array: Any) -> Any:
        return torch.tensor(array, dtype=dtype)

    def mean_loss(w: Any, x: Any, y: Any) -> Any:
        parts = torch.split(w, widths)
        for layer, (a, b) in enumerate(layers):
            x = torch.addmm(parts[2 * layer + 1], x, parts[2 * layer].view(a, b))
            x = torch.tanh(x) if layer < len(layers) - 1 else x
        return -(torch.log_softmax(x, 1) * y).sum(1).mean()

    y, xv, yv = (tensor(array) for array in (case.train[1], *case.valid))
    batches = None if case.batches is None else torch.from_numpy(case.batches)
    repeats = torch.tensor(widths)
    arrays = {
        "w0": case.w0, "v0": np.zeros_like(case.w0) if "v0" in case.wrt else None, **case.hyperparameters,
        "x": case.train[0], "l2": case.l2,
    }  # fmt: skip

    def solve() -> tuple[float, dict[str, Any]]:
        inputs = {
            name: tensor(array).requires_grad_(name in case.wrt) for name, array in arrays.items() if array is not None
        }
        w, x = inputs["w0"], inputs["x"]
        moments = rules.begin(w, inputs.get("v0"))
        hyperparameters = {name: inputs[name] for name in case.hyperparameters}
        tables = rules.with_corrections(hyperparameters, lambda table: table.cumprod(0))
        for t in range(case.steps):
            rows = slice(None) if batches is None else batches[t]
            objective = mean_loss(w, x[rows], y[rows])
            if case.l2 is not None:
                objective = objective + 0.5 * (inputs["l2"] * w * w).sum()
            (g,) = torch.autograd.grad(objective, w, create_graph=True)
            now = {name: table[t].repeat_interleave(repeats) if table.ndim else table for name, table in tables.items()}
            w, moments = rules.step(w, moments, g, now, torch.sqrt)
        loss = mean_loss(w, xv, yv)
        gradients = torch.autograd.grad(loss, [inputs[name] for name in case.wrt])
        return loss.item(), {name: g.numpy() for name, g in zip(case.wrt, gradients, strict=True)}

    return solve
