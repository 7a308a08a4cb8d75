"""A training as a node of PyTorch's graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastrev._engine.extras import require
from fastrev._engine.optimizer import Optimizer
from fastrev._engine.validation import Validation
from fastrev.mlp import MLP
from fastrev.objective import Objective


def validation_loss(
    model: MLP | Objective,
    w0: Any,
    *,
    train: tuple[Any, Any] | None = None,
    valid: tuple[Any, Any] | Validation,
    lr: Any = None,
    decay: Any = None,
    optimizer: Optimizer | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    batches: Any = None,
    l2: Any = 0.0,
    v0: Any = None,
    example_weights: Any = None,
    theta: Mapping[str, Any] | None = None,
    truncate: int | None = None,
) -> Any:
    """The validation loss after a whole training, as one node of PyTorch's graph.

    Arguments are those of `fastrev.meta_grad`, of the same shapes.  Each array may be a tensor, of any device, and is
    differentiated by if it requires a gradient; NumPy's arrays and floats are constants.

    Parameters
    ----------
    model : MLP or Objective
        Also an objective of `fastrev.interop`.
    w0 : (P,) tensor
        Initial weights.
    train : pair (X, Y) of tensors
        Training inputs (N, D) and targets: (N, K), or (N,) int classes, which have no derivative.
    valid : pair (X, Y) of tensors, or function
        Validation examples, which are not differentiated by; or a function from the final weights (P,) to a pair of
        loss and gradient (P,), in NumPy, or an objective of `fastrev.interop`.  One loss, not a list of them.
    lr, decay : float or (T,), (T, 1), (1, G), (T, G) tensor
        Learning rates and momentum decays.
    optimizer : SGD or Adam, optional
        In place of these, with tensors in it.
    steps, batch_size, seed : int, optional
        As in `fastrev.meta_grad`.
    batches : (T, B) tensor of int, optional
        Rows of the training examples to train on.
    l2 : float, (G,) or (P,) tensor
        Penalty coefficients.
    v0 : (P,) tensor, optional
        Initial velocity; default zero.
    example_weights : (N,) tensor, optional
        Weights of the training examples; default one.
    theta : dict of str to tensor, optional
        Of an Objective, other values of some or all of its hyperparameters.
    truncate : int, optional
        Differentiate through the last `truncate` steps only.

    Returns
    -------
    torch.Tensor
        The loss, a scalar, on the device of `w0`, or else of another tensor.  Its dtype is that of all floating tensors
        together by `torch.promote_types`, float64 without any; each gradient has its tensor's dtype and device.

    Raises
    ------
    MissingExtraError
        If PyTorch is not installed.
    ArgumentError
        If an argument is at fault, or validation examples require a gradient; on the way back, if a gradient of this
        loss is differentiated again.
    DivergenceError
        If a step is refused.

    Warns
    -----
    ChaosWarning
        If the derivatives exploded on their way back, as in `fastrev.meta_grad`.

    Notes
    -----
    With L the loss and ``x`` a tensor, the node hands on ``L_bar * dL/dx``.  dL/dx is computed with L itself, by one
    run there and back, for those tensors that require a gradient alone; where none does, and under `torch.no_grad`,
    there is the training only.  From then on these derivatives are kept, until they are handed on, and none of the
    tensors: they may change in place.  (PyTorch itself keeps those whose ``grad`` it is to fill in, as in any graph.)

    `torch.func.grad` and `torch.func.vmap` know the node, in any order; `vmap` trains one row after the other.
    `torch.compile` leaves it out of what it compiles.  A second derivative raises an error, as does forward mode.

    `torch.autograd.gradcheck` needs ``eps=1e-4``: decays are rounded to ratios n/d (`fastrev.ratio`), which its
    differences over the usual 1e-6 would see.

    References
    ----------
    D. Maclaurin, D. Duvenaud, R. P. Adams, "Gradient-based Hyperparameter Optimization through Reversible Learning",
    ICML 2015.

    Examples
    --------
    The derivative by two numbers of which a schedule is made:

    >>> import numpy as np, torch, fastrev
    >>> from fastrev.interop.torch import validation_loss
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 5))
    >>> Y = (X.sum(axis=1) > 0).astype(int)
    >>> model = fastrev.MLP((5, 8, 2))
    >>> log_rate, slope = torch.tensor(-1.0, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    >>> lr = torch.exp(log_rate - slope * torch.linspace(0, 1, 20))
    >>> loss = validation_loss(
    ...     model, model.init(seed=0), train=(X[:150], Y[:150]), valid=(X[150:], Y[150:]), lr=lr, decay=0.9)
    >>> loss.backward()
    >>> loss.dtype, log_rate.grad.shape, bool(slope.grad > 0)
    (torch.float32, torch.Size([]), True)
    """
    require("torch", "torch", "fastrev.interop.torch")
    return require("fastrev.interop._torch_function", "torch", "fastrev.interop.torch").validation_loss(
        model, w0, train=train, valid=valid, lr=lr, decay=decay, optimizer=optimizer, steps=steps,
        batch_size=batch_size, seed=seed, batches=batches, l2=l2, v0=v0, example_weights=example_weights, theta=theta,
        truncate=truncate,
    )  # fmt: skip
