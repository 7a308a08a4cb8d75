"""The command line, run for real with small budgets."""

from __future__ import annotations

import errno
import gzip
import math
import os
import re
import signal
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrev
from fastrev.__main__ import main
from fastrev._engine.extras import require
from fastrev._tuning import loop
from fastrev.errors import ArgumentError, DivergenceError, MissingExtraError
from fastrev.experiments import judging, output
from fastrev.experiments.datasets import Dataset, load, read_idx
from fastrev.experiments.distill import real_images


def idx_header(*shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    content = idx_header(*array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_digits(folder: Path, part: str = "train", suffix: str = "", count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Images of 4 x 3 pixels whose class, 0 to 2, is the brightest column."""
    rng = np.random.default_rng(count)
    labels = np.arange(count) % 3
    images = rng.integers(0, 100, (count, 4, 3))
    images[np.arange(count), :, labels] += 150
    write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)
    return images, labels


def table(printed: str) -> dict[str, tuple[float, float]]:
    """Mean validation loss and mean test accuracy in percent, of every row that is printed."""
    rows = [re.match(r"(.+?)  +([\d.]+) \+- [\d.]+  ([\d.]+)% \+- [\d.]+%", line) for line in printed.splitlines()]
    return {row[1]: (float(row[2]), float(row[3])) for row in rows if row}


def test_schedule_learns_and_leaves_its_results(tmp_path, capsys):
    out = tmp_path / "deep" / "results"
    few = ["--meta-steps", "12", "--steps", "50", "--runs", "4"]
    assert main(["schedule", *few, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    rows = table(printed.out)
    assert list(rows) == ["as started", "best constant", "learned schedule"]
    started, constant, learned = (loss for loss, _ in rows.values())
    assert constant < 0.3 * started
    assert learned < 0.97 * constant
    assert "12/12" in printed.err  # the progress bar
    assert str(out) in printed.out
    assert (out / "schedule.png").read_bytes().startswith(b"\x89PNG")
    with np.load(out / "schedule.npz") as saved:
        assert saved["lr"].shape == saved["decay"].shape == (50, 4)
        assert (saved["lr"] > 0).all()
        assert ((saved["decay"] > 0) & (saved["decay"] < 1)).all()
        assert saved["constant_lr"].shape == saved["constant_decay"].shape == ()
        assert saved["groups"].tolist() == ["W1", "b1", "W2", "b2"]
        assert saved["sizes"].tolist() == [64, 32, 10]
        assert saved["meta_curve"].shape == saved["constant_meta_curve"].shape == (12,)
        assert saved["rows"].tolist() == list(rows)
        assert saved["curves"].shape == (3, *saved["accuracies"].shape[1:], *saved["curve_steps"].shape)
        assert saved["accuracies"].shape[1] >= 5
        assert saved["curve_steps"][[0, -1]].tolist() == [0, 50]
        assert saved["curves"][:, :, -1].mean(axis=1) == pytest.approx([started, constant, learned], abs=1e-4)
        assert 100 * saved["accuracies"].mean(axis=1) == pytest.approx([each for _, each in rows.values()], abs=0.06)


def test_the_best_constant_is_about_the_best_there_is(tmp_path, capsys):
    """By hand, of 20 seeds: learning rate 2, decay 0.8 to 0.9 reach 0.135 to 0.138."""
    arguments = ["schedule", "--meta-steps", "20", "--runs", "4", "--out", str(tmp_path)]
    assert main(arguments) == 0
    loss, accuracy = table(capsys.readouterr().out)["best constant"]
    assert loss < 0.16
    assert accuracy > 94.5


def test_distill_teaches_digits_with_ten_images(tmp_path, capsys):
    assert main(["distill", "--meta-steps", "120", "--runs", "2", "--out", str(tmp_path)]) == 0
    rows = table(capsys.readouterr().out)
    assert list(rows) == ["blank images", "class means", "learned images"]
    (blank, chance), (means, _), (learned, accuracy) = rows.values()
    assert learned < 0.7 * means < 0.3 * blank
    assert chance < 20
    assert accuracy > 93
    assert (tmp_path / "distill.png").read_bytes().startswith(b"\x89PNG")
    with np.load(tmp_path / "distill.npz") as saved:
        assert saved["images"].shape == saved["means"].shape == (10, 8, 8)
        assert saved["lr"].shape == saved["decay"].shape == saved["means_lr"].shape == saved["means_decay"].shape == ()
        assert saved["labels"].tolist() == list(range(10))
        assert saved["meta_curve"].shape == (120,)
        assert saved["rows"].tolist() == list(rows)
        assert saved["losses"].mean(axis=1) == pytest.approx([blank, means, learned], abs=1e-4)
        assert saved["accuracies"].shape == saved["losses"].shape


def test_real_images_are_those_of_their_class():
    x, y = np.array([[0.0], [0.2], [1.0], [0.5]]), np.array([0, 0, 0, 2])
    means, nearest = real_images(Dataset((x, y), (x, y), (x, y), (1, 1)))
    assert means == pytest.approx(np.array([[0.4], [0], [0.5]]))
    assert nearest.tolist() == [[0.2], [0], [0.5]]  # of the class 1 there is none


def test_runs_are_reproducible(tmp_path, capsys):
    printed = []
    for name, seed, workers in (("a", "3", "1"), ("b", "3", "2"), ("c", "4", "-1")):
        few = ["--meta-steps", "2", "--steps", "10", "--runs", "2"]
        assert main(["schedule", *few, "--seed", seed, "--workers", workers, "--out", str(tmp_path / name)]) == 0
        printed.append(table(capsys.readouterr().out))
    assert printed[0] == printed[1] != printed[2]


@pytest.mark.parametrize("command", ["schedule", "distill"])
def test_idx_files_take_the_place_of_digits(command, tmp_path, capsys):
    write_digits(tmp_path, suffix=".gz")
    arguments = [command, "--data", str(tmp_path), "--meta-steps", "2", "--steps", "5", "--out", str(tmp_path / "out")]
    assert main(arguments + (["--batch-size", "10"] if command == "schedule" else [])) == 0
    assert len(table(capsys.readouterr().out)) == 3


@pytest.mark.parametrize("command", ["schedule", "distill"])
@pytest.mark.parametrize("tuned", [0, 1], ids=["in the first", "in the second"])
def test_an_interrupt_saves_what_is_learned(command, tuned, tmp_path, capsys, monkeypatch):
    """As Ctrl-C does after two meta-steps, of the constants or of what comes after them."""
    tune, made = fastrev.tune, []

    def interrupted(*positional, **named):
        def interrupt(state):
            if len(made) == tuned and state.nit == 2:
                raise KeyboardInterrupt

        result = tune(*positional, **named, callback=interrupt)
        made.append(result)
        return result

    monkeypatch.setattr(fastrev, "tune", interrupted)
    few = ["--meta-steps", "3", "--steps", "4", "--runs", "1"]
    assert main([command, *few, "--out", str(tmp_path)]) == 130
    printed = capsys.readouterr()
    assert printed.err.endswith("fastrev: interrupted; what was learned so far is saved\n")
    assert "Interrupted after 2 meta-steps." in printed.out
    assert [each.success for each in made] == [True, False][1 - tuned :]
    assert (tmp_path / f"{command}.png").read_bytes().startswith(b"\x89PNG")
    with np.load(tmp_path / f"{command}.npz") as saved:
        assert len(saved["rows"]) == 2 + tuned
        assert ("lr" in saved) == bool(tuned)
        prefix = {"schedule": "constant_lr", "distill": "means_lr"}[command]
        assert saved["lr" if tuned else prefix].tolist() == np.asarray(made[-1].lr).tolist()


@pytest.mark.parametrize("command", ["schedule", "distill"])
def test_an_interrupt_before_anything_is_learned_leaves_the_start(command, tmp_path, capsys, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Descent, "step", interrupt)
    assert main([command, "--steps", "1", "--lr", "0.25", "--out", str(tmp_path)]) == 130
    assert "Interrupted after 0 meta-steps." in capsys.readouterr().out
    with np.load(tmp_path / f"{command}.npz") as saved:
        assert saved[{"schedule": "constant_lr", "distill": "means_lr"}[command]] == pytest.approx(0.25)


@pytest.mark.parametrize("command", ["schedule", "distill"])
def test_a_second_interrupt_leaves_what_is_learned(command, tmp_path, capsys, monkeypatch):
    judge, rows = judging.judge, []

    def interrupted(*positional, **named):
        if len(rows) == 2:
            raise KeyboardInterrupt
        rows.append(judge(*positional, **named))
        return rows[-1]

    monkeypatch.setattr(judging, "judge", interrupted)
    few = ["--meta-steps", "1", "--steps", "4", "--runs", "1"]
    assert main([command, *few, "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("fastrev: interrupted\n")
    with np.load(tmp_path / f"{command}.npz") as saved:
        assert "lr" in saved


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a process of its own")
def test_ctrl_c_ends_the_command_with_its_results(tmp_path):
    command = [sys.executable, "-m", "fastrev", "schedule", "--meta-steps", "100000", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        seen = ""
        while not re.search(r"\| [1-9]\d*/100000 ", seen):  # a meta-step is made
            piece = process.stderr.read(20)
            assert piece, seen
            seen += piece
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.endswith("fastrev: interrupted; what was learned so far is saved\n")
    assert list(table(out)) == ["as started", "best constant"]
    assert {each.name for each in tmp_path.iterdir()} == {"schedule.npz", "schedule.png"}


def test_a_start_that_diverges_is_said(tmp_path, capsys):
    few = ["--meta-steps", "2", "--steps", "20", "--runs", "1"]
    assert main(["schedule", "--lr", "1e6", *few, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"as started +10 of 10 trainings diverged\n", printed)
    assert list(table(printed)) == ["best constant", "learned schedule"]  # which were found nevertheless


def test_idx_examples_arrive_whole(tmp_path):
    images, labels = write_digits(tmp_path)
    data = load(tmp_path, seed=0)
    assert data.shape == (4, 3)
    assert data.classes == 3
    x, y = (np.concatenate([part[i] for part in (data.train, data.valid, data.test)]) for i in (0, 1))
    order = np.lexsort(x.T)
    expected = images.reshape(60, 12) / 255
    expected_order = np.lexsort(expected.T)
    assert np.array_equal(x[order], expected[expected_order])
    assert np.array_equal(y[order], labels[expected_order])


def test_a_test_set_of_its_own_is_used_as_such(tmp_path):
    write_digits(tmp_path, "train")
    images, labels = write_digits(tmp_path, "t10k", ".gz", count=21)
    data = load(tmp_path, seed=0)
    assert np.array_equal(data.test[0], images.reshape(21, 12) / 255)
    assert np.array_equal(data.test[1], labels)
    assert len(data.train[0]) + len(data.valid[0]) == 60


def broken_folder(folder: Path, fault: str) -> None:
    write_digits(folder)
    images, labels = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    if fault == "empty":
        images.unlink()
        labels.unlink()
    elif fault == "no labels":
        labels.unlink()
    elif fault == "truncated":
        images.write_bytes(images.read_bytes()[:-1])
    elif fault == "header":
        images.write_bytes(images.read_bytes()[:7])
    elif fault == "magic":
        images.write_bytes(b"\x89PNG" + images.read_bytes())
    elif fault == "counts":
        write_idx(labels, np.zeros(59))
    elif fault == "ranks":
        write_idx(labels, np.zeros((60, 1)))
    elif fault == "gzip":
        images.rename(f"{images}.gz")
    elif fault == "sizes":
        write_idx(folder / "t10k-images-idx3-ubyte", np.zeros((5, 3, 4)))
        write_idx(folder / "t10k-labels-idx1-ubyte", np.zeros(5))
    elif fault == "no examples":
        write_idx(labels, np.zeros(0))
    elif fault == "no pixels":
        write_idx(images, np.zeros((60, 4, 0)))
    elif fault == "few":
        write_idx(images, np.zeros((2, 4, 3)))
        write_idx(labels, np.zeros(2))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("empty", "holds neither pair"),
        ("no labels", "must hold train-labels-idx1-ubyte"),
        ("truncated", "must hold the elements of shape (60, 4, 3), 720 bytes, not 719"),
        ("header", "must begin with an IDX header, but ends within it, after 7 bytes"),
        ("magic", "must be an IDX file of unsigned bytes and begin with 0x000008, not with 0x89504e"),
        ("counts", "holds 60 images, but"),
        ("ranks", "labels of rank 1, not 3, 2"),
        ("gzip", "must be gzipped, as its name says, and begin with 0x1f8b, not with 0x0000"),
        ("no examples", "whose every dimension is at least 1, not one of shape (0,)"),
        ("no pixels", "whose every dimension is at least 1, not one of shape (60, 4, 0)"),
        ("sizes", "must have one size, not (4, 3) and (3, 4)"),
        ("few", "at least 10 examples to be split, not 2"),
    ],
)
def test_bad_data_is_named(fault, message, tmp_path, capsys):
    broken_folder(tmp_path, fault)
    assert main(["schedule", "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fastrev: ")
    assert message in error


def damaged(content: bytes, place: int) -> bytes:
    """The content with all bits of one byte flipped."""
    changed = bytearray(content)
    changed[place] ^= 0xFF
    return bytes(changed)


def all_but_bytes(value: object) -> str:
    return "content" if isinstance(value, bytes) else str(value)


IDX = idx_header(2, 3) + bytes(range(6))
GZIPPED = gzip.compress(idx_header(1000) + bytes(range(250)) * 4)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a", b"", "begin with an IDX header, but ends within it, after 0 bytes"),
        ("a", IDX[:3], "ends within it, after 3 bytes"),
        ("a", IDX[:11], "ends within it, after 11 bytes"),
        ("a", b"\0\0\x0d\x02" + IDX[4:], "unsigned bytes and begin with 0x000008, not with 0x00000d"),
        ("a", idx_header() + b"x", "must hold an array of rank 1 to 3, not of rank 0"),
        ("a", idx_header(1, 1, 1, 1) + b"x", "rank 1 to 3, not of rank 4"),
        ("a", idx_header(*[1] * 65) + b"x", "rank 1 to 3, not of rank 65"),
        ("a", idx_header(2**32 - 1, 0, 2**32 - 1), "at least 1, not one of shape (4294967295, 0, 4294967295)"),
        ("a", idx_header(0), "at least 1, not one of shape (0,)"),
        ("a", idx_header(*[2**32 - 1] * 3) + b"x", f"(4294967295, 4294967295, 4294967295), {(2**32 - 1) ** 3} bytes"),
        ("a", IDX[:-1], "must hold the elements of shape (2, 3), 6 bytes, not 5"),
        ("a", IDX + b"x", "shape (2, 3), 6 bytes, not 7"),
        ("a", GZIPPED, "must be an IDX file, not a gzipped one. Give it a name that ends in .gz"),
        ("a.gz", IDX, "must be gzipped, as its name says, and begin with 0x1f8b, not with 0x0000"),
        ("a.gz", b"", "begin with 0x1f8b, not with nothing"),
        ("a.gz", gzip.compress(b""), "ends within it, after 0 bytes"),
        ("a.gz", gzip.compress(IDX[:-1]), "shape (2, 3), 6 bytes, not 5"),
        ("a.gz", gzip.compress(IDX + b"x"), "shape (2, 3), 6 bytes, not more"),
        ("a.gz", gzip.compress(IDX) + gzip.compress(b"x"), "shape (2, 3), 6 bytes, not more"),
        ("a.gz", gzip.compress(idx_header(300, 300, 300)), "shape (300, 300, 300), 27000000 bytes, not the "),
        ("a.gz", GZIPPED[:5], "must be a gzipped IDX file, whole and readable, but: Compressed file ended"),
        ("a.gz", GZIPPED[:-10], "must be a gzipped IDX file, whole and readable, but: Compressed file ended"),
        ("a.gz", GZIPPED[:-8] + bytes(4) + GZIPPED[-4:], "whole and readable, but: CRC check failed"),
        ("a.gz", GZIPPED + b"x", "whole and readable, but: Not a gzipped file"),
        ("a.gz", GZIPPED[:10] + b"\xff" + GZIPPED[11:], "whole and readable, but: Error -3 while decompressing"),
        ("a.gz", damaged(GZIPPED, 2), "whole and readable, but: Unknown compression method"),
    ],
    ids=all_but_bytes,
)
def test_a_bad_idx_file_is_named(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ArgumentError) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path} must ")
    assert message in str(caught.value)


@pytest.mark.parametrize(("name", "kind"), [("a", "an IDX file"), ("a.gz", "a gzipped IDX file")])
def test_an_idx_file_that_cannot_be_opened_is_named(name, kind, tmp_path, monkeypatch):
    path = tmp_path / name

    def expect(reason: str) -> None:
        with pytest.raises(ArgumentError) as caught:
            read_idx(path)
        assert str(caught.value) == f"{path} must be {kind}, whole and readable, but: {reason}."

    expect("No such file or directory")
    path.mkdir()
    expect("Is a directory")

    def refuse(self, mode):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    expect("Permission denied")


def test_gzip_of_several_members_is_read_whole(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(b"".join(gzip.compress(part) for part in (IDX[:3], IDX[3:14], b"", IDX[14:])) + bytes(10))
    assert np.array_equal(read_idx(path), np.arange(6).reshape(2, 3))


def test_as_many_zeros_as_gzip_can_hold_are_read(tmp_path):
    path = tmp_path / "a.gz"
    write_idx(path, np.zeros((10, 1000, 1000)))
    assert path.stat().st_size < 1e7 / 1000
    assert np.array_equal(read_idx(path), np.zeros((10, 1000, 1000)))


def gzipped_gigabyte(header: bytes) -> bytes:
    """The header and 2**30 zeros, without the checksum, in 1 MB."""
    deflate = zlib.compressobj(9, wbits=31)
    start = deflate.compress(header) + deflate.flush(zlib.Z_FULL_FLUSH)
    megabyte = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)  # depends on nothing before it
    return start + 1024 * megabyte


NOISE = np.random.default_rng(0).bytes(2**20)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.gz", gzipped_gigabyte(idx_header(60)), "60 bytes, not more"),
        ("a.gz", gzipped_gigabyte(idx_header(2**31)), "2147483648 bytes, not the 1"),
        ("a.gz", gzipped_gigabyte(b""), "begin with 0x000008, not with 0x000000"),
        ("a.gz", gzip.compress(idx_header(10**9) + NOISE), "1000000000 bytes, not 1048576"),
        ("a", idx_header(2**31) + NOISE, "2147483648 bytes, not 1048576"),
        ("a", idx_header(60) + NOISE, "60 bytes, not 1048576"),
    ],
    ids=all_but_bytes,
)
def test_a_bad_idx_file_takes_no_memory(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ArgumentError) as caught:
            read_idx(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in str(caught.value)
    assert peak < 8 * 2**20


def idx_content(content: bytes, packed: bool) -> np.ndarray | None:
    """What a file of this content holds, all of it in memory at once; None if it is no IDX file."""
    try:
        content = gzip.decompress(content) if packed else content
    except (OSError, EOFError, zlib.error):
        return None
    rank = content[3] if len(content) > 3 else 0
    start = 4 + 4 * rank
    if content[:3] != b"\0\0\x08" or not 1 <= rank <= 3 or len(content) < start:
        return None
    shape = struct.unpack(f">{rank}I", content[4:start])
    if 0 in shape or math.prod(shape) != len(content) - start:
        return None
    return np.frombuffer(content[start:], np.uint8).reshape(shape)


@st.composite
def mutated(draw, content: bytes) -> bytes:
    """The content as it is, or with bytes flipped, cut off or appended, mostly one of them."""
    for mutation in draw(st.lists(st.sampled_from(["flip", "cut", "append"]), max_size=2)):
        if mutation == "append":
            content += draw(st.binary(min_size=1, max_size=20) | st.just(gzip.compress(b"x")))
        elif content:
            place = draw(st.integers(0, len(content) - 1))
            content = damaged(content, place) if mutation == "flip" else content[:place]
    return content


@st.composite
def idx_files(draw) -> tuple[bytes, bool]:
    """The content of a file and whether it is called .gz: an IDX file, more or less."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3) | st.lists(st.integers(0, 2), max_size=5))
    count = math.prod(shape)
    content = draw(mutated(idx_header(*shape) + draw(st.binary(min_size=count, max_size=count))))
    packed = draw(st.booleans())
    return (draw(mutated(gzip.compress(content, mtime=0))) if packed else content), packed


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("idx")


@settings(max_examples=500, deadline=None)
@given(file=idx_files() | st.tuples(st.binary(max_size=100), st.booleans()))
def test_read_idx_returns_the_array_or_names_the_file(file, scratch):
    content, packed = file
    path = scratch / ("a.gz" if packed else "a")
    path.write_bytes(content)
    expected = idx_content(content, packed)
    if expected is None:
        with pytest.raises(ArgumentError) as caught:
            read_idx(path)
        assert str(caught.value).startswith(f"{path} must ")
    else:
        found = read_idx(path)
        assert found.dtype == np.uint8
        assert found.shape == expected.shape
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("folder", ["no/such/folder", "x" * 300, __file__])
def test_a_folder_that_is_none_is_named(folder, capsys):
    assert main(["distill", "--data", folder]) == 2
    assert f"'--data' must be a folder of IDX files, not {folder!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--steps", "0", "must be a whole number of at least 1, not '0'"),
        ("--meta-steps", "1.5", "must be a whole number of at least 1, not '1.5'"),
        ("--runs", "0", "must be a whole number of at least 1, not '0'"),
        ("--workers", "-2", "must be a whole number of at least 1, or -1, not '-2'"),
        ("--seed", "-1", "must be a whole number of at least 0, not '-1'"),
        ("--lr", "nan", "must be a number above 0, not 'nan'"),
        ("--decay", "1", "must be a number between 0 and 1, both excluded, not '1'"),
        ("--sizes", "64", "must hold at least two layer sizes"),
        ("--sizes", "64,x,10", "must be a whole number of at least 1, not 'x'"),
    ],
)
def test_bad_options_are_named(option, value, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["schedule", f"{option}={value}"])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_sizes_must_fit_the_data(capsys):
    assert main(["schedule", "--sizes", "784,32,10"]) == 2
    assert "'--sizes' must begin with the data's 64 inputs" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["schedule", "distill"])
