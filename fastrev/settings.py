"""What holds for the whole process."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType

from fastrev._engine import arguments
from fastrev._engine.settings import settings


class threads:  # noqa: N801  # used like a function, as numpy.errstate is
    """Set how many threads a run may use, and whether they are kept to cores of their own.

    Called as a function it holds from then on, for all threads of the process; as a context manager, until the block's
    end.  What is not passed is the default again.  No result depends on it: one thread and two give the same bits.

    Parameters
    ----------
    per_run : {1, 2}, optional
        Threads of a run.  With 2, they share large steps and the gradients of large validation sets, and on the way
        back one undoes steps while the other differentiates them.  With 1, the calling thread does all in turn: what
        to choose where many runs share the cores.  Its record of a step then holds the step's whole batch, not three
        blocks of 256 examples.  Default: 2, or 1 where there is one core only, where the way back is done before a
        second thread would be of help, and in every task of a pool (``workers=``).  What is passed holds there too, for
        the pools of this process.
    pin : bool
        Whether the two threads keep to different cores while they work, on Linux; the calling thread within compiled
        code only.  In a pool it is its own threads (``workers=2``) that do.  Pass False where something else places
        the threads.

    Examples
    --------
    >>> import fastrev
    >>> with fastrev.threads(per_run=1):
    ...     pass                                        # meta_grad, train, ...
    >>> _ = fastrev.threads(pin=False)                  # from now on
    >>> _ = fastrev.threads()                           # as at the start
    """

    def __init__(self, *, per_run: int | None = None, pin: bool = True) -> None:
        if per_run is not None and arguments.count("per_run", per_run) > 2:
            raise arguments.fault("per_run", "be 1, 2 or None", f"{per_run}", "A run has use for two threads.")
        pinned = arguments.flag("pin", pin)
        self._before = replace(settings)
        settings.per_run, settings.pin = per_run, pinned

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        settings.per_run, settings.pin = self._before.per_run, self._before.pin
