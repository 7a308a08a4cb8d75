"""tune learns whatever a run depends on, by gradients that differences confirm, and never ends above its start."""

from __future__ import annotations

import copy
import functools
import os
import pickle
import signal
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrev
from fastrev._engine.hyperparameters import LARGEST_DECAY, SMALLEST_DECAY
from fastrev._tuning.space import Space
from fastrev._tuning.trials import Training, Trial, attempt
from fastrev.errors import ArgumentError, DivergenceError
from fastrev.tuning import _start, _transforms
from tests.cases import LOSSES, digits_like, random_case, relative_error
from tests.test_checkpoint import all_of
from tests.test_minimizing import METHODS
from tests.test_objective import W0, Plain, Quadratic, valid
from tests.test_workers import POOLS

T, G = 8, 4
rng = np.random.default_rng(0)
X = rng.random((60, 4))
Y = (X @ rng.standard_normal((4, 3))).argmax(axis=1)
MODEL = fastrev.MLP((4, 5, 3))
P = MODEL.num_params
FAST = {"runs": 4, "meta_steps": 5, "meta_lr": 0.1, "progress": False}
DATA = {"train": (X[:40], Y[:40]), "valid": (X[40:], Y[40:])}
CLASSES = np.eye(3)[Y[:40]]


def tune(model=MODEL, w0=None, **changes):
    arguments = DATA | {"steps": T, "batch_size": 8, "lr": 0.3, "decay": 0.9, "learn": ("lr",)} | FAST | changes
    return fastrev.tune(model, w0, **{name: value for name, value in arguments.items() if value is not ...})


def without_chance(**changes):
    """A problem of which nothing is drawn."""
    return tune(**({"w0": MODEL.init(0), "batch_size": None} | changes))


def trained_loss(values, seed, **changes):
    """By the public functions alone: the loss of a run of `tune`."""
    arguments = {"train": DATA["train"], "lr": 0.3, "decay": 0.9, "batch_size": 8, "steps": T} | changes
    w0 = values.get("w0", arguments.pop("w0", None))
    if w0 is None:
        w0 = MODEL.init(seed, scale=values.get("init_scale", changes.get("init_scale")))
    arguments |= {name: value for name, value in values.items() if name not in ("w0", "init_scale", "x", "y")}
    arguments.pop("init_scale", None)
    x, y = arguments["train"]
    arguments["train"] = values.get("x", x), values.get("y", y)
    run = fastrev.train(MODEL, w0, seed=seed, **arguments)
    return MODEL.loss_value(run.w, *DATA["valid"])


# ---- everything that can be learned --------------------------------------------------------------------------

LEARNED = [
    *[("lr", np.full(shape, 0.3)) for shape in [(), (T,), (T, 1), (1, G), (T, G)]],
    *[("decay", np.full(shape, 0.9)) for shape in [(), (T,), (T, 1), (1, G), (T, G)]],
    *[("l2", np.full(shape, 1.0)) for shape in [(), (G,), (P,)]],
    *[("init_scale", scale) for scale in (1.5, np.full(G, 1.5), None)],
    ("w0", MODEL.init(3)), ("v0", np.full(P, 0.01)), ("v0", None), ("x", None), ("y", None), ("y", CLASSES),
    ("example_weights", None), ("example_weights", np.full(40, 0.5)),
]  # fmt: skip
IDS = [f"{name} {np.shape(value)}" if value is not None else name for name, value in LEARNED]
SHAPES = {"init_scale": (G,), "v0": (P,), "x": (40, 4), "y": (40, 3), "example_weights": (40,)}


@pytest.mark.parametrize(("name", "value"), LEARNED, ids=IDS)
def test_everything_is_learned_in_its_shape(name, value):
    changes = {} if name in ("x", "y") else {name: value}
    if name == "y" and value is not None:
        changes = {"train": (X[:40], value)}
    result = tune(learn=(name,), meta_steps=8, **changes)
    found = getattr(result, name)
    assert np.shape(found) == (SHAPES[name] if value is None else np.shape(value))
    assert result.learned.keys() == {name}
    assert found is result.learned[name]
    assert np.asarray(found).dtype == np.float64
    assert result.loss == result.fun < result.start_loss
    assert result.history.accepted.any()
    if name != "lr":
        assert result.lr == 0.3
    if name != "decay":
        assert result.decay == 0.9
    if name == "init_scale" and value is None:
        assert found[[1, 3]].tolist() == [0, 0]  # biases begin at 0 and stay
    if name == "y":
        np.testing.assert_allclose(found.sum(axis=1), 1)
        assert found.min() > 0
    if name == "example_weights":
        assert found.min() >= 0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_all_of_it_at_once(loss, dtype):
    model = fastrev.MLP((4, 5, 3), loss=loss, dtype=dtype)
    targets = np.eye(3)[Y]
    names = ("lr", "decay", "l2", "init_scale", "v0", "x", "y", "example_weights")
    result = tune(
        model, train=(X[:40], targets[:40]), valid=(X[40:], targets[40:]), lr=np.full((T, G), 0.3), l2=np.full(G, 1e-3),
        learn=names, meta_steps=8,
    )  # fmt: skip
    assert tuple(result.learned) == names
    assert result.loss < result.start_loss
    if loss == "logistic":
        assert 0 <= result.y.min() <= result.y.max() <= 1
    with pytest.raises(ArgumentError, match=r"'learn' must hold names among .*'init_scale', not 'theta'"):
        tune(model, learn=("theta",), train=(X[:40], targets[:40]), valid=(X[40:], targets[40:]))


class Copied(Quadratic):
    """An objective that says itself what it is with other hyperparameters."""

    def with_theta(self, theta):
        return Copied(theta=theta)


