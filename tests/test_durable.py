"""Runs on disk: killed anywhere they go on to the same bits; files of anything else are refused by name."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrev
from fastrev._durable import checkpoints, run_files
from fastrev._files import archive, files
from fastrev.errors import ArgumentError, DivergenceError, ReversalError, TrainingInterrupt
from tests.cases import digits_like
from tests.killing import bits
from tests.test_interrupts import inject
from tests.test_objective import Quadratic
from tests.test_objective import valid as quadratic_valid

ROOT = Path(__file__).parents[1]
STEPS = 20


class Killed(BaseException):
    """As if by a signal that nobody can catch."""


@pytest.fixture
def fuse(monkeypatch):
    """Has what is kept die when it was written so many times; the file is there by then."""

    def light(moment):
        count, write = itertools.count(1), files.write

        def burn(*arguments):
            write(*arguments)
            if next(count) == moment:
                raise Killed

        monkeypatch.setattr(run_files.files, "write", burn)
        return lambda: monkeypatch.setattr(run_files.files, "write", write)

    return light


# ---- what is kept --------------------------------------------------------------------------------------------


def many(case):
    x, y = case.arguments["valid"]
    return [(x[i : i + 2], y[i : i + 2]) for i in range(3)]


def network(**changes):
    case = digits_like(STEPS, **changes)
    return lambda **kept: case.meta_grad(**kept)


def of_three(**kept):
    case = digits_like(STEPS)
    return case.meta_grad(valid=many(case), wrt=("lr", "w0", "x"), **kept)


def by_adam(**kept):
    optimizer = fastrev.Adam(np.full((STEPS, 4), 0.01), weight_decay=0.1)
    return digits_like(STEPS, lr=None, decay=None, optimizer=optimizer).meta_grad(wrt=None, **kept)


def of_last_steps(**kept):
    return digits_like(STEPS).meta_grad(truncate=8, wrt=("lr", "decay"), **kept)


def on_one_thread(**kept):
    with fastrev.threads(per_run=1):
        return digits_like(STEPS).meta_grad(**kept)


def of_functions(**kept):
    return fastrev.meta_grad(
        Quadratic(), np.ones(5), valid=[quadratic_valid, quadratic_valid], lr=0.1, decay=0.9, steps=8, **kept
    )


def of_functions_by_adam(**kept):
    optimizer = fastrev.Adam(0.05)
    return fastrev.meta_grad(Quadratic(), np.ones(5), valid=quadratic_valid, optimizer=optimizer, steps=8, **kept)


def there_and_back(**kept):
    """Two files."""
    case, path = digits_like(STEPS), kept.pop("checkpoint", None)
    run = case.train(**kept, checkpoint=path)
    back = None if path is None else path.with_name("back")
    grad = run.pullback(run.w, run.v, wrt=("lr", "w0", "v0"), checkpoint=back, **kept)
    return run.w, run.v, run.stats, grad


WAYS = {
    "network": network(), "network of single precision": network(dtype=np.float32), "three losses": of_three,
    "Adam with weight decay": by_adam, "truncated": of_last_steps, "one thread": on_one_thread,
    "functions": of_functions, "functions by Adam": of_functions_by_adam, "two files": there_and_back,
    "all examples": network(batch_size=None), "given batches": network(
        batch_size=None, batches=np.random.default_rng(0).integers(40, size=(STEPS, 5))),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_killed_whenever_it_was_written(way, fuse, tmp_path):
    plain, path = bits(way()), tmp_path / "run"
    for moment in itertools.count(1):
        extinguish = fuse(moment)
        try:
            assert bits(way(checkpoint=path, every=6)) == plain
            break
        except Killed:
            extinguish()
            assert bits(way(checkpoint=path, every=6)) == plain
            assert bits(way(checkpoint=path)) == plain  # at once
            for each in tmp_path.iterdir():
                each.unlink()
    assert moment >= (5 if "functions" in way.__name__ else 9)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_killed_again_and_again(way, fuse, tmp_path):
    """Every time after one more piece."""
    plain, path = bits(way()), tmp_path / "run"
    for deaths in itertools.count(0):  # noqa: B007
        extinguish = fuse(1)
        try:
            assert bits(way(checkpoint=path, every=3)) == plain
            break
        except Killed:
            extinguish()
    assert deaths >= (6 if "functions" in way.__name__ else 10)


def test_it_goes_on_in_other_pieces_and_on_other_threads(fuse, tmp_path):
    case, path = digits_like(STEPS), tmp_path / "run"
    plain = case.meta_grad()  # of which only the memory depends on the threads
    for moment, threads in itertools.product((2, 5), (1, 2)):
        extinguish = fuse(moment)
        with fastrev.threads(per_run=3 - threads), pytest.raises(Killed):
            case.meta_grad(checkpoint=path, every=5)
        extinguish()
        with fastrev.threads(per_run=threads):
            result = case.meta_grad(checkpoint=path, every=2)
        assert (result.grad, result.w.tolist()) == (plain.grad, plain.w.tolist())
        path.unlink()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_killed_by_signals(tmp_path):
    """At random moments; 300 of them are `python -m bench.kills`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *map(str, sys.path)])}
    command = [sys.executable, "-W", "error", "-m", "tests.killing", "36", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert sum(sum(each["kills"].values()) for each in found.values()) == 36
    assert {where for each in found.values() for where in each["kills"]} >= {"there", "back", "tuning"}


def test_an_exception_at_any_line_loses_nothing(tmp_path):
    """Of training, writing, and the way back, every third time with what the last one left."""
    case, path, rng = digits_like(12), tmp_path / "run", np.random.default_rng(0)
    plain = case.meta_grad()
    for attempt in range(15):
        where = inject(lambda: case.meta_grad(checkpoint=path, every=5), int(rng.integers(1, 4000)))
        assert {each.name for each in tmp_path.iterdir()} <= {"run"}, where
        assert case.meta_grad(checkpoint=path, every=5) == plain, where
        if attempt % 3:
            path.unlink()


def test_the_memory_that_is_told_of_is_that_of_a_run_that_nobody_killed(fuse, tmp_path):
    """Of a tail that has grown a few times, too."""
    model, path = fastrev.MLP((100, 300, 2)), tmp_path / "run"
    arguments = {"train": (np.eye(100), np.arange(100) % 2), "lr": 0.1, "decay": 0.01, "steps": 30}
    plain = fastrev.train(model, model.init(0), **arguments).stats
    for moment in range(1, 6):
        extinguish = fuse(moment)
        with pytest.raises(Killed):
            fastrev.train(model, model.init(0), checkpoint=path, every=5, **arguments)
        extinguish()
        assert fastrev.train(model, model.init(0), checkpoint=path, **arguments).stats == plain
        path.unlink()


# ---- when it is written --------------------------------------------------------------------------------------


def steps_in(path):
    return int(files.read(path).arrays["cursor"][0])


def test_every_so_many_steps_there_and_back(monkeypatch, tmp_path):
    path, seen, write = tmp_path / "run", [], files.write

    def watch(*arguments):
        write(*arguments)
        seen.append(steps_in(path))

    monkeypatch.setattr(run_files.files, "write", watch)
    digits_like(STEPS).meta_grad(checkpoint=path, every=6)
    assert seen == [6, 12, 18, 20, 18, 12, 6, 0]


@pytest.mark.parametrize("takes", [0.0, 0.1])
def test_about_every_second_or_less_often_where_that_takes_long(monkeypatch, tmp_path, takes):
    path, now, seen, write = tmp_path / "run", [0.0], [], files.write

    def slow(*arguments):
        write(*arguments)
        seen.append(steps_in(path))
        now[0] += takes

    monkeypatch.setattr(run_files.files, "write", slow)
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])

    class Slow(Quadratic):
        def grad(self, w, t):
            now[0] += 0.01
            return super().grad(w, t)

    model = Slow(centers=np.zeros((1000, 5)))
    fastrev.train(model, np.ones(5), lr=0.1, decay=0.9, steps=1000, checkpoint=path)
    assert seen[0] == pytest.approx(100, abs=1)
    assert seen[1] - seen[0] == pytest.approx(550 if takes else 100, abs=1)  # a writing takes a gradient, too
    assert seen[-1] == 1000


