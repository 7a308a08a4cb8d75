"""The command line: options, folders, interrupts, faults."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrev
from fastrev._engine.extras import require
from fastrev._tuning import loop
from fastrev.errors import MissingExtraError
from fastrev.experiments import EXPERIMENTS, l2, main, schedule, valley
from fastrev.experiments._shared import commands, datasets, output, pictures
from fastrev.experiments._shared.settings import chosen
from tests.test_datasets import write_digits


def table(printed: str) -> dict[str, tuple[float, float]]:
    """Mean validation loss and mean test accuracy in percent, of every row that is printed."""
    rows = [re.match(r"(.+?)  +([\d.]+) \+- [\d.]+  ([\d.]+)% \+- [\d.]+%", line) for line in printed.splitlines()]
    return {row[1]: (float(row[2]), float(row[3])) for row in rows if row}


NAMES = [commands.name_of(each) for each in EXPERIMENTS]
TUNED = ["schedule", "scales", "l2", "distill", "labels", "multitask", "clean"]
FEW = {  # for a run of a second
    name: ["--meta-steps", "3", "--runs", "1", *(["--trials", "1"] if name == "clean" else ["--steps", "4"])]
    for name in TUNED
}
FEW_EXAMPLES = [
    *("--examples", "40", "--queries", "3", "--hidden", "2", "--steps", "9"),
    *("--batch-size", "20", "--subsets", "3", "--most", "2"),
]


@pytest.mark.parametrize("command", ["schedule", "multitask", "select", "attribute"])
def test_runs_are_reproducible(command, tmp_path):
    """Every array that is kept, in every bit, whatever makes the trainings."""
    kept = []
    few = FEW_EXAMPLES if command == "attribute" else FEW.get(command, ["--trials", "1", "--meta-steps", "3"])
    for name, seed, workers in (("a", "3", "1"), ("b", "3", "2"), ("c", "4", "-1")):
        folder = tmp_path / name
        assert main([command, *few, "--seed", seed, "--workers", workers, "--out", str(folder)]) == 0
        with np.load(folder / f"{command}.npz") as saved:
            kept.append({each: saved[each].tobytes() for each in saved.files})
    assert kept[0] == kept[1]
    assert kept[0][measure := "scores" if command == "attribute" else "accuracies"] != kept[2][measure]


@pytest.mark.parametrize("command", ["schedule", "scales", "l2", "distill", "labels"])
def test_idx_files_take_the_place_of_digits(command, tmp_path, capsys):
    write_digits(tmp_path, suffix=".gz")
    arguments = [command, "--data", str(tmp_path), *FEW[command], "--out", str(tmp_path / "out")]
    assert main(arguments + (["--batch-size", "10"] if command in ("schedule", "scales", "l2") else [])) == 0
    assert len(table(capsys.readouterr().out)) >= 3


def interrupt_tunings(monkeypatch, after: int) -> list[fastrev.TuneResult]:
    """As Ctrl-C does after two meta-steps, of the first of the tunings or of those that come after it."""
    tune, made = fastrev.tune, []

    def interrupted(*positional, callback=None, **named):
        def interrupt(state):
            if callback is not None:
                callback(state)
            if len(made) == after and state.nit == 2:
                raise KeyboardInterrupt

        result = tune(*positional, **named, callback=interrupt)
        made.append(result)
        return result

    monkeypatch.setattr(fastrev, "tune", interrupted)
    return made


@pytest.mark.parametrize("command", TUNED)
@pytest.mark.parametrize("after", [0, 1], ids=["in the first", "in the second"])
def test_an_interrupt_saves_what_is_learned(command, after, tmp_path, capsys, monkeypatch):
    made = interrupt_tunings(monkeypatch, after)
    assert main([command, *FEW[command], "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("fastrev: interrupted; what was learned so far is saved\n")
    assert [each.success for each in made] == [True, False][1 - after :]
    assert (tmp_path / f"{command}.png").read_bytes().startswith(b"\x89PNG")
    with np.load(tmp_path / f"{command}.npz") as saved:
        arrays = [each for each in saved.values() if each.dtype.kind == "f"]
        for value in made[-1].learned.values():
            assert any(np.array_equal(each, value) for each in arrays)
        assert len(saved["accuracies"]) == (1 if command in ("multitask", "clean") else 2) + after


@pytest.mark.parametrize("command", ["schedule", "distill"])
def test_an_interrupt_before_anything_is_learned_leaves_the_start(command, tmp_path, capsys, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Descent, "step", interrupt)
    assert main([command, "--steps", "1", "--lr", "0.25", "--out", str(tmp_path)]) == 130
    assert "Interrupted after 0 meta-steps." in capsys.readouterr().out
    with np.load(tmp_path / f"{command}.npz") as saved:
        assert saved[{"schedule": "best_constants_lr", "distill": "class_means_lr"}[command]] == pytest.approx(0.25)


@pytest.mark.parametrize("command", ["schedule", "distill"])
def test_an_interrupt_of_the_judge_leaves_what_is_learned(command, tmp_path, capsys, monkeypatch):
    train, calls = fastrev.train, []

    def interrupted(*positional, **named):
        calls.append(named)
        if len(calls) == 15:  # within the second row
            raise KeyboardInterrupt
        return train(*positional, **named)

    monkeypatch.setattr(fastrev, "train", interrupted)
    assert main([command, *FEW[command], "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("fastrev: interrupted; what was learned so far is saved\n")
    with np.load(tmp_path / f"{command}.npz") as saved:
        assert {"schedule": "best_constants_lr", "distill": "class_means_lr"}[command] in saved
        assert len(saved["rows"]) == 1


def test_an_interrupt_before_there_is_anything_leaves_nothing(tmp_path, capsys, monkeypatch):
    def interrupt(*positional, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "load", interrupt)
    assert main(["distill", "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "fastrev: interrupted\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "function", "call", "few"),
    [
        ("valley", "train", 3, []),
        ("reverse", "train", 3, ["--steps", "20"]),
        ("hypergradient", "meta_grad", 4, ["--steps", "20"]),
        ("chaos", "meta_grad", 5, ["--points", "9", "--examples", "80"]),
        ("select", "meta_grad", 9, ["--trials", "1", "--meta-steps", "6"]),
        ("select", "train", 300, ["--trials", "1", "--meta-steps", "6"]),
        ("attribute", "train", 5, FEW_EXAMPLES),
    ],
)
def test_an_interrupt_where_nothing_is_tuned_keeps_what_was_measured(
    command, function, call, few, tmp_path, capsys, monkeypatch
):
    original, calls = getattr(fastrev, function), []

    def interrupted(*positional, **named):
        calls.append(named)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*positional, **named)

    monkeypatch.setattr(fastrev, function, interrupted)
    assert main([command, *few, "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("fastrev: interrupted; what was learned so far is saved\n")
    assert (tmp_path / f"{command}.png").read_bytes().startswith(b"\x89PNG")
    with np.load(tmp_path / f"{command}.npz") as saved:
        assert len(saved.files) >= 3
    assert len(calls) < call + 5  # no thread goes on


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
    assert list(table(out)) == ["as started", "best constants"]
    assert {each.name for each in tmp_path.iterdir()} == {"schedule.npz", "schedule.png"}


def test_a_start_that_diverges_is_said(tmp_path, capsys):
    few = ["--meta-steps", "2", "--steps", "20", "--runs", "1"]
    assert main(["schedule", "--lr", "1e6", *few, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"as started +10 of 10 trainings diverged\n", printed)
    assert list(table(printed)) == ["best constants", "learned schedule"]  # which were found nevertheless


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--steps", "0", "must be a whole number of at least 1, not '0'"),
        ("--meta-steps", "1.5", "must be a whole number of at least 1, not '1.5'"),
        ("--runs", "0", "must be a whole number of at least 1, not '0'"),
        ("--workers", "-2", "must be a whole number of at least 1, or -1, not '-2'"),
        ("--steps", "10000000000", "must be at most 1,000,000,000, not '10000000000'"),
        ("--seed", "9" * 5000, "must be a whole number of at least 0, not '999"),
        ("--seed", "-1", "must be a whole number of at least 0, not '-1'"),
        ("--lr", "nan", "must be a number above 0, not 'nan'"),
        ("--decay", "1", "must be a number above 1.52587891e-05 and below 0.999984741, not '1'"),
        ("--decay", "1e-8", "must be a number above 1.52587891e-05 and below 0.999984741, not '1e-8'"),
        ("--hidden", "64,x,10", "must be a whole number of at least 1, not 'x'"),
        ("--hidden", "", "must be a whole number of at least 1, not ''"),
    ],
)
def test_bad_options_are_named(option, value, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["schedule", f"{option}={value}"])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=NAMES)
def test_every_option_is_said_and_read(experiment, capsys):
    """Help names each field of the settings; given values, or defaults that go with the data, arrive in them."""
    name = commands.name_of(experiment)
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert commands.purpose_of(experiment) in text
    assert "None" not in text
    for field in dataclasses.fields(experiment.Settings):
        assert f"--{field.name.replace('_', '-')} " in text
        assert field.metadata["help"][:15] in text
    without, given = argparse.Namespace(data=None), argparse.Namespace(data=Path("x"), seed=7)
    assert chosen(without, experiment.Settings) == experiment.Settings()
    files = {each.name: each.metadata["with_data"] for each in dataclasses.fields(experiment.Settings)}
    assert vars(chosen(given, experiment.Settings)) == {**files, "data": Path("x"), "seed": 7}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["select", "--examples", "1005"],
            "'--examples' must be at most 1004, as many as there are to train on but one",
        ),
        (["labels", "--images", "100000"], "'--images' must be at most 9"),
        (["attribute", "--most", "1000"], "'--most' must be at most 999, as many as there are to train on but one"),
        (["attribute", "--subsets", "2"], "'--subsets' must be at least 3, not 2."),
        (["scales", "--lr", "4"], "'--lr' must be at most 3.96, as learning rates are learned below 4, not 4."),
        (["chaos", "--examples", "3"], "'--examples' must be at least 4, not 3."),
        (["l2", "--data", "no.npz"], "'--data' must be a folder of IDX files, or an .npz file, not 'no.npz'"),
    ],
)
def test_options_that_do_not_fit_the_data_are_named(arguments, message, tmp_path, capsys):
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_cannot_be_replaced_is_named_before_the_work(tmp_path, capsys):
    (tmp_path / "valley.png").mkdir()
    assert main(["valley", "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "valley.png': it is a folder" in printed.err
    assert printed.out == ""


def test_nobody_has_to_read_on(tmp_path):
    """As of ``| head -1``, and of a console that cannot print the folder's name."""
    command = [sys.executable, "-m", "fastrev", "valley", "--out", str(tmp_path / "é")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 1
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert r"valley.npz are in" in done.stdout


def test_data_of_its_own_have_settings_of_their_own():
    assert chosen(argparse.Namespace(data=Path("x"), hidden=None), schedule.Settings).hidden == (50, 50, 50)
    assert chosen(argparse.Namespace(data=None, hidden=None), schedule.Settings).hidden == (32,)
    assert chosen(argparse.Namespace(data=Path("x"), hidden=(3,)), schedule.Settings).hidden == (3,)


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
    with output.prepared(tmp_path / "a" / "b"):
        assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "b"]
    assert list(tmp_path.iterdir()) == []
    with output.prepared(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "result").touch()
    with output.prepared(tmp_path / "a" / "b"):
        pass
    assert len(list(tmp_path.rglob("*"))) == 3


