"""Related tasks: labellings of digits, or Omniglot's alphabets, upright and turned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastrev._engine.arguments import fault, reason
from fastrev._engine.extras import require
from fastrev.errors import ArgumentError

Array = npt.NDArray[np.float64]
Examples = tuple[Array, Array]  # of K tasks: inputs (K, N, D), the last of which is 1 for the biases; targets (K, N, C)

_ALPHABETS = 5
_TRAIN, _VALID = 30, 90  # digits of a task; the other 59 are for the test
_SIDE = 14  # pixels of a drawing, whichever it has
_PARTS = (0.5, 0.25)  # of the drawings of each character, for training and for validation


def load(folder: Path | None, seed: int) -> tuple[Examples, Examples, Examples]:
    """Ten tasks, with examples for training, validation and test; no image is in two parts.

    Tasks k and k + 5 have the same classes, upright and turned by 90 degrees: five labellings of scikit-learn's digits,
    whose classes are drawn in another order by each, or five alphabets from ``folder/<alphabet>/<character>/*.png``,
    laid out as Omniglot is.
    """
    rng = np.random.default_rng(seed)
    return _digits(rng) if folder is None else _alphabets(folder, rng)


def _digits(rng: np.random.Generator) -> tuple[Examples, Examples, Examples]:
    digits = require("sklearn.datasets", "demo", "The digits data").load_digits()
    orders = [rng.permutation(10) for _ in range(_ALPHABETS)]
    rows = rng.permutation(len(digits.data))[: 10 * (len(digits.data) // 10)].reshape(10, -1)
    images = digits.data[rows].reshape(*rows.shape, 8, 8) / 16
    classes = np.stack([orders[task % _ALPHABETS][digits.target[each]] for task, each in enumerate(rows)])
    return _split(images, np.eye(10)[classes], (_TRAIN, _VALID))


def _alphabets(folder: Path, rng: np.random.Generator) -> tuple[Examples, Examples, Examples]:
    """As many characters of each alphabet and drawings of each character as the smallest of them has."""
    try:
        alphabets = [sorted(_folders(each)) for each in sorted(_folders(folder))[:_ALPHABETS]]
        characters = min((len(each) for each in alphabets), default=0)
        drawn = [[_drawings(each) for each in alphabet[:characters]] for alphabet in alphabets]
    except OSError as error:
        raise fault("--data", "be a folder of alphabets", f"{str(folder)!r}: {reason(error)}") from error
    drawings = min((len(paths) for alphabet in drawn for paths in alphabet), default=0)
    if len(alphabets) < _ALPHABETS or characters < 2 or drawings < 4:
        raise ArgumentError(
            f"Argument '--data' must be a folder of {_ALPHABETS} alphabets or more, each a folder of 2 characters or "
            f"more, each a folder of 4 drawings (.png) or more, as Omniglot's are; {str(folder)!r} has "
            f"{len(alphabets)} alphabets, {characters} characters in the smallest, {drawings} drawings of the rarest."
        )
    images = []
    for alphabet in drawn:  # drawing by drawing, so that every part has all characters equally often
        shuffled = [[paths[i] for i in rng.permutation(drawings)] for paths in alphabet]
        images.append([_pixels(paths[i]) for i in range(drawings) for paths in shuffled])
    images *= 2  # which are turned later: a drawing is in the same part of both tasks
    targets = np.tile(np.eye(characters), (2 * _ALPHABETS, drawings, 1))
    train, valid = (characters * max(1, int(part * drawings)) for part in _PARTS)
    return _split(np.array(images), targets, (train, valid))


def _folders(folder: Path) -> list[Path]:
    """Those that are not a system's own."""
    return [each for each in folder.iterdir() if each.is_dir() and not each.name.startswith((".", "__"))]


def _drawings(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.suffix.lower() == ".png" and each.is_file())


def _pixels(path: Path) -> Array:
    """The ink (side, side) of a drawing, from 0 to 1: how dark it is on white."""
    image = require("PIL.Image", "plot", "Reading drawings")
    try:
        with image.open(path) as drawing:
            if drawing.mode[0] in "IF":
                raise ValueError(f"it has more than 8 bits a pixel (mode {drawing.mode})")
            seen = drawing.convert("RGBA")
            paper = image.new("RGBA", seen.size, "white")
            grey = image.alpha_composite(paper, seen).convert("L").resize((_SIDE, _SIDE), image.Resampling.BOX)
    except Exception as error:  # of a dozen kinds for a file that is damaged
        raise ArgumentError(f"{path} must be a picture that Pillow can read, but: {reason(error)}.") from error
    return 1 - np.asarray(grey, np.float64) / 255


def _split(images: Array, targets: Array, sizes: tuple[int, int]) -> tuple[Examples, Examples, Examples]:
    """The second half of the tasks (K, N, height, width) turned, the inputs flat and with a 1, in three parts."""
    turned = np.concatenate([images[:_ALPHABETS], np.rot90(images[_ALPHABETS:], axes=(2, 3))])
    flat = turned.reshape(*targets.shape[:2], -1)
    inputs = np.concatenate([flat, np.ones((*targets.shape[:2], 1))], axis=2)
    train, valid, test = np.split(np.arange(targets.shape[1]), np.cumsum(sizes))
    return (
        (inputs[:, train], targets[:, train]),
        (inputs[:, valid], targets[:, valid]),
        (inputs[:, test], targets[:, test]),
    )
