"""The optimizers by which a model can be trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from fastrev._engine import adam, arguments, sgd
from fastrev._engine.equality import compared_by_value
from fastrev._engine.optimizer import Optimizer, described
from fastrev._engine.rule import Rule
from fastrev._engine.types import Ints


@compared_by_value
@dataclass(frozen=True, eq=False, repr=False)
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
    >>> result == fastrev.meta_grad(
    ...     model, model.init(seed=0), train=data, valid=data, lr=0.1, decay=0.9, steps=20)
    True
    """

    lr: npt.ArrayLike
    decay: npt.ArrayLike

    kind: ClassVar[type[Rule]] = sgd.SGDRule
    usual: ClassVar[Mapping[str, float]] = {"lr": 0.1, "decay": 0.9}

    def __repr__(self) -> str:
        return described(self)

    def rule(self, bounds: Ints) -> Rule:
        """Its hyperparameters, checked for parameter groups that lie between the bounds (G + 1,)."""
        return sgd.prepare(self.lr, self.decay, bounds)


@compared_by_value
@dataclass(frozen=True, eq=False, repr=False)
class Adam:
    """Adam, and with `weight_decay` AdamW; with ``eps_root=0`` they are PyTorch's.

    A step t = 0, 1, ... with the gradient g is::

        m <- beta1 * m + (1 - beta1) * g          s <- beta2 * s + (1 - beta2) * g**2
        w <- (1 - lr * weight_decay) * w
        w <- w - lr * m_hat / (sqrt(s_hat + eps_root) + eps)

    with ``m_hat = m / (1 - beta1**(t + 1))`` and ``s_hat = s / (1 - beta2**(t + 1))``, by products of the betas where
    these change with t.

    Parameters
    ----------
    lr : float or (T,), (T, 1), (1, G), (T, G) array_like
        Learning rates, not negative: of all, per step, per parameter group, or both.
    beta1, beta2 : float or array_like, as lr
        Decays of the two moments, between 0 and 1.  Each is replaced by the nearest ratio n/d with d <= 65536
        (`fastrev.ratio`).
    eps : float or array_like, as lr
        Added to the root, not negative.
    eps_root : float
        Added under the root, not negative.  PyTorch's Adam is that of ``eps_root=0``; see the notes.
    weight_decay : float or array_like, as lr
        Decay of the weights, not negative: that of AdamW, decoupled from the gradient.

    Notes
    -----
    Where a gradient is 0 the root has no derivative, and where it is small a large one: without `eps_root` training
    itself depends on the last digits of g**2, and meta-gradients on little else.  The second moment is kept to 2**-62.
    On digits 200 steps come within 1e-10 of the same formula in floats by the default, the gradient by w0 within 1e-9
    of JAX's; with ``eps_root=0`` they are within 3e-5 and 1e-2 (`python -m bench.adam_accuracy`).

    The reversal itself is exact in every case.  A parameter whose gradient is always 0 stays where it is and has no
    part in any derivative but that by `weight_decay`.

    s is below 2: gradients above 1.4 in magnitude that stay are refused, and so is one above 45 at the default beta2.
    Scale the loss down otherwise: by c, with eps by c and eps_root by c**2, the steps are the same.

    References
    ----------
    D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.

    Examples
    --------
    >>> import numpy as np, fastrev
    >>> model = fastrev.MLP((2, 3), loss="squared_error")
    >>> data = np.eye(2), np.ones((2, 3))
    >>> result = fastrev.meta_grad(
    ...     model, model.init(seed=0), train=data, valid=data, optimizer=fastrev.Adam(lr=0.01), steps=20)
    >>> result.stats.exact, float(result.grad.lr) < 0, result.grad.w0.shape
    (True, True, (9,))
    """

    lr: npt.ArrayLike
    beta1: npt.ArrayLike = 0.9
    beta2: npt.ArrayLike = 0.999
    eps: npt.ArrayLike = 1e-8
    eps_root: float = 1e-8
    weight_decay: npt.ArrayLike = 0.0

    kind: ClassVar[type[Rule]] = adam.AdamRule
    usual: ClassVar[Mapping[str, float]] = {"lr": 0.001}

    def __repr__(self) -> str:
        return described(self)

    def rule(self, bounds: Ints) -> Rule:
        """Its hyperparameters, checked for parameter groups that lie between the bounds (G + 1,)."""
        return adam.prepare(
            self.lr, self.beta1, self.beta2, self.eps, self.weight_decay, eps_root=self.eps_root, bounds=bounds
        )


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
        raise arguments.fault(
            "optimizer", "be a fastrev.SGD or fastrev.Adam", arguments.shown(optimizer), _why_not(optimizer) or instead
        )
    return optimizer


def _why_not(optimizer: object) -> str:
    """Why what goes by this name cannot be taken back, or what to pass instead; empty if nothing is known of it."""
    kind = optimizer if isinstance(optimizer, type) else type(optimizer)
    name = optimizer if isinstance(optimizer, str) else kind.__name__
    if name.lower() == "adamw":
        return "Pass fastrev.Adam(lr=0.001, weight_decay=0.01): with weight_decay it is AdamW."
    if _uses_nesterov(optimizer):
        name = "Nesterov's momentum"
    elif not any(each in name.lower() for each in _IRREVERSIBLE):
        return ""
    return (
        f"{name} cannot be taken back exactly: what its step adds depends on the gradient at the very weights that are "
        "to be found when it is undone. SGD with momentum and Adam move by what their moments have become."
    )


def _uses_nesterov(optimizer: object) -> bool:
    """Whether it is one of PyTorch's that does."""
    defaults = getattr(optimizer, "defaults", None)
    return isinstance(defaults, dict) and bool(defaults.get("nesterov"))


_IRREVERSIBLE = "nesterov", "nadam", "rmsprop", "lion", "adagrad", "adadelta", "adamax"


BY_NAME: dict[str, Any] = {each.__name__: each for each in (SGD, Adam)}
