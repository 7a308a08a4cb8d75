"""Where meta-gradients end to mean anything (Maclaurin et al. 2015, section 4, Figure 10).

A network is trained at learning rates from low to high, and the final training loss differentiated by the logarithm of
each.  From some rate on training is chaotic: the gradient grows without bound and changes its sign from one rate to the
next.  `fastrev.ChaosWarning` says so at each rate by itself, and `fastrev.check_meta_grad` by measuring.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastrev
from fastrev.experiments._shared import datasets, pictures
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.settings import Count, Share, Sizes, setting
from fastrev.experiments._shared.settings import Settings as Common

LOG_LR = (0.5, 2.5)  # natural logarithms of the lowest and the highest learning rate


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    hidden: Sizes = setting((64, 32), "sizes of the hidden layers", with_data=(200, 50))
    steps: Count = setting(50, "training steps, T")
    examples: Count = setting(1000, "training examples, taken in four batches in turn")
    decay: Share = setting(0.9, "momentum decay")
    points: Count = setting(400, "learning rates, of logarithms from 0.5 to 2.5", with_data=150)


def run(settings: Settings, keep: Kept) -> bool:
    """Measure, report and keep the results."""
    data = datasets.load(settings.data, settings.seed)
    model = fastrev.MLP((data.inputs, *settings.hidden, data.classes), activation="tanh")
    if settings.examples < 4:
        raise fastrev.ArgumentError(f"Argument '--examples' must be at least 4, not {settings.examples}.")
    train = tuple(each[: settings.examples] for each in data.train)
    quarters = np.array_split(np.arange(len(train[0])), 4)
    rows = np.array([quarters[t % 4][: len(train[0]) // 4] for t in range(settings.steps)])
    w0 = model.init(settings.seed, scale=np.exp(-2.0))
    arguments: dict[str, Any] = {"train": train, "valid": train, "decay": settings.decay, "batches": rows}
    log_lr = np.linspace(*LOG_LR, settings.points)
    losses, gradients, growths, warned = np.full((4, settings.points), np.nan)
    try:
        for i, lr in enumerate(np.exp(log_lr)):
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always", fastrev.ChaosWarning)
                try:
                    result = fastrev.meta_grad(model, w0, lr=lr, wrt=("lr",), **arguments)
                except fastrev.DivergenceError:
                    continue
            losses[i], gradients[i] = result.loss, lr * result.grad.lr
            warned[i] = any(issubclass(each.category, fastrev.ChaosWarning) for each in heard)
            norms = np.asarray(result.stats.adjoint_norms)
            growths[i] = norms.max() / norms[-1]
    finally:  # after Ctrl-C as well
        turns = np.flatnonzero(np.diff(np.sign(gradients)) > 0)
        turn, onset = (log_lr[each[0]] if each.size else np.nan for each in (turns, np.flatnonzero(warned > 0)))
        keep(log_lr=log_lr, losses=losses, gradients=gradients, growths=growths, turn=turn, onset=onset)
    if np.isnan(losses).all():
        print("no training ended")
        return True
    lowest = np.nanargmin(losses)
    print(f"lowest loss {losses[lowest]:.2g} at learning rate {np.exp(log_lr[lowest]):.3g}")
    print(f"the gradient rises above 0 first at {np.exp(turn):.3g}")
    if np.isnan(onset):
        print("no fastrev.ChaosWarning at any of them")
        return True
    print(f"fastrev.ChaosWarning first at learning rate {np.exp(onset):.3g}")
    for name, end in zip(("below", "above"), LOG_LR, strict=True):
        lr = float(np.exp((end + onset) / 2))
        check = fastrev.check_meta_grad(model, w0, lr=lr, wrt=("lr",), directions=1, **arguments)
        print(f"check_meta_grad at {lr:.3g}, {name} it: growth {check.growth:.3g}. {check.verdict}")
    return True


def draw(saved: pictures.Saved) -> Any:
    """Loss, gradient, and how much the derivatives grew on their way back, by the learning rate."""
    figure = pictures.figure(9, 8)
    axes = figure.subplots(3, 1, sharex=True)
    log_lr, onset = saved["log_lr"], float(saved["onset"])
    before = ~(log_lr >= onset)  # all, where there was no warning
    for axis, name in zip(axes, ("losses", "gradients", "growths"), strict=True):
        axis.plot(log_lr, saved[name], color="C0" if name == "losses" else "k", linewidth=0.8)
        axis.axvline(onset, color="C3", linestyle="--", label="first fastrev.ChaosWarning")
        axis.axvline(float(saved["turn"]), color="C1", linestyle="-.", label="first rise of the gradient above 0")
        axis.grid(alpha=0.3)
    calm = saved["losses"][before] if before.any() else saved["losses"]
    axes[0].set(ylabel="training loss", ylim=(0, 2 * np.nanmax(calm)))
    axes[1].set_yscale("symlog", linthresh=0.1)
    axes[1].set(ylabel="gradient by log learning rate\n(cut at 1e4)", ylim=(-1e4, 1e4))
    axes[2].set(ylabel="growth of derivatives\non their way back", yscale="log", xlabel="log learning rate")
    axes[2].axhline(1e3, color="0.45", linestyle=":", label="growth of 1,000, at which it warns")
    figure.legend(*axes[2].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure
