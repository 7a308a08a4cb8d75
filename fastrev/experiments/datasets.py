"""Images of digits: scikit-learn's, or MNIST-style IDX files."""

from __future__ import annotations

import gzip
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastrev._extras import require
from fastrev.errors import ArgumentError

Examples = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]  # inputs (N, D) from 0 to 1, classes (N,)

_UNSIGNED_BYTE = 0x08  # the one IDX element type that MNIST-style files have
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


@dataclass(frozen=True)
class Dataset:
    """Examples to train on, to choose by, and to judge with."""

    train: Examples
    valid: Examples
    test: Examples
    shape: tuple[int, int]  # of an image

    @property
    def inputs(self) -> int:
        """D, pixels of an image."""
        return self.shape[0] * self.shape[1]

    @property
    def classes(self) -> int:
        """K."""
        return int(max(labels.max() for _, labels in (self.train, self.valid, self.test))) + 1


def load(folder: Path | None, seed: int) -> Dataset:
    """Digits (8 x 8, 1,797 of them), or the IDX files in a folder; shuffled and split by the seed.

    Of all examples 22 % each are kept for validation and test, at most 10,000; a test set of its own is used as such.
    """
    if folder is None:
        digits = require("sklearn.datasets", "demo", "The digits data").load_digits()
        return _split(digits.data / 16, digits.target.astype(np.int64), None, (8, 8), seed)
    if not folder.is_dir():
        raise ArgumentError(f"Argument '--data' must be a folder of IDX files, not {str(folder)!r}.")
    found = {part: _read_pair(folder, part) for part in ("train", "t10k")}
    pairs = [pair for pair in found.values() if pair is not None]
    if not pairs:
        raise ArgumentError(
            f"Argument '--data' must be a folder that holds train-{_IMAGES} and train-{_LABELS} (or t10k-..., each "
            f"perhaps with .gz), and {str(folder)!r} holds neither pair."
        )
    images, labels = pairs[0]
    test = None
    if len(pairs) == 2:
        if pairs[1][0].shape[1:] != images.shape[1:]:
            sizes = f"{images.shape[1:]} and {pairs[1][0].shape[1:]}"
            raise ArgumentError(f"The images in {str(folder)!r} must have one size, not {sizes}.")
        test = _inputs(pairs[1][0]), pairs[1][1]
    height, width = images.shape[1:]
    return _split(_inputs(images), labels, test, (height, width), seed)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """An array of unsigned bytes from an IDX file, gzipped or not.

    The format: two zero bytes, the element type, the rank, each dimension as a big-endian uint32, the elements.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:  # gzip raises both for a file that is damaged
        raise ArgumentError(f"{path} cannot be read: {error}.") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise ArgumentError(f"{path} must be an IDX file of unsigned bytes; it begins with 0x{content[:4].hex()}.")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise ArgumentError(f"{path} ends within its header, after {len(content)} bytes.")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise ArgumentError(
            f"{path} must hold the elements of shape {shape}, {math.prod(shape)} bytes, not {len(content) - start}."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


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


def _inputs(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return images.reshape(len(images), -1) / 255


def _split(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.int64],
    test: Examples | None,
    shape: tuple[int, int],
    seed: int,
) -> Dataset:
    order = np.random.default_rng(seed).permutation(len(x))
    held = min(math.ceil(0.22 * len(x)), 10_000)
    if len(x) < 3 * held or held == 0:
        raise ArgumentError(f"The data must hold at least 10 examples to be split, not {len(x)}.")
    valid, rest = order[:held], order[held:]
    if test is None:
        rest, tested = rest[held:], rest[:held]
        test = x[tested], y[tested]
    return Dataset((x[rest], y[rest]), (x[valid], y[valid]), test, shape)
