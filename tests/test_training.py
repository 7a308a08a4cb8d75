"""Training and its reversal: exact, checked, and whole at every moment."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrev
from fastrev import testing
from fastrev._engine.compiled_walk import CompiledWalkBack as WalkBack
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.sgd import SGDRule
from fastrev.kernels import mlp_gradient
from fastrev.kernels.rules import BY_MOMENTUM
from fastrev.runs import Run
from tests import naive
from tests.cases import WRT, digits_like, random_case, relative_error


@settings(max_examples=60, deadline=None)
@given(testing.models(), st.data())
def test_whole_trainings_reverse_exactly(model, data):
    testing.assert_reversible(model, model.init(seed=0, scale=0.5), **data.draw(testing.trainings(model)))


def test_training_is_sgd_with_momentum():
    case = random_case(9)
    a = case.arguments
    w, v = naive.final_state(
        case.w0, a["v0"], a["lr"], naive.snap(a["decay"]), a["l2"], *a["train"], a["example_weights"],
        batches=a["batches"], sizes=case.model.sizes, activation=case.model.activation, loss=case.model.loss,
    )  # fmt: skip
    run = case.train()
    assert relative_error(run.w, w) < 1e-12
    assert relative_error(run.v, v) < 1e-12


def test_pullback_of_any_loss():
    import autograd

    case = random_case(14)
    a = case.arguments
    rng = np.random.default_rng(0)
    w_bar, v_bar = rng.standard_normal((2, case.model.num_params))

    def inner_product(w0):
        w, v = naive.final_state(
            w0, a["v0"], a["lr"], naive.snap(a["decay"]), a["l2"], *a["train"], a["example_weights"],
            batches=a["batches"], sizes=case.model.sizes, activation=case.model.activation, loss=case.model.loss,
        )  # fmt: skip
        return (w_bar * w).sum() + (v_bar * v).sum()

    grad = case.train().pullback(w_bar, v_bar, wrt=("w0",))
    assert relative_error(grad.w0, autograd.grad(inner_product)(case.w0)) < 1e-9


def test_stats_tell_the_information_stored():
    case = digits_like(steps=3000)
    run = case.train()
    assert run.stats.steps == 3000
    assert run.stats.bits_per_parameter_step == pytest.approx(np.log2(10 / 9), rel=1e-4)
    run.pullback(run.w)
    assert run.stats.exact
    assert run.stats.stored_bits == pytest.approx(3000 * case.model.num_params * np.log2(10 / 9), rel=1e-4)


def arrays_of(thing: Any, found: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Every array that an object of ours leads to, once; not those of its arguments."""
    if isinstance(thing, np.ndarray):
        found[id(thing)] = thing
    elif isinstance(thing, tuple):
        for part in thing:
            arrays_of(part, found)
    elif not isinstance(thing, MLPObjective | SGDRule) and hasattr(thing, "__dict__"):
        for part in vars(thing).values():
            arrays_of(part, found)
    return found


@pytest.mark.parametrize("per_run", [1, 2])
@pytest.mark.parametrize("seed", [3, 7, 8])
def test_bytes_held_are_those_of_every_array(monkeypatch, seed, per_run):
    case = random_case(seed, examples=300, batch=280)
    made = []
    monkeypatch.setattr(WalkBack, "compile_pull", lambda back: made.append(back))
    run = case.train()
    run._problem = dataclasses.replace(
        run._problem, moments=run._problem.w0[np.newaxis].copy()
    )  # so that the start has a velocity
    held = sum(array.nbytes for array in arrays_of(run, {}).values())
    assert run.stats.bytes_held == held
    with fastrev.threads(per_run=per_run), pytest.raises(fastrev.ReversalError):  # of another start
        run.pullback(case.w0, wrt=WRT)
    more: dict[int, np.ndarray] = {}
    for name, part in vars(made[0]).items():
        if name != "_walk":
            arrays_of(part, more)
    assert run.stats.bytes_held == held + sum(array.nbytes for array in more.values())


