"""Where something else is the better choice than fastrev: ``python -m bench.crossovers``.

Three tables of docs/why.md: by the number of steps, by the size of the network, and implicit differentiation beside the
exact one.  They take some six minutes; ``--only`` makes one of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

import fastrev
from bench.pages import ROOT, machine, rewrite, today
from bench.peers import assert_same, contestant
from bench.report import REST, alone
from bench.workloads import PRECISIONS, Workload, workload
from fastrev.experiments._shared import datasets

PAGE = ROOT / "docs" / "why.md"
ROUNDS, SECONDS = 7, 20.0  # turns of each contestant that count, and after how long it has no more than two
STEPS = (1, 10, 100, 1000, 10_000)
WIDTHS = ((64, 133, 10), (64, 1333, 10), (95, 95, 10), (311, 311, 10), (995, 995, 10), (1727, 1727, 10))
TRAINED = (30, 100, 300, 1000, 3000, 10_000)  # steps before the implicit derivative is taken
PROBLEMS = (("convex: 64-10, l2 0.01", (64, 10), 1e-2), ("not convex: 64-32-10, l2 0.001", (64, 32, 10), 1e-3))
MOST, TRUNCATED, TOLERANCE = 2000, 20, 1e-6  # products with the Hessian, and the solver's relative residual
ROUNDING = 1e-12  # of eigenvalues, the largest of which are about 1


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
    """Seconds as a cell of the table."""
    return f"{1e3 * seconds:,.{2 if seconds < 1e-2 else 0}f} ms"


def unrolled() -> str:
    """W2 by its number of steps."""
    lines = ["| W2 | steps | fastrev | JAX, stored | first call: fastrev, JAX | peak memory: fastrev, JAX |"]
    lines += ["|---" * 6 + "|"]
    for dtype in PRECISIONS:
        for steps in STEPS:
            case = workload("W2", PRECISIONS[dtype], steps)
            contestants = {peer: contestant(peer, case) for peer in ("fastrev", "jax-stored")}
            times = turns(contestants, max(1, 100 // steps))
            first = [alone("W2", dtype, peer, steps, repeat=0) for peer in ("fastrev", "jax-stored")]
            calls = ", ".join(f"{each['seconds']:.2f} s" for each in first)
            peaks = ", ".join(f"{each['peak_mb']:,.0f} MB" for each in first)
            own = milliseconds(float(np.median(times["fastrev"])))
            lines.append(f"| {dtype} | {steps:,} | {own} | {ratio(times, 'jax-stored')} | {calls} | {peaks} |")
    return "\n".join([*lines, "", measured_on("jax")])


def wide(shape: tuple[int, ...], dtype: str, steps: int = 50, rows: int = 640, batch: int = 64) -> Workload:
    """A workload of other sizes, with rates at which a wide network does not diverge."""
    rng = np.random.default_rng(0)
    x = rng.random((2 * rows, shape[0])) * (rng.random((2 * rows, shape[0])) < 0.2)
    x, y = x.astype(dtype), np.eye(shape[-1], dtype=dtype)[rng.integers(shape[-1], size=2 * rows)]
    w0, rates = fastrev.MLP(shape).init(seed=0), np.ones((steps, 2 * (len(shape) - 1)))
    return Workload(
        "wide", shape, w0, (x[:rows], y[:rows]), (x[rows:], y[rows:]), fastrev.SGD(0.02 * rates, 0.9 * rates), None,
        rng.integers(rows, size=(steps, batch)), ("w0", "v0", "lr", "decay"), np.dtype(dtype),
    )  # fmt: skip


def sizes() -> str:
    """Networks from narrow to wide."""
    lines = ["| network | parameters | fastrev, float64 | JAX | fastrev, float32 | JAX |", "|---" * 6 + "|"]
    for shape in WIDTHS:
        cells = []
        for dtype in PRECISIONS:
            case = wide(shape, dtype)
            contestants = {peer: contestant(peer, case) for peer in ("fastrev", "jax-stored")}
            assert_same(case, *contestants["jax-stored"]())
            times = turns(contestants)
            cells += [milliseconds(float(np.median(times["fastrev"]))), ratio(times, "jax-stored")]
        lines.append(f"| {'-'.join(map(str, shape))} | {case.w0.size:,} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", measured_on("jax")])


def measured_on(package: str) -> str:
    """The line below a table."""
    return f"On {machine('numba', 'numpy', package)}, {today()}."


def timed(function: Callable[[], Any], repeat: int = 3) -> tuple[Any, float]:
    """What it returns, and the median of its seconds."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        found = function()
        times.append(time.perf_counter() - start)
    return found, float(np.median(times))


