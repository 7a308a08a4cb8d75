"""The tail's lowest words in files: the same bits, no file left, and nothing silently wrong."""

from __future__ import annotations

import copy
import itertools
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrev
from fastrev._durable import checkpoints
from fastrev._engine import lookers
from fastrev._engine import state as states
from fastrev._files import segments, shelf
from fastrev._files.shelf import Shelf
from fastrev.kernels import shelving
from tests.cases import digits_like
from tests.test_interrupts import inject
from tests.test_threads import until

SMALL = 64  # words of a file here: some dozens of files in 400 steps
TOKEN = bytes(range(16))


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "WORDS", SMALL)


def quadratic(size: int = 40) -> Any:
    """An objective of plain functions, by which words are pushed all the same."""
    scales = np.linspace(0.5, 1.5, size)

    class Quadratic:
        num_params = size

        def grad(self, w: np.ndarray, t: int) -> np.ndarray:
            return scales * w * (1 + 0.1 * (t % 3))

        def hvp(self, w: np.ndarray, u: np.ndarray, t: int) -> np.ndarray:
            return scales * u * (1 + 0.1 * (t % 3))

    return Quadratic()


OPTIMIZERS = {
    "SGD": fastrev.SGD(0.1, 0.5),
    "Adam": fastrev.Adam(0.01, beta1=0.6, beta2=0.9, eps=0.1),
    "AdamW": fastrev.Adam(0.01, beta1=0.6, beta2=0.9, eps=0.1, weight_decay=2.0),
}


def train(kind: str, optimizer: str, **more: Any) -> fastrev.Run:
    if kind == "Objective":
        model, arguments, w0 = quadratic(), {}, np.linspace(-1, 1, 40)
    else:
        case = digits_like()
        model, w0 = case.model, case.w0
        arguments = {"train": case.arguments["train"], "batch_size": 8}
    return fastrev.train(model, w0, optimizer=OPTIMIZERS[optimizer], steps=400, **arguments, **more)