class Drawn(Quadratic):
    """One whose centers are of another seed in every run."""

    seeds = []

    def with_seed(self, seed):
        self.seeds.append(seed)
        other = Drawn(theta=self.theta)
        other.centers = self.centers + 0.1 * np.random.default_rng(seed).standard_normal(self.centers.shape)
        return other


OBJECTIVE = {
    "train": ..., "batch_size": ..., "valid": valid, "steps": 12, "lr": 0.3, "decay": 0.8, "w0": W0,
    "learn": ("theta", "lr"),
}  # fmt: skip


@pytest.mark.parametrize("kind", [Quadratic, Copied, Drawn])
def test_hyperparameters_of_an_objective(kind):
    model, seen = kind(), []
    before = copy.deepcopy(model.theta)
    result = tune(model, callback=lambda state: seen.append(state.current()), **OBJECTIVE)
    assert result.theta.keys() == {"scale", "shift"}
    assert list(result.learned) == ["theta['scale']", "theta['shift']", "lr"]
    assert result.theta["scale"].shape == (5,)
    assert np.shape(result.theta["shift"]) == ()
    assert result.loss < result.start_loss
    assert all(np.array_equal(model.theta[name], before[name]) for name in before)  # it is left as it was
    if kind is not Drawn:
        learned = kind(theta=result.theta)
        final = fastrev.train(learned, W0, lr=result.lr, decay=0.8, steps=12).w
        assert valid(final)[0] == result.loss
        assert result.nfev < 4 * 5  # of one run a meta-step, for nothing is drawn
        with_all = tune(kind(), **(OBJECTIVE | {"runs": 1}))
        assert all_of(with_all) == all_of(result)
    else:
        assert len(set(kind.seeds)) > 4 * 5


def test_objectives_without_hyperparameters():
    result = tune(Plain(), **(OBJECTIVE | {"learn": ("lr", "decay", "w0", "v0")}))
    assert result.loss < result.start_loss
    assert result.theta == {}
    with pytest.raises(ArgumentError, match="'learn' must hold names among 'lr', 'decay', 'v0', 'w0', not 'theta'"):
        tune(Plain(), **OBJECTIVE)


def test_transforms_of_hyperparameters():
    arguments = OBJECTIVE | {"learn": ("theta",), "meta_lr": 3.0}
    result = tune(Quadratic(), transforms={"theta": {"scale": (0.1, 3), "shift": "nonnegative"}}, **arguments)
    assert 0.1 < result.theta["scale"].min() < result.theta["scale"].max() < 3
    assert result.theta["shift"] >= 0
    assert tune(Quadratic(), transforms={"theta": "log"}, **arguments).theta["scale"].min() > 0
    for wrong in ({"theta": {"none": "log"}}, {"theta": {"scale": "exp"}}, {"lr": "log"}, {"scale": "log"}):
        with pytest.raises(ArgumentError, match="'transforms"):
            tune(Quadratic(), transforms=wrong, **arguments)


def test_an_objective_of_interop():
    pytest.importorskip("autograd", reason="autograd is not installed")
    import autograd.numpy as anp

    from fastrev.interop import autograd

    target = np.arange(3.0)
    loss = lambda params, theta, t: anp.sum((params["a"] - target) ** 2 * anp.exp(theta["stiff"])) / 2
    objective, w0 = autograd.objective(loss, {"a": np.zeros(3)}, {"stiff": np.zeros(3)})
    measured, _ = autograd.objective(lambda params, theta, t: anp.sum((params["a"] - target) ** 2), {"a": np.zeros(3)})
    arguments = OBJECTIVE | {"w0": w0, "valid": measured, "learn": ("theta",)}
    result = tune(objective, **arguments)
    assert result.theta["stiff"].shape == (3,)
    assert result.loss < result.start_loss
    assert all_of(tune(objective, workers=2, **arguments)) == all_of(result)


# ---- gradients, by central differences of what the public functions compute -----------------------------------

LOW, HIGH = SMALLEST_DECAY, LARGEST_DECAY
# by the formulas of the documented table
TO_Z = {
    "lr": np.log, "l2": np.log, "init_scale": np.log, "decay": lambda v: np.log((v - LOW) / (HIGH - v)),
    "y": lambda v: np.log(0.99 * v + 0.01 / 3),
}  # fmt: skip
FROM_Z = {
    "lr": np.exp, "l2": np.exp, "init_scale": np.exp, "decay": lambda z: LOW + (HIGH - LOW) / (1 + np.exp(-z)),
    "y": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
}  # fmt: skip
CHAINED = [
    ("lr", 0.3), ("lr", np.full((T, G), 0.3)), ("decay", 0.9), ("decay", np.full((1, G), 0.8)),
    ("l2", np.full(G, 1e-2)), ("init_scale", 0.5), ("init_scale", np.full(G, 0.5)), ("x", X[:40]), ("y", CLASSES),
    ("v0", np.full(P, 0.01)), ("example_weights", np.linspace(0.5, 2, 40)), ("w0", MODEL.init(3)),
]  # fmt: skip


def numerical_gradient(name, value, seeds, size=1e-4, **changes):
    """Of the mean loss by the coordinates in which a thing moves, number by number."""
    same = lambda v: np.array(v, float)
    z, back = TO_Z.get(name, same)(np.asarray(value, float)), FROM_Z.get(name, same)
    gradient = np.zeros(z.shape)
    for i in np.ndindex(z.shape):
        step = np.zeros(z.shape)
        step[i] = size
        losses = [[trained_loss({name: back(z + s * step)}, seed, **changes) for seed in seeds] for s in (1, -1)]
        gradient[i] = (np.mean(losses[0]) - np.mean(losses[1])) / (2 * size)
    return gradient


