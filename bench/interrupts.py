"""Ctrl-C and exceptions at random moments: ``python -m bench.interrupts``.

A child, forked when everything was compiled and warm, is interrupted once, and asked what it has: 30 times for each of
eleven kinds of work, at moments drawn evenly over its length.  By a KeyboardInterrupt, as Ctrl-C is, or, half of the
time where functions of the caller's are called (a callback, the gradient of an Objective), by an exception of theirs.
Within a second of that moment the call is back, cores and threads are as they were, and what was interrupted goes on,
or is undone, or is done again, to the bits that it has without.  Writes docs/guarantees.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastrev
from bench.pages import GUARANTEES, machine, rewrite, today
from tests.cases import Case, digits_like

SECONDS = 1.0
WAIT = 60.0  # until a child is given up


class CallbackError(Exception):
    """By a function of the caller's."""


class Work(NamedTuple):
    """What is interrupted."""

    prepare: Callable[[], Any]  # what `call` takes, anew
    call: Callable[[Any], Any]
    settle: Callable[[Any, BaseException | None], Any]  # after an interruption, or none: digest of what it came to


def works() -> dict[str, Work]:
    """Each kind by its name."""
    case = digits_like(steps=3000, lr=0.01, decay=0.99)
    adam = digits_like(steps=2000, lr=None, decay=None, optimizer=fastrev.Adam(1e-3, weight_decay=0.01))
    wide = _wide()
    back = {"SGD": case, "Adam": adam, "two threads": wide}
    found = {f"train, {name}": Work(lambda: None, partial(_train, each), partial(_forward, each))
             for name, each in back.items()}  # fmt: skip
    found |= {f"pullback, {name}": Work(each.train, _pull, partial(_backward, each)) for name, each in back.items()}
    found["pullback, 12 losses"] = Work(case.train, partial(_pull, rows=12), partial(_backward, case, rows=12))
    found["meta_grad"] = Work(lambda: None, lambda _: case.meta_grad(), partial(_again, case.meta_grad))
    found["Objective"] = Work(lambda: None, lambda _: _objective(), partial(_again, _objective))
    found["tune"] = Work(lambda: None, lambda _: _tune(), _tuned)
    return found


# ---- what is interrupted ---------------------------------------------------------------------------------------


def _wide() -> Case:
    rng = np.random.default_rng(0)
    X, Y = rng.random((600, 40)), rng.integers(0, 3, 600)
    model = fastrev.MLP((40, 60, 3))
    return Case(model, model.init(0), {"train": (X, Y), "valid": (X, Y), "batch_size": 300, "steps": 150,
                                       "lr": 0.1, "decay": 0.9})  # fmt: skip


def _train(case: Case, _: Any) -> fastrev.Run:
    return case.train(callback=(_watch, 10))


def _pull(run: fastrev.Run, rows: int = 1) -> fastrev.Gradients:
    return run.pullback(np.ones((rows, run.w.size)))


def _objective() -> Any:
    return fastrev.meta_grad(Sines(), np.ones(30), valid=lambda w: (w @ w, 2 * w), lr=0.1, decay=0.9, steps=1500)


def _tune() -> fastrev.TuneResult:
    case = digits_like(steps=40)
    data = {name: case.arguments[name] for name in ("train", "valid", "batch_size", "steps")}
    return fastrev.tune(case.model, **data, lr=0.1, decay=0.9, learn=("lr", "decay"), meta_steps=12, runs=3,
                        progress=False, callback=lambda *_: _watch())  # fmt: skip


class Sines:
    """An objective of plain functions."""

    num_params = 30

    def grad(self, w: Any, t: int) -> Any:
        _watch()
        return np.sin(w + t)

    def hvp(self, w: Any, u: Any, t: int) -> Any:
        _watch()
        return np.cos(w + t) * u


_raise_at = [np.inf]  # seconds of time.monotonic after which the next function of the caller's raises


def _watch(*_: Any) -> None:
    if time.monotonic() >= _raise_at[0]:
        _raise_at[0] = np.inf
        raise CallbackError


# ---- what it came to -------------------------------------------------------------------------------------------


def _forward(case: Case, run: Any, error: BaseException | None) -> Any:
    """The bits of all steps: of a run that was interrupted, those made, taken back, and of one made anew."""
    if isinstance(error, fastrev.TrainingInterrupt):
        part = error.run
        same = case.train(steps=part.stats.steps) if part.stats.steps else None
        assert same is None or part.w.tobytes() == same.w.tobytes(), "the steps made are others"
        part.rewind()
        assert part.stats.exact
    return (run if error is None else case.train()).w.tobytes().hex()


def _backward(case: Case, result: Any, error: BaseException | None, rows: int = 1) -> Any:
    """The derivatives; after an interruption, the run's start and then those of a run made anew."""
    if error is not None:
        run = _current[0]
        if not run.stats.exact:
            run.rewind()
        assert run.stats.exact, "the run is not whole"
        result = _pull(case.train(), rows)
    return result.w0.tobytes().hex()


