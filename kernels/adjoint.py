"""T steps back, differentiating on the way (Maclaurin et al. 2015, Algorithm 2), by any of the rules.

With dw and the derivatives of the final loss by the new moments, the rule pulls them back through what the step made of
the weights, and chooses a direction u; then, at w_t and on that step's batch,

    H_t u    = R{dL/dw}
    dw       = dw - H_t u
    dtheta   = dtheta - R{dL/dtheta}                         inputs, targets, example weights, l2

and the rule goes on through the moments.  w_t, the new moments, what the rule makes of the gradient, and the gradient's
passes over the batch are read from the record that the undo writes (training.py).  All tuples come without their names
(plain.py).
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from . import handover
from .broadcast import row
from .jit import Function, inlined, kernel_by
from .mlp_objective import pull_gradient
from .plain import adjoint_of, objective_of, record_of
from .reductions import dot
from .structures import Adjoint, Tangents, Workspace


def pull_by(rule: ModuleType) -> Function:
    """`pull` for one of the rules."""

    @kernel_by(rule)
    def pull(objective, tables, record, work, tangents, adjoint, done, stop):
        """Pull the adjoints of C losses back through the steps done > t >= stop, while `training.undo` undoes them.

        It ends early where the other side gave up, which then knows why.
        """
        objective, tables, record = objective_of(objective), rule.Tables(*tables), record_of(record)
        work, tangents, adjoint = Workspace(*work), Tangents(*tangents), adjoint_of(adjoint, rule.Adjoint)
        progress = record.progress
        steps, blocks = progress[handover.STEPS_READ], progress[handover.BLOCKS_READ]
        for t in range(done - 1, stop - 1, -1):
            slot = steps % record.steps.w.shape[0]
            w, moments, g = record.steps.w[slot], record.steps.moments[slot], record.steps.g[slot]
            if not handover.wait(progress, handover.BLOCKS_WRITTEN, blocks + 1):
                return
            if rule.DIRECTION_TAKES_GRADIENT and not handover.wait(progress, handover.STEPS_WRITTEN, steps + 1):
                return
            # One loss after the other: u, Hu and the tangents of the passes stay in the L1 and L2 caches.  Products as
            # wide as four losses together take two thirds of the time where a layer has 10 outputs, and 0.9 or all of
            # it where it has 32 or 50; but operands and results have to be interleaved and taken apart, and with that
            # W2's products take 0.92 to 1.34 of the time, W1's 0.78 to 1.07 (`python -m bench.choices wide`).
            before = blocks
            for each in range(adjoint.w.shape[0]):
                of_loss = one_of(adjoint, each)
                rule.pull_position(tables, w, moments, g, of_loss, t, tangents.u, work.scratch)
                blocks = pull_gradient(
                    objective, record, work, t, before, w, tangents, row(adjoint.objective, each), each > 0
                )
                if blocks < 0 or not handover.wait(progress, handover.STEPS_WRITTEN, steps + 1):
                    return
                rule.pull_moments(tables, moments, g, of_loss, t, tangents.hu, work.scratch)
                trace(of_loss, t)
            steps += 1
            handover.announce(progress, handover.STEPS_READ, steps)

    made: Function = pull
    return made


@inlined
def one_of(adjoint, each):
    """The adjoint of one of the losses."""
    w, moments, norms = adjoint.w[each], adjoint.moments[each], adjoint.norms[each]
    return Adjoint(w, moments, row(adjoint.rule, each), None, norms, adjoint.first, adjoint.every)


@inlined
def trace(adjoint, t):
    """Write down the norm of the derivative by the weights before step t, if it is one of those to be written down."""
    after = t - adjoint.first
    if after % adjoint.every == 0:
        adjoint.norms[after // adjoint.every] = np.sqrt(dot(adjoint.w, adjoint.w, 0, adjoint.w.size))
