"""Two threads that walk through a training together: the same bits, the same ends, and nothing left behind."""

from __future__ import annotations

import _thread
import os
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrev
from fastrev._engine import teams
from fastrev._engine.architecture import Architecture
from fastrev._engine.companion import Companion
from fastrev._engine.compiled_walk import CompiledWalk
from fastrev._engine.settings import cores
from fastrev.kernels import checksums, handover, outcomes, reductions
from fastrev.kernels import team as kernels
from fastrev.kernels.primitives import cycles
from fastrev.kernels.structures import Team
from fastrev.runs import Run

two_cores = pytest.mark.skipif(cores() < 2, reason="needs two cores")
SIZES = (20, 17, 13, 5)


@pytest.fixture
def share_everything(monkeypatch):
    """Have two threads share even what is not worth it."""
    monkeypatch.setattr(teams, "WORTH_A_STEP", 0.0)
    monkeypatch.setattr(teams, "WORTH_A_CALL", 0.0)
    with fastrev.threads(per_run=2):
        yield


def problem(seed=0, rows=40, sizes=SIZES, dtype=np.float64, activation="tanh", loss="cross_entropy"):
    rng = np.random.default_rng(seed)
    model = fastrev.MLP(sizes, activation, loss, dtype)
    x, y = rng.standard_normal((rows, sizes[0])), rng.random((rows, sizes[-1]))
    return model, model.init(seed), {"train": (x, y)}


def state_of(run: Run) -> list[np.ndarray]:
    state = run._state
    return [state.w, state.carry, state.moments, state.heads, state.tail[: state.cursor[1]], state.cursor]


def assert_equal(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


OPTIMIZERS = {
    "SGD": fastrev.SGD(0.3, 0.9),
    "SGD, a rate for each group": fastrev.SGD(np.linspace(0.1, 0.6, 6)[None], np.linspace(0.5, 0.95, 6)[None]),
    "Adam": fastrev.Adam(0.01),
    "AdamW": fastrev.Adam(0.05, weight_decay=5.0),
}


@two_cores
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("batch", [1, 2, 7, 8, 9, 31, 255, 257, 513, None])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_threads_leave_the_state_of_one(share_everything, optimizer, batch, dtype):
    """Words on the tail and the checksum of all gradients too, whatever the rows of a share."""
    model, w0, arguments = problem(rows=600, dtype=dtype)
    arguments |= {"optimizer": OPTIMIZERS[optimizer], "steps": 23, "l2": 0.01}
    arguments |= {"example_weights": np.linspace(0, 2, 600)} | ({} if batch is None else {"batch_size": batch})
    two = fastrev.train(model, w0, **arguments)
    assert len(two._walk._works) == 2  # one for each thread, also where they have parted since
    with fastrev.threads(per_run=1):
        one = fastrev.train(model, w0, **arguments)
    assert_equal(state_of(two), state_of(one))
    if optimizer == "AdamW":
        assert two._state.carry.any()
    two.rewind()
    assert two.stats.exact
    assert one._walk.threads == 1
    one.rewind()
    assert one.stats.exact


@two_cores
@pytest.mark.parametrize("steps", [2, 300])
def test_a_tail_that_fills_up_stops_both(share_everything, monkeypatch, steps):
    """It grows many times; each time both leave the kernel and come back."""
    monkeypatch.setattr("fastrev._engine.state._LEAST_WORDS", 0)
    model, w0, arguments = problem()
    arguments |= {"optimizer": fastrev.SGD(0.1, 0.5), "steps": steps}
    two = fastrev.train(model, w0, **arguments)
    with fastrev.threads(per_run=1):
        one = fastrev.train(model, w0, **arguments)
    assert_equal(state_of(two), state_of(one))
    two.rewind()
    assert two.stats.exact


@two_cores
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("where", ["first share", "second share"])
def test_a_refused_step_is_taken_back_whole(share_everything, optimizer, where):
    """Whichever share left its grid: same step, same group, same state, which goes back to its start."""
    model, w0, arguments = problem(activation="identity", loss="squared_error")
    cut = teams.cut_of(model)
    weights = w0.copy()
    weights[slice(cut) if where == "first share" else slice(cut, None)] *= 1e3
    arguments |= {"optimizer": OPTIMIZERS[optimizer], "steps": 400, "example_weights": np.full(40, 1e4)}
    ends = []
    for per_run in (2, 1):
        with fastrev.threads(per_run=per_run), pytest.raises(fastrev.DivergenceError) as caught:
            fastrev.train(model, weights, **arguments)
        error = caught.value
        ends.append((error.step, error.group, str(error)))
        found = state_of(error.run)
        error.run.rewind()
        assert error.run.stats.exact
        ends[-1] += (found,)
    assert ends[0][:3] == ends[1][:3]
    assert_equal(ends[0][3], ends[1][3])


@two_cores
def test_the_validation_gradient_has_the_same_bits(share_everything):
    rng = np.random.default_rng(0)
    for rows in (1, 5, 256, 257, 700):
        for dtype in (np.float64, np.float32):
            model, w, _ = problem(dtype=dtype)
            x, y = rng.standard_normal((rows, SIZES[0])), rng.random((rows, SIZES[-1]))
            two = model.grad(w, x, y, l2=0.1)
            with fastrev.threads(per_run=1):
                one = model.grad(w, x, y, l2=0.1)
            assert np.array_equal(two, one)


@two_cores
def test_runs_in_threads_do_not_meet_each_other(share_everything):
    model, w0, arguments = problem()
    arguments |= {"lr": 0.3, "decay": 0.9, "steps": 40, "valid": arguments["train"]}
    expected = fastrev.meta_grad(model, w0, **arguments).grad.w0
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(fastrev.meta_grad(model, w0, **arguments).grad.w0))
        for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 4
    assert all(np.array_equal(each, expected) for each in found)


