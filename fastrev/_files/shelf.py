"""The lowest words of a run's tail in files, so that memory does not grow with the number of steps.

All files of a shelf are of `WORDS` words.  How many count is said by the state alone (`State.cursor`), so that an
interrupt finds it whole at every moment: a file that it does not name is none, and is written over.
"""

from __future__ import annotations

import os
import re
import secrets
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np

from fastrev._engine import interruptible
from fastrev._engine import state as states
from fastrev._engine.arguments import fault, reason
from fastrev._files import segments
from fastrev._files.replacing import StrPath, checked, sync_folder
from fastrev.errors import StorageError
from fastrev.kernels import shelving
from fastrev.kernels.structures import State

# Of a file: 1 MB, which takes 0.9 ms to write and 0.5 to read (`python -m bench.choices file`).  At decay 0.9 that
# is a thousandth of W1's steps; with one bit a parameter a step a run takes up to 1.02 times as long as in memory
# (`python -m bench.choices files`)
WORDS = 2**19

_OF_A_RUN = "The way back needs it. Nothing has changed: once it is there again, error.run.rewind() goes on."
_OF_A_CHECKPOINT = "The checkpoint needs it. Pass buffer= as when it was written, or another checkpoint= to begin anew."


class Shelf:
    """Words of one run, put away when its tail in memory is full, and brought back when it is low.

    Its files, all in one folder, are gone when it is, or when the process ends in order: not by SIGKILL.  From the
    first `sync` on they stay for other processes, also when their words have been brought back, until `release`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._token, self._owner = folder, secrets.token_bytes(16), os.getpid()
        self._checksums: list[int] = []
        self._durable, self._synced = False, 0  # files
        self._last = weakref.finalize(self, _remove_all, folder, self._token, self._owner)

    def __deepcopy__(self, memo: object) -> Self:
        """Another with files of its own, of the same words."""
        other = type(self)(self._folder)
        for index, checksum in enumerate(self._checksums):
            try:
                words = segments.read(self._path(index), self._token, index, WORDS, checksum)
                other._checksums.append(segments.write(other._path(index), other._token, index, words))
            except OSError as error:
                raise StorageError(f"{_of(self._path(index))} could not be copied: {reason(error)}.") from error
            except segments.SegmentError as error:
                raise StorageError(f"{_of(self._path(index))} {error}.") from error
        return other

    def __reduce__(self) -> Any:
        raise TypeError(
            "A run with buffer= cannot be pickled: its files are removed with it. copy.deepcopy makes another with "
            "files of its own, in this process."
        )

    # ---- what a run asks -------------------------------------------------------------------------------------

    def compile(self) -> None:
        """Have the moves within the tail compiled."""
        compile_moves()

    def make_room(self, state: State) -> None:
        """Let the tail take one more step's words."""
        tail, cursor, needed = state.tail, state.cursor, self._take_place(state)
        while tail.size - cursor[1] < needed:
            index = self._files_of(state)
            checksum = self._write(index, tail[:WORDS])
            self._synced = min(self._synced, index)
            self._checksums[index:] = [checksum]
            shelving.put_away(tail, cursor, WORDS)

    def bring_back(self, state: State) -> bool:
        """Bring words back, so that the undo of a step finds its own.  Returns whether there were any."""
        needed, found = self._take_place(state), False
        while state.cursor[3] > 0 and state.cursor[1] < needed:
            index = self._files_of(state) - 1
            if not 0 <= index < len(self._checksums) or state.cursor[3] % WORDS:
                return False  # the cursor is damaged
            shelving.bring_back(state.tail, state.cursor, self._read(index, _OF_A_RUN))
            found = True
            if not self._durable and os.getpid() == self._owner:
                del self._checksums[index:]
                with suppress(OSError):
                    self._path(index).unlink()
        return found

    def bytes_elsewhere(self, state: State) -> int:
        """Size of the files that count."""
        return self._files_of(state) * segments.size_of(WORDS)

    def bytes_of(self, words: int, a_step: int) -> tuple[int, int]:
        """What so many words will take in memory, and on disk."""
        return 2 * (a_step + 2 * WORDS), max(-(-words // WORDS) - 2, 0) * segments.size_of(WORDS)

    def whole(self, state: State) -> State:
        """The same state with all of its words in memory."""
        words = [self._read(index, _OF_A_RUN) for index in range(self._count(state))]
        tail, cursor = np.concatenate([*words, state.tail[: state.cursor[1]]]), state.cursor.copy()
        cursor[1], cursor[3] = tail.size, 0
        return state._replace(tail=tail, cursor=cursor)

    def sync(self, state: State) -> dict[str, Any]:
        """Have all words that are in files on disk, whatever happens to the machine, and stay there.

        Returns
        -------
        dict
            What `restore` takes, of str, int and list: for whatever saves the state itself.
        """
        count = self._count(state)
        if count and not self._durable:
            self._require_owner(self._path(0))
        for index in range(self._synced, count):
            path = self._path(index)
            try:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            except OSError as error:
                raise StorageError(f"{_of(path)} could not be written: {reason(error)}.") from error
        sync_folder(self._folder)
        self._keep(count)
        return {"token": self._token.hex(), "words": WORDS, "checksums": self._checksums[:count]}

    def restore(self, files: Mapping[str, Any] | None, state: State) -> None:
        """Take the files over that `sync` described, if they are all there, bit for bit; later ones stay.

        Raises
        ------
        StorageError
            If one is missing or damaged, or the description is none, or not of this state.  Nothing has changed.
        """
        if files is None:
            return
        token, words, checksums = (files.get(name) for name in ("token", "words", "checksums"))
        if not (
            isinstance(token, str)
            and re.fullmatch("[0-9a-f]{32}", token)
            and isinstance(checksums, list)
            and all(map(_is_checksum, checksums))
        ):
            raise StorageError("The description of the files of words is none that fastrev made.")
        if words != WORDS:
            raise StorageError(f"The files of words have {words} each: this version reads those of {WORDS}.")
        if state.cursor[3] != WORDS * len(checksums):
            raise StorageError(f"The state has {state.cursor[3]} words in files, which are {len(checksums)}.")
        before = self._token, self._checksums
        self._token, self._checksums = bytes.fromhex(token), list(checksums)
        try:
            for index in range(len(checksums)):
                self._read(index, _OF_A_CHECKPOINT)
        except BaseException:
            self._token, self._checksums = before
            raise
        if self._token != before[0]:
            self._last()  # its own, unless they are to stay
        self._keep(len(checksums))

    def release(self, state: State) -> None:
        """Remove the files that the state does not name; to be called when what names more of them is no more."""
        count = self._files_of(state)
        del self._checksums[count:]
        _remove_all(self._folder, self._token, self._owner, count)

    def _keep(self, synced: int) -> None:
        self._durable, self._synced = True, synced
        self._last.detach()

    # ---- files -----------------------------------------------------------------------------------------------

    def _take_place(self, state: State) -> int:
        """See to the tail's array, for two files and a step.  Returns the words of a step."""
        needed = states.words_of_a_step(state)
        if state.tail.size < needed + 2 * WORDS:
            state.tail.resize(needed + 2 * WORDS, refcheck=False)
        return needed

    def _files_of(self, state: State) -> int:
        return int(state.cursor[3]) // WORDS

    def _count(self, state: State) -> int:
        """The same, if they are there for all that the file system knows."""
        count = self._files_of(state)
        if not 0 <= count <= len(self._checksums):
            raise StorageError(
                f"The run names {count} files of words, and has made {len(self._checksums)}: memory failed."
            )
        return count

    def _require_owner(self, path: Path) -> None:
        if os.getpid() != self._owner:
            raise StorageError(f"{_of(path)} belongs to the process that this one was forked from. Train anew in it.")

    def _path(self, index: int) -> Path:
        return self._folder / f"{_stem(self._token)}{index:08d}"

    def _write(self, index: int, words: segments.Words) -> int:
        path = self._path(index)
        self._require_owner(path)
        try:
            path.unlink(missing_ok=True)
            return segments.write(path, self._token, index, words)
        except OSError as error:
            with suppress(OSError):
                path.unlink()
            raise StorageError(
                f"{_of(path)} could not be written: {reason(error)}. The run up to the last step is whole: "
                "error.run.rewind() takes it back, error.run.pullback(...) differentiates the steps that were made. "
                "Make room, or pass another folder."
            ) from error

    def _read(self, index: int, remedy: str) -> segments.Words:
        path = self._path(index)
        try:
            return segments.read(path, self._token, index, WORDS, self._checksums[index])
        except OSError as error:
            what = f"could not be read: {reason(error)}"
        except segments.SegmentError as error:
            what = str(error)
        raise StorageError(f"{_of(path)} {what}. {remedy}")


def shelf_in(folder: StrPath, name: str = "buffer") -> Shelf:
    """A shelf whose files go to a folder that is there and can be written to; the argument is called `name`."""
    path = Path(checked(folder, name, "folder"))
    try:
        path = path.absolute()  # wherever the process goes
        probe = path / f"{_stem(secrets.token_bytes(16))}probe"
        if not path.is_dir():
            raise fault(name, "be a folder", f"{str(path)!r}", "Create it first, or pass another.")
        probe.open("xb").close()
        probe.unlink()
    except OSError as error:
        remedy = "Pass one that can be written to."
        raise fault(name, "be a folder for files", f"{str(path)!r}: {reason(error)}", remedy) from error
    return Shelf(path)


def compile_moves() -> None:
    """Have the moves of words within a tail compiled, by calls for none."""

    def call() -> None:
        words, cursor = np.empty(0, np.uint16), np.zeros(4, np.int64)
        shelving.put_away(words, cursor, 0)
        shelving.bring_back(words, cursor, words)

    interruptible.compile_here("shelve", None, np.dtype(np.float64), call)


def _is_checksum(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 2**32


def _stem(token: bytes) -> str:
    """What the names of all files of a shelf begin with."""
    return f"fastrev-{token.hex()}-"


def _of(path: Path) -> str:
    return f"The file of stored information {str(path)!r}"


def _remove_all(folder: Path, token: bytes, owner: int, first: int = 0) -> None:
    """Remove the files from the first on, unless they are another process's."""
    stem = _stem(token)
    with suppress(OSError):  # there is no such folder any more
        for path in list(folder.glob(f"{stem}*")) if os.getpid() == owner else []:
            with suppress(OSError, ValueError):
                if int(path.name.removeprefix(stem)) >= first:
                    path.unlink()
