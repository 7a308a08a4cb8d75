"""A checked problem serves again: nothing of it is checked twice, and what changed in it meanwhile is found."""

from __future__ import annotations

import numpy as np
import pytest

import fastrev
from fastrev._engine import arguments, lines, mlp_objective, problem, sgd
from fastrev.runs import Run
from tests.cases import digits_like


def parts():
    case = digits_like()
    given = {name: case.arguments.get(name) for name in ("train", "batch_size", "batches", "example_weights")}
    trained = mlp_objective.prepare(case.model, **given, seed=0, l2=0.0)
    return case, trained


def run_of(case, trained, lr, seed=0):
    rule = sgd.prepare(lr, 0.9, case.model.network.bounds)
    run = Run(problem.assemble(trained.with_batches(8, seed), rule, 20, case.w0, None))
    run._advance(progress=False)
    return run


def test_runs_of_one_objective_are_those_of_its_arguments(monkeypatch):
    case, trained = parts()
    checked = []
    real_array = arguments.real_array
    monkeypatch.setattr(
        arguments, "real_array", lambda name, *a, **k: (checked.append(name), real_array(name, *a, **k))[1]
    )
    for seed, lr in enumerate((0.1, 0.2, 0.3)):
        run = run_of(case, trained, lr, seed)
        grad = run.pullback(np.ones(case.model.num_params))
        assert set(checked) <= {"lr", "decay", "w_bar", "v_bar"}
        expected = case.train(lr=lr, seed=seed).pullback(np.ones(case.model.num_params))
        assert np.array_equal(grad.w0, expected.w0)
        checked.clear()


def test_another_penalty_is_the_same_objective_otherwise():
    case, trained = parts()
    run = run_of(case, trained.with_penalty(np.full(case.model.num_params, 0.1)), 0.3)
    grad = run.pullback(np.ones(case.model.num_params))
    expected = case.train(l2=np.full(case.model.num_params, 0.1)).pullback(np.ones(case.model.num_params))
    assert np.array_equal(grad.l2, expected.l2)
    with pytest.raises(fastrev.ArgumentError, match="'l2'"):
        trained.with_penalty([1.0, 2.0])


def test_a_change_since_the_check_is_found_by_every_run():
    case, trained = parts()
    before, after = run_of(case, trained, 0.1), None
    case.arguments["train"][0][:] *= 2
    after = run_of(case, trained, 0.1)
    for run in (before, after):
        with pytest.raises(fastrev.ReversalError, match=r"'train\[0\]' changed in place"):
            run.pullback(run.w)


def test_parts_must_agree_on_the_number_of_steps():
    case, trained = parts()
    with pytest.raises(fastrev.ArgumentError, match=r"'lr' must have 20 steps"):
        run_of(case, trained, np.full(19, 0.1))


@pytest.mark.parametrize("shape", [(0,), (511,), (512,), (2, 1001), (3, 5, 700)])
@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_large_arrays_begin_with_a_line_of_the_cache(shape, dtype):
    found = lines.empty(shape, dtype)
    assert (found.shape, found.dtype, found.flags.c_contiguous, found.flags.aligned) == (shape, dtype, True, True)
    assert found.nbytes < 2**12 or found.ctypes.data % 64 == 0


def test_a_state_begins_so_and_shares_nothing():
    model, train = fastrev.MLP((4, 100, 3)), digits_like().arguments["train"]
    trained = mlp_objective.prepare(
        model, train=train, batch_size=8, seed=0, batches=None, l2=0.0, example_weights=None
    )
    start = problem.assemble(trained, sgd.prepare(0.1, 0.9, model.network.bounds), 20, model.init(0), None)
    one, other = start.start(), start.start()
    assert not any(
        np.shares_memory(*pair) for pair in zip((*one, start.w0), (*other, one.w), strict=True) if pair[0].size
    )
    assert all(each.nbytes >= 2**12 and each.ctypes.data % 64 == 0 for each in (one.w, one.moments, one.heads))
