"""Scratch is lent to one at a time, and no result depends on what is in it."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

import fastrev
from fastrev._durable.checkpoints import Keeper
from fastrev._engine import lending
from tests.cases import digits_like, random_case


def arrays_of(part):
    if isinstance(part, np.ndarray):
        return [part]
    return [array for each in part for array in arrays_of(each)] if isinstance(part, tuple) else []


def free():
    return [array for each in lending._here.free.values() for array in arrays_of(each)]


@pytest.fixture(autouse=True)
def _nothing_lent():
    lending._here.free.clear()


@pytest.mark.parametrize("seed", range(6))
def test_no_bit_depends_on_what_was_left_in_it(seed):
    case = random_case(seed)
    first = case.meta_grad()
    for rubbish in (np.nan, np.inf, -1.0):
        given_back = free()
        assert given_back
        for array in given_back:
            if array.dtype.kind == "f" and array.tolist() != [1.0]:  # the array of a 1
                array.fill(rubbish)
        assert case.meta_grad() == first


def test_nor_does_any_by_adam():
    case = digits_like(3, lr=None, decay=None, optimizer=fastrev.Adam(0.01, weight_decay=0.1))
    first, given_back = case.meta_grad(wrt=None), free()
    assert given_back
    for array in given_back:
        if array.dtype.kind == "f" and array.tolist() != [1.0]:
            array.fill(np.nan)
    assert case.meta_grad(wrt=None) == first


def test_who_is_not_done_shares_nothing():
    case = random_case(1)
    case.meta_grad()
    runs = [case.train() for _ in range(3)]
    held = [array for run in runs for array in arrays_of(run._walk._held)]
    assert not {id(array) for array in free()} & {id(array) for array in held}
    assert len({id(array) for array in held}) == len(held)
    w_bar = np.ones(case.model.num_params)
    first, *others = [run.pullback(w_bar) for run in runs]
    assert all(each == first for each in others)
    assert all(run._walk._held is None for run in runs)


def test_an_error_keeps_it(monkeypatch):
    case = random_case(1)
    run = case.train()
    monkeypatch.setattr(run._walk, "_undo_with", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run.pullback(np.ones(case.model.num_params))
    assert not free()
    monkeypatch.undo()
    run.rewind()
    assert run.stats.exact


def test_a_run_that_was_taken_back_may_work_again(tmp_path, monkeypatch):
    case, path = digits_like(6), tmp_path / "run.npz"
    w_bar = np.ones(case.model.num_params)
    monkeypatch.setattr(Keeper, "end", lambda *_: None)
    run = case.train()
    expected = run.pullback(w_bar, checkpoint=path, every=2)  # of which the file is in the midst
    assert run._walk._held is None
    case.meta_grad(wrt=None)
    assert run.pullback(w_bar, checkpoint=path, every=2) == expected


def test_as_many_are_kept_as_are_asked_for():
    for number in range(3 * lending._MOST):
        lending.give_back(number, (number,))
    assert list(lending._here.free) == list(range(2 * lending._MOST, 3 * lending._MOST))
    assert lending.lent(0, lambda: "made") == "made"
    assert lending.lent(2 * lending._MOST, lambda: "made") == (2 * lending._MOST,)
    assert lending.lent(2 * lending._MOST, lambda: "made") == "made"


@pytest.mark.parametrize(("sizes", "examples"), [((300, 200, 3), 40), ((2, 3), 20_000)])
def test_of_large_problems_nothing_is_kept(sizes, examples):
    model, X = fastrev.MLP(sizes), np.random.default_rng(0).random((examples, sizes[0]))
    data = X, np.arange(examples) % 3
    with fastrev.threads(per_run=1):
        fastrev.meta_grad(model, model.init(0), train=data, valid=data, lr=0.1, decay=0.9, steps=2)
    assert not free()


def test_each_thread_has_its_own():
    case, found = random_case(2), []
    case.meta_grad()
    own = {id(array) for array in free()}

    def other():
        found.append(case.meta_grad())
        found.append({id(array) for array in free()})

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found[0] == case.meta_grad()
    assert found[1]
    assert not own & found[1]


def test_copies_share_nothing_that_is_lent():
    """Not even two that were unpickled from the same memory, where a pickle leaves its arrays out of band."""
    case, out_of_band, found = random_case(1), [], []
    pickled = pickle.dumps(case.train(), protocol=5, buffer_callback=out_of_band.append)
    memory = [bytearray(each.raw()) for each in out_of_band]
    for _ in range(2):
        lending._here.free.clear()
        pickle.loads(pickled, buffers=memory).rewind()
        found.append(free())
    assert all(found)
    assert not any(np.shares_memory(one, other) for one in found[0] for other in found[1])
