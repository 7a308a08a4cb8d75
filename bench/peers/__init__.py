"""What fastrev is held against, all behind one interface.

``contestant(name, case)`` returns a function that computes ``(loss, {name: gradient})``, or raises `UnfitError` with
the reason why this peer cannot take this workload here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from bench.workloads import Workload

Solve = Callable[[], tuple[Any, dict[str, Any]]]

# name: the package that it needs, its module here, further arguments, what it is
PEERS = {
    "jax-stored": ("jax", "jax_scan", {"strategy": "stored"}, "jitted JAX, trajectory stored"),
    "jax-checkpointed": ("jax", "jax_scan", {"strategy": "checkpointed"}, "jitted JAX, sqrt(T) checkpoints"),
    "torch-unrolled": ("torch", "torch_unrolled", {}, "PyTorch, unrolled graph"),
    "original": ("autograd", "original", {}, "the original algorithm"),
}


class UnfitError(Exception):
    """A peer that cannot take a workload; the message says why."""


def contestant(name: str, case: Workload) -> Solve:
    """Make a peer, or fastrev itself, ready for a workload."""
    if name == "fastrev":
        return lambda: _own(case)
    package, module, arguments, _ = PEERS[name]
    if find_spec(package) is None:
        extra = "bench-torch" if package == "torch" else "bench"
        raise UnfitError(f"{package} is not installed: pip install '.[{extra}]'")
    if name == "original" and case.dtype != np.float64:
        raise UnfitError("the original computes in float64 only")
    if not name.startswith("jax") and (case.activation, case.loss) != ("tanh", "cross_entropy"):
        raise UnfitError("written for tanh and cross_entropy")
    if name == "original" and not set(case.wrt) <= {"w0", "v0", "lr", "decay"}:
        raise UnfitError("written for SGD, and not for gradients by training data")
    solve: Solve = importlib.import_module(f"bench.peers.{module}").meta_gradient(case, **arguments)
    return solve


def assert_same(case: Workload, loss: Any, gradients: dict[str, Any]) -> None:
    """No peer is beaten by computing something else: compare with fastrev's result, to the precision's accuracy."""
    own_loss, own = _own(case)
    np.testing.assert_allclose(loss, own_loss, rtol=tolerance(case))
    assert set(gradients) == set(case.wrt) == set(own)
    for name, gradient in gradients.items():
        atol = tolerance(case) * np.abs(own[name]).max()
        np.testing.assert_allclose(gradient, own[name], rtol=0, atol=atol, err_msg=name)


def tolerance(case: Workload) -> float:
    """The precision's accuracy.

    Of Adam in float64 that is what the grid of the second moment, 2**-62, leaves of the smallest gradients: up to 4e-9
    of the derivative by eps in W4, 5e-10 of that by the weights in W2.
    """
    return 2e-3 if case.dtype != np.float64 else 1e-8 if "eps" in case.wrt else 1e-9


def _own(case: Workload) -> tuple[float, dict[str, Any]]:
    result = case.run()
    assert result.stats.exact
    return result.loss, {name: getattr(result.grad, name) for name in case.wrt}
