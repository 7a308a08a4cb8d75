"""Twenty random problems for `fastrev.tune`, bad starts among them: ``python -m bench.tuning_problems``.

Does it ever end above where it began, or by more than 2 % above the best that it had on its way?  The start, twelve
points of the way and the end are judged by the same runs of seeds that the tuner has not seen.  Differences of two of
those means that chance explains are shown beside it: as two standard errors of the paired difference.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import fastrev

JUDGES = 64  # runs
UNSEEN = 10**9  # the first of the judge's seeds
POINTS = 12
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """Arguments of `fastrev.tune`."""

    name: str
    model: fastrev.MLP
    arguments: dict[str, Any]

    def losses(self, values: dict[str, Any], pool: ThreadPoolExecutor) -> Floats:
        """Of runs of unseen seeds, infinite where they diverge."""

        def loss(seed: int) -> float:
            chosen = {name: values.get(name, self.arguments.get(name)) for name in ("lr", "decay", "l2", "init_scale")}
            scale = chosen.pop("init_scale")
            rest = {name: self.arguments[name] for name in ("train", "steps", "batch_size")}
            try:
                run = fastrev.train(self.model, self.model.init(seed, scale=scale), seed=seed, **chosen, **rest)
            except fastrev.DivergenceError:
                return np.inf
            found = self.model.loss_value(run.w, *self.arguments["valid"])
            return found if np.isfinite(found) else np.inf

        return np.array(list(pool.map(loss, range(UNSEEN, UNSEEN + JUDGES))))


def problem(seed: int) -> Problem:
    """One of them."""
    rng = np.random.default_rng(seed)
    source = ("digits", "wine", "breast cancer", "diabetes", "made")[seed % 5]
    X, Y, loss = _data(source, rng)
    cut = int(0.7 * len(X))
    depth, steps = int(rng.integers(4)), int(np.exp(rng.uniform(np.log(20), np.log(500))))
    outputs = int(Y.max()) + 1 if loss == "cross_entropy" else 1
    activation = str(rng.choice(["tanh", "sigmoid", "relu", "softplus"]))
    model = fastrev.MLP((X.shape[1], *rng.integers(4, 40, depth).tolist(), outputs), activation, loss)
    groups = len(model.groups)
    shapes = [(), (steps,), (1, groups), (steps, groups)]
    start = 10.0 ** rng.choice([-3, -2, -1, 0, 1, 2])  # bad ones among them
    names = ["lr", "decay", "l2", "init_scale"]
    learn = tuple(names if rng.random() < 0.5 else rng.choice(names, rng.integers(1, 4), replace=False).tolist())
    scale = np.array([s[0] ** -0.5 if len(s) == 2 else 1e-3 for s in model.shapes.values()])
    arguments = {
        "train": (X[:cut], Y[:cut]), "valid": (X[cut:], Y[cut:]), "steps": steps,
        "batch_size": int(min(rng.choice([10, 30, 60]), cut)),
        "lr": np.full(shapes[rng.integers(4)], start), "decay": np.full(shapes[rng.integers(4)], 0.9),
        "l2": 1e-4, "init_scale": scale, "learn": learn, "seed": seed,
    }  # fmt: skip
    title = f"{source} {model.sizes} {activation}, T {steps}, lr {start:g}, learns {', '.join(learn)}"
    return Problem(title, model, arguments)


def _data(source: str, rng: np.random.Generator) -> tuple[Floats, npt.NDArray[Any], str]:
    from sklearn import datasets

    if source == "made":
        X = rng.standard_normal((400, 6))
        Y = (np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] > 0).astype(float)[:, None]
        return X, Y, "logistic"
    X, Y = getattr(datasets, f"load_{source.replace(' ', '_')}")(return_X_y=True)
    order = rng.permutation(len(X))
    X, Y = X[order], Y[order]
    X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-3)
    if source == "diabetes":
        return X, ((Y - Y.mean()) / Y.std())[:, None], "squared_error"
    return X, Y.astype(np.int64), "cross_entropy"


def solve(case: Problem, meta_steps: int, pool: ThreadPoolExecutor) -> tuple[Floats, list[Floats], Floats, Any]:
    """Losses at the start, on the way, and at the end; and the result."""
    way: list[dict[str, Any]] = []
    every = -(-meta_steps // POINTS)

    def callback(state: Any) -> None:
        if state.nit % every == 0:
            way.append(state.current())

    result = fastrev.tune(
        case.model, **case.arguments, meta_steps=meta_steps, workers=2, progress=False, callback=callback
    )
    judged = [case.losses(each, pool) for each in way]
    return case.losses({}, pool), judged, case.losses(result.learned, pool), result


def main() -> None:
    """Solve all, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first, by which it is drawn")
    parser.add_argument("--meta-steps", type=int, default=60)
    options = parser.parse_args()
    above, short, refused = 0, 0, 0
    print("start -> end, best on the way (end/best - 1, two standard errors of that)")
    with ThreadPoolExecutor(2) as pool, fastrev.threads(per_run=1):
        for seed in range(options.first, options.first + options.problems):
            case = problem(seed)
            try:
                start, way, end, result = solve(case, options.meta_steps, pool)
            except fastrev.DivergenceError as error:
                refused += 1
                print(f"{seed:3d}  refused: {error}; {case.name}", flush=True)
                continue
            best = min([start, *way, end], key=np.mean)
            excess, error = np.mean(end) / np.mean(best) - 1, 2 * np.std(end - best) / JUDGES**0.5 / np.mean(best)
            above += np.mean(end) > np.mean(start)
            short += excess > 0.02
            print(
                f"{seed:3d}  {np.mean(start):.4g} -> {np.mean(end):.4g}, {np.mean(best):.4g} "
                f"({excess:.1%} +- {error:.1%})  {result.refused} taken back, {result.diverged} lost; {case.name}",
                flush=True,
            )
    print(f"above the start: {above}; more than 2 % above the best: {short}; refused: {refused}; of {options.problems}")


if __name__ == "__main__":
    main()