def _again(call: Callable[[], Any], result: Any, error: BaseException | None) -> Any:
    return (result if error is None else call()).grad.w0.tobytes().hex()


def _tuned(result: Any, error: BaseException | None) -> Any:
    """What was learned, of the whole loop; one that Ctrl-C ended says so, and has the meta-steps of the whole one."""
    if error is None and not result.success:
        whole, n = _tune(), len(result.history.loss)
        assert result.history.loss.tobytes() == whole.history.loss[:n].tobytes(), "its meta-steps are others"
        result = whole
    result = _tune() if error is not None else result
    return result.lr.tobytes().hex()


# ---- one child -------------------------------------------------------------------------------------------------

_current: list[Any] = [None]


def trial(work: Work, moment: float, kind: str, expected: str) -> dict[str, Any]:
    """Of a forked child that is interrupted so many seconds after its start; raises if it is not as promised."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        with os.fdopen(writer, "w") as pipe:
            try:
                json.dump(_inside(work, moment, kind, expected), pipe)
            except BaseException:
                json.dump({"failed": traceback.format_exc()}, pipe)
        os._exit(0)
    os.close(writer)
    begin = time.monotonic()
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    assert text, "the child died"
    found: dict[str, Any] = json.loads(text)
    assert "failed" not in found, found["failed"]
    assert time.monotonic() - begin < WAIT
    return found


def _inside(work: Work, moment: float, kind: str, expected: str) -> dict[str, Any]:
    signal.signal(signal.SIGALRM, signal.default_int_handler)  # in the main thread, as Ctrl-C is there
    _current[0] = work.prepare()
    before, result, error = _system(), None, None
    at = time.monotonic() + moment
    try:
        if kind == "signal":
            signal.setitimer(signal.ITIMER_REAL, moment)
        else:
            _raise_at[0] = at
        result = work.call(_current[0])
    except BaseException as caught:
        error = caught
    back = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0)
    _raise_at[0] = np.inf
    end = time.monotonic() + 10
    while _system() != before and time.monotonic() < end:
        time.sleep(0.001)  # a thread that is told to end, and comes to it where cores are taken
    assert _system() == before, f"{before} became {_system()}"
    assert error is None or isinstance(error, KeyboardInterrupt | CallbackError), repr(error)
    assert work.settle(result, error) == expected, "the bits are others"
    came = error is not None or (result is not None and getattr(result, "success", True) is False)
    return {"came": came, "took": back - at}


def _system() -> tuple[list[int], int]:
    return sorted(os.sched_getaffinity(0)), sum(1 for _ in Path("/proc/self/task").iterdir())


# ---- all of them -----------------------------------------------------------------------------------------------


def interrupted(name: str, count: int, seed: int) -> dict[str, Any]:
    """How many interruptions came in time, and the seconds that each took."""
    work, chance = works()[name], random.Random(seed)
    first = work.call(prepared := work.prepare())
    del prepared
    expected = work.settle(first, None)
    fresh, start = work.prepare(), time.monotonic()
    work.call(fresh)
    length = time.monotonic() - start
    own = name in ("Objective", "tune") or name.startswith("train")  # functions of the caller's are called
    made: list[dict[str, Any]] = []
    tried = 0
    while sum(each["came"] for each in made) < count:
        tried += 1
        assert tried <= 4 * count + 20, f"{name}: too few interruptions come before its end"
        kind = chance.choice(("signal", "exception")) if own else "signal"
        moment = chance.uniform(1e-6, length)
        try:
            made.append(trial(work, moment, kind, expected))
        except AssertionError as error:
            raise AssertionError(f"{name}, {kind} after {moment:.6f} s of {length:.3f}: {error}") from error
    took = [each["took"] for each in made if each["came"]]
    return {"came": len(took), "median": statistics.median(took), "longest": max(took)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=30, help="interruptions of each kind of work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=works())
    parser.add_argument("--write", action="store_true", help="put the figures on the page")
    given = parser.parse_args(arguments)
    if not hasattr(os, "sched_getaffinity"):
        sys.exit("This needs Linux.")
    lines = ["| interrupted | times | back after, median | longest |", "|---|---|---|---|"]
    for name in [given.only] if given.only else works():
        found = interrupted(name, given.count, given.seed)
        assert found["longest"] < SECONDS, (name, found)
        lines.append(f"| {name} | {found['came']} | {1e3 * found['median']:.1f} ms | {1e3 * found['longest']:.0f} ms |")
        print(lines[-1], flush=True)
    if given.write:
        text = "\n".join([*lines, "", f"Measured on {machine('numba', 'numpy')}, {today()}."])
        rewrite(GUARANTEES, "bench.interrupts", text)


if __name__ == "__main__":
    main()
