"""IDX files, as of MNIST: one array of unsigned bytes each, images and labels in files of their own."""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastrev._engine.arguments import fault, reason
from fastrev.errors import ArgumentError

_MAGIC = b"\0\0\x08"  # unsigned bytes, the one element type that MNIST-style files have
_RANKS = range(1, 4)  # labels; vectors; images
_GZIP = b"\x1f\x8b"
_DEFLATE = 1032  # bytes that may come of one: of two bits a copy of 258
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
_CHUNK = 2**20  # bytes that are asked for at once: a reader may allocate as much, whatever arrives


Pair = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]  # images (N, height, width) from 0 to 1, and labels (N,)


def read_folder(folder: Path) -> list[Pair]:
    """What a folder holds for training, and then for the test; or one of both."""
    try:
        found = [_read_pair(folder, part) for part in ("train", "t10k")]
    except OSError as error:  # of looking: reading has errors of its own
        raise fault("--data", "be a folder of IDX files", f"{str(folder)!r}: {reason(error)}") from error
    pairs = [(images / 255, labels) for images, labels in filter(None, found)]
    if not pairs:
        raise ArgumentError(
            f"Argument '--data' must be a folder that holds train-{_IMAGES} and train-{_LABELS} (or t10k-..., each "
            f"perhaps with .gz), and {str(folder)!r} holds neither pair."
        )
    return pairs


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """An array of unsigned bytes from an IDX file, gzipped if and only if its name ends in .gz.

    The format: two zero bytes, the element type, the rank, each dimension as a big-endian uint32, the elements.
    The rank must be 1 to 3, as in MNIST-style files, and no dimension 0.  No memory is taken but for bytes that header
    and file size allow and that have arrived.

    Raises
    ------
    ArgumentError
        The file cannot be read, or is anything but one whole array.
    """
    packed = path.suffix == ".gz"
    try:
        with path.open("rb") as file:
            _check_packing(path, file.read(len(_GZIP)), packed)
            file.seek(0)
            stream: io.BufferedIOBase = gzip.GzipFile(fileobj=file) if packed else file
            shape = _read_shape(path, stream)
            _check_size(path, shape, os.fstat(file.fileno()).st_size, packed)
            return np.frombuffer(_read_elements(path, stream, shape), np.uint8).reshape(shape)
    except (OSError, EOFError, zlib.error) as error:  # gzip raises each of them for a file that is damaged
        kind = "a gzipped IDX file" if packed else "an IDX file"
        raise ArgumentError(f"{path} must be {kind}, whole and readable, but: {reason(error)}.") from error


def _check_packing(path: Path, head: bytes, packed: bool) -> None:
    if packed and head != _GZIP:
        raise ArgumentError(
            f"{path} must be gzipped, as its name says, and begin with 0x{_GZIP.hex()}, not with {_hex(head)}."
        )
    if head == _GZIP and not packed:
        raise ArgumentError(f"{path} must be an IDX file, not a gzipped one. Give it a name that ends in .gz.")


def _read_shape(path: Path, stream: io.BufferedIOBase) -> tuple[int, ...]:
    head = stream.read(4)
    if not _MAGIC.startswith(head[:3]):
        raise ArgumentError(
            f"{path} must be an IDX file of unsigned bytes and begin with 0x{_MAGIC.hex()}, not with {_hex(head[:3])}."
        )
    if len(head) < 4:
        raise _no_header(path, len(head))
    rank = head[3]
    if rank not in _RANKS:
        raise ArgumentError(f"{path} must hold an array of rank 1 to 3, not of rank {rank}.")
    dimensions = stream.read(4 * rank)
    if len(dimensions) < 4 * rank:
        raise _no_header(path, 4 + len(dimensions))
    shape = struct.unpack(f">{rank}I", dimensions)
    if 0 in shape:
        raise ArgumentError(f"{path} must hold an array whose every dimension is at least 1, not one of shape {shape}.")
    return shape


def _check_size(path: Path, shape: tuple[int, ...], size: int, packed: bool) -> None:
    """Refuse a file of `size` bytes that cannot hold what its header says."""
    if packed and math.prod(shape) > _DEFLATE * size:
        raise _wrong_elements(path, shape, f"the {_DEFLATE * size} that {size} gzipped bytes hold at most")
    held = size - 4 - 4 * len(shape)
    if not packed and held != math.prod(shape):
        raise _wrong_elements(path, shape, str(held))


def _read_elements(path: Path, stream: io.BufferedIOBase, shape: tuple[int, ...]) -> bytearray:
    """The elements, having asked for one byte more, which must not come (gzip compares its checksum at the end)."""
    count = math.prod(shape)
    elements = bytearray()
    while chunk := stream.read(min(_CHUNK, count + 1 - len(elements))):
        elements += chunk
    if len(elements) != count:
        raise _wrong_elements(path, shape, "more" if len(elements) > count else str(len(elements)))
    return elements


def _no_header(path: Path, held: int) -> ArgumentError:
    return ArgumentError(f"{path} must begin with an IDX header, but ends within it, after {held} bytes.")


def _wrong_elements(path: Path, shape: tuple[int, ...], held: str) -> ArgumentError:
    return ArgumentError(f"{path} must hold the elements of shape {shape}, {math.prod(shape)} bytes, not {held}.")


def _hex(head: bytes) -> str:
    return f"0x{head.hex()}" if head else "nothing"


def _read_pair(folder: Path, part: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]] | None:
    """Images (N, height, width) and labels (N,) of one part; None where both files are missing."""
    paths = [_find(folder, f"{part}-{kind}") for kind in (_IMAGES, _LABELS)]
    if paths == [None, None]:
        return None
    for path, kind in zip(paths, (_IMAGES, _LABELS), strict=True):
        if path is None:
            raise ArgumentError(f"{folder} must hold {part}-{kind} (perhaps with .gz) as well as its counterpart.")
    images, labels = (read_idx(path) for path in paths if path is not None)
    if images.ndim != 3 or labels.ndim != 1:
        raise ArgumentError(
            f"{paths[0]} must hold images of rank 3 and {paths[1]} labels of rank 1, not {images.ndim}, {labels.ndim}."
        )
    if len(images) != len(labels):
        raise ArgumentError(f"{paths[0]} holds {len(images)} images, but {paths[1]} holds {len(labels)} labels.")
    return images, labels.astype(np.int64)


def _find(folder: Path, name: str) -> Path | None:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None
