"""How well attribution predicts real retraining, beside its peers: ``python -m bench.attribution``, some ten minutes.

Digits, 1,000 to train on and 100 queries, for each of five seeds: of the split, the initial weights, the batches and
the subsets that are left out.  The score is the linear datamodeling score, Spearman's correlation of predicted and real
changes of a query's loss over 50 subsets.  The peers predict from the trained network alone:

- influence functions (Koh and Liang 2017) with the exact Hessian of the training loss, P by P, and its best damping:
  of 32, the one with the highest score on 100 other queries, chosen for each seed and share anew;
- gradient similarity: products of the gradients of queries and training examples, or cosines of their angles.

It makes the tables of docs/guides/attribution.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

import fastrev
from bench.pages import ROOT, machine, rewrite, today
from fastrev.experiments._shared.influence import DAMPINGS, Influence, cosines, gradients, hessian

PAGE = ROOT / "docs" / "guides" / "attribution.md"
TRAINED, QUERIES = 1000, 100  # and as many others, for the damping
SHARES = (0.01, 0.05, 0.2)
SUBSETS = 50
MOVE = 0.099  # h of metasmoothness, by which weights of 1 move
SEEDS_OF_WAYS = 2  # of the seeds, where one thing is changed
OWN, SINGLES = "`fastrev.attribute`", "the same, a reversal for each query"
INFLUENCE, PRODUCTS, COSINES = "influence functions", "gradient products", "gradient cosines"

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Way:
    """How the network is trained."""

    training: Mapping[str, Any] = field(default_factory=lambda: {"lr": 0.2, "decay": 0.9})
    activation: str = "tanh"
    steps: int = 400
    batch_size: int | None = 50
    redraw: bool = False
    taken: float = 1.0  # of the weight of what is left out


def by_adam(**named: Any) -> Way:
    return Way({"optimizer": fastrev.Adam(**named)})


BOTH = {"SGD, lr 0.2, decay 0.9": Way(), "Adam, lr 0.003, eps_root 1e-6": by_adam(lr=0.003, eps_root=1e-6)}
WAYS = {  # one thing changed at a time
    "SGD, as above": Way(),
    "lr 0.05": Way({"lr": 0.05, "decay": 0.9}),
    "lr 0.5": Way({"lr": 0.5, "decay": 0.9}),
    "lr 1": Way({"lr": 1.0, "decay": 0.9}),
    "lr 1, and weights of 0.9 instead of 0": Way({"lr": 1.0, "decay": 0.9}, taken=0.1),
    "2,000 steps": Way(steps=2000),
    "all examples at every step": Way(batch_size=None),
    "softplus": Way(activation="softplus"),
    "relu": Way(activation="relu"),
    "batches drawn again": Way(redraw=True),
    "all examples at every step, mean over those left": Way(batch_size=None, redraw=True),
    "Adam, as above": BOTH["Adam, lr 0.003, eps_root 1e-6"],
    "lr 0.001": by_adam(lr=0.001, eps_root=1e-6),
    "lr 0.01": by_adam(lr=0.01, eps_root=1e-6),
    "eps_root 1e-8": by_adam(lr=0.003, eps_root=1e-8),
    "eps_root 1e-4": by_adam(lr=0.003, eps_root=1e-4),
}


class Scene(NamedTuple):
    """One seed's problem."""

    model: fastrev.MLP
    w0: Array
    train: tuple[Array, Any]
    asked: tuple[Array, Any]  # the queries, and then the others
    named: dict[str, Any]  # of `fastrev.attribute`