# ---- the same bits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["MLP", "Objective"])
@pytest.mark.parametrize("losses", [1, 3])
@pytest.mark.parametrize("truncate", [None, 150])
def test_every_bit_is_the_same(kind: str, optimizer: str, losses: int, truncate: int | None, tmp_path: Path) -> None:
    w_bar = np.random.default_rng(0).standard_normal((losses, train(kind, optimizer).w.size))
    expected = train(kind, optimizer)
    run = train(kind, optimizer, buffer=tmp_path)
    assert len(list(tmp_path.iterdir())) > 10
    assert run.stats.stored_bits == expected.stats.stored_bits
    assert np.array_equal(run.w, expected.w)
    found = run.pullback(w_bar, truncate=truncate, progress=losses == 3)
    assert found == expected.pullback(w_bar, truncate=truncate)
    assert run.stats.exact
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("per_run", [1, 2])
def test_any_number_of_threads(per_run: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two share the steps of this one, and a reader waits on the way back while words are read."""
    monkeypatch.setattr("fastrev._engine.teams.WORTH_A_STEP", 0)
    monkeypatch.setattr("fastrev._engine.settings._WORK_OF_A_THREAD", 0)
    rng = np.random.default_rng(0)
    model = fastrev.MLP((12, 16, 16, 3))
    data = rng.standard_normal((64, 12)), rng.integers(3, size=64)
    how = {"train": data, "valid": data, "lr": 0.1, "decay": 0.5, "steps": 120, "batch_size": 32}
    expected = fastrev.meta_grad(model, model.init(0), **how)
    with fastrev.threads(per_run=per_run):
        found = fastrev.meta_grad(model, model.init(0), **how, buffer=tmp_path)
    assert found.stats.bytes_on_disk > 20 * segments.size_of(SMALL)
    assert found.grad == expected.grad


def test_memory_is_bounded_and_counted(tmp_path: Path) -> None:
    short, long = (digits_like(steps=steps).train(buffer=tmp_path) for steps in (100, 4000))
    assert short.stats.bytes_held == long.stats.bytes_held
    assert long._state.tail.size == 2 * SMALL + 2 * 43
    files = list(tmp_path.iterdir())
    assert long.stats.bytes_on_disk == sum(file.stat().st_size for file in files) > 0
    assert long.stats.stored_bits == digits_like(steps=4000).train().stats.stored_bits


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 6))
def test_words_come_back_in_order(tmp_path_factory: pytest.TempPathFactory, moves: list[int], size: int) -> None:
    """Steps that push up to two words a parameter, and their undos, against a list."""
    folder = tmp_path_factory.mktemp("words")
    kept, state = Shelf(folder), states.new_state(np.zeros(size, np.int64), np.zeros((1, size), np.int64))
    everything: list[int] = []
    monkey = pytest.MonkeyPatch()
    monkey.setattr(shelf, "WORDS", 5)
    for number in [9] * 10 + moves:
        pushed = min(number, 2 * size)
        if number % 2:
            kept.make_room(state)
            for _ in range(pushed):
                everything.append(len(everything) % 2**16)
                state.tail[state.cursor[1]] = everything[-1]
                state.cursor[1] += 1
        else:
            kept.bring_back(state)
            for _ in range(min(pushed, len(everything))):
                state.cursor[1] -= 1
                assert state.tail[state.cursor[1]] == everything.pop()
        assert states.words_held(state) == len(everything)
    monkey.undo()


def test_words_move_as_the_cursor_says() -> None:
    tail, cursor = np.arange(10, dtype=np.uint16), np.array([7, 9, 3, 20])
    shelving.put_away(tail, cursor, 4)
    assert tail[:5].tolist() == [4, 5, 6, 7, 8]
    assert cursor.tolist() == [7, 5, 3, 24]
    shelving.bring_back(tail, cursor, np.arange(4, dtype=np.uint16))
    assert tail[:9].tolist() == [*range(9)]
    assert cursor.tolist() == [7, 9, 3, 20]


# ---- files come and go ---------------------------------------------------------------------------------------


def test_files_are_those_of_the_format(tmp_path: Path) -> None:
    words = np.array([1, 2, 0xABCD], np.uint16)
    checksum = segments.write(tmp_path / "one", TOKEN, 7, words)
    about = b"frtail\r\n" + struct.pack("<I", 1) + TOKEN + struct.pack("<QQ", 7, 3)
    assert checksum == zlib.crc32(b"\1\0\2\0\xcd\xab", zlib.crc32(about))
    assert (tmp_path / "one").read_bytes() == about + struct.pack("<I8x", checksum) + b"\1\0\2\0\xcd\xab"
    assert segments.read(tmp_path / "one", TOKEN, 7, 3, checksum).tolist() == words.tolist()


def test_files_go_with_the_run(tmp_path: Path) -> None:
    run = train("MLP", "SGD", buffer=tmp_path)
    assert list(tmp_path.iterdir())
    del run
    assert not list(tmp_path.iterdir())


def test_a_copy_has_files_of_its_own(tmp_path: Path) -> None:
    run = train("MLP", "SGD", buffer=tmp_path)
    count, other = len(list(tmp_path.iterdir())), copy.deepcopy(run)
    assert len(list(tmp_path.iterdir())) == 2 * count
    run.rewind()
    assert len(list(tmp_path.iterdir())) == count
    assert other.pullback(other.w) == train("MLP", "SGD").pullback(other.w)
    assert not list(tmp_path.iterdir())


def test_a_run_with_files_is_not_pickled(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot be pickled: its files are removed with it"):
        pickle.dumps(train("MLP", "SGD", buffer=tmp_path))


def test_an_error_is_pickled_without_the_run() -> None:
    error = fastrev.StorageError("what")
    error.run = lambda: None  # no pickle
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.run) == ("what", None)


CHILD = """
import os, sys
import numpy as np
import fastrev
from fastrev._files import shelf
from tests.cases import digits_like
from tests.test_shelf import train
shelf.WORDS = 64
"""


def in_a_child(script: str, folder: Path) -> str:
    command = [sys.executable, "-c", CHILD + script, str(folder)]
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(fastrev.__file__).parents[1]), str(root)])}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_files_go_with_the_process_and_stay_with_its_parent(tmp_path: Path) -> None:
    script = """
run = train("MLP", "SGD", buffer=sys.argv[1])
before = sorted(os.listdir(sys.argv[1]))
child = os.fork()
if child == 0:
    run.rewind()                                        # which reads them, and leaves them
    other = train("MLP", "SGD", buffer=sys.argv[1])     # with files of its own
    sys.exit(0 if run.stats.exact else 1)
assert os.waitpid(child, 0)[1] == 0
assert sorted(os.listdir(sys.argv[1])) == before
print(len(before))
"""
    assert int(in_a_child(script, tmp_path)) > 10
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # which is closed as soon as nobody has it
@pytest.mark.parametrize("action", ["train", "rewind", "pullback"])
def test_an_interrupt_at_any_line_leaves_the_run_whole(action: str, tmp_path: Path) -> None:
    expected = train("MLP", "SGD").pullback(np.ones(43))
    for moment in range(1, 2000, 29):
        came_to_its_end = interrupted(action, moment, tmp_path, expected)
        assert until(lambda: not list(tmp_path.iterdir()))  # once the second thread has let go of it
        if came_to_its_end:
            return


def interrupted(action: str, moment: int, folder: Path, expected: fastrev.Gradients) -> bool:
    """Interrupt what writes and reads the files at one of its lines, if it has so many; and go on."""
    run = start(folder)
    if action != "train":
        run._advance(False)
    actions: dict[str, Callable[[], object]] = {
        "train": lambda: run._advance(False),
        "rewind": run.rewind,
        "pullback": lambda: run.pullback(np.ones(43)),
    }
    ended = inject(actions[action], moment, within=str(Path(shelf.__file__).parent)) is None
    if action == "train":
        run._advance(False)
        assert run.pullback(np.ones(43)) == expected
    elif not run.stats.exact:
        run.rewind()
    assert run.stats.exact
    return ended


def start(folder: Path) -> fastrev.Run:
    """As `train("MLP", "SGD")`, with no step made."""
    from fastrev.training import start as begin

    case = digits_like()
    return begin(
        case.model, case.w0, optimizer=OPTIMIZERS["SGD"], steps=400, train=case.arguments["train"], batch_size=8,
        seed=0, batches=None, l2=0.0, v0=None, example_weights=None, buffer=folder,
    )  # fmt: skip


# ---- what goes wrong -----------------------------------------------------------------------------------------


def goes_back(error: fastrev.StorageError, kind: str, undo: str, folder: Path) -> None:
    """The run that a full disk ended is one of as many steps, and leaves no file when it has been taken back."""
    run, made = error.run, error.run.stats.steps
    assert 0 < made < 400

    def stop(step: int, w: np.ndarray) -> None:
        if step == made:
            raise StopIteration

    expected = train(kind, "SGD", callback=stop)
    assert np.array_equal(run.w, expected.w)
    if undo == "rewind":
        run.rewind()
    else:
        assert run.pullback(run.w) == expected.pullback(run.w)
    assert run.stats.exact
    assert not list(folder.iterdir())


WAYS = list(itertools.product(["MLP", "Objective"], ["rewind", "pullback"]))


def test_a_full_disk_leaves_the_run_whole(tmp_path: Path) -> None:
    """As large as a file may be at the sixth."""
    script = """
import resource
from pathlib import Path
from tests.test_shelf import WAYS, goes_back
write = shelf.segments.write

def limited(path, token, index, words):
    if index == 5:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, -1))
    return write(path, token, index, words)

