"""Progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol


class Tick(Protocol):
    """What moves a bar on: by the number of units just done, with a note beside it."""

    def __call__(self, done: int, note: str = "") -> object:
        """Move on."""


def progress_bar(shown: bool, total: int, what: str, unit: str = "step", done: int = 0) -> AbstractContextManager[Tick]:
    """A progress bar, of which some units were done before."""
    return _bar(total, what, unit, done) if shown else _NO_BAR


def _nothing(done: int, note: str = "") -> None:
    pass


_NO_BAR = nullcontext(_nothing)


@contextmanager
def _bar(total: int, what: str, unit: str, done: int) -> Iterator[Tick]:
    from tqdm import tqdm  # here, so that an import of fastrev stays light

    with tqdm(total=total, initial=done, desc=what, unit=unit) as bar:

        def tick(done: int, note: str = "") -> None:
            bar.set_postfix_str(note, refresh=False)
            bar.update(done)

        yield tick
