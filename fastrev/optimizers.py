"""The optimizers by which a model can be trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy.typing as npt

from fastrev._engine import sgd
from fastrev._engine.rule import Rule
from fastrev._engine.types import Ints


@dataclass(frozen=True, eq=False)
class SGD:
    """SGD with momentum, which ``lr=, decay=`` are the short form of.

    A step with the gradient g is::

        v <- decay * v - (1 - decay) * g          w <- w + lr * v

    Parameters
    ----------
    lr : float or (T,), (T, 1), (1, G), (T, G) array_like
        Learning rates, not negative: of all, per step, per parameter group, or both.
    decay : float or array_like, as lr
        Momentum decays in (0, 1].  Each is replaced by the nearest ratio n/d with d <= 65536 (`fastrev.ratio`).

    Examples
    --------
    >>> import numpy as np, fastrev
    >>> model = fastrev.MLP((2, 3), loss="squared_error")
    >>> data = np.eye(2), np.ones((2, 3))
    >>> result = fastrev.meta_grad(
    ...     model, model.init(seed=0), train=data, valid=data, optimizer=fastrev.SGD(lr=0.1, decay=0.9), steps=20)
    >>> result.grad.lr == fastrev.meta_grad(
    ...     model, model.init(seed=0), train=data, valid=data, lr=0.1, decay=0.9, steps=20).grad.lr
    True
    """

    lr: npt.ArrayLike
    decay: npt.ArrayLike

    def rule(self, bounds: Ints) -> Rule:
        """Its hyperparameters, checked for parameter groups that lie between the bounds (G + 1,)."""
        return sgd.prepare(self.lr, self.decay, bounds)
