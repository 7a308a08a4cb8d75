"""Files that nobody meant: ``python -m bench.fuzz``.

Each of 200,000 inputs goes to one of the library's readers: real files with bits flipped, pieces cut out, doubled,
exchanged or put in, numbers in them made small, large or negative, archives that were spoilt before their checksum was
made, and bytes by chance.  A reader may return or raise `ArgumentError`, of words `StorageError`; whatever else it
raises is a crash, and so is memory beyond what the size of the file allows, or a second without an answer.  What ends
in a checksum and was changed in any bit must not be read.  Writes docs/guarantees.md.

A reader more is a line of `READERS`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import random
import struct
import tempfile
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import fastrev
from bench.pages import GUARANTEES, machine, rewrite, today
from fastrev._durable import run_files
from fastrev._files import archive, files, segments
from fastrev._tuning import checkpoints
from fastrev._tuning.adam import Moments
from fastrev._tuning.loop import Progress
from fastrev.experiments._shared.idx import read_idx
from fastrev.experiments._shared.npz import read_npz

READ, REFUSED = "read", "refused"
SECONDS = 1.0
# A reader's own: buffers of a file, of gzip, a chunk that is asked for at once, an error and its traceback
OVERHEAD = 2**22
Corpus = list[bytes]


class Reader(NamedTuple):
    """What reads a file, real ones for it, and the memory that one of so many bytes may take."""

    read: Callable[[Path], object]
    corpus: Callable[[Path], Corpus]
    allowed: Callable[[int], int]
    suffix: str = ""
    sealed: bool = False  # ends in a checksum, so that no change of it may be read
    archived: bool = True  # and what is sealed is an archive, which can be made again with other contents


def _idx(folder: Path) -> Corpus:
    chance = random.Random(0)
    return [
        b"\0\0\x08" + struct.pack(f">B{len(shape)}I", len(shape), *shape) + chance.randbytes(int(np.prod(shape)))
        for shape in ((3,), (2, 5), (3, 4, 4), (60, 28, 28))
    ]


def _gzipped(folder: Path) -> Corpus:
    return [gzip.compress(each, mtime=0) for each in _idx(folder)]


def _models(folder: Path) -> Corpus:
    model = fastrev.MLP((2, 2))
    return [_bytes_of(folder, partial(model.save, w=model.init(0)))]


def _results(folder: Path) -> Corpus:
    return [_bytes_of(folder, _tuned(None).save)]


def _checkpoints(folder: Path) -> Corpus:
    return [_bytes_of(folder, _tuned)]


def _tuned(checkpoint: Path | None) -> fastrev.TuneResult:
    data = np.eye(4), np.arange(4) % 2
    return fastrev.tune(
        fastrev.MLP((4, 2)), train=data, valid=data, lr=[0.1, 0.2, 0.3], decay=0.9, learn=("lr",), meta_steps=2, runs=1,
        progress=False, checkpoint=checkpoint,
    )  # fmt: skip


def _restore(path: Path) -> None:
    """As `tune` does, of the problem that the file is of."""
    contents = files.read(path, files.TUNING_CHECKPOINT, "checkpoint")
    fingerprint = contents.about.get("fingerprint")
    keeper = checkpoints.Keeper(path, fingerprint if isinstance(fingerprint, dict) else {})
    z = np.zeros(3)
    keeper.restore(SimpleNamespace(progress=Progress(z, Moments(z, z), z)))  # type: ignore[arg-type]


def _archives(folder: Path) -> Corpus:
    arrays = {"a": np.arange(3.0), "theta['b']": np.ones((2, 3), np.float32), "tail": np.arange(9, dtype=np.uint16)}
    made = [
        _bytes_of(folder, lambda path: files.write(path, "tune", {"nit": 3, "best": [1.0, None]}, arrays)),
        _bytes_of(folder, lambda path: files.write(path, "", {}, {})),
    ]
    return made + _models(folder)


def _problem() -> tuple[fastrev.MLP, np.ndarray, dict[str, Any]]:
    data = np.arange(8.0).reshape(4, 2) / 8, np.arange(4) % 2
    return fastrev.MLP((2, 2)), np.arange(6) / 6, {"train": data, "lr": 0.1, "decay": 0.5, "steps": 8}


def _runs(folder: Path) -> Corpus:
    """On its way there, at its end, half-way back, and back."""
    model, w0, given = _problem()
    made: Corpus = []
    write, path = run_files.write, folder / "run"

    def noted(*arguments: Any) -> None:
        write(*arguments)
        made.append(path.read_bytes())

    with mock.patch.object(run_files, "write", noted):
        fastrev.meta_grad(model, w0, valid=given["train"], checkpoint=path, every=4, **given)
    return made


def _run(path: Path) -> None:
    model, w0, given = _problem()
    fastrev.load(path, model, w0, **given)


def _words(folder: Path) -> Corpus:
    path = folder / "made"
    path.unlink(missing_ok=True)
    segments.write(path, _TOKEN, 3, _WORDS)
    return [path.read_bytes()]


def _segment(path: Path) -> None:
    """As a shelf does, which has the checksum from the state."""
    try:
        segments.read(path, _TOKEN, 3, _WORDS.size, zlib.crc32(_WORDS.data, zlib.crc32(_ABOUT)))
    except segments.SegmentError as error:
        raise fastrev.StorageError(str(error)) from error


_TOKEN, _WORDS = bytes(range(16)), np.arange(500, dtype=np.uint16)
_ABOUT = segments._ABOUT.pack(segments._MAGIC, segments._FORMAT, _TOKEN, 3, _WORDS.size)


def _npz(folder: Path) -> Corpus:
    images, labels = np.zeros((3, 4, 4), np.uint8), np.arange(3)
    plain = io.BytesIO()
    np.savez(plain, x_train=images, y_train=labels)
    packed = io.BytesIO()
    np.savez_compressed(packed, images / 255.0, labels)
    return [plain.getvalue(), packed.getvalue()]


def _bytes_of(folder: Path, write: Callable[[Path], object]) -> bytes:
    write(folder / "made")
    return (folder / "made").read_bytes()


def resealed(data: bytes) -> bytes:
    """An archive with the checksum that its bytes ask for, whatever they are."""
    body = data[: -archive._DIGITS]
    return body + hashlib.sha256(body).hexdigest().encode()


def _twice(size: int) -> int:
    return 2 * size  # the bytes, and the arrays made of them


READERS = {
    "IDX": Reader(read_idx, _idx, _twice),
    "IDX, gzipped": Reader(read_idx, _gzipped, lambda size: 3 * 1032 * size, ".gz"),
    "archive": Reader(files.read, _archives, _twice, sealed=True),
    "model": Reader(fastrev.MLP.load, _models, lambda size: 8 * size, sealed=True),
    "result of tune": Reader(fastrev.load, _results, lambda size: 8 * size, sealed=True),
    "checkpoint of tune": Reader(_restore, _checkpoints, lambda size: 8 * size, sealed=True),
    "run": Reader(_run, _runs, lambda size: 8 * size, sealed=True),
    "file of words": Reader(_segment, _words, _twice, sealed=True, archived=False),
    "npz of MNIST": Reader(read_npz, _npz, lambda size: 3 * 1032 * size),
}


# ---- what is done to them --------------------------------------------------------------------------------------


def mutated(data: bytes, corpus: Corpus, chance: random.Random) -> bytes:
    """A real file after one to four accidents."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(found) + 1), chance.choice((1, 2, 4, 8, 64, 1000))
        accident = chance.randrange(8)
        if accident == 0 and found:
            found[at % len(found)] ^= 1 << chance.randrange(8)
        elif accident == 1:
            del found[at : at + length]
        elif accident == 2:
            found[at:at] = found[at : at + length]
        elif accident == 3:
            found[at:at] = chance.randbytes(length)
        elif accident == 4:
            del found[at:]
        elif accident == 5:
            found[at : at + 4] = struct.pack(chance.choice("<>") + "I", chance.choice(_NUMBERS))
        elif accident == 6:
            found[at : at + length] = bytes(min(length, len(found) - at))
        else:
            other = chance.choice(corpus)
            found[at:] = other[chance.randrange(len(other) + 1) :]
    return bytes(found)


