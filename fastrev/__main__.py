"""``python -m fastrev``: the paper's experiments on real data."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastrev import DivergenceError, FastrevError, __version__
from fastrev._engine.arguments import fault
from fastrev.experiments import distill, output, schedule
from fastrev.experiments.datasets import Dataset, load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.  Returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if not options.run(options):
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastrev", description="Exact meta-gradients through training, on real data."
    )
    parser.add_argument("--version", action="version", version=f"fastrev {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add = _command(commands, "schedule", _schedule, "learn a schedule of learning rates and momentum decays")
    add("--steps", type=_count, default=100, help="training steps, T")
    add("--meta-steps", type=_count, default=100, help="updates of the schedule, and of the best constant")
    add(
        "--sizes", type=_sizes, metavar="D,...,K",
        help="layer sizes from inputs to classes (default: 64,32,10 for digits, 784,50,50,50,10 for MNIST)",
    )  # fmt: skip
    add("--batch-size", type=_count, default=50, help="examples in a training step")
    add("--lr", type=_positive, default=0.1, help="learning rate of every step and group to begin with")
    add("--decay", type=_share, default=0.9, help="momentum decay of every step and group to begin with")
    add("--meta-lr", type=_positive, default=0.05, help="Adam's rate on log lr and logit decay")
    add("--runs", type=_count, default=8, help="trainings a meta-step, whose gradients are averaged")

    add = _command(commands, "distill", _distill, "learn a training set of one image a class, and its learning rate")
    add("--steps", type=_count, default=40, help="training steps, T")
    add("--meta-steps", type=_count, default=300, help="updates of the images")
    add("--lr", type=_positive, default=1.0, help="learning rate to begin with, learned too")
    add("--decay", type=_share, default=0.9, help="momentum decay to begin with, learned too")
    add("--meta-lr", type=_positive, default=0.05, help="Adam's rate on the pixels, log lr and logit decay")
    add("--runs", type=_count, default=4, help="trainings a meta-step, whose gradients are averaged")
    return parser


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Ends every explanation with the default, where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def _command(commands: Any, name: str, run: Callable[[Any], bool], purpose: str) -> Callable[..., Any]:
    """Add a command with the options that all have.  Returns its `add_argument`."""
    command = commands.add_parser(
        name,
        help=purpose,
        description=purpose.capitalize() + ".",
        formatter_class=_Defaults,
    )
    command.set_defaults(run=run)
    command.add_argument(
        "--data", type=Path, metavar="DIR",
        help="folder of MNIST-style IDX files, gzipped or not, in place of scikit-learn's digits",
    )  # fmt: skip
    command.add_argument(
        "--out", type=Path, metavar="DIR", default=Path(f"fastrev-{name}"), help="folder for the results"
    )
    command.add_argument("--seed", type=_seed, default=0, help="of the split, the initial weights and the batches")
    command.add_argument(
        "--workers", type=_workers, default=-1, help="threads that share the trainings of a meta-step, -1 for all cores"
    )
    return command.add_argument  # type: ignore[no-any-return]


def _schedule(options: Any) -> bool:
    data = load(options.data, options.seed)
    hidden = (32,) if data.inputs <= 64 else (50, 50, 50)  # the paper's network for MNIST
    sizes = options.sizes or (data.inputs, *hidden, data.classes)
    _check_sizes(sizes, data)
    settings = schedule.Settings(
        sizes, options.steps, options.meta_steps, options.batch_size, options.lr, options.decay, options.meta_lr,
        options.runs, options.workers, options.seed,
    )  # fmt: skip
    output.prepare(options.out)  # last, so that no other fault leaves an empty folder
    return schedule.run(settings, data, options.out)


def _distill(options: Any) -> bool:
    settings = distill.Settings(
        options.steps, options.meta_steps, options.lr, options.decay, options.meta_lr, options.runs, options.workers,
        options.seed,
    )  # fmt: skip
    data = load(options.data, options.seed)
    output.prepare(options.out)
    return distill.run(settings, data, options.out)


def _check_sizes(sizes: tuple[int, ...], data: Dataset) -> None:
    if sizes[0] != data.inputs or sizes[-1] < data.classes:
        raise fault(
            "--sizes", f"begin with the data's {data.inputs} inputs and end with its {data.classes} classes",
            ",".join(map(str, sizes)), f"Pass {data.inputs},...,{data.classes}.",
        )  # fmt: skip


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(map(_count, text.split(",")))
    if len(sizes) < 2:
        raise argparse.ArgumentTypeError(f"must hold at least two layer sizes, such as 64,32,10, not {text!r}")
    return sizes


def _count(text: str) -> int:
    return _whole(text, 1)


def _seed(text: str) -> int:
    return _whole(text, 0)


def _workers(text: str) -> int:
    if text.strip() == "-1":
        return -1
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, or -1, not {text!r}")
    return int(text)


def _whole(text: str, minimum: int) -> int:
    if not text.strip().isdecimal() or int(text) < minimum:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {minimum}, not {text!r}")
    return int(text)


def _positive(text: str) -> float:
    return _number(text, "a number above 0", lambda x: 0 < x < float("inf"))


def _share(text: str) -> float:
    return _number(text, "a number between 0 and 1, both excluded", lambda x: 0 < x < 1)


def _number(text: str, requirement: str, holds: Callable[[float], bool]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not holds(number):
        raise argparse.ArgumentTypeError(f"must be {requirement}, not {text!r}")
    return number


if __name__ == "__main__":
    sys.exit(main())