shelf.segments.write = limited
for kind, undo in WAYS:
    try:
        train(kind, "SGD", buffer=sys.argv[1])
    except fastrev.StorageError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        print(error)
        assert len(os.listdir(sys.argv[1])) == 5
        goes_back(error, kind, undo, Path(sys.argv[1]))
"""
    said = in_a_child(script, tmp_path)
    assert said.count("File too large. The run up to the last step is whole: error.run.rewind() takes it back") == 4
    assert said.count(str(tmp_path)) == 4


@pytest.mark.parametrize(("kind", "undo"), WAYS)
def test_a_small_disk_leaves_the_run_whole(kind: str, undo: str, tmp_path: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "size=20k", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nobody may mount a file system here")
    try:
        with pytest.raises(fastrev.StorageError, match="No space left on device") as caught:
            train(kind, "SGD", buffer=tmp_path)
        goes_back(caught.value, kind, undo, tmp_path)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def damage(file: Path, how: str) -> str:
    """Damage a file, and return what is said of it."""
    whole = file.read_bytes()
    if how == "missing":
        file.unlink()
        return "could not be read: No such file"
    if how == "cut":
        file.write_bytes(whole[:-2])
        return "bytes instead of"
    if how == "another":
        others = sorted(file.parent.iterdir())
        file.write_bytes(others[0].read_bytes())
        return "holds other words"
    if how == "folder":
        file.unlink()
        file.mkdir()
        return "is a folder, or no regular file"
    if how == "foreign":
        file.write_bytes(b"x" * len(whole))
        return "is no file of fastrev's words"
    if how == "newer":
        file.write_bytes(whole[:8] + struct.pack("<I", 2) + whole[12:])
        return "is of format 2, not 1"
    position = int(how)
    file.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
    return "is damaged: its bytes have changed"


@pytest.mark.parametrize("undo", ["rewind", "pullback"])
@pytest.mark.parametrize("how", ["missing", "cut", "another", "folder", "foreign", "newer", "44", "48", "56", "183"])
def test_a_damaged_file_is_named_and_the_run_goes_on_once_it_is_back(how: str, undo: str, tmp_path: Path) -> None:
    run = train("MLP", "SGD", buffer=tmp_path)
    file = sorted(tmp_path.iterdir())[3]
    whole = file.read_bytes()
    said = damage(file, how)
    with pytest.raises(fastrev.StorageError, match=said) as caught:
        run.rewind() if undo == "rewind" else run.pullback(run.w)
    assert str(file) in str(caught.value)
    assert caught.value.run is run
    assert not run.stats.exact
    if file.is_dir():
        file.rmdir()
    file.write_bytes(whole)
    run.rewind()
    assert run.stats.exact


def test_a_damaged_cursor_is_no_words(tmp_path: Path) -> None:
    for position, value in (3, SMALL), (3, 1), (3, 2**62), (3, -SMALL), (1, -3):
        run = train("MLP", "SGD", buffer=tmp_path)
        run._state.cursor[position] += value
        with pytest.raises(fastrev.ReversalError, match="did not arrive"):
            run.rewind()
    run = train("MLP", "SGD")
    run._state.cursor[3] += SMALL
    with pytest.raises(fastrev.ReversalError, match="did not arrive"):
        run.pullback(run.w)


class Odd:
    """A path that is none."""

    def __fspath__(self) -> Any:
        return 3


@pytest.mark.parametrize("value", [3, b"there", "", "a\0b", Odd()])
def test_a_folder_is_a_path(value: Any) -> None:
    with pytest.raises(fastrev.ArgumentError, match="Argument 'buffer' must be the path of a folder, not"):
        train("MLP", "SGD", buffer=value)


def test_a_folder_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for each in "file", "missing":
        with pytest.raises(fastrev.ArgumentError, match="Argument 'buffer' must be a folder, not"):
            train("MLP", "SGD", buffer=tmp_path / each)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.integers(0, 73), st.binary(min_size=1, max_size=4)),
        st.tuples(st.integers(0, 74), st.none()),
    )
)
def test_nothing_but_the_file_itself_is_read(tmp_path_factory: pytest.TempPathFactory, change: Any) -> None:
    """Bytes from anywhere, some bytes written over, and any part cut off."""
    folder = tmp_path_factory.getbasetemp()
    path, words = folder / "fuzzed", np.arange(9, dtype=np.uint16)
    path.unlink(missing_ok=True)
    checksum = segments.write(path, TOKEN, 2, words)
    whole = path.read_bytes()
    made = change
    if isinstance(change, tuple):
        at, what = change
        made = whole[:at] if what is None else (whole[:at] + what + whole[at + len(what) :])[: len(whole)]
    path.write_bytes(made)
    if made == whole:
        assert segments.read(path, TOKEN, 2, 9, checksum).tolist() == words.tolist()
    else:
        with pytest.raises(segments.SegmentError):
            segments.read(path, TOKEN, 2, 9, checksum)


# ---- what a durable run asks ---------------------------------------------------------------------------------


def durable_run(folder: Path) -> tuple[fastrev.Run, Shelf]:
    """Made, with files that stay."""
    kept = Shelf(folder)
    run = fastrev.Run(start(folder)._problem, kept)
    run._advance(False)
    return run, kept


def restored(folder: Path, description: dict[str, Any], state: Any) -> Shelf:
    """Another for the files that were described."""
    found = Shelf(folder)
    found.restore(description, state)
    return found


def test_a_shelf_is_restored_from_its_description(tmp_path: Path) -> None:
    run, kept = durable_run(tmp_path)
    description = json.loads(json.dumps(kept.sync(run._state)))
    state = copy.deepcopy(run._state)
    files = sorted(tmp_path.iterdir())
    assert len(files) == len(description["checksums"]) > 10
    run.rewind()
    assert sorted(tmp_path.iterdir()) == files  # all are kept that the description names
    del run, kept
    again = fastrev.Run(start(tmp_path)._problem, restored(tmp_path, description, state))
    again._state = state._replace(tail=state.tail[: state.cursor[1]].copy())  # as a state is saved
    assert again.pullback(np.ones(43)) == train("MLP", "SGD").pullback(np.ones(43))
    again._tail.release(again._state)
    assert not list(tmp_path.iterdir())


def test_later_files_are_removed_and_made_again(tmp_path: Path) -> None:
    """A run that is killed after its state was saved goes on from there."""
    description, state, count = saved_on_the_way(tmp_path)
    assert len(list(tmp_path.iterdir())) > count > 5
    again = fastrev.Run(start(tmp_path)._problem, restored(tmp_path, description, state))
    assert len(list(tmp_path.iterdir())) > count  # until he says so who writes the state again
    again._tail.release(state)
    assert len(list(tmp_path.iterdir())) == count
    again._state = state
    again._advance(False)
    assert again.pullback(np.ones(43)) == train("MLP", "SGD").pullback(np.ones(43))
    again._tail.release(again._state)
    assert not list(tmp_path.iterdir())


def saved_on_the_way(folder: Path) -> tuple[dict[str, Any], Any, int]:
    """What is saved at step 200 of 400, and how many files there were."""
    kept, saved = Shelf(folder), []
    run = fastrev.Run(start(folder)._problem, kept)

    def save(step: int, w: np.ndarray) -> None:
        saved.append((kept.sync(run._state), copy.deepcopy(run._state), len(list(folder.iterdir()))))

    run._advance(False, lookers.prepare(run._problem, None, (save, [200])))
    (only,) = saved
    return only


@pytest.mark.parametrize("how", ["missing", "cut", "another", "56"])
def test_a_damaged_file_is_not_restored(how: str, tmp_path: Path) -> None:
    run, kept = durable_run(tmp_path)
    description = kept.sync(run._state)
    file = sorted(tmp_path.iterdir())[3]
    said = damage(file, how)
    with pytest.raises(fastrev.StorageError, match=said) as caught:
        restored(tmp_path, description, run._state)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        *({"token": each} for each in ("../../" + 26 * "0", 3, None)),
        *({"checksums": each} for each in (None, 3, [2**32], [-1], ["1"])),
        {"words": SMALL + 1},
        {"checksums": [5]},  # of a state without words in files
    ],
)
def test_no_description_but_its_own(change: dict[str, Any], tmp_path: Path) -> None:
    description = {"token": 32 * "0", "words": SMALL, "checksums": []} | change
    state = states.new_state(np.zeros(3, np.int64), np.zeros((1, 3), np.int64))
    with pytest.raises(fastrev.StorageError):
        restored(tmp_path, description, state)


# ---- with a checkpoint ---------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def kept(folder: Path, **more: Any) -> dict[str, Any]:
    """Arguments of a call whose run is on disk altogether."""
    words = folder / "words"
    words.mkdir(exist_ok=True)
    return {"buffer": words, "checkpoint": folder / "run", "every": 40} | more


def files_in(folder: Path) -> list[str]:
    return sorted(each.name for each in (folder / "words").iterdir())


@pytest.mark.parametrize(("kind", "optimizer"), [("MLP", "SGD"), ("MLP", "AdamW"), ("Objective", "Adam")])
@pytest.mark.parametrize("losses", [1, 3])
def test_killed_whenever_its_state_was_written(
    kind: str, optimizer: str, losses: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There and back, before the state is in its place and after; nothing but a call with all of it goes on."""
    whole = train(kind, optimizer)
    w_bar = np.random.default_rng(0).standard_normal((losses, whole.w.size))
    expected, write = whole.pullback(w_bar), checkpoints.run_files.write

    def job(folder: Path) -> Any:
        run = train(kind, optimizer, **kept(folder, every=80))
        return run.pullback(w_bar, checkpoint=folder / "run", every=80)

    for moment in itertools.count(2):
        folder, count = tmp_path / str(moment), itertools.count(1)
        folder.mkdir()

        def fused(*arguments: Any, count: Any = count, moment: int = moment) -> None:
            last = next(count) == moment // 2
            if not last or moment % 2:
                write(*arguments)
            if last:
                raise Killed

        monkeypatch.setattr(checkpoints.run_files, "write", fused)
        try:
            assert job(folder) == expected
            break
        except Killed:
            monkeypatch.setattr(checkpoints.run_files, "write", write)
            assert job(folder) == expected
            assert moment == 2 or not files_in(folder)  # then no state names those of the run that died
            assert job(folder) == expected  # at once
    assert moment >= 18


