"""The tuples of structures.py without their names, as Python hands them over, and by their names again.

Numba recognises a call by the types of all that is in its tuples, and of a named one it encodes every name as well:
that took 6.8 of the 7.3 us of a call of `make` for no steps, and with plain tuples of the same arrays takes 1.2.  The
four calls of a meta-gradient of one tiny step made 28 of its 439 us (`python -m bench.calls`).
"""

from __future__ import annotations

from typing import Any

from .jit import inlined
from .structures import Adjoint, Data, Network, Objective, ObjectiveAdjoint, Passes, Record, Steps

Plain = tuple[Any, ...]


def of_objective(objective: Objective) -> Plain:
    return (tuple(objective.net), tuple(objective.data), *objective[2:])


@inlined
def objective_of(plain):
    net, data, examples, l2, rows, first = plain
    return Objective(Network(*net), Data(*data), examples, l2, rows, first)


def of_record(record: Record) -> Plain:
    return tuple(record.steps), tuple(record.passes), record.progress


@inlined
def record_of(plain):
    steps, passes, progress = plain
    return Record(Steps(*steps), Passes(*passes), progress)


def of_adjoint(adjoint: Adjoint) -> Plain:
    w, moments, sums, objective, *norms = adjoint
    return (w, moments, tuple(sums), None if objective is None else tuple(objective), *norms)


@inlined
def adjoint_of(plain, sums_of):
    w, moments, sums, objective, norms, first, every = plain
    return Adjoint(w, moments, sums_of(*sums), ObjectiveAdjoint(*objective), norms, first, every)
