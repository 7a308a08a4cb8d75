"""Whether a machine computes what another did: one gradient, of which the bits are kept with a run.

The state of a run is whole numbers, and exact everywhere.  Gradients are floating point: those of an Objective are
whatever its functions, their libraries, data and hardware make of them, and batches are what NumPy's shuffling makes of
a seed.  A run that goes on with other bits would not arrive at its start, hours later.
"""

from __future__ import annotations

import platform

import llvmlite.binding
import numba
import numpy as np

from fastrev._engine import announcing, compilation, evaluation
from fastrev._engine import state as states
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.problem import Problem
from fastrev._engine.types import AnyArray, FloatArray, Floating
from fastrev._engine.version import __version__
from fastrev.kernels.structures import Data, State


def probe(problem: Problem, state: State, w_bar: AnyArray | None) -> list[int]:
    """Checksums of a step's gradient at the weights as they are, and of an Objective's other derivatives, if wanted.

    It is the last step of those that are made: an Objective has been asked for it before.
    """
    trained, t, w = problem.trained, max(int(state.cursor[0]) - 1, 0), states.to_floats(state.w)
    if isinstance(trained, MLPObjective):
        return [*states.checksum(_gradient(trained, w, t))]
    g, hu = np.empty(w.size), np.zeros(w.size)
    trained.gradient(w.copy(), t, g)
    if w_bar is None:
        return [*states.checksum(g)]
    sums = trained.new_sums(trained.names)
    trained.pull(w, w_bar[0].copy(), t, hu, sums)
    return [*states.checksum(g, hu, *(np.atleast_1d(each) for each in sums.values()))]


def _gradient(trained: MLPObjective, w: FloatArray, t: int) -> Floating:
    model, data, rows = trained.model, trained.data, trained.batches.rows(t, t + 1)
    if rows.size:
        x, y = (each.reshape(trained.examples, -1)[rows[0]].reshape(-1) for each in (data.x, data.y))
        data = Data(x, y, data.weights[rows[0]] if data.weights.size else data.weights, data.unit)
    with announcing.waiting():
        compilation.finish(model.dtype)
    # by this thread alone: the other may be on its way back
    return evaluation.loss_and_gradient(
        model, w.astype(model.dtype), data, rows.size or trained.examples, trained.l2, alone=True
    )[1]


def here() -> str:
    """What decides about the bits, as far as it has a name."""
    libraries = f"fastrev {__version__}, Numba {numba.__version__}, NumPy {np.__version__}"
    return f"{llvmlite.binding.get_host_cpu_name()} ({platform.machine()} {platform.system()}) with {libraries}"
