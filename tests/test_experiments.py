"""The command line, run for real with small budgets."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from fastrev.__main__ import main
from fastrev._extras import require
from fastrev.errors import ArgumentError, MissingExtraError
from fastrev.experiments.adam import Adam
from fastrev.experiments.datasets import load, read_idx


def write_idx(path: Path, array: np.ndarray) -> None:
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
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


def losses(printed: str) -> list[float]:
    return [float(line.split("loss ")[1].split(",")[0]) for line in printed.splitlines() if "validation loss" in line]


def accuracies(printed: str) -> list[float]:
    return [float(line.split("accuracy ")[1].rstrip("%")) for line in printed.splitlines() if "accuracy" in line]


def test_schedule_learns_and_leaves_its_results(tmp_path, capsys):
    out = tmp_path / "deep" / "results"
    assert main(["schedule", "--meta-steps", "40", "--steps", "50", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    before, after = losses(printed.out)
    assert after < 0.6 * before
    assert "40/40" in printed.err  # the progress bar
    assert str(out) in printed.out
    assert (out / "schedule.png").read_bytes().startswith(b"\x89PNG")
    with np.load(out / "schedule.npz") as saved:
        assert saved["lr"].shape == saved["decay"].shape == (50, 4)
        assert (saved["lr"] > 0).all()
        assert ((saved["decay"] > 0) & (saved["decay"] < 1)).all()
        assert saved["groups"].tolist() == ["W1", "b1", "W2", "b2"]
        assert saved["sizes"].tolist() == [64, 32, 10]
        assert saved["meta_curve"].shape == (40,)
        assert saved["curve_before"].shape == saved["curve_after"].shape == saved["curve_steps"].shape
        assert saved["curve_after"][-1] == pytest.approx(after, abs=1e-4)


def test_distill_teaches_digits_with_ten_images(tmp_path, capsys):
    assert main(["distill", "--meta-steps", "150", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    before, after = losses(printed)
    assert after < 0.3 * before
    assert accuracies(printed)[1] > 85
    assert (tmp_path / "distill.png").read_bytes().startswith(b"\x89PNG")
    with np.load(tmp_path / "distill.npz") as saved:
        assert saved["images"].shape == (10, 8, 8)
        assert saved["labels"].tolist() == list(range(10))
        assert saved["meta_curve"].shape == (150,)


def test_runs_are_reproducible(tmp_path, capsys):
    printed = []
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        arguments = ["schedule", "--meta-steps", "3", "--steps", "10", "--seed", seed, "--out", str(tmp_path / name)]
        assert main(arguments) == 0
        printed.append(losses(capsys.readouterr().out))
    assert printed[0] == printed[1] != printed[2]


@pytest.mark.parametrize("command", ["schedule", "distill"])
def test_idx_files_take_the_place_of_digits(command, tmp_path, capsys):
    write_digits(tmp_path, suffix=".gz")
    arguments = [command, "--data", str(tmp_path), "--meta-steps", "2", "--steps", "5", "--out", str(tmp_path / "out")]
    assert main(arguments + (["--batch-size", "10"] if command == "schedule" else [])) == 0
    assert len(losses(capsys.readouterr().out)) == 2


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
    elif fault == "few":
        write_idx(images, np.zeros((2, 4, 3)))
        write_idx(labels, np.zeros(2))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("empty", "holds neither pair"),
        ("no labels", "must hold train-labels-idx1-ubyte"),
        ("truncated", "must hold the elements of shape (60, 4, 3), 720 bytes, not 719"),
        ("header", "ends within its header, after 7 bytes"),
        ("magic", "must be an IDX file of unsigned bytes; it begins with 0x89504e47"),
        ("counts", "holds 60 images, but"),
        ("ranks", "labels of rank 1, not 3, 2"),
        ("gzip", "cannot be read: Not a gzipped file"),
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


def test_truncated_gzip_is_named(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(bytes(1000))[:-10])
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_idx(path)


def test_a_missing_folder_is_named(capsys):
    assert main(["distill", "--data", "no/such/folder"]) == 2
    assert "'--data' must be a folder of IDX files, not 'no/such/folder'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--steps", "0", "must be a whole number of at least 1, not '0'"),
        ("--meta-steps", "1.5", "must be a whole number of at least 1, not '1.5'"),
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


def test_divergence_ends_with_advice(tmp_path, capsys):
    assert main(["schedule", "--lr", "1e6", "--steps", "20", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "lower lr" in error
    assert "a smaller --lr, or a smaller --meta-lr" in error


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


def test_a_missing_extra_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)  # as Python does for a module that cannot be imported
    with pytest.raises(MissingExtraError, match=r'needs tqdm, which is not installed.*pip install "fastrev\[demo\]"'):
        require("tqdm", "demo", "The progress bar")
    assert main(["distill", "--meta-steps", "1", "--out", str(tmp_path)]) == 2
    assert "needs tqdm" in capsys.readouterr().err


def test_adam_descends():
    x = np.array([3.0, -2.0])
    adam = Adam(x, 0.1)
    for _ in range(200):
        adam.step(2 * x)
    assert np.abs(x).max() < 0.05
