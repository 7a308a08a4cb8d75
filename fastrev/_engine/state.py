"""The reversible state: weights and moments on their grids, and the information that decays push out of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastrev._engine import arguments, lines
from fastrev._engine.types import AnyArray, FloatArray, Grid, Ints
from fastrev.kernels import checks, checksums, fixed_point
from fastrev.kernels import information_buffer as buffer
from fastrev.kernels.structures import State

# bytes: to copy a small array takes a fifth of the time of a call for its checksum, and a tiny meta-gradient made 33 of
# those
_LITTLE = 2**12
_LEAST_WORDS = 2**14  # 32 KB: small models grow their tail a few times, not every few steps


def to_grid(name: str, x: FloatArray) -> Grid:
    """The float64 vector rounded to the grid, or an error that names the argument."""
    grid = np.empty(x.shape, np.int64)
    if not fixed_point.floats_to_grid(x.reshape(-1), grid.reshape(-1)):
        arguments.on_grid(name, x)  # raises
    return grid


def to_floats(grid: Grid) -> FloatArray:
    """The grid values as float64."""
    x = np.empty(grid.shape)
    fixed_point.grid_to_floats(grid.reshape(-1), x.reshape(-1))
    return x


def checksum(*arrays: AnyArray) -> tuple[int, ...]:
    """Of every bit of contiguous arrays with elements of 4 or 8 bytes, one for each."""
    return tuple([checksums.checksum(_flat(each)) if each.size else 0 for each in arrays])


def imprint(*arrays: AnyArray) -> tuple[int | bytes, ...]:
    """What tells whether contiguous arrays change: all that they hold where it is little, else the checksum of each."""
    return tuple([each.tobytes() if each.nbytes <= _LITTLE else checksum(each)[0] for each in arrays])


def _flat(array: AnyArray) -> AnyArray:
    """The same bits as one of the two types that the kernel is compiled for."""
    if array.ndim == 1 and array.dtype.kind == "f":
        return array
    return array.reshape(-1).view(np.float64 if array.itemsize == 8 else np.float32)


def new_heads(*shape: int) -> Ints:
    """Heads that hold no information yet."""
    heads: Ints = lines.empty(shape, np.int64)
    heads.fill(buffer.START)
    return heads


def new_scratch() -> FloatArray:
    """What the steps of any rule work in."""
    scratch: FloatArray = lines.empty((buffer.SCRATCH,), np.float64)
    return scratch


def new_state(w: Grid, moments: Grid, *, shrinks: bool = False) -> State:
    """A state before its first step.  It keeps the arrays themselves, not copies."""
    carry = np.zeros((1 if shrinks else 0, w.size), np.int64)
    return State(w, carry, moments, new_heads(*moments.shape), np.empty(0, np.uint16), np.zeros(4, np.int64))


def make_room(tail: AnyArray, top: int, heads: int, carries: int = 0) -> None:
    """Let the tail take at least one more step of so many heads and carries, in place.

    It grows by a sixteenth: the words themselves come at one in a hundred parameter updates at decay 0.9 (`python -m
    bench.choices words`), so the copying does not show, and the slack stays small.
    """
    needed = top + buffer.WORDS_PER_STEP * heads + carries
    if tail.size < needed:
        tail.resize(_grown(tail.size, needed), refcheck=False)


def _grown(size: int, needed: int) -> int:
    return max(needed, size + size // 16) + _LEAST_WORDS


def grown_to(words: int, a_step: int) -> int:
    """What the size of a tail has grown to with so many words on it, if a step can push so many."""
    size = 0
    while size < words + a_step:
        size = _grown(size, max(size + 1, a_step))
    return size


def most_room(top: int, heads: int, carries: int) -> int:
    """The most words for which there can be room by then."""
    needed = top + buffer.WORDS_PER_STEP * heads + carries
    return needed + needed // 16 + _LEAST_WORDS


def make_room_for_step(state: State) -> None:
    """The same for one more step of a training."""
    make_room(state.tail, int(state.cursor[1]), state.heads.size, state.carry.size)


def words_of_a_step(state: State) -> int:
    """Words that a step can push."""
    return buffer.WORDS_PER_STEP * state.heads.size + state.carry.size


def words_held(state: State) -> int:
    """All words of the tail, wherever they are."""
    return int(state.cursor[1] + state.cursor[3])


def make_row(table: AnyArray, rows: int) -> None:
    """Let a table of `rows` rows take one more, in place."""
    if len(table) <= rows:
        table.resize((2 * rows + 64, table.shape[1]), refcheck=False)


def stored_bits(heads: Ints, top: int) -> float:
    """The information held, in bits: 0 at the start."""
    # a damaged head may be negative; undoing will tell
    in_heads = np.add.reduce(np.log2(np.maximum(heads, 1) / buffer.START), axis=None)
    return float(in_heads + 16 * top)


def faults(state: State, w: Grid, moments: Grid | None, names: Sequence[str]) -> list[str]:
    """How the state differs from the start with these weights and moments (None: zero); empty if in nothing."""
    found = []
    if not checks.all_same(state.w, w):
        found.append(f"{np.count_nonzero(state.w != w)} weights differ")
    for name, moment, start in zip(names, state.moments, state.moments if moments is None else moments, strict=True):
        if not (checks.all_equal(moment, 0) if moments is None else checks.all_same(moment, start)):
            found.append(f"{np.count_nonzero(moment != (0 if moments is None else start))} {name} differ")
    found += faults_of_carry(state)
    found += faults_of_buffer(state.heads, words_held(state))
    if state.cursor[2] != 0:
        found.append("some gradient was not reproduced bit for bit")
    return found


def faults_of_carry(state: State) -> list[str]:
    """How what shrinking the weights left differs from nothing."""
    return [f"{np.count_nonzero(state.carry)} carries differ"] if state.carry.size and state.carry.any() else []


def faults_of_buffer(heads: Ints, top: int) -> list[str]:
    """How heads and tail differ from those that hold nothing."""
    found = []
    if not checks.all_equal(heads.reshape(-1), buffer.START):
        found.append(f"{np.count_nonzero(heads != buffer.START)} heads of information buffers differ")
    if top != 0:
        found.append(f"{top} words are left over")
    return found
