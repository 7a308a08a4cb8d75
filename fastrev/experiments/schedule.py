"""Learn a schedule of learning rates and momentum decays (Maclaurin et al. 2015, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastrev._engine.types import FloatArray
from fastrev.experiments import output, plots
from fastrev.experiments.adam import Adam
from fastrev.experiments.datasets import Dataset
from fastrev.meta_gradient import meta_grad
from fastrev.mlp import MLP
from fastrev.training import train

_JUDGED_SEEDS = 5  # runs that a schedule is judged by, of seeds that it is never learned with
_CURVE_POINTS = 26


@dataclass(frozen=True)
class Settings:
    """What the command line sets."""

    sizes: tuple[int, ...]
    steps: int  # T
    meta_steps: int
    batch_size: int
    lr: float  # of every step and group, to begin with
    decay: float
    meta_lr: float
    seed: int


@dataclass(frozen=True)
class Schedule:
    """Learning rates and decays (T, G), each free to take any value in its range."""

    log_lr: FloatArray
    logit_decay: FloatArray

    @property
    def lr(self) -> FloatArray:
        return np.exp(self.log_lr)

    @property
    def decay(self) -> FloatArray:
        return 1 / (1 + np.exp(-self.logit_decay))


@dataclass(frozen=True)
class Judgement:
    """A schedule's means over the judged seeds."""

    loss: float  # of validation
    accuracy: float  # on the test examples
    curve: FloatArray  # validation loss after each of the `steps`
    steps: npt.NDArray[np.int64]


def run(settings: Settings, data: Dataset, folder: Path) -> None:
    """Learn, report, and leave ``schedule.png`` and ``schedule.npz`` in the folder."""
    model = MLP(settings.sizes, activation="tanh")
    shape = settings.steps, len(model.groups)
    schedule = Schedule(
        np.full(shape, np.log(settings.lr)), np.full(shape, np.log(settings.decay) - np.log1p(-settings.decay))
    )
    before = _judge(model, schedule, data, settings)
    _report("before", before)
    meta_curve = _learn(model, schedule, data, settings)
    after = _judge(model, schedule, data, settings)
    _report("after", after)

    groups = list(model.groups)
    arrays = {
        "lr": schedule.lr, "decay": schedule.decay, "groups": groups, "sizes": model.sizes,
        "batch_size": settings.batch_size, "meta_curve": meta_curve, "curve_steps": before.steps,
        "curve_before": before.curve, "curve_after": after.curve,
    }  # fmt: skip
    curves = before.steps, before.curve, after.curve, meta_curve
    output.save(folder, "schedule", arrays, lambda: plots.schedule(groups, schedule.lr, schedule.decay, *curves))


def _learn(model: MLP, schedule: Schedule, data: Dataset, settings: Settings) -> FloatArray:
    """Change the schedule by meta-gradients.  Returns the validation loss of every meta-step."""
    rng = np.random.default_rng(settings.seed)
    by_lr, by_decay = Adam(schedule.log_lr, settings.meta_lr), Adam(schedule.logit_decay, settings.meta_lr)
    curve = np.empty(settings.meta_steps)
    from tqdm import tqdm  # here, so that an import of fastrev stays light

    with tqdm(total=settings.meta_steps, desc="learning", unit="meta-step") as bar:
        for i in range(settings.meta_steps):
            lr, decay = schedule.lr, schedule.decay
            # other weights and batches every time, so that the schedule suits all of them
            start, order = rng.integers(2**31, size=2).tolist()
            result = meta_grad(
                model, model.init(start), train=data.train, valid=data.valid, lr=lr, decay=decay,
                batch_size=settings.batch_size, seed=order, wrt=("lr", "decay"),
            )  # fmt: skip
            by_lr.step(result.grad.lr * lr)
            by_decay.step(result.grad.decay * decay * (1 - decay))
            curve[i] = result.loss
            bar.set_postfix_str(f"validation loss {result.loss:.3f}", refresh=False)
            bar.update()
    return curve


def _judge(model: MLP, schedule: Schedule, data: Dataset, settings: Settings) -> Judgement:
    """Train with the schedule from seeds of its own."""
    steps = np.unique(np.linspace(1, settings.steps, _CURVE_POINTS).astype(np.int64))
    losses, accuracies = np.empty((2, _JUDGED_SEEDS, len(steps)))
    for i, child in enumerate(np.random.SeedSequence(settings.seed, spawn_key=(1,)).generate_state(_JUDGED_SEEDS)):
        made = train(
            model, model.init(int(child)), train=data.train, lr=schedule.lr, decay=schedule.decay,
            steps=settings.steps, batch_size=settings.batch_size, seed=int(child), curve=(*data.valid, steps),
        )  # fmt: skip
        assert made.curve is not None
        losses[i] = made.curve.losses
        accuracies[i] = model.accuracy(made.w, *data.test)
    return Judgement(losses[:, -1].mean(), accuracies.mean(), losses.mean(axis=0), steps)


def _report(when: str, judged: Judgement) -> None:
    print(f"{when:>6} learning: validation loss {judged.loss:.4f}, test accuracy {judged.accuracy:.1%}", flush=True)
