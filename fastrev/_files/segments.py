"""Files of words: a run of consecutive words of a tail in each.

    header, 56 bytes: magic, format, token, index, words, CRC-32         words: uint16
    ------------------------------------------------------------         -------------
    8 bytes           u32     16     u64    u64    u32, 8 of zero        little-endian

The CRC is that of the words after that of the header before it, so no byte that is read can change unseen.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from io import FileIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint16]

_MAGIC, _FORMAT = b"frtail\r\n", 1
_ABOUT, _SUM = struct.Struct("<8sI16sQQ"), struct.Struct("<I8x")
HEADER = _ABOUT.size + _SUM.size


class SegmentError(ValueError):
    """What was read is not the segment that was asked for; the message completes "the file ..."."""


def size_of(words: int) -> int:
    """Bytes of a file of so many words."""
    return HEADER + 2 * words


def write(path: Path, token: bytes, index: int, words: Words) -> int:
    """Write a file, which nobody may have written yet.  Returns the checksum."""
    about = _ABOUT.pack(_MAGIC, _FORMAT, token, index, words.size)
    stored = words.astype("<u2", copy=False)
    checksum = zlib.crc32(stored.data, zlib.crc32(about))
    with path.open("xb", buffering=0) as file:
        _write_all(file, about + _SUM.pack(checksum))
        _write_all(file, stored.data.cast("B"))
    return checksum


def read(path: Path, token: bytes, index: int, words: int, checksum: int) -> Words:
    """The words of a file that `write` made of so many.

    Raises
    ------
    SegmentError
        If the file is any other; no more was read of it than the words take.
    OSError
        If it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # before it is opened: a pipe would wait for its other end
        raise SegmentError("is a folder, or no regular file")
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size != size_of(words):
            raise SegmentError(f"has {size} bytes instead of {size_of(words)}")
        header, found = bytearray(HEADER), np.empty(words, "<u2")
        if not (_fill(file, memoryview(header)) and _fill(file, found.data.cast("B"))):
            raise SegmentError("became shorter while it was read")
    magic, version, *which = _ABOUT.unpack_from(header)
    if magic != _MAGIC:
        raise SegmentError("is no file of fastrev's words")
    if version != _FORMAT:
        raise SegmentError(f"is of format {version}, not {_FORMAT}")
    if which != [token, index, words]:
        raise SegmentError("holds other words")
    sums = zlib.crc32(found.data, zlib.crc32(header[: _ABOUT.size])), checksum
    if any(header[_ABOUT.size :] != _SUM.pack(each) for each in sums):
        raise SegmentError("is damaged: its bytes have changed")
    return found.astype(np.uint16, copy=False)


def _write_all(file: FileIO, data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _fill(file: FileIO, data: memoryview) -> bool:
    """Read as many bytes as there is room for.  Returns whether there were so many."""
    while data and (count := file.readinto(data)):
        data = data[count:]
    return not data
