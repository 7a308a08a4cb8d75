"""A share of the training examples that a run does not train on, drawn by its seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments
from fastrev._engine.examples import as_pair
from fastrev._engine.types import Ints
from fastrev.mlp import MLP


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


def held_out(model: Any, valid: Any, given: Mapping[str, Any]) -> HeldOut:
    """The argument `valid` as a share of the training examples, which are checked."""
    if not isinstance(model, MLP):
        raise arguments.fault(
            "valid", "be a function where the model is a fastrev.Objective", f"{valid}",
            "A share of the training examples can be held out where the model is a fastrev.MLP.",
        )  # fmt: skip
    if isinstance(valid, bool) or not 0 < valid < 1:
        raise arguments.fault(
            "valid", "be a pair (X, Y), a function, or a share of the training examples between 0 and 1", f"{valid}"
        )
    if given["batches"] is not None:
        raise arguments.fault(
            "batches", "be left out where valid is a share, which each run draws anew", "given", "Pass batch_size."
        )
    data, examples = as_pair(model, "train", given["train"], given["example_weights"])
    if examples < 2:
        raise arguments.fault("train", "hold at least 2 examples, one of which is held out", f"{examples}")
    if (data.weights <= 0).any():
        raise arguments.fault(
            "example_weights", "be above 0 where valid is a share", f"{data.weights.min():g}",
            "What weighs nothing validates nothing: leave such examples out.",
        )  # fmt: skip
    classes = data.y.reshape(examples, -1).argmax(axis=1) if model.loss == "cross_entropy" else np.zeros(examples)
    found = HeldOut(float(valid), classes.astype(np.int64))
    kept, size = len(found.split(0)[0]), given["batch_size"]
    if size is not None and arguments.count("batch_size", size) > kept:
        raise arguments.fault(
            "batch_size", f"be at most {kept}, the training examples that are not held out", f"{size}",
            "Leave it out to train on all of them at every step.",
        )  # fmt: skip
    return found


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
