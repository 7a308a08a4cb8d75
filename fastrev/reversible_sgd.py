"""SGD with momentum, step by step, for gradients from anywhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments, sgd
from fastrev._engine import state as states
from fastrev._engine.exclusive import Exclusive, exclusive
from fastrev._engine.sgd import SGDRule
from fastrev._engine.types import FloatArray
from fastrev.errors import DivergenceError, ReversalError
from fastrev.kernels import fixed_point, outcomes
from fastrev.kernels import information_buffer as buffer
from fastrev.kernels.rules import BY_MOMENTUM
from fastrev.results import StepPullback

_steps = BY_MOMENTUM.by_hand

Gradient = Callable[[FloatArray], npt.ArrayLike]
HessianProduct = Callable[[FloatArray, FloatArray], npt.ArrayLike]


class ReversibleSGD(Exclusive):
    """SGD with momentum whose every step can be taken back exactly, for gradients from anywhere.

    A step is::

        v <- decay * v - (1 - decay) * g          w <- w + lr * v

    Parameters
    ----------
    w0 : (P,) array_like
        Initial parameters, magnitudes below 2048; rounded to multiples of 2**-52.
    v0 : (P,) array_like, optional
        Initial velocity; default zero.

    Notes
    -----
    An `unstep` or `backward` that would not undo the last `step` exactly is refused and changes nothing: each step
    leaves lr, the ratio that stands for its decay (of arrays checksums) and a checksum of its gradient, 48 bytes,
    whatever the number of parameters.

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
    ...     w = sgd.unstep(gradient, lr=0.1, decay=0.9)
    >>> sgd.w, sgd.v, sgd.bits
    (array([1., 2.]), array([0., 0.]), 0.0)
    >>> sgd.verify()                                    # every bit is as it was
    """

    def __init__(self, w0: npt.ArrayLike, v0: npt.ArrayLike | None = None) -> None:
        super().__init__()
        weights = arguments.real_array("w0", w0, remedy="Begin with finite weights.")
        if weights.ndim != 1 or weights.size == 0:
            raise arguments.fault("w0", "have shape (P,) with P at least 1", f"shape {weights.shape}")
        finite = "Begin with a finite velocity, or leave it out for 0."
        velocity = np.zeros(weights.size) if v0 is None else arguments.parameters("v0", v0, weights.size, remedy=finite)
        moments = states.to_grid("v0", velocity)[np.newaxis]
        self._state = states.new_state(states.to_grid("w0", weights), moments)
        self._start = states.checksum(self._state.w, self._state.moments)
        self._made = np.empty((0, 6), np.int64)  # of each step not undone: record of lr and decay, gradient's checksum
        self._last: SGDRule | None = None  # what the last call was made with
        self._scratch, self._unread = np.empty(buffer.SCRATCH), np.empty(1, np.int64)
        self._spare = np.empty((1, weights.size), np.int64)

    def __repr__(self) -> str:
        return f"ReversibleSGD({self._state.w.size} parameters, {self.steps} steps to undo, {self.bits:.1f} bits)"

    @property
    def w(self) -> FloatArray:
        """The parameters (P,), rounded to 53 significant bits."""
        return states.to_floats(self._state.w)

    @property
    def v(self) -> FloatArray:
        """The velocity (P,), rounded to 53 significant bits."""
        return states.to_floats(self._state.moments[0])

    @property
    def steps(self) -> int:
        """Steps made and not undone."""
        return int(self._state.cursor[0])

    @property
    def bits(self) -> float:
        """Information kept so far so that the steps can be taken back, in bits."""
        return states.stored_bits(self._state.heads, int(self._state.cursor[1]))

    @exclusive
    def step(self, g: npt.ArrayLike | Gradient, lr: npt.ArrayLike, decay: npt.ArrayLike) -> None:
        """Make a step.

        Parameters
        ----------
        g : (P,) array_like, or a function from (P,) parameters to it
            The gradient at the current parameters.
        lr : float or (P,) array_like
            Learning rate, or one for each parameter; not negative.
        decay : float or (P,) array_like
            Momentum decay, or one for each parameter; in (0, 1], replaced by the nearest n/d with d <= 65536
            (`ratio`).  An array that differs from the last call's takes another 0.1 us an element for that.

        Raises
        ------
        DivergenceError
            If the step would leave the grid.  Nothing has changed then.
        """
        rule = self._rule(lr, decay)
        w = self.w
        gradient = self._gradient(g, w)
        state = self._state
        states.make_room_for_step(state)
        states.make_row(self._made, self.steps)
        # which counts once the step is made
        self._made[self.steps] = *rule.record(), *states.checksum(gradient)
        reason, p = _steps.make(tuple(rule.tables), tuple(state), gradient, w, self._unread, self._scratch)
        if reason != outcomes.FINE:
            rate = f"lr[{p}] = {rule.lr.values[p]:g}" if rule.lr.shape else f"lr = {rule.lr.values.item():g}"
            raise DivergenceError(
                f"Step {self.steps} was refused: the parameters or their velocity would leave the grid, magnitudes "
                f"below {fixed_point.LIMIT:g}. The likely cause is a learning rate that is too high ({rate}): "
                "lower lr. Nothing has changed.",
                step=self.steps, group="",
            )  # fmt: skip

    @exclusive
    def unstep(self, g: npt.ArrayLike | Gradient, lr: npt.ArrayLike, decay: npt.ArrayLike) -> FloatArray:
        """Undo ``step(g, lr, decay)``.

        Parameters
        ----------
        g : (P,) array_like, or a function from (P,) parameters to it
            The gradient that the step was made with: the same bits.  A function is called with the parameters from
            before the step.
        lr, decay : float or (P,) array_like
            As in the step.

        Returns
        -------
        (P,) float64 ndarray
            The parameters from before the step, at which the gradient was taken.

        Raises
        ------
        ReversalError
            If that is not what it would do: no step is left to undo, or the last one was made with another lr, decay
            or gradient.  Nothing has changed then.
        """
        rule, w, gradient, made = self._of_last_step(g, lr, decay)
        self._undone(_steps.undo(tuple(rule.tables), tuple(self._state), gradient, made, self._scratch))
        return w

    @exclusive
    def backward(
        self,
        g: npt.ArrayLike | Gradient,
        hvp: HessianProduct,
        w_bar: npt.ArrayLike,
        v_bar: npt.ArrayLike | None = None,
        *,
        lr: npt.ArrayLike,
        decay: npt.ArrayLike,
    ) -> StepPullback:
        """Undo ``step(g, lr, decay)``, and pull the derivatives of a loss back through it.

        Parameters
        ----------
        g, lr, decay
            As in `unstep`.
        hvp : function from (P,) parameters w and a (P,) direction u to (P,) array_like
            The derivative of the gradient at w in the direction u: the Hessian times u.
        w_bar : (P,) array_like
            The derivative of the loss by the parameters after the step.
        v_bar : (P,) array_like, optional
            The same by the velocity; default zero.

        Returns
        -------
        StepPullback
            The derivatives by parameters and velocity before the step, which the step before that takes in turn, and by
            this step's lr and decay.

        Raises
        ------
        ReversalError
            As in `unstep`.
        ArgumentError
            If an argument or what g or hvp return is of another shape or not finite.

        Notes
        -----
        Whatever is raised, nothing has changed: where hvp fails, the step is made again.  An interrupt such as Ctrl-C
        can come when the step is undone already and the derivatives are lost; `steps` tells.

        Maclaurin et al. 2015, Algorithm 2, one step of it.

        Examples
        --------
        The loss is the sum of all parameters after two steps, of which each goes down on ``w @ w / 2``:

        >>> import fastrev
        >>> sgd = fastrev.ReversibleSGD([1.0, 2.0])
        >>> for lr in 0.5, 0.25:
        ...     sgd.step(sgd.w, lr, decay=0.5)
        >>> w_bar, v_bar = [1.0, 1.0], None
        >>> for lr in 0.25, 0.5:
        ...     back = sgd.backward(lambda w: w, lambda w, u: u, w_bar, v_bar, lr=lr, decay=0.5)
        ...     w_bar, v_bar = back.w_bar, back.v_bar
        ...     print(lr, back.lr)
        0.25 -1.875
        0.5 -1.3125
        >>> w_bar
        array([0.59375, 0.59375])
        """
        if not callable(hvp):
            raise arguments.fault("hvp", "be a function of w and u", f"{hvp!r}")
        state, size = tuple(self._state), self._state.w.size
        dw = arguments.parameters("w_bar", w_bar, size).copy()
        dm = np.zeros((1, size))
        if v_bar is not None:
            dm[0] = arguments.parameters("v_bar", v_bar, size)
        rule, w, gradient, made = self._of_last_step(g, lr, decay)
        tables, derivatives = tuple(rule.tables), rule.new_adjoint()
        unread = np.zeros(1), 0, self.steps  # room for the norm before step 0, the only one that is written
        adjoint = dw, dm, tuple(derivatives), *unread
        after, moments, u, v_plus_g = np.empty(size), np.empty((1, size)), np.empty(size), gradient.copy()
        scratch = self._scratch
        self._undone(_steps.undo_and_pull(tables, state, w, v_plus_g, made, moments, adjoint, u, scratch))
        try:
            hu = arguments.parameters("hvp", hvp(w.copy(), u.copy()), size)
        except BaseException:
            _steps.make(tables, state, gradient, after, self._unread, scratch)
            raise
        _steps.pull_moments(tables, state, moments, v_plus_g, adjoint, hu, self._spare, after, scratch)
        return StepPullback(dw, dm[0], w=w, u=u, **rule.gradients(derivatives))

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
        w, v = states.checksum(state.w, state.moments)
        if w != self._start[0]:
            faults.append("the parameters differ")
        if v != self._start[1]:
            faults.append("the velocity differs")
        if faults := faults + states.faults_of_buffer(state.heads, int(state.cursor[1])):
            raise ReversalError(f"The state is not that of the start: {'; '.join(faults)}.")

    def _of_last_step(
        self, g: npt.ArrayLike | Gradient, lr: npt.ArrayLike, decay: npt.ArrayLike
    ) -> tuple[SGDRule, FloatArray, FloatArray, int]:
        """What the last step was made with, if these are its arguments, and where: in floats."""
        rule, last = self._rule(lr, decay), self.steps - 1
        if last < 0:
            raise ReversalError("There is no step left to undo. Nothing has changed.")
        *made, made_gradient = self._made[last].tolist()
        if difference := sgd.difference(made, rule.record()):
            raise _another_step(last, difference)
        w = np.empty(self._state.w.size)
        _steps.position_before(tuple(rule.tables), tuple(self._state), self._spare, w, self._scratch)
        return rule, w, self._gradient(g, w.copy()), made_gradient

    def _undone(self, reason: int) -> None:
        """Check what an undo came to."""
        if reason == outcomes.NOT_REPRODUCED:
            raise _another_step(self.steps - 1, "another gradient, in one bit at least")
        if reason != outcomes.FINE:
            raise ReversalError("The stored information ran out, so heads or tail were damaged. The state is lost.")
        if self.steps == 0:
            self._verify()

    def _rule(self, lr: npt.ArrayLike, decay: npt.ArrayLike) -> SGDRule:
        self._last = sgd.prepare_step(lr, decay, self._state.w.size, self._last)
        return self._last

    def _gradient(self, g: npt.ArrayLike | Gradient, w: FloatArray) -> FloatArray:
        # a copy, which nobody changes between its checksum and the step
        finite = "As the gradient of a loss it says that training diverged: lower lr."
        return arguments.parameters("g", g(w) if callable(g) else g, self._state.w.size, remedy=finite).copy()


def _another_step(step: int, difference: str) -> ReversalError:
    return ReversalError(
        f"Step {step}, the last one left to undo, was made with {difference}. Undo each step once, last first, with "
        "the lr, the decay and the gradient that it was made with. Nothing has changed."
    )
