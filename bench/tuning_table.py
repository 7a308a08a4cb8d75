"""What the race of tuners found, in Markdown."""

from __future__ import annotations

from typing import Any

import numpy as np

TIMES = (1, 3, 10, 40, 100)  # seconds
Curves = dict[str, dict[str, dict[str, Any]]]  # by problem, contender and seed
GOOD = 0.102  # a loss that few numbers are enough for
OWN = "fastrev.tune"


def table(titles: dict[str, str], curves: Curves) -> str:
    """Judged losses, mean and standard deviation over the seeds, and what they say of the two bars."""
    heads = [*(f"{t} s" for t in TIMES), f"runs until {GOOD}", "runs"]
    lines = [f"| | | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for key, title in titles.items():
        for name, of_seeds in curves[key].items():
            cells = [_cell(losses_at(of_seeds, t)) for t in TIMES]
            runs = np.mean([curve["runs"][-1] for curve in of_seeds.values()])
            lines.append(f"| {title} | {name} | {' | '.join(cells)} | {runs_until_good(of_seeds)} | {runs:,.0f} |")
            title = ""
    return "\n".join([*lines, *_bars(curves)])


def losses_at(of_seeds: dict[str, Any], moment: float) -> list[float]:
    """Of every seed's curve, where they go so far."""
    reached = [curve for curve in of_seeds.values() if curve["seconds"][-1] >= moment]
    return [float(curve["loss"][curve["seconds"].index(moment)]) for curve in reached]


def runs_until_good(of_seeds: dict[str, Any]) -> str:
    """How many trainings a tuner had made when the mean of its losses first was good."""
    points = min(len(curve["loss"]) for curve in of_seeds.values())
    losses, runs = (np.mean([curve[each][:points] for curve in of_seeds.values()], axis=0) for each in ("loss", "runs"))
    good = np.flatnonzero(losses <= GOOD)
    return f"{runs[good[0]]:,.0f}" if good.size else "-"


def _cell(losses: list[float]) -> str:
    if not losses:
        return "-"
    spread = f" ± {np.std(losses, ddof=1):.3f}" if len(losses) > 1 else ""
    return f"{np.mean(losses):.3f}{spread}"


def _bars(curves: Curves) -> list[str]:
    """How far the loss after 10 s lies from the best of Optuna's after the longest time."""
    found = []
    for key, moment in (("b", 40), ("d", 40), ("c", 100)):
        rivals = [losses_at(each, moment) for name, each in curves.get(key, {}).items() if name.startswith("Optuna")]
        own = losses_at(curves.get(key, {}).get(OWN, {}), 10)
        if own and all(rivals) and rivals:
            share = np.mean(own) / min(np.mean(each) for each in rivals) - 1
            beside = f"{abs(share):.0%} {'below' if share < 0 else 'above'}" if abs(share) >= 0.005 else "level with"
            found.append(f"({key}) after 10 s: {beside} Optuna after {moment} s.")
    return ["", " ".join(found)] if found else []
