"""The contenders in the race of tuners: each reports its best values so far, and how many runs it has made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

import fastrev
from bench.tuning_task import BATCH, STEPS, Numbers, Space, Task, Values

CORES = 2
Tell = Callable[[float], object]  # a trial's loss
# As many meta-steps as fit into ten seconds.  Few numbers do better at a rate of 0.08 than at 0.05, the default: seven
# end at 0.0955 instead of 0.0966, the mean of eight seeds; many do worse, 1,602 at 0.0855 instead of 0.0808, of five
META_STEPS, RUNS = 75, 8


class Race:
    """The time of one contender, from its making on, and what is reported.

    Attributes
    ----------
    reports : list of (float, int, Values)
        Seconds, runs, and the best values so far.
    """

    def __init__(self, task: Task, seconds: float, seed: int) -> None:
        self.task, self.seed = task, seed
        self.reports: list[tuple[float, int, Values]] = []
        self._begin = time.perf_counter()
        self._end = self._begin + seconds

    @property
    def on(self) -> bool:
        """Whether there is time left."""
        return time.perf_counter() < self._end

    def report(self, runs: int, values: Values) -> None:
        """What would be returned now."""
        self.reports.append((time.perf_counter() - self._begin, runs, values))


Contender = Callable[[Race], None]


def tune(start: Values, *learn: str, meta_lr: float) -> Contender:
    """`fastrev.tune` from these values."""

    def contend(race: Race) -> None:
        task = race.task

        def callback(state: Any) -> None:
            race.report(state.nfev, task.start | start | state.values())

        result = fastrev.tune(
            task.model, train=task.train, valid=task.valid, steps=STEPS, batch_size=BATCH, **(task.start | start),
            learn=learn, meta_steps=META_STEPS, meta_lr=meta_lr, runs=RUNS, workers=CORES, seed=race.seed,
            callback=callback,
        )  # fmt: skip
        race.report(result.nfev, task.start | start | result.learned)

    return contend


def optuna(space: Space, runs: int) -> Contender:
    """Optuna's TPE with its defaults; the start is its first trial."""

    def contend(race: Race) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=race.seed))
        study.enqueue_trial(space.start)
        floats = optuna.distributions.FloatDistribution
        ranges = {name: floats(low, high, log=True) for name, (low, high) in space.ranges().items()}

        def ask() -> tuple[Numbers, Tell]:
            trial = study.ask(ranges)
            return trial.params, lambda loss: study.tell(trial, loss)

        _search(race, space, ask, runs)

    return contend


def random_search(space: Space, runs: int) -> Contender:
    """The draws of scikit-learn's RandomizedSearchCV; the start is the first trial."""

    def contend(race: Race) -> None:
        from scipy.stats import loguniform
        from sklearn.model_selection import ParameterSampler

        ranges = {name: loguniform(low, high) for name, (low, high) in space.ranges().items()}

        def draws() -> Iterator[Numbers]:
            yield space.start
            yield from ParameterSampler(ranges, n_iter=10**9, random_state=race.seed)

        drawn = draws()
        _search(race, space, lambda: (next(drawn), lambda loss: None), runs)

    return contend


def _search(race: Race, space: Space, ask: Callable[[], tuple[Numbers, Tell]], runs: int) -> None:
    """A trial on each core, of the mean of some runs, until the time is over; the lowest is the best so far."""
    lowest, best, trials, asked = np.inf, race.task.start, 0, 0
    pending: dict[Future[float], tuple[Values, Tell]] = {}

    def trial(values: Values, first: int) -> float:
        return float(np.mean([race.task.loss(values, seed) for seed in range(first, first + runs)]))

    with ThreadPoolExecutor(CORES) as pool:
        while race.on:
            while len(pending) < CORES:
                numbers, tell = ask()
                values = space.values(numbers)
                future = pool.submit(trial, values, 10**6 * race.seed + runs * asked)
                pending[future] = values, tell
                asked += 1
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                values, tell = pending.pop(future)
                loss = future.result()
                tell(loss)
                trials += 1
                if loss < lowest:
                    lowest, best = loss, values
                race.report(runs * trials, best)
