"""Single calls for those who go step by step from Python.

Each leaves the state whole: an interrupt comes before such a call or after it, never within.

`rule`, `state` and `adjoint` come as plain tuples, ``tuple(state)``: with named ones a call takes 2.7 us, most of it to
recognise them, with plain ones of the same arrays 1.1 (`python -m bench.choices named`).
"""

from __future__ import annotations

from . import adjoint as adjoint_kernels
from . import checksums, mlp_objective, momentum, outcomes
from . import information_buffer as buffer
from .checks import all_finite
from .fixed_point import grid_to_floats
from .jit import inlined, kernel
from .primitives import ZERO, copy_elements
from .structures import Adjoint, Momentum, MomentumAdjoint, State


@kernel
def make_step(rule, state, g, w, made, scratch):
    """Make a step, and leave the weights that it ends with in w (P,) float64.

    The checksum of g goes to its step's place in `made` (T,), or (1,) where nobody asks for it: here, since an
    interrupt can come between the end of this call and whatever is done with what it returns.

    Returns why it was refused, if it was, and the first parameter at fault.
    """
    state = State(*state)
    if state.tail.size - state.cursor[1] < buffer.WORDS_PER_STEP * state.w.size:
        return outcomes.TAIL_FULL, ZERO
    t, _, running = state.cursor
    reason, parameter = momentum.step(Momentum(*rule), state, g, t, scratch)
    made[min(t, made.size - 1)] = checksums.appended(running, state.cursor[2])
    grid_to_floats(state.w, w)
    return reason, parameter


@kernel
def position_before_step(rule, state, before, w):
    """The weights before the last step, to `before` on the grid and to w (P,) float64.  The state stays as it is."""
    _position_before_step(Momentum(*rule), State(*state), before, w)


@inlined
def _position_before_step(rule, state, before, w):
    copy_elements(state.w, 0, before, 0, before.size)
    undone = State(before, state.v, state.heads, state.tail, state.cursor)
    momentum.undo_position(rule, undone, state.cursor[0] - 1)
    grid_to_floats(before, w)


@kernel
def undo_step(rule, state, before, g, made, scratch):
    """Undo `make_step`, with what `position_before_step` found and the gradient there, of the checksum `made`.

    Returns why it was not undone, if it was not.
    """
    return _undo_step(Momentum(*rule), State(*state), before, g, made, scratch)


@kernel
def undo_step_and_pull(rule, state, before, g, made, v, adjoint, u, scratch):
    """`undo_step`, and the adjoint pulled back through the step's move: the Hessian is to be applied to u.

    Leaves the velocity that the step ended with in v, and the one that it began with plus the gradient in g, which
    `pull_velocity` takes then.
    """
    rule, state = Momentum(*rule), State(*state)
    momentum.record_before(state, v)
    reason = _undo_step(rule, state, before, g, made, scratch)
    if reason == outcomes.FINE:
        momentum.record_after(state, g)
        momentum.pull_position(rule, v, _adjoint(adjoint), state.cursor[0], u)
    return reason


@inlined
def _undo_step(rule, state, before, g, made, scratch):
    if checksums.checksum(g) != made:
        return outcomes.NOT_REPRODUCED
    copy_elements(before, 0, state.w, 0, before.size)
    fine = momentum.undo_velocity(rule, state, g, state.cursor[0] - 1, scratch)
    return outcomes.FINE if fine else outcomes.TAIL_EMPTY


@kernel
def pull_velocity(rule, state, v_plus_g, adjoint, hu, before, w):
    """The adjoint pulled back through the rest of the step that was undone last; and, if there is a step before that,
    what `position_before_step` finds: one call less a step.

    Returns whether hu is finite.
    """
    rule, state, adjoint = Momentum(*rule), State(*state), _adjoint(adjoint)
    t = state.cursor[0]
    fine = all_finite(hu)
    momentum.pull_velocity(rule, v_plus_g, adjoint, t, hu)
    adjoint_kernels.trace(adjoint, t)
    if t > 0:
        _position_before_step(rule, state, before, w)
    return fine


@inlined
def _adjoint(plain):
    w, v, rule, norms, first, every = plain
    return Adjoint(w, v, MomentumAdjoint(*rule), None, norms, first, every)


@kernel
def step_gradient(objective, record, work, t, w, g):
    """The gradient g of an MLP's step t at the weights w; what `pull_gradient` needs of it goes on record."""
    mlp_objective.step_gradient(objective, record, work, t, ZERO, w, g)


@kernel
def pull_gradient(objective, record, work, t, w, tangents, adjoint):
    """The Hessian of that step times tangents.u, and the derivatives of g . u by all that it depends on."""
    mlp_objective.pull_gradient(objective, record, work, t, ZERO, w, tangents, adjoint)


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
