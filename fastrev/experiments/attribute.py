"""Which training digits decide a prediction (after MAGIC, Ilyas and Engstrom 2025, arXiv 2504.16430).

The effect of every training example on the loss of every query, from one training and its reversal, is held against
trainings without random subsets, and beside what influence functions and the similarity of gradients predict from the
trained network.  Then the examples that help one prediction the most are left out, one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import fastrev
from fastrev._pictures import attributions
from fastrev.errors import ArgumentError
from fastrev.experiments._shared import datasets, pictures
from fastrev.experiments._shared.choosing import joined
from fastrev.experiments._shared.influence import DAMPINGS, Influence, cosines, gradients, hessian
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.settings import Count, Positive, at_most, setting
from fastrev.experiments._shared.settings import Settings as Common

SHARES = (0.01, 0.05, 0.2)  # of the training examples, left out
DRAWN = 1  # which of them
ROWS = OWN, INFLUENCE, PRODUCTS, COSINES = "attribution", "influence functions", "gradient products", "gradient cosines"
COLORS = {OWN: "C0", INFLUENCE: "C1", PRODUCTS: "C2", COSINES: "C4", "at random": "0.5"}
TOP = 9  # images of each kind

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    examples: Count = setting(1000, "training examples, N")
    queries: Count = setting(100, "test digits whose losses are asked about, Q")
    hidden: Count = setting(32, "hidden units", with_data=8)
    steps: Count = setting(400, "training steps, T")
    batch_size: Count = setting(50, "examples a step")
    lr: Positive = setting(0.2, "learning rate", with_data=0.05)
    subsets: Count = setting(50, "trainings without a random share of the examples, of each share; 3 at least")
    most: Count = setting(40, "examples that are left out one after the other")


def run(settings: Settings, keep: Kept) -> bool:
    """Attribute, retrain, report and keep the results."""
    data, count = datasets.load(settings.data, settings.seed), settings.queries
    at_most("examples", settings.examples, len(data.train[1]), "as many as there are to train on")
    at_most("queries", count, min(len(data.test[1]), len(data.valid[1])), "as many as there are to ask about")
    at_most("batch-size", settings.batch_size, settings.examples, "the number of training examples")
    if settings.subsets < 3:
        raise ArgumentError(f"Argument '--subsets' must be at least 3, not {settings.subsets}.")
    at_most("most", settings.most, settings.examples - 1, "as many as there are to train on but one")
    model = fastrev.MLP((data.inputs, settings.hidden, data.classes))
    x, y = data.train[0][: settings.examples], data.train[1][: settings.examples]
    training: dict[str, Any] = {
        "train": (x, y), "lr": settings.lr, "decay": 0.9, "steps": settings.steps, "batch_size": settings.batch_size,
        "seed": settings.seed,
    }  # fmt: skip
    # beside the test digits as many others, by which the damping of influence functions is chosen
    test, valid = ((each[0][:count], each[1][:count]) for each in (data.test, data.valid))
    asked = joined(test, valid)
    found = fastrev.attribute(model, model.init(settings.seed), queries=asked, **training)

    of_train, of_asked = gradients(model, found.w, (x, y)), gradients(model, found.w, asked)
    influence = Influence(hessian(model, found.w, (x, y)), of_train)
    similar = {PRODUCTS: of_asked @ of_train.T, COSINES: cosines(of_asked, of_train)}
    checks, effects, scores = [], [], []
    print(f"left out{''.join(f'{name:>22}' for name in ROWS)}    (score, mean of {count} queries +- deviation)")
    for share in SHARES:
        check = found.check(share, settings.subsets, workers=settings.workers, seed=settings.seed)
        damped = [influence.effects(of_asked, damping) for damping in DAMPINGS]
        best = max(damped, key=lambda each: np.nansum(check.score_of(each)[count:]))
        effects.append({OWN: found.effects, INFLUENCE: best, **similar})
        scores.append([check.score_of(effects[-1][name])[:count] for name in ROWS])
        print(f"{_percent(share):<8}{''.join(f'{_spread(each):>22}' for each in scores[-1])}", flush=True)
        checks.append(check)
        keep(rows=ROWS, shares=SHARES[: len(scores)], scores=scores)

    right = test[1] == model.predict(found.w, test[0])
    # of the right predictions the least certain; of none the least wrong
    q = int(np.argmax(np.where(right, found.losses[:count], -1)) if right.any() else found.losses[:count].argmin())
    check, of_query = checks[DRAWN], {name: effects[DRAWN][name][q] for name in (OWN, INFLUENCE)}
    keep(
        predicted=[[each[subset].sum() for subset in check.subsets] for each in of_query.values()], real=check.real[q],
        left_out=SHARES[DRAWN], number=q, query=test[0][q].reshape(data.shape), label=test[1][q],
        read_as=model.predict(found.w, test[0][q : q + 1])[0], probability=np.exp(-found.losses[q]),
    )  # fmt: skip
    top = found.top(q, TOP)
    for name, rows, values in (
        ("helpful", top.helpful, top.helpful_effects),
        ("harmful", top.harmful, top.harmful_effects),
    ):
        images = x[rows].reshape(-1, *data.shape)
        keep(**{f"{name}_images": images, f"{name}_labels": y[rows], f"{name}_rows": rows, f"{name}_effects": values})
    orders = {name: np.argsort(-each, kind="stable") for name, each in of_query.items()}
    orders["at random"] = np.random.default_rng(settings.seed).permutation(settings.examples)
    query = test[0][q : q + 1], test[1][q : q + 1]
    ways = [leave_out(model, training, query, order[: settings.most], settings.seed) for order in orders.values()]
    expected = np.append(0, np.cumsum(of_query[OWN][orders[OWN][: settings.most]])) + found.losses[q]
    keep(orders=[*orders], losses=[losses for losses, _ in ways], expected=expected)
    _report(dict(zip(orders, ways, strict=True)), query[1][0], q, settings)
    return True


def leave_out(
    model: fastrev.MLP, training: Mapping[str, Any], query: datasets.Examples, rows: npt.NDArray[np.int64], seed: int
) -> tuple[Array, npt.NDArray[np.int64]]:
    """The query's loss, and what it is read as, without the first none, one, two, ... of these rows."""
    weights, losses, classes = np.ones(len(training["train"][1])), [], []
    for k in range(len(rows) + 1):
        weights[rows[:k]] = 0
        w = fastrev.train(model, model.init(seed), example_weights=weights, **training).w
        losses.append(model.loss_value(w, *query))
        classes.append(model.predict(w, query[0])[0])
    return np.array(losses), np.array(classes, np.int64)


