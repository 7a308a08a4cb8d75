"""The files of tests/data/v1, by ``python -m tests.data.make``: what fastrev keeps, in the first format of each.

Later versions read them (tests/test_golden.py), so they are not made anew where something changes: a change that gives
other bytes needs a layout with another number, and files of its own beside these.  Their data are products and
remainders, without generators and mathematical libraries: each processor and each version of NumPy has the same.
"""

from __future__ import annotations

import math
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import fastrev
from fastrev._durable import run_files
from fastrev._files import files, shelf
from fastrev._tuning import checkpoints

FOLDER = Path(__file__).parent / "v1"
STEPS, EVERY = 40, 10
WORDS = 48  # of a file of stored information here; those of the library have a megabyte
TOKEN = bytes(range(16))
VERSION = "0.1.0"  # that wrote them
TUNING, RESULT, MODEL = "tuning.npz", "result.npz", "model.npz"


class Killed(BaseException):
    """As if by a signal that nobody can catch."""


def numbers(*shape: int) -> np.ndarray:
    """Between -0.5 and 0.5, evenly."""
    return (np.arange(1.0, math.prod(shape) + 1) * 0.6180339887498949 % 1.0 - 0.5).reshape(shape)


NET = fastrev.MLP((3, 4, 2))
SINGLE = fastrev.MLP((3, 4, 2), dtype=np.float32)
X, Y = numbers(12, 3), np.arange(12) % 2
ROWS = np.arange(STEPS * 4).reshape(STEPS, 4) * 7 % 12
LOSSES = [(X[i : i + 4], Y[i : i + 4]) for i in (0, 4, 8)]


class Spring:
    """An Objective of products and sums alone."""

    num_params = 20
    theta = {"scale": 1 + numbers(20), "shift": numbers(20)}

    def grad(self, w, t):
        return self.theta["scale"] * (w - self.theta["shift"] * (t % 3))

    def hvp(self, w, u, t):
        return self.theta["scale"] * u

    def cross(self, w, u, t):
        return {"scale": u * (w - self.theta["shift"] * (t % 3)), "shift": -(self.theta["scale"] * u) * (t % 3)}


def valid(w):
    return float(w[0]), np.linspace(0.0, 1.0, w.size)


def network(model: fastrev.MLP = NET, **changes: Any) -> Callable[..., fastrev.MetaGradient]:
    given = {"train": (X, Y), "valid": LOSSES[0], "batches": ROWS, "lr": 0.3, "decay": 0.9, "wrt": ("lr", "w0")}
    return lambda **kept: fastrev.meta_grad(model, 0.5 * numbers(NET.num_params), **(given | changes | kept))


def adam(**kept: Any) -> fastrev.MetaGradient:
    optimizer = fastrev.Adam(np.full((STEPS, 4), 0.01), weight_decay=0.1)
    return network(lr=None, decay=None, optimizer=optimizer, wrt=("lr", "beta1", "weight_decay"))(**kept)


def spring(**kept: Any) -> fastrev.MetaGradient:
    return fastrev.meta_grad(
        Spring(), numbers(20), valid=valid, lr=0.1, decay=0.75, steps=STEPS, wrt=("lr", "theta"), **kept
    )


class Run(NamedTuple):
    """A call that was killed at its so manieth writing: the fourth is the last on the way there."""

    call: Callable[..., fastrev.MetaGradient]
    writing: int
    with_files: bool = False

    def kept(self, path: Path) -> fastrev.MetaGradient:
        """Go on from the file, or begin it."""
        folder = {"buffer": path.with_suffix(".words")} if self.with_files else {}
        return self.call(checkpoint=path, every=EVERY, **folder)


RUNS = {
    "sgd-there": Run(network(), 2), "sgd-at-its-end": Run(network(), 4), "sgd-back": Run(network(), 6),
    "three-losses-back": Run(network(valid=LOSSES, wrt=("lr", "w0", "x")), 6), "adamw-there": Run(adam, 2),
    "adamw-back": Run(adam, 6), "float32-there": Run(network(SINGLE), 2), "float32-back": Run(network(SINGLE), 6),
    "objective-there": Run(spring, 2), "objective-back": Run(spring, 6),
    "buffer-there": Run(network(decay=0.1), 3, True), "buffer-back": Run(network(decay=0.1), 5, True),
}  # fmt: skip


def tune(**kept: Any) -> fastrev.TuneResult:
    """In coordinates without logarithms, of which processors have different bits."""
    return fastrev.tune(
        NET, 0.5 * numbers(NET.num_params), train=(X, Y), valid=LOSSES[0], batches=ROWS[:5], lr=numbers(5) / 10 + 0.2,
        decay=0.9, learn=("lr",), transforms={"lr": "linear"}, meta_steps=4, runs=1, progress=False, **kept,
    )  # fmt: skip


@contextmanager
def killed_at(owner: Any, writing: int) -> Iterator[None]:
    """Die once so many files are written by a module's `files`."""
    write, left = files.write, [writing]

    def fused(*arguments: Any) -> None:
        write(*arguments)
        left[0] -= 1
        if not left[0]:
            raise Killed

    with mock.patch.object(owner.files, "write", fused):
        try:
            yield
        except Killed:
            return
    raise AssertionError("it was not killed")


@contextmanager
def as_ever() -> Iterator[None]:
    """With the same bytes each time: of the version, the machine, what is drawn, and when it is written."""
    with (
        mock.patch.object(files, "__version__", VERSION),
        mock.patch.object(checkpoints, "__version__", VERSION),
        mock.patch.object(run_files, "here", return_value="any machine"),
        mock.patch.object(secrets, "token_bytes", lambda size: TOKEN[:size]),
        mock.patch.object(shelf, "WORDS", WORDS),
        mock.patch.object(checkpoints, "_REST", 0.0),
        fastrev.threads(per_run=1),
    ):
        yield


def make_run(name: str, folder: Path) -> None:
    """Write the file of a run, and a folder of its words beside it."""
    path = folder / f"{name}.npz"
    if RUNS[name].with_files:
        path.with_suffix(".words").mkdir()
    with killed_at(run_files, RUNS[name].writing):
        RUNS[name].kept(path)


def make(folder: Path) -> None:
    """Write them all."""
    for name in RUNS:
        make_run(name, folder)
    with killed_at(checkpoints, 2):
        tune(checkpoint=folder / TUNING)
    tune().save(folder / RESULT)
    NET.save(folder / MODEL, numbers(NET.num_params))


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    with as_ever():
        make(FOLDER)
