"""A word on stderr where somebody waits for the compiler: once a process, before and afterwards."""

from __future__ import annotations

import sys
import time

_waited = 0.0  # seconds
_begun = _ended = False


def begin(what: str) -> None:
    """Say that there is something to compile."""
    global _begun, _waited
    if not _begun:
        _begun, _waited = True, 0.0
        _say(f"compiling for {what} (some 10 to 20 s; fastrev.compile() does it beforehand) ...")


class waiting:  # noqa: N801  # named as contextlib's own, whose `contextmanager` takes 1.5 us more
    """Where the compiler may be waited for: the steps made in between are not its time."""

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *raised: object) -> None:
        global _waited
        _waited += time.monotonic() - self._since


def end() -> None:
    """Say how long it took, if `begin` said something."""
    global _ended
    if _begun and not _ended:
        _ended = True
        _say(f"compiled in {_waited:.1f} s")


def _say(text: str) -> None:
    try:
        if sys.stderr is not None:  # as in a program without a console
            print(f"fastrev: {text}", file=sys.stderr, flush=True)
    except (OSError, ValueError):  # closed: no reason to end a training
        pass
