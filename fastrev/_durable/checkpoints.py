"""The arguments `checkpoint` and `every`: a run that is written down on its way, and goes on from there."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastrev._durable import run_files
from fastrev._durable.contents import Standing
from fastrev._engine import arguments
from fastrev._engine.complaints import complain
from fastrev._engine.problem import Problem
from fastrev._engine.tail import Tail
from fastrev._engine.types import AnyArray, FloatArray
from fastrev._files import files, fingerprints
from fastrev._files.fingerprints import digest
from fastrev.errors import ArgumentError, StorageError
from fastrev.kernels.structures import State

_REST = 1.0  # seconds between two writings, where `every` does not say
_SHARE = 50  # times as long as it took is to pass before the next: 2 % of the whole, at most
_NAME = "checkpoint"


class Checkpoint:
    """A file for one run, and after how many steps it is written."""

    def __init__(self, path: Path, every: int | None, problem: Problem) -> None:
        self.path, self.every, self._problem = path, every, problem
        self._made_with = run_files.fingerprint(problem)

    def is_in_place_of(self, other: Path | None) -> bool:
        """Whether no other file stays beside this one."""
        return other is None or self.path.resolve() == other.resolve()

    def read(self) -> Standing | None:
        """Where the run stood, if the file is there."""
        if not self.path.exists():
            return None
        return run_files.read(self.path, self._problem, self._made_with, _NAME)

    def require_same(self, kept: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        """Refuse the file if it differs in these from what is asked for."""
        fingerprints.require_same(_NAME, self.path, kept, own)

    def made(self, standing: Standing) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """What is to be written of where it stands."""
        return run_files.made(self._problem, self._made_with, standing)


class Keeper:
    """Writes now and then where a run stands; `look` and the rest are as `lookers.Keeper` says."""

    def __init__(
        self, checkpoint: Checkpoint, standing: Callable[[], Standing], met: Standing | None, *, tail: Tail | None
    ) -> None:
        self._checkpoint, self._standing = checkpoint, standing
        self._tail = tail  # of which no other file of the run names words: None if one does
        self._written = -1 if met is None else int(met.state.cursor[0])
        self._at, self._rest = time.monotonic(), _REST
        self._warned = False
        if met is not None and tail is not None:
            tail.release(met.state)  # what was made after the file was written, or left after that
        self.due = sys.maxsize
        self.impatient = checkpoint.every is None

    def look(self, state: State) -> None:
        """Write, if it is time."""
        done, every = int(state.cursor[0]), self._checkpoint.every
        if every is None:
            due = time.monotonic() - self._at >= self._rest
        else:
            due, self.due = done % every == 0 and done > 0, (done // every + 1) * every
        if due and done != self._written:
            self._write(state)

    def floor(self, done: int) -> int:
        """The next number of steps on the way back after which it is time."""
        every = self._checkpoint.every
        return 0 if every is None else (done - 1) // every * every

    def end(self, state: State) -> None:
        """Write for the last time, if what there is now is not written."""
        if int(state.cursor[0]) != self._written:
            self._write(state)

    def _write(self, state: State) -> None:
        begun = time.monotonic()
        try:
            contents = self._checkpoint.made(self._standing())
            run_files.write(self._checkpoint.path, contents, _NAME)
            self._written = int(state.cursor[0])
            if self._tail is not None:
                self._tail.release(state)
        except (ArgumentError, StorageError) as error:  # what was computed is worth more than the file
            if not self._warned:
                self._warned = True
                complain(f"The checkpoint is not written, and the run goes on without: {error}", RuntimeWarning)
        self._at = time.monotonic()
        self._rest = max(_REST, _SHARE * (self._at - begun))


def checkpoint_of(path: Any, every: Any, problem: Problem) -> Checkpoint | None:
    """What the arguments ask for, if they are right; None for no checkpoint."""
    if path is None:
        if every is not None:
            remedy = "Pass checkpoint=PATH too: the file that is written."
            raise arguments.fault("every", "be left out where there is no checkpoint", repr(every), remedy)
        return None
    files.writable(path, _NAME)
    path = Path(path).absolute()  # wherever the process goes
    return Checkpoint(path, None if every is None else arguments.count("every", every), problem)


def what_is_asked(
    w_bar: FloatArray, m_bar: FloatArray, wrt: tuple[str, ...], last: int, steps: int, w: FloatArray
) -> dict[str, str]:
    """Of a way back, by the names of its arguments; with how the run ended."""
    given = {"w_bar or valid": w_bar, "v_bar": m_bar, "truncate": last, "the steps made": steps, "the final weights": w}
    return {"wrt": repr(sorted(wrt)), **{name: digest(value) for name, value in given.items()}}
