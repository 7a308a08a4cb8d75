"""The exact arithmetic by itself: arrays, and SGD with momentum for any gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fastrev import _arguments as arguments
from fastrev import _state
from fastrev.errors import ArgumentError, DivergenceError, ReversalError
from fastrev.hyperparameters import decays, learning_rates, ratios
from fastrev.kernels import fixed_point, momentum
from fastrev.kernels import information_buffer as buffer

FloatArray = npt.NDArray[np.float64]
Gradient = Callable[[FloatArray], npt.ArrayLike]


class ReversibleArray:
    """Numbers on the grid that can be added to and multiplied by ratios, and taken back exactly.

    Parameters
    ----------
    x : array_like
        Initial values, of any shape, magnitudes below 2048; rounded to multiples of 2**-52.

    Notes
    -----
    ``sub`` undoes ``add`` and ``div`` undoes ``mul``: called in the opposite order with the same arguments they bring
    every bit back.  What a multiplication by n/d would lose, log2(d/n) bits an element, is kept (Maclaurin et al. 2015,
    Algorithm 3).

    Examples
    --------
    >>> import fastrev
    >>> a = fastrev.ReversibleArray([1.0, -2.0])
    >>> a.mul(9, 10); a.add([0.1, 0.1])
    >>> a.value
    array([ 1. , -1.7])
    >>> a.sub([0.1, 0.1]); a.div(9, 10)
    >>> a.value
    array([ 1., -2.])
    """

    def __init__(self, x: npt.ArrayLike) -> None:
        self._grid = _state.to_grid("x", arguments.real_array("x", x))
        self._flat = self._grid.reshape(-1)
        self._heads = _state.new_heads(self._flat.size)
        self._tail = np.empty(0, np.uint16)
        self._top = 0
        self._multiplications = 0  # made and not undone
        self._scratch = np.empty(2 * buffer.BLOCK)

    def __repr__(self) -> str:
        return f"ReversibleArray({self.value!r}, bits={self.bits:.1f})"

    @property
    def value(self) -> FloatArray:
        """The values as a float64 array, rounded to 53 significant bits."""
        return _state.to_floats(self._grid)

    @property
    def bits(self) -> float:
        """Information kept so far so that multiplications can be taken back, in bits."""
        return _state.stored_bits(self._heads, self._top)

    def add(self, y: npt.ArrayLike) -> None:
        """Add y, of the same shape or a number, rounded to the grid."""
        term = self._term(y)
        if not fixed_point.add(self._flat, term):
            fixed_point.subtract(self._flat, term)
            raise _leaves_grid("y", "sum")

    def sub(self, y: npt.ArrayLike) -> None:
        """Undo ``add(y)``."""
        term = self._term(y)
        if not fixed_point.subtract(self._flat, term):
            fixed_point.add(self._flat, term)
            raise _leaves_grid("y", "difference")

    def mul(self, n: int, d: int) -> None:
        """Multiply by the ratio n/d, 1 <= n <= d <= 65536; each result is within one grid step of the exact one."""
        n, d = _ratio(n, d)
        _state.make_room(self._tail, self._top, self._flat.size)
        self._multiply(n, d)
        self._multiplications += 1

    def div(self, n: int, d: int) -> None:
        """Undo ``mul(n, d)``.

        Raises
        ------
        ReversalError
            If there is no multiplication left to undo, or not the information for this one.  Nothing has changed then.
        """
        n, d = _ratio(n, d)
        enough = buffer.words_to_divide(self._heads, self._tail, self._top, n, d) >= 0
        if self._multiplications == 0 or not enough:
            raise ReversalError(
                f"div({n}, {d}) undoes mul({n}, {d}), and there is none left to undo ({self._multiplications} "
                "multiplications have been made and not undone). The array is unchanged."
            )
        # An undo stays on the grid.  A division that undoes nothing may leave it, and then wraps: far past the range
        # float64 sees it, close to it the sign changes.
        if np.abs(self.value).max(initial=0.0) * d / n > fixed_point.LIMIT * (1 + 1e-9):
            raise _leaves_grid("d", "quotient")
        negative = self._flat < 0
        self._divide(n, d)
        if not np.array_equal(negative, self._flat < 0):
            self._multiply(n, d)
            raise _leaves_grid("d", "quotient")
        self._multiplications -= 1

    def _multiply(self, n: int, d: int) -> None:
        self._top = buffer.multiply(
            self._flat, self._heads, self._tail, self._top, n, d, 0, self._flat.size, self._scratch
        )

    def _divide(self, n: int, d: int) -> None:
        self._top = buffer.divide(
            self._flat, self._heads, self._tail, self._top, n, d, 0, self._flat.size, self._scratch
        )

    def _term(self, y: npt.ArrayLike) -> FloatArray:
        term = arguments.on_grid("y", arguments.real_array("y", y))
        if term.shape not in ((), self._grid.shape):
            raise arguments.fault("y", f"be a number or have shape {self._grid.shape}", f"shape {term.shape}")
        return np.ascontiguousarray(np.broadcast_to(term, self._grid.shape)).reshape(-1)


class ReversibleSGD:
    """SGD with momentum whose every step can be taken back exactly, for gradients from anywhere.

        v <- decay * v - (1 - decay) * g          w <- w + lr * v

    Parameters
    ----------
    w0 : (P,) array_like
        Initial parameters, magnitudes below 2048; rounded to multiples of 2**-52.
    v0 : (P,) array_like, optional
        Initial velocity; default zero.

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
    """

    def __init__(self, w0: npt.ArrayLike, v0: npt.ArrayLike | None = None) -> None:
        weights = arguments.real_array("w0", w0)
        if weights.ndim != 1 or weights.size == 0:
            raise arguments.fault("w0", "have shape (P,) with P at least 1", f"shape {weights.shape}")
        velocity = np.zeros(weights.size) if v0 is None else arguments.parameters("v0", v0, weights.size)
        self._state = _state.new_state(_state.to_grid("w0", weights), _state.to_grid("v0", velocity))
        self._scratch = np.empty(2 * buffer.BLOCK)

    @property
    def w(self) -> FloatArray:
        """The parameters (P,), rounded to 53 significant bits."""
        return _state.to_floats(self._state.w)

    @property
    def v(self) -> FloatArray:
        """The velocity (P,), rounded to 53 significant bits."""
        return _state.to_floats(self._state.v)

    @property
    def steps(self) -> int:
        """Steps made and not undone."""
        return int(self._state.cursor[0])

    @property
    def bits(self) -> float:
        """Information kept so far so that the steps can be taken back, in bits."""
        return _state.stored_bits(self._state.heads, int(self._state.cursor[1]))

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
        lr, n, d = _step_size(lr, decay)
        gradient = self._gradient(g)
        state, size = self._state, self._state.w.size
        _state.make_room(state.tail, int(state.cursor[1]), size)
        top, fine = momentum.step(
            state.w, state.v, state.heads, state.tail, state.cursor[1], gradient, lr, n, d, 0, size, self._scratch
        )
        if not fine:
            momentum.undo_position(state.w, state.v, lr, 0, size)
            momentum.undo_velocity(state.v, state.heads, state.tail, top, gradient, n, d, 0, size, self._scratch)
            raise DivergenceError(
                f"Step {self.steps} was refused: the parameters or their velocity would leave the grid, magnitudes "
                f"below {fixed_point.LIMIT:g}. The likely cause is a learning rate that is too high (lr = {lr:g}): "
                "lower lr. Nothing has changed.",
                step=self.steps, group="",
            )  # fmt: skip
        state.cursor[:] = state.cursor[0] + 1, top

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
            If no step is left to undo, or the stored information does not suffice for one with this decay.  Nothing
            has changed then.
        """
        lr, n, d = _step_size(lr, decay)
        state, size = self._state, self._state.w.size
        top = state.cursor[1]
        if self.steps == 0 or buffer.words_to_divide(state.heads, state.tail, top, n, d) < 0:
            raise ReversalError(
                f"There is no step with decay {decay:g} left to undo ({self.steps} steps have been made and not "
                "undone). Undo each step once, last first, with the decay it was made with. Nothing has changed."
            )
        momentum.undo_position(state.w, state.v, lr, 0, size)
        try:
            gradient = self._gradient(g)
        except BaseException:
            momentum.redo_position(state.w, state.v, lr, 0, size)
            raise
        top = momentum.undo_velocity(state.v, state.heads, state.tail, top, gradient, n, d, 0, size, self._scratch)
        state.cursor[:] = state.cursor[0] - 1, top

    def _gradient(self, g: npt.ArrayLike | Gradient) -> FloatArray:
        return arguments.parameters("g", g(self.w) if callable(g) else g, self._state.w.size)


