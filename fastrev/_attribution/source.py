"""A training and the losses that are asked about: where effects, and the real changes, come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fastrev._attribution.columns import Columns
from fastrev._attribution.queries import ExampleQueries, Queries
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.problem import Problem
from fastrev._engine.python_objective import theta_name
from fastrev._engine.types import FloatArray, Ints
from fastrev.errors import DivergenceError
from fastrev.training import Run, make_all_steps

# Of what a reversal holds for each query: its derivatives by N weights, its adjoint, and tangents of 4 P numbers.
# More queries are taken in blocks, each by a training and a reversal of its own.
_BLOCK_BYTES = 2**28


class Block(NamedTuple):
    """Some queries, after one training and one reversal."""

    which: Ints  # (K,)
    losses: FloatArray  # (K,)
    effects: FloatArray  # (K, N): of leaving out each example
    run: Run


@dataclass(frozen=True)
class Source:
    """Checked once, and then good for any number of trainings."""

    problem: Problem
    name: str | None  # of the example weights among an Objective's hyperparameters; None: an MLP's own
    queries: Queries
    columns: Columns

    def of_its_own_examples(self) -> Source:
        """The same, asked about the loss of each training example of a network."""
        trained = self.problem.trained
        assert isinstance(trained, MLPObjective)
        return replace(self, queries=ExampleQueries(trained.model, trained.data, trained.examples))

    def blocks(self, which: Ints, progress: bool) -> Iterator[Block]:
        """Effects on these queries."""
        weights, size = weights_of(self.problem, self.name), self.problem.trained.num_params
        most = max(1, _BLOCK_BYTES // (8 * (weights.size + 6 * size)))
        for first in range(0, len(which), most):
            part = which[first : first + most]
            run = Run(self.problem)
            make_all_steps(run, progress)
            losses, gradients = self.queries.cotangents(run.w, part)
            _require_finite(run, part, losses, gradients)
            yield Block(part, losses, -weights * self._by_weights(run, gradients, progress), run)

    def losses_without(self, without: Ints, redraw: bool) -> FloatArray:
        """The losses (Q,) after a training without these columns."""
        run = Run(self._without(self.columns.left(without), redraw))
        make_all_steps(run, False)
        return self.queries.losses(run.w)

    def _without(self, left: FloatArray, redraw: bool) -> Problem:
        """The problem with these shares of the weights: 0 at the same steps, or with batches of the others alone."""
        weights, trained = left * weights_of(self.problem, self.name), self.problem.trained
        if isinstance(trained, MLPObjective):
            other = trained.with_weights(weights)
            other = other.among(np.flatnonzero(left)) if redraw else other
            return replace(self.problem, trained=other, checksums=self.problem.checksums | other.checksums)
        return self.problem.with_value(theta_name(str(self.name)), weights)

    def _by_weights(self, run: Run, gradients: FloatArray, progress: bool) -> FloatArray:
        """Derivatives (K, N) of the losses with these gradients (K, P) by the example weights."""
        wrt = ("example_weights",) if self.name is None else ("theta",)
        grad: Any = run.pullback(gradients, wrt=wrt, progress=progress)
        by_weights: FloatArray = grad.example_weights if self.name is None else grad.theta[self.name]
        return by_weights


def weights_of(problem: Problem, name: str | None) -> FloatArray:
    """Those of the examples, (N,), by the name that they have among an Objective's hyperparameters."""
    trained = problem.trained
    return trained.weights if isinstance(trained, MLPObjective) else trained.theta()[str(name)]


def losses_without(source: Source, task: tuple[Ints, bool]) -> FloatArray:
    """For a pool to call."""
    return source.losses_without(*task)


def _require_finite(run: Run, which: Ints, losses: FloatArray, gradients: FloatArray) -> None:
    """Refuse losses from which no derivative can begin."""
    fine = np.isfinite(losses) & np.isfinite(gradients).all(axis=1)
    if not fine.all():
        at = int(np.argmin(fine))
        raise DivergenceError(
            f"The loss of query {which[at]} after training is {losses[at]:g} and its gradient is not finite. The "
            "likely cause is a learning rate that is too high, or queries on another scale than the training inputs.",
            step=run.stats.steps, group="", run=run,
        )  # fmt: skip
