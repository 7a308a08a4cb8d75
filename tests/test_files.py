"""Files: what is written comes back, to the bit; what is not whole is refused; what goes wrong changes nothing."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import stat
import struct
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra.numpy import (
    array_shapes,
    arrays,
    boolean_dtypes,
    complex_number_dtypes,
    floating_dtypes,
    integer_dtypes,
    unsigned_integer_dtypes,
)

from fastrev import ArgumentError
from fastrev._files import archive, files
from tests.test_house import run_python
from tests.test_interrupts import PACKAGE, Injected, inject

ROOT = Path(PACKAGE).parent
DTYPES = boolean_dtypes() | integer_dtypes() | unsigned_integer_dtypes() | floating_dtypes() | complex_number_dtypes()
SHAPES = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
TEXT = st.text(st.characters(codec=None), max_size=8)  # half surrogate pairs as well
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
PLAIN = st.recursive(LEAVES, lambda deeper: st.lists(deeper, max_size=4) | st.dictionaries(TEXT, deeper, max_size=4))
ABOUT = st.dictionaries(TEXT, PLAIN, max_size=4)
SMALL: tuple[str, dict[str, Any], dict[str, Any]] = ("k", {"a": 0.5}, {"x": np.arange(2.0), "theta['y']": np.int8(3)})
COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def exact(value: object) -> object:
    """A stand-in that is equal for equal bits and types only."""
    if isinstance(value, float):  # JSON has one NaN
        return float, struct.pack("<d", np.nan if np.isnan(value) else value)
    if isinstance(value, dict):
        return [(key, exact(each)) for key, each in value.items()]
    return [exact(each) for each in value] if isinstance(value, list) else (type(value), value)


def assert_equal_arrays(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == np.asarray(array).dtype
        assert found[name].shape == np.shape(array)
        assert found[name].tobytes() == np.asarray(array).tobytes()
        assert found[name].flags.writeable
        assert found[name].flags.aligned


def whole(path: Path, file: tuple[str, dict[str, Any], dict[str, Any]] = SMALL) -> None:
    """Assert that the file is there, this and no other, and nothing beside it."""
    found = files.read(path, file[0])
    assert exact(found.about) == exact(file[1])
    assert_equal_arrays(found.arrays, file[2])
    assert list(path.parent.iterdir()) == [path]


# ---- what comes back -----------------------------------------------------------------------------------------


@COMMON
@given(about=ABOUT, kind=TEXT)
def test_plain_data_comes_back_to_the_bit(about, kind, tmp_path):
    files.write(tmp_path / "a", kind, about, {})
    found = files.read(tmp_path / "a")
    assert found.kind == kind
    assert exact(found.about) == exact(about)
    assert found.arrays == {}


@COMMON
@given(data=st.data(), names=st.lists(TEXT | st.sampled_from(["fastrev", "FASTREV", "x", "X", "../x"]), unique=True))
def test_arrays_come_back_to_the_bit(data, names, tmp_path):
    drawn = {name: data.draw(arrays(DTYPES, SHAPES), label=name) for name in names}
    layouts: list[Callable[[Any], Any]] = [
        lambda array: array,
        np.asfortranarray,
        lambda array: np.asarray(array).T,
        lambda array: np.repeat(np.atleast_1d(array), 2, axis=0)[::-2],
    ]
    drawn = {name: data.draw(st.sampled_from(layouts))(array) for name, array in drawn.items()}
    files.write(tmp_path / "a", "k", {}, drawn)
    assert_equal_arrays(files.read(tmp_path / "a").arrays, drawn)
    with np.load(tmp_path / "a", allow_pickle=False) as others:
        head = json.loads(others["fastrev"].tobytes().decode("utf-8", "surrogatepass"))
        assert set(others) == {"fastrev", *head["arrays"]}
        for member, name in head["arrays"].items():
            np.testing.assert_array_equal(others[member], drawn[name], strict=True)
    with zipfile.ZipFile(tmp_path / "a") as archived:
        assert archived.testzip() is None
        for member in archived.namelist():
            assert re.fullmatch(r"[A-Za-z0-9_.+-]{1,79}", member)
        assert len({each.lower() for each in archived.namelist()}) == len(names) + 1


def test_a_file_of_more_members_than_16_bits_can_count(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        archive.write(file, dict.fromkeys(map(str, range(2**16)), np.zeros(0)))
    with np.load(tmp_path / "a") as others:
        assert len(others) == 2**16
        assert others["65535"].shape == (0,)


def test_elements_that_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_CHUNK", 40)
    for size in range(12):
        files.write(tmp_path / "a", "k", {}, {"x": np.arange(size)})
        assert_equal_arrays(files.read(tmp_path / "a").arrays, {"x": np.arange(size)})


def test_the_same_contents_are_the_same_bytes(tmp_path):
    for name in "ab":
        files.write(tmp_path / name, *SMALL)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    "value",
    [
        np.array([None]), np.array(["a"]), np.zeros(2, "M8[s]"), np.zeros(1, "f8,i4"), [[1], [2, 3]],
        np.ma.masked_array([1.0], [True]),
    ],
    ids=["object", "text", "date", "record", "ragged", "masked"],
)  # fmt: skip
def test_arrays_of_anything_but_numbers_are_refused(value, tmp_path):
    with pytest.raises(ArgumentError, match=r"Argument 'arrays\['x'\]' must be "):
        files.write(tmp_path / "a", "k", {}, {"x": value})
    with pytest.raises(ArgumentError, match=r"have names that are str, not 1"):
        files.write(tmp_path / "a", "k", {}, {1: np.zeros(1)})  # type: ignore[dict-item]
    assert not list(tmp_path.iterdir())


# ---- damage --------------------------------------------------------------------------------------------------


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path):
    path = tmp_path / "a"
    files.write(path, *SMALL)
    data = path.read_bytes()
    for i in range(len(data)):
        for bit in range(8) if i > len(data) - 100 else [i % 8]:  # the end is the checksum, and what announces it
            path.write_bytes(data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :])
            with pytest.raises(ArgumentError, match="Argument 'path' must be a file that fastrev wrote, not '"):
                files.read(path)


def test_a_file_cut_short_or_with_more_at_its_end_is_noticed(tmp_path):
    path = tmp_path / "a"
    files.write(path, *SMALL)
    data = path.read_bytes()
    for i in range(len(data)):
        path.write_bytes(data[:i])
        with pytest.raises(ArgumentError, match=r"it is (damaged|no file of fastrev's)"):
            files.read(path)
    for more in (b"\0", b"\n", data):
        path.write_bytes(data + more)
        with pytest.raises(ArgumentError, match=r"it is damaged .* Pass another file, or make it again"):
            files.read(path)


def signed(data: bytes) -> bytes:
    """Made to pass for whole: with the checksum of what it is."""
    data = data[:-64]
    return data + hashlib.sha256(data).hexdigest().encode()


@pytest.fixture
def no_crc(monkeypatch) -> None:
    """Who forges a checksum forges the members' own as well."""
    monkeypatch.setattr(zipfile.ZipExtFile, "_update_crc", lambda *_: None)


