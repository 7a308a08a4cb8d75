"""What the file of a run holds: the state, and beside it what the way back has come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np

from fastrev._engine import state as states
from fastrev._engine.lookers import Losses
from fastrev._engine.problem import Problem
from fastrev._engine.types import AnyArray, FloatArray
from fastrev._files.fingerprints import digest
from fastrev.errors import ArgumentError
from fastrev.kernels.structures import State
from fastrev.results import Stats

End = tuple[FloatArray, FloatArray, Stats]  # the weights (P,), moments (M, P) and what the run took, at its end

_STATS = tuple(each.name for each in fields(Stats) if not each.name.startswith("adjoint"))
_NORMS = "adjoint_norms", "adjoint_steps"


class Standing(NamedTuple):
    """Where a run stands."""

    state: State
    walk: Mapping[str, AnyArray]  # what its walk must have beside it
    end: End | None  # once it is on its way back
    adjoint: Mapping[str, AnyArray] | None = None  # where it is differentiated on it
    asked: Mapping[str, str] | None = None  # by what, and of which loss
    losses: Losses | None = None  # of a curve, as far as they are measured
    files: Mapping[str, Any] | None = None  # of words that are not in memory


class MisfitError(ArgumentError):
    """The arrays are not those of a run of this problem, whatever made the file."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The file is no whole run: {name!r} is missing, or not as it must be. Pass another path.")


def packed(standing: Standing) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    """What JSON is to hold of it, and the arrays by name."""
    state, walk, end, adjoint, asked, losses, files = standing
    about: dict[str, Any] = {"tail room": state.tail.size, "files": files, "asked": asked, "end": None, "curve": None}
    arrays = arrays_of(state) | {f"walk.{name}": each for name, each in walk.items()}
    if end is not None:
        w, moments, stats = end
        about["end"] = {name: getattr(stats, name) for name in _STATS}
        arrays |= {"end.w": w, "end.moments": moments}
        arrays |= {f"end.{name}": each for name in _NORMS if (each := getattr(stats, name)) is not None}
    if adjoint is not None:
        arrays |= {f"adjoint.{name}": each for name, each in adjoint.items()}
    if losses is not None:
        about["curve"] = curve_of(losses)
        arrays |= dict(zip(("curve.steps", "curve.losses"), losses.read(), strict=True))
    return about, arrays


def unpacked(about: Mapping[str, Any], arrays: Mapping[str, AnyArray], problem: Problem) -> Standing:
    """The same again, for a run of this problem."""
    state = state_of(arrays, problem, int(about["tail room"]))
    end = None
    if about["end"] is not None:
        size = state.w.shape
        stats = Stats(*(about["end"][name] for name in _STATS), *(arrays.get(f"end.{name}") for name in _NORMS))
        moments = fitting(arrays, "end.moments", np.empty(state.moments.shape))
        end = fitting(arrays, "end.w", np.empty(size)), moments, stats
        if not state.cursor[0] <= stats.steps <= problem.steps:
            raise MisfitError("end")
    losses = None
    if about["curve"] is not None:
        losses = Losses(str(about["curve"]))
        losses.put(arrays["curve.steps"], arrays["curve.losses"])
    asked = None if about["asked"] is None else dict(about["asked"])
    adjoint = None if asked is None else _part(arrays, "adjoint.")
    if adjoint is not None and (end is None or not _are_rows(adjoint["w"], state.w.size)):
        raise MisfitError("adjoint.w")
    files = about["files"]
    if (state.cursor[3] != 0 and files is None) or not (files is None or isinstance(files, dict)):
        raise MisfitError("files")
    return Standing(state, _part(arrays, "walk."), end, adjoint, asked, losses, files)


def curve_of(losses: Losses | None) -> str | None:
    """Of which examples and steps losses are measured: of those that came from a file, the digest that it held."""
    if losses is None:
        return None
    return losses.asked if isinstance(losses.asked, str) else digest(losses.asked)


def arrays_of(state: State) -> dict[str, AnyArray]:
    """A state as arrays by name; of the tail, what is in it."""
    parts: dict[str, AnyArray] = dict(zip(State._fields, state, strict=True))
    return parts | {"tail": state.tail[: int(state.cursor[1])]}


def state_of(arrays: Mapping[str, AnyArray], problem: Problem, room: int) -> State:
    """The same again, with room in the tail for so many words: what it grows to, and when, is as it would have been."""
    like = problem.start()
    parts = {name: fitting(arrays, name, getattr(like, name)) for name in State._fields if name != "tail"}
    words, cursor = arrays["tail"], parts["cursor"]
    if words.dtype != np.uint16 or words.shape != (int(cursor[1]),) or not 0 <= cursor[0] <= problem.steps:
        raise MisfitError("tail")
    most = states.most_room(words.size, like.heads.size, like.carry.size)  # whatever the file says
    tail = np.empty(max(min(room, most), words.size), np.uint16)
    tail[: words.size] = words
    return State(**{**parts, "tail": tail})


def fill(live: Mapping[str, AnyArray], kept: Mapping[str, AnyArray]) -> None:
    """Put kept arrays into those that are at work, all of which must be there."""
    found = {name: fitting(kept, name, array) for name, array in live.items()}
    for name, array in live.items():
        array[...] = found[name]


def fitting(arrays: Mapping[str, AnyArray], name: str, like: AnyArray) -> Any:
    """An array, if it is there and like another in shape and dtype."""
    array = arrays.get(name)
    if array is None or array.shape != like.shape or array.dtype != like.dtype:
        raise MisfitError(name)
    return np.ascontiguousarray(array).reshape(like.shape)


def _part(arrays: Mapping[str, AnyArray], prefix: str) -> dict[str, AnyArray]:
    return {name.removeprefix(prefix): each for name, each in arrays.items() if name.startswith(prefix)}


def _are_rows(array: AnyArray, size: int) -> bool:
    return array.ndim == 2 and len(array) > 0 and array.shape[1] == size and array.dtype == np.float64