@two_cores
def test_a_call_within_a_call_shares_its_thread(share_everything, monkeypatch):
    model, w0, arguments = problem()
    arguments |= {"lr": 0.3, "decay": 0.9}
    inner = fastrev.train(model, w0, **arguments, steps=5)
    seen, started, start = [], [], _thread.start_new_thread
    monkeypatch.setattr(_thread, "start_new_thread", lambda *a: (started.append(1), start(*a)))

    def look(step, w):
        seen.append(fastrev.train(model, w0, **arguments, steps=5))

    fastrev.train(model, w0, **arguments, steps=3, callback=look)
    assert len(started) == 1
    assert len(seen) == 3
    assert all(np.array_equal(each.w, inner.w) for each in seen)


@two_cores
@pytest.mark.parametrize("truncate", [None, 4])
@pytest.mark.parametrize("losses", [1, 3])
def test_what_a_signals_handler_calls_does_not_meet_the_walk_that_it_interrupts(
    share_everything, monkeypatch, losses, truncate
):
    """As if it came at all the moments when the other thread has something to do, or waits for what this one does."""
    model, w0, arguments = problem()
    arguments |= {"lr": 0.3, "decay": 0.9, "steps": 9, "valid": [arguments["train"]] * losses}
    arguments |= {"wrt": ("lr", "w0"), "truncate": truncate}
    expected, made, within = fastrev.meta_grad(model, w0, **arguments), [], []

    def interrupted(name):
        whole = getattr(Companion, name)

        def method(self, *args, **kwargs):
            found = whole(self, *args, **kwargs)
            if not within:
                within.append(True)
                made.append(fastrev.meta_grad(model, w0, **arguments))
                within.clear()
            return found

        monkeypatch.setattr(Companion, name, method)

    monkeypatch.setattr(teams, "part", lambda: None)  # as they might where the cores are taken
    for name in ("hand", "meet", "engage"):
        interrupted(name)
    made.append(fastrev.meta_grad(model, w0, **arguments))
    assert len(made) > 4
    for each in made:
        assert np.array_equal(each.w, expected.w)
        assert np.array_equal(each.grad.w0, expected.grad.w0)
        assert np.array_equal(each.grad.lr, expected.grad.lr)


@two_cores
def test_a_call_that_is_interrupted_within_a_call_leaves_the_other_its_bits(share_everything, monkeypatch):
    """Where the exception is survived: the thread that both had still waits for the step that was not made."""
    model, w0, arguments = problem()
    arguments |= {"lr": 0.3, "decay": 0.9, "steps": 9}
    expected = fastrev.train(model, w0, **arguments)
    other = {**arguments, "train": problem(seed=1)[2]["train"]}
    hand, fail = Companion.hand, [False]

    def interrupted(self, task):
        hand(self, task)
        if fail[0]:
            raise KeyboardInterrupt

    def look(step, w):
        fail[0] = True
        with pytest.raises(fastrev.TrainingInterrupt):
            fastrev.train(model, w0, **other)
        fail[0] = False

    monkeypatch.setattr(Companion, "hand", interrupted)
    assert_equal(state_of(fastrev.train(model, w0, **arguments, callback=(look, 4))), state_of(expected))


