"""Which examples each step sees: always from the step's number alone, so that the reverse pass sees the same."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments

Rows = npt.NDArray[np.int64]


class Batches(Protocol):
    """A plan of batches over `examples` rows of data."""

    @property
    def size(self) -> int:
        """Examples in a batch."""
        ...

    @property
    def steps(self) -> int | None:
        """T, if the plan fixes it."""
        ...

    @property
    def table(self) -> npt.NDArray[np.integer]:
        """What the rows are taken from; empty where they follow from the seed."""
        ...

    @property
    def given(self) -> dict[str, Any]:
        """The arguments that ask for it, but for what is not theirs."""
        ...

    def rows(self, begin: int, end: int) -> Rows:
        """Row indices (end - begin, size) of the steps begin <= t < end; (0, 0) for all rows in order."""
        ...

    def drawn_from(self, examples: int) -> Batches:
        """The plan that the same arguments ask for with other data."""
        ...


class FullBatch:
    """All examples at every step."""

    steps: int | None = None
    table = np.empty(0, np.uint32)
    given: ClassVar[dict[str, Any]] = {}

    def __init__(self, examples: int) -> None:
        self.size = examples

    def rows(self, begin: int, end: int) -> Rows:
        """No indices: all rows."""
        return np.empty((0, 0), np.int64)

    def drawn_from(self, examples: int) -> FullBatch:
        """All of them."""
        return FullBatch(examples)


class GivenBatches:
    """Row indices (T, B) from the user."""

    steps: int | None

    def __init__(self, batches: npt.ArrayLike, examples: int) -> None:
        # the run's own: kernels index with it, and nobody may change it after these checks
        table = arguments.as_array("batches", batches).copy()
        if table.dtype.kind not in "iufb":
            raise arguments.fault("batches", "hold integer row indices", *arguments.not_whole(batches, table))
        if table.ndim != 2 or table.size == 0:
            raise arguments.fault(
                "batches", "have shape (T, B), B row indices for each of T steps", f"shape {table.shape}",
                "Pass it as batches[None] for one step, numpy.tile it for the same rows at every step."
                if table.ndim == 1 and table.size else "",
            )  # fmt: skip
        if table.dtype.kind not in "iu":
            raise arguments.fault("batches", "hold integer row indices", *arguments.not_whole(batches, table))
        if table.min() < 0 or table.max() >= examples:
            bad = table[(table < 0) | (table >= examples)][0]
            raise arguments.fault(
                "batches", f"hold row indices from 0 to {examples - 1}, of the {examples} training examples", f"{bad}",
                "Count the rows from 0.",
            )  # fmt: skip
        self.table: npt.NDArray[np.integer] = table.astype(np.uint32 if examples <= 2**32 else np.int64)
        self.steps, self.size = table.shape

    @property
    def given(self) -> dict[str, Any]:
        """The table."""
        return {"batches": self.table}

    def rows(self, begin: int, end: int) -> Rows:
        """A slice of the table."""
        return self.table[begin:end].astype(np.int64)

    def drawn_from(self, examples: int) -> GivenBatches:
        """Nobody but the user knows."""
        raise arguments.fault(
            "batches", "be left out where they are to be drawn again from other examples", "row indices",
            "Pass batch_size and seed.",
        )  # fmt: skip


class ShuffledBatches:
    """Epochs of shuffled mini-batches, without replacement; what does not fill a batch is left out of its epoch."""

    steps: int | None = None
    table = np.empty(0, np.uint32)

    def __init__(self, examples: int, batch_size: int, seed: int) -> None:
        self.size = arguments.count("batch_size", batch_size)
        if self.size > examples:
            raise arguments.fault(
                "batch_size", f"be at most {examples}, the number of training examples", f"{self.size}",
                "Leave it out to train on the full batch.",
            )  # fmt: skip
        self._seed = seed
        self._examples = examples
        self._per_epoch = examples // self.size

    @property
    def given(self) -> dict[str, Any]:
        """A size and a seed."""
        return {"batch_size": self.size, "seed": self._seed}

    def rows(self, begin: int, end: int) -> Rows:
        """The batches of some steps, from as many epochs as they touch."""
        first, last = begin // self._per_epoch, -(-end // self._per_epoch)
        skipped = begin - first * self._per_epoch
        if last == first + 1:
            return self._epoch(first)[skipped : skipped + end - begin].copy()
        epochs = [self._epoch(epoch) for epoch in range(first, last)]
        return np.concatenate(epochs)[skipped : skipped + end - begin]

    def drawn_from(self, examples: int) -> ShuffledBatches:
        """Shuffled by the same seed."""
        return ShuffledBatches(examples, self.size, self._seed)

    def _epoch(self, epoch: int) -> Rows:
        draw = _kept_order if self._examples <= _FEW else _order
        order = draw(self._seed, epoch, self._examples)
        return order[: self._per_epoch * self.size].reshape(self._per_epoch, self.size)


def _order(seed: int, epoch: int, examples: int) -> Rows:
    # A generator of its own for each epoch: the reverse pass asks for the last one first.
    return np.random.default_rng((seed, epoch)).permutation(examples)


# The way back asks for the epochs of the way there, and the next run of the same seed for the same ones.  To make a
# generator takes 9 us, of a call of one tiny step some 5 % each time (`python -m bench.calls`); many examples take much
# longer to train on.  At most 64 times 64 KB are kept, and `rows` gives copies of them away.
_FEW = 2**13
_kept_order = lru_cache(maxsize=64)(_order)


def plan(examples: int, batch_size: int | None, seed: int, batches: npt.ArrayLike | None) -> Batches:
    """The plan that the arguments `batch_size`, `seed` and `batches` ask for."""
    arguments.whole("seed", seed, 0)
    if batches is None:
        return FullBatch(examples) if batch_size is None else ShuffledBatches(examples, batch_size, seed)
    if batch_size is not None:
        raise arguments.fault(
            "batches", "not be given together with batch_size", f"both (batch_size={batch_size!r})",
            "Pass batches for row indices of your own, batch_size and seed for shuffled epochs.",
        )  # fmt: skip
    return GivenBatches(batches, examples)
