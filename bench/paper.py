"""Hold the experiments against the paper: ``python -m bench.paper DIGITS MNIST``.

The two folders are what ``python -m fastrev all --out DIGITS`` and ``... all --data PATH --out MNIST`` leave.
The table and the pictures of docs/experiments.md are made of nothing but their files.

What the paper found is from its text and tables, from the results that its authors published with their code
(HIPS/hypergrad, the pickled curves of its figures), or, marked with ~, read off its pictures.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.pages import ROOT, rewrite

PAGE, PICTURES = ROOT / "docs" / "experiments.md", ROOT / "docs" / "pictures"
Saved = Mapping[str, Any]
OF_MNIST = (
    "schedule",
    "hypergradient",
    "scales",
    "l2",
    "distill",
    "labels",
    "chaos",
    "attribute",
)  # whose pictures are of MNIST's files


def judged(saved: Saved) -> str:
    """Mean losses of the rows of a table, with their names."""
    losses = saved["curves"][:, :, -1].mean(axis=1)
    return ", ".join(f"{name} {loss:.3f}" for name, loss in zip(saved["rows"], losses, strict=True))


def validated(saved: Saved) -> str:
    """Losses on the validation examples that penalties were learned on."""
    start, single = saved["learned_penalties_start_loss"], saved["best_single_penalty_loss"]
    found = f"as started {start:.3f}, best single penalty {single:.3f}, learned {saved['learned_penalties_loss']:.3f}"
    return f"{found}; on test examples {judged(saved)}"


def scales(saved: Saved) -> str:
    """Of the layers' weights, learned and by the heuristic."""
    weights = [i for i, name in enumerate(saved["groups"]) if name.startswith("W")]
    learned, usual = saved["learned_scales_init_scale"][weights], saved["heuristic"][weights]
    return f"{' '.join(f'{each:.3f}' for each in learned)}; 1/sqrt(fan-in): {' '.join(f'{each:.3f}' for each in usual)}"


def lowest(saved: Saved) -> str:
    """The means over trainings for the weights of each layer, where they are lowest."""
    weights = [i for i, name in enumerate(saved["groups"]) if name.startswith("W")]
    means = saved["gradients"].mean(axis=0)[:, weights]
    at = means.argmin(axis=0)
    return ", ".join(f"{means[step, i]:.4f} at step {step}" for i, step in enumerate(at))


def gain(saved: Saved) -> str:
    """Mean accuracies of two ways to train, by what they were tried on."""
    names, found = saved["rows"].tolist(), []
    for share in np.unique(saved["cases"][:, 0]):
        means = saved["accuracies"][saved["cases"][:, 0] == share].mean(axis=0)
        found.append(f"{share:.0%} wrong: " + ", ".join(f"{n} {m:.1%}" for n, m in zip(names, means, strict=True)))
    return "; ".join(found)


def ranked(saved: Saved) -> str:
    """Mean scores of each way to predict, by what was left out."""
    names, found = saved["rows"].tolist(), []
    for share, scores in zip(saved["shares"], saved["scores"], strict=True):
        means = zip(names, np.nanmean(scores, axis=1), strict=True)
        found.append(f"{share:.0%} left out: " + ", ".join(f"{name} {mean:.3f}" for name, mean in means))
    return "; ".join(found)


def sharing(saved: Saved) -> str:
    """Mean test losses."""
    return ", ".join(f"{name} {each.mean():.2f}" for name, each in zip(saved["rows"], saved["losses"], strict=True))


def onset(saved: Saved) -> str:
    """Where the gradient turns, the loss is lowest and the guard warns first, by log lr."""
    lowest = int(np.nanargmin(saved["losses"]))
    return (
        f"gradient rises above 0 first at {float(saved['turn']):.2f}; lowest loss {saved['losses'][lowest]:.2g} at "
        f"{saved['log_lr'][lowest]:.2f}; first warning at {float(saved['onset']):.2f}"
    )


