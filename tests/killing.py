"""Jobs that are killed at random moments, by SIGKILL, and called again: ``python -m tests.killing KILLS SEED``.

All are compiled and run once in this process, which is then forked for every attempt: a kill costs what it destroys.
The last line is JSON: of each job the kills, and what its file was of after each of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastrev
from fastrev._files import files, shelf
from fastrev._tuning import checkpoints
from tests.cases import Case, digits_like

STEPS, EVERY = 150, 15
WORDS = 16  # of a file of stored information here: some twenty files a run
Kept = dict[str, Any]  # the arguments checkpoint and every, or none


class Pendulum:
    """An Objective with hyperparameters of its own."""

    num_params = 300
    theta = {"scale": np.linspace(0.5, 2, 300), "shift": np.float64(0.3)}

    def grad(self, w, t):
        return self.theta["scale"] * np.sin(w - self.theta["shift"] - t % 7)

    def hvp(self, w, u, t):
        return self.theta["scale"] * np.cos(w - self.theta["shift"] - t % 7) * u

    def cross(self, w, u, t):
        angle = w - self.theta["shift"] - t % 7
        return {"scale": u * np.sin(angle), "shift": -(self.theta["scale"] * np.cos(angle)) @ u}


def case(dtype: Any = np.float64, **changes: Any) -> Case:
    return digits_like(STEPS, dtype, **changes)


def valid(w):
    return float(w @ w) / 2, w


def train(kept: Kept) -> Any:
    x, y = case().arguments["valid"]
    run = case(optimizer=fastrev.Adam(0.01, weight_decay=0.1), lr=None, decay=None).train(curve=(x, y, 7), **kept)
    return run.w, run.v, run.curve, run.stats


def pullback(kept: Kept) -> Any:
    """Of five losses, by which `train` has no part in the file."""
    run = case().train()
    rows = np.random.default_rng(1).standard_normal((5, run.w.size))
    return run.pullback(rows, v_bar=rows[::-1], wrt=("lr", "w0", "x", "l2"), truncate=100, **kept), run.stats


def network(kept: Kept) -> Any:
    return case(np.float32).meta_grad(wrt=("lr", "decay", "w0", "y"), **kept)


def buffered(kept: Kept) -> Any:
    """With its words in files, where it is kept; their number is no part of what is compared."""
    words = None
    if kept:
        words = kept["checkpoint"].with_name("words")
        words.mkdir(exist_ok=True)
    result = case(decay=0.5, buffer=words).meta_grad(wrt=("lr", "decay", "w0"), **kept)
    return result.w, result.v, result.grad, result.stats.stored_bits, result.stats.exact


def adam(kept: Kept) -> Any:
    """Several losses."""
    x, y = case().arguments["valid"]
    losses = [(x[:5], y[:5]), (x[5:], y[5:])]
    optimizer = fastrev.Adam(np.full((STEPS, 4), 0.01), weight_decay=0.1)
    return case(optimizer=optimizer, lr=None, decay=None, valid=losses).meta_grad(wrt=("lr", "beta2", "w0"), **kept)


def objective(kept: Kept) -> Any:
    return fastrev.meta_grad(Pendulum(), np.linspace(-1, 1, 300), valid=valid, lr=0.1, decay=0.9, steps=STEPS, **kept)


def tune(kept: Kept) -> Any:
    few = case().arguments
    result = fastrev.tune(
        case().model, train=few["train"], valid=few["valid"], steps=50, batch_size=8, lr=np.full(50, 0.3), decay=0.9,
        learn=("lr", "decay"), meta_steps=15, runs=2, progress=False, checkpoint=kept.get("checkpoint"),
    )  # fmt: skip
    return result.learned, result.history, result.loss, result.nfev


JOBS: dict[str, Callable[[Kept], Any]] = {
    each.__name__: each for each in (train, pullback, network, buffered, adam, objective, tune)
}


def bits(value: Any) -> str:
    """A digest of every bit of a result."""
    return hashlib.sha256(repr(_plain(value)).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return _plain(vars(value)) if hasattr(value, "__dataclass_fields__") else repr(value)


def stands(path: Path) -> str:
    """What a file is of."""
    if not path.exists():
        return "nothing"
    kind, _, arrays = files.read(path)
    if kind != files.RUN:
        return "tuning"
    return "back" if "adjoint.w" in arrays else "there"


def child(action: Callable[[], Any], out: Path) -> int:
    """Do something in a process of its own, and leave what it returns in a file."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            out.write_bytes(pickle.dumps(action()))
            code = 0
        finally:
            os._exit(code)
    return process


def attempt(action: Callable[[], str], out: Path, after: float | None) -> str | None:
    """Its result; None if it was killed before."""
    process = child(action, out)
    if after is not None:
        time.sleep(after)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    assert status == 0, f"ended with {status}"
    found: str = pickle.loads(out.read_bytes())
    return found


def kill(name: str, kills: int, rng: np.random.Generator, folder: Path) -> dict[str, Any]:
    """Kill a job so many times, beginning anew whenever it came to its end, and hold every end against the first."""
    job, out, path = JOBS[name], folder / "out", folder / name
    plain = bits(job({}))
    kept = {"checkpoint": path, "every": EVERY}
    for _ in range(2):  # what is compiled the first time is not what it lasts
        begun = time.perf_counter()
        assert bits(job(kept)) == plain  # nothing changes where it is kept
        lasts = time.perf_counter() - begun
        assert bits(job(kept)) == plain  # at once
        path.unlink()
    seen: Counter[str] = Counter()
    ends = 0
    while sum(seen.values()) < kills:
        found = attempt(lambda: bits(job(kept)), out, rng.uniform(0, 0.7 * lasts))
        if found is None:
            seen[stands(path)] += 1
            continue
        assert found == plain, name
        ends += 1
        path.unlink()
    assert attempt(lambda: bits(job(kept)), out, None) == plain, name
    torn = list(folder.glob(".fastrev-*"))
    for each in torn:
        each.unlink()
    return {"kills": dict(seen), "ends": ends + 1, "while writing": len(torn), "seconds": round(lasts, 3)}


def main(kills: int, seed: int) -> dict[str, Any]:
    """Kill all jobs, each its share."""
    checkpoints._REST, shelf.WORDS = 0.0, WORDS  # tune writes at every meta-step
    rng, found = np.random.default_rng(seed), {}
    with tempfile.TemporaryDirectory() as folder:
        for i, name in enumerate(JOBS):
            share = kills // len(JOBS) + (i < kills % len(JOBS))
            found[name] = kill(name, share, rng, Path(folder))
    return found


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:]))))
