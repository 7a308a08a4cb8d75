"""Errors travel between processes whole."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

import fastrev
from tests.cases import digits_like


def diverge() -> None:
    case = digits_like(lr=1e9)
    case.train()


def interrupt() -> None:
    raise fastrev.TrainingInterrupt(digits_like().train())


def refuse() -> None:
    fastrev.MLP((0, 1))


def test_a_refused_step_survives_pickling():
    with pytest.raises(fastrev.DivergenceError) as caught:
        diverge()
    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is fastrev.DivergenceError
    assert str(error) == str(caught.value)
    assert (error.step, error.group) == (caught.value.step, caught.value.group)
    assert np.array_equal(error.run.w, caught.value.run.w)
    error.run.rewind()
    assert error.run.stats.exact


def test_an_interrupted_run_survives_pickling():
    error = fastrev.TrainingInterrupt(digits_like().train())
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is fastrev.TrainingInterrupt
    assert str(copy) == str(error) == "interrupted after 20 steps"
    copy.run.pullback(copy.run.w)
    assert copy.run.stats.exact


@pytest.mark.parametrize(("function", "error"), [
    (diverge, fastrev.DivergenceError),
    (interrupt, fastrev.TrainingInterrupt),
    (refuse, fastrev.ArgumentError),
])  # fmt: skip
def test_a_process_pool_hands_errors_on(function, error):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, pytest.raises(error):
        pool.submit(function).result(timeout=120)


@pytest.mark.parametrize("kind", [fastrev.ReversalError, fastrev.MissingExtraError, fastrev.ArgumentError])
def test_errors_of_one_message_survive_pickling(kind):
    copy = pickle.loads(pickle.dumps(kind("why")))
    assert type(copy) is kind
    assert str(copy) == "why"
