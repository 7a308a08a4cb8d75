"""Which walk there is through a training."""

from __future__ import annotations

from fastrev._engine.compiled_walk import CompiledWalk
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.problem import Problem
from fastrev._engine.python_walk import PythonWalk
from fastrev._engine.tail import Tail
from fastrev._engine.walk import Walk


def walk_through(problem: Problem, tail: Tail) -> Walk:
    """The compiled one of an MLP, or that in Python."""
    trained, rule, steps = problem.trained, problem.rule, problem.steps
    if isinstance(trained, MLPObjective):
        return CompiledWalk(trained, rule, steps, tail)
    return PythonWalk(trained, rule, steps, tail)