@pytest.mark.parametrize(("name", "value"), CHAINED, ids=[f"{name} {np.shape(value)}" for name, value in CHAINED])
def test_the_gradients_of_averaged_runs(name, value):
    """In every coordinate, of runs whose weights and batches are drawn."""
    seeds = [5, 6]
    rates = {"lr": 0.3, "decay": 0.9}
    given = {"train": DATA["train"], "steps": T, "batch_size": 8, "l2": 0.0,
             "batches": None, "v0": None, "example_weights": None, "init_scale": None, "seed": 0}  # fmt: skip
    w0 = value if name == "w0" else None
    if name in given:
        given[name] = value
    given["optimizer"] = fastrev.SGD(**(rates | ({name: value} if name in rates else {})))
    training = Training(MODEL, w0, given, DATA["valid"])
    start = _start(training, (name,))
    space = Space(_transforms(training, start, None), {name: start[name].shape})
    values = space.values(space.free(start))
    outcomes = [attempt(training, Trial(values, seed, True)) for seed in seeds]
    assert [each.loss for each in outcomes] == [trained_loss(values, seed) for seed in seeds]
    assert outcomes[0].loss == attempt(training, Trial(values, seeds[0], False)).loss
    found = np.mean([space.pull(values, each.gradients) for each in outcomes], axis=0)
    expected = numerical_gradient(name, value, seeds).ravel()
    assert relative_error(found, expected) < 5e-5  # decays are ratios, on which the differences are taken


@pytest.mark.parametrize("name", ["decay", "l2", "y", "x", "example_weights", "w0"])
def test_the_first_meta_step_goes_down_that_gradient(name):
    """By Adam's rate in every coordinate, as far as it is told from 0."""
    value = dict(CHAINED)[name]
    changes = {"train": (X[:40], value)} if name == "y" else {} if name == "x" else {name: value}
    w0, states = value if name == "w0" else MODEL.init(3), []
    result = without_chance(**(changes | {"w0": w0, "learn": (name,), "meta_steps": 1, "callback": states.append}))
    gradient = numerical_gradient(name, value, [0], **({"batch_size": None} | ({} if name == "w0" else {"w0": w0})))
    assert result.history.gradient_norm[0] == pytest.approx(np.sqrt(np.sum(gradient**2)), rel=5e-5)
    assert result.history.rate[0] == 0.1
    same = lambda v: np.array(v, float)
    to_z = TO_Z.get(name, same) if name != "y" else lambda v: np.log(v) - np.log(v).mean(axis=1, keepdims=True)
    before = TO_Z["y"](value) if name == "y" else to_z(value)
    if name == "y":
        before = before - before.mean(axis=1, keepdims=True)  # what is common to a row says nothing
    moved = to_z(states[0].current()[name]) - before
    expected = -0.1 * np.sign(gradient)
    if name == "y":
        expected = expected - expected.mean(axis=1, keepdims=True)
    clear = np.abs(gradient) > 1e-5
    if name == "y":
        clear = np.repeat(clear.all(axis=1, keepdims=True), 3, axis=1)
    assert clear.mean() > 0.3
    np.testing.assert_allclose(moved[clear], expected[clear], atol=2e-4)


# ---- runs and seeds ------------------------------------------------------------------------------------------


def test_losses_are_means_over_fresh_seeds():
    """To the last bit, by trainings of one's own."""
    seeds, states = [], []

    def w0(seed):
        seeds.append(seed)
        return MODEL.init(seed)

    result = tune(w0=w0, learn=("decay", "l2"), l2=np.full(G, 1e-3), callback=states.append, seed=7)
    mine = [0.9, *(state.current()["decay"] for state in states)]
    penalties = [np.full(G, 1e-3), *(state.current()["l2"] for state in states)]
    seeds = [each for each in seeds if each != 0]  # by which arguments were checked
    for i in range(5):
        fresh, again = seeds[8 * i : 8 * i + 4], seeds[8 * i + 4 : 8 * i + 8]
        assert fresh == again
        losses = [trained_loss({"decay": mine[i], "l2": penalties[i]}, seed) for seed in fresh]
        if i:
            assert result.history.loss[i] == np.mean(losses)
        else:  # through logit and log, and back
            assert result.history.loss[i] == pytest.approx(np.mean(losses), rel=1e-9)
    steps, judges = set(seeds[:40]), seeds[40:]
    assert len(steps) == 20
    assert steps.isdisjoint(judges)
    judged = judges[-len(set(judges)) :]
    assert result.loss == np.mean([trained_loss(result.learned, seed) for seed in judged])
    assert result.start_loss == pytest.approx(np.mean([trained_loss({"l2": 1e-3}, seed) for seed in judged]), rel=1e-9)
    assert result.nfev == len(seeds)
    other = tune(learn=("decay", "l2"), l2=np.full(G, 1e-3), seed=7)
    assert all_of(other) == all_of(result)  # as `model.init` does
    assert all_of(tune(learn=("decay", "l2"), l2=np.full(G, 1e-3), seed=8)) != all_of(result)


@pytest.mark.parametrize(("changes", "runs"), [
    ({}, 4), ({"batch_size": None}, 4), ({"w0": MODEL.init(0)}, 4), ({"w0": MODEL.init(0), "batch_size": None}, 1),
    ({"w0": MODEL.init(0), "batch_size": None, "batches": np.arange(5 * T).reshape(T, 5)}, 1),
    ({"w0": MODEL.init, "batch_size": None}, 4),
])  # fmt: skip
def test_what_is_not_drawn_is_run_once(changes, runs):
    states = []
    tune(learn=("decay",), callback=states.append, **changes)
    assert [state.nfev for state in states] == [2 * runs * nit for nit in range(1, 6)]


