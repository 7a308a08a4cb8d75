"""How near Adam is to one in floats, and to PyTorch's, on digits: ``python -m bench.adam_accuracy``.

64-32-10 units, 200 steps of 50, float64.  The final weights are held against the same formula in NumPy, gradients
against JAX, each relative to the largest.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

import fastrev
from bench.pages import ROOT, machine, rewrite, today
from bench.peers import contestant
from bench.workloads import Workload

PAGE = ROOT / "docs" / "guides" / "optimizers.md"
STEPS, GROUPS, LR = 200, 4, 0.01
CASES = (1e-8, 0.0), (1e-6, 0.0), (1e-4, 0.0), (1e-8, 1e-12), (1e-8, 1e-10), (1e-8, 1e-8)


def digits(eps: float, eps_root: float) -> Workload:
    """Training on them."""
    x, y = load_digits(return_X_y=True)
    x, y = x / 16, np.eye(10)[y]
    tables = (np.full((STEPS, GROUPS), value) for value in (LR, 0.9, 0.999, eps))
    optimizer = fastrev.Adam(*tables, eps_root=eps_root)
    sizes = (64, 32, 10)
    rows = fastrev.minibatches(1000, 50, STEPS, 1)
    return Workload(
        "digits", sizes, fastrev.MLP(sizes).init(0), (x[:1000], y[:1000]), (x[1000:], y[1000:]), optimizer, None, rows,
        ("w0", "lr"), np.dtype(np.float64),
    )  # fmt: skip


def in_floats(case: Workload, eps: float, eps_root: float) -> np.ndarray:
    """The final weights of the same formula in NumPy."""
    model, (x, y), w = fastrev.MLP(case.sizes), case.train, case.w0.copy()
    m, s = np.zeros((2, w.size))
    assert case.batches is not None
    for t, rows in enumerate(case.batches):
        g = model.grad(w, x[rows], y[rows])
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2
        root = np.sqrt(s / (1 - 0.999 ** (t + 1)) + eps_root)
        w = w - LR * m / (1 - 0.9 ** (t + 1)) / (root + eps)
    return w


def distance(a: np.ndarray, b: np.ndarray) -> str:
    """Relative to the largest."""
    return f"{np.abs(a - b).max() / np.abs(b).max():.0e}"


def main() -> None:
    """Measure, and replace the page's table."""
    lines = [
        "| eps | eps_root | final weights | gradient by w0 | gradient by lr | final weights, from those of PyTorch |",
        "|---|---|---|---|---|---|",
    ]
    for eps, eps_root in CASES:
        case = digits(eps, eps_root)
        ours, (_, theirs) = case.run(), contestant("jax-stored", case)()
        figures = [
            distance(ours.w, in_floats(case, eps, eps_root)),
            *(distance(getattr(ours.grad, name), theirs[name]) for name in case.wrt),
            distance(ours.w, in_floats(case, 1e-8, 0.0)),
        ]
        default = ", the default" if (eps, eps_root) == (1e-8, fastrev.Adam(LR).eps_root) else ""
        line = f"| {eps:.0e} | {eps_root:.0e}{default} | {' | '.join(figures)} |".replace("0e+00", "0")
        lines.append(line.replace("e-0", "e-").replace("-", "\u2011"))  # which browsers do not break
        print(lines[-1], flush=True)
    rewrite(PAGE, "bench.adam_accuracy", "\n".join([*lines, "", f"{machine('numpy', 'numba', 'jax')}, {today()}."]))


if __name__ == "__main__":
    main()