END = """
import numpy as np
import fastrev
from fastrev._engine import teams
from tests.test_team import problem

teams.WORTH_A_STEP = 0.0
fastrev.threads(per_run=2)
model, w0, arguments = problem()
arguments |= {"lr": 0.3, "decay": 0.9, "steps": 9, "valid": arguments["train"]}
expected = fastrev.meta_grad(model, w0, **arguments)

class Last:
    def __del__(self):
        print(np.array_equal(fastrev.meta_grad(model, w0, **arguments).grad.w0, expected.grad.w0))

last = Last()
"""


@two_cores
def test_the_last_call_of_a_process_waits_for_no_thread():
    """The interpreter, which ends, would let none go on."""
    assert output_of(END) == ["True"]


FORK = """
import os, sys
import numpy as np
import fastrev
from fastrev._engine import teams
from fastrev._engine.companion import Companion
from tests.test_team import problem

teams.WORTH_A_STEP = 0.0
fastrev.threads(per_run=2)
model, w0, arguments = problem()
arguments |= {"lr": 0.3, "decay": 0.9, "steps": 9}
expected = fastrev.train(model, w0, **arguments).w

def fork(*_):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(fastrev.train(model, w0, **arguments).w, expected) else 1)
    print(os.waitpid(child, 0)[1])

fork()
fastrev.train(model, w0, **arguments, callback=(fork, 4))

def part(step, w):
    children.append(os.fork())

children = []
found = fastrev.train(model, w0, **arguments, callback=(part, [4])).w
if children == [0]:
    os._exit(0 if np.array_equal(found, expected) else 1)
print(os.waitpid(children[0], 0)[1])

hand = Companion.hand

def in_the_midst(self, task):
    hand(self, task)
    if not children:
        children.append(os.fork())

children.clear()
Companion.hand = in_the_midst
try:
    fastrev.train(model, w0, **arguments)
except RuntimeError as error:
    os._exit(0 if children == [0] and "forked" in str(error) else 1)
print(os.waitpid(children[0], 0)[1])
"""


@two_cores
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_changes_nothing():
    """Between two calls, or within one, whose second thread the child does not have; where nothing else has threads.

    The child may go on with that call, unless both threads were at work.
    """
    assert output_of(FORK) == ["0"] * 6


def output_of(script):
    """The words that it prints, where nothing else has threads."""
    root = Path(__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *map(str, sys.path)])}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# ---- cores that are taken ------------------------------------------------------------------------------------


@two_cores
@pytest.mark.parametrize("wrt", [("lr",), None])
def test_two_that_wait_for_each_other_part_and_no_bit_changes(share_everything, monkeypatch, wrt):
    """As if the kernel had found, after three steps, that the cores are not there."""
    model, w0, arguments = problem()
    arguments |= {"lr": np.full(30, 0.3), "decay": 0.9, "valid": arguments["train"], "wrt": wrt}
    expected = fastrev.meta_grad(model, w0, **arguments)
    make, sizes, walks = CompiledWalk._make, [], []

    def crowded(self, chunk, state, team, stop):
        if team.me == 0:
            sizes.append(team.size)
        if team.size == 1:
            return make(self, chunk, state, team, stop)
        reason = make(self, chunk, state, team, min(stop, 3))
        return outcomes.CROWDED if reason == outcomes.FINE else reason

    monkeypatch.setattr(CompiledWalk, "_make", crowded)
    back = CompiledWalk.back
    monkeypatch.setattr(CompiledWalk, "back", lambda *args: walks.append(back(*args)) or walks[-1])
    found = fastrev.meta_grad(model, w0, **arguments)
    assert sizes == [2, 1]
    assert walks[0].steps_ahead  # in turn
    assert found.stats.exact
    assert found.loss == expected.loss
    assert np.array_equal(found.grad.lr, expected.grad.lr)
    del arguments["valid"], arguments["wrt"]
    assert fastrev.train(model, w0, **arguments).stats.steps == 30
    assert sizes == [2, 1, 2, 1]  # each call tries again