def _step_size(lr: float, decay: float) -> tuple[float, int, int]:
    """The checked learning rate, and n and d of the decay."""
    rates, table = learning_rates(lr, 1), decays(decay, 1)
    for each in (rates, table):
        if each.shape != ():
            raise arguments.fault(each.name, "be a number", f"an array of shape {each.shape}")
    n, d = ratios(table)
    return float(rates.values[0, 0]), int(n[0, 0]), int(d[0, 0])


def _ratio(n: int, d: int) -> tuple[int, int]:
    """The checked ratio n/d."""
    n, d = arguments.whole("n", n, 1), arguments.whole("d", d, 1)
    if d > buffer.MAX_DENOMINATOR:
        raise arguments.fault(
            "d", f"be at most {buffer.MAX_DENOMINATOR}", f"{d}",
            "fractions.Fraction(x).limit_denominator(65536) finds the nearest ratio.",
        )  # fmt: skip
    if n > d:
        raise arguments.fault(
            "n", f"be at most d = {d}", f"{n}",
            "A growing ratio has no stored digits to take up; div(n, d) is for undoing mul(n, d).",
        )  # fmt: skip
    return n, d


def _leaves_grid(name: str, what: str) -> ArgumentError:
    return arguments.fault(
        name, f"keep the {what} within the grid's range, magnitudes below {fixed_point.LIMIT:g}", "larger",
        "The array is unchanged.",
    )  # fmt: skip
