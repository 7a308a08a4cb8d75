"""Ctrl-C at any moment: an exception injected at every line, and real signals at hundreds of random moments.

Afterwards the run is whole, the caller has its cores back, and no second thread is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastrev
from fastrev._engine.mlp_objective import MLPObjective
from fastrev.runs import make_all_steps, start
from fastrev.testing import assert_same
from tests.cases import digits_like
from tests.test_reversible import array_state, sgd_state
from tests.test_threads import system_threads, until

PACKAGE = str(Path(fastrev.__file__).parent)
# of the arguments that `train` has defaults for, those of an objective's run
ABSENT = dict.fromkeys(("train", "batch_size", "batches", "v0", "example_weights")) | {"seed": 0, "l2": 0.0}


class Injected(BaseException):
    """Raised where a KeyboardInterrupt could be."""


def inject(action: Callable[[], object], moment: int, kind: str = "line", within: str = PACKAGE) -> str | None:
    """Run an action, and raise at the moment-th line of fastrev that it comes to.  Returns where, if it came so far.

    Of kind "opcode" a moment is finer: a signal can come between a call and what is done with its result.
    """
    count = 0
    where = None

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count, where
        if not frame.f_code.co_filename.startswith(within):
            return None
        frame.f_trace_opcodes = kind == "opcode"
        if event == kind:
            count += 1
            if count == moment:
                where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise Injected
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except Injected:
        pass
    finally:
        sys.settrace(before)
    return where


def at_every_line(make: Callable[[], Callable[[], object]]) -> Iterator[str]:
    """Interrupt what `make` makes at its first line, at its second, ..., and yield after each."""
    yield from at_every_moment(make)


def at_every_moment(make: Callable[[], Callable[[], object]], *how: str) -> Iterator[str]:
    """The same, with moments that `how` describes."""
    moment = 1
    while (where := inject(make(), moment, *how)) is not None:
        yield where
        moment += 1
    assert moment > 5


def cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


@pytest.fixture
def assert_no_companion() -> Callable[[str], None]:
    before = system_threads()

    def check(where: str) -> None:
        assert until(lambda: system_threads() <= before), where

    return check


@pytest.mark.parametrize("per_run", [1, 2])
def test_a_pullback_interrupted_at_any_line(per_run, monkeypatch, assert_no_companion):
    monkeypatch.setattr("fastrev._engine.compiled_walk._CHUNK_STEPS", 4)
    case = digits_like(steps=10)
    case.meta_grad()
    runs: list[fastrev.Run] = []
    before = cores()

    def make() -> Callable[[], object]:
        runs.append(case.train())
        return lambda: runs[-1].pullback(np.ones(case.model.num_params))

    with fastrev.threads(per_run=per_run):
        for where in at_every_line(make):
            assert cores() == before, where
            run = runs[-1]
            if not run.stats.exact:
                run.rewind()
            assert run.stats.exact, where
            assert_no_companion(where)
    assert len(runs) > 60


@pytest.mark.parametrize("per_run", [1, 2])
def test_a_meta_gradient_interrupted_at_any_line(per_run, assert_no_companion):
    case = digits_like(steps=10)
    expected = case.meta_grad()
    before = cores()
    with fastrev.threads(per_run=per_run):
        for where in at_every_line(lambda: case.meta_grad):
            assert cores() == before, where
            assert_no_companion(where)
    assert np.array_equal(case.meta_grad().grad.w0, expected.grad.w0)
    # no lock is left with this thread, where another would wait for it for ever
    other = threading.Thread(target=lambda: found.append(case.meta_grad()), daemon=True)
    found: list[fastrev.MetaGradient] = []
    other.start()
    other.join(60)
    assert np.array_equal(found[0].grad.w0, expected.grad.w0)


@pytest.mark.parametrize("way", ["there", "back", "rewind"])
def test_a_run_of_an_objective_interrupted_at_any_opcode(way):
    """Also between the kernel that makes a step and whatever follows it."""
    model = SimpleNamespace(num_params=2, grad=lambda w, t: w + t, hvp=lambda w, u, t: u)
    settings = {"w0": [1.0, -2.0], "lr": 0.1, "decay": 0.9, "steps": 3}
    runs: list[fastrev.Run] = []

    def make() -> Callable[[], object]:
        runs.append(fastrev.train(model, **settings) if way != "there" else start(model, **ABSENT | settings))
        if way == "there":
            return lambda: make_all_steps(runs[-1], False)
        return runs[-1].rewind if way == "rewind" else lambda: runs[-1].pullback([1.0, 1.0])

    make()()
    for where in at_every_moment(make, "opcode", str(Path(PACKAGE) / "_engine" / "python_walk.py")):
        run = runs[-1]
        if not run.stats.exact:
            run.rewind()
        assert run.stats.exact, where
    assert len(runs) > 100


def test_an_array_interrupted_at_any_line():
    calls = [("mul", (9, 10)), ("add", (0.25,)), ("mul", (1, 3)), ("sub", ([1.0, 2.0],)), ("mul", ([1, 9], 9))]
    undo = {"mul": "div", "add": "sub", "sub": "add"}
    start = array_state(fastrev.ReversibleArray([1.0, -2.0]))
    for at in range(len(calls)):
        for way in ("there", "back"):
            made: list[tuple[fastrev.ReversibleArray, dict[str, Any], dict[str, Any]]] = []

            def make(at: int = at, way: str = way, made: list[Any] = made) -> Callable[[], object]:
                a = fastrev.ReversibleArray([1.0, -2.0])
                for name, arguments in calls[:at]:
                    getattr(a, name)(*arguments)
                without = array_state(a)
                name, arguments = calls[at]
                getattr(a, name)(*arguments)
                with_it = array_state(a)
                if way == "there":
                    getattr(a, undo[name])(*arguments)
                made.append((a, without, with_it))
                return lambda: getattr(a, name if way == "there" else undo[name])(*arguments)

            for where in at_every_line(make):
                a, without, with_it = made[-1]
                done = same(array_state(a), with_it)
                assert done or same(array_state(a), without), where
                for name, arguments in reversed(calls[: at + done]):
                    getattr(a, undo[name])(*arguments)
                a.verify()
                assert_same(array_state(a), start)


@pytest.mark.parametrize(("lr", "decay"), [(0.1, 0.9), ([0.1, 0.2], [0.9, 1.0])])
def test_a_step_interrupted_at_any_line(lr, decay):
    step = {"g": lambda w: 2 * w, "lr": lr, "decay": decay}
    backward = {"hvp": lambda w, u: 2 * u, "w_bar": [1.0, 1.0]}
    start = sgd_state(fastrev.ReversibleSGD([1.0, -2.0]))
    for way, more in (("step", {}), ("unstep", {}), ("backward", backward)):
        made: list[fastrev.ReversibleSGD] = []

        def make(way: str = way, more: Any = more, made: list[Any] = made) -> Callable[[], object]:
            sgd = fastrev.ReversibleSGD([1.0, -2.0])
            for _ in range(3):
                sgd.step(**step)
            made.append(sgd)
            return lambda: getattr(sgd, way)(**step, **more)

        for where in at_every_line(make):
            sgd = made[-1]
            assert sgd.steps in ((3, 4) if way == "step" else (2, 3)), where
            while sgd.steps:
                sgd.unstep(**step)
            sgd.verify()
            assert_same(sgd_state(sgd), start)


def same(state: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(state[name], other[name]) for name in other)


# ---- real signals --------------------------------------------------------------------------------------------

SIGNALS = """
import os, random, signal, sys, time
import numpy as np
import fastrev
from fastrev._engine.mlp_objective import MLPObjective
from tests.cases import digits_like
from tests.test_threads import system_threads

