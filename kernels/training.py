"""The two walks through a training: steps made, and steps undone, mirrored line by line.

All tuples come without their names (plain.py).
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from . import checksums, handover, outcomes
from . import information_buffer as buffer
from . import team as teams
from .fixed_point import grid_to_floats
from .jit import Function, inlined, kernel, kernel_by
from .mlp_objective import step_gradient
from .plain import objective_of, record_of
from .primitives import ZERO, copy_elements, wrapping_add
from .structures import State, Team, Workspace

OFF, CROWDED = np.int64(1), np.int64(2)  # of a step: it left its grid; the cores are not there for two threads


def walks_by(rule: ModuleType) -> tuple[Function, Function, Function]:
    """`make`, `take_back` and `undo` for one of the rules."""

    @kernel_by(rule)
    def make(objective, tables, state, record, work, team, stop):
        """Make steps until `stop` are done.  Returns why it ended: after a step that must not stay, take it back."""
        objective, tables, state = objective_of(objective), rule.Tables(*tables), State(*state)
        record, work, team = record_of(record), Workspace(*work), Team(*team)
        if not teams.begin(team):
            return outcomes.GIVEN_UP
        kept = team.me == 0 and handover.keep_to_core(team.progress)
        reason = _make(objective, tables, state, record, work, team, stop)
        handover.let_go(team.progress, kept)
        return reason

    @inlined
    def _make(objective, tables, state, record, work, team, stop):
        w, g = record.steps.w[0], record.steps.g[0]
        low, high = teams.parameters_of(team, w.size)
        t, top = state.cursor[0], state.cursor[1]
        grid_to_floats(state.w[low:high], w[low:high])
        while t < stop:
            if state.tail.size - top < words_per_step(state):
                return outcomes.TAIL_FULL
            teams.meet(team)
            step_gradient(objective, record, work, team, t, ZERO, w, g)
            top, verdict, gradient = _step(tables, state, g, t, team, top, w, work.scratch)
            t += 1
            if team.me == 0:
                commit(state, t, top, gradient)
            if verdict & OFF:
                return outcomes.REFUSED
            if verdict & CROWDED:
                return outcomes.CROWDED
        return outcomes.FINE

    @inlined
    def _step(tables, state, g, t, team, top, w, scratch):
        """The new top of the tail, what is to be said of the step, and the checksum of its gradient; the weights in w.

        Each pass goes through all of a share: in pieces of 1024 to 8192 parameters, which would stay in the cache from
        pass to pass, a step takes as long, and at a million parameters 1.1 times (`python -m bench.choices pieces`).
        """
        verdict = CROWDED if teams.waits_in_vain(team) else ZERO
        top, verdict, gradient = _begin_step(tables, state, g, t, team, top, verdict, w, scratch)
        if rule.FINISHES:
            teams.meet(team)  # until the first thread has brought the words of both together
            top, verdict = _finish_step(tables, state, t, team, top, verdict, w)
        return top, verdict, gradient

    @inlined
    def _begin_step(tables, state, g, t, team, top, verdict, w, scratch):
        gradient = ZERO
        first, last = teams.shares_of(team)
        second = top + buffer.WORDS_PER_STEP * state.heads.shape[0] * team.cut  # behind all that the first may push
        begin = mine = second if team.me else top
        for which in range(first, last + 1):
            low, high = teams.share(team, which, g.size)
            gradient = wrapping_add(gradient, checksums.checksum_of_part(g, low, high))
            mine, on_grid = rule.step(tables, state, g, t, low, high, mine, scratch)
            verdict |= ZERO if on_grid else OFF
            if not rule.FINISHES:
                grid_to_floats(state.w[low:high], w[low:high])
        return _close_ranks(state.tail, team, top, begin, mine, second, verdict, gradient)

    @inlined
    def _finish_step(tables, state, t, team, top, verdict, w):
        first, last = teams.shares_of(team)
        second = top + state.carry.shape[0] * team.cut
        begin = mine = second if team.me else top
        for which in range(first, last + 1):
            low, high = teams.share(team, which, w.size)
            mine, on_grid = rule.finish(tables, state, t, low, high, mine)
            verdict |= ZERO if on_grid else OFF
            grid_to_floats(state.w[low:high], w[low:high])
        top, verdict, _ = _close_ranks(state.tail, team, top, begin, mine, second, verdict, ZERO)
        return top, verdict

    @kernel_by(rule)
    def take_back(tables, state, record, team, scratch):
        """Undo the step that `make` has just made and refused, by a thread alone, with the gradient that is on record.

        Returns why it was refused, and the first parameter at fault.  Until then it is a step like any other: all of
        its arithmetic is modulo 2**64.
        """
        tables, state, record, team = rule.Tables(*tables), State(*state), record_of(record), Team(*team)
        t, moments, g = state.cursor[0] - 1, record.steps.moments[0], record.steps.g[0]
        top = _undo_position(tables, state, t, team, state.cursor[1], record.steps.w[0], moments)
        copy_elements(g, ZERO, moments, ZERO, g.size)
        top, gradient = _undo_moments(tables, state, t, team, top, moments[0], scratch)
        retract(state, t, top, gradient)
        return rule.reason(tables, state, g, t)

    @kernel_by(rule)
    def undo(objective, tables, state, record, work, team, stop):
        """Undo steps until `stop` are done, each going on record for adjoint.py to read.  Returns why it ended."""
        objective, tables, state = objective_of(objective), rule.Tables(*tables), State(*state)
        record, work, team = record_of(record), Workspace(*work), Team(*team)
        if not teams.begin(team):
            return outcomes.GIVEN_UP
        kept = team.me == 0 and handover.keep_to_core(team.progress)
        reason = _undo(objective, tables, state, record, work, team, stop)
        handover.let_go(team.progress, kept)
        return reason

    @inlined
    def _undo(objective, tables, state, record, work, team, stop):
        progress = record.progress
        steps, blocks = progress[handover.STEPS_WRITTEN], progress[handover.BLOCKS_WRITTEN]
        t, top = state.cursor[0], state.cursor[1]
        while t > stop:
            if state.cursor[3] > 0 and top < words_per_step(state):
                return outcomes.TAIL_LOW
            t -= 1
            slots = record.steps.w.shape[0]
            slot = steps % slots
            w, moments, g = record.steps.w[slot], record.steps.moments[slot], record.steps.g[slot]
            if not handover.wait(progress, handover.STEPS_READ, steps - slots + 1):
                return outcomes.GIVEN_UP
            top = _undo_position(tables, state, t, team, top, w, moments)
            top, _, _ = _agree(team, top, ZERO, ZERO)
            if top < 0:
                return outcomes.TAIL_EMPTY
            blocks = step_gradient(objective, record, work, team, t, blocks, w, g)
            top, gradient = _undo_moments(tables, state, t, team, top, g, work.scratch)
            verdict = CROWDED if teams.waits_in_vain(team) else ZERO
            top, gradient, verdict = _agree(team, top, gradient, verdict)
            if top < 0:
                return outcomes.TAIL_EMPTY
            steps += 1
            if team.me == 0:
                retract(state, t, top, gradient)
                handover.announce(progress, handover.STEPS_WRITTEN, steps)
            if verdict & CROWDED:
                return outcomes.CROWDED
        return outcomes.FINE

    @inlined
    def _undo_position(tables, state, t, team, top, w, moments):
        """The new top of the tail; what the adjoint needs of the moments goes on record, and so do the weights."""
        first, last = teams.shares_of(team)
        if state.carry.size:  # else there are no words, and nobody waits for anybody
            top = teams.receive(team, top)
        for which in range(last, first - 1, -1):
            low, high = teams.share(team, which, w.size)
            rule.record_before(state, moments, low, high)
            top = rule.undo_position(tables, state, t, low, high, top)
            grid_to_floats(state.w[low:high], w[low:high])
        if state.carry.size:
            teams.pass_on(team, top)
        return top

    @inlined
    def _undo_moments(tables, state, t, team, top, g, scratch):
        """The new top of the tail, and the checksum of the gradient, in whose place goes what the adjoint needs."""
        gradient = ZERO
        first, last = teams.shares_of(team)
        top = teams.receive(team, top)
        for which in range(last, first - 1, -1):
            low, high = teams.share(team, which, g.size)
            gradient = wrapping_add(gradient, checksums.checksum_of_part(g, low, high))
            top = rule.undo_moments(tables, state, g, t, low, high, top, scratch)
            rule.record_after(state, g, low, high)
        teams.pass_on(team, top)
        return top, gradient

    return make, take_back, undo


@inlined
def words_per_step(state):
    """Words that a step can push: those of its multiplications, and one of each carry (shrinking.py)."""
    return buffer.WORDS_PER_STEP * state.heads.size + state.carry.size


@kernel
def _close_ranks(tail, team, top, begin, mine, second, verdict, gradient):
    """Bring the words of the second thread, which begin at `second`, down to those of the first.

    Each has pushed from `begin` on, up to `mine`.  Returns the new top, what either thread has to say, and the checksum
    of the whole gradient.
    """
    pushed, others, other = teams.tell(team, mine - begin, verdict, gradient)
    if team.size > 1:
        if team.me == 0:
            _bring_down(tail, second, mine, pushed)
        mine = top + mine - begin + pushed
    return mine, verdict | others, wrapping_add(gradient, other)


@kernel
def _bring_down(tail, source, to, count):
    for i in range(count):
        tail[to + i] = tail[source + i]


@kernel
def _agree(team, top, gradient, verdict):
    """The top of the tail as the first thread, the last to pop, leaves it; the checksum of the whole gradient; and what
    either thread has to say.
    """
    last, other, others = teams.tell(team, top, gradient, verdict)
    if team.me:
        top = last
    return top, wrapping_add(gradient, other), verdict | others


@inlined
def commit(state, done, top, gradient):
    """A step with a gradient of this checksum was made: now so many are done.

    It is the last that a step writes to a state.
    """
    state.cursor[0], state.cursor[1], state.cursor[2] = done, top, checksums.append(state.cursor[2], gradient)


@inlined
def retract(state, done, top, gradient):
    """Undo `commit`: so many are left."""
    state.cursor[0], state.cursor[1], state.cursor[2] = done, top, checksums.remove(state.cursor[2], gradient)
