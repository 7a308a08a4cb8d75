"""The outer loop: descent by noisy gradients that never falls over the edge of chaos.

A meta-step makes several runs of fresh seeds, averages their gradients, each clipped to the running median of norms,
and moves by Adam.  The step is then tried on the seeds that made it: where the loss rises it is taken back and the rate
halved.  Where most runs explode or are refused, learning rates are lowered before anything else.  In the end the start,
the best so far and the last are held against each other on seeds that none of them was chosen by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from fastrev._engine.types import FloatArray
from fastrev._engine.walk import norm
from fastrev._tuning.account import History
from fastrev._tuning.adam import Moments
from fastrev._tuning.space import Space, Values
from fastrev._tuning.trials import Outcome, Trial
from fastrev.errors import DivergenceError

Each = Callable[[Sequence[Trial]], list[Outcome]]

RISE = 0.02  # of the loss that a step may bring on its seeds
RECOVERY = 1.15  # of the rate, with every step that is taken
SMOOTHING = 0.85  # of the moving average that the best is chosen by
_WINDOW = 20  # meta-steps whose norms the median is of
_JUDGING_RUNS = 16  # of each candidate for the end, at least
_SHARE = 20  # and one for so many that were differentiated: some 5 % more time for a loss that is known to some 5 %
_DOUBLINGS = 40  # or halvings of the learning rates at the start, before it is given up
_MISSES = 3  # halvings in a row that lower nothing before there are no more
# Growth of derivatives on their way back beyond which a run is lost.  From 1e3 on (`fastrev._engine.chaos`) they say
# nothing of their run, but clipped and averaged they still point down on the whole
EXPLOSION = 1e6
_STEPS, _CHOICE, _SEARCH = range(3)  # what seeds are for


@dataclass(frozen=True)
class Plan:
    """How long, how far, by how many runs."""

    meta_steps: int
    meta_lr: float
    runs: int
    seed: int
    random: bool = True  # whether a run depends on its seed
    patience: int | None = None
    brake: str | None = None  # what is lowered where runs explode: the learning rates, which move in log


@dataclass
class Progress:
    """Where the loop stands, whole between any two meta-steps."""

    z: FloatArray
    moments: Moments
    best: FloatArray
    start_loss: float = np.inf  # mean of the first runs
    average: float = np.nan  # of the loss, moving
    lowest: float = np.inf  # of these averages
    lowest_at: int = 0
    scale: float = 1.0  # of the rate
    nit: int = 0
    nfev: int = 0  # runs made
    refused: int = 0  # steps taken back
    diverged: int = 0  # runs that were refused or exploded
    history: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in History._fields})

    def copy(self) -> Progress:
        """Another, which shares nothing that changes."""
        return replace(self, history={name: list(each) for name, each in self.history.items()})


class Choice(NamedTuple):
    """What the loop ends at."""

    z: FloatArray
    loss: float  # mean of its final runs that ended
    start_loss: float  # the same of the start, infinite if more of its runs were lost
    lost: int = 0  # of the final runs
    runs: int = 0


class Descent:
    """The loop."""

    def __init__(self, space: Space, start: FloatArray, plan: Plan) -> None:
        self.space, self.plan = space, plan
        self._start = start
        self.each: Each = _nobody  # makes the runs
        self._found: Choice | None = (
            None  # by the search along the rates: an interrupt keeps it, a checkpoint begins anew
        )
        zeros = np.zeros_like(start)
        self.progress = self._now = Progress(start, Moments(zeros, zeros), start)

    @property
    def done(self) -> str:
        """Why there is nothing more to do; empty if there is."""
        progress, plan = self.progress, self.plan
        if progress.nit >= plan.meta_steps:
            return f"All {plan.meta_steps} meta-steps were made."
        if plan.patience is not None and progress.nit - progress.lowest_at >= plan.patience:
            return f"The moving average of the loss has not fallen for {plan.patience} meta-steps."
        return ""

    def step(self) -> None:
        """One meta-step."""
        progress = self._now = self.progress.copy()  # an interrupt leaves the old one, which is whole
        if progress.nit == 0 and self.plan.brake is not None:
            self._search_along_the_rates()
        seeds = self._seeds(_STEPS, progress.nit, self.plan.runs)
        outcomes = self._try(progress.z, seeds, differentiate=True)
        before = np.array([each.loss for each in outcomes])
        if progress.nit == 0 and self.plan.brake is None:
            progress.start_loss = mean_of_finite(before)
        # by rates that the search found good on other seeds they are lowered again
        if progress.nit == 0 and np.isinf(before).all() and (self._found is None or np.isinf(self._found.loss)):
            raise DivergenceError(f"No run of the first meta-step ended: {outcomes[0].refusal}", step=-1, group="")
        useful = [each.gradients for each in outcomes if each.gradients is not None and each.growth <= EXPLOSION]
        progress.diverged += len(outcomes) - len(useful)
        length, rate, accepted = np.nan, 0.0, False
        if 2 * len(useful) < len(outcomes):
            accepted = self._brake(seeds, before)
        if not accepted:
            length, rate, accepted = self._descend(useful, seeds, before)
        self._look_at(before, length, rate, accepted)
        self.progress = progress

    def _descend(self, gradients: list[Values], seeds: list[int], before: FloatArray) -> tuple[float, float, bool]:
        """A step by Adam, if it does not raise the loss.  Returns the gradients' norm, the rate, and whether."""
        progress, plan = self._now, self.plan
        values = self.space.values(progress.z)
        pulled = [self.space.pull(values, each) for each in gradients]
        if not pulled:
            progress.z, progress.scale, progress.refused = progress.best, 0.5 * progress.scale, progress.refused + 1
            return np.nan, 0.0, False
        length, gradient = self._mean(pulled)
        moments = progress.moments.after(gradient)
        rate = plan.meta_lr * progress.scale * (0.5 + 0.5 * np.cos(np.pi * progress.nit / plan.meta_steps))
        z = self.space.within(progress.z + rate * moments.direction)
        accepted = not rises(before, self._losses(z, seeds))
        if accepted:
            progress.z, progress.moments, progress.scale = z, moments, min(1.0, RECOVERY * progress.scale)
        else:
            progress.moments, progress.scale = moments.at_rest(), 0.5 * progress.scale
            progress.refused += 1
        return length, rate, accepted

    def _look_at(self, losses: FloatArray, length: float, rate: float, accepted: bool) -> None:
        progress = self._now
        mean = mean_of_finite(losses)
        self._record(mean, length, rate, accepted)
        if 2 * np.isfinite(losses).sum() > losses.size:
            first = np.isnan(progress.average)
            progress.average = mean if first else SMOOTHING * progress.average + (1 - SMOOTHING) * mean
            if progress.average < progress.lowest:  # a step after these losses: it was held against them
                progress.lowest, progress.lowest_at, progress.best = progress.average, progress.nit, progress.z

    def _record(self, *record: float) -> None:
        for name, value in zip(History._fields, record, strict=True):
            self._now.history[name].append(float(value))
        self._now.nit += 1

    def _mean(self, pulled: list[FloatArray]) -> tuple[float, FloatArray]:
        lengths = [norm(each) for each in pulled]
        median = float(np.median(lengths))
        earlier = [each for each in self._now.history["gradient_norm"][-_WINDOW:] if np.isfinite(each)]
        bound = min(median, float(np.median(earlier))) if earlier else median
        shares = [min(1.0, bound / length) if length else 1.0 for length in lengths]
        clipped = [share * each for share, each in zip(shares, pulled, strict=True)]
        return median, np.asarray(np.sum(clipped, axis=0) / self.plan.runs)

    def _search_along_the_rates(self) -> None:
        """Double or halve all learning rates together, as long as that lowers the loss."""
        seeds = self._seeds(_SEARCH, 0, self.plan.runs)
        start = lowest = self._losses(self._now.z, seeds)
        self._now.start_loss = mean_of_finite(start)
        self._found = Choice(self._now.z, self._now.start_loss, self._now.start_loss)
        for factor in (2.0, 0.5):
            z, misses = self._now.z, 0
            for _ in range(_DOUBLINGS):
                z = self._times(factor, z)
                losses = self._losses(z, seeds)
                if falls(lowest, losses):
                    self._now.z, lowest, misses = z, losses, 0
                    self._found = Choice(z, mean_of_finite(losses), self._now.start_loss)
                elif factor > 1:  # which goes on where nothing changes, at rates far too small
                    if rises(lowest, losses) or np.isinf(losses).all():
                        break
                elif np.isfinite(lowest).any():  # where all are lost it goes on as well
                    misses += 1  # beyond the edge of chaos losses go up and down
                    if misses == _MISSES:
                        break
            if lowest is not start:
                break
        self._now.best = self._now.z

    def _brake(self, seeds: list[int], before: FloatArray) -> bool:
        """Halve all learning rates, unless the loss rises by it."""
        if self.plan.brake is None or rises(before, self._losses(z := self._times(0.5), seeds)):
            return False
        self._now.z, self._now.moments = z, self._now.moments.at_rest()
        return True

    def _times(self, factor: float, z: FloatArray | None = None) -> FloatArray:
        """Other learning rates."""
        assert self.plan.brake is not None
        z = self._now.z if z is None else z
        return self.space.within(z + np.where(self.space.where(self.plan.brake), np.log(factor), 0.0))

    def evaluate(self, z: FloatArray) -> tuple[float, FloatArray | None, str]:
        """The mean loss at z of runs whose seeds are always the same, its gradient, and why there is none."""
        outcomes = self._try(z, self._seeds(_STEPS, 0, self.plan.runs), differentiate=True)
        values = self.space.values(z)
        gradients = [each.gradients for each in outcomes if each.gradients is not None]
        if len(gradients) < len(outcomes):
            self._now.diverged += len(outcomes) - len(gradients)
            return np.inf, None, next((each.refusal for each in outcomes if each.refusal), "The gradient overflowed.")
        loss = float(np.mean([each.loss for each in outcomes]))
        if np.isinf(self._now.start_loss):
            self._now.start_loss = loss
        return loss, np.mean([self.space.pull(values, each) for each in gradients], axis=0), ""

    def move_to(self, z: FloatArray, loss: float, length: float, *, count: bool = True) -> None:
        """Take what another method has found, as a meta-step or as its last word."""
        progress = self._now
        progress.z = progress.best = z
        self.progress = progress
        progress.average = progress.lowest = loss
        if count:
            self._record(loss, length, 1.0, True)
            progress.lowest_at = progress.nit

    def so_far(self) -> Choice:
        """The best by the moving average, that average, and the first loss: what is known without further runs."""
        progress = self.progress
        if progress.nit == 0 and self._found is not None:
            return self._found
        return Choice(progress.best, progress.lowest, progress.start_loss)

    def chosen(self) -> Choice:
        """The best of last, best and start by the mean loss on fresh seeds."""
        progress, plan = self._now, self.plan
        runs = max(_JUDGING_RUNS, plan.runs * progress.nit // _SHARE) if plan.random else 1
        seeds = self._seeds(_CHOICE, 0, runs)
        candidates = {z.tobytes(): z for z in (progress.z, progress.best, self._start)}
        losses = {key: self._losses(z, seeds) for key, z in candidates.items()}
        ranks = {key: (int(np.isinf(each).sum()), mean_of_finite(each)) for key, each in losses.items()}
        best = min(ranks, key=lambda key: ranks[key])
        (lost, loss), (start_lost, start_loss) = ranks[best], ranks[self._start.tobytes()]
        return Choice(candidates[best], loss, start_loss if start_lost == lost else np.inf, lost, runs)

    def _losses(self, z: FloatArray, seeds: list[int]) -> FloatArray:
        return np.array([each.loss for each in self._try(z, seeds)])

    def _try(self, z: FloatArray, seeds: list[int], differentiate: bool = False) -> list[Outcome]:
        values = self.space.values(z)
        self._now.nfev += len(seeds)
        return self.each([Trial(values, seed, differentiate) for seed in seeds])

    def _seeds(self, purpose: int, number: int, runs: int) -> list[int]:
        sequence = np.random.SeedSequence(self.plan.seed, spawn_key=(purpose, number))
        return [int(each) for each in sequence.generate_state(runs)]


def _nobody(trials: Sequence[Trial]) -> list[Outcome]:
    raise NotImplementedError


def mean_of_finite(losses: FloatArray) -> float:
    """Infinite where there are none."""
    finite = losses[np.isfinite(losses)]
    return float(np.mean(finite)) if finite.size else np.inf


def falls(before: FloatArray, after: FloatArray) -> bool:
    """Whether the mean of losses of the same seeds falls by as much as a step may raise it, or fewer are refused."""
    if np.isinf(after).sum() != np.isinf(before).sum():
        return bool(np.isinf(after).sum() < np.isinf(before).sum())
    both = np.isfinite(before) & np.isfinite(after)
    if not both.any():
        return False
    mean = before[both].mean()
    return bool(after[both].mean() < mean - RISE * abs(mean))


def rises(before: FloatArray, after: FloatArray) -> bool:
    """Whether the mean of losses of the same seeds rises, or more runs are refused than before."""
    if np.isinf(after).sum() > np.isinf(before).sum():
        return True
    both = np.isfinite(before) & np.isfinite(after)
    if not both.any():
        return False
    mean = before[both].mean()
    return bool(not after[both].mean() <= mean + RISE * abs(mean))
