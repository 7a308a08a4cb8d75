"""Where the words of a run's tail are: in memory, or some of them elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from fastrev._engine import arguments
from fastrev._engine import state as states
from fastrev.kernels import outcomes
from fastrev.kernels.structures import State


class Tail(Protocol):
    """What sees to it that a step finds room for its words, and its undo the words themselves."""

    def compile(self) -> None:
        """Have all that it needs compiled."""

    def make_room(self, state: State) -> None:
        """Let the tail take one more step's words."""

    def bring_back(self, state: State) -> bool:
        """Bring words back, so that the undo of a step finds its own.  Returns whether there were any."""

    def whole(self, state: State) -> State:
        """The same state with all of its words in memory."""

    def sync(self, state: State) -> dict[str, Any] | None:
        """See that the words elsewhere outlive this process.  Returns what `restore` takes, for JSON; None for none."""

    def restore(self, files: Mapping[str, Any] | None, state: State) -> None:
        """Find those again that a state of another process has elsewhere, as `sync` said there."""

    def release(self, state: State) -> None:
        """Let go of words that neither this state nor any that is kept has elsewhere."""

    def bytes_elsewhere(self, state: State) -> int:
        """What the words that are not in memory take."""

    def bytes_of(self, words: int, a_step: int) -> tuple[int, int]:
        """What so many words will take in memory, and elsewhere, if a step can push so many."""


class InMemory:
    """All words in memory, in an array that grows."""

    def compile(self) -> None:
        """Nothing."""

    def make_room(self, state: State) -> None:
        """Let the tail take one more step's words."""
        states.make_room_for_step(state)

    def bring_back(self, state: State) -> bool:
        """There are none elsewhere."""
        return False

    def whole(self, state: State) -> State:
        """They are there."""
        return state

    def sync(self, state: State) -> dict[str, Any] | None:
        """There are none elsewhere."""
        return None

    def restore(self, files: Mapping[str, Any] | None, state: State) -> None:
        """There must be none elsewhere."""
        if files is not None:
            raise arguments.fault(
                "buffer", "be the folder in which this run has files", "None", "Pass it, as when the run was begun."
            )

    def release(self, state: State) -> None:
        """There are none elsewhere."""

    def bytes_elsewhere(self, state: State) -> int:
        """None."""
        return 0

    def bytes_of(self, words: int, a_step: int) -> tuple[int, int]:
        """What so many words will take in memory."""
        return 2 * states.grown_to(words, a_step), 0


def supplied(tail: Tail, state: State, undo: Callable[[], int]) -> int:
    """What `undo` returns, called again for as long as it ends for want of words and there are some to bring back."""
    while (reason := undo()) == outcomes.TAIL_LOW and tail.bring_back(state):
        pass
    return reason


def within_reach(tail: Tail, state: State) -> bool:
    """Whether the undo of a step will find its words in memory; they are brought back if need be."""
    cursor = state.cursor
    return not cursor[3] or bool(cursor[1] >= states.words_of_a_step(state)) or tail.bring_back(state)
