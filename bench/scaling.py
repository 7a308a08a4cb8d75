"""How time grows with parameters, batch and steps: ``python -m bench.scaling``.

Writes bench/plots/scaling.png, .svg and .json and a table of docs/benchmarks.md.  fastrev and JAX, both ways, take
turns at every point, where they are asserted to compute the same; the faster JAX is drawn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.pages import BENCHMARKS, ROOT, machine, rewrite, today
from bench.report import JAX, beside_jax, head, line
from bench.workloads import PRECISIONS, SHAPES, Shape, of_shape
from fastrev.kernels.mlp_gradient import ROWS

PICTURE = (
    "![Time a parameter against parameters, a row against the batch, and of a call against steps, of fastrev and JAX]"
    "(../bench/plots/scaling.png)\n\n([SVG](../bench/plots/scaling.svg), [figures](../bench/plots/scaling.json))\n"
)
ROUNDS = 5
STEPS_A_TURN = 100  # at least: shorter runs are made several times
FEW = 64  # rows to validate on, so that steps are what is measured
Curve = list[dict[str, float]]  # a point: size, and seconds a step of "fastrev" and "jax"
Curves = dict[str, dict[str, Curve]]  # by what grows and dtype


@dataclass(frozen=True)
class Growth:
    """What grows, and what is drawn of it."""

    shapes: Mapping[int, Shape]
    per: Callable[[int, Shape], float]  # seconds a step are times this on the y axis
    xlabel: str
    ylabel: str
    title: str
    few: tuple[int, ...]  # sizes for a quick look
    yscale: str = "log"


def parameters(d: int) -> int:
    """Those of d-d-10."""
    return d * d + 11 * d + 10


def _square(d: int, steps: int) -> Shape:
    return Shape((d, d, 10), 64, steps, 640, FEW)


def _w1(batch: int) -> Shape:
    return replace(SHAPES["W1"], batch=batch, steps=100 if batch <= 128 else 49, valid_rows=FEW)


WIDTHS = {95: 400, 172: 225, 311: 100, 545: 100, 702: 49, 995: 25, 1409: 25}  # and steps, fewer where each takes long
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 200, 224, 255, 256, 257, 300, 384, 512, 768, 1024)
STEPS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
GROWTHS = {
    "P": Growth(
        {parameters(d): _square(d, steps) for d, steps in WIDTHS.items()}, lambda size, shape: 1e9 / size,
        "parameters, P", "ns a parameter a step", "d-d-10, batch 64", (parameters(95), parameters(311)),
        yscale="linear",
    ),
    "batch": Growth(
        {batch: _w1(batch) for batch in BATCHES}, lambda size, shape: 1e6 / size,
        "rows in a batch", "µs a row a step", "784-50-50-50-10", (1, 255, 256, 257),
    ),
    "T": Growth(
        {steps: replace(SHAPES["W2"], steps=steps) for steps in STEPS}, lambda size, shape: 1e3 * shape.steps,
        "steps, T", "ms a meta-gradient", "64-32-10, batch 50", (1, 10, 100),
    ),
}  # fmt: skip


def measure(of: Growth, dtype: str, sizes: Sequence[int], rounds: int) -> Curve:
    """Seconds a step at each size."""
    curve = []
    for size in sizes:
        case = of_shape(f"{of.xlabel} {size}", of.shapes[size], PRECISIONS[dtype])
        seconds = beside_jax(case, rounds, calls=max(1, STEPS_A_TURN // case.steps))
        own, jax = seconds["fastrev"] / case.steps, min(seconds[each] for each in JAX) / case.steps
        curve.append({"size": size, "fastrev": own, "jax": jax})
        print(f"{case.name} {dtype}: {1e6 * own:.1f} us a step, JAX {jax / own:.1f}x", flush=True)
    return curve


# ---- the picture ---------------------------------------------------------------------------------------------

COLOURS = {"fastrev": "#0072b2", "jax": "#d55e00"}  # that the colour-blind tell apart
NAMES = {"fastrev": "fastrev", "jax": "JAX, stored or checkpointed, the faster"}
DASHES = {"float64": "-", "float32": "--"}


def plot(curves: Curves, folder: Path) -> None:
    """A panel for each growth, and one of the batches around the limit, as PNG and SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.hashsalt": "fastrev"}):
        figure, panels = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
        for axes, (name, of) in zip(panels.flat[[0, 2, 1]], GROWTHS.items(), strict=True):
            _draw(axes, of, curves[name])
            axes.set(xscale="log", yscale=of.yscale, title=of.title, xlabel=of.xlabel, ylabel=of.ylabel)
            _plain(axes)
        _draw_limit(panels[1, 1], curves["batch"])
        for axes in panels.flat:
            axes.grid(alpha=0.3)
            axes.title.set_fontsize("medium")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        for suffix in ("png", "svg"):
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(folder / f"scaling.{suffix}", dpi=150, metadata=metadata)
        plt.close(figure)


