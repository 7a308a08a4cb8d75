"""Single calls for those who go step by step from Python.

Each leaves the state whole: an interrupt comes before such a call or after it, never within.
"""

from __future__ import annotations

from . import adjoint as adjoint_kernels
from . import information_buffer as buffer
from . import momentum
from .checksums import checksum
from .jit import kernel


@kernel
def make_step(rule, state, g, scratch):
    """Returns why the step was refused, if it was, and the first parameter at fault."""
    return momentum.step(rule, state, g, state.cursor[0], scratch)


@kernel
def undo_step(rule, state, g, scratch):
    """Undo `make_step`, with the gradient at `position_before_step`.  Returns whether no word was missing."""
    t = state.cursor[0] - 1
    momentum.undo_position(rule, state, t)
    return momentum.undo_velocity(rule, state, g, t, scratch)


@kernel
def undo_and_pull_position(rule, state, g, v, adjoint, u, scratch):
    """`undo_step`, and the adjoint pulled back through the step's move: u is the direction that H is to be applied to.

    Leaves the velocity that the step ended with in v, and the one that it began with plus the gradient in g, which
    `pull_velocity` takes then.
    """
    t = state.cursor[0] - 1
    momentum.record_before(state, v)
    momentum.undo_position(rule, state, t)
    if not momentum.undo_velocity(rule, state, g, t, scratch):
        return False
    momentum.record_after(state, g)
    momentum.pull_position(rule, v, adjoint, t, u)
    return True


@kernel
def pull_velocity(rule, state, v_plus_g, adjoint, hu):
    """The adjoint pulled back through the rest of the step that was undone last."""
    t = state.cursor[0]
    momentum.pull_velocity(rule, v_plus_g, adjoint, t, hu)
    adjoint_kernels.trace(adjoint, t)


@kernel
def position_before_step(rule, state, w):
    """The weights before the last step, to w (P,) float64."""
    momentum.position_before(rule, state, state.cursor[0] - 1, w)


@kernel
def multiply(values, heads, tail, cursor, made, n, d, scratch):
    """Multiply all values by n/d, and write down into `made` (capacity, 3) what came of it, beside with what."""
    done, top = cursor
    top = buffer.multiply(values, heads, tail, top, n, d, 0, values.size, scratch)
    made[done, 2] = checksum(values)
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