def forge(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(signed(change(path.read_bytes())))


@pytest.mark.usefixtures("no_crc")
@settings(parent=COMMON, max_examples=300)
@given(at=st.integers(0, 10**4), flip=st.integers(1, 255))
def test_a_forged_checksum_lets_nothing_through_but_arrays(at, flip, tmp_path):
    """Whatever is changed: an error that says so, or contents of the size of the file."""
    path = tmp_path / "a"
    files.write(path, *SMALL)

    def change(data: bytes) -> bytes:
        i = at % (len(data) - 64)
        return data[:i] + bytes([data[i] ^ flip]) + data[i + 1 :]

    forge(path, change)
    try:
        found = files.read(path)
    except ArgumentError:
        return
    assert sum(each.nbytes for each in found.arrays.values()) < path.stat().st_size


@pytest.mark.usefixtures("no_crc")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"'shape': (2,)", b"'shape': (9,)"),
        (b"'shape': (2,), }      ", b"'shape': (-2, -1), }  "),
        (b"'shape': (2,), }           ", b"'shape': (1000000000000,)} "),
        (b"'shape': (2,), }           ", b"'shape': (0, 10**30, 3), } "),
        (b"'shape': (2,), }           ", b"'shape': (((((((((((((((((("),
        (b"'<f8'", b"'|O8'"),
        (b"'<f8'", b"'<M8'"),
        (b'"format":1', b'"format":x'),
        (b'"arrays":{"x":"x"', b'"arrays":{"z":"x"'),
        (b"fastrev.npy", b"fastrew.npy"),
        (b"PK\1\2", b"PK\1\3"),
    ],
)
def test_headers_are_not_trusted(old, new, tmp_path):
    files.write(tmp_path / "a", *SMALL)
    assert old in (tmp_path / "a").read_bytes()
    assert len(old) == len(new)
    forge(tmp_path / "a", lambda data: data.replace(old, new))
    with pytest.raises(ArgumentError, match=r"it (is no file of fastrev's|is not as fastrev makes it|has an array)"):
        files.read(tmp_path / "a")