def test_truncated():
    """Rates of other steps than the last move together only, before the first meta-step."""
    lr, states = np.full(T, 0.3), []
    tune(lr=lr, truncate=2, learn=("lr",), meta_steps=3, callback=states.append)
    found = states[-1].current()["lr"]
    assert np.ptp(found[: T - 2]) == 0
    assert (found[T - 2 :] != found[0]).all()
    assert all_of(tune(lr=lr, truncate=T, meta_steps=3)) == all_of(tune(lr=lr, meta_steps=3))


# ---- never above its start -----------------------------------------------------------------------------------


@pytest.mark.parametrize("meta_lr", [0.05, 5.0])
@pytest.mark.parametrize("lr", [1e-9, 0.3, 30.0, 1e3])
def test_absurd_rates(lr, meta_lr):
    """To begin with, and to learn by."""
    for seed in range(2):
        arguments = {
            "lr": np.full((T, G), lr),
            "learn": ("lr", "decay"),
            "meta_lr": meta_lr,
            "seed": seed,
            "meta_steps": 12,
        }
        result = tune(**arguments)
        assert np.isfinite(result.loss)
        assert result.loss <= result.start_loss
        if lr != 0.3:  # it finds rates that are of use before anything else
            assert result.loss < 0.9 * result.start_loss
        judge = lambda values: np.mean([trained_loss(values, seed) for seed in range(30)])
        try:
            start = judge({"lr": arguments["lr"]})
        except DivergenceError:
            continue
        assert judge(result.learned) <= 1.02 * start


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.05, 1.0]), st.sampled_from([0.1, 1, 20]), st.data())
def test_random_problems_never_end_above_their_start(seed, meta_lr, factor, data):
    """Of any depth, loss and shapes: nothing is drawn, so that it can be told exactly."""
    case = random_case(seed, dtype=(np.float64, np.float32)[seed % 2])
    a = case.arguments | {"decay": np.clip(case.arguments["decay"], 0.01, 0.99)}
    a["lr"] = factor * (a["lr"] + 0.01)
    a["l2"] = a["l2"] + 1e-3
    a["train"] = a["train"][0], a["train"][1] / a["train"][1].sum(axis=1, keepdims=True)
    names = ("lr", "decay", "l2", "w0", "v0", "x", "y", "example_weights")
    learn = tuple(data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True)))
    arguments = {name: value for name, value in a.items() if name != "valid"}

    def loss(values):
        changed = {name: value for name, value in values.items() if name not in ("w0", "x", "y")}
        x, y = a["train"]
        changed["train"] = values.get("x", x), values.get("y", y)
        run = fastrev.train(case.model, values.get("w0", case.w0), **(arguments | changed))
        return case.model.loss_value(run.w, *a["valid"])

    try:
        start = loss({})
    except DivergenceError:
        start = np.inf
    try:
        result = fastrev.tune(
            case.model,
            case.w0,
            learn=learn,
            valid=a["valid"],
            meta_steps=4,
            meta_lr=meta_lr,
            progress=False,
            **arguments,
        )
    except DivergenceError:
        assert start == np.inf
        assert "lr" not in learn
        return
    assert loss(result.learned) == pytest.approx(result.loss, rel=1e-6 if case.model.dtype == np.float64 else 1e-3)
    assert result.loss <= result.start_loss
    if start < np.inf and "y" not in learn:  # whose smoothing is no step
        assert result.loss <= start * (1 + 1e-4)


def test_a_start_that_diverges_is_an_error_where_rates_are_not_learned():
    with pytest.raises(DivergenceError, match="No run of the first meta-step ended: ") as caught:
        tune(lr=1e6, steps=50, learn=("decay",))
    assert caught.value.run is None
    assert str(caught.value).endswith("that is too high: lower lr.")  # and no word of the run
    result = tune(lr=1e6, steps=50, learn=("lr", "decay"))
    assert result.start_loss == np.inf
    assert result.loss < 2


def test_rates_of_zero_stay():
    lr = np.full((T, G), 0.3)
    lr[:3] = 0
    lr[:, 2] = 0
    result = tune(lr=lr)
    assert np.array_equal(result.lr == 0, lr == 0)
    assert (result.lr[lr > 0] != 0.3).any()


@pytest.mark.parametrize("chosen", ["linear", "nonnegative", (0.001, 0.999), "log", "logit"])
def test_decays_stay_where_runs_can_be_made(chosen):
    """Whatever the transform: steps of the size of the whole range."""
    result = tune(
        learn=("decay", "lr"), transforms={"decay": chosen}, meta_lr=0.8, decay=np.full((T, G), 0.9), meta_steps=10
    )
    assert 2**-16 <= result.decay.min() <= result.decay.max() <= 65535 / 65536
    result = tune(learn=("lr",), transforms={"lr": "linear"}, meta_lr=0.8, lr=np.full((T, G), 0.1), meta_steps=10)
    assert result.lr.min() >= 0


def test_weights_that_leave_the_grid_now_and_then_are_survived():
    """Three in a hundred of these draws have a weight beyond 2048, and no argument is at fault."""
    result = tune(init_scale=500.0, lr=1e-3, learn=("lr",), runs=8, meta_steps=8)
    assert np.isfinite(result.history.loss).any()
    drawn = tune(w0=lambda seed: np.full(P, 5000.0 if seed % 3 == 1 else 0.1), learn=("decay",), meta_steps=3)
    assert drawn.diverged > 0


