"""Single calls for those who go step by step from Python.

Each leaves the state whole: an interrupt comes before such a call or after it, never within.

`tables`, `state` and `adjoint` come as plain tuples, ``tuple(state)``: with named ones a call takes 2.7 us, most of it
to recognise them, with plain ones of the same arrays 1.1 (`python -m bench.choices named`).
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from . import adjoint as adjoint_kernels
from . import checksums, mlp_objective, outcomes
from . import information_buffer as buffer
from .checks import all_finite
from .fixed_point import grid_to_floats
from .jit import Function, inlined, kernel, kernel_by
from .primitives import ZERO, copy_elements
from .structures import Adjoint, State
from .team import alone
from .training import commit, retract, words_per_step


class Steps(NamedTuple):
    """Single steps by one of the rules."""

    make: Function
    position_before: Function
    undo: Function
    undo_and_pull: Function
    pull_moments: Function


def steps_by(rule: ModuleType) -> Steps:
    """The kernels for single steps by one of the rules."""

    @kernel_by(rule)
    def make_step(tables, state, g, w, made, scratch):
        """Make a step, and leave the weights that it ends with in w (P,) float64.

        The checksum of g goes to its step's place in `made` (T,), or (1,) where nobody asks for it: here, since an
        interrupt can come between the end of this call and whatever is done with what it returns.

        Returns why it was refused, if it was, and the first parameter at fault.
        """
        state = State(*state)
        if state.tail.size - state.cursor[1] < words_per_step(state):
            return outcomes.TAIL_FULL, ZERO
        tables = rule.Tables(*tables)
        t, top, running, _ = state.cursor
        top, fine = rule.step(tables, state, g, t, ZERO, g.size, top, scratch)
        top, landed = rule.finish(tables, state, t, ZERO, g.size, top)
        reason, parameter = outcomes.FINE, ZERO
        if fine and landed:
            commit(state, t + 1, top, checksums.checksum(g))
        else:
            _undo(tables, state, g, t, top, scratch)
            reason, parameter = rule.reason(tables, state, g, t)
        made[min(t, made.size - 1)] = checksums.appended(running, state.cursor[2])
        grid_to_floats(state.w, w)
        return reason, parameter

    @kernel_by(rule)
    def position_before_step(tables, state, spare, w, scratch):
        """The weights before the last step, in w (P,) float64.  The state stays as it is.

        `spare` (1 or 2, P) is used up: the weights, and their carry if they have one.
        """
        _position_before_step(rule.Tables(*tables), State(*state), spare, w, scratch)

    @inlined
    def _position_before_step(tables, state, spare, w, scratch):
        size = state.w.size
        copy_elements(state.w, 0, spare, 0, size)
        copy_elements(state.carry, 0, spare, size, spare.size - size)
        undone = State(spare[0], spare[1:], state.moments, state.heads, state.tail, state.cursor)
        rule.undo_position(tables, undone, state.cursor[0] - 1, ZERO, size, state.cursor[1])
        grid_to_floats(spare[0], w)

    @kernel_by(rule)
    def undo_step(tables, state, g, made, scratch):
        """Undo `make_step`, with the gradient at what `position_before_step` found, of the checksum `made`.

        Returns why it was not undone, if it was not.
        """
        return _undo_step(rule.Tables(*tables), State(*state), g, made, scratch)

    @kernel_by(rule)
    def undo_step_and_pull(tables, state, w, g, made, moments, adjoint, u, scratch):
        """`undo_step`, and C adjoints pulled back through the step's move: the Hessian at w is to be applied to each u.

        Leaves the moments that the step ended with in `moments`, and what `pull_moments` needs with them then in g.
        """
        tables, state = rule.Tables(*tables), State(*state)
        rule.record_before(state, moments, ZERO, g.size)
        reason = _undo_step(tables, state, g, made, scratch)
        if reason == outcomes.FINE:
            rule.record_after(state, g, ZERO, g.size)
            t, adjoint = state.cursor[0], _adjoint(adjoint)
            for each in range(u.shape[0]):
                of_loss = adjoint_kernels.one_of(adjoint, each)
                rule.pull_position(tables, w, moments, g, of_loss, t, u[each], scratch)
        return reason

    @inlined
    def _undo_step(tables, state, g, made, scratch):
        if checksums.checksum(g) != made:
            return outcomes.NOT_REPRODUCED
        t = state.cursor[0] - 1
        top = _undo(tables, state, g, t, state.cursor[1], scratch)
        if top < 0:
            return outcomes.TAIL_EMPTY
        retract(state, t, top, made)
        return outcomes.FINE

    @inlined
    def _undo(tables, state, g, t, top, scratch):
        top = rule.undo_position(tables, state, t, ZERO, g.size, top)
        return rule.undo_moments(tables, state, g, t, ZERO, g.size, top, scratch)

    @kernel_by(rule)
    def pull_moments(tables, state, moments, g, adjoint, hu, spare, w, scratch):
        """The adjoints pulled back through the rest of the step that was undone last; and, if there is a step before
        that, what `position_before_step` finds: one call less a step.

        Returns whether all of hu (C, P) is finite.
        """
        tables, state, adjoint = rule.Tables(*tables), State(*state), _adjoint(adjoint)
        t = state.cursor[0]
        fine = True
        for each in range(hu.shape[0]):
            fine = fine and all_finite(hu[each])
            rule.pull_moments(tables, moments, g, adjoint_kernels.one_of(adjoint, each), t, hu[each], scratch)
            adjoint_kernels.trace(adjoint_kernels.one_of(adjoint, each), t)
        if t > 0:
            _position_before_step(tables, state, spare, w, scratch)
        return fine

    @inlined
    def _adjoint(plain):
        w, moments, sums, norms, first, every = plain
        return Adjoint(w, moments, rule.Adjoint(*sums), None, norms, first, every)

    return Steps(make_step, position_before_step, undo_step, undo_step_and_pull, pull_moments)


@kernel
def step_gradient(objective, record, work, t, w, g):
    """The gradient g of an MLP's step t at the weights w; what `pull_gradient` needs of it goes on record."""
    mlp_objective.step_gradient(objective, record, work, alone(record.progress), t, ZERO, w, g)


@kernel
def pull_gradient(objective, record, work, t, w, tangents, adjoint):
    """The Hessian of that step times tangents.u, and the derivatives of g . u by all that it depends on."""
    mlp_objective.pull_gradient(objective, record, work, t, ZERO, w, tangents, adjoint, False)


@kernel
def multiply(values, heads, tail, cursor, made, n, d, scratch):
    """Multiply all values by n/d, and write down into `made` (capacity, 3) what came of it, beside with what."""
    done, top = cursor
    top = buffer.multiply(values, heads, tail, top, n, d, 0, values.size, scratch)
    made[done, 2] = checksums.checksum(values)
    cursor[0], cursor[1] = done + 1, top


@kernel
def divide(values, heads, tail, cursor, n, d, scratch):
    """Undo `multiply`.  Returns whether no word was missing."""
    done, top = cursor
    top = buffer.divide(values, heads, tail, top, n, d, 0, values.size, scratch)
    if top < 0:
        return False
    cursor[0], cursor[1] = done - 1, top
    return True
