"""A second thread for the way back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastrev.kernels.handover import ABANDONED
from fastrev.kernels.structures import Int64s


@contextmanager
def beside(function: Callable[[], object], progress: Int64s) -> Iterator[Callable[[], None]]:
    """Run `function` on a thread of its own while the block runs; both hand over through `progress`, which starts at 0.

    The block calls what it is given when it has done its part, to wait for the thread and raise what it raised.  If it
    does not come to that, or the thread does not come to its end, the other side is told to give up.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)
            progress[ABANDONED] = True

    def finish() -> None:
        thread.join()
        if errors:
            raise errors[0]

    progress[:] = 0
    thread = threading.Thread(target=run, name="fastrev-pullback")
    thread.start()
    try:
        yield finish
    finally:
        progress[ABANDONED] |= thread.is_alive()
        thread.join()
