"""What the kernels work in: allocated once a run, here and nowhere else."""

from __future__ import annotations

import numpy as np

from fastrev._engine.architecture import Architecture
from fastrev._engine.state import new_scratch
from fastrev._engine.types import Ints
from fastrev.kernels import handover
from fastrev.kernels.mlp_gradient import ROWS
from fastrev.kernels.structures import Passes, Record, Steps, Tangents, Workspace

# Small steps may run several ahead, within the L2 cache: longer rings gain nothing (`python -m bench.choices ring`)
_RING_BYTES = 2**19
_RING_STEPS = 2, 16
# With two, blocks of 256 rows and of one by turns leave each thread waiting for the other: 1.8 times as long at 257
# rows (`python -m bench.choices blocks_ahead`)
_RING_BLOCKS = 3
# Many losses: steps on record while all their adjoints come through them, and adjoints that stay in the L2 cache
# meanwhile.  W2 takes 6.3 us a step and loss with 4 steps and 2 losses, 5.0 with 16 and 8, 5.3 with 64 and 32; W1 cares
# less (`python -m bench.choices blocks`)
_RECORD_BYTES, _RECORD_STEPS = 3 * 2**19, (2, 256)
_BLOCK_BYTES, _BLOCK_LOSSES = 2**19, (4, 16)
_LARGE_BYTES = 2**24  # of whole steps beyond this there is no second one beside the first: two threads then take turns

_SMALL = 2**14  # numbers, of which there are some in each of the arrays
_ALL = 2**63 - 1  # of blocks or steps


def is_small(model: Architecture, examples: int) -> bool:
    """Whether what kernels work in takes less than a megabyte or so, and more time to make than can be neglected."""
    return model.num_params + examples * (model.sizes[0] + model.width) <= _SMALL


def passes_for(model: Architecture, examples: int) -> Passes:
    """For the passes over a block of up to `examples` examples."""
    act, mean, delta = _passes(model, examples, 1)
    return Passes(act[0], mean[0], delta[0])


def lone_record(model: Architecture, moments: int, examples: int) -> Record:
    """For so many moments, and batches of up to `examples` rows, with nobody to read it."""
    return Record(_steps(model, moments, 1), _passes(model, examples, 1), _unread())