def test_a_hundred_thousand_steps():
    model = fastrev.MLP((2, 2))
    rng = np.random.default_rng(0)
    train = rng.standard_normal((8, 2)), rng.integers(2, size=8)
    run = fastrev.train(model, model.init(0), train=train, lr=0.01, decay=0.97, steps=100_000)
    bits = np.log2(1 / 0.97)
    assert run.stats.bits_per_parameter_step == pytest.approx(bits, rel=1e-4)
    run.rewind()
    assert run.stats.exact


@pytest.mark.parametrize("name", ["w", "moments", "heads", "tail"])
@pytest.mark.parametrize("bit", [0, 7, 14])
@pytest.mark.parametrize("undo", ["rewind", "pullback"])
def test_one_wrong_bit_is_an_error(name, bit, undo):
    case = digits_like(steps=400)
    run = case.train()
    array = getattr(run._state, name).reshape(-1)
    position = int(run._state.cursor[1]) - 1 if name == "tail" else 3
    array[position] ^= array.dtype.type(1 << bit)
    with pytest.raises(fastrev.ReversalError, match="did not arrive at the start of the run"):
        run.rewind() if undo == "rewind" else run.pullback(run.w)
    assert not run.stats.exact


@pytest.mark.parametrize("bit", [31, 47, 62, 63])
@pytest.mark.parametrize("name", ["w", "moments", "heads"])
def test_one_wrong_high_bit_is_an_error(name, bit):
    run = digits_like(steps=100).train()
    getattr(run._state, name).reshape(-1)[5] ^= np.int64(-(2**63)) if bit == 63 else np.int64(1 << bit)
    with pytest.raises(fastrev.ReversalError):
        run.rewind()


def test_missing_information_is_an_error():
    run = digits_like(steps=400).train()
    run._state.cursor[1] -= 20
    with pytest.raises(fastrev.ReversalError):
        run.rewind()


def test_data_changed_between_the_passes_is_an_error():
    case = digits_like()
    run = case.train()
    case.arguments["train"][0][:] += 1e-9
    with pytest.raises(
        fastrev.ReversalError,
        match=r"'train\[0\]' changed in place after the training began\. Leave such an array alone",
    ):
        run.pullback(run.w)


def test_a_run_that_went_astray_is_lost():
    run = digits_like(steps=400).train()
    run._state.heads[0, 3] ^= 1
    with pytest.raises(fastrev.ReversalError, match="Memory failed, or the gradient was not reproduced"):
        run.rewind()
    for again in (run.rewind, lambda: run.pullback(run.w)):
        with pytest.raises(fastrev.ReversalError, match="It is lost: train again"):
            again()


def test_a_run_is_consumed():
    run = digits_like().train()
    w, v = run.w, run.v
    run.pullback(run.w)
    assert np.array_equal(run.w, w)  # what it arrived at stays known
    assert np.array_equal(run.v, v)
    for again in (run.rewind, lambda: run.pullback(run.w)):
        with pytest.raises(fastrev.ReversalError, match="Train again"):
            again()


def test_what_a_run_arrived_at_is_given_as_copies():
    run = digits_like().train()
    w, v = run.w, run.v
    run.rewind()
    for _ in range(2):
        assert np.array_equal(run.w, w)
        assert np.array_equal(run.v, v)
        run.w[:], run.v[:] = 0, 0


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))])
def test_copies_of_a_run_are_runs_of_their_own(make_copy):
    run = digits_like().train()
    other = make_copy(run)
    found, expected = (each.pullback(np.ones(43), wrt=WRT) for each in (other, run))
    assert run.stats.exact
    assert other.stats.exact
    assert all(np.array_equal(getattr(found, name), getattr(expected, name)) for name in WRT)


