"""All steps of a run, there and back, in pieces between which Ctrl-C, progress bars and onlookers are seen to."""

from __future__ import annotations

from typing import Any

from fastrev._engine import pooled, refusals
from fastrev._engine.lookers import Audience, Keeper
from fastrev._engine.problem import Problem
from fastrev._engine.progress import progress_bar
from fastrev._engine.tail import Tail
from fastrev._engine.walk import Undo, Walk
from fastrev.kernels import outcomes
from fastrev.kernels.structures import State


def advance(
    problem: Problem, walk: Walk, state: State, tail: Tail, progress: bool, audience: Audience, run: Any
) -> None:
    """Make all steps that are left, or as many as the audience wants to see."""
    impatient = progress or (audience.keeper is not None and audience.keeper.impatient)
    chunk, end = walk.chunk_steps(impatient), 0
    if int(state.cursor[0]) < problem.steps:
        tail.make_room(state)
    with progress_bar(progress, problem.steps, "training", done=int(state.cursor[0])) as tick:
        while audience.goes_on(state) and (done := int(state.cursor[0])) < problem.steps:
            pooled.heed()
            if done >= end:
                end = min(done + chunk, problem.steps)
                make = walk.maker(done, end)
            reason, parameter = make(state, min(end, audience.due))
            tick(int(state.cursor[0]) - done)
            if reason == outcomes.TAIL_FULL:
                tail.make_room(state)
            elif reason != outcomes.FINE:
                raise refusals.divergence(problem, int(state.cursor[0]), reason, parameter, run)


def take_back(
    problem: Problem, state: State, undo: Undo, chunk: int, progress: bool, keeper: Keeper | None, run: Any
) -> list[str]:
    """Undo all steps.  Returns how the state then differs from the start; empty if in nothing."""
    with progress_bar(progress, int(state.cursor[0]), "reversing") as tick:
        while (left := int(state.cursor[0])) > 0:
            pooled.heed()
            reason = undo(max(left - chunk, 0 if keeper is None else keeper.floor(left)))
            tick(left - int(state.cursor[0]))
            if reason == outcomes.NOT_REPRODUCED:
                raise refusals.not_reproduced(problem, int(state.cursor[0]) - 1, run)
            if reason != outcomes.FINE:
                return [f"the stored information ran out at step {state.cursor[0] - 1}"]
            if keeper is not None and state.cursor[0] > 0:  # the start is written once it is proved
                keeper.look(state)
    return problem.faults(state)