@pytest.mark.parametrize("method", ["stored", "packed", "overlapping", "twice"])
def test_archives_of_other_makers_are_refused_before_they_are_unpacked(method, tmp_path, monkeypatch):
    stream = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if method == "packed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", how) as made:
        made.comment = b"fastrev sha256 " + b"0" * 64
        npy = io.BytesIO()
        np.lib.format.write_array(npy, np.zeros(10**5))
        made.writestr("fastrev.npy", npy.getvalue())
        if method == "overlapping":  # a thousand members that are all one
            first = made.infolist()[0]
            made.filelist += [first] * 1000
        if method == "twice":
            with pytest.warns(UserWarning, match="Duplicate name"):
                made.writestr("fastrev.npy", npy.getvalue())
    (tmp_path / "a").write_bytes(signed(stream.getvalue()))
    expected = {
        "stored": "no file of fastrev's", "packed": "members that are packed", "overlapping": "or larger than it",
        "twice": "two members of one name",
    }  # fmt: skip
    with pytest.raises(ArgumentError, match=expected[method]):
        files.read(tmp_path / "a")


@pytest.mark.usefixtures("no_crc")
def test_a_newer_version_is_named(tmp_path):
    files.write(tmp_path / "a", *SMALL)
    forge(tmp_path / "a", lambda data: data.replace(b'"format":1', b'"format":2').replace(b'"kind"', b'"king"'))
    with pytest.raises(ArgumentError, match=r"written by fastrev \S+, in format 2; this is .* Upgrade fastrev"):
        files.read(tmp_path / "a")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a"
    files.write(path, *SMALL)
    with pytest.raises(ArgumentError, match=r"'checkpoint' must be .*it is a file of kind 'k', not 'tune'"):
        files.read(path, "tune", name="checkpoint")
    np.savez(tmp_path / "b.npz", x=np.zeros(100))
    (tmp_path / "c").write_bytes(b"")
    (tmp_path / "d").write_bytes(b"hello" * 100)
    os.mkfifo(tmp_path / "pipe")
    reasons = {"b.npz": "is damaged", "c": "no file of", "d": "no file of", "e": "No such file", "pipe": "no regular"}
    for name, why in {**reasons, ".": "a folder"}.items():
        with pytest.raises(ArgumentError, match=f"must be a file that fastrev wrote, not '.*': .*{why}"):
            files.read(tmp_path / name)


# ---- what cannot be written ----------------------------------------------------------------------------------


@pytest.fixture(params=["write", "writable"])
def attempt(request) -> Callable[..., None]:
    if request.param == "write":
        return lambda path, **name: files.write(path, *SMALL, **name)
    return files.writable