# ---- the methods of SciPy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_scipy(method):
    result = without_chance(method=method, lr=np.full((1, G), 0.3), decay=0.8, learn=("lr", "decay"), meta_steps=10)
    assert result.loss < 0.97 * result.start_loss
    assert result.loss == result.history.loss[-1]
    averaged = tune(method=method, lr=np.full((1, G), 0.3), learn=("lr", "decay"), meta_steps=4)
    assert averaged.history.loss[-1] < averaged.history.loss[0] or averaged.nit == 1
    assert averaged.loss <= averaged.start_loss


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_scipy_leave_zeros_and_keep_bounds(method):
    lr = np.array([[0.3, 0.0, 0.3, 0.0]])
    result = without_chance(method=method, lr=lr, learn=("lr",))
    assert result.lr[0, [1, 3]].tolist() == [0, 0]
    if method not in ("BFGS", "CG"):
        weights = without_chance(method=method, learn=("example_weights",), example_weights=np.linspace(0, 2, 40))
        assert weights.example_weights.min() >= 0
        assert weights.loss < weights.start_loss
    else:
        with pytest.raises(ArgumentError, match="'method' must be one that takes bounds, for 'example_weights'"):
            without_chance(method=method, learn=("example_weights",))


# ---- workers -------------------------------------------------------------------------------------------------


@functools.cache
def alone():
    return all_of(tune(learn=("lr", "init_scale", "x"), lr=np.full((T, G), 0.3), meta_steps=4))


@pytest.mark.parametrize("kind", ["2", "map", "threads", "spawn", "dask"])
def test_the_same_bits_wherever_runs_are_made(kind):
    with POOLS[kind]() as workers:
        result = tune(learn=("lr", "init_scale", "x"), lr=np.full((T, G), 0.3), meta_steps=4, workers=workers)
    assert all_of(result) == alone()


def test_the_same_bits_on_all_cores():
    assert all_of(tune(learn=("lr", "init_scale", "x"), lr=np.full((T, G), 0.3), meta_steps=4, workers=-1)) == alone()


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_at_random_moments(workers):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    moments, timers = np.random.default_rng(workers), []

    def callback(state):
        if state.nit == 1:
            timers.append(threading.Timer(moments.uniform(0, 0.1), os.kill, (os.getpid(), signal.SIGINT)))
            timers[-1].start()

    expected = tune(lr=np.full((T, G), 0.3), meta_steps=3000, callback=stop_after(60))
    try:
        for _ in range(8):
            result = tune(lr=np.full((T, G), 0.3), meta_steps=3000, callback=callback, workers=workers)
            assert not result.success
            assert result.message == f"Interrupted after {result.nit} meta-steps."
            assert result.nit >= 1
            assert result.lr.shape == (T, G)
            assert np.isfinite(result.loss)
            n = min(result.nit, 60)
            assert np.array_equal(result.history.loss[:n], expected.history.loss[:n])
            assert result.train().w.shape == (P,)
    finally:
        for timer in timers:
            timer.join()
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_tells_the_loss_of_the_start():
    """Not that of the rates which the first meta-step looked for."""

    def interrupt(state):
        raise KeyboardInterrupt

    result = without_chance(lr=0.1, callback=interrupt)
    assert result.lr > 0.15
    assert result.start_loss == pytest.approx(
        trained_loss({"w0": MODEL.init(0)}, 0, lr=0.1, batch_size=None), rel=1e-12
    )
    assert result.loss == result.history.loss[0] < result.start_loss


def stop_after(n):
    def callback(state):
        if state.nit == n:
            raise StopIteration

    return callback


# ---- results -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result():
    return tune(lr=np.full((T, G), 0.3), l2=1e-3, learn=("lr", "l2"), example_weights=np.linspace(0.5, 2, 40))


def test_the_result_reads_well(result):
    assert (
        repr(result)
        == f"""TuneResult: All 5 meta-steps were made.
            loss: {result.loss:.6g}, from {result.start_loss:.6g}
              lr: {result.lr.min():.4g} to {result.lr.max():.4g}, shape (8, 4)
              l2: {result.l2:.6g}
                  5 meta-steps, {result.nfev} runs; {result.refused} steps taken back, {result.diverged} runs lost"""
    )
    assert type(result.l2) is np.float64


def test_attributes(result):
    assert result.fun == result.loss
    assert result.decay == 0.9
    assert result.v0 is result.w0 is result.init_scale is None
    assert result.theta == {}
    assert np.array_equal(result.x, X[:40])
    assert np.array_equal(result.y, Y[:40])
    assert np.array_equal(result.example_weights, np.linspace(0.5, 2, 40))
    assert not hasattr(result, "momentum")
    with pytest.raises(AttributeError, match="'TuneResult' object has no attribute 'momentum'"):
        _ = result.momentum
    assert {"lr", "decay", "example_weights", "train", "loss"} <= set(dir(result))
    with pytest.raises(AttributeError):
        result.loss = 0
    empty = object.__new__(fastrev.TuneResult)  # as copy and pickle begin
    assert not hasattr(empty, "lr")
    assert not hasattr(empty, "learned")


def test_it_trains_with_what_was_learned(result):
    weights = np.linspace(0.5, 2, 40)
    run = result.train(seed=3)
    expected = fastrev.train(
        MODEL, MODEL.init(3), train=DATA["train"], lr=result.lr, decay=0.9, l2=result.l2, steps=T, batch_size=8, seed=3,
        example_weights=weights,
    )  # fmt: skip
    assert np.array_equal(run.w, expected.w)
    run.rewind()
    assert run.stats.exact
    other = result.train(X, Y, example_weights=np.ones(len(X)), seed=3)
    expected = fastrev.train(
        MODEL, MODEL.init(3), train=(X, Y), lr=result.lr, decay=0.9, l2=result.l2, steps=T, batch_size=8, seed=3,
        example_weights=np.ones(len(X)),
    )  # fmt: skip
    assert np.array_equal(other.w, expected.w)
    with pytest.raises(ArgumentError, match=r"'X' and 'Y' must be given together: pass train\(X, Y\)"):
        result.train(X)
    with pytest.raises(ArgumentError, match="'X' and 'Y' must be given together"):
        result.train(Y=Y)
    with pytest.raises(ArgumentError, match=r"'seed' must be a whole number, not 1\.5"):
        result.train(seed=1.5)
    with pytest.raises(ArgumentError, match="'X' must have shape"):
        result.train(X[:, :2], Y, example_weights=np.ones(len(X)))
    with pytest.raises(
        ArgumentError, match="'X' must hold 8 examples or more, the batch_size that was learned with, not 7"
    ):
        result.train(X[:7], Y[:7], example_weights=np.ones(7))


