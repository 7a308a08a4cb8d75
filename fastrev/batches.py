"""The mini-batches that `batch_size` and `seed` stand for."""

from __future__ import annotations

from fastrev._engine import arguments
from fastrev._engine.batches import Rows, ShuffledBatches


def minibatches(examples: int, batch_size: int, steps: int, seed: int = 0) -> Rows:
    """The row indices that `batch_size` and `seed` stand for in `meta_grad` and `train`.

    Epochs of shuffled batches, each example at most once an epoch; the ``examples % batch_size`` examples that do not
    fill a batch are left out of their epoch, others in each.

    Parameters
    ----------
    examples : int
        N, the number of training examples.
    batch_size : int
        B, from 1 to N.
    steps : int
        T, the number of batches.
    seed : int
        Of the shuffles, not negative.

    Returns
    -------
    (T, B) int64 ndarray

    Raises
    ------
    ArgumentError
        If an argument is at fault.

    Examples
    --------
    >>> from fastrev import minibatches
    >>> minibatches(examples=6, batch_size=2, steps=4).shape
    (4, 2)
    """
    shuffled = ShuffledBatches(arguments.count("examples", examples), batch_size, seed)
    return shuffled.rows(0, arguments.count("steps", steps))
