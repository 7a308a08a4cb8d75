"""The folder that an experiment leaves its results in."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

import fastrev
from fastrev._engine.arguments import fault, reason
from fastrev._engine.extras import require
from fastrev._files.replacing import replace, writable
from fastrev.errors import ArgumentError


@contextmanager
def prepared(folder: Path, needed: Sequence[str] = ()) -> Iterator[None]:
    """Find matplotlib and other modules that are `needed`, create the folder if need be, and write to it.

    So a fault is known before the work, not after it.

    If nothing comes into it, what was created goes again.
    """
    for module in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        require(module, "plot", "The picture")
    for module in needed:
        require(module, "demo", "The experiment")
    try:
        created = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix=".fastrev-") as file:
            file.write(b"\0")
    except OSError as error:
        raise unwritable(folder, error, "Pass a folder of your own, which is created if need be.") from error
    try:
        yield
    finally:
        with suppress(OSError):  # until one is not empty
            for each in created:
                each.rmdir()


class Kept:
    """What an experiment keeps: call it with arrays by name, and they are in ``<name>.npz`` from then on.

    Attributes
    ----------
    arrays : dict of str to ndarray
        All that was kept so far.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.arrays: dict[str, Any] = {}
        self._folder, self._name = folder, name
        for kind in ("npz", "png"):  # a fault is known before the work
            writable(folder / f"{name}.{kind}", "--out")

    def __call__(self, **arrays: Any) -> None:
        """Leave the arrays, with all that were kept before, as ``.npz`` in the folder; whole, or the old one."""
        self.arrays |= {name: np.asarray(value) for name, value in arrays.items()}
        packed = io.BytesIO()
        np.savez(packed, **self.arrays)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)  # it may be gone since
            replace(self._folder / f"{self._name}.npz", lambda file: file.write(packed.getvalue()), "--out")
        except (OSError, ArgumentError) as error:
            lost = f"{self._name}.npz and {self._name}.png are not saved."
            remedy = f"{lost} Make room, or pass another folder, and run again."
            raise unwritable(self._folder, error, remedy) from error

    def result(self, row: str, result: fastrev.TuneResult) -> None:
        """Keep what was learned as ``<row>_lr`` and so on, ``<row>_losses`` of the meta-steps, and both ends."""
        found = {name: value for name, value in result.learned.items() if not name.startswith("theta")} | result.theta
        found |= {"losses": result.history.loss, "start_loss": result.start_loss, "loss": result.loss}
        named = {key_of(row, name): value for name, value in found.items()}
        if taken := named.keys() & self.arrays.keys():
            raise ValueError(f"{', '.join(sorted(taken))} is kept already: give each row a name of its own")
        self(**named)

    def load(self) -> dict[str, Any]:
        """The arrays, from the file."""
        with np.load(self._folder / f"{self._name}.npz") as saved:
            return dict(saved)

    def draw(self, figure: Any) -> None:
        """Leave the figure as ``.png`` beside them, and print where both are."""
        picture = io.BytesIO()
        figure.savefig(picture, dpi=120)
        try:
            replace(self._folder / f"{self._name}.png", lambda file: file.write(picture.getvalue()), "--out")
        except (OSError, ArgumentError) as error:
            raise unwritable(self._folder, error, f"{self._name}.npz is saved, {self._name}.png is not.") from error
        print(f"{self._name}.png and {self._name}.npz are in {self._folder}")


def key_of(row: str, name: str) -> str:
    """What an array of a row is kept as: of "learned schedule", ``learned_schedule_lr``."""
    return f"{row}_{name}".replace(" ", "_")


def unwritable(folder: Path, error: Exception, remedy: str) -> ArgumentError:
    """The error of a folder that something could not be written to."""
    error = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return fault("--out", "be a folder that can be written to", f"{str(folder)!r}: {reason(error)}", remedy)
