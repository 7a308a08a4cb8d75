"""The outer loop by itself, on functions whose minimum is known: it goes down, comes back, and never ends above."""

from __future__ import annotations

import copy
import functools
import os
import pickle
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrev
from fastrev._tuning.loop import Descent, Plan
from fastrev._tuning.space import Space
from fastrev._tuning.transforms import Linear, Log
from fastrev._tuning.trials import Outcome
from fastrev.errors import ArgumentError, DivergenceError

METHODS = ("L-BFGS-B", "BFGS", "CG", "TNC", "SLSQP", "trust-constr")
TARGET = np.array([1.0, -2.0, 3.0])
STIFF = np.array([1.0, 4.0, 9.0])


def quadratic(values, seed):
    """Its minimum is 0.5, where x is TARGET."""
    away = values["x"] - TARGET
    return 0.5 + float(away @ (STIFF * away)), {"x": 2 * STIFF * away}


def noisy(values, seed):
    """The same, seen through the noise of a seed."""
    loss, gradients = quadratic(values, seed)
    noise = np.random.default_rng(seed).standard_normal(3)
    return loss + float(noise @ values["x"]), {"x": gradients["x"] + noise}


def minimize(fun=noisy, x0=None, **changes):
    arguments = {"runs": 3, "meta_steps": 8, "meta_lr": 0.2, "progress": False} | changes
    return fastrev.minimize(fun, {"x": np.zeros(3)} if x0 is None else x0, **arguments)


class Recorder:
    """A function that notes how it was called."""

    def __init__(self, fun=noisy):
        self.fun, self.calls = fun, []

    def __call__(self, values, seed):
        self.calls.append((copy.deepcopy(values), seed))
        return self.fun(values, seed)

    @property
    def seeds(self):
        return [seed for _, seed in self.calls]


def in_full(result):
    """Every bit of a result."""
    values = {name: np.asarray(value).tobytes() for name, value in result.x.items()}
    history = {name: each.tobytes() for name, each in result.history._asdict().items()}
    names = ("fun", "start_fun", "nit", "nfev", "refused", "diverged", "success", "message")
    return values, history, *(getattr(result, name) for name in names)


# ---- down ----------------------------------------------------------------------------------------------------


def test_it_finds_the_minimum():
    result = minimize(quadratic, runs=1, meta_steps=150)
    np.testing.assert_allclose(result.x["x"], TARGET, atol=1e-3)
    assert result.fun == quadratic(result.x, 0)[0] == pytest.approx(0.5, abs=1e-5)
    assert result.start_fun == quadratic({"x": np.zeros(3)}, 0)[0]
    assert result.success
    assert result.message == "All 150 meta-steps were made."
    assert result.nit == 150 == len(result.history.loss)
    assert result.history.loss[0] == result.start_fun


@pytest.mark.parametrize(
    ("named", "remedy"),
    [({}, "a lower meta_lr, more runs"), ({"method": "L-BFGS-B"}, "more runs")],
)
def test_where_the_start_is_best_the_result_says_so(named, remedy):
    """From the minimum every step goes up, and of a flat function none goes down."""
    learned = minimize(quadratic, meta_steps=5, **named)
    assert "Nothing was learned" not in learned.message
    flat = lambda values, seed: (1.0, {"x": np.ones(3)})
    for fun, x0 in ((quadratic, TARGET), (flat, np.zeros(3))):
        result = minimize(fun, {"x": x0}, meta_steps=5, **named)
        assert result.fun == result.start_fun == fun({"x": x0}, 0)[0]
        end = f" Nothing was learned: on the seeds compared the start was best. Try {remedy} or more meta_steps."
        assert result.message.endswith(end)


def test_it_finds_the_minimum_through_noise():
    result = minimize(noisy, runs=8, meta_steps=100)
    assert np.abs(result.x["x"] - TARGET).max() < 0.3
    assert result.fun < 0.1 * result.start_fun


def test_shapes_and_kinds_of_values():
    seen = []

    def fun(values, seed):
        seen.append({name: (type(value), np.shape(value)) for name, value in values.items()})
        return sum(np.sum((value - 1) ** 2) for value in values.values()), {
            name: 2 * (value - 1) for name, value in values.items()
        }

    x0 = {"number": 3, "row": [0.0, 2.0], "table": np.zeros((2, 3), np.float32), "none": np.zeros((0, 2))}
    result = fastrev.minimize(fun, x0, runs=1, meta_steps=60, meta_lr=0.2, progress=False)
    array = np.ndarray
    expected = {
        "number": (np.float64, ()), "row": (array, (2,)), "table": (array, (2, 3)), "none": (array, (0, 2))
    }  # fmt: skip
    assert all(each == expected for each in seen)
    assert {name: (type(value), np.shape(value)) for name, value in result.x.items()} == expected
    assert result.fun < 0.05
    assert x0["row"] == [0.0, 2.0]
    assert not x0["table"].any()
    assert "none: none, shape (0, 2)" in repr(result)