def remade(data: bytes, chance: random.Random) -> bytes:
    """An archive as `archive.write` makes it, of members that are not what its reader expects."""
    members = archive.read(io.BytesIO(data))
    for _ in range(chance.randint(1, 3)):
        name = chance.choice(sorted(members))
        accident = chance.randrange(6)
        if name == "fastrev" and accident:
            about = json.loads(members[name].tobytes())
            _spoil(about, chance)
            members[name] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        elif accident == 0:
            del members[name]
        elif accident == 1:
            members[f"{name}+"] = members.pop(name)
        elif accident == 2:
            with np.errstate(all="ignore"):
                members[name] = members[name].real.astype(chance.choice(["<f4", ">f8", "<i8", "?", "<c16", "<u2"]))
        elif accident == 3:
            members[name] = members[name].reshape(-1)[: chance.randrange(3)]
        elif accident == 4:
            members[name] = np.full(members[name].shape, chance.choice([np.nan, np.inf, -1.0, 1e300]))
        else:
            members[name] = members[name][None]
        if not members:
            break
    made = io.BytesIO()
    archive.write(made, members)
    return made.getvalue()


def _spoil(about: Any, chance: random.Random) -> None:
    """Put something else where any of a head's values is, or drop it."""
    places = list(_places(about))
    where, key = chance.choice(places)
    if isinstance(where, dict) and not chance.randrange(4):
        del where[key]
    else:
        where[key] = chance.choice(_JUNK)