def test_it_trains_with_learned_data():
    learned = tune(learn=("x", "y", "init_scale"))
    run = learned.train(seed=1)
    scale = learned.init_scale
    expected = fastrev.train(
        MODEL,
        MODEL.init(1, scale=scale),
        train=(learned.x, learned.y),
        lr=0.3,
        decay=0.9,
        steps=T,
        batch_size=8,
        seed=1,
    )
    assert np.array_equal(run.w, expected.w)
    others = fastrev.train(
        MODEL, MODEL.init(1, scale=scale), train=(X, Y), lr=0.3, decay=0.9, steps=T, batch_size=8, seed=1
    )
    assert np.array_equal(learned.train(X, Y, seed=1).w, others.w)


KINDS = {
    "schedule": {"lr": np.full((T, G), 0.3), "steps": None, "learn": ("lr", "decay", "l2"), "l2": np.full(G, 1e-3)},
    "numbers": {"learn": ("lr", "init_scale"), "init_scale": 0.3},
    "weights": {"learn": ("w0", "v0"), "w0": MODEL.init(1), "batch_size": None},
    "given": {"learn": ("decay",), "w0": MODEL.init(1), "v0": np.full(P, 0.01), "batch_size": None,
              "batches": np.arange(5 * T).reshape(T, 5)},
    "float32": {"model": fastrev.MLP((4, 3), "relu", dtype=np.float32), "learn": ("lr",)},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_trains_to_the_same_bits(kind, tmp_path):
    made, path = tune(**KINDS[kind]), tmp_path / "tuned"
    made.save(path)
    loaded = fastrev.load(path)
    assert type(loaded) is fastrev.TuneResult
    assert all_of(loaded) == all_of(made)
    assert repr(loaded) == repr(made)
    for name in ("lr", "decay", "l2", "init_scale", "w0", "v0"):
        assert np.array_equal(getattr(loaded, name), getattr(made, name))
        assert np.shape(getattr(loaded, name)) == np.shape(getattr(made, name))
    assert np.array_equal(loaded.train(X, Y, seed=4).w, made.train(X, Y, seed=4).w)
    assert np.array_equal(loaded.train(*DATA["train"], seed=4).w, made.train(seed=4).w)
    with pytest.raises(ArgumentError, match="'X' and 'Y' must be given: this result is kept without its data"):
        loaded.train()
    arrays = np.load(path, allow_pickle=False)
    assert all(arrays[name].dtype != object for name in arrays)
    name, value = next(iter(made.learned.items()))
    assert any(np.array_equal(arrays[each], value) for each in arrays if name in each)
    loaded.save(path)  # and again
    assert all_of(fastrev.load(path)) == all_of(made)


@pytest.mark.parametrize("learn", [("x",), ("y",), ("x", "y"), ("x", "example_weights"), ("y", "lr")])
def test_learned_data_are_saved_with_what_belongs_to_them(learn, tmp_path):
    made, path = tune(learn=learn, example_weights=np.linspace(0.5, 2, 40)), tmp_path / "tuned"
    made.save(path)
    loaded = fastrev.load(path)
    assert np.array_equal(loaded.x, made.x)
    assert np.array_equal(loaded.y, made.y)
    assert np.array_equal(loaded.train(seed=2).w, made.train(seed=2).w)
    assert all_of(loaded) == all_of(made)


def test_what_a_file_does_not_hold_is_said(tmp_path):
    path = tmp_path / "tuned"
    made = tune(w0=lambda seed: 2 * MODEL.init(seed))
    made.save(path)
    with pytest.raises(ArgumentError, match="initial weights of this result were those of a function, which its file"):
        fastrev.load(path).train(X, Y)
    made = tune(Quadratic(), **OBJECTIVE)
    made.save(path)
    loaded = fastrev.load(path)
    assert loaded.theta.keys() == made.theta.keys()
    assert all(np.array_equal(loaded.theta[name], made.theta[name]) for name in made.theta)
    assert np.array_equal(loaded.w0, W0)
    with pytest.raises(ArgumentError, match=r"result of a fastrev\.Objective cannot train"):
        loaded.train()
    with pytest.raises(ArgumentError, match=r"'X' and 'Y' must be left out where the model is a fastrev\.Objective"):
        made.train(X, Y)
    assert valid(made.train().w)[0] == made.loss
    with pytest.raises(ArgumentError, match="'path' must be a file that fastrev wrote"):
        fastrev.load(tmp_path / "none")
    interrupted = without_chance(lr=1e6, steps=50, learn=("lr",), meta_steps=1)
    interrupted.save(path)
    assert fastrev.load(path).start_loss == np.inf


def test_results_are_copied_and_pickled(result):
    assert result == result != tune()
    for other in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result), copy.copy(result)):
        assert all_of(other) == all_of(result)
        assert np.array_equal(other.train(seed=1).w, result.train(seed=1).w)


# ---- hostile arguments ---------------------------------------------------------------------------------------