def test_the_files_of_the_way_there_stay_where_its_state_does(tmp_path: Path) -> None:
    """Two checkpoints: the trained run is differentiated again, for another loss."""
    for each in np.ones(43), np.linspace(-1, 1, 43):
        run = train("MLP", "SGD", **kept(tmp_path))
        files = files_in(tmp_path)
        assert len(files) > 10
        found = run.pullback(each, checkpoint=tmp_path / "back", every=40)
        assert found == train("MLP", "SGD").pullback(each)
        assert files_in(tmp_path) == files
        (tmp_path / "back").unlink()


@pytest.mark.parametrize("loaded", [False, True])
def test_they_stay_too_where_the_way_back_goes_on(
    loaded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed half-way, and called again after its end."""
    train("MLP", "SGD", **kept(tmp_path))
    files, expected = files_in(tmp_path), train("MLP", "SGD").pullback(np.ones(43))

    def job() -> Any:
        more = kept(tmp_path)
        if not loaded:
            return train("MLP", "SGD", **more).pullback(np.ones(43), checkpoint=tmp_path / "back", every=40)
        case = digits_like()
        run = fastrev.load(
            tmp_path / "run", case.model, case.w0, train=case.arguments["train"], batch_size=8, steps=400,
            optimizer=OPTIMIZERS["SGD"], buffer=more["buffer"],
        )  # fmt: skip
        return run.pullback(np.ones(43), checkpoint=tmp_path / "back", every=40)

    look = checkpoints.Keeper.look
    with monkeypatch.context() as half_way:
        half_way.setattr(checkpoints.Keeper, "look", lambda self, state: (look(self, state), stop(state))[0])
        with pytest.raises(Killed):
            job()
    for _ in range(3):
        assert job() == expected
        assert files_in(tmp_path) == files
    (tmp_path / "back").unlink()
    assert job() == expected


def test_a_way_back_makes_its_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run that had no state on disk; and it is no other that goes on."""
    words, expected = kept(tmp_path)["buffer"], train("MLP", "SGD").pullback(np.ones(43))
    run = train("MLP", "SGD", buffer=words)
    keeper = checkpoints.Keeper.look
    monkeypatch.setattr(checkpoints.Keeper, "look", lambda self, state: (keeper(self, state), stop(state))[0])
    with pytest.raises(Killed):
        run.pullback(np.ones(43), checkpoint=tmp_path / "back", every=40)
    monkeypatch.undo()
    monkeypatch.setattr(shelf, "WORDS", SMALL)
    del run
    assert files_in(tmp_path)
    with pytest.raises(fastrev.ArgumentError, match="must be the folder in which this run has files"):
        train("MLP", "SGD").pullback(np.ones(43), checkpoint=tmp_path / "back")
    again = train("MLP", "SGD", buffer=words)
    assert again.pullback(np.ones(43), checkpoint=tmp_path / "back", every=40) == expected
    assert again.stats.exact
    assert not files_in(tmp_path)  # also not those of the training that was made once more


def stop(state: Any) -> None:
    """Half-way back."""
    if state.cursor[0] <= 200:
        raise Killed


def test_a_saved_run_has_all_of_its_words(tmp_path: Path) -> None:
    case, words = digits_like(), kept(tmp_path)["buffer"]
    arguments = {"train": case.arguments["train"], "batch_size": 8, "optimizer": OPTIMIZERS["SGD"], "steps": 400}
    run = fastrev.train(case.model, case.w0, buffer=words, **arguments)
    run.save(tmp_path / "run")
    del run
    assert not files_in(tmp_path)
    expected = train("MLP", "SGD").pullback(np.ones(43))
    for more in {}, {"buffer": words}:
        again = fastrev.load(tmp_path / "run", case.model, case.w0, **arguments, **more)
        assert again.pullback(np.ones(43)) == expected
    assert not files_in(tmp_path)


def test_a_missing_file_of_words_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    train("MLP", "SGD", **kept(tmp_path))
    file = sorted((tmp_path / "words").iterdir())[3]
    moved = file.rename(tmp_path / "elsewhere")
    with pytest.raises(fastrev.StorageError, match=file.name):
        train("MLP", "SGD", **kept(tmp_path))
    moved.rename(file)
    assert train("MLP", "SGD", **kept(tmp_path)).pullback(np.ones(43)) == train("MLP", "SGD").pullback(np.ones(43))
