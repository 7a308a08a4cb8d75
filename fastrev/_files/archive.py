"""A ZIP archive of stored ``.npy`` members that ends in a checksum of all of it; what NumPy calls ``.npz``.

    members, directory, end record             as zipfile writes them
    comment: "fastrev sha256 ", 64 digits      the hash of every byte before the digits

No time is in it: the same members make the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from fastrev._engine.types import AnyArray

KINDS = "biufc"  # of a dtype: bool, integers, floating and complex numbers

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest there is
_COMMENT = b"fastrev sha256 "
_DIGITS = 2 * hashlib.sha256().digest_size
_CHUNK = 2**20  # bytes that are read at once


class ArchiveError(ValueError):
    """What was read is no such archive; the message completes "the file ..."."""


def write(file: BinaryIO, members: Mapping[str, AnyArray]) -> None:
    """Write arrays of the dtypes in `KINDS` as members of these names.  Takes memory for another copy of them all."""
    made = io.BytesIO()  # nothing of an archive that is left unfinished, such as by Ctrl-C, comes to the file
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as packed:
        for stem, array in members.items():
            member = io.BytesIO()
            npy.write_array(member, array, version=(1, 0), allow_pickle=False)
            packed.writestr(zipfile.ZipInfo(f"{stem}.npy", _DATE), member.getbuffer())
        packed.comment = _COMMENT + _DIGITS * b"0"
    whole = made.getbuffer()[:-_DIGITS]  # not copied once more: of a run it may be large
    file.write(whole)
    file.write(hashlib.sha256(whole).hexdigest().encode("ascii"))


def read(file: BinaryIO) -> dict[str, AnyArray]:
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


def _verify(file: BinaryIO) -> int:
    """Hold a file against its checksum.  Returns its size."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(4) != b"PK\3\4" or size < len(_COMMENT) + _DIGITS:
        raise ArchiveError("is no file of fastrev's")
    file.seek(0)
    digest, left, end = hashlib.sha256(), size - _DIGITS, b""
    while left:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            raise ArchiveError("became shorter while it was read")
        digest.update(chunk)
        end = (end + chunk)[-len(_COMMENT) :]
        left -= len(chunk)
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
