"""The kernels on the hot path, their bounds and their distances from them: ``python -m bench.kernels``.

A bound is the larger of two times: operations at the rate of the fastest tile of the matrix product, where an operation
is anything that a lane of a vector unit does in one instruction (a fused multiply-add, a conversion, a comparison;
a division counts as 8); and bytes at the speed of a copy within the L2 cache.  Both rates are measured in the same run.
Kernels run as in a step, on the arrays of a step, but each by itself, so its operands may be nearer than in a step.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np

from bench.pages import processor, rewrite
from bench.products_alone import peak
from bench.stopwatch import stopwatch
from bench.workloads import SHAPES
from fastrev._engine import state
from fastrev.kernels import (
    activations,
    checksums,
    fixed_point,
    layers,
    losses,
    mlp_objective,
    momentum,
    products,
)
from fastrev.kernels import information_buffer as buffer

TANH, EXP = 34, 26  # operations of an element
N, D = 9, 10
README = Path(__file__).parent / "README.md"


@dataclass
class Call:
    """A kernel with the arguments of one place in a step."""

    name: str
    where: str  # "making", "undoing" or "pulling": the pass of a step that it belongs to
    operations: float
    bytes: float
    kernel: Callable[..., Any]
    arguments: tuple[Any, ...]


def seconds(kernel: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """The shortest time of a call from compiled code."""
    measure = stopwatch(kernel, *arguments)
    return min(measure() for _ in range(15))


def rates() -> tuple[float, float]:
    """Operations (fused multiply-adds of elements) and bytes a second."""
    source, target = np.zeros(2**15), np.zeros(2**15)
    return peak(np.float64), 2 * source.nbytes / seconds(copy_plus_one, (source, target))


@numba.njit
def copy_plus_one(source, target):
    """A loop that LLVM turns into vector loads and stores."""
    for i in range(source.size):
        target[i] = source[i] + 1.0


def calls(name: str) -> Iterator[Call]:
    """All kernel calls of one step of a workload, float64."""
    shape = SHAPES[name]
    sizes, rows = shape.sizes, shape.batch or shape.rows
    rng = np.random.default_rng(0)
    k, width = sizes[-1], sum(sizes[1:])
    bounds = np.cumsum([0, *(size for a, b in pairwise(sizes) for size in (a * b, b))])
    size = int(bounds[-1])
    w, g, u, hu, dw, dv = (rng.standard_normal(size) for _ in range(6))
    grid_w, grid_v = (state.to_grid("w", rng.uniform(-1, 1, size)) for _ in range(2))
    act, delta, r_act, r_delta, bend = (0.1 * rng.standard_normal(rows * width) for _ in range(5))
    data, x = rng.random(shape.rows * sizes[0]), rng.random(rows * sizes[0])
    chosen = rng.integers(shape.rows, size=rows)
    y = np.eye(k)[rng.integers(k, size=rows)].ravel()
    mean, across, one, none = rng.random(rows * k), np.empty(size), np.ones(1), np.empty(0)
    gradient_passes = "making", "undoing"

    def both(label: str, cost: tuple[float, float], kernel: Any, *arguments: Any) -> Iterator[Call]:
        for where in gradient_passes:
            yield Call(label, where, *cost, kernel, arguments)

    def pulling(label: str, cost: tuple[float, float], kernel: Any, *arguments: Any) -> Call:
        return Call(label, "pulling", *cost, kernel, arguments)

    step = grid_w, grid_v, state.new_heads(size), np.empty(2 * size, np.uint16), np.empty(1024), g, bounds[[0, -1]]
    yield Call("exact step", "making", 58 * size, 72 * size, make, step)
    yield Call("exact undo", "undoing", 46 * size, 72 * size, undo, step)
    yield Call("v, v + g on record", "undoing", 5 * size, 40 * size, on_record, (grid_v, dw.copy(), g))
    yield from both("checksum", (6 * size, 8 * size), checksums.checksum, g)
    yield from both("weights to floats", (2 * size, 16 * size), fixed_point.grid_to_floats, grid_w, w.copy())
    label = "dot, pull_position, dot, pull_velocity"
    sums, chains = np.zeros((2, 1, bounds.size - 1)), np.empty(buffer.SCRATCH)
    yield pulling(label, (8 * size, 88 * size), pull_vectors, dw, dv, w, g, u, 0 * hu, bounds, *sums, chains)
    if shape.batch:
        for where in (*gradient_passes, "pulling"):
            arguments = data, chosen, sizes[0], x
            yield Call("gather", where, 0, 16 * (x.size + y.size), mlp_objective.gather, arguments)

    p, q = 0, 0
    for layer, (a, b) in enumerate(pairwise(sizes)):
        below, below0 = (act, q - rows * a) if layer else (x, 0)
        source = below, below0, rows, a
        cost = rows * a * b, 8 * (rows * a + a * b + rows * b)
        yield from both("affine", cost, affine, *source, w, p, b, act.copy(), q)
        yield from both("parameter gradient", cost, parameter_gradient, *source, delta, q, b, one, g, p)
        yield pulling("affine, R", cost, affine, *source, u, p, b, r_act.copy(), q)
        yield pulling("parameter gradient, R", cost, parameter_gradient, *source, r_delta, q, b, one, hu, p)
        if layer:
            yield pulling("product, R", cost, product, r_act, below0, a, 1, w, p, rows, b, a, r_act.copy(), q)
            yield pulling("product, R", cost, product, r_act, below0, 1, a, delta, q, a, b, rows, hu, p)
            across_cost, across_to = (cost[0], cost[1] + 16 * a * b), (q, rows, b, w, p, a, across, below0)
            yield from both("through weights", across_cost, through_weights, delta.copy(), *across_to)
            for _ in range(2):
                yield pulling("through weights, R", across_cost, through_weights, r_delta.copy(), *across_to)
            part, units = rows * a, (below0, q)
            yield from both("activate", (TANH * part, 16 * part), activations.activate, 0, act.copy(), *units)
            arguments = 0, act, np.ones_like(act), *units
            yield from both("through slope", (2 * part, 24 * part), activations.through_slope, *arguments)
            arguments = act, r_act.copy(), bend, delta, np.ones_like(act), *units
            yield pulling("tangent, slope and bend", (9 * part, 72 * part), bend_and_slope, *arguments)
        p += (a + 1) * b
        q += rows * b

    z0, outputs = q - rows * k, rows * k
    yield from both("predict", ((EXP + 5) * outputs, 16 * outputs), losses.predict, 0, act, z0, rows, k, mean)
    arguments = mean, y, 0, outputs, 1.0 / rows, delta, z0
    yield from both("cotangent", (2 * outputs, 24 * outputs), losses._difference, *arguments)
    arguments = 0, mean, y, none, 1, 0, rows, k, 1.0 / rows, r_act, r_delta, z0
    yield pulling("tangent of the loss", (5 * outputs, 24 * outputs), losses._tangent, *arguments)


@numba.njit
def make(w, v, heads, tail, scratch, g, bounds):
    """One step of every group.  Heads and tail start over, so that every call finds the same."""
    top = 0
    for i in range(bounds.size - 1):
        top, _ = momentum.step_span(w, v, heads, tail, top, g, 1e-9, N, D, bounds[i], bounds[i + 1], scratch)
    for i in range(heads.size):
        heads[i] = buffer.START


@numba.njit
def undo(w, v, heads, tail, scratch, g, bounds):
    """The way back of heads as they are at the start: no word is popped."""
    for i in range(bounds.size - 2, -1, -1):
        momentum.undo_position_of_span(w, v, 1e-9, bounds[i], bounds[i + 1])
        momentum.undo_velocity_of_span(v, heads, tail, tail.size, g, N, D, bounds[i], bounds[i + 1], scratch)
    for i in range(heads.size):
        heads[i] = buffer.START


@numba.njit
def on_record(v, floats, g):
    """What `undo` does for its reader."""
    fixed_point.grid_to_floats(v, floats)
    fixed_point.add_grid(g, v)


@numba.njit
def pull_vectors(dw, dv, v, g, u, hu, bounds, d_alpha, d_gamma, chains):
    """What `pull` does with vectors of parameters."""
    for i in range(bounds.size - 1):
        start, stop = bounds[i], bounds[i + 1]
        momentum._pull_position(d_alpha, 0, i, dw, v, 0.0, N, D, dv, u, start, stop, chains)
        momentum._pull_velocity(d_gamma, 0, i, hu, g, 1, 1, dw, dv, start, stop, chains)


@numba.njit
def product(a, a0, a_row, a_column, b, b0, m, n, k, c, c0):
    """`products.product`, which is a part of its callers."""
    products.product(a, a0, a_row, a_column, b, b0, m, n, k, c, c0)


@numba.njit
def affine(below, below0, rows, a, w, p, b, z, z0):
    """`layers.affine`, likewise."""
    layers.affine(below, below0, rows, a, w, p, b, z, z0)


@numba.njit
def parameter_gradient(below, below0, rows, a, delta, q, b, one, g, p):
    """`layers.add_parameter_gradient`, likewise."""
    layers.add_parameter_gradient(below, below0, rows, a, delta, q, b, one, g, p, 0, a + 1)


@numba.njit
def through_weights(delta, q, rows, b, w, p, a, across, below0):
    """`layers.add_through_weights`, likewise."""
    layers.add_through_weights(delta, q, rows, b, w, p, a, across, delta, below0)


@numba.njit
def bend_and_slope(act, r_act, bend, delta, r_delta, start, stop):
    """What the R-operator passes do at a layer's activation."""
    activations.tangent(0, act, act, r_act, bend, start, stop)
    activations.cotangent_tangent(0, act, act, bend, delta, r_delta, start, stop)


