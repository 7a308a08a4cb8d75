"""What is killed, interrupted or fails goes on to the same bits; another problem's state is refused."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import fastrev
from fastrev._files import files
from fastrev._tuning import checkpoints
from fastrev.errors import ArgumentError, DivergenceError
from tests.test_minimizing import in_full, minimize, noisy

ROOT = Path(__file__).parents[1]
X, TARGETS = np.random.default_rng(1).standard_normal((40, 3)), np.arange(40) % 2
MODEL = fastrev.MLP((3, 4, 2))


class Killed(BaseException):
    """As if by a signal that nobody can catch."""


@pytest.fixture(autouse=True)
def at_every_meta_step(monkeypatch):
    monkeypatch.setattr(checkpoints, "_REST", 0.0)


def tune(**changes):
    arguments = {
        "train": (X[:30], TARGETS[:30]), "valid": (X[30:], TARGETS[30:]), "steps": 10, "batch_size": 5,
        "lr": np.full((10, 4), 0.3), "decay": 0.9, "l2": np.full(4, 1e-3), "learn": ("lr", "decay", "l2"), "runs": 3,
        "meta_steps": 12, "meta_lr": 0.1, "progress": False,
    } | changes  # fmt: skip
    return fastrev.tune(arguments.pop("model", MODEL), arguments.pop("w0", None), **arguments)


def all_of(result):
    """Every bit of a result of `tune`."""
    values = {name: np.asarray(value).tobytes() for name, value in result.learned.items()}
    history = {name: each.tobytes() for name, each in result.history._asdict().items()}
    names = ("loss", "start_loss", "nit", "nfev", "refused", "diverged", "success", "message")
    return values, history, *(getattr(result, name) for name in names)


@pytest.fixture
def fuse(monkeypatch):
    """Has the functions below die at the so manieth call from now on."""

    def light(moment, error=Killed):
        count = itertools.count(1)

        def burn():
            if next(count) == moment:
                raise error

        monkeypatch.setattr("tests.test_checkpoint.burn", burn)

    return light


def burn():
    pass


def luck(values, seed):
    """Of which nothing can be learned."""
    burn()
    return 1 + seed % 1000 / 1000, {"x": np.ones(3)}


def difficult(values, seed):
    """With steps taken back, and runs that are lost."""
    burn()
    if seed % 7 == 0:
        raise DivergenceError("lost", step=0, group="W1")
    loss, gradients = noisy(values, seed)
    return loss, gradients if seed % 5 else {"x": -3 * gradients["x"]}


ARGUMENTS = {"runs": 2, "meta_steps": 20, "meta_lr": 2.0}


def meta_steps_in(path):
    return files.read(path).arrays["history.loss"].size


# ---- the same bits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Killed, KeyboardInterrupt])
@pytest.mark.parametrize("moment", [1, 2, 3, 4, 5, 17, 40, 79, 80, 81, 90])
def test_killed_at_any_run(tmp_path, fuse, moment, error):
    """Of 80 of meta-steps, and those that the end is chosen by."""
    expected = minimize(difficult, **ARGUMENTS)
    assert expected.refused > 2
    assert expected.diverged > 2
    path = tmp_path / "state"
    fuse(moment, error)
    with pytest.raises(Killed) if error is Killed else nullcontext():
        minimize(difficult, checkpoint=path, **ARGUMENTS)
    assert path.exists() == (error is KeyboardInterrupt or moment > 4)  # when the first meta-step had ended
    assert in_full(minimize(difficult, checkpoint=path, **ARGUMENTS)) == in_full(expected)
    assert in_full(minimize(difficult, checkpoint=path, **ARGUMENTS)) == in_full(
        expected
    )  # and once more, from its end


def test_killed_again_and_again(tmp_path, fuse):
    """Whatever it comes to each time."""
    expected, path = minimize(difficult, **ARGUMENTS), tmp_path / "state"
    for _ in range(100):
        fuse(9)
        with pytest.raises(Killed):
            minimize(difficult, checkpoint=path, **ARGUMENTS)
        if meta_steps_in(path) == ARGUMENTS["meta_steps"]:
            break
    fuse(0)  # the choice of the end takes more runs than 9
    result = minimize(difficult, checkpoint=path, **ARGUMENTS)
    assert in_full(result) == in_full(expected)


@pytest.mark.parametrize("moment", [1, 7, 12])
def test_killed_in_the_callback(tmp_path, moment):
    def callback(state):
        if state.nit == moment:
            raise Killed

    expected, path = tune(), tmp_path / "state"
    with pytest.raises(Killed):
        tune(checkpoint=path, callback=callback)
    seen = []
    result = tune(checkpoint=path, callback=lambda state: seen.append(state.nit))
    assert seen == list(range(moment + 1, 13))
    assert all_of(result) == all_of(expected)


def test_ended_by_the_callback_it_goes_on(tmp_path):
    def callback(state):
        if state.nit == 5:
            raise StopIteration

    path = tmp_path / "state"
    assert tune(checkpoint=path, callback=callback).nit == 5
    assert all_of(tune(checkpoint=path)) == all_of(tune())


def test_patience_goes_on_where_it_was(tmp_path, fuse):
    arguments = {"runs": 2, "meta_steps": 60, "patience": 6, "seed": 3}
    expected, path = minimize(luck, **arguments), tmp_path / "state"
    assert 4 < expected.nit < 60
    fuse(4 * expected.nit - 1)
    with pytest.raises(Killed):
        minimize(luck, checkpoint=path, **arguments)
    assert meta_steps_in(path) == expected.nit - 1
    assert in_full(minimize(luck, checkpoint=path, **arguments)) == in_full(expected)


def test_it_goes_on_with_other_workers(tmp_path):
    expected, path = tune(), tmp_path / "state"
    tune(checkpoint=path, callback=lambda state: (_ for _ in ()).throw(KeyboardInterrupt) if state.nit == 4 else None)
    assert all_of(tune(checkpoint=path, workers=2)) == all_of(expected)


def test_the_progress_bar_goes_on(tmp_path, capsys):
    path = tmp_path / "state"
    interrupt = lambda state: (_ for _ in ()).throw(KeyboardInterrupt) if state.nit == 4 else None
    assert not tune(checkpoint=path, callback=interrupt).success
    tune(checkpoint=path, progress=True)
    assert "12/12" in capsys.readouterr().err


def test_it_is_written_about_every_second(tmp_path, monkeypatch):
    monkeypatch.undo()
    path, written, now = tmp_path / "state", [], [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])

    def callback(state):
        written.append(meta_steps_in(path))
        now[0] += 0.3

    minimize(noisy, checkpoint=path, meta_steps=12, callback=callback)
    assert written == [1, 1, 1, 1, 5, 5, 5, 5, 9, 9, 9, 9]
    assert meta_steps_in(path) == 12


# ---- killed for real -----------------------------------------------------------------------------------------

SCRIPT = """
import pickle, sys, time
import tests.test_checkpoint as here
here.checkpoints._REST = 0.0
def show(state):
    print(state.nit, flush=True)
    time.sleep(0.01)
