"""Files of the first formats (tests/data/v1) are read, gone on from to the same bits, and written again to the byte."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

import fastrev
from fastrev._files import files, shelf
from tests.data import make
from tests.data.make import RUNS
from tests.killing import bits

NAMES = sorted(each.relative_to(make.FOLDER).as_posix() for each in make.FOLDER.rglob("*") if each.is_file())


@pytest.fixture
def kept(tmp_path):
    """A copy of the files, which may be written to, and all that is as it was then."""
    with make.as_ever():
        yield shutil.copytree(make.FOLDER, tmp_path / "v1")


def gone_on(names=tuple(RUNS)) -> str:
    """The bits that runs come to from copies of their files; of any process."""
    with make.as_ever(), tempfile.TemporaryDirectory() as folder:
        files = shutil.copytree(make.FOLDER, Path(folder) / "v1")
        return bits(tuple(of(RUNS[name].kept(files / f"{name}.npz")) for name in names))


def of(result):
    """All but what it took."""
    return result.w, result.v, result.loss, result.grad, result.stats.stored_bits, result.stats.exact


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_to_the_same_bits(name, kept, tmp_path):
    found = RUNS[name].kept(kept / f"{name}.npz")
    assert bits(of(found)) == bits(of(RUNS[name].call()))
    if RUNS[name].with_files:
        assert not list((kept / f"{name}.words").iterdir())


@pytest.mark.parametrize("name", ["sgd-there", "sgd-at-its-end", "sgd-back", "buffer-there", "buffer-back"])
def test_a_run_is_loaded_and_taken_back(name, kept):
    given = {"train": (make.X, make.Y), "batches": make.ROWS, "lr": 0.3, "decay": 0.9}
    if RUNS[name].with_files:
        given |= {"decay": 0.1, "buffer": kept / f"{name}.words"}
    run = fastrev.load(kept / f"{name}.npz", make.NET, 0.5 * make.numbers(26), **given)
    done = run.stats.steps
    run.rewind()
    assert (run.stats.steps, run.stats.exact) == (done, True)
    assert done == (make.EVERY * RUNS[name].writing if name.endswith("there") else make.STEPS)


def test_the_same_bytes_are_written(kept, tmp_path):
    """Whoever changes them changes a format: that needs another number, and files beside these."""
    anew = tmp_path / "anew"
    anew.mkdir()
    make.make(anew)
    assert sorted(each.relative_to(anew).as_posix() for each in anew.rglob("*") if each.is_file()) == NAMES
    for name in NAMES:
        assert (anew / name).read_bytes() == (make.FOLDER / name).read_bytes(), name


def test_words_of_a_file_are_part_of_the_format():
    assert shelf.WORDS == 2**19


def test_tuning_goes_on_and_its_result_is_read(kept, tmp_path):
    whole = make.tune()
    again = make.tune(checkpoint=kept / make.TUNING)
    assert bits((again.learned, again.history, again.loss)) == bits((whole.learned, whole.history, whole.loss))
    result = fastrev.load(kept / make.RESULT)
    assert bits((result.learned, result.history, result.loss)) == bits((whole.learned, whole.history, whole.loss))
    assert result.train(make.X, make.Y).w.tobytes() == whole.train().w.tobytes()


def test_a_model_is_read(kept):
    model, w = fastrev.MLP.load(kept / make.MODEL)
    assert model == make.NET
    assert np.array_equal(w, make.numbers(model.num_params))


def test_every_file_is_read_without_the_library(kept):
    for name in NAMES:
        if name.endswith(".npz"):
            with np.load(kept / name, allow_pickle=False) as arrays:
                assert "fastrev" in arrays
            assert files.read(kept / name).kind in (files.MODEL, files.RUN, files.TUNE_RESULT, files.TUNING_CHECKPOINT)
