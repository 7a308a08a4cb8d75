"""Replacing a file as a whole: whatever happens, and whoever looks, there is the old one or the new one."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from fastrev._engine.arguments import fault, reason
from fastrev.errors import ArgumentError

StrPath = str | os.PathLike[str]


def replace(path: StrPath, fill: Callable[[BinaryIO], object], name: str = "path") -> None:
    """Write a file by `fill`, on disk before it takes the place of the old one.

    It is written beside the old one under a name of its own, so that writers at the same time do not meet: the last
    one's file stays.  A symbolic link is followed; permissions are those that ``open(path, "w")`` leaves.  After any
    exception the old file is whole, and no other is left.  A process that is killed may leave ``.fastrev-...`` there.

    Raises
    ------
    ArgumentError
        If it cannot be written; the argument is called `name`.
    """
    target, mode = _target(path, name)
    temporary = _beside(target)
    try:
        with temporary.open("xb") as file:
            fill(file)
            file.flush()
            if mode is not None:
                temporary.chmod(mode)
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException as error:
        _remove(temporary)
        if not isinstance(error, OSError):
            raise
        raise _unwritable(name, path, reason(error), "Make room, or pass another path: it is not saved.") from error
    finally:
        _remove(temporary)  # again: one of the two may be interrupted
    sync_folder(target.parent)


def writable(path: StrPath, name: str = "path") -> None:
    """Refuse a path that `replace` could not write to, before any work; leave nothing, and an old file as it is.

    Raises
    ------
    ArgumentError
        If the folder is missing or cannot be written to, or the path is that of a folder, of a file that is read-only,
        or of what is no file; the argument is called `name`.
    """
    target, _ = _target(path, name)
    temporary = _beside(target)
    try:
        temporary.open("xb").close()
        temporary.unlink()
    except OSError as error:
        remedy = "Pass a path in a folder that can be written to."
        raise _unwritable(name, path, f"in its folder, {reason(error)}", remedy) from error
    finally:
        _remove(temporary)


def checked(path: StrPath, name: str, what: str = "file") -> str:
    """The path of a file, or of something else, as text, taken as it is."""
    try:
        text = os.fspath(path)
        if isinstance(text, str) and text and b"\0" not in os.fsencode(text):
            return text
    except (TypeError, UnicodeEncodeError):
        pass
    raise fault(name, f"be the path of a {what}", repr(path), "Pass a str or a pathlib.Path.")


def _target(path: StrPath, name: str) -> tuple[Path, int | None]:
    """Where the file is or will be, behind symbolic links, and the permissions of the one that is there."""
    text = checked(path, name)
    mode = None
    try:
        with suppress(FileNotFoundError):
            mode = Path(text).stat().st_mode
        target = Path(text).resolve()
        there = target.parent.is_dir()
    except OSError as error:
        raise _unwritable(name, path, reason(error), "Pass a path of a file.") from error
    if not there:
        remedy = "Create it first, or pass a path in another."
        raise _unwritable(name, path, f"there is no folder {str(target.parent)!r}", remedy)
    if text.endswith(("/", os.sep)) or (mode is not None and stat.S_ISDIR(mode)):
        raise _unwritable(name, path, "it is a folder", "Pass a path of a file in it.")
    if mode is not None and not stat.S_ISREG(mode):
        raise _unwritable(name, path, "it is there, and no regular file", "Pass a path of a file.")
    if mode is not None and not os.access(target, os.W_OK):
        raise _unwritable(name, path, "it is read-only", "Change its permissions, or pass another path.")
    return target, None if mode is None else stat.S_IMODE(mode)


def _beside(target: Path) -> Path:
    return target.with_name(f".fastrev-{secrets.token_hex(16)}")


def _remove(temporary: Path) -> None:
    with suppress(OSError):  # it is gone, or has become the target
        temporary.unlink()


def sync_folder(folder: Path) -> None:
    """Have the names of the files in it on disk as well."""
    with suppress(OSError):  # not every system opens folders; the file itself is whole and in its place
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unwritable(name: str, path: StrPath, why: str, remedy: str) -> ArgumentError:
    return fault(name, "be a file that can be written", f"{os.fspath(path)!r}: {why}", remedy)
