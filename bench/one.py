"""Time and peak memory of one contestant: ``python -m bench.one W1 float64 jax-stored 400``.

A process of its own is the only way to measure a peak: what one contestant has touched stays with the process.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

from bench.peers import PEERS, contestant
from bench.workloads import OPTIMIZERS, PRECISIONS, SHAPES, workload


def peak_megabytes() -> float:
    """The most memory that this process has held so far (Linux: ru_maxrss in KB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", choices=SHAPES)
    parser.add_argument("dtype", choices=PRECISIONS)
    parser.add_argument("contestant", choices=["fastrev", *PEERS])
    parser.add_argument("steps", type=int)
    parser.add_argument("--repeat", type=int, default=3, help="runs after the first, of which the fastest counts")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="SGD")
    args = parser.parse_args()

    case = workload(args.workload, PRECISIONS[args.dtype], args.steps, args.optimizer)
    solve = contestant(args.contestant, case)
    times = []
    for _ in range(1 + args.repeat):
        start = time.perf_counter()
        solve()
        times.append(time.perf_counter() - start)
    seconds = min(times[1:], default=times[0])
    print(json.dumps({"seconds": seconds, "first_call_seconds": times[0], "peak_mb": peak_megabytes()}))


if __name__ == "__main__":
    main()
