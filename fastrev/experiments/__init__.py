"""The experiments of Maclaurin et al. (2015), and what such gradients are used for since.

One file is one command, ``python -m fastrev <name>``, and an example to read: its `Settings`, `run`, which learns,
prints and keeps arrays, and `draw`, which draws what was kept.  What they share is in `_shared`.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastrev.experiments import (
    attribute,
    chaos,
    clean,
    distill,
    hypergradient,
    l2,
    labels,
    multitask,
    reverse,
    scales,
    schedule,
    select,
    valley,
)
from fastrev.experiments._shared import commands

EXPERIMENTS = (
    *(valley, reverse, schedule, hypergradient, scales, l2, distill, labels, multitask, chaos),  # the paper's
    *(clean, select, attribute),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.  Returns the exit status."""
    return commands.main(EXPERIMENTS, arguments)
