"""Clean a training set whose labels are partly wrong (hyper-cleaning, Franceschi et al. 2017, arXiv 1703.01785).

A weight for every example is learned by what it does to the loss on clean validation examples.  Examples of less than
half the mean weight are dropped, and a network is trained on the others together with the validation examples.  Every
way to train chooses its number of steps and its penalty by validation on two halves of the clean examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import fastrev
from fastrev.experiments._shared import datasets, pictures
from fastrev.experiments._shared.datasets import Examples
from fastrev.experiments._shared.judging import detection
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.settings import Count, Positive, setting
from fastrev.experiments._shared.settings import Settings as Common

RATES = (0.3, 0.5)  # of labels that are wrong
ROWS = ("plain", "plain + valid", "valid alone", "cleaned", "oracle")
CHOICES = [(steps, l2) for steps in (100, 400) for l2 in (1e-4, 1e-3, 1e-2)]
JUDGES = 10  # trainings whose test accuracies are averaged


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    trials: Count = setting(3, "splits of the data, each with other wrong labels", files=1)
    meta_steps: Count = setting(40, "updates of the weights")
    meta_lr: Positive = setting(0.15, "Adam's rate on log weights")
    runs: Count = setting(8, "trainings a meta-step, whose gradients are averaged", files=4)


def run(settings: Settings, keep: Kept) -> bool:
    """Learn, report and keep the results.  Returns False after Ctrl-C."""
    accuracies, scores, cases = [], [], []
    print(f"wrong  split  {''.join(f'{name:>15}' for name in ROWS)}     AUC  precision  recall     F1")
    for rate, trial in ((rate, trial) for rate in RATES for trial in range(settings.trials)):
        data = datasets.load(settings.data, settings.seed + trial)
        model, (x, y), rng = (
            fastrev.MLP((data.inputs, 32, data.classes)),
            data.train,
            np.random.default_rng([settings.seed, trial]),
        )
        given, wrong = datasets.mislabelled(y, rate, data.classes, rng)
        result = fastrev.tune(
            model, train=(x, given), valid=data.valid, steps=60, batch_size=max(100, len(y) // 28), lr=0.5, decay=0.9,
            l2=1e-2, example_weights=np.ones(len(y)), learn=("example_weights",), seed=settings.seed + trial,
            transforms={"example_weights": "log"}, meta_steps=settings.meta_steps, meta_lr=settings.meta_lr,
            runs=settings.runs, workers=settings.workers,
        )  # fmt: skip
        weights = result.example_weights
        dropped = weights < weights.mean() / 2
        plans: list[tuple[Examples, bool]] = [  # examples, and whether the validation examples are added to them
            ((x, given), False), ((x, given), True), ((x[:0], y[:0]), True), ((x[~dropped], given[~dropped]), True),
            ((x[~wrong], y[~wrong]), True),
        ]  # fmt: skip
        accuracies.append([accuracy(model, data, *plan) for plan in plans])
        scores.append(detection(wrong, weights, dropped))
        cases.append((rate, trial))
        print(f"{rate:<7.0%}{trial:<7}{''.join(f'{each:15.1%}' for each in accuracies[-1])}"
              f"{'{:8.3f}{:11.3f}{:8.3f}{:7.3f}'.format(*scores[-1])}", flush=True)  # fmt: skip
        keep(rows=ROWS, accuracies=accuracies, scores=scores, cases=cases, weights=weights, wrong=wrong, given=given)
        keep(images=x.reshape(-1, *data.shape), meta_losses=result.history.loss)
        if not result.success:
            return False
    for rate in RATES:
        mean = np.mean([each for each, case in zip(accuracies, cases, strict=True) if case[0] == rate], axis=0)
        print(f"{rate:<7.0%}mean   {''.join(f'{each:15.1%}' for each in mean)}")
    return True


def accuracy(model: fastrev.MLP, data: datasets.Dataset, examples: Examples, with_valid: bool) -> float:
    """Mean test accuracy after training on the examples, by steps and l2 that validation chooses."""

    def score(examples: Examples, judged: Examples, choice: tuple[int, float], seed: int) -> float:
        steps, l2 = choice
        lr = 1 - np.arange(steps) / steps
        w0, size = model.init(seed), min(100, len(examples[1]))
        run = fastrev.train(model, w0, train=examples, lr=lr, decay=0.9, l2=l2, batch_size=size, seed=seed)
        return model.accuracy(run.w, *judged)

    def joined(valid: Examples) -> Examples:
        if not with_valid:
            return examples
        return np.concatenate([examples[0], valid[0]]), np.concatenate([examples[1], valid[1]])

    halves = [(data.valid[0][i::2], data.valid[1][i::2]) for i in (0, 1)]
    folds = [(joined(halves[1 - i]), halves[i], seed) for i in (0, 1) for seed in (0, 1)]
    chosen = max(CHOICES, key=lambda choice: sum(score(*fold[:2], choice, fold[2]) for fold in folds))
    return float(np.mean([score(joined(data.valid), data.test, chosen, 100 + seed) for seed in range(JUDGES)]))


def draw(saved: pictures.Saved) -> Any:
    """Accuracies of every split, what the weights of right and wrong labels are, and whom the lowest belong to."""
    figure = pictures.figure(12, 6.8)
    above, below = figure.subfigures(2, 1, height_ratios=(1.6, 1))
    rates = saved["cases"][:, 0]
    panels = above.subplots(1, len(RATES) + 1)
    for axis, rate in zip(panels, np.unique(rates), strict=False):
        pictures.dots(axis, saved["rows"].tolist(), saved["accuracies"][rates == rate], "test accuracy")
        axis.set_title(f"{rate:.0%} of the labels wrong")
    weights, wrong = saved["weights"], saved["wrong"]
    bins = np.geomspace(weights.min(), weights.max(), 40)
    panels[-1].hist([weights[~wrong], weights[wrong]], bins, stacked=True, label=["right", "wrong"], color=["C0", "C3"])
    panels[-1].axvline(weights.mean() / 2, color="k", linestyle="--", label="dropped below")
    panels[-1].set(xscale="log", xlabel="learned weight", ylabel="examples", title="Weights, by label")
    panels[-1].legend(loc="upper center")
    lowest = np.argsort(weights)[:40]
    axis, marked = below.subplots(), [f"given {label}" for label in saved["given"][lowest]]
    pictures.mosaic(axis, saved["images"][lowest], marked, columns=20)
    axis.set_title(f"The 40 examples of least weight, and the labels they came with ({wrong[lowest].sum()} are wrong)")
    return figure
