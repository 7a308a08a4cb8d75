"""Many runs on threads, processes or a cluster: a function of each item, in order, whatever maps it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np

from fastrev._engine.arguments import fault, takes
from fastrev._engine.pooled import in_a_pool
from fastrev._engine.settings import cores
from fastrev._pool.own_threads import Map, own_threads
from fastrev._pool.shipping import Done, Lender, Missing, Parcel, do

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")


def fan_out(
    function: Callable[[Shared, Item], Result], shared: Shared, workers: Any
) -> AbstractContextManager[Callable[[Sequence[Item]], list[Result]]]:
    """A function that gives ``function(shared, item)`` of each item, in order, as often as it is called.

    Parameters
    ----------
    function : callable
        Of the top level of a module.
    shared : object
        What all calls share.  Threads are given it as it is, a process a copy, once as long as it lives.
    workers : int, callable or object with a method map
        Threads, -1 for as many as there are cores; or what is called as ``map(function, iterable)``.  Within a task of
        a pool an int is 1: the other cores are busy.

    Raises
    ------
    ArgumentError
        At once, if `workers` is none of these.  Later, if it does not map, or cannot send what is shared.
    """
    return _fan_out(function, shared, _understood(workers))


@contextmanager
def _fan_out(
    function: Callable[[Shared, Item], Result], shared: Shared, workers: int | Map
) -> Iterator[Callable[[Sequence[Item]], list[Result]]]:
    if workers == 1:
        yield lambda items: [function(shared, item) for item in items]
        return
    with ExitStack() as stack:
        lender = Lender(shared)
        stack.callback(lender.end)
        # entered last, left first: its threads are told to stop by the lender's end, and are not waited for before
        spread = stack.enter_context(own_threads(workers)) if isinstance(workers, int) else workers
        attempts = itertools.count()
        yield lambda items: _each(items, partial(do, function), spread, lender, attempts)


def _understood(workers: Any) -> int | Map:
    """A number of threads, or a map."""
    if isinstance(workers, int | np.integer) and not isinstance(workers, bool):
        if workers != -1 and workers < 1:
            raise fault("workers", "be at least 1, or -1 for all cores", f"{workers}")
        count = cores() if workers == -1 else int(workers)
        return 1 if in_a_pool() else count
    if isinstance(workers, type) and workers is not map:
        raise fault("workers", "be a pool", f"the class {workers.__name__}", f"Pass a {workers.__name__}(...).")
    found = getattr(workers, "map", workers)
    if not callable(found):
        raise fault(
            "workers", "be an int, something to call as map(function, iterable), or an object with such a method map",
            f"{workers!r}",
        )  # fmt: skip
    if not takes(found, 2):
        name = getattr(found, "__qualname__", repr(found))
        raise fault(
            "workers", "be callable as map(function, iterable), or a pool", f"{name}, which takes other arguments",
            "If it makes a pool, call it.",
        )  # fmt: skip
    mapped: Map = found
    return mapped


def _each(
    items: Sequence[Any], task: Callable[[Parcel], Any], spread: Map, lender: Lender, attempts: Iterator[int]
) -> list[Any]:
    results, sent = dict.fromkeys(range(len(items))), 0
    left = list(results)
    while left:
        attempt = next(attempts)
        parcels = [
            Parcel(lender.token, number, items[number], attempt, lender.pickled() if i < sent else None)
            for i, number in enumerate(left)
        ]
        missing = []
        for answer in _answers(spread(task, parcels), left):
            if isinstance(answer, Done):
                results[answer.number] = answer.result
            else:
                missing.append(answer)
        if unreadable := next((each.unreadable for each in missing if each.unreadable), ""):
            lender.pickle_by_value(unreadable)
        left = sorted(each.number for each in missing)
        sent = max(2 * sent, len({each.process for each in missing}))
    return list(results.values())


def _answers(mapped: Iterable[Any], numbers: list[int]) -> list[Done | Missing]:
    """What a map gave, if it is an answer to each parcel, in whatever order."""
    if not isinstance(mapped, Iterable):
        raise _no_map(f"one that gives a {type(mapped).__name__}")
    answers = []
    for answer in mapped:
        if not isinstance(answer, Done | Missing):
            raise _no_map(f"one that gives {type(answer).__name__} objects")
        answers.append(answer)
    if sorted(answer.number for answer in answers) != numbers:
        raise _no_map(f"one that gives {len(answers)} results for {len(numbers)} tasks")
    return answers


def _no_map(what: str) -> Exception:
    return fault(
        "workers", "give the results of function for all of an iterable, as map does", what,
        "Pass the map of a pool that waits for its results, such as concurrent.futures.Executor, or a Dask client's "
        "client.get_executor().",
    )  # fmt: skip