def test_arrays_that_change_on_the_way_change_nothing():
    x, y, xv, yv, lr = X[:40].copy(), Y[:40].copy(), X[40:].copy(), Y[40:].copy(), np.full((T, G), 0.3)
    w0, v0, l2, weights = MODEL.init(0), np.zeros(P), np.full(G, 1e-3), np.ones(40)
    arrays = [x, y, xv, yv, lr, w0, v0, l2, weights]

    def vandal(state):
        for array in arrays:
            array.fill(1)
        for values in (state.values(), state.current()):
            for value in values.values():
                np.asarray(value).setflags(write=True)
                value.fill(1)

    arguments = {
        "train": (x, y), "valid": (xv, yv), "lr": lr, "w0": w0, "v0": v0, "l2": l2, "example_weights": weights,
        "batch_size": None, "learn": ("lr",),
    }  # fmt: skip
    expected = tune(**copy.deepcopy(arguments))
    found = tune(callback=vandal, **arguments)
    assert (x == 1).all()
    assert all_of(found) == all_of(expected)
    assert np.array_equal(found.train().w, expected.train().w)


def test_numbers_in_other_clothes():
    expected = tune(lr=np.full((T, G), 0.5), decay=0.5, l2=np.full(G, 1.0), learn=("lr", "decay", "l2"))
    found = tune(
        train=[X[:40].tolist(), Y[:40].astype(np.int8)], valid=[np.asfortranarray(X[40:]), Y[40:].tolist()],
        lr=[[0.5] * G] * T, decay=np.float32(0.5), l2=[1] * G, learn=["lr", "decay", "l2"], steps=np.int16(T),
    )  # fmt: skip
    assert all_of(found) == all_of(expected)
    assert all_of(tune(learn={"lr", "decay"})) == all_of(tune(learn=("decay", "lr")))
    masked = tune(lr=np.ma.masked_array(np.full((T, G), 0.5)), decay=0.5, l2=np.ones(G), learn=("lr", "decay", "l2"))
    assert all_of(masked) == all_of(expected)


NAN = np.nan
BAD = [
    ({"learn": "lr"}, "'learn' must be a sequence of names, not 'lr'. Pass a tuple such as ('lr',)."),
    ({"learn": ()}, "'learn' must name something, not nothing. Pass names among lr, decay"),
    ({"learn": ("momentum",)}, "'learn' must hold names among 'lr', 'decay', "),
    ({"learn": ("theta",)}, "'learn' must hold names among"),
    ({"learn": ("lr", "lr")}, "'learn' must name each thing once"),
    ({"learn": ("w0",)}, "'learn' must hold 'w0' only where w0 is an array"),
    ({"learn": ("init_scale",), "w0": MODEL.init(0)}, "'w0', not 'init_scale'"),
    ({"learn": None}, "'learn' must be a sequence of names, not None"),
    ({"learn": (3,)}, "not 3"),
    ({"learn": ("l2",)}, "'l2' must hold a number above 0 to be learned in log, not 0. A 0 stays 0: pass a small"),
    ({"lr": 0.0}, "'lr' must hold a number above 0"),
    ({"lr": -1.0}, "'lr' must not be negative, not -1"),
    ({"lr": NAN}, "'lr' must be finite, not nan"),
    ({"lr": None}, "'lr' must be given where there is no optimizer, not None"),
    ({"decay": None}, "'decay' must be given where there is no optimizer, not None"),
    ({"optimizer": fastrev.SGD(0.3, 0.9)}, "'lr' must be left out where there is an optimizer, which has its own, not"),
    ({"optimizer": "sgd", "lr": None, "decay": None}, "'optimizer' must be a fastrev.SGD or fastrev.Adam, not 'sgd'"),
    ({"lr": "0.1"}, "'lr' must be an array of real numbers"),
    ({"lr": [[0.1], [0.1, 0.2]]}, "'lr' must be a rectangular array"),
    ({"lr": np.full((T, 3), 0.1)}, "'lr' must be a number or have shape"),
    ({"lr": np.ma.masked_array([0.1] * T, [1] + [0] * (T - 1))}, "'lr' must be an array of numbers, not a masked"),
    ({"decay": 1.0, "learn": ("decay",)}, "'decay' must be above 1.52587891e-05 and below 0.999984741 to be"),
    ({"decay": 2.0}, "'decay' must be in (0, 1]"),
    ({"l2": np.ones(3)}, "'l2' must be a number"),
    ({"l2": -1.0, "learn": ("l2",)}, "'l2' must not be negative to be learned in log, not -1"),
    ({"init_scale": -1.0}, "'init_scale' must not be negative, not -1"),
    ({"init_scale": np.ones(3)}, "'init_scale' must be a number or one per group, shape (4,), not shape (3,). The"),
    ({"init_scale": NAN}, "'init_scale' must be finite"),
    ({"init_scale": 1.0, "w0": MODEL.init(0)}, "'init_scale' must be left out where w0 is given, not 1.0"),
    ({"init_scale": 0.0, "learn": ("init_scale",)}, "'init_scale' must hold a number above 0"),
    ({"w0": np.zeros(3)}, f"'w0' must have shape ({P},)"),
    ({"w0": lambda seed: np.zeros(3)}, f"'w0' must have shape ({P},)"),
    ({"w0": lambda seed: None}, "'w0' must be an array of real numbers"),
    ({"w0": np.full(P, 2047.5), "learn": ("w0",)}, "'w0' must be at least -2047 and at most 2047 to be"),
    ({"w0": np.full(P, NAN)}, "'w0' must be finite"),
    ({"v0": np.zeros(3)}, "'v0' must have shape"),
    ({"train": None}, "'train' must be a pair (X, Y)"),
    ({"train": (X[:40],)}, "'train' must be a pair (X, Y)"),
    ({"train": (X[:40], Y[:39])}, "'train[1]' must have shape"),
    ({"train": (np.where(X[:40] > 0.5, NAN, 0), Y[:40])}, "'train[0]' must be finite"),
    ({"valid": None}, "'valid' must be a pair (X, Y)"),
    ({"valid": (X[40:, :3], Y[40:])}, "'valid[0]' must have shape"),
    ({"valid": (X[40:], Y[40:] + 9)}, "'valid[1]' must hold classes from 0 to 2"),
    ({"train": (X[:40], CLASSES * 2), "learn": ("y",)}, "'y' must have rows that are not negative and sum to 1"),
    ({"example_weights": np.ones(3)}, "'example_weights' must have shape (40,)"),
    ({"example_weights": np.full(40, -1.0), "learn": ("example_weights",)}, "'example_weights' must be at least 0"),
    ({"steps": 0}, "'steps' must be at least 1"),
    ({"steps": None}, "'steps' must be given where no other argument has an axis of steps"),
    ({"batch_size": 41}, "'batch_size' must be at most 40"),
    ({"truncate": 0}, "'truncate' must be at least 1"),
    ({"runs": 0}, "'runs' must be at least 1"),
    ({"runs": "8"}, "'runs' must be a whole number, not '8'"),
    ({"runs": 0, "w0": MODEL.init(0), "batch_size": None}, "'runs' must be at least 1"),
    ({"runs": "8", "w0": MODEL.init(0), "batch_size": None}, "'runs' must be a whole number, not '8'"),
    ({"meta_steps": 0}, "'meta_steps' must be at least 1"),
    ({"meta_lr": NAN}, "'meta_lr' must be a number above 0, not nan"),
    ({"seed": -1}, "'seed' must be at least 0"),
    ({"patience": 0}, "'patience' must be at least 1"),
    ({"callback": 1}, "'callback' must be a function of the state"),
    ({"progress": "no"}, "'progress' must be True or False"),
    ({"workers": 0}, "'workers' must be at least 1"),
    ({"method": "Nelder-Mead"}, "'method' must be 'adam', or a method of scipy.optimize.minimize that needs"),
    ({"transforms": {"decay": "log"}}, "'transforms' must name only what is learned, 'lr', not 'decay'"),
    ({"transforms": {"theta": "log"}}, "'transforms' must name only what is learned, 'lr', not 'theta'"),
    ({"transforms": {"lr": "exp"}}, "'transforms['lr']' must be one of 'linear'"),
    ({"transforms": {"lr": (-1, 1)}}, "'transforms['lr']' must be bounds between 0 and inf"),
    ({"transforms": {"lr": (0.5, 1)}}, "'lr' must be above 0.5 and below 1 to be learned, not 0.3"),
    ({"transforms": {"lr": "softmax"}}, "'lr' must have rows that are not negative and sum to 1"),
    ({"transforms": "log"}, "'transforms' must map names to transforms, not 'log'"),
    ({"model": "mlp"}, "Argument 'model'"),
    ({"model": fastrev.MLP}, "Argument 'model'"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_arguments_are_named_before_any_work(changes, message, monkeypatch):
    def never(*_):
        raise AssertionError("work was done")

    monkeypatch.setattr("fastrev._tuning.trials.make_all_steps", never)
    with pytest.raises(ArgumentError) as info:
        tune(**changes)
    assert message in str(info.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"w0": None}, "'w0' must be given where the model is a fastrev.Objective, not None. Pass (P,), or a function"),
        ({"init_scale": 1.0}, "'init_scale' must be left out where the model is a fastrev.Objective, not 1.0"),
        ({"train": DATA["train"]}, "'train' must be left out where the model is a fastrev.Objective"),
        ({"batch_size": 8}, "'batch_size' must be left out where"),
        ({"valid": DATA["valid"]}, "'valid' must be a function from weights (P,) to a pair of loss and gradient"),
        ({"learn": ("l2",)}, "'learn' must hold names among 'lr', 'decay', 'v0', 'theta', 'w0', not 'l2'"),
        ({"learn": ("init_scale",)}, "not 'init_scale'"),
    ],
)
def test_bad_arguments_of_an_objective(changes, message):
    with pytest.raises(ArgumentError) as info:
        tune(Quadratic(), **(OBJECTIVE | changes))
    assert message in str(info.value)


