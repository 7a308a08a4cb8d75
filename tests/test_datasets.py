"""The data of the experiments: every file is read whole, or named."""

from __future__ import annotations

import gzip
import math
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrev.errors import ArgumentError
from fastrev.experiments import main
from fastrev.experiments._shared.datasets import load, mislabelled
from fastrev.experiments._shared.idx import read_idx
from fastrev.experiments._shared.npz import read_npz
from fastrev.experiments._shared.tasks import load as load_tasks


def idx_header(*shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    content = idx_header(*array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_digits(folder: Path, part: str = "train", suffix: str = "", count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Images of 4 x 3 pixels whose class, 0 to 2, is the brightest column."""
    rng = np.random.default_rng(count)
    labels = np.arange(count) % 3
    images = rng.integers(0, 100, (count, 4, 3))
    images[np.arange(count), :, labels] += 150
    write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)
    return images, labels


def test_idx_examples_arrive_whole(tmp_path):
    images, labels = write_digits(tmp_path)
    data = load(tmp_path, seed=0)
    assert data.shape == (4, 3)
    assert data.classes == 3
    x, y = (np.concatenate([part[i] for part in (data.train, data.valid, data.test)]) for i in (0, 1))
    order = np.lexsort(x.T)
    expected = images.reshape(60, 12) / 255
    expected_order = np.lexsort(expected.T)
    assert np.array_equal(x[order], expected[expected_order])
    assert np.array_equal(y[order], labels[expected_order])


def test_a_test_set_of_its_own_is_used_as_such(tmp_path):
    write_digits(tmp_path, "train")
    images, labels = write_digits(tmp_path, "t10k", ".gz", count=21)
    data = load(tmp_path, seed=0)
    assert np.array_equal(data.test[0], images.reshape(21, 12) / 255)
    assert np.array_equal(data.test[1], labels)
    assert len(data.train[0]) + len(data.valid[0]) == 60


def broken_folder(folder: Path, fault: str) -> None:
    write_digits(folder)
    images, labels = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    if fault == "empty":
        images.unlink()
        labels.unlink()
    elif fault == "no labels":
        labels.unlink()
    elif fault == "truncated":
        images.write_bytes(images.read_bytes()[:-1])
    elif fault == "header":
        images.write_bytes(images.read_bytes()[:7])
    elif fault == "magic":
        images.write_bytes(b"\x89PNG" + images.read_bytes())
    elif fault == "counts":
        write_idx(labels, np.zeros(59))
    elif fault == "ranks":
        write_idx(labels, np.zeros((60, 1)))
    elif fault == "gzip":
        images.rename(f"{images}.gz")
    elif fault == "sizes":
        write_idx(folder / "t10k-images-idx3-ubyte", np.zeros((5, 3, 4)))
        write_idx(folder / "t10k-labels-idx1-ubyte", np.zeros(5))
    elif fault == "no examples":
        write_idx(labels, np.zeros(0))
    elif fault == "no pixels":
        write_idx(images, np.zeros((60, 4, 0)))
    elif fault == "few":
        write_idx(images, np.zeros((2, 4, 3)))
        write_idx(labels, np.zeros(2))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("empty", "holds neither pair"),
        ("no labels", "must hold train-labels-idx1-ubyte"),
        ("truncated", "must hold the elements of shape (60, 4, 3), 720 bytes, not 719"),
        ("header", "must begin with an IDX header, but ends within it, after 7 bytes"),
        ("magic", "must be an IDX file of unsigned bytes and begin with 0x000008, not with 0x89504e"),
        ("counts", "holds 60 images, but"),
        ("ranks", "labels of rank 1, not 3, 2"),
        ("gzip", "must be gzipped, as its name says, and begin with 0x1f8b, not with 0x0000"),
        ("no examples", "whose every dimension is at least 1, not one of shape (0,)"),
        ("no pixels", "whose every dimension is at least 1, not one of shape (60, 4, 0)"),
        ("sizes", "must have one size, not (4, 3) and (3, 4)"),
        ("few", "at least 10 examples to be split, not 2"),
    ],
)
def test_bad_data_is_named(fault, message, tmp_path, capsys):
    broken_folder(tmp_path, fault)
    assert main(["schedule", "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fastrev: ")
    assert message in error


def damaged(content: bytes, place: int) -> bytes:
    """The content with all bits of one byte flipped."""
    changed = bytearray(content)
    changed[place] ^= 0xFF
    return bytes(changed)


def all_but_bytes(value: object) -> str:
    return "content" if isinstance(value, bytes) else str(value)


IDX = idx_header(2, 3) + bytes(range(6))
GZIPPED = gzip.compress(idx_header(1000) + bytes(range(250)) * 4)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a", b"", "begin with an IDX header, but ends within it, after 0 bytes"),
        ("a", IDX[:3], "ends within it, after 3 bytes"),
        ("a", IDX[:11], "ends within it, after 11 bytes"),
        ("a", b"\0\0\x0d\x02" + IDX[4:], "unsigned bytes and begin with 0x000008, not with 0x00000d"),
        ("a", idx_header() + b"x", "must hold an array of rank 1 to 3, not of rank 0"),
        ("a", idx_header(1, 1, 1, 1) + b"x", "rank 1 to 3, not of rank 4"),
        ("a", idx_header(*[1] * 65) + b"x", "rank 1 to 3, not of rank 65"),
        ("a", idx_header(2**32 - 1, 0, 2**32 - 1), "at least 1, not one of shape (4294967295, 0, 4294967295)"),
        ("a", idx_header(0), "at least 1, not one of shape (0,)"),
        ("a", idx_header(*[2**32 - 1] * 3) + b"x", f"(4294967295, 4294967295, 4294967295), {(2**32 - 1) ** 3} bytes"),
        ("a", IDX[:-1], "must hold the elements of shape (2, 3), 6 bytes, not 5"),
        ("a", IDX + b"x", "shape (2, 3), 6 bytes, not 7"),
        ("a", GZIPPED, "must be an IDX file, not a gzipped one. Give it a name that ends in .gz"),
        ("a.gz", IDX, "must be gzipped, as its name says, and begin with 0x1f8b, not with 0x0000"),
        ("a.gz", b"", "begin with 0x1f8b, not with nothing"),
        ("a.gz", gzip.compress(b""), "ends within it, after 0 bytes"),
        ("a.gz", gzip.compress(IDX[:-1]), "shape (2, 3), 6 bytes, not 5"),
        ("a.gz", gzip.compress(IDX + b"x"), "shape (2, 3), 6 bytes, not more"),
        ("a.gz", gzip.compress(IDX) + gzip.compress(b"x"), "shape (2, 3), 6 bytes, not more"),
        ("a.gz", gzip.compress(idx_header(300, 300, 300)), "shape (300, 300, 300), 27000000 bytes, not the "),
        ("a.gz", GZIPPED[:5], "must be a gzipped IDX file, whole and readable, but: Compressed file ended"),
        ("a.gz", GZIPPED[:-10], "must be a gzipped IDX file, whole and readable, but: Compressed file ended"),
        ("a.gz", GZIPPED[:-8] + bytes(4) + GZIPPED[-4:], "whole and readable, but: CRC check failed"),
        ("a.gz", GZIPPED + b"x", "whole and readable, but: Not a gzipped file"),
        ("a.gz", GZIPPED[:10] + b"\xff" + GZIPPED[11:], "whole and readable, but: Error -3 while decompressing"),
        ("a.gz", damaged(GZIPPED, 2), "whole and readable, but: Unknown compression method"),
    ],
    ids=all_but_bytes,
)
def test_a_bad_idx_file_is_named(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ArgumentError) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path} must ")
    assert message in str(caught.value)


@pytest.mark.parametrize(("name", "kind"), [("a", "an IDX file"), ("a.gz", "a gzipped IDX file")])
def test_an_idx_file_that_cannot_be_opened_is_named(name, kind, tmp_path, monkeypatch):
    path = tmp_path / name

    def expect(reason: str) -> None:
        with pytest.raises(ArgumentError) as caught:
            read_idx(path)
        assert str(caught.value) == f"{path} must be {kind}, whole and readable, but: {reason}."

    expect("No such file or directory")
    path.mkdir()
    expect("Is a directory")

    def refuse(self, mode):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    expect("Permission denied")


def test_gzip_of_several_members_is_read_whole(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(b"".join(gzip.compress(part) for part in (IDX[:3], IDX[3:14], b"", IDX[14:])) + bytes(10))
    assert np.array_equal(read_idx(path), np.arange(6).reshape(2, 3))


def test_as_many_zeros_as_gzip_can_hold_are_read(tmp_path):
    path = tmp_path / "a.gz"
    write_idx(path, np.zeros((10, 1000, 1000)))
    assert path.stat().st_size < 1e7 / 1000
    assert np.array_equal(read_idx(path), np.zeros((10, 1000, 1000)))


def gzipped_gigabyte(header: bytes) -> bytes:
    """The header and 2**30 zeros, without the checksum, in 1 MB."""
    deflate = zlib.compressobj(9, wbits=31)
    start = deflate.compress(header) + deflate.flush(zlib.Z_FULL_FLUSH)
    megabyte = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)  # depends on nothing before it
    return start + 1024 * megabyte


NOISE = np.random.default_rng(0).bytes(2**20)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.gz", gzipped_gigabyte(idx_header(60)), "60 bytes, not more"),
        ("a.gz", gzipped_gigabyte(idx_header(2**31)), "2147483648 bytes, not the 1"),
        ("a.gz", gzipped_gigabyte(b""), "begin with 0x000008, not with 0x000000"),
        ("a.gz", gzip.compress(idx_header(10**9) + NOISE), "1000000000 bytes, not 1048576"),
        ("a", idx_header(2**31) + NOISE, "2147483648 bytes, not 1048576"),
        ("a", idx_header(60) + NOISE, "60 bytes, not 1048576"),
    ],
    ids=all_but_bytes,
)
def test_a_bad_idx_file_takes_no_memory(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ArgumentError) as caught:
            read_idx(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in str(caught.value)
    assert peak < 8 * 2**20


def idx_content(content: bytes, packed: bool) -> np.ndarray | None:
    """What a file of this content holds, all of it in memory at once; None if it is no IDX file."""
    try:
        content = gzip.decompress(content) if packed else content
    except (OSError, EOFError, zlib.error):
        return None
    rank = content[3] if len(content) > 3 else 0
    start = 4 + 4 * rank
    if content[:3] != b"\0\0\x08" or not 1 <= rank <= 3 or len(content) < start:
        return None
    shape = struct.unpack(f">{rank}I", content[4:start])
    if 0 in shape or math.prod(shape) != len(content) - start:
        return None
    return np.frombuffer(content[start:], np.uint8).reshape(shape)


@st.composite
def mutated(draw, content: bytes) -> bytes:
    """The content as it is, or with bytes flipped, cut off or appended, mostly one of them."""
    for mutation in draw(st.lists(st.sampled_from(["flip", "cut", "append"]), max_size=2)):
        if mutation == "append":
            content += draw(st.binary(min_size=1, max_size=20) | st.just(gzip.compress(b"x")))
        elif content:
            place = draw(st.integers(0, len(content) - 1))
            content = damaged(content, place) if mutation == "flip" else content[:place]
    return content


@st.composite
def idx_files(draw) -> tuple[bytes, bool]:
    """The content of a file and whether it is called .gz: an IDX file, more or less."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3) | st.lists(st.integers(0, 2), max_size=5))
    count = math.prod(shape)
    content = draw(mutated(idx_header(*shape) + draw(st.binary(min_size=count, max_size=count))))
    packed = draw(st.booleans())
    return (draw(mutated(gzip.compress(content, mtime=0))) if packed else content), packed


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("idx")


@settings(max_examples=500, deadline=None)
@given(file=idx_files() | st.tuples(st.binary(max_size=100), st.booleans()))
def test_read_idx_returns_the_array_or_names_the_file(file, scratch):
    content, packed = file
    path = scratch / ("a.gz" if packed else "a")
    path.write_bytes(content)
    expected = idx_content(content, packed)
    if expected is None:
        with pytest.raises(ArgumentError) as caught:
            read_idx(path)
        assert str(caught.value).startswith(f"{path} must ")
    else:
        found = read_idx(path)
        assert found.dtype == np.uint8
        assert found.shape == expected.shape
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("folder", ["no/such/folder", "x" * 300, __file__])
def test_a_folder_that_is_none_is_named(folder, capsys):
    assert main(["distill", "--data", folder]) == 2
    assert f"'--data' must be a folder of IDX files, or an .npz file, not {folder!r}" in capsys.readouterr().err


# ---- .npz ------------------------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 4, 4)).astype(np.uint8)
LABELS = np.arange(30) % 3


@pytest.mark.parametrize("names", [
    ("train_images", "train_labels", "test_images", "test_labels"), ("x_train", "y_train", "x_test", "y_test"), None,
])  # fmt: skip
@pytest.mark.parametrize("images", [IMAGES, IMAGES / 255, (IMAGES / 255).reshape(30, 16)], ids=["bytes", "0-1", "flat"])
@pytest.mark.parametrize("labels", [LABELS, LABELS.astype(np.uint8), np.eye(3)[LABELS]], ids=["int", "bytes", "onehot"])
def test_every_layout_of_npz_is_the_same_data(names, images, labels, tmp_path):
    """As the paper's pickles hold MNIST, re-saved with or without names, and as Keras does."""
    arrays = images[:20], labels[:20], images[20:], labels[20:]
    np.savez(
        tmp_path / "mnist.npz", *(arrays if names is None else ()), **(dict(zip(names or (), arrays, strict=False)))
    )
    data = load(tmp_path / "mnist.npz", seed=3)
    assert data.shape == (4, 4)
    assert np.array_equal(data.test[0], IMAGES[20:].reshape(10, 16) / 255)
    assert np.array_equal(data.test[1], LABELS[20:])
    assert sorted(map(tuple, np.concatenate([data.train[0], data.valid[0]]))) == sorted(
        map(tuple, IMAGES[:20].reshape(20, 16) / 255))  # fmt: skip


def test_npz_without_a_test_set_is_split(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=LABELS)
    data = load(tmp_path / "a.npz", seed=0)
    assert len(data.train[1]) + len(data.valid[1]) + len(data.test[1]) == 30


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": IMAGES}, "must hold arrays train_images and train_labels or x_train and y_train or arr_0 and arr_1"),
        ({}, "not nothing"),
        ({"arr_0": IMAGES[:, :2, :0], "arr_1": LABELS}, "arr_0 of shape (N, height, width), not (30, 2, 0)"),
        ({"arr_0": np.zeros((30, 15)), "arr_1": LABELS}, "arr_0 of shape (N, height, width), not (30, 15)"),
        ({"arr_0": IMAGES, "arr_1": LABELS[1:]}, "arr_1 (30,) of whole numbers from 0 on, or one-hot, not int64 of"),
        ({"arr_0": IMAGES, "arr_1": LABELS - 1}, "whole numbers from 0 on"),
        ({"arr_0": IMAGES, "arr_1": LABELS / 2}, "whole numbers from 0 on"),
        ({"arr_0": IMAGES, "arr_1": LABELS + np.nan}, "whole numbers from 0 on"),
        ({"arr_0": IMAGES, "arr_1": LABELS.astype(str)}, "arr_1 as numbers, not as <U"),
        ({"arr_0": IMAGES, "arr_1": np.ones((30, 3))}, "or one-hot, not float64 of shape (30, 3)"),
        ({"arr_0": IMAGES * 1.0, "arr_1": LABELS}, "bytes or as floats from 0 to 1, not float64 from 0.0 to 255"),
        ({"arr_0": IMAGES / np.nan, "arr_1": LABELS}, "floats from 0 to 1, not float64 from nan"),
        ({"arr_0": IMAGES.astype(int), "arr_1": LABELS}, "floats from 0 to 1, not int64"),
        ({"arr_0": IMAGES.astype(object), "arr_1": LABELS}, "whole .npz file without pickles"),
        ({"arr_0": IMAGES.astype(str), "arr_1": LABELS}, "arr_0 as numbers, not as <U"),
        ({"arr_0": IMAGES, "arr_1": (LABELS + 1) * np.inf}, "whole numbers from 0 on"),
        ({"arr_0": IMAGES, "arr_1": np.ones((30, 1))}, "or one-hot, not float64 of shape (30, 1)"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES}, "alone or with x_test, y_test, not x_train, y"),
        ({"x_train": IMAGES, "y_train": LABELS, "test_images": IMAGES}, "perhaps with those of the test, not x_train"),
    ],
)  # fmt: skip
def test_a_bad_npz_is_named(arrays, message, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(ArgumentError) as caught:
        read_npz(path)
    assert str(caught.value).startswith(f"{path} must ")
    assert message in str(caught.value)


def test_an_npz_of_other_things_is_named(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("x_train", b"hello")
        packed.writestr("y_train", b"hello")
    with pytest.raises(ArgumentError, match="must hold x_train as numbers, not as bytes"):
        read_npz(path)
    with path.open("wb") as file:
        np.save(file, IMAGES)
    with pytest.raises(
        ArgumentError, match=r"must be a whole \.npz file without pickles, but: it holds a single array\."
    ):
        read_npz(path)


@pytest.mark.parametrize("labels", [np.zeros(30, int), np.where(LABELS == 1, 0, LABELS), LABELS + 1])
def test_every_class_has_examples(labels, tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=labels)
    with pytest.raises(ArgumentError, match="must hold training examples of every class from 0 to"):
        load(tmp_path / "a.npz", seed=0)


def test_a_test_set_may_be_smaller_than_its_labels(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:2], y_test=[2, 2])
    assert load(tmp_path / "a.npz", seed=0).test[1].tolist() == [2, 2]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_npz_is_read_or_named(data, scratch):
    path = scratch / "a.npz"
    np.savez_compressed(path, x_train=IMAGES, y_train=LABELS)
    path.write_bytes(data.draw(mutated(path.read_bytes())))
    try:
        ((images, labels),) = read_npz(path)
    except ArgumentError as error:
        assert str(error).startswith(f"{path} must ")  # noqa: PT017 - it may be raised or not
    else:
        assert np.array_equal(images, IMAGES / 255)
        assert np.array_equal(labels, LABELS)


# ---- labels and tasks ------------------------------------------------------------------------------------------


def test_mislabelled_labels_are_other_classes():
    given_labels, wrong = mislabelled(LABELS, 0.3, 3, np.random.default_rng(0))
    assert np.array_equal(given_labels != LABELS, wrong)
    assert wrong.sum() == 9
    assert set(given_labels) == {0, 1, 2}


def test_tasks_are_five_labellings_upright_and_turned():
    parts = load_tasks(None, seed=0)
    assert [part[0].shape for part in parts] == [(10, 30, 65), (10, 90, 65), (10, 59, 65)]
    for inputs, targets in parts:
        assert (inputs[:, :, -1] == 1).all()
        assert (targets.sum(axis=2) == 1).all()
    everything = np.concatenate([part[0][:, :, :-1] for part in parts], axis=1).reshape(1790, 8, 8)
    turned_back = np.concatenate([everything[:895], np.rot90(everything[895:], -1, axes=(1, 2))])
    assert len(np.unique(turned_back.reshape(1790, 64), axis=0)) > 1780  # no image is in two tasks


def write_alphabets(folder: Path, alphabets: int = 6, characters: int = 3, drawings: int = 8) -> None:
    image = pytest.importorskip("PIL.Image", reason="comes with matplotlib only")
    rng = np.random.default_rng(0)
    for a in range(alphabets):
        for c in range(characters + a % 2):
            (folder / f"alphabet{a}" / f"character{c}").mkdir(parents=True)
            for d in range(drawings):
                pixels = np.where(rng.random((21, 21)) < 0.1 * (c + 1), 0, 255).astype(np.uint8)
                image.fromarray(pixels).convert("1").save(folder / f"alphabet{a}" / f"character{c}" / f"{d}.png")


def test_alphabets_are_read_from_folders(tmp_path):
    write_alphabets(tmp_path)
    parts = load_tasks(tmp_path, seed=0)
    assert [part[0].shape for part in parts] == [(10, 12, 197), (10, 6, 197), (10, 6, 197)]
    for inputs, targets in parts:
        assert (targets.sum(axis=1) == targets.shape[1] / 3).all()  # every character as often
        assert 0 <= inputs.min() <= inputs.max() <= 1
        ink = np.array([[inputs[k, targets[k, :, c] == 1, :-1].mean() for c in range(3)] for k in range(10)])
        assert (np.diff(ink, axis=1) > 0).all()  # targets are those of their drawings


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ((4, 3, 8), "has 4 alphabets"),
        ((5, 1, 8), "1 characters in the smallest"),
        ((5, 2, 3), "3 drawings of the rarest"),
    ],
)
def test_too_few_drawings_are_named(kept, message, tmp_path, capsys):
    write_alphabets(tmp_path / "data", *kept)
    assert main(["multitask", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_a_drawing_that_is_none_is_named(tmp_path):
    write_alphabets(tmp_path)
    broken = tmp_path / "alphabet0" / "character0" / "0.png"
    image = pytest.importorskip("PIL.Image", reason="comes with matplotlib only")
    image.fromarray(np.full((3, 3), 1000, np.uint16)).save(broken)
    with pytest.raises(ArgumentError, match="more than 8 bits a pixel"):
        load_tasks(tmp_path, seed=0)
    broken.write_bytes(b"\x89PNG and so on")
    with pytest.raises(ArgumentError, match="must be a picture that Pillow can read, but") as caught:
        load_tasks(tmp_path, seed=0)
    assert str(caught.value).startswith(str(broken))
