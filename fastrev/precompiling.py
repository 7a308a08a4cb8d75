"""Compiling before there is anything to compute."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.optimizer import Optimizer
from fastrev._engine.types import FloatArray
from fastrev._files.shelf import compile_moves
from fastrev.errors import DivergenceError
from fastrev.meta_gradient import meta_grad
from fastrev.mlp import MLP
from fastrev.optimizers import SGD, optimizer_of
from fastrev.training import train


def compile(dtype: npt.DTypeLike | None = None, *, optimizer: Optimizer | None = None) -> None:
    """Compile all that training, meta-gradients and losses need, and keep it on disk for every process to come.

    Call it before runs fan out to other processes, each of which would compile for itself otherwise, and while the
    image of a container is built.  It takes some 20 seconds a precision, and less than one where all is there already.
    What is kept, in ``NUMBA_CACHE_DIR`` if that is set, serves processors of the same kind only.

    Parameters
    ----------
    dtype : {numpy.float64, numpy.float32}, optional
        The precision of networks; models of one's own are always seen to.  Default: both.
    optimizer : SGD or Adam, optional
        What is to make the steps, whatever the numbers in it.  Default: SGD, all that `lr` and `decay` need.

    Raises
    ------
    ArgumentError
        If it is another dtype, or no optimizer.

    Warns
    -----
    RuntimeWarning
        If there is no folder that the code can be written to.

    Examples
    --------
    >>> import numpy as np, fastrev
    >>> fastrev.compile(np.float64)
    >>> fastrev.compile(np.float64, optimizer=fastrev.Adam(lr=0.001))
    """
    kind: Any = SGD if optimizer is None else type(optimizer_of(None, None, optimizer))
    plain = kind(**kind.usual)
    precisions = [arguments.precision(each) for each in ((np.float64, np.float32) if dtype is None else (dtype,))]
    for each in precisions:
        _use_a_network(each, plain)
    meta_grad(_Still(), [0.0], valid=lambda w: (0.0, w), optimizer=plain, steps=1)
    compile_moves()


def _use_a_network(dtype: np.dtype[np.floating], optimizer: Optimizer) -> None:
    """Make the smallest calls that come to all kernels; other numbers and shapes compile nothing new."""
    model = MLP((1, 1, 2), dtype=dtype)
    w, data = np.zeros(model.num_params), (np.zeros((2, 1)), np.array([0, 1]))
    meta_grad(model, w, train=data, valid=data, optimizer=optimizer, steps=2, batch_size=1)
    model.loss_value(w, *data)
    with suppress(DivergenceError):  # what takes back a step that is refused
        train(model, w, train=data, optimizer=optimizer, steps=1, example_weights=[1e30, 1e30])


class _Still:
    """An objective that does not move."""

    num_params = 1

    def grad(self, w: FloatArray, t: int) -> FloatArray:
        return np.zeros(1)

    def hvp(self, w: FloatArray, u: FloatArray, t: int) -> FloatArray:
        return np.zeros(1)