def test_a_path_that_cannot_be_written_is_refused(attempt, tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    reasons = {
        tmp_path: "it is a folder. Pass a path of a file in it",
        tmp_path / "no" / "a": f"there is no folder '{tmp_path / 'no'}'. Create it first",
        tmp_path / "file" / "a": "Not a directory",
        str(tmp_path / "new") + "/": "it is a folder",
        tmp_path / "pipe": "it is there, and no regular file",
        tmp_path / "loop": "Too many levels of symbolic links",
        tmp_path / ("x" * 300): "File name too long",
    }
    for path, why in reasons.items():
        with pytest.raises(ArgumentError, match="Argument 'path' must be a file that can be written, not") as caught:
            attempt(path)
        assert f"{str(path)!r}: {why}" in str(caught.value)
    for path in ("", "a\0b", b"a", 3, None, "\ud800"):
        with pytest.raises(ArgumentError, match=r"'checkpoint' must be the path of a file, not .* Pass a str"):
            attempt(path, name="checkpoint")
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_bytes() == b"old"


def test_permissions_are_asked_for(attempt, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o444)
    with pytest.raises(ArgumentError, match="it is read-only"):
        attempt(tmp_path / "file")
    tmp_path.chmod(0o555)
    with pytest.raises(ArgumentError, match="Permission denied"):
        attempt(tmp_path / "new")
    tmp_path.chmod(0o755)
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_system_that_permits_nothing(attempt, tmp_path, monkeypatch):
    """The same for root."""
    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ArgumentError, match="it is read-only"):
        attempt(tmp_path / "file")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(ArgumentError, match=r"': (in its folder, )?Permission denied"):
            attempt(tmp_path / "new")
        with pytest.raises(ArgumentError, match="': Permission denied"):
            files.read(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_path_that_can_be_written_is_left_as_it_is(tmp_path):
    files.writable(tmp_path / "new")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_bytes(b"old")
    before = (tmp_path / "file").stat()
    files.writable(str(tmp_path / "file"))
    after = (tmp_path / "file").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (tmp_path / "file").read_bytes() == b"old"


# ---- replacing -----------------------------------------------------------------------------------------------


def test_the_path_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files.write("state.of.mine", *SMALL)
    files.write(Path("~"), *SMALL)
    assert {each.name for each in tmp_path.iterdir()} == {"state.of.mine", "~"}


def test_permissions_are_those_of_open(tmp_path):
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "a", *SMALL)
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
        (tmp_path / "a").chmod(0o606)
        files.write(tmp_path / "a", *SMALL)
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o606
    finally:
        os.umask(before)


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(Path("there", "a"))
    for _ in range(2):  # to no file yet; to a file
        files.write(tmp_path / "link", *SMALL)
        assert (tmp_path / "link").is_symlink()
        whole(tmp_path / "there" / "a")


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # which is closed as soon as nobody has it
@pytest.mark.parametrize(("kind", "within"), [("line", "_files"), ("opcode", "_files/replacing.py")])
def test_a_write_interrupted_anywhere(kind, within, tmp_path):
    """There is the old file or the new one, and no other."""
    path = tmp_path / "a"
    newer = ("k", {"a": 1.5}, {"x": np.arange(3.0)})
    outcomes = []
    moment = 1
    while True:
        files.write(path, *SMALL)
        where = inject(lambda: files.write(path, *newer), moment, kind, str(Path(PACKAGE) / within))
        if where is None:
            break
        is_new = files.read(path).about == newer[1]
        whole(path, newer if is_new else SMALL)
        outcomes.append(is_new)
        moment += 1
    assert sorted(outcomes) == outcomes  # once it is new, it stays new
    assert outcomes.count(False) > 50
    assert True in outcomes


def test_asking_interrupted_anywhere_leaves_nothing(tmp_path):
    moment = 1
    while inject(lambda: files.writable(tmp_path / "a"), moment) is not None:
        assert not list(tmp_path.iterdir())
        moment += 1
    assert moment > 10


