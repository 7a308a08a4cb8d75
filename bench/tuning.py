"""Race `fastrev.tune` against Optuna and random search: ``python -m bench.tuning``.

Who has found the better hyperparameters after so many seconds?  All start from the same values, train by
`fastrev.train` and have both cores.  What they had found is judged afterwards, by runs of seeds that none has seen.

Every curve is kept in OUT/tuning.json once it is measured: ``--resume`` measures those that are missing, ``--only`` and
``--seed`` some, and the rest stay.  When all are there, the table of docs/benchmarks.md and the picture are made anew.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastrev
from bench.pages import BENCHMARKS, ROOT, machine, rewrite, today
from bench.tuners import CORES, Contender, Race, optuna, random_search, tune
from bench.tuning_plot import plot
from bench.tuning_table import TIMES, table
from bench.tuning_task import BATCH, STEPS, Task, by_group, load, ramps, seven_numbers, two_numbers, whole_schedule

PICTURE = "![Validation loss against seconds of tuning](../bench/plots/tuning.png)"
# seconds at which to judge: 0.3, 0.37, ..., and those of the table
GRID = sorted({*np.geomspace(0.3, 300, 34).round(2).tolist(), *map(float, TIMES)})


@dataclass(frozen=True)
class Problem:
    """What is tuned, for how many seconds, and who competes."""

    title: str
    seconds: float
    contenders: dict[str, Contender]


def problems(task: Task) -> dict[str, Problem]:
    """All of them, with everybody at their best."""
    start, two, seven, sixteen = task.start, two_numbers(task), seven_numbers(task), by_group(task)
    groups = sixteen.values(sixteen.start)
    schedule = start | {"lr": np.full((STEPS, len(task.model.groups)), start["lr"])}
    return {
        "a": Problem("(a) lr, decay: 2 numbers", 40, {
            "fastrev.tune": tune(start, "lr", "decay", meta_lr=0.08),
            "Optuna": optuna(two, 16),
            "random search": random_search(two, 16),
        }),
        "b": Problem("(b) these, l2, initial scales: 7 numbers", 40, {
            "fastrev.tune": tune(start, "lr", "decay", "l2", "init_scale", meta_lr=0.08),
            "Optuna": optuna(seven, 16),
            "random search": random_search(seven, 16),
        }),
        "c": Problem("(c) lr by step and group: 800 numbers", 100, {
            "fastrev.tune": tune(schedule, "lr", meta_lr=0.05),
            "Optuna": optuna(whole_schedule(task), 8),
            "Optuna, 2 numbers": optuna(ramps(task, by_group=False), 16),
        }),
        "d": Problem("(d) those of (b) by group: 16 numbers", 40, {
            "fastrev.tune": tune(groups, "lr", "decay", "l2", "init_scale", meta_lr=0.08),
            "Optuna": optuna(sixteen, 16),
            "random search": random_search(sixteen, 16),
        }),
    }  # fmt: skip


def race(task: Task, contend: Contender, seconds: float, seed: int) -> dict[str, Any]:
    """One contender's curve: what its best so far was worth at each time of the grid, and how many runs it took."""
    track = Race(task, seconds, seed)
    contend(track)
    found = [(0.0, 0, task.start), *track.reports]
    curve: dict[str, Any] = {
        "ended": found[-1][0],
        "seconds": [t for t in GRID if t <= seconds],
        "runs": [],
        "loss": [],
    }
    judged = -1
    with ThreadPoolExecutor(CORES) as pool:
        for moment in curve["seconds"]:
            latest = max(i for i, (reported, _, _) in enumerate(found) if reported <= moment)
            same = judged >= 0 and found[latest][2] is found[judged][2]
            curve["loss"].append(curve["loss"][-1] if same else task.judge(found[latest][2], pool))
            curve["runs"].append(found[latest][1])
            judged = latest
        curve["start"] = task.judge(task.start, pool)
    curve["values"] = {name: np.asarray(value).tolist() for name, value in found[-1][2].items()}
    return curve


def warm_up(task: Task) -> None:
    """Compile and import, at nobody's expense."""
    values = task.start
    fastrev.meta_grad(
        task.model, task.model.init(0), train=task.train, valid=task.valid, steps=STEPS, batch_size=BATCH, lr=0.1,
        decay=0.9, l2=values["l2"],
    )  # fmt: skip
    for contender in (optuna(two_numbers(task), 1), random_search(two_numbers(task), 1)):
        contender(Race(task, 0.5, seed=0))


def setting(data: Path | None) -> dict[str, str]:
    """What curves must have in common to be compared."""
    return {
        "data": "digits" if data is None else data.name,
        "machine": machine("numba", "numpy", "optuna", "scikit-learn"),
    }


def main() -> None:
    """Race, then make the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="IDX files, as of MNIST (default: scikit-learn's digits)"
    )
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, ... (default: 5)")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--seconds", type=float, default=100, help="for each contender at most (default: 100)")
    parser.add_argument("--only", default="a,b,c,d", help="problems, such as a,c")
    parser.add_argument("--contender", help="this one only, such as 'Optuna'")
    parser.add_argument("--resume", action="store_true", help="measure only what is missing")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "plots", help="default: bench/plots")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    task = load(arguments.data)
    entered = problems(task)
    kept = _Kept(arguments.out / "tuning.json", setting(arguments.data))
    seeds = range(arguments.seeds) if arguments.seed is None else [arguments.seed]
    missing = [
        (key, name, seed)
        for seed in seeds
        for key in arguments.only.split(",")
        for name in entered[key].contenders
        if arguments.contender in (None, name) and not (arguments.resume and kept.has(key, name, seed))
    ]
    if missing:
        warm_up(task)
    for key, name, seed in missing:
        problem = entered[key]
        curve = race(task, problem.contenders[name], min(problem.seconds, arguments.seconds), seed)
        kept.keep(key, name, seed, curve)
        print(f"({key}) {name}, seed {seed}: {curve['loss'][-1]:.4f} after {curve['ended']:.1f} s", flush=True)

    titles = {key: problem.title for key, problem in entered.items() if key in kept.curves}
    curves = {key: {name: kept.curves[key][name] for name in entered[key].contenders if name in kept.curves[key]}
              for key in titles}  # fmt: skip
    found = table(titles, curves)
    print(found)
    plot(arguments.out, titles, curves)
    if arguments.data is None and arguments.out == ROOT / "bench" / "plots":
        made = f"{kept.setting['machine']}, {today()}"
        rewrite(BENCHMARKS, "bench.tuning", f"{found}\n\nOn {made}.\n\n{PICTURE}")


class _Kept:
    """Curves in a file, by problem, contender and seed.  Those of another machine or other data are not compared."""

    def __init__(self, path: Path, setting: dict[str, str]) -> None:
        self.path, self.setting = path, setting
        self.curves: dict[str, dict[str, dict[str, Any]]] = {}
        if path.exists():
            held = json.loads(path.read_text(encoding="utf-8"))
            if held["setting"] == setting:
                self.curves = held["curves"]
            else:
                print(f"{path.name} is of {held['setting']}: begun anew")

    def has(self, key: str, name: str, seed: int) -> bool:
        return str(seed) in self.curves.get(key, {}).get(name, {})

    def keep(self, key: str, name: str, seed: int, curve: dict[str, Any]) -> None:
        self.curves.setdefault(key, {}).setdefault(name, {})[str(seed)] = curve
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps({"setting": self.setting, "curves": self.curves}), encoding="utf-8")
        partial.replace(self.path)


if __name__ == "__main__":
    main()
