"""A ZIP archive of stored ``.npy`` members that ends in a checksum of all of it; what NumPy calls ``.npz``.

    local header, .npy header, elements        of each member
    central header                             of each member
    end record of ZIP64, its locator, end record
    comment: "fastrev sha256 ", 64 digits      the hash of every byte before the digits

It is written from front to back, without looking back, by few and large writes.  Numbers have 64 bits throughout, as
ZIP64 has them, so that an archive of any size is made by the same lines as a small one.  No time is in it: the same
members make the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from fastrev._engine.types import AnyArray

KINDS = "biufc"  # of a dtype: bool, integers, floating and complex numbers

_LOCAL = struct.Struct("<4s5H3I2H")
_LOCAL_SIZES = struct.Struct("<HH2Q")  # the extra field that has them
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_CENTRAL_SIZES = struct.Struct("<HH3Q")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")
_VERSION = 45  # of the ZIP format: with ZIP64
_DATE = 1 << 5 | 1  # 1 January 1980, the earliest there is
_IN_EXTRA, _IN_EXTRA_16 = 2**32 - 1, 2**16 - 1  # stand where the number itself is among the 64-bit ones
_MODE = 0o644 << 16  # of what an unpacking program makes
_COMMENT = b"fastrev sha256 "
_DIGITS = 2 * hashlib.sha256().digest_size
_CHUNK = 2**20  # bytes that are read at once


class ArchiveError(ValueError):
    """What was read is no such archive; the message completes "the file ..."."""


def write(file: BinaryIO, members: Mapping[str, AnyArray]) -> None:
    """Write arrays of the dtypes in `KINDS` as members of these names, which are ASCII and fit for file names."""
    out = _Hashed(file)
    directory = []
    for stem, array in members.items():
        name = f"{stem}.npy".encode("ascii")
        header, elements = _serialised(array)
        size = len(header) + len(elements)
        kind = (_VERSION, 0, zipfile.ZIP_STORED, 0, _DATE, zlib.crc32(elements, zlib.crc32(header)))
        entry = _CENTRAL.pack(
            b"PK\1\2", _VERSION, *kind, _IN_EXTRA, _IN_EXTRA, len(name), _CENTRAL_SIZES.size, 0, 0, 0, _MODE, _IN_EXTRA
        )
        directory.append(entry + name + _CENTRAL_SIZES.pack(1, 24, size, size, out.position))
        local = _LOCAL.pack(b"PK\3\4", *kind, _IN_EXTRA, _IN_EXTRA, len(name), _LOCAL_SIZES.size)
        out.put(local + name + _LOCAL_SIZES.pack(1, 16, size, size) + header)
        out.put(elements)
    start = out.position
    out.put(b"".join(directory))
    end, count = out.position, len(directory)
    out.put(
        _END64.pack(b"PK\6\6", _END64.size - 12, _VERSION, _VERSION, 0, 0, count, count, end - start, start)
        + _LOCATOR.pack(b"PK\6\7", 0, end, 1)
        + _END.pack(b"PK\5\6", 0, 0, *[_IN_EXTRA_16] * 2, *[_IN_EXTRA] * 2, len(_COMMENT) + _DIGITS)
        + _COMMENT
    )
    file.write(out.digits())


def read(file: io.BufferedReader) -> dict[str, AnyArray]:
    """The arrays, once every byte of the file was held against its checksum.

    Takes memory for as many bytes as the file has, whatever its headers say.

    Raises
    ------
    ArchiveError
        If this is anything but a whole archive as `write` makes it.
    OSError
        If the file cannot be read.
    """
    size = _verify(file)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if sum(each.file_size for each in members) > size or not all(map(_is_stored, members)):
                raise ArchiveError("holds members that are packed, or larger than it")
            arrays = {each.filename.removesuffix(".npy"): _member(archive, each) for each in members}
    except (OSError, ArchiveError):
        raise
    except Exception as error:  # whatever it is that zipfile and NumPy say of one made with a checksum, but not by us
        raise ArchiveError(f"is not as fastrev makes it: {error}") from error
    if len(arrays) != len(members):
        raise ArchiveError("has two members of one name")
    return arrays


class _Hashed:
    """Writes, counts and hashes bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.position = 0

    def put(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.position += len(data)

    def digits(self) -> bytes:
        return self._hash.hexdigest().encode("ascii")


def _serialised(array: AnyArray) -> tuple[bytes, memoryview]:
    """The ``.npy`` header of an array, and its elements as bytes, copied only if they are not contiguous."""
    flags = array.flags
    fortran = bool(flags.f_contiguous and not flags.c_contiguous)
    stream = io.BytesIO()
    header = {"descr": array.dtype.str, "fortran_order": fortran, "shape": array.shape}
    npy.write_array_header_1_0(stream, header)
    elements = np.ascontiguousarray(array.T if fortran else array).reshape(-1).view(np.uint8)
    return stream.getvalue(), elements.data


def _verify(file: io.BufferedReader) -> int:
    """Hold a file against its checksum.  Returns its size."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(4) != b"PK\3\4" or size < len(_COMMENT) + _DIGITS:
        raise ArchiveError("is no file of fastrev's")
    file.seek(0)
    digest = hashlib.sha256()
    chunk = memoryview(bytearray(min(_CHUNK, size)))
    left = size - _DIGITS
    end = b""
    while left:
        count = file.readinto(chunk[: min(len(chunk), left)])
        if not count:
            raise ArchiveError("became shorter while it was read")
        digest.update(chunk[:count])
        end = (end + chunk[max(count - len(_COMMENT), 0) : count])[-len(_COMMENT) :]
        left -= count
    if end != _COMMENT or file.read() != digest.hexdigest().encode("ascii"):
        raise ArchiveError("is damaged (its bytes have changed, or some are missing or added) or no file of fastrev's")
    return size


def _is_stored(member: zipfile.ZipInfo) -> bool:
    return member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> AnyArray:
    with archive.open(member) as stream:
        if npy.read_magic(stream) != (1, 0):
            raise ArchiveError(f"has an array of another format in {member.filename}")
        shape, fortran, dtype = npy.read_array_header_1_0(stream)
        if dtype.kind not in KINDS or dtype.itemsize * math.prod(shape) != member.file_size - stream.tell():
            raise ArchiveError(f"has an array with a wrong header in {member.filename}")
        array: AnyArray = np.empty(shape, dtype, "F" if fortran else "C")
        elements = array.reshape(-1, order="A").view(np.uint8)
        done = 0
        while count := stream.readinto(elements[done : done + _CHUNK]):  # type: ignore[attr-defined]
            done += count
        if done != len(elements):
            raise ArchiveError(f"has an array that is too short in {member.filename}")
        return array
