"""The one law that everything reversible is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Action = Callable[[], object]


def check_reversible(step: Action, unstep: Action, state: Callable[[], Mapping[str, Any]]) -> None:
    """``unstep()`` takes the state back to before ``step()``, in every bit, and ``step()`` can then be made again.

    Parameters
    ----------
    step, unstep : functions without arguments
        What changes the state, and what undoes it.
    state : function without arguments
        A copy of all there is, by name.

    """
    before = state()
    step()
    after = state()
    unstep()
    assert_same(state(), before)
    step()
    assert_same(state(), after)
    unstep()
    assert_same(state(), before)


def in_turn(pairs: Sequence[tuple[Action, Action]]) -> tuple[Action, Action]:
    """One step, and its undo, of many: all steps in order, all undos in the opposite order."""

    def step() -> None:
        for do, _ in pairs:
            do()

    def unstep() -> None:
        for _, undo in reversed(pairs):
            undo()

    return step, unstep


def assert_same(state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Equal in every integer; dtypes count."""
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert np.asarray(state[name]).dtype == np.asarray(value).dtype, name
        np.testing.assert_array_equal(state[name], value, err_msg=name)