count, seed = int(sys.argv[1]), int(sys.argv[2])
chance = random.Random(seed)
case = digits_like(steps=600, lr=0.01, decay=0.999)
case.meta_grad()
run = case.train()
start = time.perf_counter()
run.pullback(run.w)
length = time.perf_counter() - start
threads = system_threads()
before = os.sched_getaffinity(0)
signal.signal(signal.SIGALRM, signal.default_int_handler)     # a KeyboardInterrupt in the main thread, as Ctrl-C is one
came = 0
while came < count:
    run = case.train()
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 1.2 * length))
            run.pullback(run.w)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        came += 1
        assert os.sched_getaffinity(0) == before
        if not run.stats.exact:
            run.rewind()
    assert run.stats.exact
end = time.monotonic() + 10
while system_threads() > threads and time.monotonic() < end:
    time.sleep(0.001)
print(came, system_threads() - threads)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer") or not hasattr(os, "sched_getaffinity"), reason="needs Linux")
@pytest.mark.parametrize(("count", "load"), [(300, False), (100, True)])
def test_signals_at_random_moments(count, load):
    """With a second core that is busy with something else, too.  The process ends by itself."""
    root = Path(__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *map(str, sys.path)])}
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if load else None
    try:
        command = [sys.executable, "-c", SIGNALS, str(count), "1"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    finally:
        if busy is not None:
            busy.kill()
            busy.wait()
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(count), "0"]


@pytest.fixture
def ctrl_c():
    """SIGINT as a terminal's user has it: a shell makes what it starts in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_at_chunk(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Ctrl-C as the steps of that chunk are about to be made, or undone."""
    digits_like().meta_grad()  # compiles, by calls for no steps
    chunk, count = MLPObjective.chunk, 0

    def counted(self: MLPObjective, begin: int, end: int) -> Any:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGINT)
        return chunk(self, begin, end)

    monkeypatch.setattr(MLPObjective, "chunk", counted)


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_ctrl_c_leaves_a_whole_run(ctrl_c, monkeypatch, chunk):
    case = digits_like(steps=20_000, lr=0.01, decay=0.999)
    interrupt_at_chunk(monkeypatch, chunk)
    with pytest.raises(fastrev.TrainingInterrupt, match="interrupted after") as info:
        case.train()
    run = info.value.run
    assert run.stats.steps < 20_000
    assert run.stats.steps % 2048 == 0
    run.rewind()
    assert run.stats.exact


@pytest.mark.parametrize("per_run", [1, 2])
@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_ctrl_c_on_the_way_back(ctrl_c, monkeypatch, chunk, per_run):
    run = digits_like(steps=20_000, lr=0.01, decay=0.999).train()
    interrupt_at_chunk(monkeypatch, chunk)
    with fastrev.threads(per_run=per_run), pytest.raises(KeyboardInterrupt):
        run.pullback(run.w)
    left = int(run._state.cursor[0])
    assert 20_000 - 2048 * chunk <= left <= 20_000
    with pytest.raises(fastrev.ReversalError, match=f"stopped with {left} of 20000 steps to go"):
        run.pullback(run.w)
    run.rewind()
    assert run.stats.exact


@pytest.mark.parametrize("chunk", [1, 3])
def test_derivatives_do_not_begin_where_a_rewind_stopped(ctrl_c, monkeypatch, chunk):
    run = digits_like(steps=20_000, lr=0.01, decay=0.999).train()
    interrupt_at_chunk(monkeypatch, chunk)
    with pytest.raises(KeyboardInterrupt):
        run.rewind()
    with pytest.raises(fastrev.ReversalError, match="derivatives begin at the end"):
        run.pullback(run.w)
    run.rewind()
    assert run.stats.exact