def test_it_moves_in_the_coordinates_asked_for():
    fun = lambda values, seed: (
        float((np.log(values["a"]) - 3) ** 2),
        {"a": 2 * (np.log(values["a"]) - 3) / values["a"]},
    )
    result = fastrev.minimize(fun, {"a": 1e-3}, transforms={"a": "log"}, runs=1, meta_lr=0.5, progress=False)
    assert np.log(result.x["a"]) == pytest.approx(3, abs=1e-2)
    bounded = fastrev.minimize(fun, {"a": 2.0}, transforms={"a": (1, 5)}, runs=1, meta_lr=0.5, progress=False)
    assert 4.9 < bounded.x["a"] < 5
    at_zero = fastrev.minimize(
        lambda values, seed: (values["a"] + 1, {"a": 1.0}), {"a": 2.0}, transforms={"a": "nonnegative"}, runs=1,
        meta_lr=0.5, progress=False,
    )  # fmt: skip
    assert at_zero.x["a"] == 0


# ---- seeds ---------------------------------------------------------------------------------------------------


def test_seeds_are_fresh_at_every_meta_step_and_the_same_for_its_trial():
    fun, loss = Recorder(), Recorder(lambda values, seed: noisy(values, seed)[0])
    result = minimize(fun, loss=loss, runs=3, meta_steps=4)
    steps = [fun.seeds[i : i + 3] for i in range(0, 12, 3)]
    assert len(fun.calls) == 12  # gradients are for the steps alone
    assert loss.seeds[:12] == fun.seeds
    judged = loss.seeds[12:]  # of which the end is chosen
    assert len(set(fun.seeds)) == len(fun.seeds)
    assert set(judged).isdisjoint(fun.seeds)
    assert judged.count(judged[-1]) > 1  # every candidate has the same
    assert all(type(seed) is int and seed >= 0 for seed in loss.seeds)
    assert result.nfev == len(fun.calls) + len(loss.calls)
    for values, group in zip([fun.calls[3 * i][0] for i in range(4)], steps, strict=True):
        mean = np.mean([noisy(values, seed)[0] for seed in group])
        assert mean in result.history.loss


def test_seeds_are_those_of_the_argument():
    first, again, other = (Recorder() for _ in range(3))
    results = [in_full(minimize(fun, seed=seed)) for fun, seed in ((first, 5), (again, 5), (other, 6))]
    assert first.seeds == again.seeds
    assert set(first.seeds).isdisjoint(other.seeds)
    assert results[0] == results[1] != results[2]


def test_gradients_are_averaged_and_the_longest_clipped_to_the_median():
    fun = Recorder()
    states = []
    result = minimize(fun, runs=5, meta_steps=1, callback=lambda state: states.append(state.current()["x"]))
    gradients = [noisy(values, seed)[1]["x"] for values, seed in fun.calls[:5]]
    norms = [np.sqrt(np.sum(each**2)) for each in gradients]
    median = np.median(norms)
    assert result.history.gradient_norm[0] == pytest.approx(median, rel=1e-14)
    mean = sum(each * min(1, median / norm) for each, norm in zip(gradients, norms, strict=True)) / 5
    np.testing.assert_allclose(states[0], -0.2 * mean / (np.abs(mean) + 1e-8), rtol=1e-12)


# ---- steps that are taken back -------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1.0, -1.0, 1e-6])
@pytest.mark.parametrize(("rise", "accepted"), [(0.0199, True), (0.0201, False), (np.nan, False), (np.inf, False)])
def test_a_step_that_raises_the_loss_by_more_than_two_percent_is_refused(level, rise, accepted):
    fun = lambda values, seed: (level + abs(level) * rise if values["x"] else level, {"x": 1.0})
    states = []
    result = minimize(fun, {"x": 0.0}, meta_steps=1, callback=states.append)
    assert result.history.accepted.tolist() == [accepted]
    assert result.refused == states[0].refused == (not accepted)
    assert states[0].current()["x"] == pytest.approx(-0.2 if accepted else 0, abs=1e-8)
    assert result.x["x"] == 0  # which is the lowest
    assert result.fun == level


def test_a_step_is_held_against_the_seeds_that_made_it():
    """Of which some are worth hundreds of times what the step is."""
    luck = lambda seed: 1.0 + 0.01 * (seed % 7)
    fun = lambda values, seed: (luck(seed) + 0.001 * abs(values["x"] - 9), {"x": -0.001})
    result = minimize(fun, {"x": 0.0}, runs=2, meta_steps=20)
    assert result.history.accepted.all()
    assert np.ptp(result.history.loss) > 0.01


