"""The command line of the experiments."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from fastrev._engine.arguments import fault, reason
from fastrev._engine.version import __version__
from fastrev.errors import DivergenceError, FastrevError
from fastrev.experiments._shared import page
from fastrev.experiments._shared.output import Kept, prepared
from fastrev.experiments._shared.settings import Settings, add_options, chosen


def main(experiments: Sequence[ModuleType], arguments: Sequence[str] | None = None) -> int:
    """Run the command line.  Returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments and arguments[0].endswith(".py"):
        try:
            experiments, arguments = [_own(Path(arguments[0]))], [Path(arguments[0]).stem, *arguments[1:]]
        except (FastrevError, FileNotFoundError) as error:
            print(f"fastrev: {error}", file=sys.stderr)
            return 2
    options = _parser(experiments).parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # whatever the folder is called
    try:
        chosen_ones = experiments if options.experiment is None else [options.experiment]
        needed = [module for each in chosen_ones for module in each.Settings.needs]
        with prepared(options.out, needed):
            finished = _run_all(experiments, options) if options.experiment is None else _run(options)
        if not finished:
            print("fastrev: interrupted; what was learned so far is saved", file=sys.stderr)
            return 130
    except DivergenceError as error:
        print(f"fastrev: {_diverged(error, options)}", file=sys.stderr)
        return 2
    except FastrevError as error:
        print(f"fastrev: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastrev: interrupted", file=sys.stderr)
        return 130
    except MemoryError as error:
        print(f"fastrev: not enough memory: {error or 'pass smaller numbers'}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor what is flushed at the end
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"fastrev: {reason(error)}", file=sys.stderr)  # of the file that standard output is
        return 2
    return 0


def name_of(experiment: ModuleType) -> str:
    """What it is called on the command line."""
    return experiment.__name__.rpartition(".")[2]


def purpose_of(experiment: ModuleType) -> str:
    """The first line of what it says of itself."""
    return _first_line(experiment.__doc__ or "")


def _own(path: Path) -> ModuleType:
    """The experiment that a file of the user's is."""
    name = f"fastrev_own.{path.stem}"  # so that it hides no module of its name
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    if missing := [each for each in ("Settings", "run", "draw") if not hasattr(module, each)]:
        raise fault("EXPERIMENT", "be a file that has Settings, run and draw", f"{str(path)!r} without {missing[0]}")
    return module


def _run(options: argparse.Namespace) -> bool:
    """Run one experiment and draw what it kept, from its file.  Returns False after Ctrl-C."""
    experiment, kept, finished = options.experiment, Kept(options.out, name_of(options.experiment)), False
    try:
        finished = experiment.run(chosen(options, experiment.Settings), kept)
    except KeyboardInterrupt:
        if not kept.arrays:
            raise
    try:
        figure = experiment.draw(kept.load())
    except (KeyError, IndexError):  # of a part that an interrupt left out
        if finished:
            raise
        print(f"{name_of(experiment)}.npz is in {options.out}; there is nothing to draw yet")
    else:
        kept.draw(figure)
    return finished


def _run_all(experiments: Sequence[ModuleType], options: argparse.Namespace) -> bool:
    """Run every one, and write a page of their pictures, of those that ended so far."""
    told = []
    for experiment in experiments:
        name = name_of(experiment)
        print(f"\n== {name}: {purpose_of(experiment)}", flush=True)
        own = argparse.Namespace(**{**vars(options), "experiment": experiment})
        if not experiment.Settings.takes_images:
            own.data = None
        with page.told(name, purpose_of(experiment)) as entry:
            finished = _run(own)
        told.append(entry)
        page.save(options.out, told)
        if not finished:
            return False
    print(f"\nindex.html, with all pictures, is in {options.out}")
    return True


def _parser(experiments: Sequence[ModuleType]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastrev", description="Exact meta-gradients through training: the experiments."
    )
    parser.add_argument("--version", action="version", version=f"fastrev {__version__}")
    commands = parser.add_subparsers(required=True, metavar="EXPERIMENT")
    for experiment in experiments:
        _command(commands, name_of(experiment), experiment.__doc__ or "", experiment.Settings, experiment)
    _command(commands, "all", "Run every experiment, and write a page of their pictures.", Settings, None)
    return parser


def _diverged(error: DivergenceError, options: argparse.Namespace) -> str:
    """What to do about a training that diverged, in terms of what was given on the command line."""
    when = f"Training diverged at step {error.step + 1}" if error.step >= 0 else "Every training diverged"
    settings = chosen(options, Settings if options.experiment is None else options.experiment.Settings)
    remedies = {"lr": "a lower learning rate", "l2": "a lower penalty", "scale": "a smaller scale"}
    there = [name for name in remedies if hasattr(settings, name)]
    suspects = [name for name in there if getattr(options, name) is not None] or there[:1]
    advice = [f"{remedies[name]}, --{name} below {getattr(settings, name):g}" for name in suspects]
    return f"{when}: its weights or gradients became too large. Pass {', or '.join(advice) or 'other data'}."


def _command(commands: Any, name: str, text: str, kind: type[Settings], experiment: ModuleType | None) -> None:
    purpose = _first_line(text)
    command = commands.add_parser(
        name, help=purpose[0].lower() + purpose[1:], description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.set_defaults(experiment=experiment)
    command.add_argument(
        "--out", type=Path, metavar="DIR", default=Path(f"fastrev-{name}"),
        help=f"folder for the results (default: fastrev-{name})",
    )  # fmt: skip
    add_options(command, kind)


def _first_line(text: str) -> str:
    return text.partition("\n")[0].rstrip(".")
