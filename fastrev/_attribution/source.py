"""A training and the losses that are asked about: where effects, and the real changes, come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fastrev._attribution.columns import Columns
from fastrev._attribution.queries import ExampleQueries, Queries
from fastrev._engine import chaos
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.problem import Problem
from fastrev._engine.python_objective import theta_name
from fastrev._engine.types import AnyArray, FloatArray, Ints
from fastrev._engine.walk import Trace
from fastrev.errors import DivergenceError, ReversalError, TrainingInterrupt
from fastrev.runs import Run, make_all_steps

# Of what a reversal holds for all queries together.  More are taken in blocks, each by a training and a reversal of its
# own, and a query that takes more in a block by itself.
_BLOCK_BYTES = 2**28


Accept = Callable[[FloatArray], None]  # raises, if it does not


def everything(w: FloatArray) -> None:
    """Accept any weights."""


class Block(NamedTuple):
    """Some queries, after one training and one reversal."""

    which: Ints  # (K,)
    losses: FloatArray  # (K,)
    effects: FloatArray  # (K, N): of leaving out each example
    w: FloatArray  # (P,): the final weights, the same of all blocks


@dataclass(frozen=True)
class Effects:
    """What an `Attribution` holds beside its source."""

    effects: FloatArray
    losses: FloatArray
    w: FloatArray
    groups: AnyArray | None


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
        return replace(self, queries=ExampleQueries(trained.model, trained.data, trained.examples, "train"))

    def require_unchanged(self) -> None:
        """Refuse data that are no longer those of the effects."""
        if changed := self.problem.changed():
            raise ReversalError(
                f"{' and '.join(changed)} changed in place after the attribution, whose effects are of what was there "
                "before. Leave such arrays alone, or attribute again."
            )

    def effects(self, progress: bool, accept: Accept = everything) -> Effects:
        """Those of all columns on all queries; `accept` is given the final weights before the way back."""
        count = self.queries.count
        effects, losses = np.empty((count, self.columns.count)), np.empty(count)
        for block in self.blocks(np.arange(count), progress, accept):
            effects[block.which], losses[block.which] = self.columns.gathered(block.effects), block.losses
        return Effects(effects, losses, block.w, self.columns.labels)

    def blocks(self, which: Ints, progress: bool, accept: Accept = everything) -> Iterator[Block]:
        """Effects on these queries."""
        most = max(1, _BLOCK_BYTES // bytes_of_a_query(self.problem))
        for first in range(0, len(which), most):
            yield self._block(which[first : first + most], progress, accept)

    def _block(self, which: Ints, progress: bool, accept: Accept) -> Block:
        run = Run(self.problem)
        make_all_steps(run, progress)
        w = run.w
        accept(w)
        losses, gradients = self.queries.cotangents(w, which)
        _require_finite(run, self.queries.name, which, losses, gradients)
        with chaos.naming(self.queries.name, which):
            by_weights = self._by_weights(run, gradients, progress)
        return Block(which, losses, -weights_of(self.problem, self.name) * by_weights, w)

    def losses_without(self, subset: int, without: Ints, redraw: bool) -> FloatArray:
        """The losses (Q,) after a training without these columns, which are the subset of this number."""
        self.require_unchanged()
        run = Run(self._without(self.columns.left(without), redraw))
        try:
            make_all_steps(run, False)
        except TrainingInterrupt:
            raise KeyboardInterrupt from None  # what was trained so far is of no use to anyone
        except DivergenceError as error:
            message = f"In the retraining without subsets[{subset}]: {error}"
            raise DivergenceError(message, step=error.step, group=error.group, run=error.run) from None
        losses = self.queries.losses(run.w)
        for query in np.flatnonzero(~np.isfinite(losses))[:1]:
            raise DivergenceError(
                f"The loss of {self.queries.name}[{query}] after the retraining without subsets[{subset}] is "
                f"{losses[query]:g}. The likely cause is a learning rate that is nearly too high.",
                step=run.stats.steps, group="", run=run,
            )  # fmt: skip
        return losses

    def _without(self, left: FloatArray, redraw: bool) -> Problem:
        """The problem with these shares of the weights: 0 at the same steps, or with batches of the others alone."""
        weights, trained = left * weights_of(self.problem, self.name), self.problem.trained
        if isinstance(trained, MLPObjective):
            other = trained.with_weights(weights)
            other = other.among(np.flatnonzero(left)) if redraw else other
            return replace(self.problem, trained=other, imprints=self.problem.imprints | other.imprints)
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


def bytes_of_a_query(problem: Problem) -> int:
    """What a reversal holds for each loss that it is given, at its end, where it holds most."""
    trained, rule = problem.trained, problem.rule
    vectors = 2 + len(rule.moments)  # its gradient, and the adjoints of the weights and moments
    of_rule = _size(rule.new_adjoint())  # the derivatives by its numbers, whatever is asked for
    twice = Trace(range(problem.steps), np.empty((1, 0))).norms.size  # the norms, once more as they are handed over
    if isinstance(trained, MLPObjective):
        own = 2 * trained.examples  # the derivatives by the weights, and the effects
    else:
        vectors += 2  # the direction, and the Hessian times it
        sums = trained.new_sums(("theta",)).values()  # all hyperparameters, of which it cannot be asked for one
        twice, own = twice + _size(sums), max(each.size for each in sums)
    return 8 * (vectors * trained.num_params + of_rule + 2 * twice + own)


def _size(arrays: Iterable[FloatArray]) -> int:
    return sum(each.size for each in arrays)


def losses_without(source: Source, task: tuple[int, Ints, bool]) -> FloatArray:
    """For a pool to call."""
    return source.losses_without(*task)


def _require_finite(run: Run, name: str, which: Ints, losses: FloatArray, gradients: FloatArray) -> None:
    """Refuse losses from which no derivative can begin."""
    fine = np.isfinite(losses) & np.isfinite(gradients).all(axis=1)
    if not fine.all():
        at = int(np.argmin(fine))
        raise DivergenceError(
            f"The loss of {name}[{which[at]}] after training is {losses[at]:g} and its gradient is not finite. The "
            "likely cause is a learning rate that is too high, or queries on another scale than the training inputs.",
            step=run.stats.steps, group="", run=run,
        )  # fmt: skip
