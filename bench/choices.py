"""The measured choices that comments state, measured again: ``python -m bench.choices [NAME ...]``.

Each choice takes turns with what its comment names instead, so that what else the machine does falls on all of them
alike.  A line gives the best turn of each, or the median where chance is part of the matter: the choice as it stands
first, then the others and their ratios to it.  An alternative is other code, or the package with a piece of its text
replaced: a copy in a temporary folder, with a process that imports from there.
"""

from __future__ import annotations

import _thread
import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
import numpy as np

import fastrev
from bench.losses import calls
from bench.many_runs import TASKS, WAYS, all_runs
from bench.products_alone import of_a_step
from bench.stopwatch import stopwatch
from bench.workloads import SHAPES, workload
from fastrev._engine import sgd, teams
from fastrev._engine import state as states
from fastrev._engine.chaos import CHAOTIC_GROWTH
from fastrev._files import segments
from fastrev.kernels import (
    activations,
    elementary,
    fixed_point,
    losses,
    momentum,
    products,
    rationals,
    reductions,
    scattering,
    structures,
    training,
)
from fastrev.kernels import information_buffer as buffer
from fastrev.kernels.checksums import checksum
from fastrev.kernels.fixed_point import GRID
from fastrev.kernels.primitives import ONE, bits, copy_elements, shift_right, wrapping_add, wrapping_mul
from fastrev.kernels.rules import BY_MOMENTUM
from fastrev.kernels.team import meet
from fastrev.kernels.vectors import VECTOR

ROOT = Path(__file__).parent.parent
PARAMETERS = 44_860  # of W1
N, D, ALPHA = 9, 10, 1e-9

Figures = dict[str, float]  # by what they are of
Turn = Callable[[], Figures]
Probe = Callable[[], Turn]  # prepares, which may take long, and returns what measures


class Edit(NamedTuple):
    """One piece of text, of which a file of the package has exactly one, and what takes its place."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Variant:
    """How the package differs in the process that measures it."""

    edits: tuple[Edit, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)  # of attributes of modules
    cores: int | None = None


@dataclass(frozen=True)
class Choice:
    """What is measured, and the contestants by their labels: the choice as it stands comes first."""

    what: str
    unit: str
    probes: dict[str, Probe]
    variants: dict[str, Variant] = field(default_factory=dict)  # of all labels, or empty: all in this process
    turns: int = 9
    needs: str = ""  # a library that the extra of the benchmarks may have left out
    fresh: bool = False  # a new process with an empty cache for every turn
    slow: bool = False
    chance: bool = False  # the median of the turns counts, not the best

    @property
    def warm(self) -> bool:
        """Whether a first turn does not count."""
        return self.turns > 1 and not self.fresh


def beside(probe: Probe, **variants: Variant | Edit | tuple[Edit, ...]) -> dict[str, Any]:
    """The arguments of a `Choice` whose contestants differ in the package only."""
    found = {}
    for label, variant in variants.items():
        edits = (variant,) if isinstance(variant, Edit) else variant
        found[label.replace("_", " ").strip()] = edits if isinstance(edits, Variant) else Variant(edits=edits)
    return {"probes": dict.fromkeys(found, probe), "variants": found}


# ---- turns ---------------------------------------------------------------------------------------------------


@contextmanager
def process(name: str, label: str, fresh: bool) -> Iterator[Callable[[], Figures]]:
    """A contestant in a process of its own, from the moment that it is ready for its first turn."""
    variant = CHOICES[name].variants[label]
    with tempfile.TemporaryDirectory(prefix="choices-", ignore_cleanup_errors=True) as temporary:
        folder, environment = ROOT, dict(os.environ)
        if variant.edits:
            folder = Path(temporary) / "package"
            copy_package(folder, variant.edits)
        if variant.edits or fresh:
            environment["NUMBA_CACHE_DIR"] = str(Path(temporary) / "cache")
        command = [sys.executable, "-m", "bench.choices", "--contestant", name, label]
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:

            def turn() -> Figures:
                print(file=child.stdin, flush=True)
                line = child.stdout.readline()
                if not line:
                    sys.exit(f"{name}: {label} failed")
                return json.loads(line)

            yield turn


def copy_package(folder: Path, edits: tuple[Edit, ...]) -> None:
    """The package and the benchmarks, with the edits made."""
    for each in ("fastrev", "bench"):
        shutil.copytree(ROOT / each, folder / each, ignore=shutil.ignore_patterns("__pycache__", "plots", "kernels"))
    kernels = Path(structures.__file__).parent  # beside the package where there are no symbolic links
    shutil.copytree(kernels, folder / "fastrev" / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    for edit in edits:
        file = folder / "fastrev" / edit.file
        text = file.read_text(encoding="utf-8")
        assert text.count(edit.old) == 1, edit
        file.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


def serve(name: str, label: str) -> None:
    """Be a contestant: a turn for every line that comes."""
    assert Path(fastrev.__file__).parent.parent == Path.cwd()
    variant = CHOICES[name].variants[label]
    if variant.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: variant.cores])
    for attribute, value in variant.values.items():
        module, _, leaf = attribute.rpartition(".")
        setattr(importlib.import_module(module), leaf, value)
    turn = CHOICES[name].probes[label]()
    for _ in sys.stdin:
        print(json.dumps(turn()), flush=True)


def measure(name: str) -> dict[str, list[Figures]]:
    """The figures of all turns."""
    choice = CHOICES[name]
    found: dict[str, list[Figures]] = {label: [] for label in choice.probes}
    with ExitStack() as stack:
        turns: dict[str, Turn] = {}
        for label, probe in choice.probes.items():
            if not choice.variants:
                turns[label] = probe()
            elif not choice.fresh:
                turns[label] = stack.enter_context(process(name, label, fresh=False))
        for _ in range(choice.turns + choice.warm):
            for label in choice.probes:
                if choice.fresh:
                    with process(name, label, fresh=True) as turn:
                        found[label].append(turn())
                else:
                    found[label].append(turns[label]())
    return {label: figures[choice.warm :] for label, figures in found.items()}


def report(name: str) -> None:
    """Print a line for each of what the figures are of."""
    choice, found = CHOICES[name], measure(name)
    first, *others = found
    best = np.median if choice.chance else max if choice.unit == "GFLOP/s" else min
    for part in found[first][0]:
        values = {label: best([each[part] for each in found[label]]) for label in found}
        figures = ", ".join(f"{label} {value:.3g}".strip() for label, value in values.items())
        ratios = ", ".join(f"{values[label] / values[first]:.2f}x" for label in others)
        what = choice.what + (f", {part}" if part else "")
        print(f"{name}: {what}: {figures} {choice.unit}" + (f" ({ratios})" if ratios else ""), flush=True)


# ---- whole runs ----------------------------------------------------------------------------------------------


def whole(*names: str) -> Turn:
    """Microseconds a step of whole meta-gradients."""
    cases = [workload(name) for name in names]
    for case in cases:
        case.run()
    return lambda: {case.name: 1e6 * elapsed(case.run) / case.steps for case in cases}


def forward(*names: str) -> Turn:
    """Microseconds a step of trainings."""
    cases = [workload(name) for name in names]
    for case in cases:
        case.forward()
    return lambda: {case.name: 1e6 * elapsed(case.forward) / case.steps for case in cases}


def shared_from(work: float) -> dict[str, Any]:
    """From how many multiply-adds a step on two threads share it."""
    return {"fastrev._engine.teams.WORTH_A_STEP": work}


@numba.njit(nogil=True)
def meet_often(team, count, data, own):
    """Meetings, between which each thread writes its half of the data and reads the other's."""
    half = data.size // 2
    mine, others = (0, half) if team.me == 0 else (half, 0)
    for i in range(count):
        for p in range(half):
            data[mine + p] = i
        meet(team)
        for p in range(half):
            own[p] = data[others + p]
        meet(team)


