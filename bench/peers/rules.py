"""The rules by which steps are made, as one writes them down, for arrays of any library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def with_corrections(tables: Mapping[str, Any], products: Callable[[Any], Any]) -> dict[str, Any]:
    """The hyperparameters, and of Adam what corrects its moments for their start: by products along the steps."""
    corrections = {f"c{k}": 1 - products(tables[f"beta{k}"]) for k in (1, 2) if f"beta{k}" in tables}
    return {**tables, **corrections}


def begin(w: Any, v0: Any) -> tuple[Any, ...]:
    """Moments before the first step: a velocity, where there is one to begin with, or two of zero."""
    return (0 * w, 0 * w) if v0 is None else (v0,)


def step(
    w: Any, moments: tuple[Any, ...], g: Any, now: Mapping[str, Any], sqrt: Callable[[Any], Any]
) -> tuple[Any, tuple[Any, ...]]:
    """The weights and moments after a step."""
    if "decay" in now:
        (v,) = moments
        v = now["decay"] * v - (1 - now["decay"]) * g
        return w + now["lr"] * v, (v,)
    m, s = moments
    m = now["beta1"] * m + (1 - now["beta1"]) * g
    s = now["beta2"] * s + (1 - now["beta2"]) * g * g
    direction = (m / now["c1"]) / (sqrt(s / now["c2"] + now.get("eps_root", 0.0)) + now["eps"])
    if "weight_decay" in now:
        direction = direction + now["weight_decay"] * w
    return w - now["lr"] * direction, (m, s)
