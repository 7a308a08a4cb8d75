"""What the command line sets of an experiment: the fields of a dataclass, each with its default and its help."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from fastrev._engine.hyperparameters import LARGEST_DECAY, SMALLEST_DECAY
from fastrev.errors import ArgumentError

LARGEST_SCALE = 200.0  # of initial weights: none in a billion billion is ten times as large
_MOST = 10**9  # of what is counted
_BETWEEN = f"a number above {SMALLEST_DECAY:.9g} and below {LARGEST_DECAY:.9g}"


def _whole(minimum: int, maximum: float) -> Callable[[str], int]:
    def read(text: str) -> int:
        digits = text.strip()
        if not digits.isdecimal() or len(digits) > 100 or int(digits) < minimum:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {minimum}, not {text[:100]!r}")
        if int(digits) > maximum:
            raise argparse.ArgumentTypeError(f"must be at most {maximum:,}, not {text!r}")
        return int(digits)

    return read


def _number(requirement: str, holds: Callable[[float], bool]) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not holds(number):
            raise argparse.ArgumentTypeError(f"must be {requirement}, not {text!r}")
        return number

    return read


def _workers(text: str) -> int:
    if text.strip() == "-1":
        return -1
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, or -1, not {text!r}")
    return int(text)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(_whole(1, 10**6), text.split(",")))


Count = Annotated[int, _whole(1, _MOST)]
Seed = Annotated[int, _whole(0, float("inf"))]
Workers = Annotated[int, _workers]
Positive = Annotated[float, _number("a number above 0", lambda x: 0 < x < float("inf"))]
Share = Annotated[float, _number(_BETWEEN, lambda x: SMALLEST_DECAY < x < LARGEST_DECAY)]
Sizes = Annotated[tuple[int, ...], _sizes]
Folder = Annotated[Path | None, Path]


def setting(default: Any, help: str, *, with_data: Any = None) -> Any:
    """A field of an experiment's settings.

    Parameters
    ----------
    default
        With scikit-learn's digits.
    help : str
        A line for ``--help``.
    with_data
        The default with ``--data``, where it is another one.
    """
    return dataclasses.field(
        default=default, metadata={"help": help, "with_data": default if with_data is None else with_data}
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all experiments have."""

    takes_images: ClassVar[bool] = True  # as `--data`; otherwise it is of another kind
    needs: ClassVar[tuple[str, ...]] = ()  # modules of the extra `demo`, whatever the data

    data: Folder = setting(None, "MNIST's files in place of scikit-learn's digits: a folder of IDX files, or an .npz")
    seed: Seed = setting(0, "of the split, the initial weights and the batches")
    workers: Workers = setting(-1, "threads that share trainings, -1 for all cores")


def add_options(parser: argparse.ArgumentParser, kind: type[Settings]) -> None:
    """An option for each field."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        with_data, text = field.metadata["with_data"], field.metadata["help"]
        if field.default is not None:
            text += f" (default: {_plain(field.default)}" + (
                f", {_plain(with_data)} with --data)" if with_data != field.default else ")"
            )
        (read,) = hints[field.name].__metadata__
        metavar = {_sizes: "N,...", Path: "PATH"}.get(read)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=read, metavar=metavar, help=text)


def chosen(options: argparse.Namespace, kind: type[Settings]) -> Settings:
    """The settings of these options; where one is not given, the default for the data."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        given = getattr(options, field.name, None)
        default = field.default if options.data is None else field.metadata["with_data"]
        values[field.name] = default if given is None else given
    return kind(**values)


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def at_most(name: str, value: float, most: float, what: str) -> None:
    """Refuse a value of a setting that is too large for what `most` is."""
    if value > most:
        raise ArgumentError(f"Argument '--{name}' must be at most {most:g}, {what}, not {value:g}.")
