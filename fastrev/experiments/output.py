"""The folder that an experiment leaves its results in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from fastrev._engine.arguments import fault, reason
from fastrev.errors import ArgumentError


def prepare(folder: Path) -> None:
    """Create the folder if need be and write to it, so that a fault is known before the work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix=".fastrev-") as file:
            file.write(b"\0")
    except OSError as error:
        raise _unwritable(folder, error, "Pass a folder of your own, which is created if need be.") from error


def save(folder: Path, name: str, arrays: Mapping[str, Any], draw: Callable[[], Any]) -> None:
    """Leave the arrays as ``.npz`` and the figure as ``.png`` in the folder, and print where they are."""
    table, picture = f"{name}.npz", f"{name}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)  # it may be gone since
        np.savez(folder / table, **arrays)
    except OSError as error:
        remedy = f"{table} and {picture} are not saved. Make room, or pass another folder, and run again."
        raise _unwritable(folder, error, remedy) from error
    try:
        draw().savefig(folder / picture, dpi=120)
    except OSError as error:
        raise _unwritable(folder, error, f"{table} is saved, {picture} is not.") from error
    print(f"{picture} and {table} are in {folder}")


def _unwritable(folder: Path, error: OSError, remedy: str) -> ArgumentError:
    return fault("--out", "be a folder that can be written to", f"{str(folder)!r}: {reason(error)}", remedy)
