"""An MLP's outputs, loss and derivatives at given weights, for examples that were checked."""

from __future__ import annotations

import numpy as np

from fastrev._engine import teams
from fastrev._engine.architecture import Architecture
from fastrev._engine.lending import give_back, lent
from fastrev._engine.types import FloatArray, Floating
from fastrev._engine.workspace import is_small, passes_for, tangents_for, workspace_for, workspaces_for
from fastrev.kernels import losses, mlp_gradient, mlp_hvp
from fastrev.kernels.mlp_gradient import ROWS
from fastrev.kernels.structures import Data, Team


def outputs(model: Architecture, w: Floating, data: Data, n: int) -> Floating:
    """Flat outputs (N K,) in the model's dtype."""
    z = np.empty(n * model.sizes[-1], model.dtype)
    mlp_gradient.outputs(model.network, w, data, n, passes_for(model, n), z)
    return z


def means(model: Architecture, z: FloatArray) -> FloatArray:
    """The means (N, K) that the loss takes outputs (N, K) for: probabilities, but for squared_error."""
    found = np.empty_like(z)
    losses.predict(model.network.loss, z.reshape(-1), 0, *z.shape, found.reshape(-1))
    return found


def loss_value(model: Architecture, w: Floating, data: Data, n: int) -> float:
    """Mean loss."""
    z = outputs(model, w, data, n)
    mean, k = np.empty_like(z), model.sizes[-1]
    losses.predict(model.network.loss, z, 0, n, k, mean)
    return float(losses.total(model.network.loss, z, 0, mean, data.y, data.weights, 0, n, k) / n)


def loss_of_each(model: Architecture, w: Floating, data: Data, n: int) -> FloatArray:
    """The losses (N,)."""
    z = outputs(model, w, data, n)
    mean, k = np.empty_like(z), model.sizes[-1]
    losses.predict(model.network.loss, z, 0, n, k, mean)
    found = np.empty(n)
    for i in range(n):
        found[i] = losses.total(model.network.loss, z, i * k, mean[i * k :], data.y, data.weights, i, 1, k)
    return found


def loss_and_gradient(
    model: Architecture, w: Floating, data: Data, n: int, l2: FloatArray | None = None, *, alone: bool = False
) -> tuple[float, Floating]:
    """Mean loss; and the gradient (P,) of that and the penalty, in the model's dtype; by this thread alone if asked."""
    g, coefficients = np.empty(model.num_params, model.dtype), np.zeros(1) if l2 is None else l2
    work, cut = 3.0 * model.num_params * n, teams.cut_of(model)
    threads = 1 if alone else teams.size_to_share(model, work, teams.WORTH_A_CALL)
    kind = "loss", model.sizes, model.dtype, min(n, ROWS), threads
    passes, works = scratch = lent(kind, lambda: (passes_for(model, n), workspaces_for(model, threads)))

    def walk(team: Team) -> float:
        loss: float = mlp_gradient.mean_loss_and_gradient(
            tuple(model.network), w, tuple(data), n, coefficients, tuple(passes), tuple(works[team.me]), tuple(team), g
        )
        return loss

    loss = float(teams.together(cut, threads, walk))
    if threads == 1 and is_small(model, n):
        give_back(kind, scratch)
    return loss, g


def hvp(model: Architecture, w: Floating, u: Floating, data: Data, n: int, l2: FloatArray) -> Floating:
    """The Hessian of mean loss and penalty, times u, in the model's dtype."""
    tangents, g = tangents_for(model, n, inputs=False), np.empty(model.num_params, model.dtype)
    tangents.u[:] = u
    mlp_hvp.mean_hvp(model.network, w, data, n, passes_for(model, n), workspace_for(model), teams.alone(), g, tangents)
    penalty = np.empty_like(tangents.u)
    mlp_gradient.penalty_gradient(model.network.bounds, tangents.u, l2, penalty, 0, penalty.size)
    return tangents.hu + penalty
