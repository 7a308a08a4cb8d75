"""Files of plain data and arrays, for whatever the library keeps on disk: no pickle, no half of a file, no wrong bit.

A file is an uncompressed ``.npz``: ``numpy.load(path)`` reads its arrays without fastrev.  One member, ``fastrev``, is
JSON text that says what the file is: the format, the library's version, the kind, the data, and the arrays' names, of
which members have such letters only as are safe in names of files.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastrev._engine.arguments import as_array, fault, reason
from fastrev._engine.types import AnyArray
from fastrev._engine.version import __version__
from fastrev._files import archive
from fastrev._files.replacing import StrPath, checked, replace
from fastrev._files.replacing import writable as writable
from fastrev.errors import ArgumentError

MODEL, RUN, TUNE_RESULT, TUNING_CHECKPOINT = "model", "run", "tune result", "tuning checkpoint"  # kinds of files
_READERS = {
    MODEL: "Call fastrev.MLP.load.",
    RUN: "Call fastrev.load(path, model, w0, ...) with the arguments of train, or pass it as checkpoint= to train.",
    TUNE_RESULT: "Call fastrev.load(path).",
    TUNING_CHECKPOINT: "Pass it as checkpoint=, to go on with the loop that wrote it.",
}
_FORMAT = 1
_HEAD = "fastrev"  # the member that says what the others are
_LONGEST = 60  # characters of a member's name: a file system takes 255 bytes


class Contents(NamedTuple):
    """What a file holds."""

    kind: str
    about: dict[str, Any]
    arrays: dict[str, AnyArray]


def write(
    path: StrPath, kind: str, about: Mapping[str, Any], arrays: Mapping[str, AnyArray], name: str = "path"
) -> None:
    """Write a file, on disk when this returns; until then, and after any fault, the old one is there.

    Parameters
    ----------
    path : str or path-like
        Where; taken as it is, no suffix is added.  The folder must be there.
    kind : str
        What it is a file of, for `read` to ask for.
    about : dict
        What JSON holds: dicts with keys that are str, lists, str, int, float (infinities and NaN too), bool and None.
    arrays : mapping of str to ndarray
        Of real or complex numbers or bool, of any shape, order and byte order; names may be any str.
    name : str
        What the caller calls the path, in messages.

    Raises
    ------
    ArgumentError
        If the file cannot be written, or what is to be in it is anything else.

    Examples
    --------
    >>> import os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "state")
    >>> write(path, "tune", {"nit": 3, "best": float("inf")}, {"theta['a/b']": np.arange(3.0)})
    >>> read(path, "tune")
    Contents(kind='tune', about={'nit': 3, 'best': inf}, arrays={"theta['a/b']": array([0., 1., 2.])})
    >>> sorted(np.load(path))                           # as anybody reads them
    ['fastrev', 'theta_a_b_+0']
    >>> folder.cleanup()
    """
    members = {each: _storable(real, arrays[real]) for each, real in _member_names(arrays).items()}
    head = {"format": _FORMAT, "library": __version__, "kind": kind, "arrays": dict(zip(members, arrays, strict=True))}
    text = np.frombuffer(json.dumps({**head, "about": dict(about)}, separators=(",", ":")).encode(), np.uint8)
    replace(path, partial(archive.write, members={_HEAD: text, **members}), name)


def read(path: StrPath, kind: str | None = None, name: str = "path") -> Contents:
    """Read a file of this kind, or of any, and hold every byte of it against its checksum.

    The arrays are of the caller alone, and can be written to.  They take the memory that the file takes on disk.

    Raises
    ------
    ArgumentError
        If there is no such file, it cannot be read, is damaged, of another kind or a newer version, or no such file.
    """
    text = checked(path, name)
    try:
        if not stat.S_ISREG(Path(text).stat().st_mode):  # before it is opened: a pipe would wait for its other end
            raise unfit(name, text, "it is a folder, or no regular file")
        with Path(text).open("rb") as file:
            members = archive.read(file)
    except OSError as error:
        raise unfit(name, text, reason(error)) from error
    except archive.ArchiveError as error:
        raise unfit(name, text, f"it {error}", "Pass another file, or make it again.") from error
    try:
        head = json.loads(members.pop(_HEAD).tobytes())
        version, library = int(head["format"]), str(head["library"])
        if version == _FORMAT:
            found, about, names = str(head["kind"]), dict(head["about"]), dict(head["arrays"])
            arrays = {str(real): members.pop(each) for each, real in names.items()}
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise unfit(name, text, "it is no file of fastrev's") from error
    if version != _FORMAT:
        why = f"it was written by fastrev {library}, in format {version}; this is {__version__}, of format {_FORMAT}"
        raise unfit(name, text, why, "Upgrade fastrev to read it.")
    if kind not in (None, found):
        remedy = _READERS.get(found, "Pass one of that kind.")
        raise unfit(name, text, f"it is a file of kind {found!r}, not {kind!r}", remedy)
    return Contents(found, about, arrays)


def _member_names(arrays: Mapping[str, AnyArray]) -> dict[str, str]:
    """Names for members, each with the array's own."""
    names: dict[str, str] = {}
    taken = {_HEAD}
    for i, real in enumerate(arrays):
        if not isinstance(real, str):
            raise fault("arrays", "have names that are str", repr(real))
        safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", real)[:_LONGEST]
        if safe != real or safe.lower() in taken:  # some file systems know no capitals
            safe = f"{safe}+{i}"  # of which no other has the number, and none without a number has the plus
        taken.add(safe.lower())
        names[safe] = real
    return names


def _storable(real: str, value: object) -> AnyArray:
    array = as_array(f"arrays[{real!r}]", value)
    if array.dtype.kind not in archive.KINDS:
        raise fault(f"arrays[{real!r}]", "be an array of numbers or bool", f"of dtype {array.dtype}")
    return array


class UnfitError(ArgumentError):
    """Of a file that is not what was asked for."""


def unfit(name: str, path: str, why: str, remedy: str = "Pass the path of a file that fastrev wrote.") -> UnfitError:
    """The error for a file, to be raised by the caller."""
    return UnfitError(str(fault(name, "be a file that fastrev wrote", f"{path!r}: {why}", remedy)))


@contextmanager
def as_written(path: StrPath, name: str = "path") -> Iterator[None]:
    """Refuse contents that no writer of this kind writes, at whatever they are the first to be unfit for."""
    try:
        yield
    except UnfitError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        why = "its checksum is right, but fastrev writes no such contents"
        raise unfit(name, os.fspath(path), why) from error
