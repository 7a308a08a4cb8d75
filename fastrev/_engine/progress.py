"""Progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Tick(Protocol):
    """What moves a bar on: by the number of units just done, with a note beside it."""

    def __call__(self, done: int, note: str = "") -> object:
        """Move on."""


@contextmanager
def progress_bar(shown: bool, total: int, what: str, unit: str = "step", done: int = 0) -> Iterator[Tick]:
    """A progress bar, of which some units were done before."""
    if not shown:
        yield lambda done, note="": None
        return
    from tqdm import tqdm  # here, so that an import of fastrev stays light

    with tqdm(total=total, initial=done, desc=what, unit=unit) as bar:

        def tick(done: int, note: str = "") -> None:
            bar.set_postfix_str(note, refresh=False)
            bar.update(done)

        yield tick