result = here.tune(checkpoint=sys.argv[1], meta_steps=60, callback=show)
with open(sys.argv[2], "wb") as file:
    pickle.dump((here.all_of(result), result.success), file)
"""


def start(*arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *map(str, sys.path)])}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_killed_by_signals(tmp_path):
    """At random moments, of meta-steps that were seen to be made."""
    rng, path, out = np.random.default_rng(0), tmp_path / "state", tmp_path / "result"
    seen = 0
    for name in ("SIGKILL", "SIGINT"):
        with start(path, out) as process:
            for line in process.stdout:
                if int(line) >= seen + 10:
                    break
            time.sleep(rng.uniform(0, 0.02))
            process.send_signal(getattr(signal, name))
            rest = process.stdout.read().split()
            code = process.wait(timeout=60)
        seen = int(rest[-1] if rest else line)
        assert code == (-signal.SIGKILL if name == "SIGKILL" else 0)
    (*_, nit, _, _, _, success, message), _ = pickle.loads(out.read_bytes())
    assert not success
    assert message == f"Interrupted after {nit} meta-steps."
    assert 20 <= nit < 60
    assert meta_steps_in(path) == nit
    assert all_of(tune(checkpoint=path, meta_steps=60)) == all_of(tune(meta_steps=60))


# ---- another problem -----------------------------------------------------------------------------------------


def but(array, at, value):
    changed = np.array(array)
    changed[at] = value
    return changed


def other_w0(seed):
    return MODEL.init(seed)


CHANGES = [
    ({"train": (but(X[:30], (3, 1), X[3, 1] + 1e-15), TARGETS[:30])}, "'train'"),
    ({"train": (X[:30], but(TARGETS[:30], 7, 1 - TARGETS[7]))}, "'train'"),
    ({"valid": (but(X[30:], (9, 2), 0.0), TARGETS[30:])}, "'valid'"),
    ({"lr": but(np.full((10, 4), 0.3), (0, 0), 0.31)}, "'lr'"),
    ({"decay": 0.91}, "'decay'"),
    ({"l2": np.full(4, 1e-4)}, "'l2'"),
    ({"l2": np.full(MODEL.num_params, 1e-3)}, "'l2'"),
    ({"batch_size": 6}, "'batch_size'"),
    ({"learn": ("lr", "decay")}, "'learn'"),
    ({"seed": 1}, "'seed'"),
    ({"runs": 4}, "'runs'"),
    ({"meta_steps": 13}, "'meta_steps'"),
    ({"meta_lr": 0.2}, "'meta_lr'"),
    ({"patience": 50}, "'patience'"),
    ({"truncate": 3}, "'truncate'"),
    ({"transforms": {"l2": "linear"}}, "'transforms'"),
    ({"example_weights": np.ones(30)}, "'example_weights'"),
    ({"init_scale": 0.5}, "'init_scale'"),
    ({"w0": other_w0}, "'w0'"),
    ({"w0": MODEL.init(0)}, "'w0'"),
    ({"v0": np.zeros(MODEL.num_params)}, "'v0'"),
    ({"model": fastrev.MLP((3, 4, 2), "relu")}, "'model'"),
    ({"model": fastrev.MLP((3, 4, 2), dtype=np.float32)}, "'model'"),
    ({"decay": 0.91, "l2": np.full(4, 1e-4)}, "'decay', 'l2'"),
    ({"lr": None, "decay": None, "optimizer": fastrev.SGD(0.7, 0.9)}, "'lr'"),
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "state"
    tune(checkpoint=path, callback=lambda state: (_ for _ in ()).throw(KeyboardInterrupt))
    return path


@pytest.mark.parametrize(("changes", "names"), CHANGES, ids=[str(each[1]) for each in CHANGES])
def test_a_checkpoint_of_another_problem_is_refused(kept, changes, names):
    before = kept.read_bytes()
    with pytest.raises(ArgumentError) as info:
        tune(checkpoint=kept, callback=lambda state: 1 / 0, **changes)
    message = str(info.value)
    assert "Argument 'checkpoint' must be of the same problem, or a new path, not " in message
    assert names in message.split("differs in ")[1]
    assert "Pass the arguments that it was made with, or another path to begin anew." in message
    assert kept.read_bytes() == before


def test_the_same_problem_in_other_clothes(kept, tmp_path):
    """Lists, integers of NumPy, and arrays in another order in memory are the same numbers."""
    path = tmp_path / "state"
    path.write_bytes(kept.read_bytes())
    result = tune(
        checkpoint=str(path), train=[np.asfortranarray(X[:30]), TARGETS[:30]], valid=(X[30:].tolist(), TARGETS[30:]),
        steps=np.int64(10), batch_size=np.int32(5), decay=np.float64(0.9), l2=[1e-3] * 4, seed=np.int64(0),
    )  # fmt: skip
    assert all_of(result) == all_of(tune())


class Ridge:
    """With a hyperparameter that is not learned."""

    num_params = 3

    def __init__(self, penalty=0.1):
        self.theta = {"penalty": np.array(penalty)}

    def grad(self, w, t):
        return X.T @ (X @ w - TARGETS) / 40 + self.theta["penalty"] * w

    def hvp(self, w, u, t):
        return X.T @ (X @ u) / 40 + self.theta["penalty"] * u

    def cross(self, w, u, t):
        return {"penalty": w @ u}


def test_an_objective_with_other_hyperparameters_is_another_problem(tmp_path):
    path = tmp_path / "state"
    arguments = {
        "w0": np.zeros(3), "valid": lambda w: (w @ w, 2 * w), "steps": 5, "lr": 0.1, "decay": 0.5, "learn": ("lr",),
        "meta_steps": 3, "progress": False, "checkpoint": path,
    }  # fmt: skip
    first = fastrev.tune(Ridge(), **arguments)
    assert all_of(fastrev.tune(Ridge(), **arguments)) == all_of(first)
    with pytest.raises(ArgumentError, match=r"differs in \"model.theta\['penalty'\]\""):
        fastrev.tune(Ridge(0.2), **arguments)

    class Other(Ridge):
        def grad(self, w, t):
            return 2 * super().grad(w, t)

    Other.__qualname__ = "Ridge"
    with pytest.raises(ArgumentError, match=r"differs in 'model\.grad'"):
        fastrev.tune(Other(), **arguments)
    with pytest.raises(ArgumentError, match="differs in 'valid'"):
        fastrev.tune(Ridge(), **(arguments | {"valid": lambda w: (2 * w @ w, 4 * w)}))


def test_a_function_is_known_by_its_code(tmp_path):
    """As it is edited in a notebook, under the same name."""
    path = tmp_path / "state"
    source = "def fun(values, seed):\n    return sum(v @ v for v in [values['x']]), {'x': values['x']}"

    def made(source):
        exec(source, namespace := {})
        return namespace["fun"]

    expected = minimize(made(source), checkpoint=path)
    assert in_full(minimize(made(source), checkpoint=path)) == in_full(expected)
    for edited in (source.replace("v @ v", "2 * v @ v"), source.replace("v @ v", "abs(v) @ v")):
        with pytest.raises(ArgumentError, match="differs in 'fun'"):
            minimize(made(edited), checkpoint=path)


def test_minimize_refuses_another_problem(tmp_path):
    path = tmp_path / "state"
    minimize(checkpoint=path)
    changes = {"x0": {"x": np.ones(3)}, "transforms": {"x": (-9, 9)}, "fun": difficult, "loss": lambda v, s: 0.0}
    for name, value in changes.items():
        with pytest.raises(ArgumentError, match=f"differs in .*{name}"):
            minimize(checkpoint=path, **{name: value})
    with pytest.raises(ArgumentError, match=r"it is a file of kind 'tuning checkpoint', not 'tune result'"):
        fastrev.load(path)


# ---- files that are none -------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_refused(kept, tmp_path):
    """And is still there."""
    whole, path = kept.read_bytes(), tmp_path / "state"
    for at in np.linspace(0, len(whole) - 1, 40).astype(int):  # all of these say something
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ArgumentError, match="Argument 'checkpoint' must be"):
            tune(checkpoint=path)
        assert path.read_bytes() == damaged
    for damaged in (b"", whole[: len(whole) // 2], b"hello", pickle.dumps(3)):
        path.write_bytes(damaged)
        with pytest.raises(ArgumentError, match="Argument 'checkpoint' must be a file that fastrev wrote"):
            tune(checkpoint=path)


def test_paths_that_cannot_be_written_are_refused_before_any_work(tmp_path):
    def never(values, seed):
        raise AssertionError("was called")

    for path in (tmp_path, tmp_path / "none" / "state", "", 3):
        with pytest.raises(ArgumentError, match="Argument 'checkpoint' must"):
            minimize(never, checkpoint=path)


def test_results_are_no_checkpoints(tmp_path):
    path = tmp_path / "result"
    tune(meta_steps=1).save(path)
    with pytest.raises(ArgumentError, match="it is a file of kind 'tune result', not 'tuning checkpoint'"):
        tune(checkpoint=path)


def test_a_full_disk_costs_the_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    """What was learned is worth more than the file."""
    expected = tune()

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.warns(RuntimeWarning, match=r"not written, and the loop goes on.*No space left") as warned:
        result = tune(checkpoint=tmp_path / "state")
    assert len(warned) == 1
    assert all_of(result) == all_of(expected)
    assert not list(tmp_path.iterdir())