def test_what_is_called_on_the_way_sees_the_rest_once(fuse, tmp_path):
    path, seen = tmp_path / "run", []
    case = digits_like(STEPS)
    x, y = case.arguments["valid"]
    watch = {"curve": (x, y, 3), "callback": (lambda step, w: seen.append(step), 2)}
    plain = case.train(**watch)
    for moment in range(1, 6):
        extinguish = fuse(moment)
        seen.clear()
        with pytest.raises(Killed):
            case.train(checkpoint=path, every=4, **watch)
        extinguish()
        run = case.train(checkpoint=path, every=4, **watch)
        assert seen == list(range(2, STEPS + 1, 2))  # written before the others look
        assert run.curve == plain.curve
        assert run.stats == plain.stats
        path.unlink()


def test_ended_by_its_callback_it_is_there_at_once_or_goes_on(tmp_path):
    case, path = digits_like(STEPS), tmp_path / "run"
    x, y = case.arguments["valid"]

    def enough(step, w):
        if step == 13:
            raise StopIteration

    kept = {"checkpoint": path, "curve": (x, y, 5)}
    for _ in range(2):
        run = case.train(callback=enough, **kept)
        assert run.stats.steps == 13
        assert run.curve.steps.tolist() == [0, 5, 10, 13]
    run = case.train(**kept)
    assert run.curve == case.train(curve=(x, y, 5)).curve
    assert run.stats == case.train().stats


