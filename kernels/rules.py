"""The rules by which a step can be made, and what walks through a training by each of them.

A step can be undone where what it adds to the weights depends on the *new* moments alone: the weights then come back
first, the gradient is taken there once more, and then each moment is undone by its own exact division.  SGD with
momentum is such a rule, Adam another.  Nesterov's momentum, plain SGD, plain RMSprop and Lion are not: what they add
depends on the gradient at the weights that are to be found.

A rule is a room of its own.  It offers two tuples, `Tables` of what its steps are made with and `Adjoint` of the
derivatives by them, and these functions, on step t of a `State`; `moments` (M, P) and g (P,) are in the precision of
the gradient's arithmetic.  Two threads may each do a share of it (team.py):

    step(tables, state, g, t, low, high, top, scratch)
                                                  makes step t of a share of the parameters, low <= p < high, but for
    finish(tables, state, t, low, high, top)      what is to be undone first.  Both return the new top of the tail,
                                                  which has room for a step, and whether all stayed on its grid: a step
                                                  that did not is undone
    FINISHES                                      whether `finish` does anything
    undo_position(tables, state, t, low, high, top)
                                                  the first half of the undo: the weights.  Returns the new top, or -1
                                                  if a word was missing, or top was -1
    undo_moments(tables, state, g, t, low, high, top, scratch)
                                                  the second half, with the gradient at those weights.  Returns likewise
    reason(tables, state, g, t)                   why a step from this state is refused, and the first parameter at
                                                  fault
    record_before(state, moments, low, high)      what the adjoint needs of the state before a step is undone,
    record_after(state, g, low, high)             and after it, in place of g
    DIRECTION_TAKES_GRADIENT                      whether `pull_position` needs the latter
    pull_position(tables, w, moments, g, adjoint, t, u, scratch)
                                                  pulls the adjoint back through what the step made of the weights, and
                                                  chooses the direction u of the Hessian-vector product at w
    pull_moments(tables, moments, g, adjoint, t, hu, scratch)
                                                  pulls it back through the new moments, given the Hessian times u

The walks are compiled once for each rule, as what a rule does becomes part of them before types are known.  Numba could
choose by the type of the tables instead (`numba.extending.overload`): as functions of their own they take twice as long
to compile, and those that are inlined lose stores whose array nobody reads in the same kernel.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from . import adam, adjoint, by_hand, momentum, training
from .jit import Function


class Walks(NamedTuple):
    """The kernels of one rule."""

    make: Function  # of training.py
    take_back: Function
    undo: Function
    pull: Function  # of adjoint.py
    by_hand: by_hand.Steps
    direction_takes_gradient: bool


def _walks_by(rule: ModuleType) -> Walks:
    return Walks(*training.walks_by(rule), adjoint.pull_by(rule), by_hand.steps_by(rule), rule.DIRECTION_TAKES_GRADIENT)


BY_MOMENTUM = _walks_by(momentum)
BY_ADAM = _walks_by(adam)
