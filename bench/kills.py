"""Runs killed at random moments, and called again: ``python -m bench.kills [KILLS [SEED]]``.

Training, pulling back, both in one call, for networks and an objective of plain functions, by SGD and Adam, and tuning
are killed by SIGKILL, 300 times in all if nothing else is said, in processes forked from one that is warm
(tests/killing.py).  Each is called again until it comes to its end, where every bit of its results is held against
those of a run that nobody killed; then it begins anew.  The first bit that differs ends this with an error.
"""

from __future__ import annotations

import sys
from collections import Counter

from bench.pages import ROOT, machine, rewrite, today
from tests import killing

WHAT = {
    "train": "`train`, AdamW, with a curve",
    "pullback": "`pullback` of five losses, truncated, by `x` too",
    "network": "`meta_grad`, SGD, float32",
    "buffered": "`meta_grad`, SGD, decay 0.5, with `buffer=`",
    "adam": "`meta_grad` of two losses, AdamW",
    "objective": "`meta_grad` of an Objective, by its `theta` too",
    "tune": "`tune`, two runs a meta-step",
}


def table(found: dict[str, dict], seed: int) -> str:
    """What was killed, and where it stood on disk."""
    lines = [
        "| | kills | before anything was written | on the way there, or tuning | on the way back "
        "| while a file was written | ends, all alike |",
        "|---|---|---|---|---|---|---|",
    ]
    total: Counter[str] = Counter()
    for name, each in found.items():
        where = Counter(each["kills"])
        numbers = {
            "kills": where.total(), "nothing": where["nothing"], "there": where["there"] + where["tuning"],
            "back": where["back"], "writing": each["while writing"], "ends": each["ends"],
        }  # fmt: skip
        total.update(numbers)
        shown = {**numbers, "there": numbers["there"] or "-", "back": numbers["back"] or "-"}
        lines.append(f"| {WHAT[name]} | {' | '.join(map(str, shown.values()))} |")
    names = ("kills", "nothing", "there", "back", "writing", "ends")
    lines.append(f"| all | {' | '.join(str(total[each]) for each in names)} |")
    return "\n".join([*lines, "", f"Seed {seed}; {machine('numba', 'numpy')}, {today()}."])


def main(kills: int = 300, seed: int = 0) -> None:
    text = table(killing.main(kills, seed), seed)
    print(text)
    if kills >= 300:
        rewrite(ROOT / "docs" / "guides" / "durable.md", "bench.kills", text)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
