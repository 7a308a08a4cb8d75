"""The folder that an experiment leaves its results in."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from fastrev._engine.arguments import fault, reason
from fastrev._engine.extras import require
from fastrev._files.replacing import replace
from fastrev.errors import ArgumentError


def prepare(folder: Path) -> None:
    """Create the folder if need be, write to it and find matplotlib: a fault is known before the work, not after it."""
    for module in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        require(module, "plot", "The picture")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix=".fastrev-") as file:
            file.write(b"\0")
    except OSError as error:
        raise _unwritable(folder, error, "Pass a folder of your own, which is created if need be.") from error


def save_arrays(folder: Path, name: str, arrays: Mapping[str, Any]) -> None:
    """Leave the arrays as ``.npz`` in the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)  # it may be gone since
        packed = io.BytesIO()
        np.savez(packed, **arrays)
        replace(folder / f"{name}.npz", lambda file: file.write(packed.getvalue()), "--out")  # or the old one stays
    except (OSError, ArgumentError) as error:
        remedy = f"{name}.npz and {name}.png are not saved. Make room, or pass another folder, and run again."
        raise _unwritable(folder, error, remedy) from error


def save(folder: Path, name: str, arrays: Mapping[str, Any], draw: Callable[[], Any]) -> None:
    """Leave the arrays as ``.npz`` and the figure as ``.png`` in the folder, and print where they are."""
    save_arrays(folder, name, arrays)
    try:
        draw().savefig(folder / f"{name}.png", dpi=120)
    except OSError as error:
        raise _unwritable(folder, error, f"{name}.npz is saved, {name}.png is not.") from error
    print(f"{name}.png and {name}.npz are in {folder}")


def _unwritable(folder: Path, error: Exception, remedy: str) -> ArgumentError:
    error = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return fault("--out", "be a folder that can be written to", f"{str(folder)!r}: {reason(error)}", remedy)
