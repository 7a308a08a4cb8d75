"""Steps made, undone and differentiated one at a time, with gradients from anywhere, by any of the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine import state as states
from fastrev._engine.exclusive import Exclusive, exclusive
from fastrev._engine.rule import Rule
from fastrev._engine.types import FloatArray
from fastrev.errors import DivergenceError, ReversalError
from fastrev.kernels import outcomes
from fastrev.kernels.by_hand import Steps
from fastrev.kernels.structures import State

Gradient = Callable[[FloatArray], npt.ArrayLike]
HessianProduct = Callable[[FloatArray, FloatArray], npt.ArrayLike]


class StepByStep(Exclusive):
    """Base of `fastrev.ReversibleSGD` and `fastrev.ReversibleAdam`, which know what a step is made with.

    Of every step that is not undone a record is kept, whole numbers that tell what it was made with, and the checksum
    of its gradient.
    """

    _kernels: ClassVar[Steps]
    _moments: ClassVar[tuple[str, ...]]  # what they are called
    _numbers: ClassVar[str]  # what a step is made with, beside the gradient

    def __init__(self, state: State, record: int) -> None:
        super().__init__()
        self._state = state
        self._start = states.checksum(state.w, *state.moments)
        self._made = np.empty((0, record + 1), np.int64)
        self._scratch, self._unread = states.new_scratch(), np.empty(1, np.int64)
        self._spare = np.empty((1 + len(state.carry), state.w.size), np.int64)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self._state.w.size} parameters, {self.steps} steps to undo, {self.bits:.1f} bits)"
        )

    @property
    def w(self) -> FloatArray:
        """The parameters (P,), rounded to 53 significant bits."""
        return states.to_floats(self._state.w)

    @property
    def steps(self) -> int:
        """Steps made and not undone."""
        return int(self._state.cursor[0])

    @property
    def bits(self) -> float:
        """Information kept so far so that the steps can be taken back, in bits."""
        return states.stored_bits(self._state.heads, int(self._state.cursor[1]))

    @exclusive
    def verify(self) -> None:
        """Prove that everything was undone.

        Raises
        ------
        ReversalError
            If a step is left to undo, or parameters, moments, heads or tail are not those of the start, in every bit.
        """
        self._verify()

    def _verify(self) -> None:
        state = self._state
        faults = [f"{self.steps} steps are left to undo"] if self.steps else []
        names, found = ("parameters", *self._moments), states.checksum(state.w, *state.moments)
        for name, here, start in zip(names, found, self._start, strict=True):
            if here != start:
                faults.append(f"the {name} differ{'' if name.endswith('s') else 's'}")
        if (
            faults := faults
            + states.faults_of_carry(state)
            + states.faults_of_buffer(state.heads, int(state.cursor[1]))
        ):
            raise ReversalError(f"The state is not that of the start: {'; '.join(faults)}.")

    def _make(self, rule: Rule, record: Sequence[int], g: npt.ArrayLike | Gradient) -> None:
        """Make a step, or refuse it; nothing has changed then."""
        w = self.w
        gradient = self._gradient(g, w)
        states.make_room_for_step(self._state)
        states.make_row(self._made, self.steps)
        # which counts once the step is made
        self._made[self.steps] = *record, *states.checksum(gradient)
        reason, parameter = self._kernels.make(
            tuple(rule.tables), tuple(self._state), gradient, w, self._unread, self._scratch
        )
        if reason != outcomes.FINE:
            rate, group = self._rate_of(rule, parameter)
            blame = f"The likely cause is a learning rate that is too high ({rate}): lower lr."
            raise DivergenceError(
                f"Step {self.steps} was refused: {rule.off_grid(reason)}. {rule.advice(reason) or blame} Nothing has "
                "changed.",
                step=self.steps, group=group,
            )  # fmt: skip

    def _rate_of(self, rule: Rule, parameter: int) -> tuple[str, str]:
        """The learning rate of a parameter, in words, and the name of its group, if there is one."""
        raise NotImplementedError

    def _undo(self, rule: Rule, g: npt.ArrayLike | Gradient) -> FloatArray:
        """Undo the last step.  Returns the parameters from before it."""
        w = self._before(rule)
        gradient = self._gradient(g, w.copy())
        self._undone(
            self._kernels.undo(tuple(rule.tables), tuple(self._state), gradient, self._made[self.steps - 1, -1],
                               self._scratch)
        )  # fmt: skip
        return w

    def _undo_and_pull(
        self, rule: Rule, g: npt.ArrayLike | Gradient, hvp: HessianProduct, dw: FloatArray, dm: FloatArray, sums: Any
    ) -> tuple[FloatArray, FloatArray]:
        """Undo the last step and pull derivatives back through it, in place.  Returns the parameters, and u."""
        if not callable(hvp):
            raise arguments.fault("hvp", "be a function of w and u", f"{hvp!r}")
        w, kernels, state, tables = self._before(rule), self._kernels, tuple(self._state), tuple(rule.tables)
        gradient = self._gradient(g, w.copy())
        made, scratch, size = self._made[self.steps - 1, -1], self._scratch, w.size
        one = np.newaxis  # loss; with room for the norm before step 0, the only one
        adjoint = dw[one], dm[one], tuple(each[one] for each in sums), np.zeros((1, 1)), 0, self.steps
        after, moments, u, kept = np.empty(size), np.empty(dm.shape), np.empty(size), gradient.copy()
        self._undone(kernels.undo_and_pull(tables, state, w, kept, made, moments, adjoint, u[one], scratch))
        try:
            hu = arguments.parameters("hvp", hvp(w.copy(), u.copy()), size)
        except BaseException:
            kernels.make(tables, state, gradient, after, self._unread, scratch)
            raise
        kernels.pull_moments(tables, state, moments, kept, adjoint, hu[one], self._spare, after, scratch)
        return w, u

    def _of_last_step(self) -> list[int]:
        """The record of the last step."""
        if self.steps == 0:
            raise ReversalError("There is no step left to undo. Nothing has changed.")
        record: list[int] = self._made[self.steps - 1, :-1].tolist()
        return record

    def _before(self, rule: Rule) -> FloatArray:
        """The parameters from before the last step."""
        w = np.empty(self._state.w.size)
        self._kernels.position_before(tuple(rule.tables), tuple(self._state), self._spare, w, self._scratch)
        return w

    def _undone(self, reason: int) -> None:
        """Check what an undo came to."""
        if reason == outcomes.NOT_REPRODUCED:
            self._refuse("another gradient, in one bit at least")
        if reason != outcomes.FINE:
            raise ReversalError("The stored information ran out, so heads or tail were damaged. The state is lost.")
        if self.steps == 0:
            self._verify()

    def _refuse(self, difference: str) -> NoReturn:
        """Refuse to undo a step that was made with something else."""
        raise ReversalError(
            f"Step {self.steps - 1}, the last one left to undo, was made with {difference}. Undo each step once, last "
            f"first, with {self._numbers} and the gradient that it was made with. Nothing has changed."
        )

    def _gradient(self, g: npt.ArrayLike | Gradient, w: FloatArray) -> FloatArray:
        # a copy, which nobody changes between its checksum and the step
        finite = "As the gradient of a loss it says that training diverged: lower lr."
        return arguments.parameters("g", g(w) if callable(g) else g, self._state.w.size, remedy=finite).copy()


def starting_weights(w0: npt.ArrayLike) -> FloatArray:
    """The checked argument of this name."""
    weights = arguments.real_array("w0", w0, remedy="Begin with finite weights.")
    if weights.ndim != 1 or weights.size == 0:
        raise arguments.fault("w0", "have shape (P,) with P at least 1", f"shape {weights.shape}")
    return weights
