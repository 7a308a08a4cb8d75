"""Progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(shown: bool, total: int, what: str, unit: str = "step") -> Iterator[Callable[[int], object]]:
    """A progress bar, as a function to call with the number of units just done."""
    if shown:
        from tqdm import tqdm  # here, so that an import of fastrev stays light

        with tqdm(total=total, desc=what, unit=unit) as bar:
            yield bar.update
    else:
        yield lambda done: None