def meeting(size: int) -> Turn:
    """Nanoseconds of a meeting; or of `size` bytes of 32 KB, from each thread to the other."""
    count, data, own = 2000, np.zeros(2 * 4096 if size else 0), np.zeros((2, 4096))

    def turn() -> Figures:
        def walk(team: structures.Team) -> None:
            meet_often(team, count, data, own[team.me])

        seconds = elapsed(lambda: teams.together(0, 2, walk))
        return {"": 1e9 * seconds / count / (2**15 / size if size else 2)}

    turn()
    return turn


def short(**steps: int) -> Turn:
    """Microseconds of whole meta-gradients of few steps, of about 1e6 multiply-adds each."""
    cases = [workload(name, steps=count) for name, count in steps.items()]
    for case in cases:
        case.run()
    return lambda: {case.name: 1e6 * shortest(partial(elapsed, case.run)) for case in cases}


def elapsed(function: Callable[[], object]) -> float:
    """Its seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def shortest(turn: Callable[[], float], times: int = 5) -> float:
    """Of a few measurements in a row."""
    return min(turn() for _ in range(times))


def way_back(name: str, blas: bool = False) -> Turn:
    """Microseconds a step of the way back alone, after a sleep.

    With `blas` a matrix product on all cores comes between, whose threads wait for another one for a while.
    """
    case, matrix = workload(name), np.ones((512, 512))

    def turn() -> Figures:
        run = fastrev.train(
            fastrev.MLP(case.sizes), case.w0, train=case.train, optimizer=case.optimizer, batches=case.batches
        )
        time.sleep(0.1)
        if blas:
            matrix @ matrix
        return {name: 1e6 * elapsed(lambda: run.pullback(run.w, wrt=case.wrt)) / case.steps}

    return turn


def many_losses(*names: str) -> Turn:
    """Microseconds a step and loss of a way back for 64 losses."""
    cases = {name: workload(name) for name in names}

    def turn() -> Figures:
        found = {}
        for name, case in cases.items():
            w_bar = np.random.default_rng(0).standard_normal((64, case.w0.size))
            run = fastrev.train(
                fastrev.MLP(case.sizes), case.w0, train=case.train, optimizer=case.optimizer, batches=case.batches
            )
            found[name] = 1e6 * elapsed(lambda run=run, w=w_bar, c=case: run.pullback(w, wrt=c.wrt)) / case.steps / 64
        return found

    return turn


def many_runs(way: str) -> Turn:
    """Milliseconds of 16 runs, right after others and after a rest."""

    def turn() -> Figures:
        figures = {}
        for task in TASKS:
            with all_runs(task, way) as run:
                figures[f"16 of {task}"] = 1e3 * elapsed(run)
                time.sleep(0.05)
                figures[f"16 of {task}, after a rest"] = 1e3 * elapsed(run)
        return figures

    return turn


def long_run(on_disk: bool) -> Turn:
    """Microseconds a step of W1's meta-gradient at a decay that stores one bit a parameter a step, in 2 MB or more."""
    case = workload("W1", steps=1)

    def turn() -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            buffer, steps = folder if on_disk else None, 1000
            how = {"lr": 0.01, "decay": 0.5, "batch_size": 200, "steps": steps, "buffer": buffer}
            run = partial(fastrev.meta_grad, case.model, case.w0, train=case.train, valid=case.valid, **how)
            return {"": 1e6 * elapsed(run) / steps}

    return turn


def a_file(words: int) -> Turn:
    """Milliseconds that a file of so many words takes, written and read again."""

    def turn() -> Figures:
        found = np.random.default_rng(0).integers(2**16, size=words).astype(np.uint16)
        with tempfile.TemporaryDirectory() as folder:
            path, token = Path(folder) / "words", bytes(16)
            start = time.perf_counter()
            checksum = segments.write(path, token, 0, found)
            written = time.perf_counter()
            segments.read(path, token, 0, words, checksum)
            read = time.perf_counter()
        return {"written": 1e3 * (written - start), "read": 1e3 * (read - written)}

    return turn


def first_call(clock: Callable[[], float]) -> Turn:
    """Seconds of a first meta-gradient, which compiles."""
    case = workload("W3", steps=10)
    start = clock()
    case.run()
    seconds = clock() - start
    return lambda: {"": seconds}


def predictions() -> Turn:
    """How wrong a gradient by lr is about a change of it by 0.1 %, where derivatives grow and where not."""
    rng = np.random.default_rng(0)
    x = rng.random((1500, 64))
    y = (np.tanh(x @ rng.standard_normal((64, 32)) / 4) @ rng.standard_normal((32, 10))).argmax(axis=1)
    train, valid = (x[:1000], y[:1000]), (x[1000:], y[1000:])
    errors: dict[bool, list[float]] = {False: [], True: []}
    for sizes, scale, steps in ((64, 32, 10), None, 200), ((64, 50, 50, 50, 10), 0.2, 100), ((64, 10), None, 200):
        model = fastrev.MLP(sizes)
        setting = {"train": train, "decay": 0.9, "steps": steps, "batch_size": 50}
        for lr in np.geomspace(0.1, 20, 40):
            w0 = model.init(0, scale)
            with warnings.catch_warnings(), suppress(fastrev.DivergenceError):
                warnings.simplefilter("ignore", fastrev.ChaosWarning)
                result = fastrev.meta_grad(model, w0, valid=valid, lr=lr, wrt=("lr",), **setting)
                ends = [fastrev.train(model, w0, lr=lr * (1 + h), **setting).w for h in (1e-3, -1e-3)]
                change = np.subtract(*(model.loss_value(w, *valid) for w in ends)) / (2e-3 * lr)
                norms = result.stats.adjoint_norms
                errors[norms.max() > CHAOTIC_GROWTH * norms[-1]].append(abs(change / result.grad.lr - 1))
    figures = {
        f"{part} of {len(errors[grown])}, growth {side} {CHAOTIC_GROWTH:g}": quantity(errors[grown])
        for grown, side in ((False, "below"), (True, "above"))
        for part, quantity in (("median", np.median), ("least", np.min), ("largest", np.max))
    }
    return lambda: figures


def steps_by_hand(named: bool) -> Turn:
    """Microseconds of a call of a kernel that makes one step of one parameter."""
    state, scratch = states.new_state(np.zeros(1, np.int64), np.zeros((1, 1), np.int64)), np.empty(2 * buffer.BLOCK)
    states.make_room(state.tail, 0, 1000)
    tables, g, w = sgd.prepare(0.0, 1.0, np.array([0, 1])).tables, np.zeros(1), np.zeros(1)
    rule, given = (tables, state) if named else (tuple(tables), tuple(state))
    call = partial(BY_MOMENTUM.by_hand.make, rule, given, g, w, np.empty(1, np.int64), scratch)
    return lambda: {"": shortest(lambda: 1e3 * elapsed(lambda: [call() for _ in range(1000)]))}


