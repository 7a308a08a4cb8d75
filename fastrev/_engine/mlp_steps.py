"""An MLP's steps one at a time, as an objective of plain functions has them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrev._engine import workspace
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.types import FloatArray
from fastrev.kernels import by_hand as kernels
from fastrev.kernels.structures import ObjectiveAdjoint


class MLPSteps:
    """The gradient of a step, and its derivatives, at any weights."""

    def __init__(self, trained: MLPObjective) -> None:
        model, examples = trained.model, trained.batches.size
        self._trained = trained
        self._record, _ = workspace.whole_steps(model, 0, examples)
        self._work = workspace.workspace_for(model, examples, inputs=True)
        self._tangents = workspace.tangents_for(model, examples, inputs=True)

    def gradient(self, w: FloatArray, t: int, out: FloatArray) -> None:
        """The gradient of step t at the weights w."""
        g = np.empty(w.size, self._trained.dtype)
        chunk = self._trained.chunk(t, t + 1)
        kernels.step_gradient(chunk, self._record, self._work, t, w.astype(g.dtype), g)
        np.copyto(out, g)

    def new_sums(self, wrt: tuple[str, ...]) -> ObjectiveAdjoint:
        """Zeros for the derivatives that are wanted."""
        return self._trained.new_adjoint(wrt)

    def pull(self, w: FloatArray, u: FloatArray, t: int, hu: FloatArray, sums: ObjectiveAdjoint) -> None:
        """The Hessian of step t at w times u; the derivatives of the gradient times u are subtracted from the sums."""
        tangents, chunk = self._tangents, self._trained.chunk(t, t + 1)
        weights, g = w.astype(tangents.u.dtype), np.empty_like(tangents.u)
        kernels.step_gradient(chunk, self._record, self._work, t, weights, g)
        tangents.u[:] = u
        kernels.pull_gradient(chunk, self._record, self._work, t, weights, tangents, sums)
        np.copyto(hu, tangents.hu)

    def gradients(self, sums: ObjectiveAdjoint) -> dict[str, Any]:
        """The derivatives in the shapes of the arguments."""
        return self._trained.gradients(sums)
