"""The ratios that stand for decays."""

from __future__ import annotations

import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.hyperparameters import FINITE_DECAYS, Table, decays, ratios
from fastrev._engine.types import Ints


def ratio(decay: npt.ArrayLike) -> tuple[int, int] | tuple[Ints, Ints]:
    """The ratio n/d by which the exact arithmetic stands for a decay: the nearest with d <= 65536.

    Parameters
    ----------
    decay : float or array_like
        In (0, 1], of any shape.

    Returns
    -------
    n, d : int, or int64 ndarray of the shape of `decay`
        Without a common divisor.

    Raises
    ------
    ArgumentError
        If a decay is not in (0, 1], is below 2**-16, or is below 1 by more than 1e-9 and so close to it that its ratio
        is 1/1.

    Examples
    --------
    >>> import fastrev
    >>> fastrev.ratio(0.9)
    (9, 10)
    >>> a = fastrev.ReversibleArray([1.0, 2.0])
    >>> a.mul(*fastrev.ratio([0.5, 0.99]))
    >>> a.value
    array([0.5 , 1.98])
    """
    values = arguments.real_array("decay", decay, own=True, remedy=FINITE_DECAYS)
    n, d = ratios(decays(Table("decay", values, values.shape)))
    return (n, d) if n.shape else (int(n), int(d))