@two_cores
@pytest.mark.parametrize("truncate", [None, 3])
def test_two_that_undo_steps_part_as_well(share_everything, monkeypatch, truncate):
    """The kernel finds it, whose threads have waited since long before; one goes on at the step where they part."""
    model, w0, arguments = problem()
    arguments |= {"lr": 0.3, "decay": 0.9, "steps": 30}
    expected = fastrev.train(model, w0, **arguments).pullback(np.ones(w0.size), truncate=truncate)
    run, undo, ends = fastrev.train(model, w0, **arguments), CompiledWalk._undo_with, []
    start = state_of(Run(run._problem))
    run._walk.threads = 2

    def crowded(self, chunk, state, record, team, stop):
        for mine in handover.MET:
            team.progress[mine + handover.SPENT] = team.progress[mine + handover.WAITED] = 100 * kernels.ENOUGH
        reason = undo(self, chunk, state, record, team, stop)
        if team.me == 0:
            ends.append((team.size, reason, int(state.cursor[0])))
        return reason

    monkeypatch.setattr(CompiledWalk, "_undo_with", crowded)
    if truncate is None:
        run.rewind()
        assert ends == [(2, outcomes.CROWDED, 29), (1, outcomes.FINE, 0)]
    else:
        found = run.pullback(np.ones(w0.size), truncate=truncate)
        assert ends[-2:] == [(2, outcomes.CROWDED, 26), (1, outcomes.FINE, 0)]
        assert np.array_equal(found.lr, expected.lr)
    assert run.stats.exact
    assert_equal(state_of(run), start)


def test_waiting_is_in_vain_if_it_is_most_of_a_while():
    team = Team(0, 2, 0, np.zeros(handover.PROGRESS, np.int64))
    mine = handover.MET[0]
    for begun, waited, expected in (
        (2 * kernels.ENOUGH, 2 * kernels.ENOUGH, True),
        (2 * kernels.ENOUGH, kernels.ENOUGH // 2, False),
        (0, 2 * kernels.ENOUGH, False),
    ):
        team.progress[mine + handover.BEGUN] = clock() - begun
        team.progress[mine + handover.WAITED] = waited
        assert kernels.waits_in_vain(team) == expected
    assert not kernels.waits_in_vain(Team(0, 1, 0, team.progress))


@numba.njit
def clock():
    return cycles()


# ---- shares --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(1, 70), min_size=2, max_size=6))
def test_a_cut_parts_no_row_and_no_cache_line(sizes):
    model = Architecture(sizes, loss="squared_error")
    cut, rows, start = teams.cut_of(model), {0}, 0
    for a, b in pairwise(sizes):
        rows |= {start + i * b for i in range(a + 2)}
        start += (a + 1) * b
    assert cut in rows
    assert cut % 16 == 0
    if model.num_params < 256:
        assert cut == 0
    assert not [at for at in rows if at % 16 == 0 and abs(2 * at - start) < abs(2 * cut - start) and start >= 256]


@settings(deadline=None)
@given(st.integers(0, 2000), st.integers(0, 1))
def test_shares_of_rows_are_all_of_them(size, me):
    progress = np.zeros(handover.PROGRESS, np.int64)
    ranges = [kernels.rows_of.py_func(Team(me, 2, 0, progress), size) for me in range(2)]
    assert ranges[0][0] == 0
    assert ranges[0][1] == ranges[1][0]
    assert ranges[1][1] == size
    assert abs(2 * ranges[0][1] - size) <= 2 * kernels.TILE
    assert kernels.rows_of.py_func(Team(0, 1, 0, progress), size) == (0, size)


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from([np.float64, np.float32]), st.integers(0, 99))
def test_the_checksums_of_parts_add_up(low, size, dtype, seed):
    low = min(low, size) // 2 * 2
    a = np.random.default_rng(seed).standard_normal(size).astype(dtype)
    parts = np.array([checksums.checksum_of_part(a, 0, low), checksums.checksum_of_part(a, low, size)])
    assert parts.sum() == checksums.checksum(a)


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(0, 100), st.integers(0, 99))
def test_an_inner_product_in_pieces_has_the_same_bits(pieces, rest, seed):
    a, b = np.random.default_rng(seed).standard_normal((2, 32 * pieces + rest))
    chains = np.full(40, np.nan)
    reductions.begin(chains)
    for low in range(0, 32 * pieces, 32):
        reductions.accumulate(a, b, low, low + 32, chains)
    reductions.accumulate(a, b, 32 * pieces, a.size, chains)
    assert reductions.fold(chains) == reductions.dot(a, b, 0, a.size)