def ring(model: Architecture, moments: int, examples: int, *, whole: bool) -> Record:
    """The same for a reader on another thread: room for two steps, and two blocks of examples, or more.

    Of a `whole` step all blocks lie there, for a reader that begins when the last one was written.
    """
    blocks = -(-examples // ROWS) if whole else 1
    step = _step_bytes(model, moments, examples, blocks)
    slots = 1 if whole and step > _LARGE_BYTES else int(np.clip(_RING_BYTES // step, *_RING_STEPS))
    passes = _passes(model, examples, slots * blocks if whole else max(slots, _RING_BLOCKS))
    return Record(_steps(model, moments, slots), passes, np.zeros(handover.PROGRESS, np.int64))


def whole_steps(model: Architecture, moments: int, examples: int, most: int = 256) -> tuple[Record, int]:
    """The same for a reader on the same thread, which reads whole steps only; and how many at a time, at `most`."""
    progress = np.zeros(handover.PROGRESS, np.int64)
    (record,), slots = _whole_steps(model, moments, examples, progress, 1, _RING_BYTES, (1, most))
    return record, slots


def two_of_whole_steps(model: Architecture, moments: int, examples: int) -> tuple[tuple[Record, ...], int]:
    """Two such, of which one is written while all readers are at the other; the writer waits for nobody."""
    progress = _unread()
    return _whole_steps(model, moments, examples, progress, 2, _RECORD_BYTES, _RECORD_STEPS)


def all_is_there() -> Ints:
    """The progress of a record that was written before anybody reads it."""
    progress = np.zeros(handover.PROGRESS, np.int64)
    progress[handover.BLOCKS_WRITTEN] = progress[handover.STEPS_WRITTEN] = _ALL
    return progress


def blocks(model: Architecture, moments: int, count: int, threads: int) -> list[range]:
    """Blocks of losses of about the same size, as many for each thread."""
    most = int(np.clip(_BLOCK_BYTES // (8 * (1 + moments) * model.num_params), *_BLOCK_LOSSES))
    number = min(threads * -(-count // (threads * most)), count)
    return [range(count * i // number, count * (i + 1) // number) for i in range(number)]


def workspaces_for(model: Architecture, threads: int, gathered: int = 0, inputs: bool = False) -> tuple[Workspace, ...]:
    """For each thread of a team, which gather the same rows."""
    own, *others = [workspace_for(model, gathered, inputs) for _ in range(threads)]
    return own, *(each._replace(x=own.x, y=own.y, weights=own.weights) for each in others)


def workspace_for(model: Architecture, gathered: int = 0, inputs: bool = False) -> Workspace:
    """For one thread; with room for `gathered` rows from anywhere in the data, and for derivatives by the `inputs`."""
    gathered, dtype = min(ROWS, gathered), model.dtype
    return Workspace(
        x=np.empty(gathered * model.sizes[0], dtype),
        y=np.empty(gathered * model.sizes[-1], dtype),
        weights=np.empty(gathered, dtype),
        across=np.empty(model.largest if inputs else model.largest_above, dtype),
        one=np.array([1], dtype),
        scratch=new_scratch(),
    )


def tangents_for(model: Architecture, examples: int, inputs: bool) -> Tangents:
    """Scratch of the R-operator passes over batches of up to `examples` rows."""
    rows = min(ROWS, examples)
    sizes, dtype, width = model.sizes, model.dtype, model.width
    hidden = width - sizes[-1]
    return Tangents(
        u=np.empty(model.num_params, dtype),
        hu=np.empty(model.num_params, dtype),
        turned=np.empty(model.num_params, dtype),
        slope=np.empty(rows * hidden, dtype),
        act=np.empty(rows * width, dtype),
        delta=np.empty(rows * width, dtype),
        bend=np.empty(rows * hidden, dtype),
        x=np.empty(sizes[0] * sizes[1] if inputs else 0, dtype),
    )


def _whole_steps(
    model: Architecture, moments: int, examples: int, progress: Ints, count: int, size: int, limits: tuple[int, int]
) -> tuple[tuple[Record, ...], int]:
    """So many records of about `size` bytes each; and how many steps they have room for."""
    blocks = -(-examples // ROWS)
    step = _step_bytes(model, moments, examples, blocks)
    slots = 1 if step > _LARGE_BYTES else min(max(size // step, limits[0]), limits[1])
    return tuple(
        Record(_steps(model, moments, slots), _passes(model, examples, slots * blocks), progress) for _ in range(count)
    ), slots


def _step_bytes(model: Architecture, moments: int, examples: int, blocks: int) -> int:
    """Of `_steps` and `_passes` for one step of so many blocks."""
    columns = 2 * model.width + model.sizes[-1]
    return model.dtype.itemsize * ((2 + moments) * model.num_params + blocks * min(ROWS, examples) * columns)


def _unread() -> Ints:
    """The progress of a record that nobody reads while it is written."""
    progress = np.zeros(handover.PROGRESS, np.int64)
    progress[handover.BLOCKS_READ] = progress[handover.STEPS_READ] = _ALL
    return progress


def _steps(model: Architecture, moments: int, slots: int) -> Steps:
    size, dtype = model.num_params, model.dtype
    return Steps(
        np.empty((slots, size), dtype), np.empty((slots, moments, size), dtype), np.empty((slots, size), dtype)
    )


def _passes(model: Architecture, examples: int, slots: int) -> Passes:
    rows, dtype = min(ROWS, examples), model.dtype
    wide, narrow = (slots, rows * model.width), (slots, rows * model.sizes[-1])
    return Passes(np.empty(wide, dtype), np.empty(narrow, dtype), np.empty(wide, dtype))
