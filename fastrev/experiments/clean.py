"""Clean a training set whose labels are partly wrong (hyper-cleaning, Franceschi et al. 2017, arXiv 1703.01785).

A weight for every example is learned by what it does to the loss on clean validation examples.  Examples of less than
half, a third or a quarter of the mean weight are dropped, and a network is trained on the others together with the
validation examples.  That fraction, and for every way to train its number of steps and its penalty, are chosen by
validation on two halves of the clean examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import fastrev
from fastrev.experiments._shared import choosing, datasets, judging, pictures
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.settings import Count, Positive, setting
from fastrev.experiments._shared.settings import Settings as Common

NOISE = (0.3, 0.5)  # shares of wrong labels
ROWS = ("plain", "plain + valid", "valid alone", "cleaned", "oracle")
FRACTIONS = (2, 3, 4)  # of the mean weight, below one of which examples are dropped
SCORES = ("AUC", "precision", "recall", "F1")  # of low weights as signs of wrong labels


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    needs: ClassVar[tuple[str, ...]] = ("sklearn.metrics",)

    trials: Count = setting(3, "splits of the data, each with other wrong labels", with_data=1)
    meta_steps: Count = setting(40, "updates of the weights")
    meta_lr: Positive = setting(0.15, "Adam's rate on log weights")
    runs: Count = setting(8, "trainings a meta-step, whose gradients are averaged", with_data=4)


def run(settings: Settings, keep: Kept) -> bool:
    """Learn, report and keep the results.  Returns False after Ctrl-C."""
    accuracies, scores, cases = [], [], []
    print(f"wrong  split  {''.join(f'{name:>15}' for name in ROWS)}     AUC  precision  recall     F1")
    for share, trial in ((share, trial) for share in NOISE for trial in range(settings.trials)):
        data, rng = datasets.load(settings.data, settings.seed + trial), np.random.default_rng([settings.seed, trial])
        model = fastrev.MLP((data.inputs, 32, data.classes))
        x, y = data.train
        given, wrong = datasets.mislabelled(y, share, data.classes, rng)
        result = fastrev.tune(
            model, train=(x, given), valid=data.valid, steps=60, batch_size=min(max(100, len(y) // 28), len(y)), lr=0.5,
            decay=0.9, l2=1e-2, example_weights=np.ones(len(y)), learn=("example_weights",),
            transforms={"example_weights": "log"}, meta_steps=settings.meta_steps, meta_lr=settings.meta_lr,
            runs=settings.runs, workers=settings.workers, seed=settings.seed + trial,
        )  # fmt: skip
        weights = result.example_weights
        lowest = np.argsort(weights)[:40]
        keep(weights=weights, wrong=wrong, lowest=lowest, given=given[lowest])
        keep(images=x[lowest].reshape(-1, *data.shape))
        cuts = [weights.mean() / fraction for fraction in FRACTIONS]
        chances = [choosing.choose(model, data, (x[weights >= cut], given[weights >= cut]), True)[0] for cut in cuts]
        cut = cuts[int(np.argmax(chances))]
        every, none = np.ones(len(y), bool), np.zeros(len(y), bool)
        plans = [  # labels, whether the validation examples are added, and which of the others are trained on
            (given, False, every), (given, True, every), (given, True, none),
            (given, True, weights >= cut), (y, True, ~wrong),
        ]  # fmt: skip
        found = []
        for labels, with_valid, kept in plans:
            train = model, data, (x[kept], labels[kept]), with_valid
            found.append(choosing.accuracy(*train, choosing.choose(*train)[1], judging.seeds(settings.seed, trial)))
        accuracies.append(found)
        scores.append(judging.detection(wrong, weights, weights < cut))
        cases.append((share, trial))
        print(f"{share:<7.0%}{trial:<7}{''.join(f'{each:15.1%}' for each in accuracies[-1])}"
              f"{'{:8.3f}{:11.3f}{:8.3f}{:7.3f}'.format(*scores[-1])}", flush=True)  # fmt: skip
        keep(rows=ROWS, accuracies=accuracies, cases=cases, scores=scores, score_names=SCORES, cut=cut)
        if not result.success:
            return False
    for share in NOISE:
        mean = np.mean([each for each, case in zip(accuracies, cases, strict=True) if case[0] == share], axis=0)
        print(f"{share:<7.0%}mean   {''.join(f'{each:15.1%}' for each in mean)}")
    return True


def draw(saved: pictures.Saved) -> Any:
    """Accuracies of every split, what the weights of right and wrong labels are, and whom the lowest belong to."""
    figure = pictures.figure(12, 6.8)
    above, below = figure.subfigures(2, 1, height_ratios=(1.6, 1))
    shares, (share, trial) = saved["cases"][:, 0], saved["cases"][-1]
    panels = above.subplots(1, len(NOISE) + 1)
    for axis, each in zip(panels, np.unique(shares), strict=False):
        pictures.dots(axis, saved["rows"].tolist(), saved["accuracies"][shares == each], "test accuracy")
        axis.set_title(f"{each:.0%} of the labels wrong")
    weights, wrong = saved["weights"], saved["wrong"]
    bins, histogram = np.geomspace(weights.min(), weights.max() + 1e-9, 40), panels[-1]
    histogram.hist([weights[~wrong], weights[wrong]], bins, stacked=True, label=["right", "wrong"], color=["C0", "C3"])
    histogram.axvline(float(saved["cut"]), color="k", linestyle="--", label="dropped below")
    histogram.set(xscale="log", xlabel="learned weight", ylabel="examples")
    histogram.set_title(f"{share:.0%} wrong, split {trial:.0f}: weights, by label")
    histogram.legend(loc="upper center")
    axis, count = below.subplots(), wrong[saved["lowest"]].sum()
    pictures.mosaic(axis, saved["images"], [f"given {label}" for label in saved["given"]], columns=20)
    axis.set_title(
        f"The {len(saved['lowest'])} of least weight of these, and the labels they came with ({count} are wrong)"
    )
    return figure