@pytest.mark.parametrize("where", ["fsync", "replace", "fill"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Injected(), MemoryError()], ids=repr)
def test_a_fault_on_the_way_leaves_the_old_file(where, error, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise error

    files.write(tmp_path / "a", *SMALL)
    owner, attribute = {"fsync": (os, "fsync"), "replace": (Path, "replace"), "fill": (zipfile.ZipFile, "writestr")}[
        where
    ]
    with monkeypatch.context() as patch:
        patch.setattr(owner, attribute, fail)
        with pytest.raises(ArgumentError if isinstance(error, OSError) else type(error)) as caught:
            files.write(tmp_path / "a", "k", {}, {"x": np.zeros(3)})
    if isinstance(error, OSError):
        assert "': No space left on device. Make room, or pass another path: it is not saved." in str(caught.value)
    whole(tmp_path / "a")


def test_a_full_disk_and_an_interrupt_leave_the_old_file(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def attempt() -> None:
        with pytest.raises(ArgumentError):
            files.write(tmp_path / "a", "k", {}, {})

    files.write(tmp_path / "a", *SMALL)
    monkeypatch.setattr(os, "fsync", fail)
    moment = 1
    while inject(attempt, moment) is not None:
        whole(tmp_path / "a")
        moment += 1
    assert moment > 50


def test_a_folder_that_cannot_be_synchronised_is_no_fault(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "open", fail)
    files.write(tmp_path / "a", *SMALL)
    whole(tmp_path / "a")


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """By the operating system's own limit, at every size up to that of the file."""
    pytest.importorskip("resource", reason="a limit on the size of files is Unix's")
    files.write(tmp_path / "a", *SMALL)
    script = f"""
import resource, signal
import numpy as np
from fastrev import ArgumentError
from fastrev._files import files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in [0, 1, 100, 4000, 5000, 8191, 8192, 8193, 80000]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        files.write({str(tmp_path / "a")!r}, "k", {{}}, {{"x": np.zeros(10000), "y": np.zeros(1)}})
    except ArgumentError as error:
        print(error)
"""
    printed = run_python(script, ROOT, PYTHONDONTWRITEBYTECODE="1").splitlines()
    assert len(printed) == 9
    assert all("File too large. Make room" in each for each in printed)
    whole(tmp_path / "a")


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    files.write(tmp_path / "a", *SMALL)
    script = f"""
import os, signal
from fastrev._files import files
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
files.write({str(tmp_path / "a")!r}, "k", {{}}, {{}})
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert done.returncode == -9
    left = [each.name for each in tmp_path.iterdir() if each.name != "a"]
    assert len(left) == 1
    assert left[0].startswith(".fastrev-")
    (tmp_path / left[0]).unlink()
    whole(tmp_path / "a")


def test_writers_and_readers_at_once_see_whole_files(tmp_path):
    path = tmp_path / "a"
    versions = {i: np.full(20000 + 1000 * i, i) for i in range(4)}
    files.write(path, "k", {"i": 0}, {"x": versions[0]})
    stop = threading.Event()
    faults: list[BaseException] = []
    seen = []

    def guarded(action: Callable[[], None]) -> None:
        try:
            while not stop.is_set():
                action()
        except BaseException as error:
            faults.append(error)

    def look() -> None:
        found = files.read(path)
        assert np.array_equal(found.arrays["x"], versions[found.about["i"]])
        seen.append(found.about["i"])

    def writer(i: int) -> Callable[[], None]:
        return lambda: files.write(path, "k", {"i": i}, {"x": versions[i]})

    threads = [threading.Thread(target=guarded, args=[each]) for each in (look, look, *map(writer, range(4)))]
    for each in threads:
        each.start()
    while len(seen) < 100 and not faults:
        threads[0].join(0.01)
    stop.set()
    for each in threads:
        each.join()
    assert not faults
    assert len(set(seen)) > 1
    assert list(tmp_path.iterdir()) == [path]


def test_reading_takes_no_more_memory_than_the_file(tmp_path):
    files.write(tmp_path / "a", "k", {}, {"x": np.zeros(10**6), "y": np.zeros((10**3, 10**3), order="F")})
    size = (tmp_path / "a").stat().st_size
    tracemalloc.start()
    try:
        files.read(tmp_path / "a")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size + 2**22  # what is read at once, and Python's own
    assert math.isclose(size, 16e6, rel_tol=1e-3)