class Still:
    """An objective of W2's size whose functions take no time."""

    num_params = 2410
    g = np.full(num_params, 1e-3)

    def grad(self, w, t):
        return self.g

    def hvp(self, w, u, t):
        return self.g


def python_loop() -> Turn:
    """Microseconds a step of a meta-gradient of `Still`, there and back."""
    model, w0, steps = Still(), np.zeros(Still.num_params), 1000

    def run() -> None:
        fastrev.meta_grad(model, w0, valid=lambda w: (0.0, model.g), lr=1e-3, decay=0.9, steps=steps)

    run()
    return lambda: {"": 1e6 * elapsed(run) / steps}


@numba.njit(error_model="numpy")
def there_and_back(tables, state, adjoint, g, w, moments, u, scratch, steps):
    """The same arithmetic in one compiled loop."""
    for t in range(steps):
        fixed_point.grid_to_floats(state.w, w)
        top, _, _ = momentum.step(tables, state, g, t, scratch)
        training.commit(state, t + 1, top, g)
    v_plus_g = np.empty_like(g)
    for t in range(steps - 1, -1, -1):
        momentum.record_before(state, moments)
        top = momentum.undo_position(tables, state, t, scratch)
        fixed_point.grid_to_floats(state.w, w)
        v_plus_g[:] = g
        training.retract(state, t, momentum.undo_moments(tables, state, v_plus_g, t, top, scratch), v_plus_g)
        momentum.record_after(state, v_plus_g)
        momentum.pull_position(tables, w, moments, v_plus_g, adjoint, t, u, scratch)
        momentum.pull_moments(tables, moments, v_plus_g, adjoint, t, g)


