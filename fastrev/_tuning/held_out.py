"""A share of the training examples that a run does not train on, drawn by its seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastrev._engine.types import Ints


@dataclass(frozen=True)
class HeldOut:
    """What each run holds out.

    Attributes
    ----------
    share : float
        Between 0 and 1.
    strata : (N,) int64 ndarray
        The class of each example, of each of which the same share is held out.
    """

    share: float
    strata: Ints

    def split(self, seed: int) -> tuple[Ints, Ints]:
        """Rows to train on, and rows to validate on."""
        return split(self.strata, self.share, seed)


def split(strata: Ints, share: float, seed: int) -> tuple[Ints, Ints]:
    """Rows to train on and rows that are held out, each in order; of every seed as many.

    Parameters
    ----------
    strata : (N,) int64 ndarray
        The class of each example, of each of which the same share is held out; at least two examples.
    share : float
        Between 0 and 1.
    seed : int
        Of the draw.
    """
    rows = np.random.default_rng((seed, _PURPOSE)).permutation(strata.size)
    rows = rows[np.argsort(strata[rows], kind="stable")]  # one stratum after the other, each in random order
    counts = np.unique(strata, return_counts=True)[1]
    rank = np.arange(strata.size) - np.repeat(np.cumsum(counts) - counts, counts)
    out = rank < np.repeat(quotas(counts, share), counts)
    return np.sort(rows[~out]), np.sort(rows[out])


def quotas(counts: npt.NDArray[np.intp], share: float) -> Ints:
    """How many of each stratum are held out, by largest remainders: at least one in all, and never all of one.

    Where no stratum has two examples, the one is of the first.
    """
    wanted = share * counts
    quota = np.minimum(wanted.astype(np.int64), counts - 1)
    total = max(1, round(share * int(counts.sum())))
    for stratum in np.argsort(quota - wanted, kind="stable"):
        if quota.sum() < total and quota[stratum] < counts[stratum] - 1:
            quota[stratum] += 1
    if not quota.any():
        quota[0] = 1
    return quota


_PURPOSE = 1  # beside the seeds of weights and batches