@pytest.mark.parametrize("method", ["pullback", "rewind"])
@pytest.mark.parametrize("per_run", [1, 2])
def test_a_call_from_within_another_is_refused(monkeypatch, method, per_run):
    """As a signal's handler could make it."""
    run = digits_like(steps=50).train()
    expected = copy.deepcopy(run).pullback(np.ones(43))
    refused = []
    undo = WalkBack.undo

    def handler(*arguments):
        with pytest.raises(fastrev.ReversalError, match=f"Run.{method} was called while another call is at work"):
            run.rewind() if method == "rewind" else run.pullback(np.ones(43))
        refused.append(True)
        return undo(*arguments)

    monkeypatch.setattr(WalkBack, "undo", handler)
    with fastrev.threads(per_run=per_run):
        found = run.pullback(np.ones(43))
    assert refused
    assert np.array_equal(found.w0, expected.w0)


def test_of_calls_at_once_one_is_made():
    run = digits_like(steps=20_000, lr=0.01).train()
    expected = copy.deepcopy(run).pullback(np.ones(43)).w0
    results, start = [], threading.Barrier(8)

    def take_back(method):
        start.wait()
        try:
            results.append(method())
        except fastrev.ReversalError as error:
            results.append(error)

    methods = [lambda: run.pullback(np.ones(43)).w0, run.rewind] * 4
    threads = [threading.Thread(target=take_back, args=(method,)) for method in methods]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = [each for each in results if not isinstance(each, fastrev.ReversalError)]
    assert len(results) == 8
    assert len(made) == 1
    assert made[0] is None or np.array_equal(made[0], expected)
    assert run.stats.exact


def test_the_form_of_the_input_changes_no_bit():
    case = digits_like(train=None, valid=None, batch_size=None, batches=np.arange(60).reshape(6, 10) % 40, steps=None)
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 3, (40, 4)).astype(np.float64), rng.integers(0, 3, 40)

    def result(x, y, w0=case.w0, **changes):
        case.w0 = w0
        return case.meta_grad(train=(x, y), valid=(x, y), **changes)

    plain = result(x, y)
    read_only = x.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.float64, offset=1).reshape(x.shape)
    assert not unaligned.flags.aligned
    forms = [np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], read_only, unaligned, x.astype(np.int8), x.tolist()]
    for form in (*forms, x.astype(np.float32), x[::-1][::-1], x.astype(">f8")):
        other = result(form, y)
        assert other.loss == plain.loss
        assert all(np.array_equal(getattr(other.grad, name), getattr(plain.grad, name)) for name in ("lr", "w0", "x"))
    assert result(x, y.astype(np.uint8), batches=case.arguments["batches"].astype(np.int16)).loss == plain.loss


def test_other_sizes_compile_nothing():
    for dtype in (np.float64, np.float32):
        digits_like(dtype=dtype).meta_grad()
    compiled = [BY_MOMENTUM.make, BY_MOMENTUM.undo, BY_MOMENTUM.pull, mlp_gradient.mean_loss_and_gradient]
    before = [len(kernel.signatures) for kernel in compiled]
    for seed in range(12):
        random_case(seed).meta_grad()
        random_case(seed, examples=20, batch=None, dtype=np.float32).meta_grad()
    assert [len(kernel.signatures) for kernel in compiled] == before == [2, 2, 2, 2]  # float64 and float32


@pytest.mark.parametrize("steps", [1, 3, 400])
def test_an_error_beside_the_undo_is_raised_and_the_run_stays_whole(monkeypatch, steps):
    def fail(*arguments):
        raise MemoryError("no room for the other half")

    run = digits_like(steps=steps).train()
    monkeypatch.setattr(WalkBack, "pull", fail)
    with pytest.raises(MemoryError, match="no room for the other half"):
        run.pullback(run.w)
    assert not run.stats.exact
    with pytest.raises(fastrev.ReversalError, match="derivatives begin at the end"):
        run.pullback(run.w)
    run.rewind()
    assert run.stats.exact


