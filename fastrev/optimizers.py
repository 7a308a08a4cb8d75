"""The optimizers by which a model can be trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from fastrev._engine import arguments, sgd
from fastrev._engine.optimizer import Optimizer
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

    kind: ClassVar[type[Rule]] = sgd.SGDRule
    usual: ClassVar[Mapping[str, float]] = {"lr": 0.1, "decay": 0.9}

    def rule(self, bounds: Ints) -> Rule:
        """Its hyperparameters, checked for parameter groups that lie between the bounds (G + 1,)."""
        return sgd.prepare(self.lr, self.decay, bounds)


def optimizer_of(lr: npt.ArrayLike | None, decay: npt.ArrayLike | None, optimizer: Optimizer | None) -> Optimizer:
    """The optimizer, or the one that learning rates and decays are the short form of."""
    instead = "Pass lr=0.1, decay=0.9, say, or optimizer=fastrev.Adam(lr=0.001)."
    if optimizer is None:
        if lr is None or decay is None:
            missing = "lr" if lr is None else "decay"
            raise arguments.fault(missing, "be given where there is no optimizer", "None", instead)
        return SGD(lr, decay)
    for name, value in ("lr", lr), ("decay", decay):
        if value is not None:
            received = arguments.shown(value)
            raise arguments.fault(name, "be left out where there is an optimizer, which has its own", received)
    if isinstance(optimizer, type) or not callable(getattr(optimizer, "rule", None)):
        raise arguments.fault("optimizer", "be a fastrev.SGD or fastrev.Adam", arguments.shown(optimizer), instead)
    return optimizer


BY_NAME: dict[str, Any] = {each.__name__: each for each in (SGD,)}
