"""What the kernels work in: allocated once a run, here and nowhere else."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fastrev.kernels import handover
from fastrev.kernels.information_buffer import BLOCK
from fastrev.kernels.mlp_gradient import ROWS
from fastrev.kernels.structures import Record, Tangents, Workspace

if TYPE_CHECKING:
    from fastrev.mlp import MLP

# Small steps may run several ahead, within the L2 cache: longer rings gained nothing
_RING_BYTES = 2**19
_RING_STEPS = 2, 16


def record_for(model: MLP, examples: int) -> Record:
    """For batches of up to `examples` rows, with nobody to read it."""
    return _record(model, examples, slots=1)


def ring_for(model: MLP, examples: int) -> Record:
    """The same for a reader: room for two steps or more."""
    step = sum(array.nbytes for array in _record(model, examples, slots=1))
    return _record(model, examples, slots=int(np.clip(_RING_BYTES // step, *_RING_STEPS)))


def _record(model: MLP, examples: int, slots: int) -> Record:
    rows = min(ROWS, examples)
    sizes, dtype = model.sizes, model.dtype
    width, k = sum(sizes[1:]), sizes[-1]
    progress = np.zeros(handover.PROGRESS, np.int64)
    if slots == 1:
        progress[[handover.BLOCKS_READ, handover.STEPS_READ]] = np.iinfo(np.int64).max
    return Record(
        w=np.empty((slots, model.num_params), dtype),
        v=np.empty((slots, model.num_params), dtype),
        g=np.empty((slots, model.num_params), dtype),
        act=np.empty((slots, rows * width), dtype),
        mean=np.empty((slots, rows * k), dtype),
        delta=np.empty((slots, rows * width), dtype),
        progress=progress,
    )


def workspace_for(model: MLP, gathered: int = 0, inputs: bool = False) -> Workspace:
    """For one thread; with room for `gathered` rows from anywhere in the data, and for derivatives by the `inputs`."""
    layers = list(pairwise(model.sizes))[0 if inputs else 1 :]
    gathered = min(ROWS, gathered)
    return Workspace(
        x=np.empty(gathered * model.sizes[0], model.dtype),
        y=np.empty(gathered * model.sizes[-1], model.dtype),
        weights=np.empty(gathered, model.dtype),
        across=np.empty(max((a * b for a, b in layers), default=0), model.dtype),
        one=np.ones(1, model.dtype),
        scratch=np.empty(2 * BLOCK),
    )


def tangents_for(model: MLP, examples: int, inputs: bool) -> Tangents:
    """Scratch of the R-operator passes over batches of up to `examples` rows."""
    rows = min(ROWS, examples)
    sizes, dtype = model.sizes, model.dtype
    width, k = sum(sizes[1:]), sizes[-1]
    return Tangents(
        u=np.empty(model.num_params, dtype),
        hu=np.empty(model.num_params, dtype),
        act=np.empty(rows * width, dtype),
        delta=np.empty(rows * width, dtype),
        bend=np.empty(rows * (width - k), dtype),
        x=np.empty(rows * sizes[0] if inputs else 0, dtype),
    )
