"""Sixteen runs at once, on what there is to run them on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

import fastrev
from bench.workloads import Workload, workload
from fastrev._pool.workers import fan_out

RUNS = range(16)
Results = list[tuple[float, bytes]]


def meta_gradient(case: Workload, number: int) -> tuple[float, bytes]:
    """One run of W2."""
    result = case.run()
    return result.loss, result.grad.lr.tobytes()


def meta_gradient_and_training(case: Workload, number: int) -> tuple[float, bytes]:
    """One run of the shorter one, and a training that is not taken back, as a tuner makes them."""
    model = fastrev.MLP(case.sizes)
    arguments = {"train": case.train, "optimizer": case.optimizer, "batches": case.batches}
    result = fastrev.meta_grad(model, case.w0, valid=case.valid, wrt=("lr", "decay"), **arguments)
    loss = model.loss_value(fastrev.train(model, case.w0, **arguments).w, *case.valid)
    return loss, result.grad.lr.tobytes()


TASKS: dict[str, tuple[Callable[[Workload, int], tuple[float, bytes]], Callable[[], Workload]]] = {
    "W2": (meta_gradient, lambda: workload("W2")),
    "W2 of 200 steps, and as many trainings": (meta_gradient_and_training, lambda: workload("W2", steps=200)),
}


@contextmanager
def processes() -> Iterator[ProcessPoolExecutor]:
    """Two of them."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


WAYS: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {  # settings of `fastrev.threads`, and `workers`
    "threads kept apart": ({}, lambda: nullcontext(2)),
    "not kept apart": ({"pin": False}, lambda: nullcontext(2)),
    "of two threads a run": ({"per_run": 2}, lambda: nullcontext(2)),
    "processes": ({}, processes),
    "a plain loop": ({}, lambda: nullcontext(1)),
}


@contextmanager
def all_runs(task: str, way: str) -> Iterator[Callable[[], Results]]:
    """A function that makes the runs, in a pool that has made some already."""
    function, case = TASKS[task]
    threads, pool = WAYS[way]
    with pool() as workers, fastrev.threads(**threads), fan_out(function, case(), workers) as each:
        each(RUNS)
        yield lambda: each(RUNS)