def memory(saved: Saved) -> str:
    """Times less than 32-bit weights of every step."""
    at = {float(decay): bits for decay, bits in zip(saved["decays"], saved["bits"], strict=True)}
    return f"{32 / at[0.9]:.0f} times at decay 0.9; {at[0.98]:.4f} bits, {32 / at[0.98]:.0f} times at 0.98"


# experiment, what is held against each other, the paper's, ours, and whether on MNIST's files
ROWS: list[tuple[str, str, str, Callable[[Saved], str], bool]] = [
    ("valley", "loss after meta-iterations 1, 2, 3", "395.30, 356.57, 356.34",
     lambda saved: ", ".join(f"{each:.2f}" for each in saved["losses"][:, -1]), False),
    ("reverse", "memory, against 32-bit weights of every step",
     "a factor of 200 at decay 0.9; 0.029 bits, a factor of 1,000 at 0.98", memory, False),
    ("schedule", "training loss after 100 steps, 784-50-50-50-10",
     "as started 0.53, learned schedule 0.12; a rate and a decay by Bayesian optimisation 0.15", judged, True),
    ("hypergradient", "mean gradient by log lr of W1 to W4, where it is lowest",
     "-0.0017 at step 87, -0.0012, -0.0014, -0.0024 at step 34", lowest, True),
    ("scales", "learned scales of W1 to W4", "0.044 0.249 0.164 0.126; 1/sqrt(fan-in): 0.036 0.141 0.141 0.141",
     scales, True),
    ("l2", "validation loss, a penalty for every weight", "as started ~0.76, learned ~0.43", validated, True),
    ("distill", "validation loss of ten learned images", "as started ~2.32, learned ~0.43", judged, True),
    ("labels", "validation loss, 30 real images", "said to be possible", judged, True),
    ("multitask", "test loss (theirs: Omniglot; ours: turned digits)",
     "separate 1.34, lowest layer tied 1.25, learned sharing 1.13", sharing, False),
    ("chaos", "training loss by log lr, 784-200-50-10",
     "gradient rises above 0 first at 1.47; lowest loss 0.0024 at 1.66", onset, True),
    ("clean", "test accuracy, digits", "-", gain, False),
    ("clean", "test accuracy, MNIST", "-", gain, True),
    ("select", "test accuracy of 100 examples, digits", "-", gain, False),
    ("select", "test accuracy of 100 examples, MNIST", "-", gain, True),
    ("attribute", "rank correlation of predicted and real changes of losses, digits", "-", ranked, False),
    ("attribute", "rank correlation of predicted and real changes of losses, MNIST", "-", ranked, True),
]  # fmt: skip


def table(digits: Path, mnist: Path) -> str:
    """The rows, in Markdown."""
    lines = ["| experiment | | the paper | fastrev |", "|---|---|---|---|"]
    for name, what, theirs, ours, of_mnist in ROWS:
        with np.load((mnist if of_mnist else digits) / f"{name}.npz") as saved:
            lines.append(f"| `{name}` | {what} | {theirs} | {ours(dict(saved))} |")
    return "\n".join(lines)


def small(picture: Path) -> bytes:
    """The picture with 256 colours, among them the rarest, which nobody tells from all of them."""
    packed = io.BytesIO()
    with Image.open(picture) as image:
        palette = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        palette.save(packed, "PNG", optimize=True)
    return packed.getvalue()


def main() -> None:
    """Write the table into the page, and the pictures beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("digits", type=Path)
    parser.add_argument("mnist", type=Path)
    folders = parser.parse_args()
    rewrite(PAGE, "bench.paper", table(folders.digits, folders.mnist))
    PICTURES.mkdir(exist_ok=True)
    for picture in sorted(folders.digits.glob("*.png")):
        name = picture.stem
        source = folders.mnist / picture.name if name in OF_MNIST else picture
        (PICTURES / picture.name).write_bytes(small(source))


if __name__ == "__main__":
    main()
