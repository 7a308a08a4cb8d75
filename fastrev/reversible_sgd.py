"""SGD with momentum, step by step, for gradients from anywhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments, sgd
from fastrev._engine import state as states
from fastrev._engine.exclusive import Exclusive, exclusive
from fastrev._engine.types import FloatArray
from fastrev.errors import DivergenceError, ReversalError
from fastrev.kernels import by_hand, fixed_point, outcomes
from fastrev.kernels import information_buffer as buffer
from fastrev.kernels.structures import Momentum

Gradient = Callable[[FloatArray], npt.ArrayLike]


class ReversibleSGD(Exclusive):
    """SGD with momentum whose every step can be taken back exactly, for gradients from anywhere.

        v <- decay * v - (1 - decay) * g          w <- w + lr * v

    Parameters
    ----------
    w0 : (P,) array_like
        Initial parameters, magnitudes below 2048; rounded to multiples of 2**-52.
    v0 : (P,) array_like, optional
        Initial velocity; default zero.

    Notes
    -----
    An `unstep` that would not undo the last `step` exactly is refused and changes nothing: each step leaves lr, the
    ratio that stands for its decay and a checksum of its gradient, 32 bytes, whatever the number of parameters.

    Examples
    --------
    >>> import numpy as np, fastrev
    >>> sgd = fastrev.ReversibleSGD([1.0, 2.0])
    >>> gradient = lambda w: 2 * w
    >>> for step in range(100):
    ...     sgd.step(gradient(sgd.w), lr=0.1, decay=0.9)
    >>> bool(np.abs(sgd.w).max() < 0.1)
    True

    Each step is undone with the gradient at the position before it, which `unstep` asks for:

    >>> for step in range(100):
    ...     sgd.unstep(gradient, lr=0.1, decay=0.9)
    >>> sgd.w, sgd.v, sgd.bits
    (array([1., 2.]), array([0., 0.]), 0.0)
    >>> sgd.verify()                                    # every bit is as it was
    """

    def __init__(self, w0: npt.ArrayLike, v0: npt.ArrayLike | None = None) -> None:
        super().__init__()
        weights = arguments.real_array("w0", w0)
        if weights.ndim != 1 or weights.size == 0:
            raise arguments.fault("w0", "have shape (P,) with P at least 1", f"shape {weights.shape}")
        velocity = np.zeros(weights.size) if v0 is None else arguments.parameters("v0", v0, weights.size)
        self._state = states.new_state(states.to_grid("w0", weights), states.to_grid("v0", velocity))
        self._start = states.checksum(self._state.w, self._state.v)
        self._made = np.empty((0, 4), np.int64)  # of each step not undone: bits of lr, n, d, checksum of the gradient
        self._bounds = np.array([0, weights.size])
        self._scratch = np.empty(2 * buffer.BLOCK)

    @property
    def w(self) -> FloatArray:
        """The parameters (P,), rounded to 53 significant bits."""
        return states.to_floats(self._state.w)

    @property
    def v(self) -> FloatArray:
        """The velocity (P,), rounded to 53 significant bits."""
        return states.to_floats(self._state.v)

    @property
    def steps(self) -> int:
        """Steps made and not undone."""
        return int(self._state.cursor[0])

    @property
    def bits(self) -> float:
        """Information kept so far so that the steps can be taken back, in bits."""
        return states.stored_bits(self._state.heads, int(self._state.cursor[1]))

    @exclusive
    def step(self, g: npt.ArrayLike | Gradient, lr: float, decay: float) -> None:
        """Make a step.

        Parameters
        ----------
        g : (P,) array_like, or a function from (P,) parameters to it
            The gradient at the current parameters.
        lr : float
            Learning rate, not negative.
        decay : float
            Momentum decay in (0, 1], replaced by the nearest n/d with d <= 65536.

        Raises
        ------
        DivergenceError
            If the step would leave the grid.  Nothing has changed then.
        """
        rule = self._rule(lr, decay)
        w = self.w
        gradient = self._gradient(g, w)
        state = self._state
        states.make_room(state.tail, int(state.cursor[1]), state.w.size)
        states.make_row(self._made, self.steps)
        # which counts once the step is made
        self._made[self.steps] = _bits(rule.lr), rule.n[0, 0], rule.d[0, 0], *states.checksum(gradient)
        reason, _, _ = by_hand.make_step(tuple(rule), tuple(state), gradient, w, self._scratch)
        if reason != outcomes.FINE:
            raise DivergenceError(
                f"Step {self.steps} was refused: the parameters or their velocity would leave the grid, magnitudes "
                f"below {fixed_point.LIMIT:g}. The likely cause is a learning rate that is too high (lr = {lr:g}): "
                "lower lr. Nothing has changed.",
                step=self.steps, group="",
            )  # fmt: skip

    @exclusive
    def unstep(self, g: npt.ArrayLike | Gradient, lr: float, decay: float) -> None:
        """Undo ``step(g, lr, decay)``.

        Parameters
        ----------
        g : (P,) array_like, or a function from (P,) parameters to it
            The gradient that the step was made with: the same bits.  A function is called with the parameters from
            before the step.
        lr, decay : float
            As in the step.

        Raises
        ------
        ReversalError
            If that is not what it would do: no step is left to undo, or the last one was made with another lr, decay
            or gradient.  Nothing has changed then.
        """
        rule, last = self._rule(lr, decay), self.steps - 1
        if last < 0:
            raise ReversalError("There is no step left to undo. Nothing has changed.")
        made_lr, *made_ratio, made_gradient = self._made[last].tolist()
        if (lr_bits := _bits(rule.lr)) != made_lr:
            was, given = np.array([made_lr, lr_bits]).view(np.float64).tolist()
            raise _another_step(last, f"lr = {was!r}, not {given!r}")
        if (ratio := [int(rule.n[0, 0]), int(rule.d[0, 0])]) != made_ratio:
            raise _another_step(last, "decay = {}/{}, not {}/{}".format(*made_ratio, *ratio))
        before, w = np.empty_like(self._state.w), np.empty(self._state.w.size)
        by_hand.position_before_step(tuple(rule), tuple(self._state), before, w)
        gradient = self._gradient(g, w)
        reason = by_hand.undo_step(tuple(rule), tuple(self._state), before, gradient, made_gradient, self._scratch)
        if reason == outcomes.NOT_REPRODUCED:
            raise _another_step(last, "another gradient, in one bit at least")
        if reason != outcomes.FINE:
            raise ReversalError("The stored information ran out, so heads or tail were damaged. The state is lost.")
        if last == 0:
            self._verify()

    @exclusive
    def verify(self) -> None:
        """Prove that everything was undone.

        Raises
        ------
        ReversalError
            If a step is left to undo, or parameters, velocity, heads or tail are not those of the start, in every bit.
        """
        self._verify()

    def _verify(self) -> None:
        state = self._state
        faults = [f"{self.steps} steps are left to undo"] if self.steps else []
        w, v = states.checksum(state.w, state.v)
        if w != self._start[0]:
            faults.append("the parameters differ")
        if v != self._start[1]:
            faults.append("the velocity differs")
        if faults := faults + states.faults_of_buffer(state.heads, int(state.cursor[1])):
            raise ReversalError(f"The state is not that of the start: {'; '.join(faults)}.")

    def _rule(self, lr: float, decay: float) -> Momentum:
        prepared = sgd.prepare(lr, decay, self._bounds)
        for table in (prepared.lr, prepared.decay):
            if table.shape != ():
                raise arguments.fault(table.name, "be a number", f"an array of shape {table.shape}")
        return prepared.tables

    def _gradient(self, g: npt.ArrayLike | Gradient, w: FloatArray) -> FloatArray:
        # a copy, which nobody changes between its checksum and the step
        return arguments.parameters("g", g(w) if callable(g) else g, self._state.w.size).copy()


def _bits(x: FloatArray) -> int:
    return int(x.view(np.int64)[0, 0])


def _another_step(step: int, difference: str) -> ReversalError:
    return ReversalError(
        f"Step {step}, the last one left to undo, was made with {difference}. Undo each step once, last first, with "
        "the lr, the decay and the gradient that it was made with. Nothing has changed."
    )
