"""Words in files that two states on disk name, or another process is at work on: whoever goes on takes none away."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrev
from fastrev._durable import checkpoints
from fastrev._files import shelf
from tests.test_shelf import OPTIMIZERS, SMALL, Killed, digits_like, files_in, kept, train

ONES = np.ones(43)


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "WORDS", SMALL)


@pytest.fixture(scope="module")
def expected() -> fastrev.Gradients:
    return train("MLP", "SGD").pullback(ONES)


def load(folder: Path) -> fastrev.Run:
    case = digits_like()
    arguments = {"train": case.arguments["train"], "batch_size": 8, "optimizer": OPTIMIZERS["SGD"], "steps": 400}
    return fastrev.load(folder / "run", case.model, case.w0, buffer=folder / "words", **arguments)


def half_way_back(run: fastrev.Run, path: Path) -> None:
    """Killed between two writings."""

    def stop(self: Any, state: Any) -> None:
        look(self, state)
        if state.cursor[0] <= 200:
            raise Killed

    look = checkpoints.Keeper.look
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Keeper, "look", stop)
        with pytest.raises(Killed):
            run.pullback(ONES, checkpoint=path, every=40)


def test_a_way_back_that_goes_on_leaves_the_files_of_the_way_there(expected: fastrev.Gradients, tmp_path: Path) -> None:
    run = train("MLP", "SGD", **kept(tmp_path))
    files = files_in(tmp_path)
    half_way_back(run, tmp_path / "back")
    for _ in range(2):  # from half-way, and from its end
        run = train("MLP", "SGD", **kept(tmp_path))
        assert run.pullback(ONES, checkpoint=tmp_path / "back", every=40) == expected
        assert files_in(tmp_path) == files
    assert train("MLP", "SGD", **kept(tmp_path)).pullback(ONES) == expected


def test_what_is_loaded_leaves_the_files_of_its_state(expected: fastrev.Gradients, tmp_path: Path) -> None:
    train("MLP", "SGD", **kept(tmp_path))
    for name in "back", "again":
        assert load(tmp_path).pullback(ONES, checkpoint=tmp_path / name, every=40) == expected
    assert load(tmp_path).pullback(ONES, checkpoint=tmp_path / "run") == expected  # in its place
    assert not files_in(tmp_path)


def test_a_run_is_looked_at_while_it_goes_on(expected: fastrev.Gradients, tmp_path: Path) -> None:
    """By another process, say: what it has put away since its last writing stays."""
    seen: list[int] = []

    def look(step: int, w: Any) -> None:
        seen.append(load(tmp_path).stats.steps)

    run = train("MLP", "SGD", callback=(look, [275]), **kept(tmp_path))
    assert seen == [240]
    assert run.pullback(ONES) == expected


def test_files_of_a_run_that_another_takes_the_place_of_are_removed(
    expected: fastrev.Gradients, tmp_path: Path
) -> None:
    words = kept(tmp_path)["buffer"]
    half_way_back(train("MLP", "SGD", buffer=words), tmp_path / "back")
    there = files_in(tmp_path)
    run = train("MLP", "SGD", buffer=words)
    assert len(files_in(tmp_path)) > len(there) > 0
    assert run.pullback(ONES, checkpoint=tmp_path / "back", every=40) == expected
    assert not files_in(tmp_path)


def test_a_copy_half_way_back_has_the_files_that_are_left(expected: fastrev.Gradients, tmp_path: Path) -> None:
    run = train("MLP", "SGD", **kept(tmp_path))
    half_way_back(run, tmp_path / "run")
    other = copy.deepcopy(run)
    for each in other, run:
        each.rewind()
        assert each.stats.exact
    assert train("MLP", "SGD", **kept(tmp_path)).pullback(ONES, checkpoint=tmp_path / "run") == expected


def test_paths_are_those_of_the_beginning(
    expected: fastrev.Gradients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the process goes, there and between."""
    (tmp_path / "elsewhere").mkdir()
    kept(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = {"buffer": "words", "checkpoint": "run", "every": 40}
    run = train("MLP", "SGD", callback=(lambda step, w: os.chdir("elsewhere"), [100]), **given)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert run.pullback(ONES, checkpoint="run", every=40) == expected  # another file, of this name
    monkeypatch.chdir(tmp_path)
    assert train("MLP", "SGD", **given).pullback(ONES) == expected


def test_another_folder_is_refused_and_nothing_has_changed(
    expected: fastrev.Gradients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("MLP", "SGD", **kept(tmp_path))
    half_way_back(run, tmp_path / "back")
    (tmp_path / "other").mkdir()
    with pytest.raises(fastrev.StorageError, match=r"No such file .* Pass buffer= as when it was written"):
        train("MLP", "SGD", **kept(tmp_path, buffer=tmp_path / "other"))
    run = train("MLP", "SGD", buffer=tmp_path / "other")
    read = shelf.segments.read
    for error in fastrev.StorageError, KeyboardInterrupt:
        if error is KeyboardInterrupt:
            monkeypatch.setattr(shelf.segments, "read", _interrupted)
        with pytest.raises(error):
            run.pullback(ONES, checkpoint=tmp_path / "back")
    monkeypatch.setattr(shelf.segments, "read", read)
    assert run.pullback(ONES) == expected


def _interrupted(*arguments: Any) -> None:
    raise KeyboardInterrupt


def test_a_damaged_cursor_is_not_written(tmp_path: Path) -> None:
    run = train("MLP", "SGD", **kept(tmp_path))
    run._state.cursor[3] += 1000 * SMALL
    with pytest.raises(fastrev.StorageError, match="memory failed"):
        run.save(tmp_path / "saved")
    with pytest.raises(fastrev.StorageError, match="memory failed"):
        run._tail.sync(run._state)


def test_a_forked_child_writes_no_state_that_names_its_parents_files(tmp_path: Path) -> None:
    """As it finds them: a real one is not forked here, where JAX of other tests has threads."""
    run = train("MLP", "SGD", buffer=kept(tmp_path)["buffer"])
    run._tail._owner = os.getppid()
    with pytest.raises(fastrev.StorageError, match="forked"):
        run._tail.sync(run._state)


def test_a_folder_that_is_gone_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for given in {"buffer": "words"}, {"checkpoint": "run"}:
        with pytest.raises(fastrev.ArgumentError, match="No such file or directory"):
            train("MLP", "SGD", **given)