def test_the_rate_is_halved_by_a_refusal_and_recovers_by_15_percent():
    """With gradients of the wrong sign, until steps are too small to matter, and larger again after them."""
    uphill = lambda values, seed: (float(values["x"] ** 2), {"x": -2 * values["x"]})
    states = []
    result = minimize(uphill, {"x": 10.0}, meta_steps=40, meta_lr=4.0, callback=states.append)
    accepted = result.history.accepted
    assert 3 < accepted.sum() < 37
    assert result.refused == (~accepted).sum()
    scale, rates = 1.0, []
    for i, taken in enumerate(accepted):
        rates.append(4.0 * scale * (0.5 + 0.5 * np.cos(np.pi * i / 40)))
        scale = min(1.0, 1.15 * scale) if taken else 0.5 * scale
    np.testing.assert_allclose(result.history.rate, rates, rtol=1e-14)
    positions = [10.0, *(state.current()["x"] for state in states)]
    for i, taken in enumerate(accepted):
        assert (positions[i] != positions[i + 1]) == taken
        assert positions[i + 1] ** 2 <= 1.02 * positions[i] ** 2
    assert result.x["x"] == 10.0
    assert result.fun == result.start_fun == 100


finite = st.floats(-3, 3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(finite, finite, finite), min_size=2, max_size=4), st.sampled_from([0.01, 0.3, 5.0]),
       st.sampled_from([0.0, 1.0, 30.0]), st.booleans())  # fmt: skip
def test_it_never_ends_above_its_start(waves, meta_lr, wildness, honest):
    """Whatever the landscape, the rate and the gradients."""

    def fun(values, seed):
        x = values["x"]
        loss = float(sum((x[0] - a) ** 2 + b * np.sin(wildness * x[1] + c) for a, b, c in waves))
        right = [sum(2 * (x[0] - a) for a, _, _ in waves),
                 sum(b * wildness * np.cos(wildness * x[1] + c) for _, b, c in waves)]  # fmt: skip
        wrong = np.random.default_rng(seed).standard_normal(2)
        return loss, {"x": np.array(right) if honest else wrong}

    result = minimize(fun, {"x": np.array([1.0, 2.0])}, meta_lr=meta_lr, meta_steps=6)
    start = fun({"x": np.array([1.0, 2.0])}, 0)[0]
    assert result.start_fun == pytest.approx(start, rel=1e-12)
    assert result.fun <= result.start_fun
    assert fun(result.x, 0)[0] <= start


# ---- runs that are lost --------------------------------------------------------------------------------------


def cliff(values, seed):
    """Down to a cliff at 2, behind which nothing ends."""
    if values["x"] > 2:
        raise DivergenceError("over the cliff", step=3, group="W1")
    return 10.0 - values["x"], {"x": -1.0}


def test_it_stops_before_a_cliff():
    result = minimize(cliff, {"x": 0.0}, meta_steps=60, meta_lr=0.5)
    assert 1.8 < result.x["x"] <= 2
    assert result.refused > 3
    assert result.fun == pytest.approx(10 - result.x["x"], rel=1e-14)
    assert result.diverged == 0  # trials are no meta-steps


