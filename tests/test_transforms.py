"""In which coordinates things move: there and back, the chain rule, every boundary by number; and Adam as published."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastrev
from fastrev._engine.hyperparameters import LARGEST_DECAY, SMALLEST_DECAY, decays, ratios
from fastrev._engine.hyperparameters import by_step_and_group as table
from fastrev._tuning.adam import Moments
from fastrev._tuning.space import Space
from fastrev._tuning.transforms import Linear, Log, Logit, Softmax, as_mapping, choose
from fastrev.errors import ArgumentError

DECAY = Logit(SMALLEST_DECAY, LARGEST_DECAY)
# a transform, and the numbers that hypothesis may draw for it
ELEMENTWISE = {
    "linear": (Linear(), (-1e6, 1e6)),
    "nonnegative": (Linear(0.0), (0.0, 1e6)),
    "grid": (Linear(-2047.0, 2047.0), (-2047.0, 2047.0)),
    "log": (Log(), (1e-250, 1e250)),
    "logit": (Logit(), (1e-12, 1 - 1e-12)),
    "decay": (DECAY, (SMALLEST_DECAY * (1 + 1e-6), LARGEST_DECAY - 1e-9)),
    "pair": (Logit(-3.0, 7.0), (-3 + 1e-9, 7 - 1e-9)),
    "decay in log": (Log(SMALLEST_DECAY, LARGEST_DECAY), (SMALLEST_DECAY, LARGEST_DECAY)),
}
shapes = hnp.array_shapes(min_dims=0, max_dims=2, max_side=4)
quick = settings(max_examples=40, deadline=None)


def arrays(low, high, shape=shapes):
    return hnp.arrays(np.float64, shape, elements=st.floats(low, high, allow_subnormal=False))


def bounds_of(transform):
    low, high = transform.bounds
    return max(low, -1e9), min(high, 1e9)


def central_difference(transform, z, weights, size=1e-5):
    """Of sum(weights * value(z)), by every number of z."""
    found = np.zeros_like(z)
    for i in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[i] = size * max(1.0, abs(z[i]))
        difference = transform.value(z + step) - transform.value(z - step)
        found[i] = np.sum(weights * difference) / (2 * step[i])
    return found


# ---- laws ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ELEMENTWISE)
@quick
@given(data=st.data())
def test_there_and_back(kind, data):
    transform, (low, high) = ELEMENTWISE[kind]
    value = data.draw(arrays(low, high))
    kept = value.copy()
    z = transform.free("name", value)
    back = transform.value(z)
    assert z.shape == back.shape == value.shape
    assert np.isfinite(z).all()
    # z is good to an ulp, which the exponential makes as many as |z| of the value, of its distance to a near bound too
    near = np.abs(back - value) <= 1e-12 * np.maximum(np.abs(value), 1 if kind == "pair" else 0)
    assert near.all()
    assert not np.shares_memory(z, value)
    assert np.array_equal(value, kept)


@pytest.mark.parametrize("kind", ELEMENTWISE)
@quick
@given(data=st.data())
def test_every_z_stands_for_something_admissible(kind, data):
    """The ends of the range among them; no warning either, which would be an error."""
    transform, _ = ELEMENTWISE[kind]
    least, most = bounds_of(transform)
    z = data.draw(arrays(least, most))
    for each in (z, np.full_like(z, least), np.full_like(z, most)):
        value = transform.value(each)
        assert np.isfinite(value).all()
        assert ((transform.low <= value) & (value <= transform.high)).all()
        gradient = transform.pull(value, np.ones_like(value))
        assert np.isfinite(gradient).all()
        assert (gradient >= 0).all()  # all of them rise


@pytest.mark.parametrize("kind", ELEMENTWISE)
@quick
@given(data=st.data())
def test_the_chain_rule_by_central_differences(kind, data):
    transform, _ = ELEMENTWISE[kind]
    least, most = bounds_of(transform)
    z = data.draw(arrays(max(least + 0.1, -5.0), min(most - 1e-4, 5.0)))
    weights = data.draw(arrays(-2, 2, z.shape))
    pulled = transform.pull(transform.value(z), weights)
    assert pulled.shape == z.shape
    np.testing.assert_allclose(pulled, central_difference(transform, z, weights), rtol=1e-6, atol=1e-7)


@quick
@given(st.data(), st.integers(1, 4), st.integers(2, 5))
def test_softmax(data, rows, classes):
    mass = data.draw(arrays(1e-3, 1, (rows, classes)))
    value = mass / mass.sum(axis=1, keepdims=True)
    transform = Softmax()
    z = transform.free("y", value)
    np.testing.assert_allclose(transform.value(z), value, rtol=1e-13)
    weights = data.draw(arrays(-2, 2, value.shape))
    pulled = transform.pull(value, weights)
    np.testing.assert_allclose(pulled, central_difference(transform, z, weights), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(pulled.sum(axis=1), 0, atol=1e-12)  # what is common to a row has no effect


# ---- boundaries by number ------------------------------------------------------------------------------------


def test_a_zero_in_log_stays_zero():
    transform, value = Log(), np.array([0.0, 1e-4, 0.0])
    z = transform.free("l2", value)
    assert z.tolist() == [-np.inf, np.log(1e-4), -np.inf]
    assert transform.value(z).tolist() == pytest.approx(value.tolist(), rel=1e-14)
    assert (transform.value(z)[[0, 2]] == 0).all()
    assert transform.pull(transform.value(z), np.full(3, 7.0)).tolist() == pytest.approx([0, 7e-4, 0])
    space = Space({"l2": transform}, {"l2": (3,)})
    moved = space.within(z + np.array([0.0, 5.0, 0.0]))
    assert space.values(moved)["l2"].tolist() == pytest.approx([0, 1e-4 * np.exp(5), 0])


def test_the_smallest_and_largest_in_log():
    space = Space({"lr": Log()}, {"lr": (2,)})
    ends = space.values(space.within(np.array([-1e9, 1e9])))["lr"]
    assert ends.tolist() == pytest.approx([1e-300, 1e300])
    assert (ends > 0).all()  # or it would be frozen for ever
    tiny = Log().free("lr", np.array([5e-324]))
    assert Log().value(tiny).tolist() == pytest.approx([1e-300])


@pytest.mark.parametrize("transform", [DECAY, choose("decay", "log", SMALLEST_DECAY, LARGEST_DECAY),
                                       choose("decay", "linear", SMALLEST_DECAY, LARGEST_DECAY),
                                       choose("decay", "logit", SMALLEST_DECAY, LARGEST_DECAY)])  # fmt: skip
def test_decays_that_the_exact_arithmetic_admits(transform):
    """Wherever it is taken, there is a ratio for it."""
    space = Space({"decay": transform}, {"decay": (3,)})
    values = space.values(space.within(np.array([-1e9, 0.5, 1e9])))["decay"]
    assert values[0] == pytest.approx(2.0**-16, rel=1e-6)
    assert values[2] == pytest.approx(65535 / 65536, abs=1e-9)
    n, d = ratios(decays(table("decay", values, 1, "")))
    assert ((n >= 1) & (n < d) & (d <= 2**16)).all()


@pytest.mark.parametrize("value", [2.0**-16, 65535 / 65536, 1.0, 1e-9])
def test_decays_at_or_beyond_the_ends_are_not_learned(value):
    with pytest.raises(fastrev.ArgumentError) as info:
        DECAY.free("decay", np.array([0.9, value]))
    expected = f"'decay' must be above 1.52587891e-05 and below 0.999984741 to be learned, not {value:.9g}"
    assert expected in str(info.value)
    just_within = np.array([np.nextafter(2.0**-16, 1), np.nextafter(65535 / 65536, 0)])
    z = DECAY.free("decay", just_within)
    assert z.tolist() == [-30, 30]
    assert DECAY.value(z).tolist() == pytest.approx(just_within.tolist(), abs=1e-12)


def test_labels_that_rule_a_class_out_are_smoothed_by_one_percent():
    y = np.array([[0.0, 1, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [0.7, 0.1, 0.1, 0.1]])
    value = Softmax().value(Softmax().free("y", y))
    expected = [[0.0025, 0.9925, 0.0025, 0.0025], y[1], [0.4975, 0.4975, 0.0025, 0.0025], y[3]]
    np.testing.assert_allclose(value, expected, rtol=1e-14)


@pytest.mark.parametrize("extreme", [-1e9, 1e9])
def test_softmax_overflows_nowhere(extreme):
    space = Space({"y": Softmax()}, {"y": (2, 3)})
    z = space.within(np.array([extreme, 0, 0, extreme, extreme, -extreme]))
    value = space.values(z)["y"]
    assert np.isfinite(value).all()
    np.testing.assert_allclose(value.sum(axis=1), 1, rtol=1e-15)
    assert np.isfinite(space.pull({"y": value}, {"y": np.full((2, 3), 1e6)})).all()


def test_example_weights_are_kept_at_zero():
    space = Space({"example_weights": Linear(0.0)}, {"example_weights": (3,)})
    z = space.free({"example_weights": np.array([0.0, 1.0, 2.0])})
    assert space.values(space.within(z - 1.5))["example_weights"].tolist() == [0, 0, 0.5]
    assert space.clipped() == ["example_weights"]


def test_a_pair_of_bounds():
    transform = choose("lr", (0.01, 2), 0.0)
    assert transform == Logit(0.01, 2.0)
    ends = transform.value(np.array(transform.bounds))
    assert ends.tolist() == pytest.approx([0.01, 2.0], abs=1e-12)
    assert transform.free("lr", np.array(1.005)) == pytest.approx(0)


# ---- what users write ----------------------------------------------------------------------------------------


def test_names_of_transforms():
    assert choose("a", "linear") == Linear()
    assert choose("a", "nonnegative") == Linear(0.0)
    assert choose("a", "log") == Log()
    assert choose("a", "logit") == Logit(0.0, 1.0)
    assert choose("a", "softmax") == Softmax()
    assert choose("lr", "linear", 0.0) == Linear(0.0)  # a negative rate is no rate
    assert choose("w0", "linear", -2047.0, 2047.0) == Linear(-2047.0, 2047.0)
    assert choose("a", [np.int64(1), np.float32(2)]) == Logit(1.0, 2.0)
    assert as_mapping(None) == {}


@pytest.mark.parametrize(
    "chosen",
    ["LOG", "", None, 3, (1, 1), (2, 1), (0, np.inf), (np.nan, 1), (1,), (1, 2, 3), ("0", "1"), (False, True), Linear],
)
def test_other_transforms_are_refused(chosen):
    with pytest.raises(fastrev.ArgumentError) as info:
        choose("lr", chosen)
    message = str(info.value)
    assert "Argument 'transforms['lr']' must be one of 'linear', 'log', 'logit'" in message
    assert "or a pair of bounds (low, high), not " + repr(chosen) in message


def test_transforms_that_would_leave_what_can_be_run():
    with pytest.raises(
        fastrev.ArgumentError, match=r"transforms\['decay'\]' must be bounds between 1\.5.*e-05 and 0\.9"
    ):
        choose("decay", (0.5, 1.5), SMALLEST_DECAY, LARGEST_DECAY)
    with pytest.raises(fastrev.ArgumentError, match=r"transforms\['decay'\]' must keep decay between .*not 'softmax'"):
        choose("decay", "softmax", SMALLEST_DECAY, LARGEST_DECAY)


@pytest.mark.parametrize("given", ["log", ["lr"], 3])
def test_transforms_are_a_mapping(given):
    with pytest.raises(fastrev.ArgumentError, match=r"'transforms' must map names to transforms, not .* Pass a dict"):
        as_mapping(given)


@pytest.mark.parametrize(
    ("transform", "value", "message"),
    [
        (Log(), [-1.0, 2.0], "not be negative to be learned in log, not -1"),
        (Log(), [0.0, 0.0], r"hold a number above 0 .* not 0\. A 0 stays 0: pass a small number such as 1e-4, or "),
        (Log(), [1e301], "at least 1e-300 and at most 1e\\+300 to be learned, not 1e\\+301"),
        (Linear(0.0), [1.0, -2.0], "be at least 0 to be learned, not -2"),
        (Linear(0.0, 1.0), [0.0, 1.0, 1.5], "be at least 0 and at most 1 to be learned, not 1.5"),
        (Logit(), [0.5, 1.0], "be above 0 and below 1 to be learned, not 1"),
        (
            Softmax(),
            [0.5, 0.5],
            r"have rows that are not negative and sum to 1 .*, not shape \(2,\)\. Pass transforms=",
        ),
        (Softmax(), [[0.5, 0.4]], "not a row that sums to 0.9"),
        (Softmax(), [[0.5, 0.5], [-0.5, 1.5]], "not -0.5"),
    ],
)
def test_values_that_a_transform_has_no_place_for(transform, value, message):
    with pytest.raises(fastrev.ArgumentError, match="Argument 'name' must .*" + message):
        transform.free("name", np.array(value))


# ---- all of it as one vector ---------------------------------------------------------------------------------


def test_a_space_of_every_shape():
    rng = np.random.default_rng(0)
    values = {
        "number": np.array(0.3), "steps": rng.uniform(0.1, 1, 5), "groups": rng.uniform(0.1, 0.9, (1, 4)),
        "none": np.zeros((0, 3)), "both": rng.standard_normal((5, 4)), "rows": np.full((2, 3), 1 / 3),
    }  # fmt: skip
    transforms = {
        "number": Log(),
        "steps": Log(),
        "groups": DECAY,
        "none": Linear(),
        "both": Linear(),
        "rows": Softmax(),
    }
    space = Space(transforms, {name: value.shape for name, value in values.items()})
    z = space.free(values)
    assert z.shape == (1 + 5 + 4 + 0 + 20 + 6,)
    back = space.values(z)
    assert list(back) == list(values)
    for name, value in values.items():
        assert back[name].shape == value.shape
        np.testing.assert_allclose(back[name], value, rtol=1e-13)
        assert not np.shares_memory(back[name], z)
    gradients = {name: rng.standard_normal(value.shape) for name, value in values.items()}
    expected = [np.ravel(transforms[name].pull(values[name], gradients[name])) for name in values]
    np.testing.assert_array_equal(space.pull(values, gradients), np.concatenate(expected))
    low, high = space.bounds()
    assert low.shape == high.shape == z.shape
    assert (low[6:10].tolist(), high[6:10].tolist()) == ([-30.0] * 4, [30.0] * 4)
    assert np.array_equal(space.within(z), z)
    assert np.flatnonzero(space.where("groups")).tolist() == [6, 7, 8, 9]


# ---- Adam ----------------------------------------------------------------------------------------------------


def adam_by_hand(x, gradient, rates):
    """Algorithm 1 of the paper, a number at a time."""
    x, m, v = list(x), [0.0] * len(x), [0.0] * len(x)
    for t, rate in enumerate(rates, 1):
        g = gradient(x)
        for i in range(len(x)):
            m[i] = 0.9 * m[i] + 0.1 * g[i]
            v[i] = 0.999 * v[i] + 0.001 * g[i] ** 2
            x[i] -= rate * (m[i] / (1 - 0.9**t)) / ((v[i] / (1 - 0.999**t)) ** 0.5 + 1e-8)
    return x


def bumpy(x):
    return [4 * (x[0] - 1) ** 3 + x[1], np.sin(x[1]) + x[0], 1e-6 * x[2]]


def test_adam_is_the_published_one():
    rates = np.linspace(0.1, 0.01, 50)
    x, moments = np.array([3.0, -2.0, 0.5]), Moments(np.zeros(3), np.zeros(3))
    for rate in rates:
        moments = moments.after(np.array(bumpy(x)))
        x = x + rate * moments.direction
    assert moments.steps == 50
    np.testing.assert_allclose(x, adam_by_hand([3.0, -2.0, 0.5], bumpy, rates), rtol=1e-12)


def test_adam_is_that_of_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    there = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([there], lr=0.1)
    x, moments = np.array([3.0, -2.0, 0.5]), Moments(np.zeros(3), np.zeros(3))
    for _ in range(50):
        there.grad = torch.tensor(bumpy(there.detach().numpy()), dtype=torch.float64)
        optimizer.step()
        moments = moments.after(np.array(bumpy(x)))
        x = x + 0.1 * moments.direction
    np.testing.assert_allclose(x, there.detach().numpy(), rtol=1e-10)


def test_the_whole_loop_is_adam_where_nothing_is_refused():
    """Of one run a meta-step, at a rate that falls along half a cosine, its gradients clipped to the running median."""
    n, norms = 40, []

    def gradient(x):
        g = np.array([2 * x[0], 0.5 * x[1], 8 * x[2]])
        norm = np.sqrt(np.sum(g**2))
        bound = np.median(norms[-20:]) if norms else norm
        norms.append(norm)
        return (g * min(1.0, bound / norm)).tolist()

    def fun(values, seed):
        x = values["x"]
        return x[0] ** 2 + 0.25 * x[1] ** 2 + 4 * x[2] ** 2, {"x": np.array([2 * x[0], 0.5 * x[1], 8 * x[2]])}

    start, last = [3.0, -2.0, 4.0], []
    result = fastrev.minimize(
        fun,
        {"x": start},
        runs=1,
        meta_steps=n,
        progress=False,
        callback=lambda state: last.append(state.current()["x"]),
    )
    assert result.history.accepted.all()
    rates = 0.05 * (0.5 + 0.5 * np.cos(np.pi * np.arange(n) / n))
    np.testing.assert_allclose(result.history.rate, rates, rtol=1e-14)
    np.testing.assert_allclose(last[-1], adam_by_hand(start, gradient, rates), rtol=1e-12)
    np.testing.assert_allclose(result.history.gradient_norm, norms, rtol=1e-12)


def test_a_refused_step_leaves_no_momentum():
    moments = Moments(np.zeros(2), np.zeros(2)).after(np.array([1.0, -2.0])).after(np.array([1.0, 2.0]))
    rested = moments.at_rest()
    assert (rested.mean == 0).all()
    assert np.array_equal(rested.square, moments.square)
    assert rested.steps == moments.steps


def test_bounds_so_wide_that_the_start_would_move_are_refused():
    """A z of 30 is as far as it goes."""
    for value, fine in ((1e-12, True), (1e-14, False)):
        if fine:
            transform = Logit(0.0, 1.0)
            assert transform.value(transform.free("lr", np.array(value))) == pytest.approx(value, rel=1e-12)
        else:
            with pytest.raises(ArgumentError, match=r"transforms\['lr'\].*range of which lr is more than 1e-13.*'log'"):
                Logit(0.0, 1.0).free("lr", np.array(value))
