"""The command line of the experiments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from fastrev._engine.version import __version__
from fastrev.errors import DivergenceError, FastrevError
from fastrev.experiments._shared import page
from fastrev.experiments._shared.output import Kept, prepared
from fastrev.experiments._shared.settings import Settings, add_options, chosen


def main(experiments: Sequence[ModuleType], arguments: Sequence[str] | None = None) -> int:
    """Run the command line.  Returns the exit status."""
    options = _parser(experiments).parse_args(arguments)
    try:
        with prepared(options.out):
            finished = _run_all(experiments, options) if options.experiment is None else _run(options)
        if not finished:
            print("fastrev: interrupted; what was learned so far is saved", file=sys.stderr)
            return 130
    except DivergenceError:  # which tune raises if nothing that it begins with, nor lower rates, can be trained with
        print("fastrev: no training of the first meta-step ended. Pass a smaller --lr.", file=sys.stderr)
        return 2
    except FastrevError as error:
        print(f"fastrev: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastrev: interrupted", file=sys.stderr)
        return 130
    return 0


def name_of(experiment: ModuleType) -> str:
    """What it is called on the command line."""
    return experiment.__name__.rpartition(".")[2]


def purpose_of(experiment: ModuleType) -> str:
    """The first line of what it says of itself."""
    return (experiment.__doc__ or "").partition("\n")[0].rstrip(".")


def _run(options: argparse.Namespace) -> bool:
    """Run one experiment and draw what it kept.  Returns False after Ctrl-C."""
    experiment, kept = options.experiment, Kept(options.out, name_of(options.experiment))
    finished: bool = experiment.run(chosen(options, experiment.Settings), kept)
    kept.draw(experiment.draw(kept.arrays))
    return finished


def _run_all(experiments: Sequence[ModuleType], options: argparse.Namespace) -> bool:
    """Run every one, and write a page of their pictures, of those that ended so far."""
    told = []
    for experiment in experiments:
        name = name_of(experiment)
        print(f"\n== {name}: {purpose_of(experiment)}", flush=True)
        own = argparse.Namespace(**{**vars(options), "experiment": experiment})
        if "data" in vars(experiment.Settings)["__annotations__"]:
            own.data = None  # it takes data of another kind
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


def _command(commands: Any, name: str, text: str, kind: type[Settings], experiment: ModuleType | None) -> None:
    purpose = text.partition("\n")[0].rstrip(".")
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
