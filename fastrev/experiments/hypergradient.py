"""Average the first meta-gradient over seeds (Maclaurin et al. 2015, section 3.1, Figure 4).

Before anything is learned: how does the final training loss change with the logarithm of the learning rate of each step
and layer?  One training says so for its own initial weights and batches; their mean is what a schedule is learned by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import fastrev
from fastrev.experiments._shared import datasets, pictures
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.settings import LARGEST_SCALE, Count, Positive, Share, Sizes, at_most, setting
from fastrev.experiments._shared.settings import Settings as Common


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    hidden: Sizes = setting((32, 32, 32), "sizes of the hidden layers", with_data=(50, 50, 50))
    steps: Count = setting(100, "training steps, T")
    batch_size: Count = setting(50, "examples in a training step", with_data=200)
    lr: Positive = setting(0.37, "learning rate of every step and group")
    decay: Share = setting(0.5, "momentum decay of every step and group")
    scale: Positive = setting(0.05, "standard deviation of the initial weights and biases")
    trainings: Count = setting(100, "trainings, each of other initial weights and batches")


def run(settings: Settings, keep: Kept) -> bool:
    """Differentiate, report and keep the results."""
    at_most("scale", settings.scale, LARGEST_SCALE, "as weights must be below 2048")
    data = datasets.load(settings.data, settings.seed)
    model = fastrev.MLP((data.inputs, *settings.hidden, data.classes), activation="tanh")
    lr = np.full((settings.steps, len(model.groups)), settings.lr)
    seeds = np.random.SeedSequence(settings.seed).generate_state(settings.trainings).tolist()
    losses, gradients = [], []
    try:
        for seed in seeds:
            result = fastrev.meta_grad(
                model, model.init(seed, scale=settings.scale), train=data.train, valid=data.train, lr=lr,
                decay=settings.decay, steps=settings.steps, batch_size=settings.batch_size, seed=seed, wrt=("lr",),
            )  # fmt: skip
            losses.append(result.loss)
            gradients.append(lr * result.grad.lr)  # by log lr
    finally:  # after Ctrl-C as well
        if losses:
            keep(groups=list(model.groups), losses=losses, gradients=gradients)
    print(f"training loss {np.mean(losses):.4f} +- {np.std(losses):.4f}, of {len(losses)} trainings")
    print("by log lr of   mean over steps   steepest, at step   signal to noise of one training")
    for i, name in enumerate(model.groups):
        of_group = np.array(gradients)[:, :, i]
        mean, noise = of_group.mean(axis=0), of_group.std(axis=0).mean()
        steepest = int(np.abs(mean).argmax())
        print(f"{name:<15}{mean.mean():<18.5f}{mean[steepest]:.5f}, {steepest:<11}{np.abs(mean).mean() / noise:.2f}")
    return True


def draw(saved: pictures.Saved) -> Any:
    """Means over the trainings for the weights of every layer, and how single trainings lie about one of them."""
    figure = pictures.figure(12, 4)
    means, single = figure.subplots(1, 2)
    gradients, groups = saved["gradients"], saved["groups"].tolist()
    weights = [name for name in groups if name.startswith("W")]
    error = gradients.std(axis=0) / np.sqrt(len(gradients))
    for i, name in enumerate(weights):
        column, steps = groups.index(name), np.arange(gradients.shape[1])
        mean = gradients[:, :, column].mean(axis=0)
        means.plot(mean, color=f"C{i}", label=name)
        means.fill_between(
            steps, mean - error[:, column], mean + error[:, column], color=f"C{i}", alpha=0.2, linewidth=0
        )
    last = groups.index(weights[-1])
    for i, each in enumerate(gradients[:10, :, last]):
        single.plot(each, color="0.7", linewidth=0.8, label="single trainings" if i == 0 else None)
    single.plot(gradients[:, :, last].mean(axis=0), color=f"C{len(weights) - 1}", label=f"{weights[-1]}, mean")
    before = gradients[:, :-1, [groups.index(name) for name in weights]].mean(axis=0)
    if before.size:
        room = 0.2 * np.ptp([0, *before.ravel()])
        means.set_ylim(min(before.min(), 0) - room, max(before.max(), 0) + room)
    means.set_title(f"Mean of {len(gradients)} trainings, and its standard error\n(the last step may leave the scale)")
    single.set_title(f"{weights[-1]}: ten single trainings, and the mean")
    for axis in (means, single):
        axis.axhline(0, color="k", linewidth=0.8)
        axis.set(xlabel="training step", ylabel="derivative of the training loss by log lr")
        axis.grid(alpha=0.3)
        axis.legend()
    return figure
