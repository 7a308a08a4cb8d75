"""The folder that an experiment leaves its results in."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

import fastrev
from fastrev._engine.arguments import fault, reason
from fastrev._engine.extras import require
from fastrev._files.replacing import replace
from fastrev.errors import ArgumentError


@contextmanager
def prepared(folder: Path) -> Iterator[None]:
    """Create the folder if need be, write to it and find matplotlib: a fault is known before the work, not after it.

    If nothing comes into it, what was created goes again.
    """
    for module in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        require(module, "plot", "The picture")
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

    def __call__(self, **arrays: Any) -> None:
        """Leave the arrays, with all that were kept before, as ``.npz`` in the folder."""
        self.arrays |= {name: np.asarray(value) for name, value in arrays.items()}
        packed = io.BytesIO()
        np.savez(packed, **self.arrays)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)  # it may be gone since
            replace(self._folder / f"{self._name}.npz", lambda file: file.write(packed.getvalue()), "--out")
        except (OSError, ArgumentError) as error:  # the old one stays
            lost = f"{self._name}.npz and {self._name}.png are not saved."
            remedy = f"{lost} Make room, or pass another folder, and run again."
            raise unwritable(self._folder, error, remedy) from error

    def result(self, kind: str, result: fastrev.TuneResult) -> None:
        """Keep what was learned as ``<kind>_lr`` and so on, and the losses of the meta-steps as ``<kind>_losses``."""
        self(**{f"{kind}_{name}": value for name, value in result.learned.items()})
        self(**{f"{kind}_losses": result.history.loss})

    def draw(self, figure: Any) -> None:
        """Leave the figure as ``.png`` beside them, and print where both are."""
        try:
            figure.savefig(self._folder / f"{self._name}.png", dpi=120)
        except OSError as error:
            raise unwritable(self._folder, error, f"{self._name}.npz is saved, {self._name}.png is not.") from error
        print(f"{self._name}.png and {self._name}.npz are in {self._folder}")


def unwritable(folder: Path, error: Exception, remedy: str) -> ArgumentError:
    """The error of a folder that something could not be written to."""
    error = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return fault("--out", "be a folder that can be written to", f"{str(folder)!r}: {reason(error)}", remedy)
