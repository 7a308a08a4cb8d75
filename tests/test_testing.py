"""The strategies stay within what is accepted, and the laws find what breaks them."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import fastrev
from fastrev import testing
from fastrev._engine import arguments, batches, hyperparameters
from tests.test_house import PACKAGE, run_python
from tests.test_objective import SETTINGS, W0, Plain, Quadratic


@settings(deadline=None, max_examples=50)
@given(st.data(), st.integers(1, 5), st.integers(1, 4))
def test_what_is_drawn_is_accepted(data, steps, groups):
    for name, values in (("lr", None), ("decay", testing.decays())):
        table = hyperparameters.by_step_and_group(name, data.draw(testing.schedules(steps, groups, values)), groups, "")
        assert table.steps in (None, steps)
        assert (hyperparameters.learning_rates if name == "lr" else hyperparameters.decays)(table)
    n, d = data.draw(testing.ratios())
    assert 1 <= n <= d <= 65536
    arguments.on_grid("x", data.draw(testing.grid_values((3, 2))))
    rows = data.draw(testing.batches(7, steps, largest=3))
    assert batches.GivenBatches(rows, 7).steps == steps
    assert rows.shape[1] <= 3


@settings(deadline=None, max_examples=50)
@given(st.data(), st.integers(1, 5), st.integers(1, 4))
def test_optimizers_are_accepted(data, steps, groups):
    rule = data.draw(testing.optimizers(steps, groups)).rule(np.arange(groups + 1)).over(steps)
    assert {count for _, count in rule.axes} <= {None, steps}


@pytest.mark.parametrize("kind", [fastrev.SGD, fastrev.Adam])
def test_every_optimizer_is_drawn(kind):
    drawn = testing.trainings(Quadratic(), steps=SETTINGS["steps"]).map(lambda given: given.get("optimizer"))
    quickly = settings(phases=[Phase.generate], database=None)
    find(drawn, lambda optimizer: isinstance(optimizer, kind), settings=quickly)
    find(drawn, lambda optimizer: optimizer is None, settings=quickly)


@settings(deadline=None, max_examples=20)
@given(testing.models(layers=2, units=3), st.data())
def test_models_are_of_the_size_asked_for(model, data):
    assert len(model.sizes) <= 3
    assert max(model.sizes) <= 3
    training = data.draw(testing.trainings(model, steps=2, examples=3))
    assert len(training["train"][0]) <= 3
    fastrev.train(model, model.init(), **training)


@settings(deadline=None, max_examples=20)
@given(testing.trainings(Quadratic(), steps=SETTINGS["steps"]))
def test_trainings_of_an_objective_are_reversible(training):
    assert training.keys() in ({"lr", "decay", "steps", "v0"}, {"optimizer", "steps", "v0"}, {"optimizer", "steps"})
    assert ("v0" in training) == isinstance(training.get("optimizer", fastrev.SGD(0, 1)), fastrev.SGD)
    testing.assert_reversible(Quadratic(), W0, **training)


def test_objectives_are_held_against_the_law():
    testing.assert_reversible(Quadratic(), W0, **SETTINGS)
    testing.assert_reversible(Plain(), W0, **(SETTINGS | {"lr": 1e4}))  # refused on its way


def test_a_gradient_that_is_no_function_is_found():
    calls = count()
    with pytest.raises(AssertionError, match="Two trainings with the same arguments end alike"):
        testing.assert_reversible(Quadratic(grad=lambda w, t: w + 1e-9 * next(calls)), W0, **SETTINGS)
    seen = []

    def second_time_differs(w, t):
        seen.append(t)
        return w + (len(seen) > 3 * SETTINGS["steps"])

    with pytest.raises(fastrev.ReversalError, match=r"model.grad\(w, 11\)"):
        testing.assert_reversible(Quadratic(grad=second_time_differs), W0, **SETTINGS)


def test_derivatives_that_do_not_come_again_are_found():
    calls = count()
    with pytest.raises(AssertionError):
        testing.assert_reversible(Quadratic(hvp=lambda w, u, t: u * next(calls)), W0, **SETTINGS)


def test_an_undo_that_is_none_is_found():
    x = {"x": 1.0}
    testing.assert_undone(lambda: x.update(x=2 * x["x"]), lambda: x.update(x=x["x"] / 2), x.copy)
    with pytest.raises(AssertionError, match="x"):
        testing.assert_undone(lambda: x.update(x=x["x"] / 3), lambda: x.update(x=x["x"] * 3.3), x.copy)
    with pytest.raises(AssertionError, match="y"):
        testing.assert_undone(lambda: None, lambda: x.update(y=1), x.copy)


@pytest.mark.parametrize(
    ("state", "expected", "message"),
    [
        ({"a": np.float32(1)}, {"a": np.float64(1)}, "a is float32, not float64"),
        ({"a": np.array([1, 2])}, {"a": np.array([1, 3])}, "a"),
        ({"a": 1}, {"b": 1}, r"There is \['a'\] where \['b'\] is expected"),
    ],
)
def test_states_that_differ(state, expected, message):
    with pytest.raises(AssertionError, match=message):
        testing.assert_same(state, expected)
    testing.assert_same(expected, expected)
    testing.assert_same({"a": np.nan}, {"a": np.nan})
    with pytest.raises(fastrev.ArgumentError, match=r"'state' must map names .* not a ndarray\. Return a dict"):
        testing.assert_undone(lambda: None, lambda: None, lambda: np.zeros(2))


def test_without_hypothesis_the_extra_is_named():
    script = """
import sys
class Without:
    def find_spec(name, path=None, target=None):
        if name == "hypothesis":
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Without)
try:
    import fastrev.testing
except ImportError as error:
    print(type(error).__name__, error)
"""
    out = run_python(script, PACKAGE.parent)
    assert "MissingExtraError" in out
    assert 'pip install "fastrev[hypothesis]"' in out
