"""Images of digits: scikit-learn's, or MNIST-style files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastrev._engine.arguments import fault, reason
from fastrev._engine.extras import require
from fastrev.errors import ArgumentError
from fastrev.experiments._shared.idx import read_folder
from fastrev.experiments._shared.npz import read_npz

Examples = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]  # inputs (N, D) from 0 to 1, classes (N,)


_NEEDED = "be a folder of IDX files, or an .npz file"


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


def load(path: Path | None, seed: int) -> Dataset:
    """Digits (8 x 8, 1,797 of them), or those of a folder of IDX files or of an ``.npz`` file; split by the seed.

    Of all examples 22 % each are kept for validation and test, at most 10,000; a test set of its own is used as such.
    """
    if path is None:
        digits = require("sklearn.datasets", "demo", "The digits data").load_digits()
        return _split(digits.images / 16, digits.target.astype(np.int64), None, seed)
    try:
        folder, file = path.is_dir(), path.is_file()
    except OSError as error:
        raise fault("--data", _NEEDED, f"{str(path)!r}: {reason(error)}") from error
    if not folder and not (file and path.suffix.lower() == ".npz"):
        raise fault("--data", _NEEDED, repr(str(path)))
    (images, labels), *test = read_folder(path) if folder else read_npz(path)
    for own, _ in test:
        if own.shape[1:] != images.shape[1:]:
            sizes = f"{images.shape[1:]} and {own.shape[1:]}"
            raise ArgumentError(f"The images in {str(path)!r} must have one size, not {sizes}.")
    return _split(images, labels, test[0] if test else None, seed)


def mislabelled(
    y: npt.NDArray[np.int64], share: float, classes: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Labels of which a share is another class, drawn evenly, and which of them are."""
    wrong = rng.permutation(len(y)) < share * len(y)
    return np.where(wrong, (y + rng.integers(1, classes, len(y))) % classes, y), wrong


def _split(images: npt.NDArray[np.float64], y: npt.NDArray[np.int64], test: Examples | None, seed: int) -> Dataset:
    order = np.random.default_rng(seed).permutation(len(y))
    held = min(math.ceil(0.22 * len(y)), 10_000)
    if len(y) < 10:
        raise ArgumentError(f"The data must hold at least 10 examples to be split, not {len(y)}.")
    valid, rest = order[:held], order[held:]
    x = images.reshape(len(images), -1)
    if test is None:
        rest, tested = rest[held:], rest[:held]
        test = x[tested], y[tested]
    else:
        test = test[0].reshape(len(test[0]), -1), test[1]
    classes = 1 + int(max(y.max(), test[1].max()))
    missing = sorted(set(range(classes)) - set(y[rest].tolist()))
    if classes < 2 or missing:
        none = f"none of {', '.join(map(str, missing[:10]))}" if missing else "of class 0 alone"
        raise ArgumentError(
            f"The data must hold training examples of every class from 0 to {max(classes - 1, 1)}, not {none}."
        )
    return Dataset((x[rest], y[rest]), (x[valid], y[valid]), test, images.shape[1:])