def compiled_loop() -> Turn:
    """Microseconds a step of it."""
    size, steps, g = Still.num_params, 1000, Still.g
    rule = sgd.prepare(1e-3, 0.9, np.array([0, size]))
    (w, u), moments = np.empty((2, size)), np.empty((1, size))

    def run() -> float:
        state = states.new_state(np.zeros(size, np.int64), np.zeros((1, size), np.int64))
        states.make_room(state.tail, 0, size * steps // 50)
        adjoint = structures.Adjoint(g.copy(), g.copy()[np.newaxis], rule.new_adjoint(), None, np.empty(1), 0, steps)
        return elapsed(
            lambda: there_and_back(rule.tables, state, adjoint, g, w, moments, u, np.empty(2 * buffer.BLOCK), steps)
        )

    run()
    return lambda: {"": 1e6 * run() / steps}


def against_floats() -> Turn:
    """How far the final weights of 200 steps of Adam on W2 are from those in floats, relative to the largest."""
    task, steps = workload("W2", steps=200), 200
    model, (x, y) = fastrev.MLP(task.sizes), task.train
    assert task.batches is not None

    def floats(eps: float, eps_root: float) -> Any:
        w, (m, s) = task.w0.copy(), np.zeros((2, task.w0.size))
        for t, rows in enumerate(task.batches):
            g = model.grad(w, x[rows], y[rows])
            m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2
            root = np.sqrt(s / (1 - 0.999 ** (t + 1)) + eps_root)
            w = w - 0.01 * m / (1 - 0.9 ** (t + 1)) / (root + eps)
        return w

    figures = {}
    for eps, eps_root in ((1e-8, 0.0), (1e-6, 0.0), (1e-4, 0.0), (1e-8, 1e-12), (1e-8, 1e-8)):
        optimizer = fastrev.Adam(0.01, eps=eps, eps_root=eps_root)
        run = fastrev.train(model, task.w0, train=task.train, batches=task.batches, optimizer=optimizer, steps=steps)
        exact = floats(eps, eps_root)
        figures[f"eps {eps:g}, eps_root {eps_root:g}"] = float(np.abs(run.w - exact).max() / np.abs(exact).max())
    return lambda: figures


# ---- kernels by themselves -----------------------------------------------------------------------------------


@numba.njit
def product(a, b, m, n, k, c):
    """`products.product`, which is a part of its callers."""
    products.product(a, 0, k, ONE, b, 0, m, n, k, c, 0)


@numba.njit
def products_of(shapes, a, b, c):
    """Many of them."""
    for i in range(shapes.shape[0]):
        m, k, n = shapes[i]
        product(a, b, m, n, k, c)


def gflops(m: int, k: int, n: int) -> Turn:
    """GFLOP/s of one product."""
    a, b, c = (np.full(size, 1e-3) for size in (m * k, k * n, m * n))
    c[:] = 0.0
    product(a, b, m, n, k, c)
    assert np.allclose(c, 1e-6 * k)
    seconds = stopwatch(product, a, b, m, n, k, c)
    return lambda: {f"{m}, {k}, {n}": 2e-9 * m * k * n / shortest(seconds)}


def narrow() -> Turn:
    """GFLOP/s of products whose last vector has two elements."""
    turns = [gflops(*LARGE), gflops(200, 784, 10)]
    return lambda: {shape: found for turn in turns for shape, found in turn().items()}


@numba.njit
def from_memory(count, a, b, m, n, k, c):
    """The products of one A with B after B, or, where all is added to one after the other, to C after C."""
    for each in range(count):
        products.product(a, 0, k, ONE, b, each * k * n % b.size, m, n, k, c, each * m * n % c.size)


def large() -> Turn:
    """GFLOP/s of products whose B, or whose C, comes from memory."""
    seconds, count = {}, 8
    for m, k, n in ((64, 995, 995), (995, 64, 995)):
        for dtype in (np.float64, np.float32):
            rows, depth = (1, count) if k > m else (count, 1)
            a, b, c = (np.full(size, 1e-3, dtype) for size in (m * k, depth * k * n, rows * m * n))
            operations = 2 * count * m * k * n
            seconds[f"{m}, {k}, {n} {np.dtype(dtype)}"] = operations, stopwatch(from_memory, count, a, b, m, n, k, c)
    return lambda: {shape: 1e-9 * operations / shortest(each) for shape, (operations, each) in seconds.items()}


@numba.njit
def one_by_one(count, a, b, m, n, k, c, wide_b, wide_c):
    """The products of A with one B (k, n) after the other."""
    c[:] = 0.0
    for each in range(count):
        products.product(a, 0, k, ONE, b, each * k * n, m, n, k, c, each * m * n)


@numba.njit
def wide(count, a, b, m, n, k, c, wide_b, wide_c):
    """As one product, where all B and C are interleaved already."""
    wide_c[:] = 0.0
    products.product(a, 0, k, ONE, wide_b, 0, m, count * n, k, wide_c, 0)


@numba.njit
def interleaved(count, a, b, m, n, k, c, wide_b, wide_c):
    """As one product, B interleaved before it and C taken apart after it."""
    for each in range(count):
        for i in range(k):
            copy_elements(b, (each * k + i) * n, wide_b, (i * count + each) * n, n)
    wide(count, a, b, m, n, k, c, wide_b, wide_c)
    for each in range(count):
        for i in range(m):
            copy_elements(wide_c, (i * count + each) * n, c, (each * m + i) * n, n)


def for_losses(function: Any, count: int) -> Turn:
    """Microseconds a loss of one product with the same A for so many losses."""
    seconds = {}
    for m, k, n in WIDE:
        a, b, c, wide_b, wide_c = (np.full(size, 1e-3) for size in (m * k, *2 * (count * k * n, count * m * n)))
        seconds[f"{m}, {k}, {n}"] = stopwatch(function, count, a, b, m, n, k, c, wide_b, wide_c)
        assert np.allclose(wide_c if function is wide else c, 1e-6 * k)
    return lambda: {shape: 1e6 * shortest(each) / count for shape, each in seconds.items()}


def products_of_w3() -> Turn:
    """Microseconds of a step's products."""
    shapes = np.array(of_a_step(workload("W3", steps=1)))
    a, b, c = (np.full(size, 1e-3) for size in (512, 512, 512))
    seconds = stopwatch(products_of, shapes, a, b, c)
    return lambda: {"": 1e6 * shortest(seconds)}


def transpose() -> Turn:
    """Microseconds of transposes: few columns, a square, one whose columns are whole pages apart."""
    seconds = {}
    for m, n in ((784, 10), (50, 50), (512, 512)):
        a, b = np.ones(m * n), np.empty(m * n)
        seconds[f"{m}, {n}"] = stopwatch(products.transpose, a, 0, m, n, b, 0)
    return lambda: {shape: 1e6 * shortest(each) for shape, each in seconds.items()}


@numba.njit
def into_an_array(a, b, c, d, m, n, k, rows, x, s):
    """S[row_i] -= (A B + C D)_i for the rows of some steps, the terms as an array."""
    for t in range(rows.shape[0]):
        x[:] = 0.0
        products.product(a, 0, k, ONE, b, 0, m, n, k, x, 0)
        products.product(c, 0, k, ONE, d, 0, m, n, k, x, 0)
        for i in range(m):
            s_i, x_i = s[rows[t, i] * n : (rows[t, i] + 1) * n], x[i * n : (i + 1) * n]
            for j in range(n):
                s_i[j] -= x_i[j]


@numba.njit
def in_registers(a, b, c, d, m, n, k, rows, x, s):
    """The same as the kernel does it."""
    for t in range(rows.shape[0]):
        scattering.subtract_products(a, 0, b, 0, c, 0, d, 0, m, n, k, rows, t, 0, s)


def scatter(function: Any) -> Turn:
    """Microseconds a step of 250 rows of 5,000."""
    steps, m, n, k = 20, 250, 784, 10
    seconds = {}
    for dtype in (np.float64, np.float32):
        a, b, x = (np.full(size, 1e-3, dtype) for size in (m * k, k * n, m * n))
        rows = np.random.default_rng(0).integers(5000, size=(steps, m))
        seconds[np.dtype(dtype).name] = stopwatch(function, a, b, a, b, m, n, k, rows, x, np.zeros(5000 * n))
    return lambda: {dtype: 1e6 * shortest(each) / steps for dtype, each in seconds.items()}


def loop(function: Any, inputs: np.ndarray) -> Turn:
    """Nanoseconds an element of a scalar function of a loop."""

    @numba.njit(error_model="numpy")
    def apply(x, out):
        for p in range(x.size):
            out[p] = function(x[p])

    timers = {
        str(np.dtype(dtype)): stopwatch(apply, inputs.astype(dtype), np.empty(inputs.size, dtype))
        for dtype in (np.float64, np.float32)
    }
    return lambda: {dtype: 1e9 * shortest(seconds) / inputs.size for dtype, seconds in timers.items()}


@numba.njit
def running_sum(a, b, start, stop):
    """The inner product as one writes it."""
    total = 0.0
    for p in range(start, stop):
        total += a[p] * b[p]
    return total


def inner_product(function: Any) -> Turn:
    """Nanoseconds an element."""
    a, b = np.random.default_rng(0).standard_normal((2, 1024))
    sums = np.zeros(1)

    @numba.njit
    def add_to(sums, a, b):  # a sum that nobody reads would not be made
        sums[0] += function(a, b, 0, a.size)

    seconds = stopwatch(add_to, sums, a, b)
    return lambda: {"": 1e9 * shortest(seconds) / a.size}


def multiplications() -> Turn:
    """Nanoseconds a parameter of the exact multiplication, on heads as they are after some steps."""
    values = placed(np.random.default_rng(0).integers(-(2**52), 2**52, PARAMETERS))
    heads, scratch = placed(new_heads()), placed(np.empty(buffer.SCRATCH))
    tail = np.empty(2 * PARAMETERS, np.uint16)
    for _ in range(200):
        buffer.multiply(values, heads, tail, 0, N, D, 0, PARAMETERS, scratch)
    seconds = stopwatch(buffer.multiply, values, heads, tail, 0, N, D, 0, PARAMETERS, scratch)
    return lambda: {"": 1e9 * shortest(seconds) / PARAMETERS}


def multiplications_of_each() -> Turn:
    """The same, and with a ratio for each."""
    values = np.random.default_rng(0).integers(-(2**52), 2**52, PARAMETERS)
    timers = {}
    for name, ratio in {"one ratio": (N, D), "one for each": np.array([[N], [D]]).repeat(PARAMETERS, axis=1)}.items():
        heads, tail, scratch = new_heads(), np.empty(2 * PARAMETERS, np.uint16), np.empty(2 * buffer.BLOCK)
        timers[name] = stopwatch(buffer.multiply, values, heads, tail, 0, *ratio, 0, PARAMETERS, scratch)
    return lambda: {name: 1e9 * shortest(seconds) / PARAMETERS for name, seconds in timers.items()}


def new_heads(start: int = buffer.START) -> np.ndarray:
    return np.full(PARAMETERS, start)


def stored_bits(start: int) -> Turn:
    """Bits that a halving stores, of which it loses 1."""
    steps = 500

    def turn() -> Figures:
        values = np.random.default_rng(0).integers(-(2**52), 2**52, PARAMETERS)
        heads, tail, scratch = new_heads(start), np.empty(4 * steps * PARAMETERS // 16, np.uint16), np.empty(1024)
        top = 0
        for _ in range(steps):
            top = buffer.multiply(values, heads, tail, top, 1, 2, 0, PARAMETERS, scratch)
        return {"": (np.log2(heads / start).sum() + 16 * top) / (steps * PARAMETERS)}

    return turn


def words() -> Turn:
    """Updates of a parameter for each word, and for each flag among them."""
    steps = 4000

    def turn() -> Figures:
        rng = np.random.default_rng(0)
        values = rng.integers(-(2**52), 2**52, PARAMETERS)
        # as they are in the long run: from one start all would come to a flag at the same steps
        heads = (buffer.LOW * (buffer.HIGH / buffer.LOW) ** rng.random(PARAMETERS)).astype(np.int64)
        tail, scratch = np.empty(2 * PARAMETERS, np.uint16), np.empty(2 * buffer.BLOCK)
        pushed = flags = 0
        for _ in range(steps):
            spills = np.count_nonzero(heads // N >= buffer.HIGH // D)
            top = buffer.multiply(values, heads, tail, 0, N, D, 0, PARAMETERS, scratch)
            pushed, flags = pushed + top, flags + top - spills
        return {"a word": steps * PARAMETERS / pushed, "a flag": steps * PARAMETERS / flags}

    return turn


@numba.njit(error_model="numpy")
def would_leave(w, v, g, alpha, n, d):
    """Whether a step would leave the grid, as one would ask before it."""
    flags, share, gamma = np.int64(0), 1.0 - n / d, n / d
    for p in range(w.size):
        velocity = fixed_point.to_float(v[p], GRID) * gamma - share * g[p]
        change = alpha * velocity
        position = fixed_point.to_float(w[p], GRID) + change
        flags |= fixed_point.outside(velocity, GRID) | fixed_point.outside(position, GRID)
    return flags < 0


@numba.njit
def checked_step(w, v, heads, tail, g, scratch):
    """A step after that."""
    if not would_leave(w, v, g, ALPHA, N, D):
        momentum.step_span(w, v, heads, tail, 0, g, ALPHA, N, D, 0, w.size, scratch)


@numba.njit
def step(w, v, heads, tail, g, scratch):
    """The step as it is."""
    momentum.step_span(w, v, heads, tail, 0, g, ALPHA, N, D, 0, w.size, scratch)


def steps(function: Any, after_a_line: int = 0) -> Turn:
    """Nanoseconds a parameter of an exact step, with arrays that begin so many bytes after a line of the cache."""
    rng = np.random.default_rng(0)
    timers = {}
    for name, size in {"W1": PARAMETERS, "W2": 2410}.items():
        w, v = rng.integers(-(2**52), 2**52, (2, size))
        arrays = w, v, np.full(size, buffer.START), np.empty(2 * size, np.uint16), rng.standard_normal(size)
        arguments = [placed(each, after_a_line) for each in (*arrays, np.empty(buffer.SCRATCH))]
        timers[name, size] = stopwatch(function, *arguments)
    return lambda: {name: 1e9 * shortest(seconds) / size for (name, size), seconds in timers.items()}


def placed(array: np.ndarray, after_a_line: int = 0) -> np.ndarray:
    """A copy that begins there."""
    room = np.empty(array.nbytes + 128, np.uint8)
    start = -room.ctypes.data % 64 + after_a_line
    found = room[start : start + array.nbytes].view(array.dtype)
    found[:] = array
    return found


def ratios(function: Callable[[np.ndarray], object]) -> Turn:
    """Microseconds a decay."""
    gammas = np.random.default_rng(0).uniform(0.5, 1.0, 500)
    function(gammas)
    return lambda: {"": 1e6 * shortest(lambda: elapsed(lambda: function(gammas))) / gammas.size}


def by_kernel(gammas: np.ndarray) -> None:
    n, d = np.empty((2, gammas.size), np.int64)
    rationals.best_ratios(gammas, n, d)


def by_fractions(gammas: np.ndarray) -> None:
    for gamma in gammas.tolist():
        Fraction(gamma).limit_denominator(buffer.MAX_DENOMINATOR)


def copy_by_memcpy(source, source0, out, out0, count):
    copy_elements(source, source0, out, out0, count)


def copy_by_slices(source, source0, out, out0, count):
    out[out0 : out0 + count] = source[source0 : source0 + count]


def copy_by_loop(source, source0, out, out0, count):
    to, of = out[out0 : out0 + count], source[source0 : source0 + count]
    for i in range(count):
        to[i] = of[i]


def gather(copy: Any) -> Turn:
    """Nanoseconds of the copy of a row, of the widths of W3, W2 and W1."""
    copy = numba.njit(copy)

    @numba.njit
    def rows(source, chosen, width, out):
        for i in range(chosen.size):
            copy(source, chosen[i] * width, out, i * width, width)

    chosen = np.random.default_rng(0).integers(64, size=50)
    timers = {}
    for width in (10, 64, 784):
        timers[width] = stopwatch(rows, np.ones(64 * width), chosen, width, np.empty(50 * width))
    return lambda: {f"{width} elements": 1e9 * shortest(seconds) / 50 for width, seconds in timers.items()}


def compilation(function: Any) -> Turn:
    """Seconds to compile it."""
    array = np.ones(9)

    def turn() -> Figures:
        compiled, start = numba.njit(function), time.process_time()
        compiled(array, 0, array, 1, 3)
        return {"": time.process_time() - start}

    return turn


@numba.njit
def product_of_64_bits(a):
    """A checksum of the same shape as that of checksums.py, with products of 64 bits."""
    total, key, odd = np.int64(0), np.int64(1), np.int64(-0x61C8864680B583EB)
    for p in range(a.size):
        x = wrapping_mul(wrapping_add(bits(a[p]), key), odd)
        total = wrapping_add(total, x ^ shift_right(x, 32))
        key = wrapping_add(key, odd)
    return total


def sum_of_bits(function: Any) -> Turn:
    """Nanoseconds an element of a checksum."""

    @numba.njit
    def add_to(sums, a):  # a sum that nobody reads would not be made
        sums[0] += function(a)

    sizes = {"W1": PARAMETERS, "W2": 2410, "W3": 210}
    timers = {name: stopwatch(add_to, np.zeros(1, np.int64), np.ones(size)) for name, size in sizes.items()}
    return lambda: {name: 1e9 * shortest(seconds) / sizes[name] for name, seconds in timers.items()}


def start_of_a_thread(start: Callable[[Callable[[], object]], object]) -> Turn:
    """Microseconds until a thread has done its work."""

    def once() -> None:
        at_work = _thread.allocate_lock()
        at_work.acquire()
        start(at_work.release)
        at_work.acquire()

    return lambda: {"": 1e6 * shortest(lambda: elapsed(once), 200)}


def softmax() -> Turn:
    """Microseconds of what 200 rows of ten outputs predict."""
    rows, k = 200, 10
    z = np.random.default_rng(0).standard_normal(rows * k)
    seconds = stopwatch(losses.predict, losses.CROSS_ENTROPY, z, 0, rows, k, np.empty(rows * k))
    return lambda: {"": 1e6 * shortest(seconds)}


def divisions() -> Turn:
    """Nanoseconds an element of two loops with a division."""
    timers = {}
    for name, kind in {"tanh": activations.TANH, "sigmoid": activations.SIGMOID}.items():
        timers[name] = stopwatch(activations.activate, kind, np.random.default_rng(0).standard_normal(1600), 0, 1600)
    return lambda: {name: 1e9 * shortest(seconds) / 1600 for name, seconds in timers.items()}


# ---- choices -------------------------------------------------------------------------------------------------

INPUTS = np.random.default_rng(0).uniform(-3.0, 3.0, 1600)
LANES = VECTOR // 8
LARGE, PANELS_OF_4 = (200, 784, 50), (50, 64, 4 * LANES)
# of W2 and of W1, where the losses have A in common
WIDE = (50, 64, 32), (50, 32, 10), (32, 50, 10), (200, 784, 50), (200, 50, 50), (50, 200, 10)
JIT, PRODUCTS, BUFFER = "kernels/jit.py", "kernels/products.py", "kernels/information_buffer.py"
GROUPS = "kernels/lanes.py"
TILE, WALK = "ROWS, COLUMNS = 8 if AVX512 else 4, 3", "2 if vectors == COLUMNS + 1 else COLUMNS"
# As many rows as the registers have room for
FOUR_COLUMNS = (
    Edit(PRODUCTS, TILE, "ROWS, COLUMNS = 6 if AVX512 else 2, 4"),
    Edit(PRODUCTS, WALK, "2 if vectors < 4 else 4"),  # 3 are 2 and 1
)
FETCHES_B = Edit(PRODUCTS, "if full:", "if False:")
FETCHES_C = Edit(PRODUCTS, "m * n > NEAR", "False")
TWO_COLUMNS = Edit(PRODUCTS, TILE, "ROWS, COLUMNS = 12 if AVX512 else 6, 3"), Edit(PRODUCTS, WALK, "2")
# An array and an offset where an address was
ARRAYS = (
    Edit(
        PRODUCTS,
        "from .primitives import address, after\n",
        """from .primitives import address as place

@inlined
def address(array, i):
    return array, i

@inlined
def after(pair, count):
    return pair[0], pair[1] + count

def _of_arrays(tile):
    @inlined
    def of_arrays(a, a_row, a_column, b, n, depth, width, c, ahead):
        b1, c1, ahead1 = place(b[0], b[1]), place(c[0], c[1]), place(ahead[0], ahead[1])
        tile(place(a[0], a[1]), a_row, a_column, b1, n, depth, width, c1, ahead1)
    return of_arrays

""",
    ),
    Edit(
        PRODUCTS,
        "@primitive\ndef lanes(",
        "@inlined\ndef lanes(pair): return _lanes(place(pair[0], pair[1]))\n\n@primitive\ndef _lanes(",
    ),
    Edit(PRODUCTS, "_fetch_tile(after(c, (i + ROWS) * n), n)", "_fetch_tile(place(c[0], c[1] + (i + ROWS) * n), n)"),
    Edit(
        PRODUCTS,
        "tile, pair, row = (_tile(rows, columns, half)",
        "tile, pair, row = (_of_arrays(_tile(rows, columns, half))",
    ),
)
QUOTIENTS = (
    Edit(BUFFER, "fma(k, np.float64(d), np.float64(d)) > HIGH", "k >= np.float64(HIGH // d)"),
    Edit(BUFFER, "k * np.float64(n) <= HIGH // BASE - 1", "k <= np.float64((HIGH // BASE - 1) // n)"),
    Edit(BUFFER, "fma(k, np.float64(n), np.float64(n)) > LOW", "k >= np.float64(LOW // n)"),
)
ONE_LOOP = (
    Edit(
        BUFFER,
        """        by_d = _reciprocal(denominator)
        # c has 63 bits, float64 53: a quotient is off by up to 6 * 2**10 / d, so it is taken more than that too low
        q = np.int64(fma(np.float64(c), by_d, fma(-(2.0**13), by_d, -2.0)))
        e = wrapping_sub(c, wrapping_mul(q, at(d, p)))  # from 0 to 2**18
        values[p], rests[p] = wrapping_mul(q, at(n, p)), fma(np.float64(e), numerator, digit)
""",
        "        rests[p] = digit\n",
    ),
    Edit(BUFFER, "rests, d_b, k, heads", "rests, n_b, d_b, k, heads"),
    Edit(BUFFER, "rests, n_b, k, heads", "rests, d_b, n_b, k, heads"),
    Edit(BUFFER, "_push(values, rests, d, k, heads)", "_push(values, rests, n, d, k, heads)"),
    Edit(
        BUFFER,
        """        more, r = _divmod(rests[p], denominator, _reciprocal(denominator))
        values[p] = wrapping_add(values[p], np.int64(more))
""",
        """        c, numerator, by_d = values[p], np.float64(at(n, p)), _reciprocal(denominator)
        q = np.int64(fma(np.float64(c), by_d, fma(-(2.0**13), by_d, -2.0)))
        e = wrapping_sub(c, wrapping_mul(q, at(d, p)))
        more, r = _divmod(fma(np.float64(e), numerator, rests[p]), denominator, by_d)
        values[p] = wrapping_add(wrapping_mul(q, at(n, p)), np.int64(more))
""",
    ),
)
BY_ROWS = (
    Edit("kernels/losses.py", "for p in range(rows * k):  # one loop", "for i in range(rows):  # one loop"),
    Edit(
        "kernels/losses.py",
        "mean[p] = elementary.exp_negative(mean[p])",
        "m_i = _row(mean, i, k)\n            for j in range(k): m_i[j] = elementary.exp_negative(m_i[j])",
    ),
)
COPIES_LINKED = (Edit(JIT, "from .linking import", "from .inlining import"),)
COMPILED = (  # helpers return arrays, which takes counts of references
    Edit(JIT, 'inline="always", ', ""),
    Edit(JIT, '"_nrt": False', '"_nrt": True'),
)
STEP = """            low, high = teams.share(team, which, g.size)
            gradient = wrapping_add(gradient, checksums.checksum_of_part(g, low, high))
            mine, on_grid = rule.step(tables, state, g, t, low, high, mine, scratch)
            verdict |= ZERO if on_grid else OFF
            if not rule.FINISHES:
                grid_to_floats(state.w[low:high], w[low:high])
"""


def pieces(size: int) -> Edit:
    """A step made piece by piece."""
    loop = f"""            start, stop = teams.share(team, which, g.size)
            for low in range(start, stop, {size}):
                high = min(low + {size}, stop)
"""
    body = STEP.split("\n", 1)[1]
    return Edit("kernels/training.py", STEP, loop + textwrap.indent(body, "    "))


RING = {"fastrev._engine.workspace._RING_STEPS": (2, 64), "fastrev._engine.workspace._RING_BYTES": 2**22}
RECORD = "fastrev._engine.workspace._RECORD_STEPS"
BLOCKS = "fastrev._engine.workspace._BLOCK_LOSSES"
SHORT = {"fastrev._engine.settings._WORK_OF_A_THREAD": 0.0}
PATIENCE = {"fastrev._engine.companion.PATIENCE_ON_TWO": 64}
JAX, TORCH, AUTOGRAD = (f"interop/{library}.py" for library in ("jax", "torch", "autograd"))
JAX_HVP = "_, product = self._jax.jvp(lambda weights: self._gradient(weights, theta, t), (weights,), (tangents,))"
JAX_BY_REVERSE = Edit(JAX, JAX_HVP, "product = self._jax.grad(self._along)(weights, theta, u, t)")
JAX_ALONG_BY_FORWARD = Edit(
    JAX,
    "return self._jax.numpy.vdot(self._vector(self._gradient(weights, theta, t)), u)",
    "return self._jax.jvp(lambda w: self._value(w, theta, t), (weights,), (self._leaves.pieces(u),))[1]",
)
TORCH_BY_FORWARD = Edit(
    TORCH,
    "return self._vector(self._along(weights, hyper, u, t, by=weights))",
    """dual = self._torch.autograd.forward_ad
            with dual.dual_level():
                pairs = zip(weights, self._leaves.pieces(self._torch.from_numpy(u)))
                gradient = self._gradient([dual.make_dual(*pair) for pair in pairs], hyper, t, create_graph=True)
                return self._vector([dual.unpack_dual(each).tangent.detach() for each in gradient])""",
)
AUTOGRAD_BY_FORWARD = Edit(
    AUTOGRAD,
    "return self._along(lambda vector: (vector, theta), w, u, t)",
    "return self._autograd.make_jvp(lambda w: self._gradient(w, theta, t))(w)(u)[1]",
)
AUTOGRAD_ALONG_BY_FORWARD = Edit(
    AUTOGRAD,
    "return self._autograd.numpy.dot(self._gradient(*point(vector), t), u) + nothing",
    "w, theta = point(vector); return nothing + self._autograd.make_jvp(lambda w: self._checked(w, theta, t))(w)(u)[1]",
)
TILES = ("8x3", "6x4", "12x2") if LANES == 8 else ("4x3", "2x4", "6x2")

CHOICES = {
    "tanh": Choice(
        "tanh", "ns an element",
        {"this": partial(loop, elementary.tanh, INPUTS), "Numba's own": partial(loop, np.tanh, INPUTS)},
    ),
    "tiles": Choice(
        "tiles of rows x vectors", "GFLOP/s",
        **beside(partial(gflops, *LARGE), **dict(zip(TILES, (Variant(), FOUR_COLUMNS, TWO_COLUMNS), strict=True))),
    ),
    "depth": Choice(
        "rows of B in a slice", "GFLOP/s",
        **beside(
            partial(gflops, *LARGE), _128=Variant(), _64=Edit(PRODUCTS, "DEPTH = 128", "DEPTH = 64"),
            all=Edit(PRODUCTS, "DEPTH = 128", "DEPTH = 2**30"),
        ),
    ),
    "ahead": Choice(
        "rows of B and C", "GFLOP/s",
        **beside(
            large, asked_for_ahead=Variant(), not_asked_for=(FETCHES_B, FETCHES_C), B_alone=FETCHES_C, C_alone=FETCHES_B
        ),
    ),
    "panels": Choice(
        "4 vectors", "GFLOP/s",
        **beside(
            partial(gflops, *PANELS_OF_4), as_2_and_2=Variant(), as_3_and_1=Edit(PRODUCTS, WALK, "3")
        ),
    ),
    "halves": Choice(
        "last vectors", "GFLOP/s",
        **beside(
            narrow, halved=Variant(),
            whole=(
                Edit(PRODUCTS, "columns == 2 and 2 * width > count", "columns == 2"),
                Edit(PRODUCTS, "elif 2 * width > count", "elif columns == 1"),
            ),
        ),
    ),
    "wide": Choice(
        "a product of each loss", "us",
        {
            "one by one": partial(for_losses, one_by_one, 8),
            **{f"{count} wide": partial(for_losses, wide, count) for count in (4, 8)},
            **{f"{count} to be interleaved": partial(for_losses, interleaved, count) for count in (4, 8)},
        },
    ),
    "transpose": Choice(
        "transpose", "us",
        **beside(
            transpose, by_squares=Variant(),
            by_elements=Edit(PRODUCTS, "if m < SQUARE or n < SQUARE:", "if True:"),
        ),
    ),
    "scatter": Choice(
        "250, 784 with 10 terms twice, to rows of 5,000", "us",
        {"in registers": partial(scatter, in_registers), "by an array": partial(scatter, into_an_array)},
    ),
    "addresses": Choice(
        "products of a step of W3", "us", **beside(products_of_w3, by_addresses=Variant(), by_arrays=ARRAYS)
    ),
    "sum": Choice(
        "inner product", "ns an element",
        {
            f"{reductions.CHAINS} chains": partial(inner_product, reductions.dot),
            "one sum": partial(inner_product, running_sum),
        },
    ),
    "softmax": Choice("exp of ten classes a row", "us", **beside(softmax, one_loop=Variant(), row_by_row=BY_ROWS)),
    "lanes": Choice(
        "multiplication, spills looked for in groups", "ns a parameter",
        **beside(
            multiplications, of_16=Variant(), of_8=Edit(GROUPS, "LANES = 16", "LANES = 8"),
            of_32=Edit(GROUPS, "LANES = 16", "LANES = 32"),
        ),
    ),
    "block": Choice(
        "multiplication, in blocks", "ns a parameter",
        **beside(
            multiplications, of_512=Variant(), of_64=Edit(BUFFER, "BLOCK = 512", "BLOCK = 64"),
            of_8192=Edit(BUFFER, "BLOCK = 512", "BLOCK = 8192"),
        ),
    ),
    "loops": Choice(
        "multiplication, its two divisions in", "ns a parameter",
        **beside(multiplications, two_loops=Variant(), one=ONE_LOOP),
    ),
    "products": Choice(
        "multiplication, spills told by", "ns a parameter",
        **beside(multiplications_of_each, products=Variant(), quotients=QUOTIENTS),
    ),
    "start": Choice(
        "heads that begin with", "bits for a decay of 1/2",
        {"START": partial(stored_bits, buffer.START), "2**40": partial(stored_bits, 2**40)}, turns=1,
    ),
    "chaos": Choice("relative error of a predicted change", "", {"": predictions}, turns=1),
    "objective": Choice(
        "a step of an objective that takes no time, 2410 parameters, there and back", "us",
        {"in Python": python_loop, "the same kernels in one compiled loop": compiled_loop},
    ),
    "named": Choice(
        "call with rule and state as tuples", "us",
        {"plain": partial(steps_by_hand, named=False), "named": partial(steps_by_hand, named=True)},
    ),
    "squares": Choice(
        "Adam's final weights against those in floats, relative, with a second moment of", "", turns=1,
        **beside(
            against_floats, of_62_bits=Variant(), of_52=Edit("kernels/adam.py", "fraction_bits=62", "fraction_bits=52")
        ),
    ),
    "words": Choice("updates of a parameter by 9/10 to", "", {"": words}, turns=1),
    "check": Choice(
        "exact step", "ns a parameter",
        {"checked meanwhile": partial(steps, step), "before": partial(steps, checked_step)},
    ),
    "lines": Choice(
        "exact step, on arrays that begin", "ns a parameter",
        {"with a line of the cache": partial(steps, step), "16 bytes later": partial(steps, step, 16)},
    ),
    "ratios": Choice(
        "ratio of a decay", "us",
        {"this": partial(ratios, by_kernel), "limit_denominator": partial(ratios, by_fractions)},
    ),
    "copy": Choice(
        "copy of a row", "ns", {"memcpy": partial(gather, copy_by_memcpy), "loop": partial(gather, copy_by_loop)}
    ),
    "slices": Choice(
        "compilation of a copy", "s",
        {"memcpy": partial(compilation, copy_by_memcpy), "assignment": partial(compilation, copy_by_slices)},
        turns=5,
    ),
    "checksum": Choice(
        "checksum, of elements multiplied", "ns an element",
        {"by halves": partial(sum_of_bits, checksum), "whole": partial(sum_of_bits, product_of_64_bits)},
    ),
    "files": Choice(
        "W1's meta-gradient at decay 1/2, with what it stores", "us a step",
        {"in files": partial(long_run, True), "in memory": partial(long_run, False)}, turns=3,
    ),
    "file": Choice("a file of 1 MB", "ms", {"": partial(a_file, 2**19)}),
    "proof": Choice(
        "checksums of gradients and data", "us a step",
        **beside(
            partial(whole, *SHAPES), taken=Variant(),
            not_taken=Edit("kernels/checksums.py", "range(first, high * a.itemsize // 8)", "range(0)"),
        ), turns=15,
    ),
    "thread": Choice(
        "a thread and the wait for it", "us",
        {
            "_thread": partial(start_of_a_thread, lambda work: _thread.start_new_thread(work, ())),
            "threading": partial(start_of_a_thread, lambda work: threading.Thread(target=work).start()),
        },
    ),
    "division": Choice(
        "loop with a division, error model", "ns an element",
        **beside(
            divisions, numpy=Variant(), python=Edit(JIT, '"error_model": "numpy"', '"error_model": "python"')
        ),
    ),
    "references": Choice(
        "references counted", "us a step",
        **beside(partial(whole, "W3"), no=Variant(), yes=Edit(JIT, '"_nrt": False', '"_nrt": True')), turns=25,
    ),
    "threads": Choice(
        "meta-gradient", "us a step",
        **beside(partial(whole, *SHAPES), two_cores=Variant(), one=Variant(cores=1)), turns=5,
    ),
    "short": Choice(
        "meta-gradient of few steps", "us",
        **beside(partial(short, tinier=76, W3=16, W2=1), one_thread=Variant(), two=Variant(values=SHORT)), turns=25,
    ),
    "apart": Choice(
        "way back after a sleep, threads kept apart", "us a step",
        **beside(partial(way_back, "W3"), yes=Variant(), no=Variant(values={"fastrev._engine.companion._libc": None})),
        turns=25, chance=True,
    ),
    "patience": Choice(
        "way back, pauses before the processor is offered", "us a step",
        {
            "4096 after BLAS": partial(way_back, "W2", blas=True), "64": partial(way_back, "W2", blas=True),
            "undisturbed": partial(way_back, "W2"),
        },
        {"4096 after BLAS": Variant(), "64": Variant(values=PATIENCE), "undisturbed": Variant()},
        turns=25, chance=True,
    ),
    "ring": Choice(
        "steps ahead", "us a step",
        **beside(
            partial(whole, "W2", "W3"), up_to_16=Variant(), _2=Variant(values=RING | {next(iter(RING)): (2, 2)}),
            up_to_64=Variant(values=RING),
        ), turns=25,
    ),
    "blocks_ahead": Choice(
        "blocks of 256 rows ahead", "us a step",
        **beside(
            partial(whole, "batch 257"), _3=Variant(), _2=Variant(values={"fastrev._engine.workspace._RING_BLOCKS": 2})
        ), turns=5,
    ),
    "pieces": Choice(
        "all that happens to a piece of the parameters", "us a step",
        **beside(
            partial(whole, "W2", "P = 1e6"), all_at_once=Variant(), _1024=pieces(1024), _8192=pieces(8192)
        ), turns=5,
    ),
    "sharing": Choice(
        "training by one thread and by two", "us a step",
        **beside(
            partial(forward, "W1", "W2", "W4", "relu", "regression", "P = 1e5"), two_where_it_pays=Variant(),
            one=Variant(values=shared_from(float("inf"))), two=Variant(values=shared_from(0.0)),
        ), turns=7,
    ),
    "meeting": Choice(
        "two threads", "ns", {"a meeting": partial(meeting, 0), "64 bytes each way": partial(meeting, 64)},
    ),
    "blocks": Choice(
        "steps on record, losses in a block", "us a step and loss",
        **beside(
            partial(many_losses, "W1", "W2"), _16_and_13=Variant(),
            _4_and_2=Variant(values={RECORD: (4, 4), BLOCKS: (2, 2)}),
            _64_and_32=Variant(values={RECORD: (64, 64), BLOCKS: (32, 32)}),
        ), turns=3,
    ),
    "wrapper": Choice(
        "compilation, wrappers for C", "s",
        **beside(
            partial(first_call, time.process_time), no=Variant(cores=1),
            yes=Variant((Edit(JIT, '"no_cfunc_wrapper": True', '"no_cfunc_wrapper": False'),), cores=1),
        ), turns=2, fresh=True, slow=True,
    ),
    "inlined": Choice(
        "compilation, helpers", "s",
        **beside(
            partial(first_call, time.process_time), inlined=Variant(cores=1),
            by_themselves=Variant(COMPILED, cores=1),
        ), turns=2, fresh=True, slow=True,
    ),
    "copies": Choice(
        "compilation, helpers inlined", "s",
        **beside(
            partial(first_call, time.process_time), without_copies=Variant(COPIES_LINKED, cores=1),
            by_Numba=Variant((Edit(JIT, "pipeline_class=_Compiler, ", ""),), cores=1),
        ), turns=2, fresh=True, slow=True,
    ),
    "linked": Choice(
        "compilation, kernels of kernels", "s",
        **beside(
            partial(first_call, time.process_time), called=Variant(cores=1),
            linked=Variant(COPIES_LINKED, cores=1),
        ), turns=2, fresh=True, slow=True,
    ),
    "workers": Choice("runs", "ms", {way: partial(many_runs, way) for way in WAYS}, chance=True),
    "first": Choice(
        "first meta-gradient", "s",
        **beside(partial(first_call, time.perf_counter), two_cores=Variant(), one=Variant(cores=1)),
        turns=2, fresh=True, slow=True,
    ),
    "jax": Choice(
        "JAX", "us",
        **beside(
            partial(calls, "jax"), this=Variant(), reverse_over_reverse=JAX_BY_REVERSE,
            reverse_over_forward=(JAX_BY_REVERSE, JAX_ALONG_BY_FORWARD),
        ), needs="jax",
    ),
    "torch": Choice(
        "PyTorch", "us",
        **beside(partial(calls, "torch"), reverse_over_reverse=Variant(), forward_over_reverse=TORCH_BY_FORWARD),
        needs="torch",
    ),
    "autograd": Choice(
        "autograd", "us",
        **beside(
            partial(calls, "autograd"), reverse_over_reverse=Variant(), forward_over_reverse=AUTOGRAD_BY_FORWARD,
            reverse_over_forward=AUTOGRAD_ALONG_BY_FORWARD,
        ), needs="autograd",
    ),
}  # fmt: skip


def installed(choice: Choice) -> bool:
    """Whether there is what it needs."""
    return not choice.needs or find_spec(choice.needs) is not None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="choices to measure (default: all but the slow ones)")
    parser.add_argument("--list", action="store_true", help="list the names and leave")
    parser.add_argument("--slow", action="store_true", help="the slow ones, too: they compile everything several times")
    parser.add_argument("--contestant", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.names) - CHOICES.keys():
        parser.error(f"no choice is called {', '.join(sorted(unknown))}; --list lists them")
    if options.contestant:
        serve(*options.contestant)
        return
    if options.list:
        for name, choice in CHOICES.items():
            print(f"{name}: {choice.what}: {', '.join(filter(None, choice.probes))}{' (slow)' * choice.slow}")
        return
    print(f"{os.cpu_count()} cores of {llvm.get_host_cpu_name()}, vectors of {VECTOR} bytes", flush=True)
    chosen = [name for name, each in CHOICES.items() if (options.slow or not each.slow) and installed(each)]
    for name in options.names or chosen:
        report(name)


if __name__ == "__main__":
    main()