def scene(way: Way, seed: int) -> Scene:
    """The problem of a seed."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order] / 16, y[order]
    model, end = fastrev.MLP((64, 32, 10), activation=way.activation), TRAINED + 2 * QUERIES
    train, asked = (x[:TRAINED], y[:TRAINED]), (x[TRAINED:end], y[TRAINED:end])
    named = {"train": train, "steps": way.steps, "batch_size": way.batch_size, "seed": seed, **way.training}
    return Scene(model, model.init(seed), train, asked, named)


# ---- one seed ----------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """Of one seed."""

    scores: dict[str, list[Array]]  # by contender, of each share
    seconds: dict[str, float]
    damping: list[float]


def measured(way: Way, seed: int) -> Found:
    """Every contender."""
    model, w0, train, asked, named = scene(way, seed)
    both = fastrev.attribute(model, w0, queries=asked, **named)
    checks = [both.check(share, SUBSETS, workers=2, seed=seed) for share in SHARES]
    queries = tuple(each[:QUERIES] for each in asked)

    seconds: dict[str, float] = {}
    start = time.perf_counter()
    fastrev.attribute(model, w0, queries=queries, **named)
    seconds[OWN] = time.perf_counter() - start
    start = time.perf_counter()
    for one in zip(*(each[:, None] for each in queries), strict=True):
        fastrev.meta_grad(model, w0, valid=one, wrt=("example_weights",), **named)
    seconds[SINGLES] = time.perf_counter() - start

    start = time.perf_counter()
    of_train, of_asked = gradients(model, both.w, train), gradients(model, both.w, asked)
    products = of_asked @ of_train.T
    seconds[PRODUCTS] = time.perf_counter() - start
    angles = cosines(of_asked, of_train)
    seconds[COSINES] = time.perf_counter() - start
    start = time.perf_counter()
    curvature = hessian(model, both.w, train)
    np.linalg.solve(curvature + np.eye(len(curvature)), of_asked[:QUERIES].T).T @ of_train.T  # for one damping
    seconds[INFLUENCE] = time.perf_counter() - start + seconds[PRODUCTS]
    influence = Influence(curvature, of_train)

    scores: dict[str, list[Array]] = {name: [] for name in (OWN, INFLUENCE, PRODUCTS, COSINES)}
    dampings = []
    for check in checks:
        scores[OWN].append(check.score[:QUERIES])
        scores[PRODUCTS].append(check.score_of(products)[:QUERIES])
        scores[COSINES].append(check.score_of(angles)[:QUERIES])
        tried = np.stack([check.score_of(influence.effects(of_asked, each)) for each in DAMPINGS])
        best = int(tried[:, QUERIES:].mean(axis=1).argmax())
        scores[INFLUENCE].append(tried[best, :QUERIES])
        dampings.append(float(DAMPINGS[best]))
    return Found(scores, seconds, dampings)


def checked(way: Way, seed: int) -> tuple[float, list[Array]]:
    """Metasmoothness, and the scores of attribution alone, of each share."""
    model, w0, _, asked, named = scene(way, seed)
    smoothness = fastrev.metasmoothness(model, w0, wrt=("example_weights",), h=MOVE, **named)
    queries = tuple(each[:QUERIES] for each in asked)
    found = fastrev.attribute(model, w0, queries=queries, **named)
    checks = [found.check(share, SUBSETS, workers=2, seed=seed, redraw=way.redraw) for share in SHARES]
    if way.taken < 1:
        return smoothness, [_with_less_weight(way.taken, check, found, w0, queries, named) for check in checks]
    return smoothness, [check.score for check in checks]


def _with_less_weight(
    taken: float, check: fastrev.AttributionCheck, found: fastrev.Attribution, w0: Array, queries: Any, named: Any
) -> Array:
    """The scores where a part of the weights is taken away only."""
    model, real = found.source.problem.trained.model, []
    for subset in check.subsets:
        weights = np.ones(TRAINED)
        weights[subset] -= taken
        w = fastrev.train(model, w0, example_weights=weights, **named).w
        real.append([model.loss_value(w, *one) for one in zip(*(each[:, None] for each in queries), strict=True)])
    return replace(check, real=np.transpose(real) - found.losses[:, None]).score_of(found.effects)


# ---- the tables --------------------------------------------------------------------------------------------------


def peers(found: list[Found]) -> str:
    """A row for each contender."""
    head = f"| | {' | '.join(f'{share:.0%} left out' for share in SHARES)} | seconds for {QUERIES} queries |"
    lines = [head, "|---" * (len(SHARES) + 2) + "|"]
    for name in (OWN, SINGLES, INFLUENCE, PRODUCTS, COSINES):
        seconds = np.median([each.seconds[name] for each in found])
        of_seeds = [[scores.mean() for scores in each.scores.get(name, each.scores[OWN])] for each in found]
        lines.append(f"| {name} | {' | '.join(map(_spread, zip(*of_seeds, strict=True)))} | {seconds:.2g} |")
    return "\n".join(lines)


def ways(found: Mapping[str, list[tuple[float, list[Array]]]]) -> str:
    """A row for each way to train."""
    head = f"| | metasmoothness | {' | '.join(f'{share:.0%} left out' for share in SHARES)} | lowest query, 5% |"
    lines = [head, "|---" * (len(SHARES) + 3) + "|"]
    for name, seeds in found.items():
        smoothness = np.mean([each for each, _ in seeds])
        scores = [_spread([each[share].mean() for _, each in seeds]) for share in range(len(SHARES))]
        lowest = min(each[1].min() for _, each in seeds)
        lines.append(f"| {name} | {smoothness:.3f} | {' | '.join(scores)} | {lowest:.2f} |")
    return "\n".join(lines)


def _spread(values: Any) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print only")
    options = parser.parse_args()
    seeds = range(options.seeds)
    text = ""
    for name, way in BOTH.items():
        measured(replace(way, steps=20), 0)  # compiles
        found = [measured(way, seed) for seed in seeds]
        text += f"{name}:\n\n{peers(found)}\n\n"
        print(text, "\nbest dampings:", [each.damping for each in found], flush=True)
    others = {}
    for name, way in WAYS.items():
        others[name] = [checked(way, seed) for seed in range(SEEDS_OF_WAYS)]
        print(ways({name: others[name]}).splitlines()[-1], flush=True)
    text += f"One thing changed at a time, {SEEDS_OF_WAYS} seeds:\n\n{ways(others)}\n\n"
    text += (
        f"Means over {QUERIES} queries, with standard deviations over {options.seeds} seeds, {SUBSETS} subsets each; "
        f"metasmoothness by the weights of the examples, at h = {MOVE}: "
        f"{machine('numpy', 'numba', 'scikit-learn')}, {today()}."
    )
    if options.dry:
        print(text)
    else:
        rewrite(PAGE, "bench.attribution", text)


if __name__ == "__main__":
    main()