def _draw(axes: Any, of: Growth, curves: Mapping[str, Curve]) -> None:
    for name, colour in COLOURS.items():
        for dtype, curve in curves.items():
            sizes = [int(point["size"]) for point in curve]
            axes.plot(
                sizes, [point[name] * of.per(size, of.shapes[size]) for size, point in zip(sizes, curve, strict=True)],
                DASHES[dtype], color=colour, marker="o", markersize=3.5, linewidth=2 if name == "fastrev" else 1.5,
                label=f"{NAMES[name]}, {dtype}",
            )  # fmt: skip


def _draw_limit(axes: Any, curves: Mapping[str, Curve]) -> None:
    near = {dtype: [point for point in curve if 128 <= point["size"] <= 512] for dtype, curve in curves.items()}
    _draw(axes, GROWTHS["batch"], near)
    axes.axvline(ROWS, color="0.4", linewidth=0.8, zorder=0)
    axes.text(
        ROWS, 0.03, "  as many as fastrev computes at a time", transform=axes.get_xaxis_transform(), fontsize="small"
    )
    ticks = range(ROWS // 2, 2 * ROWS + 1, ROWS // 2)
    of = GROWTHS["batch"]
    axes.set(title=f"{of.title}, near {ROWS} rows", xlabel=of.xlabel, ylabel=of.ylabel, xticks=ticks)
    axes.set_ylim(bottom=0)


def _plain(axes: Any) -> None:
    """Numbers as they are, not as powers of ten."""
    from matplotlib.ticker import FuncFormatter

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.15g}"))
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)


# ---- the table -----------------------------------------------------------------------------------------------

RATIOS = {
    "a parameter a step, P = 1e6 over 1e5": ("P", parameters(995), parameters(311)),
    **{f"a row a step, batch {batch} over {ROWS}": ("batch", batch, ROWS) for batch in (255, 257, 300, 384)},
}


def table(curves: Curves) -> list[str]:
    """Where a curve could have a cliff: time at one size over that at another, per what grows."""
    lines = [*head("time", *(f"{name}, {dtype}" for dtype in PRECISIONS for name in ("fastrev", "JAX")))]
    for what, (name, size, other) in RATIOS.items():
        ratios = []
        for dtype in PRECISIONS:
            points = {point["size"]: point for point in curves[name][dtype]}
            ratios += [f"{points[size][who] / size / (points[other][who] / other):.2f}x" for who in COLOURS]
        lines.append(line(what, *ratios))
    return lines


def main() -> None:
    """Measure, draw, and replace the page's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of each that count (default: {ROUNDS})")
    parser.add_argument("--only", choices=GROWTHS, help="measure this, and keep what else was measured before")
    parser.add_argument("--quick", type=Path, metavar="DIR", help="a few points, drawn there; the page stays as it is")
    args = parser.parse_args()
    folder = args.quick or ROOT / "bench" / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "scaling.json"
    curves: Curves = json.loads(kept.read_text(encoding="utf-8")) if args.only and kept.exists() else {}
    for name, of in GROWTHS.items():
        if args.only in (None, name):
            sizes = of.few if args.quick else tuple(of.shapes)
            curves[name] = {dtype: measure(of, dtype, sizes, args.rounds) for dtype in PRECISIONS}
            kept.write_text(json.dumps(curves), encoding="utf-8")
    if curves.keys() != GROWTHS.keys():
        return
    plot(curves, folder)
    if not args.quick:
        made = f"Medians of {args.rounds} interleaved runs on {machine('numba', 'numpy', 'jax')}, {today()}."
        rewrite(BENCHMARKS, "bench.scaling", "\n".join([PICTURE, *table(curves), "", made]))


if __name__ == "__main__":
    main()
