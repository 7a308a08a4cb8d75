"""MNIST as one ``.npz`` file: what comes of re-saving the paper's pickles, or as Keras has it."""

from __future__ import annotations

from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from fastrev._engine.arguments import reason
from fastrev.errors import ArgumentError
from fastrev.experiments._shared.idx import Pair

# images and labels to train on, then those of the test; the paper's tuple is without names, as numpy.savez(*tuple)
_LAYOUTS = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("arr_0", "arr_1", "arr_2", "arr_3"),
)


def read_npz(path: Path) -> list[Pair]:
    """What the file holds for training, and then for the test if it has that.

    Images are (N, height, width), or (N, pixels) of square ones: unsigned bytes, or floats from 0 to 1.  Labels are
    whole numbers (N,) from 0 on, or one-hot (N, K).

    Raises
    ------
    ArgumentError
        The file cannot be read, or holds anything else.  Nothing is unpickled.
    """
    try:
        with path.open("rb") as stream:  # which numpy.load leaves open at faults
            loaded = np.load(stream, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            arrays = {name: loaded[name] for name in loaded.files}
    except Exception as error:  # whatever it is that zipfile and NumPy say of one that is damaged
        what = reason(error).rstrip(".")
        raise ArgumentError(f"{path} must be a whole .npz file without pickles, but: {what}.") from error
    found = ", ".join(arrays) or "nothing"
    layouts = [layout for layout in _LAYOUTS if set(layout) & arrays.keys()]
    if len(layouts) != 1:
        expected = " or ".join(" and ".join(layout[:2]) for layout in _LAYOUTS)
        raise ArgumentError(f"{path} must hold arrays {expected}, perhaps with those of the test, not {found}.")
    ((train, test),) = ((layout[:2], layout[2:]) for layout in layouts)
    held = set(train + test) & arrays.keys()
    if held not in (set(train), set(train + test)):
        raise ArgumentError(f"{path} must hold {', '.join(train)}, alone or with {', '.join(test)}, not {found}.")
    return [_pair(path, arrays, *names) for names in ([train, test] if len(held) == 4 else [train])]


def _pair(path: Path, arrays: dict[str, Any], images_name: str, labels_name: str) -> Pair:
    for name in (images_name, labels_name):
        kind = arrays[name].dtype if isinstance(arrays[name], np.ndarray) else "bytes"
        if getattr(kind, "kind", "") not in tuple("biuf"):
            raise ArgumentError(f"{path} must hold {name} as numbers, not as {kind}.")
    images, labels = arrays[images_name], arrays[labels_name]
    if images.ndim == 2 and isqrt(images.shape[1]) ** 2 == images.shape[1]:
        images = images.reshape(len(images), isqrt(images.shape[1]), -1)
    if images.ndim != 3 or 0 in images.shape:
        shape = arrays[images_name].shape
        raise ArgumentError(f"{path} must hold {images_name} of shape (N, height, width), not {shape}.")
    if labels.ndim == 2 and labels.shape[1] > 1 and np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all():
        labels = labels.argmax(axis=1)
    whole = labels.shape == images.shape[:1] and np.isfinite(labels).all()
    if not whole or not ((labels % 1 == 0) & (labels >= 0) & (labels < 2**31)).all():
        received = f"{arrays[labels_name].dtype} of shape {arrays[labels_name].shape}"
        raise ArgumentError(
            f"{path} must hold {labels_name} ({len(images)},) of whole numbers from 0 on, or one-hot, not {received}."
        )
    if images.dtype == np.uint8:
        return images / 255, labels.astype(np.int64)
    if images.dtype.kind != "f" or not (images.min() >= 0 and images.max() <= 1):
        raise ArgumentError(
            f"{path} must hold {images_name} as unsigned bytes or as floats from 0 to 1, not {images.dtype} from "
            f"{images.min()} to {images.max()}."
        )
    return images.astype(np.float64), labels.astype(np.int64)