def solved(hvp: Callable[[Any], Any], w: Any, g: Any, exact: Any, most: int) -> str:
    """The error of implicit differentiation, with its products with the Hessian and its time."""
    products = 0

    def product(u: Any) -> Any:
        nonlocal products
        products += 1
        return hvp(u)

    operator = LinearOperator((g.size, g.size), matvec=product, dtype=np.float64)
    (z, left), seconds = timed(lambda: cg(operator, g, rtol=TOLERANCE, maxiter=most))
    error = np.linalg.norm(-w * z - exact) / np.linalg.norm(exact)
    remark = ", no solution" if left and most > TRUNCATED else ""
    return f"{100 * error:,.{2 if error < 0.1 else 0}f} % ({products // 3:,}, {milliseconds(seconds)}{remark})"


def after(model: fastrev.MLP, l2: np.ndarray, steps: int, train: datasets.Examples, valid: datasets.Examples) -> str:
    """The cells of a training of so many steps."""

    def forward() -> fastrev.Run:
        return fastrev.train(model, model.init(seed=0), train=train, lr=3.0, decay=0.9, l2=l2, steps=steps)

    def hvp(u: Any) -> Any:
        return model.hvp(w, u, *train, l2=l2)

    run, there = timed(forward)
    w = run.w
    g = model.grad(w, *valid)
    runs = iter([run, forward(), forward()])
    exact, back = timed(lambda: next(runs).pullback(g, wrt=("l2",)).l2)
    hessian = np.stack([hvp(unit) for unit in np.eye(w.size)])
    negative = int((np.linalg.eigvalsh((hessian + hessian.T) / 2) < -ROUNDING).sum())
    cells = [f"{steps:,}", milliseconds(there), milliseconds(back)]
    cells += [solved(hvp, w, g, exact, most) for most in (MOST, TRUNCATED)]
    cells += [f"{np.linalg.norm(model.grad(w, *train, l2=l2)):.0e}", f"{negative:,}"]
    return " | ".join(cells)


def implicit() -> str:
    """Derivatives by the penalty of every parameter, exact and implicit."""
    data = datasets.load(None, 0)
    train = data.train[0][:500], data.train[1][:500]
    heads = ["", "steps", "training", "exact derivative", "implicit, CG", f"implicit, CG of {TRUNCATED} products"]
    heads += ["norm of the gradient", "negative eigenvalues of H"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for title, shape, coefficient in PROBLEMS:
        model = fastrev.MLP(shape)
        l2 = np.full(model.num_params, coefficient)
        lines += [f"| {title} | {after(model, l2, steps, train, data.valid)} |" for steps in TRAINED]
    return "\n".join([*lines, "", measured_on("scipy")])


TABLES = {"unrolled": unrolled, "sizes": sizes, "implicit": implicit}


def main() -> None:
    """Measure, print, and put each table into its place on the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TABLES, help="leave the rest as it is")
    only = parser.parse_args().only
    for name in [only] if only else TABLES:
        found = TABLES[name]()
        print(f"{found}\n", flush=True)
        rewrite(PAGE, f"bench.crossovers --only {name}", found)


if __name__ == "__main__":
    main()
