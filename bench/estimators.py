"""`fastrev.estimators` beside scikit-learn's own networks: ``python -m bench.estimators``, some ten minutes.

On each data set, for each of five seeds: a quarter of the examples is put aside to be judged on, and the others are
fitted by `MetaMLPClassifier` or `MetaMLPRegressor` with defaults; by `MLPClassifier` or `MLPRegressor` with defaults,
on the data as they are and standardised, targets too; and by `RandomizedSearchCV` over the standardised ones, for as
long as the first took, after a look at the defaults.  It makes the table of docs/guides/scikit-learn.md and its
picture.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import loguniform
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import RandomizedSearchCV, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.pages import ROOT, machine, rewrite, today
from fastrev.estimators import MetaMLPClassifier, MetaMLPRegressor

PAGE = ROOT / "docs" / "guides" / "scikit-learn.md"
PICTURE = "![Accuracy or R² of the four by data set, with its standard error](../../bench/plots/estimators.png)"
CORES = 2
OWN, RAW, SCALED, SEARCHED = CONTENDERS = ("MetaMLP", "MLP", "MLP, standardised", "RandomizedSearchCV")
FOLDS = 5
ROUNDING = 1e-12  # of means of scores
SPACE = {
    "hidden_layer_sizes": [(50,), (100,), (200,), (100, 100)],
    "activation": ["relu", "tanh"],
    "alpha": loguniform(1e-6, 10),
    "learning_rate_init": loguniform(1e-4, 1e-1),
    "batch_size": [32, 64, 128],
}


@dataclass(frozen=True)
class Data:
    """Something to learn."""

    load: Callable[[], tuple[Any, Any]]
    real: bool = False  # targets

    def split(self, seed: int) -> tuple[Any, ...]:
        """Examples to fit and to judge on, and their targets."""
        X, y = self.load()
        return tuple(train_test_split(X, y, random_state=seed, stratify=None if self.real else y))


SETS: Mapping[str, Data] = {
    "digits": Data(lambda: datasets.load_digits(return_X_y=True)),
    "breast cancer": Data(lambda: datasets.load_breast_cancer(return_X_y=True)),
    "wine": Data(lambda: datasets.load_wine(return_X_y=True)),
    "iris": Data(lambda: datasets.load_iris(return_X_y=True)),
    "made classes": Data(lambda: datasets.make_classification(
        600, 30, n_informative=8, n_redundant=5, n_classes=4, flip_y=0.05, random_state=1)),
    "diabetes": Data(lambda: datasets.load_diabetes(return_X_y=True), real=True),
    "Friedman 1": Data(lambda: datasets.make_friedman1(500, noise=1.0, random_state=0), real=True),
}  # fmt: skip


class Fit(NamedTuple):
    """How one did on one split."""

    score: float  # accuracy, or R2
    seconds: float
    candidates: int = 1


def fits(data: Data, seed: int) -> dict[str, Fit]:
    """Every contender on one split."""
    X, X_test, y, y_test = data.split(seed)

    def timed(estimator: Any) -> Fit:
        start = time.perf_counter()
        estimator.fit(X, y)
        seconds = time.perf_counter() - start
        return Fit(estimator.score(X_test, y_test), seconds)

    own = (MetaMLPRegressor if data.real else MetaMLPClassifier)(random_state=seed, workers=CORES)
    network = (MLPRegressor if data.real else MLPClassifier)(random_state=seed)
    found = {OWN: timed(own), RAW: timed(network), SCALED: timed(standardised(network))}
    search = Search(standardised(network), found[OWN].seconds, seed)
    found[SEARCHED] = timed(search)._replace(candidates=search.candidates)
    return found


def standardised(network: Any) -> Any:
    """The network, of standardised inputs and real targets."""
    if isinstance(network, MLPRegressor):
        network = TransformedTargetRegressor(network, transformer=StandardScaler())
    return make_pipeline(StandardScaler(), network)


class Search:
    """`RandomizedSearchCV`, a candidate at a time, until its time is over; what is begun is finished.

    The first candidate is the network with its defaults.
    """

    def __init__(self, pipeline: Any, seconds: float, seed: int) -> None:
        self.pipeline, self.seconds, self.seed, self.candidates = pipeline, seconds, seed, 0

    def fit(self, X: Any, y: Any) -> None:
        """Search, and fit the best."""
        start = time.perf_counter()
        best, self.candidates = cross_val_score(self.pipeline, X, y, cv=FOLDS, n_jobs=CORES).mean(), 1
        prefix = (
            "mlpclassifier__"
            if "mlpclassifier" in self.pipeline.named_steps
            else "transformedtargetregressor__regressor__"
        )
        space = {prefix + name: values for name, values in SPACE.items()}
        parameters: dict[str, Any] = {}
        while time.perf_counter() - start < self.seconds:
            search = RandomizedSearchCV(
                self.pipeline, space, n_iter=1, cv=FOLDS, n_jobs=CORES, refit=False, error_score=-np.inf,
                random_state=1000 * self.seed + self.candidates,
            ).fit(X, y)  # fmt: skip
            self.candidates += 1
            if search.best_score_ > best:
                best, parameters = search.best_score_, search.best_params_
        self.pipeline.set_params(**parameters).fit(X, y)

    def score(self, X: Any, y: Any) -> float:
        """That of the best."""
        return float(self.pipeline.score(X, y))


# ---- the table ---------------------------------------------------------------------------------------------------

Results = dict[str, dict[str, list[Fit]]]  # by data set and contender, each seed


def table(results: Results) -> str:
    """A row for each data set."""
    head = f"| | {OWN} | {RAW} | {SCALED} | {SEARCHED} | seconds of {OWN}, {SCALED} | candidates |"
    lines = [head, "|---" * 7 + "|"]
    for name, found in results.items():
        cells = [_score(found[each]) for each in CONTENDERS]
        seconds = ", ".join(f"{np.mean([each.seconds for each in found[which]]):.2g}" for which in (OWN, SCALED))
        candidates = np.mean([each.candidates for each in found[SEARCHED]])
        lines.append(f"| {name} | {' | '.join(cells)} | {seconds} | {candidates:.0f} |")
    return "\n".join(lines)


def verdict(results: Results) -> str:
    """In how many data sets it is where it should be, split by split."""
    level = [
        name for name, found in results.items()
        if all(mean >= -error for mean, error in (gain(found, other) for other in (RAW, SCALED)))
    ]  # fmt: skip
    gains = {name: gain(found, SEARCHED)[0] for name, found in results.items()}
    above, below = ([name for name, mean in gains.items() if sign * mean > ROUNDING] for sign in (1, -1))
    text = (
        f"{OWN} is at most a standard error of the difference below both networks with defaults on {len(level)} of "
        f"{len(results)} data sets, and above RandomizedSearchCV of the same time on {len(above)}"
    )
    return text + (f", below it on {len(below)}: {', '.join(below)}." if below else ", below it on none.")


def gain(found: dict[str, list[Fit]], other: str) -> tuple[float, float]:
    """By how much the own score is above another on the same splits, and the standard error of that."""
    pairs = zip(found[OWN], found[other], strict=True)
    return _mean_and_error([own.score - of_other.score for own, of_other in pairs])


def summary(of: list[Fit]) -> tuple[float, float]:
    """Mean score, and its standard error over the splits."""
    return _mean_and_error([each.score for each in of])


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _score(of: list[Fit]) -> str:
    mean, error = summary(of)
    return f"{mean:.3f}±{error:.3f}"


# ---- the picture -------------------------------------------------------------------------------------------------

STYLES = {OWN: ("#0072b2", "o"), RAW: ("0.6", "x"), SCALED: ("#009e73", "s"), SEARCHED: ("#d55e00", "D")}


def plot(results: Results) -> None:
    """A panel for each data set, a mark for each contender, its splits as dots beside it."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, row = plt.subplots(1, len(results), figsize=(1.65 * len(results), 3.6), layout="constrained", squeeze=False)
    marks: dict[str, Any] = {}
    for axes, (name, found) in zip(row[0], results.items(), strict=True):
        lowest = min(min(each.score for each in found[which]) for which in (OWN, SCALED, SEARCHED))
        highest = max(max(each.score for each in of) for of in found.values())
        room = 0.12 * (highest - lowest)
        axes.set(ylim=(lowest - 2 * room, highest + room), xlim=(-0.6, len(CONTENDERS) - 0.4), title=name, xticks=[])
        axes.title.set_fontsize("medium")
        axes.grid(axis="y", alpha=0.3)
        for x, which in enumerate(CONTENDERS):
            colour, marker = STYLES[which]
            mean, error = summary(found[which])
            scores = [each.score for each in found[which]]
            if mean < lowest - 2 * room:  # said, not drawn
                axes.annotate(
                    f"{mean:.2f}", (x, lowest - 2 * room), xytext=(0, 14), textcoords="offset points", ha="center",
                    fontsize="small", color=colour, arrowprops={"arrowstyle": "->", "color": colour},
                )  # fmt: skip
                continue
            axes.plot([x + 0.25] * len(scores), scores, ".", color=colour, markersize=3, alpha=0.6)
            marks[which] = axes.errorbar(x, mean, error, color=colour, marker=marker, capsize=3, markersize=6)
    row[0, 0].set_ylabel("accuracy; of the last two R²")
    seeds = len(next(iter(results.values()))[OWN])
    figure.legend(
        [marks[each] for each in CONTENDERS if each in marks], [each for each in CONTENDERS if each in marks],
        loc="outside lower center", ncols=len(CONTENDERS), frameon=False, title_fontsize="medium",
        title=f"mark: mean of {seeds} splits and its standard error; dots: the splits; arrows: below the panel",
    )  # fmt: skip
    figure.savefig(ROOT / "bench" / "plots" / "estimators.png", dpi=150)
    plt.close(figure)


def main() -> None:
    """Measure, and put what came out where it is read."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="splits of each data set")
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS), help="these data sets, printed alone")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    for data in (SETS["wine"], SETS["diabetes"]):  # compile, and start the processes of the search
        fits(data, 0)
    results: Results = {}
    for name in arguments.only:
        of_seeds = [fits(SETS[name], seed) for seed in range(arguments.seeds)]
        results[name] = {which: [each[which] for each in of_seeds] for which in CONTENDERS}
        print(table({name: results[name]}).splitlines()[-1], flush=True)
    made = f"{table(results)}\n\n{verdict(results)}\n\nOn {machine('numba', 'numpy', 'scikit-learn')}, {today()}."
    print(made)
    if arguments.only == list(SETS):
        plot(results)
        rewrite(PAGE, "bench.estimators", f"{made}\n\n{PICTURE}")


if __name__ == "__main__":
    main()
