"""Bits that flip in memory while a run waits to be taken back: ``python -m bench.flips``.

Each of 2,000 runs has one bit of all that it holds between its passes changed; then it is pulled back.  Either
`ReversalError` comes, or every gradient has the bits that it has without the flip: anything else is silently wrong, and
fails.  Writes docs/guarantees.md.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastrev
from bench.pages import GUARANTEES, machine, rewrite, today
from tests.cases import WRT, digits_like, random_case
from tests.test_proof import flip, held

DETECTED, HARMLESS, SILENT = "detected", "without effect", "silently wrong"


def verdict(make: Callable[[], fastrev.Run], expected: fastrev.Gradients, name: str, position: int, bit: int) -> str:
    """What becomes of a run of which this bit flips."""
    run = make()
    array = held(run)[name]
    w_bar = np.ones(run.w.size)
    flip(array, position, bit)
    try:
        found = run.pullback(w_bar, wrt=tuple(vars(expected).keys() & _asked(run)))
    except fastrev.ReversalError:
        return DETECTED
    finally:
        flip(array, position, bit)  # the data of all runs
    return HARMLESS if _same(found, expected) else SILENT


def problems() -> dict[str, Callable[[], fastrev.Run]]:
    """Runs of each kind: rules, precisions, batches of one's own and drawn ones, a model of plain functions."""
    given = {"decay": None, "lr": None}
    shrinking = given | {"optimizer": fastrev.Adam([[0.01, 0.02, 0.01, 0.02]] * 20, weight_decay=0.1)}
    cases = {f"SGD {seed}": random_case(seed).train for seed in (3, 5, 6, 7, 8, 11)}
    cases |= {f"SGD float32 {seed}": random_case(seed, dtype=np.float32).train for seed in (4, 13)}
    cases |= {"Adam": lambda: digits_like().train(**given, optimizer=fastrev.Adam(0.01))}
    cases |= {"AdamW": lambda: digits_like().train(**shrinking)}
    cases |= {"decay 1": lambda: digits_like().train(decay=1.0, v0=np.full(43, 0.01))}
    return cases | {"functions": lambda: fastrev.train(_Bowl(), [1.0, -2.0, 0.5], lr=0.1, decay=0.9, steps=40)}


def flips(count: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Of so many random bits: the problem, the array, and the verdict.  Each array is as likely as another."""
    chance = random.Random(seed)
    made = problems()
    expected = {name: _pulled(make()) for name, make in made.items()}
    arrays = {name: sorted(held(make())) for name, make in made.items()}
    for _ in range(count):
        name = chance.choice(sorted(made))
        which, position, bit = chance.choice(arrays[name]), chance.randrange(2**40), chance.randrange(64)
        yield name, which, verdict(made[name], expected[name], which, position, bit)


class _Bowl:
    num_params = 3

    def grad(self, w: Any, t: int) -> Any:
        return np.sin(w + t)

    def hvp(self, w: Any, u: Any, t: int) -> Any:
        return np.cos(w + t) * u


def _asked(run: fastrev.Run) -> set[str]:
    rule, trained = run._problem.rule, run._problem.trained
    return {*rule.names, "w0", *rule.starts, *trained.names} & {*WRT, *rule.names}


def _pulled(run: fastrev.Run) -> fastrev.Gradients:
    return run.pullback(np.ones(run.w.size), wrt=tuple(_asked(run)))


def _same(found: fastrev.Gradients, expected: fastrev.Gradients) -> bool:
    pairs = [(np.asarray(vars(found)[name]), np.asarray(value)) for name, value in vars(expected).items()]
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the figures on the page")
    given = parser.parse_args(arguments)
    found = list(flips(given.count, given.seed))
    for name, which in sorted({(name, which) for name, which, what in found if what == SILENT}):
        print(f"{name}: a flipped bit of {which} shows in the results and nowhere else")
    counts = Counter(what for *_, what in found)
    idle = Counter(which for _, which, what in found if what == HARMLESS)
    kinds = len({which for _, which, _ in found})
    line = (
        f"- **{given.count:,} bits flipped**, each in a run of its own, in {kinds} kinds of arrays: "
        f"{counts[DETECTED]:,} detected, {counts[HARMLESS]} without effect on any result"
        f"{' (in ' + ', '.join(sorted(idle)) + ')' if idle else ''}, {counts[SILENT]} silently wrong."
    )
    print(line)
    if given.write:
        rewrite(GUARANTEES, "bench.flips", f"{line}\n\nMeasured on {machine('numba', 'numpy')}, {today()}.")
    if counts[SILENT]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
