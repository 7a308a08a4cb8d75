"""Take training back in floating point and exactly (Maclaurin et al. 2015, sections 2.2 and 2.3).

Undoing a step divides the velocity by its decay, and so multiplies what rounding lost by 1 / decay, step after step.
On the integers of fastrev nothing is lost, for log2(1 / decay) bits a parameter a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import fastrev
from fastrev.experiments._shared import datasets, pictures
from fastrev.experiments._shared.output import Kept
from fastrev.experiments._shared.settings import Count, Positive, setting
from fastrev.experiments._shared.settings import Settings as Common

Floats = npt.NDArray[np.floating]
DECAYS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
DTYPES = ("float16", "float32", "float64")


@dataclass(frozen=True, kw_only=True)
class Settings(Common):
    """What the command line sets."""

    steps: Count = setting(1000, "training steps, there and back")
    batch_size: Count = setting(50, "examples in a training step")
    lr: Positive = setting(0.1, "learning rate")


def run(settings: Settings, keep: Kept) -> bool:
    """Measure, report and keep the results."""
    data = datasets.load(settings.data, settings.seed)
    model = fastrev.MLP((data.inputs, data.classes))
    w0 = model.init(settings.seed)
    rows = np.asarray(fastrev.minibatches(len(data.train[0]), settings.batch_size, settings.steps, settings.seed))
    errors, bits = np.zeros((len(DECAYS), len(DTYPES), settings.steps + 1)), np.zeros(len(DECAYS))
    print("       steps undone until the weights are off by 1 %      bits a parameter a step   32-bit weights of")
    print("decay  float16   float32   float64   fastrev            log2(1/decay)   stored   every step, over ours")
    for i, decay in enumerate(DECAYS):
        for j, dtype in enumerate(DTYPES):
            errors[i, j] = there_and_back(w0, data, rows, settings.lr, decay, np.dtype(dtype))
        exact = fastrev.train(model, w0, train=data.train, batches=rows, lr=settings.lr, decay=decay)
        bits[i] = exact.stats.bits_per_parameter_step
        exact.rewind()  # raises fastrev.ReversalError if one bit of it differs from the start
        reached = "".join(f"{n if n <= settings.steps else 'never':>10}" for n in broken(errors[i]))
        ours = "exact" if exact.stats.exact else "not"
        print(f"{decay:<4}{reached}{ours:>10}{-np.log2(decay):26.4f}{bits[i]:11.4f}{32 / bits[i]:16.0f} x", flush=True)
        keep(decays=DECAYS[: i + 1], dtypes=DTYPES, errors=errors[: i + 1], bits=bits[: i + 1])
    return True


@np.errstate(all="ignore")  # it overflows in the end
def there_and_back(w: Floats, data: datasets.Dataset, rows: Any, lr: float, decay: float, dtype: Any) -> Floats:
    """Relative errors (T + 1,) of the weights after 0 ... T steps were undone in floating point."""
    x, y, targets = data.train[0].astype(dtype), data.train[1], np.eye(data.classes, dtype=dtype)
    alpha, gamma, one = dtype.type(lr), dtype.type(decay), dtype.type(1)

    def gradient(w: Floats, batch: npt.NDArray[np.int64]) -> Floats:
        """Of softmax regression, at weights (D K + K,)."""
        z = x[batch] @ w[: -data.classes].reshape(data.inputs, -1) + w[-data.classes :]
        p = np.exp(z - z.max(axis=1, keepdims=True))
        delta = (p / p.sum(axis=1, keepdims=True) - targets[y[batch]]) / dtype.type(len(batch))
        return np.concatenate([(x[batch].T @ delta).ravel(), delta.sum(axis=0)])

    w, v, trajectory, errors = w.astype(dtype), np.zeros_like(w, dtype), [], np.zeros(len(rows) + 1)
    for batch in rows:
        trajectory.append(w)
        v = gamma * v - (one - gamma) * gradient(w, batch)
        w = w + alpha * v
    for undone, batch in enumerate(reversed(rows), start=1):
        w = w - alpha * v
        v = (v + (one - gamma) * gradient(w, batch)) / gamma
        stored = trajectory.pop().astype(np.float64)
        errors[undone] = np.linalg.norm(w - stored) / np.linalg.norm(stored)
    return np.where(np.isfinite(errors), errors, np.inf)


def broken(errors: Floats) -> Any:
    """After how many undone steps errors (..., T + 1) first exceed 1 %; T + 1 if never."""
    return np.argmax(np.append(errors, np.full((*errors.shape[:-1], 1), np.inf), axis=-1) > 0.01, axis=-1)


def draw(saved: pictures.Saved) -> Any:
    """Errors by steps undone for every type, where each breaks, and the bits that exactness takes."""
    decays, errors, bits = saved["decays"], saved["errors"], saved["bits"]
    figure = pictures.figure(12, 7.5)
    above, below = figure.subfigures(2, 1)
    axes, colors = above.subplots(1, 3, sharey=True), pictures.shades(len(decays))
    for j, (axis, dtype) in enumerate(zip(axes, DTYPES, strict=True)):
        for color, decay, curve in zip(colors, decays, errors[:, j], strict=True):
            shown = np.where((curve > 1e-18) & (curve < 1e2), curve, np.nan)
            axis.semilogy(shown, color=color, linewidth=1.2, label=f"decay {decay:g}")
            law = np.finfo(dtype).eps * decay ** -np.arange(min(len(curve), -50 / np.log(decay)))
            axis.semilogy(law, color=color, linewidth=0.8, linestyle=":")
        axis.axhline(1e-18, color="k", linewidth=3, label="fastrev: exactly 0\n(drawn at the edge)")
        axis.set(title=f"Undone in {dtype}", xlabel="steps undone", xlim=(0, 400), ylim=(1e-18, 1e2))
    axes[0].set_ylabel("relative error of the weights\n(dotted: machine epsilon / decay$^t$)")
    above.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    breaks, stored, memory = below.subplots(1, 3)
    for j, dtype in enumerate(DTYPES):
        at = broken(errors[:, j])
        breaks.semilogy(decays[at < errors.shape[-1]], at[at < errors.shape[-1]], "o-", color=f"C{j}", label=dtype)
    breaks.set(xlabel="decay", ylabel="steps undone", title="Until the weights are off by 1 %")
    fine = np.linspace(0.5, 0.99, 200)
    stored.plot(fine, -np.log2(fine), color="0.45", label="log2(1 / decay)")
    stored.plot(decays, bits, "o", color="C0", label="stored")
    stored.set(xlabel="decay", ylabel="bits a parameter a step", title="What exactness takes")
    memory.semilogy(fine, -32 / np.log2(fine), color="0.45", label="32 / log2(1 / decay)")
    memory.semilogy(decays, 32 / bits, "o", color="C0", label="measured")
    memory.plot([0.9, 0.98], [200, 1000], "x", color="C3", label="said in the paper")
    memory.set(xlabel="decay", ylabel="32-bit weights of every step, over that", title="Memory saved")
    for axis in (breaks, stored, memory):
        axis.grid(alpha=0.3)
        axis.legend()
    return figure
