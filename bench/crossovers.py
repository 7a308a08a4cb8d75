"""Where something else is the better choice than fastrev: ``python -m bench.crossovers``.

Three tables: by the number of steps, by the size of the network, and implicit differentiation beside the exact one.
They are printed, and written into docs/why.md where that has a place for them; with ``--only``, printed alone.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg, minres

import fastrev
from bench.pages import ROOT, rewrite
from bench.peers import Solve, assert_same, contestant
from bench.report import REST, processor
from bench.workloads import PRECISIONS, Workload, workload
from fastrev.experiments._shared import datasets

PAGE = ROOT / "docs" / "why.md"
MARKERS = "<!-- made by python -m bench.crossovers -->", "<!-- end of bench.crossovers -->"
ROUNDS, SECONDS = 7, 20.0  # turns of each contestant that count, and after how long it has no more than two
STEPS = (1, 10, 100, 1000, 10_000)
WIDTHS = ((64, 133, 10), (64, 1333, 10), (95, 95, 10), (311, 311, 10), (995, 995, 10), (1727, 1727, 10))
TRAINED = (30, 100, 300, 1000, 3000, 10_000)  # steps before the implicit derivative is taken
PROBLEMS = (("convex: 64-10, l2 0.01", (64, 10), 1e-2), ("not convex: 64-32-10, l2 0.001", (64, 32, 10), 1e-3))
SOLVERS = {"CG": (cg, 2000), "MINRES": (minres, 2000), "CG, 20 products": (cg, 20)}  # and the most products
TOLERANCE = 1e-6  # of the solvers


def jax_by_group(case: Workload) -> Solve:
    """JAX with the trajectory stored, as one would write it: a matrix is a matrix, and a group has one rate.

    The peer of the other tables repeats the rates to all of the parameters, and so sums over these on its way back;
    and XLA takes a minute to fold the indices of a million.
    """
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    shapes = [shape for a, b in pairwise(case.sizes) for shape in ((a, b), (b,))]
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]

    def loss(groups: Any, x: Any, y: Any) -> Any:
        for layer in range(0, len(groups), 2):
            x = (jnp.tanh(x) if layer else x) @ groups[layer] + groups[layer + 1]
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(x) * y, axis=1))

    def meta_loss(inputs: Any, rows: Any, x: Any, y: Any, xv: Any, yv: Any) -> Any:
        def step(carry: Any, now: Any) -> Any:
            w, v = carry
            alpha, gamma, batch = now
            g = jax.grad(loss)(w, x[batch], y[batch])
            v = [gamma[i] * v[i] - (1 - gamma[i]) * g[i] for i in range(len(g))]
            return ([w[i] + alpha[i] * v[i] for i in range(len(g))], v), None

        start = [[part.reshape(s) for part, s in zip(jnp.split(inputs[n], ends), shapes, strict=True)] for n in "wv"]
        (w, _), _ = jax.lax.scan(step, tuple(start), (inputs["lr"], inputs["decay"], rows))
        return loss(w, xv, yv)

    given = {"w": case.w0, "v": np.zeros_like(case.w0), "lr": case.lr, "decay": case.decay}
    inputs = {name: jnp.asarray(array, case.dtype) for name, array in given.items()}
    data = [jnp.asarray(case.batches), *(jnp.asarray(array, case.dtype) for array in (*case.train, *case.valid))]
    differentiate = jax.jit(jax.value_and_grad(meta_loss))

    def solve() -> tuple[Any, dict[str, Any]]:
        value, gradients = jax.block_until_ready(differentiate(inputs, *data))
        return value, {{"w": "w0", "v": "v0"}.get(name, name): each for name, each in gradients.items()}

    return solve


def turns(contestants: Mapping[str, Callable[[], object]], calls: int = 1) -> dict[str, np.ndarray]:
    """Seconds of a call of each, over interleaved rounds; as many calls make a turn, and the first is not counted."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(1 + ROUNDS):
        if len(times["fastrev"]) > 2 and max(map(sum, times.values())) * calls > SECONDS:
            break
        for name, run in contestants.items():
            time.sleep(REST)
            start = time.perf_counter()
            for _ in range(calls):
                run()
            times[name].append((time.perf_counter() - start) / calls)
    return {name: np.array(values[1:]) for name, values in times.items()}


def ratio(times: dict[str, np.ndarray], name: str) -> str:
    """How many times as long as fastrev, of the medians, and the least and the most of a round."""
    rounds = times[name] / times["fastrev"]
    return f"{np.median(times[name]) / np.median(times['fastrev']):.2f}x ({rounds.min():.2f}-{rounds.max():.2f})"


def milliseconds(seconds: float) -> str:
    """In words."""
    return f"{1e3 * seconds:,.{2 if seconds < 1e-2 else 0}f} ms"


def first_call(steps: int, dtype: str, peer: str) -> dict[str, float]:
    """What one call takes in a process of its own: seconds, and peak memory."""
    command = [sys.executable, "-m", "bench.one", "W2", dtype, peer, str(steps), "--repeat", "0"]
    result: dict[str, float] = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    return result


