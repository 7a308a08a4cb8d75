"""SGD with momentum, step by step, for gradients from anywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments, sgd
from fastrev._engine import state as states
from fastrev._engine.exclusive import exclusive
from fastrev._engine.rule import Rule
from fastrev._engine.sgd import SGDRule
from fastrev._engine.step_by_step import Gradient, HessianProduct, StepByStep, starting_weights
from fastrev._engine.types import FloatArray
from fastrev.kernels.rules import BY_MOMENTUM
from fastrev.results import StepPullback


class ReversibleSGD(StepByStep):
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

    _kernels = BY_MOMENTUM.by_hand
    _moments = ("velocity",)
    _numbers = "the lr, the decay"

    def __init__(self, w0: npt.ArrayLike, v0: npt.ArrayLike | None = None) -> None:
        weights = starting_weights(w0)
        finite = "Begin with a finite velocity, or leave it out for 0."
        velocity = np.zeros(weights.size) if v0 is None else arguments.parameters("v0", v0, weights.size, remedy=finite)
        moments = states.to_grid("v0", velocity)[np.newaxis]
        super().__init__(states.new_state(states.to_grid("w0", weights), moments), record=5)
        self._last: SGDRule | None = None  # what the last call was made with

    @property
    def v(self) -> FloatArray:
        """The velocity (P,), rounded to 53 significant bits."""
        return states.to_floats(self._state.moments[0])

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
        self._make(rule, rule.record(), g)

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
        return self._undo(self._rule_of_last_step(lr, decay), g)

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
        size = self._state.w.size
        dw, dm = arguments.parameters("w_bar", w_bar, size).copy(), np.zeros((1, size))
        if v_bar is not None:
            dm[0] = arguments.parameters("v_bar", v_bar, size)
        rule = self._rule_of_last_step(lr, decay)
        sums = rule.new_adjoint()
        w, u = self._undo_and_pull(rule, g, hvp, dw, dm, sums)
        return StepPullback(dw, dm[0], w=w, u=u, **rule.gradients(sums))

    def _rule_of_last_step(self, lr: npt.ArrayLike, decay: npt.ArrayLike) -> SGDRule:
        """What the last step was made with, if these are its arguments."""
        rule, made = self._rule(lr, decay), self._of_last_step()
        if difference := sgd.difference(made, rule.record()):
            self._refuse(difference)
        return rule

    def _rate_of(self, rule: Rule, parameter: int) -> tuple[str, str]:
        lr = rule.lr
        return (f"lr[{parameter}] = {lr.values[parameter]:g}" if lr.shape else f"lr = {lr.values.item():g}"), ""

    def _rule(self, lr: npt.ArrayLike, decay: npt.ArrayLike) -> SGDRule:
        self._last = sgd.prepare_step(lr, decay, self._state.w.size, self._last)
        return self._last
