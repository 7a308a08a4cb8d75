"""The proof of every run: whatever a run depends on is its own, or a change of it between the passes is an error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrev
from fastrev._engine.mlp_objective import MLPObjective
from fastrev.kernels.checksums import append, checksum, remove
from tests import naive
from tests.cases import WRT, Case, digits_like, random_case

EVERYTHING = ("lr", "decay", "l2", "x", "y", "example_weights", "batches", "w0", "v0")


def caller_arrays(case: Case) -> dict[str, np.ndarray]:
    """The arrays of a case that a caller may still write to, all of the dtype that the kernels take as it is."""
    a = case.arguments
    a["train"] = tuple(np.ascontiguousarray(part, case.model.dtype) for part in a["train"])
    for name in ("lr", "decay", "l2"):
        a[name] = np.array(a[name], np.float64)
    a["example_weights"] = np.array(a["example_weights"], case.model.dtype)
    a["v0"], case.w0 = np.array(a["v0"]), np.array(case.w0)
    owned = {name: a[name] for name in ("lr", "decay", "l2", "example_weights", "batches", "v0")}
    return owned | {"x": a["train"][0], "y": a["train"][1], "w0": case.w0}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", [4, 9])
@pytest.mark.parametrize("name", EVERYTHING)
def test_a_change_of_the_callers_arrays_is_harmless_or_an_error(name: str, seed: int, dtype: type) -> None:
    case = random_case(seed, dtype=dtype)
    array = caller_arrays(case)[name]
    expected = case.train().pullback(np.ones(case.model.num_params), wrt=WRT)
    run = case.train()
    array[...] = array * 2 + 1
    if name in ("x", "y"):  # large, so not copied
        with pytest.raises(fastrev.ReversalError, match=rf"'train\[{'xy'.index(name)}\]' changed in place"):
            run.pullback(np.ones(case.model.num_params), wrt=WRT)
        return
    found = run.pullback(np.ones(case.model.num_params), wrt=WRT)
    assert all(np.array_equal(getattr(found, each), getattr(expected, each)) for each in WRT)


@pytest.mark.parametrize("rows", [10**9, -1, -(10**12)])
def test_wild_row_indices_written_between_the_passes_do_not_reach_the_kernels(rows: int) -> None:
    batches = fastrev.minibatches(40, 8, 20)
    run = digits_like(batch_size=None, batches=batches, steps=None).train()
    batches[:] = rows
    run.rewind()
    assert run.stats.exact


def test_the_gradient_is_proved_at_decay_1_too() -> None:
    """There it does not enter the state: only its checksum tells."""
    case = digits_like(decay=1.0, v0=np.full(43, 0.01))
    run = case.train()
    run._problem = dataclasses.replace(run._problem, imprints={})  # so that only the gradient speaks
    case.arguments["train"][0][3, 2] += 1e-12
    with pytest.raises(fastrev.ReversalError, match="some gradient was not reproduced bit for bit"):
        run.pullback(run.w)


def without_effect(name: str) -> Case:
    """A run whose trajectory stands still, whatever the quantity of that name is."""
    model = fastrev.MLP((4, 3), loss="squared_error")
    x = np.random.default_rng(0).random((20, 4))
    arguments: dict[str, Any] = {"train": (x, np.zeros((20, 3))), "decay": 0.9, "steps": 10, "lr": np.array(0.1)}
    arguments |= {"l2": np.array(0.1), "example_weights": np.ones(20)}
    return Case(model, np.zeros(model.num_params), arguments | {"batches": None})


@pytest.mark.parametrize("name", ["lr", "l2", "example_weights", "x"])
def test_a_change_without_any_effect_on_the_state_is_harmless_or_an_error(name: str) -> None:
    """At a minimum that is reached, of weights 0, each of them may change and no gradient does; derivatives do."""
    case = without_effect(name)
    expected = case.train().pullback(np.ones(15), wrt=WRT)
    run = case.train()
    array = case.arguments["train"][0] if name == "x" else case.arguments[name]
    array *= 2
    if name == "x":
        with pytest.raises(fastrev.ReversalError, match=r"'train\[0\]' changed in place"):
            run.pullback(np.ones(15), wrt=WRT)
        return
    found = run.pullback(np.ones(15), wrt=WRT)
    assert all(np.array_equal(getattr(found, each), getattr(expected, each)) for each in WRT)


def held(run: fastrev.Run) -> dict[str, np.ndarray]:
    """Every array that a run holds between its passes and that its results depend on."""
    problem, walk, state = run._problem, run._walk, run._state
    trained: Any = problem.trained
    found = {f"rule.{name}": each for name, each in problem.rule.tables._asdict().items()}
    found |= state._asdict() | {"tail": state.tail[: state.cursor[1]], "w0": problem.w0, "v0": problem.moments}
    if isinstance(trained, MLPObjective):
        network, data = trained.model.network, trained.data
        found |= {"x": data.x, "y": data.y, "weights": data.weights, "l2": trained.l2, "batches": trained.batches.table}
        found |= {"sizes": network.sizes, "bounds": network.bounds, "one": walk._works[0].one}
    else:
        found |= {"made": walk._made[: state.cursor[0]], "bounds": trained.bounds}
    return {name: array for name, array in found.items() if isinstance(array, np.ndarray) and array.size}


def flip(array: np.ndarray, position: int, bit: int) -> None:
    """One bit, which is as it was when this is done once more."""
    flat = array.reshape(-1).view(f"u{array.itemsize}")
    flat[position % flat.size] ^= flat.dtype.type(1 << (bit % (8 * array.itemsize)))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_any_flipped_bit_of_what_a_run_holds_is_an_error(seed: int, data: st.DataObject) -> None:
    case = random_case(seed)
    try:
        run = case.train()
    except fastrev.DivergenceError:
        return
    arrays = held(run)
    name = data.draw(st.sampled_from(sorted(arrays)))
    flip(arrays[name], data.draw(st.integers(0, 10**6)), data.draw(st.integers(0, 63)))
    with pytest.raises(fastrev.ReversalError):
        run.pullback(np.ones(case.model.num_params), wrt=WRT)


def test_targets_changed_while_they_are_checked_are_found() -> None:
    """What is known of them, that they sum to one, is no longer so when the checksums are taken."""
    case = digits_like()
    y = np.eye(3)[case.arguments["train"][1]]

    class Batches:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            y[:] *= 2
            return fastrev.minibatches(40, 8, 20)

    run = case.train(train=(case.arguments["train"][0], y), batches=Batches(), batch_size=None, steps=None)
    with pytest.raises(fastrev.ReversalError, match=r"'train\[1\]' changed in place"):
        run.pullback(run.w)


@pytest.mark.parametrize(
    ("name", "position", "told"),
    [
        ("batches", 0, "batches changed"),
        ("sizes", 1, "model changed"),
        ("bounds", 1, "model changed"),
        ("rule.spans", 1, "lr or decay changed"),
        ("cursor", 0, r"4\d* of 20 steps are done"),
        ("cursor", 1, r"4\d* words lie on a tail of \d+"),
    ],
)
def test_what_leads_out_of_memory_is_refused_before_the_first_step(name: str, position: int, told: str) -> None:
    """Kernels do not check what they index with."""
    batches = fastrev.minibatches(40, 8, 20)
    run = digits_like(batch_size=None, batches=batches, steps=None).train()
    bit = 31 if name == "batches" else 62
    flip(held(run)[name], position, bit)
    for call in (lambda: run.pullback(run.w), run.rewind):
        with pytest.raises(fastrev.ReversalError, match=told):
            call()
    flip(held(run)[name] if name != "cursor" else run._state.cursor, position, bit)
    run.rewind()
    assert run.stats.exact


@pytest.mark.parametrize("name", ["sizes", "bounds"])
def test_a_damaged_model_is_found(name: str) -> None:
    run = digits_like().train()
    array = getattr(run._problem.trained.model.network, name)
    array[1] ^= 1
    assert run._problem.changed() == (["model", "lr or decay"] if name == "bounds" else ["model"])
    array[1] ^= 1
    run.rewind()


# ---- checksums -----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.floats(width=32)), st.sampled_from([np.float64, np.float32]))
def test_a_checksum_is_its_formula(values: list[float], dtype: type) -> None:
    array = np.array(values, dtype)
    assert checksum(array) == naive.checksum(array)


CHANGES: list[Callable[[np.ndarray], Any]] = [
    lambda a: a * 2,
    lambda a: -a,
    lambda a: a[::-1],
    lambda a: np.roll(a, 1),
    lambda a: a + 2.0**-52,
    lambda a: np.where(a == 0, -0.0, a),
    lambda a: a[:-1],
    lambda a: np.append(a, 0.0),
    lambda a: np.append(a, 0.0)[: a.size // 2 * 2 + 1],
    lambda a: a * (np.arange(a.size) != 7),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", [8, 4096, 2**16])
@pytest.mark.parametrize("kind", ["normal", "zeros and ones"])
def test_changes_in_a_pattern_are_seen(change: Callable[[np.ndarray], Any], size: int, kind: str) -> None:
    rng = np.random.default_rng(size)
    array = rng.standard_normal(size) if kind == "normal" else rng.integers(0, 2, size).astype(np.float64)
    array[7 % size] = 1.0
    changed = np.ascontiguousarray(change(array), np.float64)
    same = array.tobytes() == changed.tobytes()
    assert (checksum(changed) == checksum(array)) is same


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("columns", [2, 3, 10])
def test_rows_of_zeros_and_ones_exchanged_are_seen(columns: int, dtype: type) -> None:
    """Such elements have a half of zeros, so that without the fold the keys' regularity shows."""
    rng = np.random.default_rng(0)
    for rows in (np.eye(columns, dtype=dtype)[rng.integers(columns, size=60)], rng.integers(0, 2, (60, columns))):
        array = np.ascontiguousarray(rows, dtype)
        expected = checksum(array.ravel())
        for i in range(60):
            for j in range(i):
                changed = array.copy()
                changed[[i, j]] = changed[[j, i]]
                assert (checksum(changed.ravel()) == expected) is bool((array[i] == array[j]).all())


def test_every_single_bit_is_seen() -> None:
    array = np.random.default_rng(0).standard_normal(20)
    for position in range(20):
        for bit in range(64):
            changed = array.copy()
            flip(changed, position, bit)
            assert checksum(changed) != checksum(array)


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_a_running_checksum_is_taken_back(items: list[int]) -> None:
    running = [np.int64(0)]
    for item in items:
        running.append(append(running[-1], np.int64(item)))
    for i in reversed(range(len(items))):
        assert remove(running[i + 1], np.int64(items[i])) == running[i]


def test_a_running_checksum_tells_the_order() -> None:
    zero, a, b = np.int64(0), np.int64(5), np.int64(-7)
    assert append(append(zero, a), b) != append(append(zero, b), a)