def test_a_callback_that_fails_loses_nothing_that_was_written(tmp_path):
    case, path = digits_like(STEPS), tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        case.train(checkpoint=path, every=4, callback=lambda step, w: 1 / (step - 10))
    assert steps_in(path) == 8
    np.testing.assert_array_equal(case.train(checkpoint=path).w, case.train().w)


def test_the_progress_bar_goes_on(fuse, tmp_path, capsys):
    extinguish = fuse(1)
    with pytest.raises(Killed):
        digits_like(STEPS).train(checkpoint=tmp_path / "run", every=15)
    extinguish()
    digits_like(STEPS).train(checkpoint=tmp_path / "run", progress=True)
    assert "20/20" in capsys.readouterr().err


FULL_DISK = """
import resource, sys, warnings
import numpy as np
import fastrev
from tests.cases import digits_like
case, path = digits_like(20), sys.argv[1]
plain = case.meta_grad()
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    result = case.meta_grad(checkpoint=path, every=3)
texts = [str(each.message) for each in caught]
assert len(texts) == 2 and all("The checkpoint is not written, and the run goes on without" in each for each in texts)
assert caught[0].category is RuntimeWarning and caught[0].filename.endswith("cases.py"), caught[0]
assert result == plain
run = case.train()
try:
    run.save(path)
except fastrev.ArgumentError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
run.save(path)
assert run.pullback(run.w).lr == fastrev.load(
    path, case.model, case.w0, **{name: value for name, value in case.arguments.items() if name != "valid"}
).pullback(run.w).lr
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_where_the_disk_is_full_the_run_goes_on(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *map(str, sys.path)])}
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "File too large. Make room, or pass another path: it is not saved." in done.stdout
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


# ---- saved and loaded ----------------------------------------------------------------------------------------


def load(path, case, **changes):
    arguments = {name: value for name, value in case.arguments.items() if name not in ("valid", "wrt")}
    return fastrev.load(path, case.model, case.w0, **(arguments | changes))


def test_a_run_at_its_end(tmp_path):
    case, path = digits_like(STEPS), tmp_path / "run"
    x, y = case.arguments["valid"]
    run = case.train(curve=(x, y, 7))
    run.save(path)
    again = load(path, case)
    assert repr(again) == repr(run)
    np.testing.assert_array_equal(again.w, run.w)
    assert again.curve == run.curve
    assert again.pullback(run.w) == run.pullback(run.w)
    assert again.stats == run.stats
    assert again.stats.exact


@pytest.mark.parametrize("rewound", [False, True])
def test_a_run_that_has_gone_its_way_back(tmp_path, rewound):
    case, path = digits_like(STEPS), tmp_path / "run"
    run = case.train()
    w = run.w
    run.rewind() if rewound else run.pullback(w)
    run.save(path)
    again = load(path, case)
    assert again.stats == run.stats
    assert again.stats.exact
    np.testing.assert_array_equal(again.w, w)
    with pytest.raises(ReversalError, match="consumed"):
        again.pullback(w)


def interrupted(step, w):
    if step == 11:
        raise KeyboardInterrupt


def test_a_run_that_was_interrupted(tmp_path):
    case, path = digits_like(STEPS), tmp_path / "run"
    with pytest.raises(TrainingInterrupt) as info:
        case.train(callback=interrupted)
    info.value.run.save(path)
    run = load(path, case)
    assert run.stats.steps == 11
    run.rewind()
    assert run.stats.exact
    assert case.meta_grad(checkpoint=path) == case.meta_grad()  # goes on from there


def test_a_run_that_was_refused(tmp_path):
    case, path = digits_like(STEPS, lr=1e7), tmp_path / "run"
    with pytest.raises(DivergenceError) as info:
        case.train()
    info.value.run.save(path)
    run = load(path, case)
    assert run.stats == info.value.run.stats
    run.rewind()
    assert run.stats.exact


@pytest.mark.parametrize("differentiated", [False, True])
def test_a_run_half_way_back(tmp_path, monkeypatch, differentiated):
    monkeypatch.setattr("fastrev._engine.compiled_walk._CHUNK_STEPS", 4)
    case, path, count = digits_like(STEPS), tmp_path / "run", itertools.count(1)
    run = case.train()
    w = run.w

    def burn():
        if next(count) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("fastrev._engine.pooled.heed", burn)
    with pytest.raises(KeyboardInterrupt):
        run.pullback(w) if differentiated else run.rewind()
    run.save(path)
    again = load(path, case)
    assert repr(again) == repr(run)
    assert "taken back to step " in repr(again)
    np.testing.assert_array_equal(again.w, w)
    with pytest.raises(ReversalError, match="has begun its way back"):
        again.pullback(w)
    again.rewind()
    assert again.stats.exact
    with pytest.raises(ReversalError, match="has begun its way back"):
        case.meta_grad(checkpoint=path)


def test_a_pullback_that_was_interrupted_goes_on_with_the_same_run(tmp_path, monkeypatch):
    case, path, count = digits_like(STEPS), tmp_path / "run", itertools.count(1)
    plain = case.train().pullback(case.w0)
    run = case.train()

    def burn():
        if next(count) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("fastrev._engine.pooled.heed", burn)
    with pytest.raises(KeyboardInterrupt):
        run.pullback(case.w0, checkpoint=path, every=4)
    assert run.pullback(case.w0, checkpoint=path) == plain
    assert run.pullback(case.w0, checkpoint=path) == plain  # and once more, from its end
    assert run.stats.exact
    with pytest.raises(ReversalError, match="consumed"):
        run.pullback(case.w0)


def test_a_lost_run_is_not_saved_and_its_checkpoint_not_trusted(tmp_path):
    case, path = digits_like(STEPS), tmp_path / "run"
    run = case.train()
    run._state.heads[0, 3] ^= 1
    with pytest.raises(ReversalError, match="Pass a new checkpoint: this one may hold the fault"):
        run.pullback(run.w, checkpoint=path, every=5)
    with pytest.raises(ReversalError, match="It is lost"):
        run.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


# ---- what is refused -----------------------------------------------------------------------------------------


def but(array, at, value):
    changed = np.array(array)
    changed[at] = value
    return changed


CASE = digits_like(STEPS)
X, Y = CASE.arguments["train"]
CHANGES = [
    ({"train": (but(X, (3, 1), X[3, 1] + 1e-15), Y)}, "'train[0]'"),
    ({"train": (X, but(Y, 7, (Y[7] + 1) % 3))}, "'train[1]'"),
    ({"lr": 0.31}, "'lr'"),
    ({"lr": np.full(STEPS, 0.3)}, "'lr'"),
    ({"decay": 0.91}, "'decay'"),
    ({"l2": 1e-4}, "'l2'"),
    ({"batch_size": 9}, "'batch_size'"),
    ({"seed": 1}, "'seed'"),
    ({"batch_size": None}, "'batch_size', 'seed'"),
    ({"steps": STEPS + 1}, "'steps'"),
    ({"example_weights": np.full(40, 2.0)}, "'example_weights'"),
    ({"v0": but(np.zeros(CASE.model.num_params), 0, 1e-9)}, "'v0'"),
    ({"w0": but(CASE.w0, 5, 0.5)}, "'w0'"),
    ({"model": fastrev.MLP((4, 5, 3), "relu")}, "'model'"),
    ({"model": fastrev.MLP((4, 5, 3), dtype=np.float32)}, "'dtype', 'train[0]', 'train[1]'"),
    ({"lr": None, "decay": None, "optimizer": fastrev.Adam(0.3, 0.9)}, "'optimizer'"),
]


def call(function, **changes):
    arguments = CASE.arguments | changes
    return function(arguments.pop("model", CASE.model), arguments.pop("w0", CASE.w0), **arguments)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """One on its way there, and one on its way back."""
    there, back = (tmp_path_factory.mktemp("kept") / name for name in ("there", "back"))
    with pytest.raises(TrainingInterrupt) as info:
        CASE.train(callback=interrupted)
    info.value.run.save(there)
    write, count = files.write, itertools.count(1)

    def burn(*arguments):
        write(*arguments)
        if next(count) == 3:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_files.files, "write", burn)
        with pytest.raises(Killed):
            call(fastrev.meta_grad, checkpoint=back, every=10)
    return there, back


@pytest.mark.parametrize(("changes", "names"), CHANGES, ids=[str(each[1]) for each in CHANGES])
def test_a_run_of_something_else_is_refused(kept, changes, names):
    for path in kept:
        before = path.read_bytes()
        with pytest.raises(ArgumentError) as info:
            call(fastrev.meta_grad, checkpoint=path, **changes)
        message = str(info.value)
        assert "Argument 'checkpoint' must be of the same problem, or a new path, not " in message
        assert f"which differs in {names}" in message
        without = {name: value for name, value in changes.items() if name not in ("model", "w0")}
        case = digits_like(STEPS)
        case.model, case.w0 = changes.get("model", case.model), changes.get("w0", case.w0)
        with pytest.raises(ArgumentError, match="Argument 'path' must be of the same problem"):
            load(path, case, **without)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"wrt": ("lr",)}, "'wrt'"),
        ({"truncate": 5}, "'truncate'"),
        ({"valid": (but(CASE.arguments["valid"][0], (0, 0), 0.5), CASE.arguments["valid"][1])}, "'w_bar or valid'"),
        ({"valid": many(CASE)}, "'w_bar or valid', 'v_bar'"),
    ],
)
def test_another_way_back_is_refused(kept, changes, names):
    with pytest.raises(ArgumentError, match=f"which differs in {names}"):
        call(fastrev.meta_grad, checkpoint=kept[1], **changes)


def test_another_curve_and_another_end_are_refused(kept, tmp_path):
    x, y = CASE.arguments["valid"]
    with pytest.raises(ArgumentError, match="which differs in 'curve'"):
        CASE.train(checkpoint=kept[0], curve=(x, y, 7))
    with pytest.raises(TrainingInterrupt) as info:
        CASE.train(callback=interrupted)
    with pytest.raises(ArgumentError, match="'the steps made', 'the final weights'"):
        info.value.run.pullback(CASE.w0, checkpoint=kept[1])
    assert info.value.run.stats.exact is None


def test_other_functions_are_refused_by_what_they_compute(tmp_path):
    path = tmp_path / "run"
    arguments = {"lr": 0.1, "decay": 0.9, "steps": 8, "checkpoint": path}
    fastrev.train(Quadratic(), np.ones(5), **arguments)

    class Otherwise(Quadratic):
        def grad(self, w, t):
            return np.nextafter(super().grad(w, t), 9)

    Otherwise.__qualname__ = "Quadratic"
    with pytest.raises(ArgumentError, match=r"must be of a run whose gradients.*It was computed on .* with fastrev"):
        fastrev.train(Otherwise(), np.ones(5), **arguments)
    theta = {"scale": np.ones(5), "shift": np.float64(0.3)}
    with pytest.raises(ArgumentError, match=r"differs in \"model.theta\['scale'\]\""):
        fastrev.train(Quadratic(theta=theta), np.ones(5), **arguments)


def test_a_machine_that_computes_other_bits_is_refused(kept, tmp_path):
    for i, path in enumerate(kept):
        kind, about, arrays = files.read(path)
        about["probe"][0] ^= 1
        about["computed on"] = "a 386 (i386 DOS)"
        files.write(tmp_path / f"{i}", kind, about, arrays)
        with pytest.raises(ArgumentError, match=r"It was computed on a 386 \(i386 DOS\); this is .* Numba"):
            call(fastrev.meta_grad, checkpoint=tmp_path / f"{i}")


def test_a_newer_layout_and_what_is_no_run_are_refused(kept, tmp_path):
    kind, about, arrays = files.read(kept[1])
    path = tmp_path / "run"

    def refused(about, arrays, match):
        files.write(path, kind, about, arrays)
        with pytest.raises(ArgumentError, match=match):
            call(fastrev.meta_grad, checkpoint=path)

    refused(about | {"layout": 2}, arrays, "its layout is 2; this is fastrev")
    for name in about.keys() - {"layout"}:
        refused({each: about[each] for each in about if each != name}, arrays, "no whole run")
    for name, array in arrays.items():
        others = [array.astype(np.float32 if array.dtype != np.float32 else np.int8), array[np.newaxis]]
        for other in others:
            refused(about, arrays | {name: other}, "no whole run|kept in|not as it must be")
        refused(about, {each: arrays[each] for each in arrays if each != name}, "no whole run|not as it must be")
    size = arrays["tail"].size
    for cursor in [[-1, 5, 0, 0], [STEPS + 1, size, 0, 0], [3, size + 1, 0, 0], [3, size, 0, 5], [3, size, 0]]:
        refused(about, arrays | {"cursor": np.array(cursor)}, "no whole run")


def test_files_of_other_kinds_are_refused(kept, tmp_path):
    path = tmp_path / "file"
    CASE.model.save(path, CASE.w0)
    with pytest.raises(ArgumentError, match="a file of kind 'model', not 'run'"):
        CASE.train(checkpoint=path)
    with pytest.raises(ArgumentError, match=r"kind 'run', not 'tune result'. Call fastrev.load\(path, model, w0"):
        fastrev.load(kept[0])
    with pytest.raises(ArgumentError, match="kind 'run', not 'model'"):
        fastrev.MLP.load(kept[0])
    path.write_bytes(b"a text")
    with pytest.raises(ArgumentError, match="no file of fastrev's"):
        CASE.train(checkpoint=path)
    with pytest.raises(ArgumentError, match="Argument 'steps' must be left out where there is no model"):
        fastrev.load(kept[0], steps=5)
    with pytest.raises(ArgumentError, match="'w0'"):
        fastrev.load(kept[0], CASE.model, train=(X, Y), lr=0.3, decay=0.9, steps=STEPS)


def test_every_bit_of_a_file_is_held_against_its_checksum(kept):
    """Shortened to any length, and with any byte changed."""
    rng = np.random.default_rng(0)
    for whole in (each.read_bytes() for each in kept):
        assert archive.read(io.BytesIO(whole))
        for size in range(len(whole)):
            with pytest.raises(archive.ArchiveError):
                archive.read(io.BytesIO(whole[:size]))
        for at in range(len(whole)):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << rng.integers(8)
            with pytest.raises(archive.ArchiveError):
                archive.read(io.BytesIO(damaged))


def test_a_damaged_file_is_refused_by_whoever_reads_it(kept, tmp_path):
    path = tmp_path / "run"
    for whole in (each.read_bytes() for each in kept):
        for damaged in (whole[: len(whole) // 2], whole + b"0", whole[:200] + b"?" + whole[201:]):
            path.write_bytes(damaged)
            with pytest.raises(ArgumentError, match=r"'checkpoint' must be a file that fastrev wrote.*damaged"):
                call(fastrev.meta_grad, checkpoint=path)
            with pytest.raises(ArgumentError, match="Argument 'path' must be a file that fastrev wrote"):
                load(path, CASE)
            assert path.read_bytes() == damaged


def test_arguments_are_checked_before_anything_is_computed(tmp_path):
    refuse = lambda step, w: 1 / 0
    with pytest.raises(ArgumentError, match="'every' must be left out where there is no checkpoint, not 5"):
        CASE.train(every=5, callback=refuse)
    with pytest.raises(ArgumentError, match="'every' must be at least 1"):
        CASE.train(checkpoint=tmp_path / "run", every=0, callback=refuse)
    with pytest.raises(ArgumentError, match="'checkpoint' must be a file that can be written"):
        CASE.train(checkpoint=tmp_path / "none" / "run", callback=refuse)
    with pytest.raises(ArgumentError, match="'checkpoint' must be the path of a file"):
        CASE.meta_grad(checkpoint=5)
    run = CASE.train()
    with pytest.raises(ArgumentError, match="'every'"):
        run.pullback(run.w, every=5)
    assert run.stats.exact is None
    assert not list(tmp_path.iterdir())
