"""The methods of `scipy.optimize.minimize`, on runs of the same seeds at every point: a deterministic objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrev._engine import arguments
from fastrev._engine.types import FloatArray
from fastrev._engine.walk import norm
from fastrev._tuning.loop import Descent
from fastrev.errors import DivergenceError

_BOUNDED = {"l-bfgs-b", "tnc", "slsqp", "trust-constr"}
_UNBOUNDED = {"cg", "bfgs"}
_POINTS = 100  # an iteration of TNC, which counts those


def check(method: object) -> None:
    """Refuse what takes no gradient, or more than a gradient."""
    if not isinstance(method, str) or method.lower() not in _BOUNDED | _UNBOUNDED:
        raise arguments.fault(
            "method", "be 'adam', or a method of scipy.optimize.minimize that needs a gradient and no more: "
            "'L-BFGS-B', 'BFGS', 'CG', 'TNC', 'SLSQP' or 'trust-constr'", repr(method),
        )  # fmt: skip


def descend(descent: Descent, method: str, watch: Callable[[], None]) -> tuple[bool, str]:
    """Descend, and `watch` every iteration.  Returns whether it failed, and what SciPy says."""
    from scipy.optimize import minimize  # here, so that an import of fastrev stays light

    start, plan = descent.progress.z, descent.plan
    free = np.isfinite(start)  # a 0 that moves in log stays
    low, high = (bound[free] for bound in descent.space.bounds())
    if method.lower() in _UNBOUNDED and (names := descent.space.clipped()):
        raise arguments.fault(
            "method", f"be one that takes bounds, for {', '.join(map(repr, names))} moves between bounds", repr(method),
            f"Pass 'L-BFGS-B', or transforms={{{names[0]!r}: 'log'}}.",
        )  # fmt: skip
    best: dict[str, Any] = {"loss": np.inf, "z": start, "gradient": np.zeros(int(free.sum()))}

    def objective(point: FloatArray) -> tuple[float, FloatArray]:
        z = start.copy()
        z[free] = point
        z = descent.space.within(z)
        loss, gradient, refusal = descent.evaluate(z)
        if gradient is None:
            if not np.isfinite(best["loss"]):
                raise DivergenceError(refusal, step=-1, group="")
            return _wall(point - best["z"][free], best["loss"], best["gradient"])
        if loss < best["loss"]:
            best.update(loss=loss, z=z, gradient=gradient[free])
        return loss, gradient[free]

    def after(point: FloatArray, state: object = None) -> None:
        descent.move_to(best["z"], best["loss"], norm(best["gradient"]))
        watch()
        if descent.progress.nit >= plan.meta_steps:
            raise _EnoughError

    bounds = np.stack([low, high], axis=1) if method.lower() in _BOUNDED else None
    most = "maxfun" if method.lower() == "tnc" else "maxiter"  # which of TNC's counts, `after` holds to meta_steps
    options = {most: _POINTS * plan.meta_steps if most == "maxfun" else plan.meta_steps}
    try:
        found = minimize(
            objective, start[free], jac=True, method=method, bounds=bounds, options=options,
            callback=after if method.lower() == "trust-constr" else lambda point: after(point),
        )  # fmt: skip
    except KeyboardInterrupt:
        if best["loss"] < np.inf:
            descent.move_to(best["z"], best["loss"], norm(best["gradient"]), count=False)
        raise
    except _EnoughError:
        return False, f"SciPy's {method} made all {plan.meta_steps} iterations."
    descent.move_to(best["z"], best["loss"], norm(best["gradient"]), count=False)
    return not found.success, f"SciPy's {method}: {found.message}"


class _EnoughError(Exception):
    """All iterations are made."""


def _wall(away: FloatArray, loss: float, gradient: FloatArray) -> tuple[float, FloatArray]:
    """What a line search meets where runs diverge: it rises towards there, so that the next try is nearer."""
    length = norm(away) or 1.0
    height = 10 * abs(loss) + 10 * abs(float(gradient @ away)) + 1.0
    return loss + height, 2 * height * away / length**2
