"""Compiling before there is anything to compute."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.types import FloatArray
from fastrev.meta_gradient import meta_grad
from fastrev.mlp import MLP


def compile(dtype: npt.DTypeLike | None = None) -> None:
    """Compile all that training, meta-gradients and losses need, and keep it on disk for every process to come.

    Call it before runs fan out to other processes, each of which would compile for itself otherwise, and while the
    image of a container is built.  It takes some 20 seconds a precision, and less than one where all is there already.
    What is kept, in ``NUMBA_CACHE_DIR`` if that is set, serves processors of the same kind only.

    Parameters
    ----------
    dtype : {numpy.float64, numpy.float32}, optional
        The precision of networks; models of one's own are always seen to.  Default: both.

    Raises
    ------
    ArgumentError
        If it is another dtype.

    Warns
    -----
    RuntimeWarning
        If there is no folder that the code can be written to.

    Examples
    --------
    >>> import numpy as np, fastrev
    >>> fastrev.compile(np.float64)
    """
    precisions = [arguments.precision(each) for each in ((np.float64, np.float32) if dtype is None else (dtype,))]
    for each in precisions:
        _use_a_network(each)
    meta_grad(_Still(), [0.0], valid=lambda w: (0.0, w), lr=0.1, decay=0.5, steps=1)


def _use_a_network(dtype: np.dtype[np.floating]) -> None:
    """Make the smallest calls that come to all kernels; other numbers and shapes compile nothing new."""
    model = MLP((1, 1, 2), dtype=dtype)
    w, data = np.zeros(model.num_params), (np.zeros((2, 1)), np.array([0, 1]))
    meta_grad(model, w, train=data, valid=data, lr=0.1, decay=0.5, steps=2, batch_size=1)
    model.loss_value(w, *data)


class _Still:
    """An objective that does not move."""

    num_params = 1

    def grad(self, w: FloatArray, t: int) -> FloatArray:
        return np.zeros(1)

    def hvp(self, w: FloatArray, u: FloatArray, t: int) -> FloatArray:
        return np.zeros(1)