FAILURES = {
    "diverges": lambda values: (_ for _ in ()).throw(DivergenceError("no", step=0, group="b1")),
    "is nan": lambda values: (np.nan, {"x": np.ones(3)}),
    "is inf": lambda values: (np.inf, {"x": np.ones(3)}),
    "is -inf": lambda values: (-np.inf, {"x": np.ones(3)}),
    "has a gradient of nan": lambda values: (1.0, {"x": np.array([1.0, np.nan, 1.0])}),
    "has a gradient of inf": lambda values: (1.0, {"x": np.array([1.0, np.inf, 1.0])}),
    "has a gradient too long": lambda values: (1.0, {"x": np.full(3, 1e200)}),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", FAILURES)
def test_runs_that_fail_now_and_then_are_survived(kind, seed):
    failure, fails = FAILURES[kind], lambda seed: seed % 5 == 0

    def fun(values, seed):
        if not fails(seed):
            return noisy(values, seed)
        return (quadratic(values, 0)[0], failure(values)[1]) if "gradient" in kind else failure(values)

    result = minimize(fun, runs=6, meta_steps=30, seed=seed)
    truly = lambda x: quadratic({"x": x}, 0)[0]
    assert truly(result.x["x"]) < 0.3 * truly(np.zeros(3))
    assert np.isfinite(result.fun)
    assert result.fun < result.start_fun
    assert result.diverged > 10
    assert np.isfinite(result.history.loss).all()


def test_a_start_that_always_fails_is_an_error():
    with pytest.raises(DivergenceError, match="No run of the first meta-step ended: over the cliff"):
        minimize(cliff, {"x": 3.0})
    with pytest.raises(DivergenceError, match=r"No run of the first meta-step ended: fun returned a loss of nan\."):
        minimize(lambda values, seed: (np.nan, {"x": 0.0}), {"x": 3.0})


def test_a_meta_step_of_which_no_run_ends_is_taken_back():
    """It goes on from the best so far, at half the rate."""
    calls, states = [], []

    def fun(values, seed):
        calls.append(seed)
        if 12 < len(calls) <= 15:  # those of the third meta-step
            raise DivergenceError("lost", step=0, group="W1")
        return noisy(values, seed)

    result = minimize(fun, meta_steps=6, callback=states.append)
    history = result.history
    assert history.loss[2] == np.inf
    assert np.isfinite(np.delete(history.loss, 2)).all()
    assert np.isnan(history.gradient_norm[2])
    assert (history.rate[2], history.accepted[2]) == (0, False)
    assert history.rate[3] == 0.2 * 0.5 * (0.5 + 0.5 * np.cos(np.pi * 3 / 6))
    assert (result.refused, result.diverged) == ((~history.accepted).sum(), 3)
    assert np.array_equal(states[2].current()["x"], states[1].values()["x"])
    assert result.fun < result.start_fun


def test_where_most_runs_explode_learning_rates_are_halved_instead():
    """And with them nothing else, if the loss does not rise by it."""
    space = Space({"lr": Log(), "other": Linear()}, {"lr": (2,), "other": ()})
    start = space.free({"lr": np.array([0.5, 0.0]), "other": np.array(3.0)})
    descent = Descent(space, start, Plan(9, 0.1, 4, 0, brake="lr"))
    exploding = 0

    def each(trials):
        gradients = {"lr": np.array([1.0, 0.0]), "other": np.array(0.0)}
        return [
            Outcome(1.0 + trial.values["lr"][0], gradients, 1e7 if i < exploding else 1.0)
            for i, trial in enumerate(trials)
        ]

    descent.each = each
    descent.step()
    before = space.values(descent.progress.z)
    assert before["lr"][0] < 0.5
    exploding = 3
    descent.step()
    after = space.values(descent.progress.z)
    assert after["lr"].tolist() == pytest.approx([before["lr"][0] / 2, 0], rel=1e-14)
    assert after["other"] == before["other"] == 3
    assert descent.progress.diverged == 3
    assert not descent.progress.moments.mean.any()
    assert descent.progress.history["accepted"] == [1.0, 1.0]
    assert descent.progress.history["rate"][1] == 0
    exploding = 2  # not most of them
    descent.step()
    assert space.values(descent.progress.z)["lr"][0] > 0.6 * after["lr"][0]
    assert descent.progress.diverged == 5


def test_runs_that_explode_have_no_say():
    """However few they are: their gradients are noise."""
    space = Space({"x": Linear()}, {"x": ()})
    ends = []
    for noise in (0.0, -1e300):
        descent = Descent(space, np.array([3.0]), Plan(9, 0.1, 4, 0))
        descent.each = lambda trials, noise=noise: [
            Outcome(1.0, {"x": np.array(noise if i == 0 else 1.0)}, 1e7 if i == 0 else 1.0) for i in range(len(trials))
        ]
        descent.step()
        ends.append(descent.progress.z[0])
        assert descent.progress.diverged == 1
    assert ends[0] == ends[1] < 3


def test_what_the_search_along_the_rates_has_found_is_not_lost():
    """Where no derivative is of use and halving the rates would raise the loss again."""
    space = Space({"lr": Log()}, {"lr": ()})
    descent = Descent(space, space.free({"lr": np.array(0.1)}), Plan(3, 0.1, 2, 0, brake="lr"))
    descent.each = lambda trials: [Outcome(abs(np.log(trial.values["lr"] / 0.8)) + 1.0, None) for trial in trials]
    while not descent.done:
        descent.step()
    chosen = descent.chosen()
    assert space.values(chosen.z)["lr"] == pytest.approx(0.8)
    assert (chosen.loss, chosen.start_loss) == pytest.approx((1.0, 1 + np.log(8)))


def test_gradients_of_any_size():
    """Of which Adam takes the sign."""
    for size in (1e-5, 1e9, 1e100, 1e150):
        fun = lambda values, seed: tuple(
            {"x": size * each["x"]} if isinstance(each, dict) else size * each for each in quadratic(values, seed)
        )
        result = minimize(fun, runs=1, meta_steps=30)
        assert result.fun < 0.3 * result.start_fun


def test_gradients_of_zero_move_nothing():
    result = minimize(lambda values, seed: (1.0, {"x": np.zeros(3)}), runs=2)
    assert not result.x["x"].any()
    assert result.history.gradient_norm.tolist() == [0.0] * 8


# ---- ends before the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_patience(patience):
    """The loss falls, once more after two meta-steps, and then no more."""
    losses = iter([9.0, 8, 7, 9, 9, 1, *range(10, 60)])
    fun = lambda values, seed: (next(losses), {"x": 1.0})
    result = minimize(fun, {"x": 10.0}, loss=lambda values, seed: 0.0, meta_steps=50, patience=patience, runs=1)
    average, lowest, since = None, np.inf, 0
    for nit, loss in enumerate(result.history.loss, 1):
        average = loss if average is None else 0.85 * average + 0.15 * loss
        lowest, since = (average, 0) if average < lowest else (lowest, since + 1)
        assert (since == patience) == (nit == result.nit)
    assert result.nit == (4 if patience == 1 else 5 if patience == 2 else 11)
    assert result.success
    assert result.message.startswith(f"The moving average of the loss has not fallen for {patience} meta-steps.")


def test_the_callback_sees_where_it_stands():
    states = []
    result = minimize(callback=states.append, meta_steps=5)
    assert [state.nit for state in states] == [1, 2, 3, 4, 5]
    assert [state.loss for state in states] == result.history.loss.tolist()
    average = states[0].loss
    for state in states:
        average = 0.85 * average + 0.15 * state.loss if state.nit > 1 else average
        assert state.average == average
    assert [state.nfev for state in states] == [6, 12, 18, 24, 30]
    assert result.nfev > 30
    assert (states[-1].refused, states[-1].diverged) == (result.refused, result.diverged)
    assert set(states[0].values()) == set(states[0].current()) == {"x"}
    assert repr(states[1]) == f"<meta-step 2: loss {states[1].loss:.6g}, moving average {states[1].average:.6g}>"
    expected = states[-1].current()["x"].copy()
    states[-1].current()["x"][:] = 7  # its own
    assert np.array_equal(states[-1].current()["x"], expected)


@pytest.mark.parametrize("method", ["adam", *METHODS])
def test_the_callback_ends_it(method):
    states = []

    def callback(state):
        states.append(state)
        if state.nit == 2:
            raise StopIteration

    result = minimize(quadratic, runs=1, callback=callback, method=method)
    assert result.nit == len(states) == 2 == len(result.history.loss)
    assert result.success
    assert result.message == "The callback ended it after 2 meta-steps."
    assert result.fun < result.start_fun
    with pytest.raises(ZeroDivisionError):
        minimize(quadratic, runs=1, callback=lambda state: 1 / 0, method=method)


def test_the_progress_bar_shows_the_loss(capsys):
    result = minimize(progress=True, meta_steps=3)
    out, err = capsys.readouterr()
    assert out == ""
    assert "tuning: 100%" in err
    average = result.history.loss[0]
    for loss in result.history.loss[1:]:
        average = 0.85 * average + 0.15 * loss
    assert f"loss {average:.4g}" in err
    minimize(progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which background processes ignore
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_in_the_callback(ctrl_c):
    result = minimize(meta_steps=50, callback=lambda state: ctrl_c() if state.nit == 20 else None)
    assert (result.success, result.nit, result.message) == (False, 20, "Interrupted after 20 meta-steps.")
    assert len(result.history.loss) == 20
    assert result.fun < 0.8 * result.start_fun
    assert quadratic(result.x, 0)[0] < quadratic({"x": np.zeros(3)}, 0)[0]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("moment", [1, 2, 60, 64, 65, 100])
def test_ctrl_c_in_the_function(ctrl_c, moment, workers):
    """Of 90 runs of meta-steps, and those that the end is chosen by."""
    uninterrupted = minimize(runs=3, meta_steps=15)

    def fun(values, seed):
        recorder.calls.append(seed)
        if len(recorder.calls) == moment:
            ctrl_c()
        return noisy(values, seed)

    recorder = Recorder()
    result = minimize(fun, runs=3, meta_steps=15, workers=workers)
    assert not result.success
    assert result.message == f"Interrupted after {result.nit} meta-steps."
    assert result.nit == (moment - 1) // 6 if workers == 1 and moment <= 90 else result.nit <= 15
    for name, each in result.history._asdict().items():
        assert np.array_equal(each, getattr(uninterrupted.history, name)[: result.nit])
    if moment < 3:
        assert not result.x["x"].any()


def test_what_is_known_after_ctrl_c_although_some_runs_always_fail(ctrl_c):
    fun = lambda values, seed: (np.nan, {}) if seed % 3 == 0 else noisy(values, seed)
    result = minimize(fun, runs=9, meta_steps=50, callback=lambda state: ctrl_c() if state.nit == 40 else None)
    assert result.nit == 40
    assert np.isfinite([result.fun, result.start_fun]).all()
    assert quadratic(result.x, 0)[0] < 0.3 * quadratic({"x": np.zeros(3)}, 0)[0]


# ---- the methods of SciPy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_within_a_method_of_scipy(ctrl_c, method):
    def fun(values, seed):
        recorder.calls.append(seed)
        if len(recorder.calls) == 6:
            ctrl_c()
        return quadratic(values, seed)

    recorder = Recorder()
    result = minimize(fun, runs=1, meta_steps=50, method=method)
    assert not result.success
    assert result.message == f"Interrupted after {result.nit} meta-steps."
    assert len(result.history.loss) == result.nit
    if result.nit:
        assert result.fun == quadratic(result.x, 0)[0] < result.start_fun


@pytest.mark.parametrize("method", [*METHODS, "l-bfgs-b"])
def test_methods_of_scipy_find_the_minimum(method):
    fun = Recorder(quadratic)
    result = minimize(fun, runs=1, meta_steps=200, method=method)
    np.testing.assert_allclose(result.x["x"], TARGET, atol=1e-3)
    assert result.success
    assert result.message.startswith(f"SciPy's {method}: ")
    assert result.nfev == len(fun.calls)
    assert result.nit == len(result.history.loss) <= 200
    assert (np.diff(result.history.loss) <= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_scipy_have_the_same_seeds_at_every_point(method):
    fun = Recorder()
    result = minimize(fun, runs=3, meta_steps=5, method=method)
    seeds = fun.seeds[:3]
    points = fun.seeds.count(seeds[0])
    assert points > 1
    assert fun.seeds[: 3 * points] == seeds * points
    assert set(fun.seeds[3 * points :]).isdisjoint(seeds)
    assert result.fun < 0.5 * result.start_fun


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_scipy_make_so_many_iterations(method):
    rosenbrock = lambda values, seed: (
        (1 - values["x"][0]) ** 2 + 100 * (values["x"][1] - values["x"][0] ** 2) ** 2,
        {"x": np.array([-2 * (1 - values["x"][0]) - 400 * values["x"][0] * (values["x"][1] - values["x"][0] ** 2),
                        200 * (values["x"][1] - values["x"][0] ** 2)])},
    )  # fmt: skip
    result = minimize(rosenbrock, {"x": np.array([-1.0, 1.5])}, runs=1, meta_steps=3, method=method)
    assert result.nit == 3
    assert result.success
    assert result.fun < result.start_fun


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_scipy_survive_a_region_that_diverges(method):
    """The minimum is near the cliff, and first steps lead over it."""

    def fun(values, seed):
        x = values["x"]
        if x > 2:
            raise DivergenceError("over the cliff", step=3, group="W1")
        return float(50 * (x - 1.9) ** 2), {"x": 100 * (x - 1.9)}

    result = minimize(fun, {"x": -3.0}, runs=2, meta_steps=40, method=method)
    assert result.x["x"] == pytest.approx(1.9, abs=0.05)
    assert np.isfinite(result.history.loss).all()
    with pytest.raises(DivergenceError, match="over the cliff"):
        minimize(fun, {"x": 3.0}, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_scipy_and_bounds(method):
    fun = lambda values, seed: (float(values["x"] + 3) ** 2, {"x": 2 * (values["x"] + 3)})
    arguments = {"transforms": {"x": "nonnegative"}, "method": method, "runs": 1, "meta_steps": 30}
    if method in ("BFGS", "CG"):
        with pytest.raises(
            ArgumentError, match=r"'method' must be one that takes bounds, for 'x' moves.* 'L-BFGS-B', or"
        ):
            minimize(fun, {"x": 2.0}, **arguments)
    else:
        assert 0 <= minimize(fun, {"x": 2.0}, **arguments).x["x"] < 0.01
        assert 0 <= minimize(fun, {"x": 0.0}, **arguments).x["x"] < 0.01


@pytest.mark.parametrize("method", ["Nelder-Mead", "Powell", "COBYLA", "Newton-CG", "trust-exact", "Adam", None, 3])
def test_other_methods_are_refused(method):
    with pytest.raises(ArgumentError) as info:
        minimize(method=method)
    assert "Argument 'method' must be 'adam', or a method of scipy.optimize.minimize that needs a gradient and" in str(
        info.value
    )
    assert f"'L-BFGS-B', 'BFGS', 'CG', 'TNC', 'SLSQP' or 'trust-constr', not {method!r}" in str(info.value)


# ---- hostile functions and arguments -------------------------------------------------------------------------


def test_a_function_may_do_with_its_values_as_it_likes():
    kept = np.empty(3)

    def careless(values, seed):
        loss, gradients = noisy(values, seed)
        values["x"] -= 1
        kept[:] = gradients["x"]
        return loss, {"x": kept, "more": None}

    x0 = np.zeros(3)
    result = minimize(careless, {"x": x0}, callback=lambda state: x0.fill(state.nit))
    assert in_full(result) == in_full(minimize())


@pytest.mark.parametrize("workers", [2, map])
def test_the_same_bits_wherever_it_runs(workers):
    assert in_full(minimize(workers=workers)) == in_full(minimize())
    with ThreadPoolExecutor(2) as pool:
        assert in_full(minimize(workers=pool)) == in_full(minimize())


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (1.0, r"fun\(values, seed\) must return a pair of loss and gradients, not float"),
        (None, "not NoneType"),
        ((1.0, {"x": np.ones(3)}, 3), "not tuple"),
        (("1", {"x": np.ones(3)}), r"fun\(values, seed\) must return a number as loss, not '1'"),
        ((np.ones(2), {"x": np.ones(3)}), "must return a number as loss, not array"),
        ((1j, {"x": np.ones(3)}), "must return a number as loss, not 1j"),
        ((1.0, np.ones(3)), r"fun\(values, seed\)\[1\] must map 'x' to gradients, not ndarray"),
        ((1.0, {"y": np.ones(3)}), "must map 'x' to gradients, not 'y'"),
        (
            (1.0, {"x": np.ones(2)}),
            r"fun\(values, seed\)\[1\]\['x'\] must have shape \(3,\), that of x0\['x'\], .*\(2,\)",
        ),
        ((1.0, {"x": ["a", "b", "c"]}), "and be real, not shape .* and dtype <U1"),
        ((1.0, {"x": None}), "dtype object"),
    ],
)
def test_what_a_function_must_not_return(returned, message):
    with pytest.raises(ArgumentError, match=message):
        minimize(lambda values, seed: returned)


def test_what_a_loss_must_not_return():
    with pytest.raises(ArgumentError, match=r"loss\(values, seed\) must return a number as loss, not \(1, 2\)"):
        minimize(loss=lambda values, seed: (1, 2))


BAD_ARGUMENTS = [
    ({"fun": 3}, "'fun' must be a function of values and seed, not a int"),
    ({"loss": 3}, "'loss' must be a function of values and seed, not a int"),
    ({"x0": {}}, "'x0' must map names to arrays, not []. Pass a dict such as {'x': np.zeros(3)}."),
    ({"x0": np.zeros(3)}, "'x0' must map names to arrays, not a ndarray"),
    ({"x0": {3: 1.0}}, "'x0' must map names to arrays"),
    ({"x0": {"x": [1.0, np.nan]}}, "'x0['x']' must be finite, not nan at x0['x'][1]"),
    ({"x0": {"x": "1"}}, "'x0['x']' must be an array of real numbers"),
    ({"x0": {"x": [[1], [1, 2]]}}, "'x0['x']' must be a rectangular array"),
    ({"x0": {"x": np.ma.masked_array([1.0, 2], [True, False])}}, "masked"),
    ({"transforms": {"y": "log"}}, "'transforms' must be one of 'x', not 'y'"),
    ({"transforms": {"x": "exp"}}, "'transforms['x']' must be one of 'linear', 'log'"),
    ({"transforms": {"x": "log"}}, "'x' must hold a number above 0 to be learned in log, not 0"),
    ({"transforms": "log"}, "'transforms' must map names to transforms, not 'log'"),
    ({"meta_steps": 0}, "'meta_steps' must be at least 1, not 0"),
    ({"meta_steps": 1.5}, "'meta_steps' must be a whole number, not 1.5"),
    ({"meta_lr": np.nan}, "'meta_lr' must be a number above 0, not nan"),
    ({"meta_lr": 0}, "'meta_lr' must be a number above 0, not 0"),
    ({"meta_lr": -1.0}, "'meta_lr' must be a number above 0, not -1.0"),
    ({"meta_lr": np.inf}, "'meta_lr' must be a number above 0, not inf"),
    ({"meta_lr": "0.1"}, "'meta_lr' must be a number above 0, not '0.1'"),
    ({"meta_lr": True}, "'meta_lr' must be a number above 0, not True"),
    ({"meta_lr": None}, "'meta_lr' must be a number above 0, not None"),
    ({"runs": 0}, "'runs' must be at least 1, not 0"),
    ({"runs": 2.0}, "'runs' must be a whole number, not 2.0"),
    ({"runs": True}, "'runs' must be a whole number, not True"),
    ({"seed": -1}, "'seed' must be at least 0, not -1"),
    ({"seed": None}, "'seed' must be a whole number, not None"),
    ({"patience": 0}, "'patience' must be at least 1, not 0"),
    ({"callback": 3}, "'callback' must be a function of the state, not a int"),
    ({"progress": 1}, "'progress' must be True or False, not 1"),
    ({"workers": 0}, "'workers' must be at least 1, or -1 for all cores, not 0"),
    ({"workers": "2"}, "'workers' must be an int"),
    ({"checkpoint": 3}, "'checkpoint'"),
    ({"checkpoint": "/no/such/folder/state"}, "'checkpoint' must be"),
    ({"method": "CG", "checkpoint": "state"}, "'checkpoint' must be left out with a method of SciPy"),
    ({"method": "CG", "patience": 3}, "'patience' must be left out with a method of SciPy"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_ARGUMENTS, ids=[str(each[0])[:40] for each in BAD_ARGUMENTS])
def test_bad_arguments_are_named_before_anything(changes, message):
    def never(values, seed):
        raise AssertionError("was called")

    arguments = {"fun": never} | changes
    with pytest.raises(ArgumentError) as info:
        minimize(**arguments)
    assert message in str(info.value)


# ---- results -------------------------------------------------------------------------------------------------


def test_the_result_reads_well():
    x0 = {"scale": 2.0, "table": np.ones((2, 3))}
    fun = lambda values, seed: (
        float(values["scale"] ** 2 + np.sum(values["table"] ** 2)), {name: 2 * each for name, each in values.items()}
    )  # fmt: skip
    result = fastrev.minimize(fun, x0, runs=1, meta_steps=4, progress=False)
    assert (
        repr(result)
        == f"""MinimizeResult: All 4 meta-steps were made.
            loss: {result.fun:.6g}, from 10
           scale: {result.x["scale"]:.6g}
           table: {result.x["table"].min():.4g} to {result.x["table"].max():.4g}, shape (2, 3)
                  4 meta-steps, {result.nfev} runs; 0 steps taken back, 0 runs lost"""
    )


def test_results_are_copied_and_pickled():
    result = minimize()
    assert result == minimize()
    assert result != minimize(seed=1)
    for other in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result), copy.copy(result)):
        assert other == result
        assert in_full(other) == in_full(result)
        assert repr(other) == repr(result)


def test_a_checkpoint_knows_the_arguments_of_a_partial(tmp_path):
    def fun(values, seed, a=0.0, b=0.0):
        away = values["x"] - a + b
        return away @ away, {"x": 2 * away}

    settings = {"meta_steps": 3, "checkpoint": tmp_path / "state"}
    minimize(functools.partial(fun, a=1, b=5), **settings)
    minimize(functools.partial(fun, b=5, a=1), **settings)
    with pytest.raises(ArgumentError, match="differs in 'fun'"):
        minimize(functools.partial(fun, b=1, a=5), **settings)


class Unlike:
    """Neither array nor number."""

    def __array__(self, *args, **kwargs):
        raise TypeError("not today")


@pytest.mark.parametrize("extra", [[[1], [2, 3]], (np.zeros((3, 2)), np.zeros(3), np.zeros(4)), Unlike()], ids=repr)
@pytest.mark.parametrize("keeps", [False, True])
def test_functions_of_anything(extra, keeps, tmp_path):
    def fun(given, values, seed):
        return quadratic(values, seed)

    checkpoint = tmp_path / "state" if keeps else None
    assert minimize(functools.partial(fun, extra), meta_steps=2, checkpoint=checkpoint).nit == 2


def test_ctrl_c_in_the_first_meta_step_keeps_what_the_search_has_found():
    space = Space({"lr": Log()}, {"lr": ()})
    descent = Descent(space, space.free({"lr": np.array(0.1)}), Plan(3, 0.1, 2, 0, brake="lr"))

    def each(trials):
        if trials[0].differentiate:
            raise KeyboardInterrupt
        return [Outcome(abs(np.log(trial.values["lr"] / 0.8)) + 1.0) for trial in trials]

    descent.each = each
    with pytest.raises(KeyboardInterrupt):
        descent.step()
    found = descent.so_far()
    assert space.values(found.z)["lr"] == pytest.approx(0.8)
    assert (found.loss, found.start_loss) == pytest.approx((1.0, 1 + np.log(8)))


@pytest.mark.parametrize("method", ["L-BFGS-B", "BFGS", "CG", "TNC", "SLSQP", "trust-constr"])
def test_ctrl_c_within_an_iteration_of_scipy_keeps_the_best_point(method):
    seen = []

    def fun(values, seed):
        if len(seen) == 4:
            raise KeyboardInterrupt
        loss, gradients = quadratic(values, seed)
        seen.append(loss)
        return loss, gradients

    result = minimize(fun, runs=1, method=method)
    assert not result.success
    assert result.fun == min(seen)