@pytest.mark.parametrize(
    ("folder", "reason"),
    [("file", "File exists"), ("file/in/it", "Not a directory"), ("x" * 300, "File name too long")],
)
def test_a_folder_that_cannot_be_created_is_named_before_the_work(command, folder, reason, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main([command, "--out", str(tmp_path / folder)]) == 2
    printed = capsys.readouterr()
    expected = f"'--out' must be a folder that can be written to, not {str(tmp_path / folder)!r}: {reason}. Pass a "
    assert printed.err.startswith(f"fastrev: Argument {expected}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_written_to_is_named_before_the_work(tmp_path, capsys, monkeypatch):
    def refuse(**options):
        raise PermissionError(13, "Permission denied", str(options["dir"] / "name"))

    monkeypatch.setattr(output, "NamedTemporaryFile", refuse)
    assert main(["distill", "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert f"folder that can be written to, not {str(tmp_path)!r}: Permission denied. Pass a folder" in printed.err
    assert printed.out == ""


def test_the_folder_is_tried_without_a_trace(tmp_path):
    output.prepare(tmp_path / "a" / "b")
    output.prepare(tmp_path / "a" / "b")
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "b"]


def test_no_folder_is_left_where_another_argument_is_at_fault(tmp_path):
    assert main(["schedule", "--sizes", "784,32,10", "--out", str(tmp_path / "out")]) == 2
    assert main(["distill", "--data", "no/such/folder", "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file that is always full")
@pytest.mark.parametrize("command", ["schedule", "distill"])
@pytest.mark.parametrize(
    ("full", "outcome"),
    [
        ("npz", "{0}.npz and {0}.png are not saved. Make room, or pass another folder, and run again."),
        ("png", "{0}.npz is saved, {0}.png is not."),
    ],
)
def test_a_full_disk_ends_in_one_line(command, full, outcome, tmp_path, capsys, monkeypatch):
    if full == "npz":

        def fail(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", fail)
    else:
        (tmp_path / f"{command}.{full}").symlink_to("/dev/full")
    assert main([command, "--meta-steps", "1", "--steps", "2", "--runs", "1", "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    expected = f"must be a folder that can be written to, not {str(tmp_path)!r}: No space left on device. "
    assert printed.err.splitlines()[-1] == f"fastrev: Argument '--out' {expected}{outcome.format(command)}"
    assert "Traceback" not in printed.err
    assert str(tmp_path) not in printed.out
    if full == "png":
        with np.load(tmp_path / f"{command}.npz") as saved:
            assert saved["meta_curve"].shape == (1,)


def test_divergence_ends_with_advice(tmp_path, capsys, monkeypatch):
    def diverge(*positional, **named):
        raise DivergenceError("No run of the first meta-step ended.", step=-1, group="")

    monkeypatch.setattr(fastrev, "tune", diverge)
    assert main(["schedule", "--steps", "2", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.endswith("fastrev: no training of the first meta-step ended. Pass a smaller --lr.\n")


@pytest.mark.parametrize("command", [[], ["schedule"], ["distill"]])
def test_help_explains(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    expected = (
        ["--steps", "--meta-steps", "--data", "--seed", "--out", "default: "] if command else ["schedule", "distill"]
    )
    assert all(each in text for each in expected)
    assert "None" not in text


class Absent:
    """Finds none of these, before others find them."""

    names: tuple[str, ...] = ()

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name in Absent.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def without(monkeypatch, *names: str) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] in names]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(Absent, "names", names)
    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])


def test_a_missing_extra_is_named(monkeypatch, tmp_path, capsys):
    without(monkeypatch, "matplotlib", "sklearn")
    with pytest.raises(MissingExtraError, match=r'needs matplotlib, which is not.*pip install "fastrev\[plot\]"'):
        require("matplotlib.figure", "plot", "The picture")
    assert main(["distill", "--meta-steps", "1", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert 'needs sklearn, which is not installed. Run: python -m pip install "fastrev[demo]"' in error


@pytest.mark.parametrize("command", ["schedule", "distill"])
def test_a_missing_matplotlib_is_named_before_the_work(command, monkeypatch, tmp_path, capsys):
    without(monkeypatch, "matplotlib")
    assert main([command, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert 'needs matplotlib, which is not installed. Run: python -m pip install "fastrev[plot]"' in printed.err
    assert printed.out == ""
    assert not (tmp_path / "out").exists()
