"""Adam and AdamW: word for word their naive twin, undone exactly, and differentiated as JAX does it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrev
from fastrev._engine import adam as rules
from fastrev._engine import state as states
from fastrev._engine import workspace
from fastrev.kernels import information_buffer as buffer
from fastrev.kernels import outcomes
from fastrev.testing import assert_same
from tests import naive
from tests.cases import digits_like, random_case, relative_error
from tests.unrolled import computing_in_float64

double = pytest.fixture(computing_in_float64)
NAMES = ("lr", "beta1", "beta2", "eps", "weight_decay")
OF_ADAM = (*NAMES, "w0", "l2")


def adam_of(rng: np.random.Generator, steps: int, groups: int, *, decays: bool = True) -> fastrev.Adam:
    """Of numbers of random shapes: scalar, per step, per group, or both."""
    shapes = [(), (steps,), (steps, 1), (1, groups), (steps, groups)]

    def draw(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, shapes[rng.integers(5)])

    decay = draw(0.0, 2.0) if decays else 0.0
    return fastrev.Adam(draw(1e-3, 0.1), draw(0.2, 0.95), draw(0.6, 0.999), draw(1e-8, 1e-3), 1e-8, decay)


# ---- exact arithmetic ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(size=st.integers(1, 40), steps=st.integers(1, 20), shrinks=st.booleans(), seed=st.integers(0, 2**32))
def test_steps_are_those_of_the_naive_twin_and_are_undone(size, steps, shrinks, seed):
    rng = np.random.default_rng(seed)
    start = rng.standard_normal(size)
    lr, betas = rng.uniform(0, 0.1, steps), rng.uniform(2e-4, 0.9999, (2, steps))
    decay = rng.uniform(0, 9, steps) if shrinks else 0.0
    rule = rules.prepare(lr, *betas, 1e-8, decay, eps_root=1e-8, bounds=np.array([0, size])).over(steps)
    tables, kernels = tuple(rule.tables), rule.walks.by_hand
    state = states.new_state(states.to_grid("w", start), np.zeros((2, size), np.int64), shrinks=rule.shrinks)
    twin, w, scratch = naive.NaiveAdam(start, eps_root=1e-8), np.empty(size), np.empty(buffer.SCRATCH)
    spare, checksums, trail = np.empty((2, size), np.int64), np.zeros(steps, np.int64), []

    def same() -> None:
        top = int(state.cursor[1])
        assert state.w.tolist() == twin.w
        assert state.moments.tolist() == [twin.first.values, twin.second.values]
        assert state.heads.tolist() == [twin.first.heads, twin.second.heads]
        assert state.carry.tolist() == ([twin.carry] if shrinks else [])
        assert state.tail[:top].tolist() == twin.tail

    for t in range(steps):
        made = rule.tables
        numbers = {
            "beta1": (made.n1[t, 0], made.d1[t, 0]), "beta2": (made.n2[t, 0], made.d2[t, 0]),
            "k": 1.0 - lr[t] * (decay[t] if shrinks else 0.0), "spills": bool(made.spills[t, 0]),
            "lr": lr[t], "c1": made.c1[t, 0], "c2": made.c2[t, 0], "eps": 1e-8,
        }  # fmt: skip
        g = 0.3 * rng.standard_normal(size)
        states.make_room_for_step(state)
        assert kernels.make(tables, tuple(state), g, w, checksums, scratch)[0] == outcomes.FINE
        twin.step(g, **numbers)
        same()
        trail.append((g, numbers))
    while trail:
        g, numbers = trail.pop()
        kernels.position_before(tables, tuple(state), spare, w, scratch)
        assert kernels.undo(tables, tuple(state), g, checksums[len(trail)], scratch) == outcomes.FINE
        assert np.array_equal(w, states.to_floats(state.w))
        twin.unstep(g, **numbers)
        same()
    assert np.array_equal(state.w, states.to_grid("w", start))
    assert states.faults(state, state.w, None, ["m", "s"]) == []


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", range(12))
def test_runs_of_any_schedule_are_taken_back(seed, dtype):
    case = random_case(seed, dtype=dtype, batch=None if seed % 2 else 5)
    steps, groups = case.arguments["steps"], len(case.model.groups)
    case.arguments |= {"lr": None, "decay": None, "v0": None, "example_weights": np.full(12, 0.1)}
    run = case.train(optimizer=adam_of(np.random.default_rng(seed), steps, groups, decays=seed % 3 > 0))
    run.rewind()
    assert run.stats.exact
    assert np.array_equal(states.to_floats(run._state.w), states.to_floats(states.to_grid("w0", case.w0)))


def test_a_hundred_thousand_steps():
    """With weights that shrink by 2**144 in all, nine words of each carry."""
    model, rng = fastrev.MLP((2, 2)), np.random.default_rng(0)
    data = rng.standard_normal((8, 2)), rng.integers(2, size=8)
    optimizer = fastrev.Adam(1e-2, weight_decay=0.1)
    run = fastrev.train(model, model.init(0), train=data, optimizer=optimizer, steps=100_000)
    least = np.log2(10 / 9) + np.log2(1000 / 999)
    shrunk = -np.log2(1 - 1e-3)
    assert run.stats.bits_per_parameter_step == pytest.approx(least + shrunk, rel=0.02)
    run.pullback(run.w)
    assert run.stats.exact


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9), (1 / 3, 65535 / 65536)])
def test_bits_are_what_the_betas_forget(betas):
    run = digits_like(steps=3000, lr=None, decay=None).train(optimizer=fastrev.Adam(1e-3, *betas))
    least = sum(np.log2(d / n) for n, d in map(fastrev.ratio, betas))
    assert run.stats.bits_per_parameter_step == pytest.approx(least, rel=0.02)


@pytest.mark.parametrize("name", ["w", "carry", "moments", "heads", "tail"])
@pytest.mark.parametrize("bit", [0, 7, 14])
def test_one_wrong_bit_is_an_error(name, bit):
    run = digits_like(steps=400, lr=None, decay=None).train(optimizer=fastrev.Adam(1e-2, weight_decay=0.1))
    array = getattr(run._state, name).reshape(-1)
    array[int(run._state.cursor[1]) - 1 if name == "tail" else 3] ^= array.dtype.type(1 << bit)
    with pytest.raises(fastrev.ReversalError, match="did not arrive at the start of the run"):
        run.pullback(run.w)


def test_one_call_has_the_bits_of_many():
    """A run that is looked at, one of an Objective, and one step by step: the same weights."""
    model, (x, y) = fastrev.MLP((3, 4, 2)), (np.random.default_rng(0).random((9, 3)), np.arange(9) % 2)
    optimizer = fastrev.Adam(0.03, 0.8, 0.99, 1e-6, 1e-8, 0.05)

    class Same:
        num_params = model.num_params

        def grad(self, w, t):
            return model.grad(w, x, y)

        def hvp(self, w, u, t):
            return model.hvp(w, u, x, y)

    kwargs = {"optimizer": optimizer, "steps": 30}
    run = fastrev.train(model, model.init(0), train=(x, y), **kwargs)
    looked_at = fastrev.train(model, model.init(0), train=(x, y), callback=lambda step, w: None, **kwargs)
    own = fastrev.train(Same(), model.init(0), **kwargs)
    by_hand = fastrev.ReversibleAdam(model.init(0))
    for _ in range(30):
        by_hand.step(lambda w: model.grad(w, x, y), 0.03, 0.8, 0.99, 1e-6, 0.05)
    for other in (looked_at, own, by_hand):
        assert np.array_equal(run.w, other.w)
    w_bar = np.cos(run.w)
    one, other = run.pullback(w_bar, wrt=(*NAMES, "w0")), own.pullback(w_bar, wrt=(*NAMES, "w0"))
    later: Any = w_bar
    sums = dict.fromkeys(NAMES, 0.0)
    for _ in range(30):
        later = by_hand.backward(
            lambda w: model.grad(w, x, y), lambda w, u: model.hvp(w, u, x, y), later, lr=0.03, beta1=0.8, beta2=0.99,
            eps=1e-6, weight_decay=0.05,
        )  # fmt: skip
        sums = {name: total + getattr(later, name) for name, total in sums.items()}
    by_hand.verify()
    np.testing.assert_allclose(later.w_bar, one.w0, rtol=1e-9, atol=1e-15)
    for name in NAMES:
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-9)
        assert sums[name] == pytest.approx(getattr(one, name), rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("seed", "batch"), [(1, 5), (2, None), (5, 600), (8, 257), (13, 1)])
@pytest.mark.parametrize("large", [False, True])
def test_threads_blocks_and_losses_change_no_bit(monkeypatch, seed, batch, dtype, large):
    """Batches of several blocks of rows, of which all must be written before the adjoint can begin with a step."""
    monkeypatch.setattr(workspace, "_RING_STEPS", (2, 2))
    if large:
        monkeypatch.setattr(workspace, "_LARGE_BYTES", 0)
    case = random_case(seed, examples=700, batch=batch, dtype=dtype)
    steps, groups = case.arguments["steps"], len(case.model.groups)
    case.arguments |= {"lr": None, "decay": None, "v0": None, "example_weights": np.full(700, 0.1)}
    optimizer = adam_of(np.random.default_rng(seed), steps, groups)
    wrt = (*NAMES, "w0", "l2", "x", "y", "example_weights")
    w_bar = np.random.default_rng(seed).standard_normal((3, case.model.num_params))
    found = []
    for threads, bars in ((2, w_bar[0]), (1, w_bar[0]), (2, w_bar), (1, w_bar)):
        with fastrev.threads(per_run=threads):
            run = case.train(optimizer=optimizer)
            grad = run.pullback(bars, wrt=wrt)
        assert run.stats.exact
        found.append({name: np.asarray(getattr(grad, name)) for name in wrt})
    assert_same(found[0], found[1])
    assert_same(found[2], found[3])
    assert_same(found[0], {name: each[0] for name, each in found[2].items()})


@pytest.mark.parametrize("losses", [1, 3])
def test_a_large_step_is_held_once(losses):
    """What the network computes of 20,000 examples: twice by two records of many losses, once by Adam alone."""
    model, rng = fastrev.MLP((4, 50, 2)), np.random.default_rng(0)
    data = rng.standard_normal((40_000, 4)), rng.integers(2, size=40_000)
    run = fastrev.train(model, model.init(0), train=data, steps=2, optimizer=fastrev.Adam(1e-3))
    before = run.stats.bytes_held
    run.pullback(np.ones((losses, model.num_params)) if losses > 1 else np.ones(model.num_params))
    of_a_step = 8 * (2 * 52 + 2) * 40_192  # whole blocks of 256
    assert run.stats.bytes_held - before < (2 if losses > 1 else 1) * of_a_step + 2e6


# ---- derivatives ---------------------------------------------------------------------------------------------


def unrolled(case, optimizer: fastrev.Adam, steps: int) -> tuple[float, np.ndarray, dict[str, np.ndarray]]:
    """The loss, the final weights and all gradients by JAX, of training in floats."""
    import jax
    import jax.numpy as jnp

    model, a = case.model, case.arguments
    groups = len(model.groups)
    widths = np.diff(model.network.bounds)
    x, y = (jnp.asarray(each, float) for each in (a["train"][0], a["train"][1]))
    weights = jnp.ones(len(x)) if a.get("example_weights") is None else jnp.asarray(a["example_weights"])
    act = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu, "softplus": jax.nn.softplus,
           "identity": lambda z: z}[model.activation]  # fmt: skip

    def loss(w, x, y, c):
        parts = jnp.split(w, np.cumsum(widths)[:-1])
        for i, (rows, columns) in enumerate(zip(model.sizes[:-1], model.sizes[1:], strict=True)):
            x = x @ parts[2 * i].reshape(rows, columns) + parts[2 * i + 1]
            x = act(x) if i < len(model.sizes) - 2 else x
        if model.loss == "cross_entropy":
            each = -jnp.sum(jax.nn.log_softmax(x) * y, 1)
        elif model.loss == "squared_error":
            each = 0.5 * jnp.sum((x - y) ** 2, 1)
        else:
            each = jnp.sum(jax.nn.softplus(x) - y * x, 1)
        return jnp.mean(c * each)

    def spread(l2):
        return jnp.repeat(l2, widths, total_repeat_length=model.num_params) if l2.shape == (groups,) else l2

    batches = a.get("batches")

    def final(w0, lr, beta1, beta2, eps, decay, l2):
        def every(value):
            value = jnp.asarray(value)
            value = value.reshape(-1, 1) if value.ndim < 2 else value
            return jnp.repeat(jnp.broadcast_to(value, (steps, groups)), widths, axis=1, total_repeat_length=w0.size)

        def step(carry, now):
            w, m, s, p1, p2 = carry
            alpha, b1, b2, eps, decay, rows = now
            batch = (x, y, weights) if rows is None else (x[rows], y[rows], weights[rows])
            g = jax.grad(lambda w: loss(w, *batch) + 0.5 * jnp.sum(spread(l2) * w * w))(w)
            m, s, p1, p2 = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g * g, p1 * b1, p2 * b2
            under = s / (1 - p2) + optimizer.eps_root
            root = jnp.where(under > 0, jnp.sqrt(jnp.where(under > 0, under, 1.0)), 0.0)
            return ((1 - alpha * decay) * w - alpha * m / (1 - p1) / (root + eps), m, s, p1, p2), None

        ones, zeros = jnp.ones(w0.size), jnp.zeros(w0.size)
        tables = [every(each) for each in (lr, beta1, beta2, eps, decay)]
        rows = None if batches is None else jnp.asarray(batches)
        (w, *_), _ = jax.lax.scan(step, (w0, zeros, zeros, ones, ones), (*tables, rows), length=steps)
        return loss(w, *map(jnp.asarray, a["valid"]), jnp.ones(len(a["valid"][0]))), w

    ratios = {name: np.divide(*fastrev.ratio(getattr(optimizer, name))) for name in ("beta1", "beta2")}
    values = [np.asarray(ratios.get(name, getattr(optimizer, name)), float) for name in NAMES]
    where = tuple(range(7))
    (value, w), found = jax.jit(jax.value_and_grad(final, where, has_aux=True))(case.w0, *values, np.asarray(a["l2"]))
    return float(value), np.asarray(w), dict(zip(("w0", *NAMES, "l2"), map(np.asarray, found), strict=True))


@cache
def case_of(seed: int, dtype: type = np.float64):
    case = random_case(seed, dtype=dtype, batch=None if seed % 4 == 3 else 5)
    steps, groups = case.arguments["steps"], len(case.model.groups)
    case.arguments |= {"lr": None, "decay": None, "v0": None, "wrt": OF_ADAM}
    case.arguments["example_weights"] *= 0.1  # which scales the loss
    return case, adam_of(np.random.default_rng(seed), steps, groups, decays=seed % 3 > 0), steps


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("seed", range(15))
def test_gradients_are_those_of_jax(seed):
    case, optimizer, steps = case_of(seed)
    result = case.meta_grad(optimizer=optimizer)
    loss, w, found = unrolled(case, optimizer, steps)
    assert result.loss == pytest.approx(loss, rel=1e-10)
    assert relative_error(result.w, w) < 1e-9
    for name in OF_ADAM:
        assert np.shape(getattr(result.grad, name)) == found[name].shape
        assert relative_error(getattr(result.grad, name), found[name]) < 1e-7, name


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("decay", [0.0, 0.01, 1.0])
def test_a_longer_training_by_the_defaults(decay):
    case = digits_like(steps=200, lr=None, decay=None, wrt=OF_ADAM)
    case.arguments["train"] = case.arguments["train"][0], np.eye(3)[case.arguments["train"][1]]
    case.arguments["valid"] = case.arguments["valid"][0], np.eye(3)[case.arguments["valid"][1]]
    case.arguments["batches"] = fastrev.minibatches(40, 8, 200, 0)
    case.arguments.pop("batch_size")
    optimizer = fastrev.Adam(0.01, weight_decay=decay)
    result = case.meta_grad(optimizer=optimizer)
    loss, w, found = unrolled(case, optimizer, 200)
    assert relative_error(result.w, w) < 1e-9
    assert result.loss == pytest.approx(loss, rel=1e-9)
    for name in OF_ADAM:
        assert relative_error(getattr(result.grad, name), found[name]) < 1e-8, name


@pytest.mark.usefixtures("double")
def test_float32_is_as_near_as_float32_is():
    case, optimizer, steps = case_of(4, np.float32)
    result = case.meta_grad(optimizer=optimizer)
    _, w, found = unrolled(case, optimizer, steps)
    assert relative_error(result.w, w) < 1e-5
    for name in OF_ADAM:
        assert relative_error(getattr(result.grad, name), found[name]) < 1e-3, name


@pytest.mark.parametrize("seed", [1, 4, 5, 7])
def test_a_stored_trajectory_and_small_moves_agree(seed):
    case, optimizer, _ = case_of(seed)
    arguments = {name: value for name, value in case.arguments.items() if name != "valid"}
    check = fastrev.check_meta_grad(
        case.model, case.w0, valid=case.arguments["valid"], optimizer=optimizer, directions=1, **arguments
    )
    assert check.passed, check


@pytest.mark.parametrize(("name", "decay"), [("Adam", 0.0), ("AdamW", 0.01), ("AdamW", 0.3)])
@pytest.mark.parametrize(("eps", "bound"), [(1e-4, 1e-9), (1e-6, 1e-6)])
def test_weights_are_those_of_pytorch(name, decay, eps, bound):
    torch = pytest.importorskip("torch", reason="PyTorch is not in the test extra")
    case = digits_like(steps=200, lr=None, decay=None)
    model, (x, y) = case.model, case.arguments["train"]
    rows = fastrev.minibatches(40, 8, 200, 0)
    optimizer = fastrev.Adam(0.01, eps=eps, eps_root=0.0, weight_decay=decay)
    run = fastrev.train(model, case.w0, train=(x, y), batches=rows, optimizer=optimizer)
    w = torch.tensor(case.w0, requires_grad=True)
    theirs = getattr(torch.optim, name)([w], lr=0.01, eps=eps, weight_decay=decay)
    for t in range(200):
        w.grad = torch.tensor(model.grad(w.detach().numpy(), x[rows[t]], y[rows[t]]))
        theirs.step()
    assert relative_error(run.w, w.detach().numpy()) < bound


@pytest.mark.parametrize("eps_root", [0.0, 1e-8])
def test_inputs_that_are_always_zero(eps_root):
    """Their weights stay where they are but for decay, and have no part in any derivative but that by it."""
    case = digits_like(lr=None, decay=None, wrt=OF_ADAM)
    x, y = case.arguments["train"]
    x[:, 1] = 0.0
    still = fastrev.Adam(0.01, eps_root=eps_root)
    result = case.meta_grad(optimizer=still, train=(x, y))
    w0, w, by_w0 = (case.model.unflatten(each)["W1"] for each in (case.w0, result.w, result.grad.w0))
    np.testing.assert_array_equal(w[1], states.to_floats(states.to_grid("w", w0[1].copy())))
    assert all(np.isfinite(getattr(result.grad, name)).all() for name in OF_ADAM)
    direct = case.model.unflatten(case.model.grad(result.w, *case.arguments["valid"]))["W1"]
    np.testing.assert_allclose(by_w0[1], direct[1], rtol=1e-12)
    decayed = case.meta_grad(optimizer=fastrev.Adam(0.01, eps_root=eps_root, weight_decay=0.5), train=(x, y))
    shrunk = case.model.unflatten(decayed.w)["W1"][1]
    np.testing.assert_allclose(shrunk, w0[1] * (1 - 0.005) ** 20, rtol=1e-12)


# ---- what is refused -----------------------------------------------------------------------------------------


def test_a_gradient_that_is_too_large_for_the_second_moment():
    case = digits_like(lr=None, decay=None)
    with pytest.raises(fastrev.DivergenceError, match=r"numbers below 2, in group 'W1'\. Scale the loss"):
        case.train(l2=30.0, optimizer=fastrev.Adam(1e-3, beta2=0.5))


def test_weights_that_leave_the_grid():
    case = digits_like(lr=None, decay=None, steps=3000)
    with pytest.raises(fastrev.DivergenceError, match="first moment would leave the grid") as info:
        case.train(optimizer=fastrev.Adam(1000.0))
    run = info.value.run
    assert run.stats.steps == info.value.step
    run.rewind()
    assert run.stats.exact


@pytest.mark.parametrize(
    ("numbers", "pieces"),
    [
        ({"beta1": 0.0}, ["'beta1'", "between 0 and 1", "RMSprop"]),
        ({"beta2": 0.0}, ["'beta2'", "between 0 and 1"]),
        ({"beta1": 1.0}, ["'beta1'", "at most 65535/65536", "1"]),
        ({"beta2": [0.9, 1.5]}, ["'beta2'", "1.5"]),
        ({"beta1": -0.1}, ["'beta1'", "-0.1"]),
        ({"beta1": 1e-6}, ["'beta1'", "2**-16"]),
        ({"beta2": 1 - 1e-7}, ["'beta2'", "65535/65536"]),
        ({"eps": 0.0, "eps_root": 0.0}, ["'eps'", "at least 1e-08", "eps_root"]),
        ({"eps": 1e-12, "eps_root": 0.0}, ["'eps'", "at least 1e-08", "1e-12"]),
        ({"eps": 1e-12, "eps_root": 1e-18}, ["'eps'", "at least 1e-08", "1.001e-09"]),
        ({"beta2": 1 - 1e-10}, ["'beta2'", "at most 65535/65536", "0.9999999999"]),
        ({"beta1": [0.9] * 19 + [1 - 1e-10]}, ["'beta1'", "at most 65535/65536"]),
        ({"eps": -1e-8}, ["'eps'", "not be negative"]),
        ({"eps_root": -1.0}, ["'eps_root'", "not be negative"]),
        ({"eps_root": [1e-8, 1e-8]}, ["'eps_root'", "one number"]),
        ({"weight_decay": -1.0}, ["'weight_decay'", "not be negative"]),
        ({"lr": 0.5, "weight_decay": 2.0}, ["'weight_decay'", "1 - lr * weight_decay"]),
        ({"lr": -1.0}, ["'lr'", "not be negative"]),
        ({"lr": np.full(7, 0.1)}, ["'lr'", "20"]),
        ({"lr": np.full((20, 4), 0.1), "weight_decay": np.full((7, 1), 0.1)}, ["'weight_decay'", "7"]),
        ({"lr": "fast"}, ["'lr'", "real numbers"]),
        ({"beta1": np.full((20, 3), 0.9)}, ["'beta1'", "(20, 3)"]),
    ],
)
def test_bad_numbers(numbers, pieces):
    case = digits_like(lr=None, decay=None)
    with pytest.raises(fastrev.ArgumentError) as info:
        case.train(optimizer=fastrev.Adam(**({"lr": 0.01} | numbers)))
    assert all(piece in str(info.value) for piece in pieces), info.value


@pytest.mark.parametrize(
    ("change", "pieces"),
    [
        ({"lr": 0.1}, ["'lr'", "be left out"]),
        ({"decay": 0.9}, ["'decay'", "be left out"]),
        ({"optimizer": "adam"}, ["'optimizer'", "fastrev.Adam", "'adam'"]),
        ({"optimizer": "nesterov"}, ["'optimizer'", "cannot be taken back", "weights that are to be found"]),
        ({"optimizer": type("RMSprop", (), {})()}, ["'optimizer'", "RMSprop cannot be taken back"]),
        ({"optimizer": type("Lion", (), {})}, ["'optimizer'", "Lion cannot be taken back"]),
        ({"optimizer": type("SGD", (), {"defaults": {"nesterov": True}})()}, ["Nesterov's momentum cannot be"]),
        ({"optimizer": "adamw"}, ["'optimizer'", "fastrev.Adam(lr=0.001, weight_decay=0.01)"]),
        ({"optimizer": fastrev.Adam}, ["'optimizer'", "fastrev.SGD or fastrev.Adam"]),
        ({"v0": np.zeros(43)}, ["'v0'", "velocity"]),
    ],
)
def test_bad_company(change, pieces):
    case = digits_like(lr=None, decay=None)
    with pytest.raises(fastrev.ArgumentError) as info:
        case.train(**({"optimizer": fastrev.Adam(0.01)} | change))
    assert all(piece in str(info.value) for piece in pieces), info.value


def test_optimizers_compare_and_show_their_arguments():
    assert fastrev.Adam(0.01) == fastrev.Adam(0.01, beta1=0.9)
    assert fastrev.Adam(np.ones(3)) == fastrev.Adam(np.ones(3))
    assert fastrev.Adam(0.01) != fastrev.Adam(0.02)
    assert fastrev.SGD(0.1, 0.9) != fastrev.Adam(0.1, 0.9)
    shown = "Adam(lr=array(3,), beta1=0.9, beta2=0.999, eps=1e-08, eps_root=1e-08, weight_decay=0.0)"
    assert repr(fastrev.Adam(np.ones(3))) == shown
    assert repr(fastrev.SGD(0.1, 0.9)) == "SGD(lr=0.1, decay=0.9)"
    assert repr(fastrev.SGD([[0.1], [0.2, 0.3]], "fast")) == "SGD(lr=a list, decay=fast)"


@pytest.mark.parametrize("eps", [1e-8, np.float32(1e-8), float(np.exp(np.log(1e-8)))])
def test_what_pytorch_has_is_taken_in_float32_too(eps):
    digits_like(steps=3, lr=None, decay=None).train(optimizer=fastrev.Adam(0.01, eps=eps, eps_root=0.0))


@pytest.mark.parametrize("name", ["decay", "v0"])
def test_what_adam_does_not_have_cannot_be_differentiated_by(name):
    with pytest.raises(fastrev.ArgumentError, match=f"'{name}'"):
        digits_like(lr=None, decay=None, wrt=(name,)).meta_grad(optimizer=fastrev.Adam(0.01))


# ---- step by step --------------------------------------------------------------------------------------------


def stepped(
    groups: dict[str, slice] | None = None, **numbers: Any
) -> tuple[fastrev.ReversibleAdam, list[dict[str, Any]]]:
    adam_ = fastrev.ReversibleAdam(np.linspace(-1, 1, 6), groups)
    trail = []
    for t in range(5):
        now = {"lr": 0.1 / (t + 1), "beta1": 0.5 + t / 20, "weight_decay": 0.3} | numbers
        adam_.step(gradient, **now)
        trail.append(now)
    return adam_, trail


def state_of(adam_: fastrev.ReversibleAdam) -> dict[str, np.ndarray]:
    found = {name: each.copy() for name, each in adam_._state._asdict().items()}
    return found | {"tail": found["tail"][: found["cursor"][1]]}


def gradient(w):
    return 0.3 * np.sin(3 * w)


def test_steps_by_groups_are_taken_back():
    groups = {"first": slice(0, 2), "rest": slice(2, 6)}
    adam_, trail = stepped(groups, eps=np.array([1e-8, 1e-3]), beta2=np.array([0.9, 0.99]))
    for now in reversed(trail):
        adam_.unstep(gradient, **now)
    adam_.verify()
    assert adam_.bits == 0


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_each_group_goes_as_it_would_alone(seed):
    """Whether its numbers are those of its neighbours in a step or not: what came before may differ."""
    rng = np.random.default_rng(seed)
    groups = {"a": slice(0, 2), "b": slice(2, 3), "c": slice(3, 6)}
    start = rng.standard_normal(6)
    together = fastrev.ReversibleAdam(start, groups)
    alone = {name: fastrev.ReversibleAdam(start[part]) for name, part in groups.items()}
    ranges = {"lr": (0, 0.1), "beta1": (0.1, 0.95), "beta2": (0.1, 0.999), "eps": (1e-8, 1e-3), "weight_decay": (0, 9)}
    trail = []
    for _ in range(12):
        numbers = {name: rng.uniform(*ends, 3 if rng.integers(2) else None) for name, ends in ranges.items()}
        g = 0.3 * rng.standard_normal(6)
        together.step(g, **numbers)
        for k, (name, part) in enumerate(groups.items()):
            alone[name].step(g[part], **{each: np.broadcast_to(value, 3)[k] for each, value in numbers.items()})
            assert np.array_equal(together.w[part], alone[name].w)
        trail.append((g, numbers))
    for g, numbers in reversed(trail):
        together.unstep(g, **numbers)
    together.verify()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"lr": 0.3}, "another lr"), ({"beta1": 0.6}, "another beta1"), ({"beta2": 0.9}, "another beta2"),
     ({"eps": 1e-7}, "another eps"), ({"weight_decay": 0.2}, "another weight_decay"),
     ({"g": np.ones(6)}, "another gradient")],
)  # fmt: skip
def test_a_wrong_undo_is_refused(change, message):
    adam_, trail = stepped()
    before = state_of(adam_)
    with pytest.raises(fastrev.ReversalError, match=message):
        adam_.unstep(**({"g": gradient} | trail[-1] | change))
    assert_same(state_of(adam_), before)
    adam_.unstep(gradient, **trail[-1])


def test_an_hvp_that_fails_changes_nothing():
    adam_, trail = stepped()
    before = state_of(adam_)

    def fail(w, u):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        adam_.backward(gradient, fail, np.ones(6), **trail[-1])
    assert_same(state_of(adam_), before)
    adam_.unstep(gradient, **trail[-1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: a.step(np.ones(5), 0.1), "'g'"),
        (lambda a: a.step(np.ones(6), [0.1, 0.2]), "'lr' must be a number or have shape"),
        (lambda a: a.step(np.full(6, 9.0), 0.1, beta2=0.5), "squared gradient would leave its grid"),
        (lambda a: a.step(np.ones(6), 1e5), "learning rate that is too high"),
        (lambda a: a.step(np.ones(6), 1.0, weight_decay=2.0), "1 - lr \\* weight_decay"),
        (lambda a: a.step(np.ones(6), 1.0, weight_decay=1.0), "1 - lr \\* weight_decay"),
        (lambda a: a.step(np.ones(6), 0.5, weight_decay=1.99999), "which makes 5e-06"),
        (lambda a: a.backward(gradient, None, np.ones(6), lr=0.02, beta1=0.7, weight_decay=0.3), "'hvp'"),
        (lambda a: fastrev.ReversibleAdam([1.0], eps_root=-1.0), "'eps_root'"),
        (lambda a: fastrev.ReversibleAdam([1.0], {"a": slice(0, 2)}), "'groups'"),
        (lambda a: fastrev.ReversibleAdam([[1.0]]), "'w0'"),
    ],
)
def test_bad_calls(call, message):
    adam_, trail = stepped()
    before = adam_.w
    with pytest.raises(fastrev.FastrevError, match=message):
        call(adam_)
    assert np.array_equal(before, adam_.w)
    adam_.unstep(gradient, **trail[-1])