def _places(about: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(about.items() if isinstance(about, dict) else enumerate(about)):
        yield about, key
        if isinstance(value, dict | list):
            yield from _places(value)


_JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**70, 1e308, float("nan"), "", "tanh", "x" * 200, [], [1, [2]], {}, {"a": 1},
    [1, 2], [10**9, 10**9],
)  # fmt: skip
_NUMBERS = (0, 1, 2, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 28, 60000)


def inputs(reader: Reader, corpus: Corpus, count: int, seed: int) -> Iterator[tuple[bytes, bool]]:
    """So many files, each with whether reading it would be wrong."""
    chance = random.Random(seed)
    for _ in range(count):
        kind = chance.randrange(10)
        data = chance.choice(corpus)
        if kind == 0:
            yield chance.randbytes(chance.choice((0, 1, 4, 16, 300, 5000))), reader.sealed
        elif kind == 1:
            yield data[: chance.randrange(20)] + chance.randbytes(chance.randrange(300)), reader.sealed
        elif reader.sealed and reader.archived and kind < 6:
            yield remade(data, chance), False
        elif reader.sealed and reader.archived and kind < 8:
            changed = mutated(data[: -archive._DIGITS], corpus, chance) + bytes(archive._DIGITS)
            yield resealed(changed), False  # what it holds may be sound
        else:
            changed = mutated(data, corpus, chance)
            yield changed, reader.sealed and changed not in corpus


def outcome(reader: Reader, path: Path, data: bytes, *, unread: bool) -> str:
    """What became of one input, or an AssertionError."""
    path.write_bytes(data)
    tracemalloc.reset_peak()
    before, start = tracemalloc.get_traced_memory()[0], time.process_time()
    try:
        reader.read(path)
        found = READ
    except (fastrev.ArgumentError, fastrev.StorageError) as error:
        found = REFUSED if str(error) else "refused without a word"
    took, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1] - before
    assert found in (READ, REFUSED), found
    assert took < SECONDS, f"{took:.1f} s"
    assert peak <= reader.allowed(len(data)) + OVERHEAD, f"{peak:,} bytes for a file of {len(data):,}"
    assert not (unread and found == READ), "it was read, though its checksum is that of other bytes"
    return found


def fuzz(name: str, count: int, seed: int) -> Counter[str]:
    """How many of so many inputs a reader has read and refused; an input that it fails on is kept, and named."""
    reader, counts = READERS[name], Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"input{reader.suffix}"
        corpus = reader.corpus(Path(folder))
        for data in corpus:
            assert outcome(reader, path, data, unread=False) == READ
        for number, (data, unread) in enumerate(inputs(reader, corpus, count, seed)):
            try:
                counts[outcome(reader, path, data, unread=unread)] += 1
            except Exception as error:
                kept = Path(tempfile.gettempdir()) / f"fuzz-{name.split()[0]}-{seed}-{number}{reader.suffix}"
                kept.write_bytes(data)
                raise AssertionError(f"{name}, input {number} of seed {seed}, kept as {kept}: {error!r}") from error
    return counts


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=210_000, help="inputs, of all readers together")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="that share them")
    parser.add_argument("--only", choices=READERS, help="one of the readers")
    parser.add_argument("--write", action="store_true", help="put the figures on the page")
    given = parser.parse_args(arguments)
    names = [given.only] if given.only else list(READERS)
    each = -(-given.count // (len(names) * len(given.seeds)))
    tracemalloc.start()
    lines = []
    for name in names:
        counts: Counter[str] = sum((fuzz(name, each, seed) for seed in given.seeds), Counter())
        lines.append(f"| {name} | {counts.total():,} | {counts[REFUSED]:,} | {counts[READ]:,} | 0 |")
        print(lines[-1], flush=True)
    if given.write:
        head = [
            "| reader | inputs | refused by an `ArgumentError`, of words a `StorageError` | read | anything else |",
            "|---|---|---|---|---|",
        ]
        rewrite(GUARANTEES, "bench.fuzz", "\n".join([*head, *lines, "", f"Measured on {machine('numpy')}, {today()}."]))


if __name__ == "__main__":
    main()