def _report(
    ways: Mapping[str, tuple[Array, npt.NDArray[np.int64]]], label: int, number: int, settings: Settings
) -> None:
    losses, classes = ways[OWN]
    read, probability = classes[0], f"{np.exp(-losses[0]):.2f}"
    if read == label:
        head = f"Test digit {number} is read as a {label} with probability {probability}."
    else:
        so = f"a {label} with probability {probability}, is read as a {read}"
        head = f"No test digit is read right. Number {number}, {so}."
    print(f"{head} Left out of its {settings.examples} examples, those that help it most first:")
    for name, (losses, classes) in ways.items():
        other = np.flatnonzero(classes != read)
        end = f"with {other[0]} left out it is read as a {classes[other[0]]}" if other.size else "it is read as it was"
        print(f"  {name:<22}{end}; with {settings.most} the probability is {np.exp(-losses[-1]):.2f}")


def _spread(scores: Array) -> str:
    return f"{np.nanmean(scores):.3f} +- {np.nanstd(scores):.3f}"


def draw(saved: pictures.Saved) -> Any:
    """Who decided the prediction; what was predicted and real; and what becomes of it without them."""
    figure = pictures.figure(14, 8)
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    title = (
        f"test digit {saved['number']}: {saved['label']}, read as {saved['read_as']}\n"
        f"probability of {saved['label']}: {saved['probability']:.2f}"
    )
    helpful, harmful = (
        attributions.Row(
            saved[f"{name}_images"],
            saved[f"{name}_effects"],
            [f"row {row}: {label}" for row, label in zip(saved[f"{name}_rows"], saved[f"{name}_labels"], strict=True)],
        )
        for name in ("helpful", "harmful")
    )
    attributions.helpful_and_harmful(above, saved["query"], title, helpful, harmful)
    own, influence, every, without = below.subplots(1, 4)
    for axis, name, predicted in zip((own, influence), ROWS, saved["predicted"], strict=False):
        attributions.predicted_and_real(axis, predicted, saved["real"], COLORS[name])
        axis.set_title(f"{name}: its loss without\na random {_percent(float(saved['left_out']))}", fontsize="medium")
    _scores(every, saved)
    if "losses" in saved:  # not if it was interrupted
        _one_by_one(without, saved)
    else:
        without.set_axis_off()
    known: dict[str, Any] = {}  # of all panels: colours mean the same in each
    for axis in (every, without, own):
        known |= {label: line for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    below.legend(known.values(), known, loc="outside lower center", ncols=len(known), fontsize="small", frameon=False)
    return figure


def _scores(axis: Any, saved: pictures.Saved) -> None:
    """The scores of all queries, a box for each way to predict and share."""
    rows, shares = saved["rows"], saved["shares"]
    for i, name in enumerate(rows.tolist()):
        at = np.arange(len(shares)) + (i - 1.5) * 0.2
        boxes = axis.boxplot(
            saved["scores"][:, i].T, positions=at, widths=0.16, whis=(0, 100), patch_artist=True, manage_ticks=False,
            medianprops={"color": "k"},
        )  # fmt: skip
        for box in boxes["boxes"]:
            box.set(facecolor=COLORS[name])
        axis.plot([], [], "s", color=COLORS[name], label=name)
    axis.set_xticks(range(len(shares)), [_percent(share) for share in shares])
    subsets, queries = len(saved["real"]), saved["scores"].shape[2]
    axis.set(xlabel=f"left out, {subsets} subsets each", ylabel=f"scores of {queries} queries: quartiles, range")
    axis.set_title("rank correlation of\npredicted and real changes", fontsize="medium")
    axis.grid(alpha=0.3, axis="y")


def _one_by_one(axis: Any, saved: pictures.Saved) -> None:
    """The query's loss without more and more examples."""
    for name, losses in zip(saved["orders"].tolist(), saved["losses"], strict=True):
        axis.plot(losses, color=COLORS[name], label=name)
    axis.plot(saved["expected"], color=COLORS[OWN], linestyle=":", label="predicted by attribution")
    axis.set(xlabel="examples left out, the most helpful first", ylabel="loss of the query")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_title("its loss without\nthe most helpful examples", fontsize="medium")
    axis.grid(alpha=0.3)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
