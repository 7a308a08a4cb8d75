"""Descend a curved valley with learned rates and momentum (Maclaurin et al. 2015, Figure 1).

The valley is an `fastrev.Objective` of two weights, and the outer loop is written out: each meta-iteration trains,
takes the exact gradient of the final loss by the learning rate and the momentum decay of every step, and moves them.
There are no random numbers and no data here: --seed, --data and --workers change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import fastrev
from fastrev._engine.arguments import fault
from fastrev.experiments._shared import pictures
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.settings import Count, Positive, Share, setting
from fastrev.experiments._shared.settings import Settings as Common

Vector = npt.NDArray[np.float64]
W0 = np.array([1.4, 3.9])


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    steps: Count = setting(50, "training steps, T")
    lr: Positive = setting(float(np.exp(-4.5)), "learning rate of every step to begin with")
    decay: Share = setting(0.99, "momentum decay of every step to begin with")
    meta_steps: Count = setting(3, "meta-iterations, each a training with other rates and decays")
    meta_lr: Positive = setting(0.01, "rate of the descent, with momentum 0.9, on log lr and logit decay")


class Valley:
    """The loss 800 sigmoid(R / 500) of weights (y, x), R = 100 (x - y**2)**2 + (1 - y)**2 + 200 y."""

    num_params = 2

    def loss(self, w: Vector) -> Any:
        """Of weights (2,), or of a grid (2, ...) of them."""
        return 800 * self._squashed(w)

    def grad(self, w: Vector, t: int = 0) -> Any:
        """(2,)."""
        s = self._squashed(w)
        return 800 / 500 * s * (1 - s) * self._slope(w)

    def hvp(self, w: Vector, u: Vector, t: int = 0) -> Any:
        """(2,): of f(R(w)), f' H u + f'' dR (dR . u)."""
        (y, x), s, slope = w, self._squashed(w), self._slope(w)
        curvature = np.array([[1200 * y**2 - 400 * x + 2, -400 * y], [-400 * y, 200.0]])
        return 800 / 500 * s * (1 - s) * (curvature @ u + (1 - 2 * s) / 500 * slope * (slope @ u))

    def _squashed(self, w: Vector) -> Any:
        y, x = w
        return 1 / (1 + np.exp(-(100 * (x - y**2) ** 2 + (1 - y) ** 2 + 200 * y) / 500))

    def _slope(self, w: Vector) -> Vector:
        y, x = w
        return np.array([-400 * y * (x - y**2) - 2 * (1 - y) + 200, 200 * (x - y**2)])


class Path:
    """Weights on the way, from the start on."""

    def __init__(self) -> None:
        self.points = [W0]

    def follow(self, step: int, w: Vector) -> None:
        """Add those after a step."""
        self.points.append(w.copy())


def run(settings: Settings, keep: Kept) -> bool:
    """Learn, report and keep the results."""
    valley, every_step = Valley(), np.ones(settings.steps)
    log_lr, logit_decay = np.log(settings.lr) * every_step, np.log(settings.decay / (1 - settings.decay)) * every_step
    found: dict[str, list[Vector]] = {"paths": [], "losses": [], "lr": [], "decay": []}
    speed = np.zeros((2, settings.steps))
    print("meta-iteration   loss after training")
    for meta_step in range(settings.meta_steps):
        with np.errstate(over="ignore"):  # a rate that is infinite is refused below
            lr, decay, path = np.exp(log_lr), 1 / (1 + np.exp(-logit_decay)), Path()
        try:
            run = fastrev.train(valley, W0, lr=lr, decay=decay, callback=path.follow)
        except (fastrev.ArgumentError, fastrev.DivergenceError) as error:
            if meta_step == 0:
                raise
            raise _left_the_valley(settings, meta_step, lr, decay) from error
        print(f"{meta_step + 1:<17}{valley.loss(run.w):.6f}")
        points = np.array(path.points)
        for name, value in zip(found, (points, valley.loss(points.T), lr, decay), strict=True):
            found[name].append(value)
        keep(**found)
        by = run.pullback(valley.grad(run.w), wrt=("lr", "decay"))
        speed = 0.9 * speed - 0.1 * np.array([lr * by.lr, decay * (1 - decay) * by.decay])
        log_lr, logit_decay = log_lr + settings.meta_lr * speed[0], logit_decay + settings.meta_lr * speed[1]
    return True


def _left_the_valley(settings: Settings, meta_step: int, lr: Vector, decay: Vector) -> fastrev.ArgumentError:
    """The error for rates and decays that were learned, with which no run can be made."""
    return fault(
        "--meta-lr", "be low enough for rates and decays to be learned with which a run can be made",
        f"{settings.meta_lr:g}: meta-iteration {meta_step} came to lr from {lr.min():.3g} to {lr.max():.3g} and decays "
        f"from {decay.min():.3g} to {decay.max():.3g}", "Pass a lower one.",
    )  # fmt: skip


def draw(saved: pictures.Saved) -> Any:
    """The paths down the valley, their losses, and the rates and decays that they went with."""
    figure = pictures.figure(12, 7.5)
    above, below = figure.subfigures(1, 2, width_ratios=(1.2, 1), wspace=0.06)
    axis = above.add_subplot(projection="3d", proj_type="ortho", elev=46, azim=120)
    grid = np.meshgrid(np.linspace(-1, 2.4, 35), np.linspace(0, 4.5, 46))
    axis.plot_wireframe(*grid, Valley().loss(np.array(grid)), color="0.7", linewidth=0.5)
    panels = below.subplots(3, 1, sharex=True)
    for i, (path, losses) in enumerate(zip(saved["paths"], saved["losses"], strict=True)):
        color, label = f"C{i}", f"meta-iteration {i + 1}: final loss {losses[-1]:.1f}"
        axis.plot(*path.T, losses + 5, color=color, linewidth=1.8)
        axis.plot(*path[-1:].T, losses[-1:] + 5, "o", color=color)
        panels[0].plot(losses, color=color, label=label)
        panels[1].plot(saved["lr"][i], color=color)
        panels[2].plot(saved["decay"][i], color=color)
    axis.plot(*W0, Valley().loss(W0) + 5, "k*", markersize=12)
    axis.set(xlabel="weight 1", ylabel="weight 2", zlabel="training loss", title="From the star on", ylim=(4.5, 0))
    for panel, name in zip(panels, ("training loss", "learning rate", "momentum decay"), strict=True):
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
    panel.set_xlabel("training step")
    below.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center")
    return figure