def unrolled() -> str:
    """W2 by its number of steps."""
    lines = [
        "| W2 | steps | fastrev | JAX, stored | JAX, by group | first call: fastrev, JAX | peak memory: fastrev, JAX |"
    ]
    lines += ["|---" * 7 + "|"]
    for dtype in PRECISIONS:
        for steps in STEPS:
            case = workload("W2", PRECISIONS[dtype], steps)
            contestants = {"fastrev": contestant("fastrev", case), "stored": contestant("jax-stored", case)}
            times = turns({**contestants, "by group": jax_by_group(case)}, max(1, 100 // steps))
            first = [first_call(steps, dtype, peer) for peer in ("fastrev", "jax-stored")]
            calls = ", ".join(f"{each['seconds']:.2f} s" for each in first)
            peaks = ", ".join(f"{each['peak_mb']:,.0f} MB" for each in first)
            own = milliseconds(float(np.median(times["fastrev"])))
            ratios = " | ".join(ratio(times, name) for name in ("stored", "by group"))
            lines.append(f"| {dtype} | {steps:,} | {own} | {ratios} | {calls} | {peaks} |")
    return "\n".join([*lines, "", machine("jax")])


def wide(sizes: tuple[int, ...], dtype: str, steps: int = 50, rows: int = 640, batch: int = 64) -> Workload:
    """A workload of other sizes, with rates at which a wide network does not diverge."""
    rng = np.random.default_rng(0)
    x = rng.random((2 * rows, sizes[0])) * (rng.random((2 * rows, sizes[0])) < 0.2)
    x, y = x.astype(dtype), np.eye(sizes[-1], dtype=dtype)[rng.integers(sizes[-1], size=2 * rows)]
    w0, rates = fastrev.MLP(sizes).init(seed=0), np.ones((steps, 2 * (len(sizes) - 1)))
    return Workload(
        "wide", sizes, w0, (x[:rows], y[:rows]), (x[rows:], y[rows:]), 0.02 * rates, 0.9 * rates, None,
        rng.integers(rows, size=(steps, batch)), ("w0", "v0", "lr", "decay"), np.dtype(dtype),
    )  # fmt: skip


def sizes() -> str:
    """Networks from narrow to wide."""
    lines = ["| network | parameters | fastrev, float64 | JAX | fastrev, float32 | JAX |", "|---" * 6 + "|"]
    for shape in WIDTHS:
        cells = []
        for dtype in PRECISIONS:
            case = wide(shape, dtype)
            contestants = {"fastrev": contestant("fastrev", case), "jax": jax_by_group(case)}
            assert_same(case, *contestants["jax"]())
            times = turns(contestants)
            cells += [milliseconds(float(np.median(times["fastrev"]))), ratio(times, "jax")]
        lines.append(f"| {'-'.join(map(str, shape))} | {case.w0.size:,} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", machine("jax")])


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and seconds."""
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def solved(name: str, hvp: Callable[[Any], Any], w: Any, g: Any, exact: Any) -> str:
    """The error of implicit differentiation with a solver, beside what it took, and whether that was a solution."""
    solver, most = SOLVERS[name]
    curvatures: list[float] = []

    def product(u: Any) -> Any:
        hu = hvp(u)
        curvatures.append(float(np.sum(u * hu)))
        return hu

    operator = LinearOperator((g.size, g.size), matvec=product, dtype=np.float64)
    (z, info), seconds = timed(lambda: solver(operator, g, rtol=TOLERANCE, maxiter=most))
    error = np.linalg.norm(-w * z - exact) / np.linalg.norm(exact)
    remarks = [f"{len(curvatures):,}", milliseconds(seconds)]
    remarks += ["H is not positive"] * (min(curvatures) < 0) + ["no solution"] * (info != 0 and most > 20)
    return f"{100 * error:,.{2 if error < 0.1 else 0}f} % ({', '.join(remarks)})"


def after(model: fastrev.MLP, l2: np.ndarray, steps: int, train: datasets.Examples, valid: datasets.Examples) -> str:
    """The cells of a training of so many steps."""
    w0 = model.init(seed=0)
    run, there = timed(lambda: fastrev.train(model, w0, train=train, lr=3.0, decay=0.9, l2=l2, steps=steps))
    w, g = run.w, model.grad(run.w, *valid)
    exact, back = timed(lambda: run.pullback(g, wrt=("l2",)).l2)
    cells = [solved(name, lambda u: model.hvp(w, u, *train, l2=l2), w, g, exact) for name in SOLVERS]
    return f"{steps:,} | {milliseconds(there)} | {milliseconds(back)} | {' | '.join(cells)}"


def implicit() -> str:
    """Derivatives by the penalty of every parameter: error, products with the Hessian, and time of the solver alone."""
    data = datasets.load(None, 0)
    train = data.train[0][:500], data.train[1][:500]
    lines = [f"| | steps | training | exact derivative | {' | '.join(SOLVERS)} |", "|---" * (4 + len(SOLVERS)) + "|"]
    for title, shape, coefficient in PROBLEMS:
        model = fastrev.MLP(shape)
        l2 = np.full(model.num_params, coefficient)
        after(model, l2, 9, train, data.valid)  # loads what is compiled
        lines += [f"| {title} | {after(model, l2, steps, train, data.valid)} |" for steps in TRAINED]
    return "\n".join([*lines, "", machine("scipy")])


def machine(package: str) -> str:
    """What a table was measured on."""
    packages = ", ".join(f"{each} {version(each)}" for each in ("numba", "numpy", package))
    return f"On {processor()}, {packages}, Python {platform.python_version()}, {datetime.date.today():%Y-%m-%d}."


TABLES = {"unrolled": unrolled, "sizes": sizes, "implicit": implicit}


def main() -> None:
    """Measure and print; write all three into the page that has a place for them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TABLES, help="print this one, and write nothing")
    only = parser.parse_args().only
    found = []
    for name in [only] if only else TABLES:
        found.append(TABLES[name]())
        print(f"{found[-1]}\n", flush=True)
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if only is None and all(each in page for each in MARKERS):
        rewrite(PAGE, "bench.crossovers", "\n\n".join(found))


if __name__ == "__main__":
    main()
