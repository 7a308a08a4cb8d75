"""What `tune` and `minimize` have in common: the loop, watched, interrupted, kept on disk and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastrev._engine import arguments
from fastrev._engine.progress import progress_bar
from fastrev._engine.types import FloatArray
from fastrev._pool.workers import fan_out
from fastrev._tuning import checkpoints, scipy_methods
from fastrev._tuning.account import Account, History
from fastrev._tuning.loop import Choice, Descent, Plan
from fastrev._tuning.space import Space, Values
from fastrev._tuning.trials import Outcome, Trial


@dataclass(frozen=True)
class Settings:
    """How the loop is run, checked."""

    plan: Plan
    method: str
    callback: Callable[[Any], object] | None
    progress: bool
    checkpoint: Any


class Ending(NamedTuple):
    """Where the loop ended, and how it went."""

    values: Values
    loss: float
    start_loss: float
    account: Account


class Standing:
    """Where the loop stands after a meta-step, for a callback.

    Attributes
    ----------
    nit, nfev : int
        Meta-steps and runs made.
    loss : float
        Mean of this meta-step's runs.
    average : float
        Moving average of these, by which the best is chosen.
    refused, diverged : int
        Steps that were taken back, and runs that were refused or exploded, so far.
    """

    def __init__(self, descent: Descent) -> None:
        progress = descent.progress
        self.nit, self.nfev, self.refused, self.diverged = (
            progress.nit, progress.nfev, progress.refused, progress.diverged,
        )  # fmt: skip
        self.loss, self.average = progress.history["loss"][-1], progress.average
        self._space, self._z, self._best = descent.space, progress.z, progress.best

    def values(self) -> Values:
        """The best so far, by name."""
        return self._space.values(self._best)

    def current(self) -> Values:
        """Those of the next meta-step."""
        return self._space.values(self._z)

    def __repr__(self) -> str:
        return f"<meta-step {self.nit}: loss {self.loss:.6g}, moving average {self.average:.6g}>"


def check(
    *,
    meta_steps: int,
    meta_lr: float,
    runs: int,
    random: bool,
    seed: int,
    patience: int | None,
    method: str,
    callback: Any,
    progress: bool,
    checkpoint: Any,
    brake: str | None = None,
) -> Settings:
    """Refuse what the loop cannot run by, before any work."""
    if not arguments.is_number(meta_lr) or not 0 < float(meta_lr) < np.inf:
        received = arguments.shown(meta_lr)
        raise arguments.fault("meta_lr", "be a number above 0", received, "0.05 moves an lr by 5 % a meta-step.")
    patience = None if patience is None else arguments.count("patience", patience)
    if callback is not None and not callable(callback):
        raise arguments.fault("callback", "be a function of the state", f"a {type(callback).__name__}")
    arguments.whole("seed", seed, 0)
    if method != "adam":
        scipy_methods.check(method)
        if patience is not None:
            raise arguments.fault("patience", "be left out with a method of SciPy, which ends by itself", f"{patience}")
        if checkpoint is not None:
            raise arguments.fault(
                "checkpoint", "be left out with a method of SciPy, which begins anew every time", repr(checkpoint)
            )
    if checkpoint is not None:
        checkpoints.check(checkpoint)
    plan = Plan(
        arguments.count("meta_steps", meta_steps), float(meta_lr), arguments.count("runs", runs), int(seed),
        random, patience, brake,
    )  # fmt: skip
    return Settings(plan, method, callback, arguments.flag("progress", progress), checkpoint)


def run(
    attempt: Callable[[Any, Trial], Outcome],
    shared: Any,
    workers: Any,
    space: Space,
    start: FloatArray,
    settings: Settings,
    fingerprint: Mapping[str, str],
) -> Ending:
    """The loop from its start, or from where a checkpoint left it, to its end or an interrupt."""
    descent = Descent(space, start, settings.plan)
    keeper = checkpoints.Keeper(settings.checkpoint, fingerprint)
    keeper.restore(descent)
    try:
        with fan_out(attempt, shared, workers) as each:  # left by an interrupt, it tells all runs to stop
            descent.each = each
            failed, message = _descend(descent, keeper, settings)
            keeper.keep(descent, last=True)
            chosen = descent.chosen()
            kept = _start_kept(settings) if chosen.loss == chosen.start_loss else ""
            return _ending(descent, chosen, not failed, message + kept)
    except KeyboardInterrupt:
        keeper.keep(descent, last=True)
        progress = descent.progress
        return _ending(descent, descent.so_far(), False, f"Interrupted after {progress.nit} meta-steps.")


def _descend(descent: Descent, keeper: checkpoints.Keeper, settings: Settings) -> tuple[bool, str]:
    """All meta-steps, watched.  Returns whether they failed, and why they ended."""
    total, done = settings.plan.meta_steps, descent.progress.nit
    with progress_bar(settings.progress, total, "tuning", "meta-step", done) as tick:

        def watch() -> None:
            keeper.keep(descent)
            tick(1, f"loss {descent.progress.average:.4g}")
            if settings.callback is not None:
                try:
                    settings.callback(Standing(descent))
                except StopIteration:
                    raise _EndedError from None

        try:
            if settings.method != "adam":
                return scipy_methods.descend(descent, settings.method, watch)
            while not (message := descent.done):
                descent.step()
                watch()
        except _EndedError:
            return False, f"The callback ended it after {descent.progress.nit} meta-steps."
    return False, message


class _EndedError(Exception):
    """By the callback; a StopIteration would mean something to SciPy."""


def _start_kept(settings: Settings) -> str:
    """What is to be said where nothing that was found is better."""
    rate = "a lower meta_lr, more runs" if settings.method == "adam" else "more runs"
    return f" Nothing was learned: on the seeds compared the start was best. Try {rate} or more meta_steps."


def _ending(descent: Descent, chosen: Choice, success: bool, message: str) -> Ending:
    progress = descent.progress
    loss, gradient_norm, rate, accepted = (np.array(progress.history[name]) for name in History._fields)
    history = History(loss, gradient_norm, rate, accepted.astype(np.bool_))
    lost = f" {chosen.lost} of {chosen.runs} final runs diverged." if chosen.lost else ""
    account = Account(
        nit=progress.nit, nfev=progress.nfev, refused=progress.refused, diverged=progress.diverged, success=success,
        message=message + lost, history=history,
    )  # fmt: skip
    return Ending(descent.space.values(chosen.z), chosen.loss, chosen.start_loss, account)