def test_a_stranger_of_the_callback_leaves_it():
    with pytest.raises(ZeroDivisionError):
        tune(callback=lambda state: 1 / 0)


def test_the_smallest_problem_of_all():
    result = fastrev.tune(
        fastrev.MLP((1, 1), loss="squared_error"), train=([[1.0]], [[2.0]]), valid=([[1.0]], [[2.0]]), steps=1, lr=0.1,
        decay=0.5, learn=("lr",), meta_steps=1, runs=1, progress=False,
    )  # fmt: skip
    assert result.loss <= result.start_loss
    assert result.nit == 1


def test_digits_like_in_ten_meta_steps():
    case = digits_like()
    arguments = {name: value for name, value in case.arguments.items() if name != "wrt"} | {"l2": 1e-4}
    result = fastrev.tune(case.model, learn=("lr", "decay", "l2"), meta_steps=10, progress=False, **arguments)
    assert result.loss < 0.9 * result.start_loss


def test_example_weights_go_with_their_examples(tmp_path):
    """They are never dropped without a word."""
    X, Y = DATA["train"]
    weights = np.linspace(0.0, 2.0, len(X))
    result = tune(example_weights=weights, learn=("example_weights",), meta_steps=2)
    result.save(tmp_path / "result")
    loaded = fastrev.load(tmp_path / "result")
    assert np.array_equal(loaded.training.arguments["example_weights"], weights)
    for each in (result, loaded):
        with pytest.raises(ArgumentError, match=r"'example_weights' must be given with X and Y"):
            each.train(X, Y)
        assert np.array_equal(each.train(X, Y, example_weights=each.example_weights).w, result.train().w)
    assert not np.array_equal(result.train(X, Y, example_weights=np.ones(len(X))).w, result.train().w)
