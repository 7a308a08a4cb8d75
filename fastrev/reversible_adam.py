"""Adam and AdamW, step by step, for gradients from anywhere."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fastrev._engine import adam, arguments
from fastrev._engine import state as states
from fastrev._engine.adam import AdamRule
from fastrev._engine.exclusive import exclusive
from fastrev._engine.groups import bounds_of
from fastrev._engine.rule import Rule, rate_at
from fastrev._engine.step_by_step import Gradient, HessianProduct, StepByStep, starting_weights
from fastrev._engine.types import FloatArray
from fastrev.kernels.rules import BY_ADAM
from fastrev.results import AdamPullback


class ReversibleAdam(StepByStep):
    """Adam, or AdamW, whose every step can be taken back exactly, for gradients from anywhere.

    A step is that of `Adam`, which says what its numbers mean.

    Parameters
    ----------
    w0 : (P,) array_like
        Initial parameters, magnitudes below 2048; rounded to multiples of 2**-52.
    groups : mapping of str to slice, optional
        G groups of parameters that follow each other; default one.  Every number of a step is a float, or (G,).
    eps_root : float
        Added under the root, not negative.

    Notes
    -----
    An `unstep` or `backward` that would not undo the last `step` exactly is refused and changes nothing: each step
    leaves checksums of its numbers and of its gradient, and its products of betas, 48 bytes and 24 a group, whatever
    the number of parameters.

    Examples
    --------
    >>> import numpy as np, fastrev
    >>> adam = fastrev.ReversibleAdam([1.0, 2.0])
    >>> gradient = lambda w: w / 4
    >>> for step in range(300):
    ...     adam.step(gradient(adam.w), lr=0.01)
    >>> bool(np.abs(adam.w).max() < 0.2)
    True

    Each step is undone with the gradient at the parameters before it, which `unstep` asks for:

    >>> for step in range(300):
    ...     w = adam.unstep(gradient, lr=0.01)
    >>> adam.w, adam.m, adam.s, adam.bits
    (array([1., 2.]), array([0., 0.]), array([0., 0.]), 0.0)
    >>> adam.verify()                                   # every bit is as it was
    """

    _kernels = BY_ADAM.by_hand
    _moments = ("first moments", "second moments")
    _numbers = "the numbers"

    def __init__(self, w0: npt.ArrayLike, groups: Mapping[str, slice] | None = None, eps_root: float = 1e-8) -> None:
        weights = starting_weights(w0)
        self._groups, self._bounds = bounds_of("groups", groups, weights.size)
        moments = np.zeros((2, weights.size), np.int64)
        super().__init__(states.new_state(states.to_grid("w0", weights), moments, shrinks=True), record=5)
        self._eps_root = eps_root
        # before every step not undone, and after the last, as AdamRule.after
        self._progress = np.repeat([1.0, 1.0, 0.0], self._bounds.size - 1)[np.newaxis].copy()
        adam.prepare(0.0, 0.5, 0.5, 1.0, 0.0, eps_root=eps_root, bounds=self._bounds)  # refuses another eps_root

    @property
    def m(self) -> FloatArray:
        """The first moments (P,), not corrected, rounded to 53 significant bits."""
        m: FloatArray = self._state.moments[0] * AdamRule.moments[0].spacing.step
        return m

    @property
    def s(self) -> FloatArray:
        """The second moments (P,), not corrected, rounded to 53 significant bits."""
        s: FloatArray = self._state.moments[1] * AdamRule.moments[1].spacing.step
        return s

    @exclusive
    def step(
        self,
        g: npt.ArrayLike | Gradient,
        lr: npt.ArrayLike,
        beta1: npt.ArrayLike = 0.9,
        beta2: npt.ArrayLike = 0.999,
        eps: npt.ArrayLike = 1e-8,
        weight_decay: npt.ArrayLike = 0.0,
    ) -> None:
        """Make a step.

        Parameters
        ----------
        g : (P,) array_like, or a function from (P,) parameters to it
            The gradient at the current parameters.
        lr, beta1, beta2, eps, weight_decay : float or (G,) array_like
            As of `Adam`, of all parameters or of each group.

        Raises
        ------
        DivergenceError
            If the step would leave the grid, or the mean of the squared gradient its own.  Nothing has changed then.
        """
        states.make_row(self._progress, self.steps + 1)
        rule, progress = self._rule(self.steps, lr, beta1, beta2, eps, weight_decay)
        self._progress[self.steps + 1] = progress.reshape(-1)  # which counts once the step is made
        self._make(rule, rule.record(), g)

    @exclusive
    def unstep(
        self,
        g: npt.ArrayLike | Gradient,
        lr: npt.ArrayLike,
        beta1: npt.ArrayLike = 0.9,
        beta2: npt.ArrayLike = 0.999,
        eps: npt.ArrayLike = 1e-8,
        weight_decay: npt.ArrayLike = 0.0,
    ) -> FloatArray:
        """Undo ``step(g, lr, ...)``.

        Parameters
        ----------
        g : (P,) array_like, or a function from (P,) parameters to it
            The gradient that the step was made with: the same bits.  A function is called with the parameters from
            before the step.
        lr, beta1, beta2, eps, weight_decay : float or (G,) array_like
            As in the step.

        Returns
        -------
        (P,) float64 ndarray
            The parameters from before the step, at which the gradient was taken.

        Raises
        ------
        ReversalError
            If that is not what it would do: no step is left to undo, or the last one was made with other numbers or
            another gradient.  Nothing has changed then.
        """
        return self._undo(self._rule_of_last_step(lr, beta1, beta2, eps, weight_decay), g)

    @exclusive
    def backward(
        self,
        g: npt.ArrayLike | Gradient,
        hvp: HessianProduct,
        later: npt.ArrayLike | AdamPullback,
        *,
        lr: npt.ArrayLike,
        beta1: npt.ArrayLike = 0.9,
        beta2: npt.ArrayLike = 0.999,
        eps: npt.ArrayLike = 1e-8,
        weight_decay: npt.ArrayLike = 0.0,
    ) -> AdamPullback:
        """Undo ``step(g, lr, ...)``, and pull the derivatives of a loss back through it.

        Parameters
        ----------
        g, lr, beta1, beta2, eps, weight_decay
            As in `unstep`.
        hvp : function from (P,) parameters w and a (P,) direction u to (P,) array_like
            The derivative of the gradient at w in the direction u: the Hessian times u.
        later : (P,) array_like, or AdamPullback
            The derivative of the loss by the parameters after the step; or what this method returned for the step after
            it, which holds those by the moments as well.

        Returns
        -------
        AdamPullback
            The derivatives by what was before the step, and by this step's numbers.

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

        Examples
        --------
        The loss is the sum of all parameters after two steps, of which each goes down on ``w @ w / 8``:

        >>> import fastrev
        >>> adam = fastrev.ReversibleAdam([1.0, 2.0])
        >>> for lr in 0.5, 0.25:
        ...     adam.step(adam.w / 4, lr)
        >>> later = [1.0, 1.0]
        >>> for lr in 0.25, 0.5:
        ...     later = adam.backward(lambda w: w / 4, lambda w, u: u / 4, later, lr=lr)
        ...     print(lr, round(float(later.lr), 6))
        0.25 -1.914755
        0.5 -1.911387
        """
        size, groups = self._state.w.size, self._bounds.size - 1
        rule = self._rule_of_last_step(lr, beta1, beta2, eps, weight_decay)
        sums, dm = rule.new_adjoint(), np.zeros((2, size))
        if isinstance(later, AdamPullback):
            dw = arguments.parameters("later.w_bar", later.w_bar, size).copy()
            dm[0] = arguments.parameters("later.m_bar", later.m_bar, size)
            dm[1] = arguments.parameters("later.s_bar", later.s_bar, size)
            products = arguments.real_array("later.products_bar", later.products_bar)
            if products.shape != (2, groups):
                raise arguments.fault("later.products_bar", f"have shape (2, {groups})", f"shape {products.shape}")
            sums.product1[0], sums.product2[0] = products
        else:
            dw = arguments.parameters("later", later, size).copy()
        w, u = self._undo_and_pull(rule, g, hvp, dw, dm, sums)
        products_bar = np.concatenate([sums.product1, sums.product2])
        by_number = {name: each[0] if np.ndim(each) else each for name, each in rule.gradients(sums).items()}
        m_bar, s_bar = dm
        return AdamPullback(dw, m_bar, s_bar, products_bar, w=w, u=u, **by_number)

    def _rule_of_last_step(self, *numbers: npt.ArrayLike) -> AdamRule:
        """What the last step was made with, if these are its numbers."""
        made = self._of_last_step()
        rule, _ = self._rule(self.steps - 1, *numbers)
        for name, was, now in zip(AdamRule.names, made, rule.record(), strict=True):
            if was != now:
                self._refuse(f"another {name}")
        return rule

    def _rate_of(self, rule: Rule, parameter: int) -> tuple[str, str]:
        group = int(np.searchsorted(self._bounds, parameter, side="right")) - 1
        return f"lr = {rate_at(rule, 0, group):g}", self._groups[group]

    def _rule(self, step: int, *numbers: npt.ArrayLike) -> tuple[AdamRule, FloatArray]:
        """The rule of one step, and the progress after it."""
        groups = self._bounds.size - 1
        tables = {name: _by_group(name, value, groups) for name, value in zip(AdamRule.names, numbers, strict=True)}
        rule = adam.prepare(**tables, eps_root=self._eps_root, bounds=self._bounds)
        return rule.after(self._progress[step].reshape(3, groups))


def _by_group(name: str, value: npt.ArrayLike, groups: int) -> FloatArray:
    """A number of one step, or (1, G)."""
    array = arguments.real_array(name, value)
    if array.shape not in ((), (groups,)):
        raise arguments.fault(name, f"be a number or have shape ({groups},), one per group", f"shape {array.shape}")
    return array.reshape(1, groups) if array.ndim else array
