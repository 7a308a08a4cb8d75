"""Draw pictures/buffer.png of the theory page: ``python docs/draw_buffer.py``; it needs ``fastrev[plot]``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fastrev

PICTURE = Path(__file__).resolve().parent / "pictures" / "buffer.png"
NUMBERS, N, D, TIMES = (20, 21, 29), 9, 10, 4
POPPED, PUSHED = "C0", "C3"


def multiply(c: int, i: int, n: int, d: int) -> tuple[int, int, int, int]:
    """The number c n/d to within one, the buffer, and the digits that were popped and pushed."""
    i, popped = divmod(i, n)
    c, pushed = divmod(c * n + popped, d)
    return c, i * d + pushed, popped, pushed


def draw_digits(axis: Any) -> None:
    """Numbers and their buffers, by multiplication: to the right there, and back by the same with n and d exchanged."""
    for row, number in enumerate(NUMBERS):
        c, i, y = number, 0, -2.4 * row
        for column in range(TIMES + 1):
            x = 2.2 * column
            for value, below, color in ((c, 0.0, "0.92"), (i, -0.75, "#e8eef7")):
                box = {"boxstyle": "square,pad=0.35", "facecolor": color, "edgecolor": "0.6", "linewidth": 0.8}
                axis.text(x, y + below, f"{value:4d}", ha="center", va="center", family="monospace", bbox=box)
            if column < TIMES:
                now, after, popped, pushed = multiply(c, i, N, D)
                assert multiply(now, after, D, N)[:2] == (c, i)
                axis.annotate("", (x + 1.6, y), (x + 0.6, y), arrowprops={"arrowstyle": "<->", "color": "0.4"})
                axis.text(x + 1.1, y - 0.48, f"pop {popped}", ha="center", color=POPPED, fontsize=9)
                axis.text(x + 1.1, y - 0.92, f"push {pushed}", ha="center", color=PUSHED, fontsize=9)
                c, i = now, after
        axis.text(-0.75, y, "c", ha="right", va="center", style="italic")
        axis.text(-0.75, y - 0.75, "buffer", ha="right", va="center", style="italic")
    for column in range(TIMES):
        axis.text(2.2 * column + 1.1, 0.5, f"· {N}/{D}", ha="center", va="center")
    axis.set(xlim=(-2, 2.2 * TIMES + 0.8), ylim=(-2.4 * len(NUMBERS) + 1.1, 0.9))
    axis.axis("off")
    axis.set_title("Left to right: multiplied by 9/10. Right to left: taken back", fontsize=10)


def draw_bits(axis: Any) -> None:
    """What the library keeps for 1,000 numbers, and log2(d/n)."""
    times, start = np.unique(np.geomspace(1, 1000, 25).astype(int)), np.random.default_rng(0).uniform(-100, 100, 1000)
    for color, decay in zip(("C0", "C1", "C2"), (0.5, 0.9, 0.99), strict=True):
        n, d = fastrev.ratio(decay)
        array, kept = fastrev.ReversibleArray(start), []
        for made in range(int(times[-1]) + 1):
            if made in times:
                kept.append(array.bits / start.size)
            array.mul(n, d)
        axis.loglog(times, kept, "o", markersize=4, color=color, label=f"kept at {n}/{d}")
        axis.loglog(times, times * np.log2(d / n), color=color, linewidth=1)
    axis.loglog(times, 64.0 * times, "k--", label="a float64 stored each time")
    axis.loglog([], [], color="0.4", linewidth=1, label="log$_2$(d/n) each time")
    axis.set(xlabel="multiplications by a ratio", ylabel="bits kept for a number")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
    axis.set_ylim(0.01, 1e6)
    axis.set_title("Bits that fastrev.ReversibleArray keeps, mean of 1,000 numbers", fontsize=10)


def main() -> None:
    """Draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not above: pytest imports this file
    from matplotlib.figure import Figure

    figure = Figure((7.6, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    digits, bits = figure.subplots(2, 1, height_ratios=(1.25, 1))
    draw_digits(digits)
    draw_bits(bits)
    figure.savefig(PICTURE, dpi=120)


if __name__ == "__main__":
    main()