def table(name: str, operations_per_second: float, bytes_per_second: float) -> list[str]:
    """The kernels of one workload, those that take longest first."""
    rows: dict[str, list[float]] = {}
    passes = dict.fromkeys(("making", "undoing", "pulling"), 0.0)
    measured: dict[tuple[Any, ...], float] = {}
    for call in calls(name):
        key = (call.name, call.operations, call.bytes)
        if key not in measured:
            measured[key] = seconds(call.kernel, call.arguments)
        bounds = call.operations / operations_per_second, call.bytes / bytes_per_second
        line = rows.setdefault(call.name, [0, 0.0, 0.0, 0.0])
        line[0] += 1
        line[1 if bounds[0] >= bounds[1] else 2] += max(bounds)
        line[3] += measured[key]
        passes[call.where] += measured[key]
    lines = ["| kernel | calls a step | bound, us | measured, us | distance |", "|---|---|---|---|---|"]
    for label, (count, by_operations, by_bytes, found) in sorted(rows.items(), key=lambda item: -item[1][3]):
        bound = by_operations + by_bytes
        what = "operations" if by_operations >= by_bytes else "bytes"
        lines.append(
            f"| {label} | {count:.0f} | {1e6 * bound:.2f} ({what}) | {1e6 * found:.2f} | {found / bound:.1f}x |"
        )
    bound, found = (sum(sum(line[i] for i in which) for line in rows.values()) for which in ((1, 2), (3,)))
    lines.append(f"| all | | {1e6 * bound:.1f} | {1e6 * found:.1f} | {found / bound:.1f}x |")
    shares = ", ".join(f"{where} {1e6 * value:.1f} us" for where, value in passes.items())
    return [f"### {name}", "", *lines, "", f"By pass: {shares}; undoing and pulling run side by side.", ""]


def main() -> None:
    """Measure, and replace the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="to the terminal instead")
    show = parser.parse_args().print
    operations, moved = rates()
    lines = [
        f"{operations / 5e8:.0f} GFLOP/s in fused multiply-adds, {moved / 1e9:.0f} GB/s, on one core: {processor()}.",
        "",
    ]
    for name in SHAPES:
        lines += table(name, operations, moved)
    text = "\n".join(lines)
    if show:
        print(text)
        return
    rewrite(README, "bench.kernels", text)


if __name__ == "__main__":
    main()
