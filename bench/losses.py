"""A small MLP and a small convolution as losses in JAX, PyTorch and autograd, for the adapters of fastrev.interop."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

EXAMPLES, CLASSES, CALLS = 50, 10, 100
MLP = {"w1": (64, 32), "b1": (32,), "w2": (32, CLASSES), "b2": (CLASSES,)}
CONVOLUTION = {"filters": (2, 1, 3, 3), "shift": (2, 1, 1), "w": (2, CLASSES), "b": (CLASSES,)}
NUMPY = {"jax": "jax.numpy", "torch": "torch", "autograd": "autograd.numpy"}


def calls(library: str) -> Callable[[], dict[str, float]]:
    """Measures microseconds a call of each derivative, in float64."""
    if library == "jax":
        import_module("jax").config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    found = {"MLP": objective(library, MLP, rng)}
    if library != "autograd":
        found["convolution"] = objective(library, CONVOLUTION, rng)
    timed = {}
    for model, (each, w) in found.items():
        for name in ("hvp", "cross", "hvp_and_cross"):
            timed[f"{name}, {model}"] = repeated(getattr(each, name), w, np.cos(w), 0)
        timed[f"grad, {model}"] = repeated(each.grad, w, 0)
    return lambda: {what: 1e6 * measure() for what, measure in timed.items()}


def repeated(function: Callable[..., Any], *arguments: Any) -> Callable[[], float]:
    """Measures the seconds of a call."""

    def measure() -> float:
        start = time.perf_counter()
        for _ in range(CALLS):
            function(*arguments)
        return (time.perf_counter() - start) / CALLS

    function(*arguments)
    return measure


def objective(library: str, shapes: dict[str, tuple[int, ...]], rng: np.random.Generator) -> tuple[Any, np.ndarray]:
    """Cross-entropy with a penalty, and its start."""
    xp = import_module(NUMPY[library])
    convolve = convolution(library) if shapes is CONVOLUTION else None
    inputs = rng.standard_normal((EXAMPLES, 1, 8, 8) if convolve else (EXAMPLES, 64))
    targets = np.eye(CLASSES)[rng.integers(0, CLASSES, EXAMPLES)]
    x, y = (inputs, targets) if library == "autograd" else (xp.asarray(inputs), xp.asarray(targets))

    def loss(params: Any, theta: Any, t: Any) -> Any:
        if convolve:
            hidden = xp.tanh(convolve(x, params["filters"]) + params["shift"]).mean((2, 3))
            z = hidden @ params["w"] + params["b"]
        else:
            z = xp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
        penalty = sum((weights**2).sum() for weights in params.values())
        return (xp.log(xp.exp(z).sum(1)) - (y * z).sum(1)).mean() + theta["l2"] * penalty

    params = {name: 0.2 * rng.standard_normal(shape) for name, shape in shapes.items()}
    return import_module(f"fastrev.interop.{library}").objective(loss, params, {"l2": 1e-3})


def convolution(library: str) -> Callable[[Any, Any], Any]:
    """Of images (N, C, H, W) with filters."""
    if library == "torch":
        return import_module("torch.nn.functional").conv2d
    conv = import_module("jax.lax").conv
    return lambda images, filters: conv(images, filters, (1, 1), "VALID")
