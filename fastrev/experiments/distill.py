"""Learn a training set of one image a class (Maclaurin et al. 2015, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastrev._engine.types import FloatArray
from fastrev.experiments import output, plots
from fastrev.experiments.adam import Adam
from fastrev.experiments.datasets import Dataset, Examples
from fastrev.meta_gradient import meta_grad
from fastrev.mlp import MLP
from fastrev.training import train

_DECAY = 0.9
_JUDGED_SEEDS = 5  # networks that the images are judged by, of initial weights that they are never learned with


@dataclass(frozen=True)
class Settings:
    """What the command line sets."""

    steps: int  # T
    meta_steps: int
    lr: float
    meta_lr: float
    seed: int


def run(settings: Settings, data: Dataset, folder: Path) -> None:
    """Learn, report, and leave ``distill.png`` and ``distill.npz`` in the folder."""
    model = MLP((data.inputs, data.classes))
    images, labels = np.zeros((data.classes, data.inputs)), np.arange(data.classes)
    _report("before", model, (images, labels), data, settings)
    meta_curve = _learn(model, images, labels, data, settings)
    _report("after", model, (images, labels), data, settings)

    pictures = images.reshape(-1, *data.shape)
    arrays = {"images": pictures, "labels": labels, "meta_curve": meta_curve}
    output.save(folder, "distill", arrays, lambda: plots.distilled(pictures, meta_curve))


def _learn(
    model: MLP, images: FloatArray, labels: npt.NDArray[np.int64], data: Dataset, settings: Settings
) -> FloatArray:
    """Change the images by meta-gradients.  Returns the loss on the real training images of every meta-step."""
    rng = np.random.default_rng(settings.seed)
    by_pixel = Adam(images, settings.meta_lr)
    curve = np.empty(settings.meta_steps)
    from tqdm import tqdm  # here, so that an import of fastrev stays light

    with tqdm(total=settings.meta_steps, desc="learning", unit="meta-step") as bar:
        for i in range(settings.meta_steps):
            # other initial weights every time, so that the images teach any network
            w0 = model.init(int(rng.integers(2**31)))
            result = meta_grad(
                model, w0, train=(images, labels), valid=data.train, lr=settings.lr, decay=_DECAY,
                steps=settings.steps, wrt=("x",),
            )  # fmt: skip
            assert result.grad.x is not None
            by_pixel.step(result.grad.x)
            curve[i] = result.loss
            bar.set_postfix_str(f"loss {result.loss:.3f}", refresh=False)
            bar.update()
    return curve


def _report(when: str, model: MLP, examples: Examples, data: Dataset, settings: Settings) -> None:
    """Judge networks trained on the images alone by real ones that were never learned from."""
    losses, accuracies = [], []
    for child in np.random.SeedSequence(settings.seed, spawn_key=(1,)).generate_state(_JUDGED_SEEDS):
        w = train(model, model.init(int(child)), train=examples, lr=settings.lr, decay=_DECAY, steps=settings.steps).w
        losses.append(model.loss_value(w, *data.valid))
        accuracies.append(model.accuracy(w, *data.test))
    print(
        f"{when:>6} learning: validation loss {np.mean(losses):.4f}, test accuracy {np.mean(accuracies):.1%}",
        flush=True,
    )