def test_equal_groups_are_stepped_together_with_the_same_bits():
    together = digits_like(steps=50).train(lr=np.full((50, 4), 0.3), decay=0.5)
    problem = together._problem
    rule = problem.rule.tables
    each = dataclasses.replace(problem.rule, tables=rule._replace(spans=rule.groups, leaders=np.arange(4)))
    apart = Run(dataclasses.replace(problem, rule=each, imprints={}))
    apart._advance(progress=False)
    top = int(together._state.cursor[1])
    assert top > 0
    assert np.array_equal(together._state.tail[:top], apart._state.tail[:top])
    for name in ("w", "moments", "heads", "cursor"):
        assert np.array_equal(getattr(together._state, name), getattr(apart._state, name))
    apart.rewind()
    assert apart.stats.exact


@pytest.mark.parametrize(("lr", "leaders"), [
    (0.1, [0]),
    ([[0.1, 0.1, 0.2, 0.2]], [0, 2]),
    ([[0.1, 0.2, 0.1, 0.1]], [0, 1, 2]),
    (np.outer([0.1, 0.2], [1, 1, 1, 2]), [0, 3]),
])  # fmt: skip
def test_spans_of_equal_groups(lr, leaders):
    case = digits_like(steps=2)
    run = case.train(lr=lr)
    assert run._problem.rule.tables.leaders.tolist() == leaders
    assert run._problem.rule.tables.spans[-1] == case.model.num_params


def steep(dtype=np.float64, scale=100.0, **changes):
    """Training that diverges."""
    model = fastrev.MLP((3, 4, 2), "identity", "squared_error", dtype)
    rng = np.random.default_rng(0)
    x = (scale * rng.standard_normal((20, 3))).astype(dtype)
    arguments = {"train": (x, rng.standard_normal((20, 2))), "lr": 0.5, "decay": 0.9, "steps": 100} | changes
    return model, model.init(0), arguments


def test_a_step_off_the_grid_is_refused():
    model, w0, arguments = steep()
    message = r"Step \d+ of 100 .*leave the grid.*group '[Wb][12]'.*lr = 0.5"
    with pytest.raises(fastrev.DivergenceError, match=message) as info:
        fastrev.train(model, w0, **arguments)
    error = info.value
    assert error.group in model.groups
    assert error.run.stats.steps == error.step > 0
    assert np.abs(error.run.w).max() < 2048
    error.run.rewind()
    assert error.run.stats.exact


@pytest.mark.filterwarnings("ignore:The meta-gradient:fastrev.ChaosWarning")  # it explodes before it is refused
def test_a_refused_run_can_be_differentiated():
    model, w0, arguments = steep()
    with pytest.raises(fastrev.DivergenceError) as info:
        fastrev.train(model, w0, **arguments)
    steps = info.value.step
    same = fastrev.train(model, w0, **(arguments | {"steps": steps}))
    assert np.array_equal(info.value.run.w, same.w)
    assert np.array_equal(info.value.run.pullback(w0).w0, same.pullback(w0).w0)


def test_a_gradient_that_is_not_finite_is_refused():
    model, w0, arguments = steep(np.float32, 1e25)
    message = "Step 0 of 100 was refused: the gradient holds NaN or infinite"
    with pytest.raises(fastrev.DivergenceError, match=message) as info:
        fastrev.train(model, w0, **arguments)
    info.value.run.rewind()


def test_a_validation_loss_that_is_not_finite_is_refused():
    model, w0, arguments = steep(np.float32, 1.0, lr=1e-3)
    valid = np.full((1, 3), 1e30), np.zeros((1, 2))
    with pytest.raises(fastrev.DivergenceError, match=r"validation loss after training .* gradient is not finite"):
        fastrev.meta_grad(model, w0, valid=valid, **arguments)


def test_progress_is_shown(capsys):
    digits_like().meta_grad(progress=True)
    printed = capsys.readouterr().err
    assert "training: 100%" in printed
    assert "reversing: 100%" in printed


def test_golden_trajectory():
    """Training is IEEE arithmetic with every fma written out: the same integers on every machine."""
    run = digits_like(steps=50).train()
    assert run._state.w[:3].tolist() == [-0x14EB102B9BB40, -0x24527DD3AC78D, 0x5A5FDEA6A225D]
    assert run._state.moments[0, -2:].tolist() == [-0x1068B2CCD74B, -0x761969561D7]
    run.rewind()