def test_no_folder_is_left_where_another_argument_is_at_fault(tmp_path):
    assert main(["schedule", "--batch-size", "5000", "--out", str(tmp_path / "out" / "deep")]) == 2
    assert main(["distill", "--data", "no/such/folder", "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["schedule", "distill"])
@pytest.mark.parametrize(
    ("full", "outcome"),
    [
        ("npz", "{0}.npz and {0}.png are not saved. Make room, or pass another folder, and run again."),
        ("png", "{0}.npz is saved, {0}.png is not."),
    ],
)
def test_a_full_disk_ends_in_one_line(command, full, outcome, tmp_path, capsys, monkeypatch):
    sync = os.fsync

    def fail(descriptor):
        if full == "npz" or ((tmp_path / f"{command}.npz").exists() and drawing):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    drawing, draw = [], output.Kept.draw
    monkeypatch.setattr(output.Kept, "draw", lambda self, figure: drawing.append(figure) or draw(self, figure))
    monkeypatch.setattr(os, "fsync", fail)
    assert main([command, "--meta-steps", "1", "--steps", "2", "--runs", "1", "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    expected = f"must be a folder that can be written to, not {str(tmp_path)!r}: No space left on device. "
    assert printed.err.splitlines()[-1] == f"fastrev: Argument '--out' {expected}{outcome.format(command)}"
    assert "Traceback" not in printed.err
    assert str(tmp_path) not in printed.out
    if full == "png":
        with np.load(tmp_path / f"{command}.npz") as saved:
            assert any(name.startswith("learned_") and each.shape == (1,) for name, each in saved.items())


def test_divergence_ends_with_advice(tmp_path, capsys):
    few = ["--steps", "50", "--out", str(tmp_path)]
    assert main(["reverse", "--lr", "1e9", *few]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fastrev: ")
    assert "learning rate" in error
    assert error.count("\n") == 1


def test_help_names_every_experiment(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n    {name} " in text or f"\n    {name}\n" in text for name in [*NAMES, "all"])


def test_a_file_of_ones_own_is_a_command(tmp_path, capsys, monkeypatch):
    """A copy of an experiment, changed to learn one penalty a parameter group."""
    source = Path(l2.__file__).read_text(encoding="utf-8")
    changed = source.replace('"learned penalties": (model.num_params,)', '"learned group penalties": (2,)')
    assert changed != source
    (tmp_path / "groups.py").write_text(changed, encoding="utf-8")
    few = ["--meta-steps", "2", "--runs", "1", "--steps", "5"]
    assert main([str(tmp_path / "groups.py"), *few, "--out", str(tmp_path / "out")]) == 0
    assert "groups" not in sys.modules
    assert "learned group penalties" in table(capsys.readouterr().out)
    with np.load(tmp_path / "out" / "groups.npz") as saved:
        assert saved["learned_group_penalties_l2"].shape == (2,)


def test_a_file_that_is_no_experiment_is_named(tmp_path, capsys):
    assert main(["no/such/file.py"]) == 2
    assert "no/such/file.py" in capsys.readouterr().err
    (tmp_path / "json.py").write_text("Settings = run = None\n", encoding="utf-8")
    assert main([str(tmp_path / "json.py")]) == 2
    assert "must be a file that has Settings, run and draw, not" in capsys.readouterr().err
    assert sys.modules["json"] is json


def test_all_leaves_a_page_of_pictures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(schedule, "run", lambda settings, keep: valley.run(valley.Settings(), keep))
    monkeypatch.setattr(schedule, "draw", valley.draw)
    monkeypatch.setattr(schedule, "__doc__", 'Learn <b>"this"</b>.\n\nMore.')
    assert commands.main((valley, schedule), ["all", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("395.355207") == 2
    names = {"index.html"} | {f"{name}.{kind}" for name in ("valley", "schedule") for kind in ("png", "npz")}
    assert {each.name for each in tmp_path.iterdir()} == names
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("395.355207") == 2
    pictures = re.findall(r'<img src="(.*?)" alt="(.*?)"', page)
    assert [(tmp_path / source).exists() for source, _ in pictures] == [True, True]
    assert pictures[1][1] == "Learn &lt;b&gt;&quot;this&quot;&lt;/b&gt;"
    assert "<b>" not in page
    assert str(tmp_path) not in page


def test_all_ends_with_the_pictures_so_far(tmp_path, capsys, monkeypatch):
    ran = []
    monkeypatch.setattr(
        schedule,
        "run",
        lambda settings, keep: ran.append(settings) or (bool(valley.run(valley.Settings(), keep)) and False),
    )
    monkeypatch.setattr(schedule, "draw", valley.draw)
    assert commands.main((schedule, valley), ["all", "--seed", "5", "--out", str(tmp_path)]) == 130
    assert ran == [schedule.Settings(seed=5)]
    assert {each.name for each in tmp_path.iterdir()} == {"index.html", "schedule.png", "schedule.npz"}


def test_all_gives_data_to_those_that_take_them(tmp_path, monkeypatch):
    """Omniglot's folders are no folders of IDX files: multitask stays with the digits."""
    ran = []
    for experiment in EXPERIMENTS:
        monkeypatch.setattr(experiment, "run", lambda settings, keep: ran.append(settings) or keep(x=1) or True)
        monkeypatch.setattr(experiment, "draw", lambda saved: pictures.figure(1, 1))
    assert commands.main(EXPERIMENTS, ["all", "--data", "some/folder", "--out", str(tmp_path)]) == 0
    given = {type(each).__module__.rpartition(".")[2]: each.data for each in ran}
    assert given == {name: None if name == "multitask" else Path("some/folder") for name in NAMES}


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
    without(monkeypatch, "matplotlib")
    with pytest.raises(MissingExtraError, match=r'needs matplotlib, which is not.*pip install "fastrev\[plot\]"'):
        require("matplotlib.figure", "plot", "The picture")
    monkeypatch.undo()
    without(monkeypatch, "sklearn")
    assert main(["distill", "--meta-steps", "1", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert 'needs sklearn, which is not installed. Run: python -m pip install "fastrev[demo]"' in error


@pytest.mark.parametrize("command", ["clean", "all"])
def test_whatever_an_experiment_needs_is_named_before_the_work(command, monkeypatch, tmp_path, capsys):
    """Also with other data than scikit-learn's, where it is needed last."""
    without(monkeypatch, "sklearn")
    (tmp_path / "data").mkdir()
    assert main([command, "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert (
        'needs sklearn, which is not installed. Run: python -m pip install "fastrev[demo]", or in a checkout'
        in printed.err
    )
    assert printed.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["schedule", "distill"])
def test_a_missing_matplotlib_is_named_before_the_work(command, monkeypatch, tmp_path, capsys):
    without(monkeypatch, "matplotlib")
    assert main([command, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert 'needs matplotlib, which is not installed. Run: python -m pip install "fastrev[plot]"' in printed.err
    assert printed.out == ""
    assert not (tmp_path / "out").exists()
