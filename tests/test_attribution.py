"""Effects of training examples: against unrolled derivatives, and against trainings without them."""

from __future__ import annotations

import pickle
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from math import comb
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.stats import spearmanr

import fastrev
from fastrev._attribution import source
from fastrev._attribution.scores import drawn, intervals, rank_correlations
from fastrev.attribution_results import TopExamples
from tests.cases import digits_like, random_case, relative_error


def attributed(case, queries=None, **changes):
    """Of the validation examples of a case, each a query."""
    named = {name: value for name, value in case.arguments.items() if name != "valid"}
    queries = case.arguments["valid"] if queries is None else queries
    return fastrev.attribute(case.model, case.w0, queries=queries, **(named | changes))


CASE = digits_like()
FOUND = attributed(CASE)
X, Y = CASE.arguments["train"]
N, Q = len(X), len(CASE.arguments["valid"][0])


# ---- the effects -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_effects_are_those_of_an_unrolled_training(seed):
    """Of whatever loss, activation, batches and weights, by autograd."""
    case = random_case(seed)
    found = attributed(case)
    (xq, yq), weights = case.arguments["valid"], case.arguments["example_weights"]
    for q in range(len(xq)):
        case.arguments["valid"] = xq[q : q + 1], yq[q : q + 1]
        loss, gradients = case.oracle()
        assert found.losses[q] == pytest.approx(loss, rel=1e-9)
        assert relative_error(found.effects[q], -weights * gradients["example_weights"]) < 1e-7


def test_effects_are_what_small_moves_of_the_weights_do():
    h = 1e-4
    for i in (0, 7, 31):
        losses = []
        for sign in (1, -1):
            weights = np.ones(N)
            weights[i] += sign * h
            losses.append(FOUND.source.queries.losses(CASE.train(example_weights=weights).w))
        assert relative_error(FOUND.effects[:, i], -(losses[0] - losses[1]) / (2 * h)) < 1e-6


def test_positive_is_an_example_that_helps():
    """The loss of what is trained on rises without it; what it is taught wrong falls."""
    own = attributed(CASE, queries=(X[:5], Y[:5]))
    assert (np.diag(own.effects) > 0).all()
    wrong = Y.copy()
    wrong[3] = (Y[3] + 1) % 3
    assert attributed(CASE, (X[3:4], Y[3:4]), train=(X, wrong)).effects[0, 3] < 0


def test_a_network_in_float32_and_every_kind_of_targets():
    single = attributed(digits_like(dtype=np.float32))
    assert relative_error(single.effects, FOUND.effects) < 1e-3
    assert single.effects.dtype == single.losses.dtype == np.float64
    one_hot = attributed(CASE, queries=(CASE.arguments["valid"][0], np.eye(3)[CASE.arguments["valid"][1]]))
    assert one_hot == FOUND
    real = digits_like()
    real.model = fastrev.MLP((4, 5, 1), loss="squared_error")
    real.w0 = real.model.init(0)
    flat = attributed(real, (X[:3], X[:3, 0]), train=(X, X[:, 1]))
    assert flat == attributed(real, (X[:3], X[:3, :1]), train=(X, X[:, 1:2]))


def test_what_weighs_nothing_has_no_effect_and_what_weighs_twice_has_both():
    weights = np.ones(N)
    weights[4] = 0
    assert (attributed(CASE, example_weights=weights).effects[:, 4] == 0).all()
    full = digits_like(batch_size=None)
    copies = attributed(full, train=(np.concatenate([X, X[:1]]), np.append(Y, Y[0])))
    assert copies.effects[:, 0] == pytest.approx(copies.effects[:, -1])
    weights[0], weights[4] = 2, 1
    scaled = attributed(full, example_weights=weights * (N / (N + 1)))
    assert scaled.effects[:, 0] == pytest.approx(copies.effects[:, 0] + copies.effects[:, -1])


def test_an_optimizer_is_passed_on():
    assert attributed(CASE, lr=None, decay=None, optimizer=fastrev.SGD(lr=0.3, decay=0.9)) == FOUND


def test_blocks_of_queries_change_no_bit(monkeypatch):
    monkeypatch.setattr(source, "_BLOCK_BYTES", 3 * source.bytes_of_a_query(FOUND.source.problem))
    assert [len(block.which) for block in FOUND.source.blocks(np.arange(Q), False)] == [3, 3, 3, 3, 3, 3, 2]
    assert attributed(CASE) == FOUND


def peak(function):
    """The largest number of bytes that it held at once."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("optimizer", [fastrev.SGD, fastrev.Adam])
def test_blocks_are_as_large_as_is_said(optimizer, monkeypatch):
    """What is said of a query is what another one in a block takes, of whichever part most of it is."""
    rng = np.random.default_rng(0)

    def network(steps, examples, hidden):
        model = fastrev.MLP((2, hidden, 2))
        train = rng.standard_normal((examples, 2)), rng.integers(2, size=examples)
        how = {"train": train, "optimizer": optimizer(**optimizer.usual | {"lr": np.full((steps, 4), 1e-3)})}
        return lambda q: fastrev.attribute(model, model.init(0), queries=(rng.random((q, 2)), np.zeros(q, int)), **how)

    def own(more):
        model = Weighed(rng.standard_normal((9, 3)), rng.standard_normal(9))
        model.theta["unused"] = np.zeros(more)
        crosses = model.cross
        model.cross = lambda w, u, t: crosses(w, u, t) | {"unused": np.zeros(more)}
        query = squared(np.ones(3), 0.0)
        how = {"example_weights": "weights", "optimizer": optimizer(**optimizer.usual), "steps": 3}
        return lambda q: fastrev.attribute(model, np.zeros(3), queries=[query] * q, **how)

    for ask in (network(3000, 9, 2), network(5, 20_000, 2), network(5, 9, 4000), own(20_000)):
        size = source.bytes_of_a_query(ask(2).source.problem)
        few, many = peak(lambda: ask(2)), peak(lambda: ask(22))
        assert 0.6 * 20 * size < many - few < 1.02 * 20 * size
        with monkeypatch.context() as patch:
            patch.setattr(source, "_BLOCK_BYTES", 2 * size)
            given_back = 22 * ask(2).effects[0].nbytes
            assert peak(lambda: ask(22)) < few + given_back + 3 * size


def test_queries_may_be_functions_and_sets_of_examples():
    xv, yv = CASE.arguments["valid"]

    def first(w):
        return CASE.model.loss_value(w, xv[:1], yv[:1]), CASE.model.grad(w, xv[:1], yv[:1])

    found = attributed(CASE, queries=[first, (xv, yv)])
    assert relative_error(found.effects[0], FOUND.effects[0]) < 1e-12
    assert relative_error(found.effects[1], FOUND.effects.mean(axis=0)) < 1e-10
    assert found.losses == pytest.approx([FOUND.losses[0], FOUND.losses.mean()])


def test_results_compare_and_print():
    assert attributed(CASE) == FOUND
    assert attributed(CASE, seed=1) != FOUND
    assert repr(FOUND).startswith("Attribution(effects of 40 training examples on 20 queries, whose losses are ")
    assert FOUND.w.tobytes() == CASE.train().w.tobytes()


# ---- groups, the largest, the own --------------------------------------------------------------------------------


def test_a_group_is_the_sum_of_its_members():
    by_class = attributed(CASE, groups=np.array(["a", "b", "c"])[Y])
    assert by_class.groups.tolist() == ["a", "b", "c"]
    expected = np.stack([FOUND.effects[:, label == Y].sum(axis=1) for label in range(3)], axis=1)
    assert relative_error(by_class.effects, expected) < 1e-12
    assert "effects of 3 groups" in repr(by_class)

    listed = attributed(CASE, groups=[[0, 1], np.array([1, 2, 1]), Y == 0, []])
    assert listed.groups.tolist() == [0, 1, 2, 3]
    members = [[0, 1], [1, 2], np.flatnonzero(Y == 0), []]
    expected = np.stack([FOUND.effects[:, np.array(each, int)].sum(axis=1) for each in members], axis=1)
    assert relative_error(listed.effects, expected) < 1e-12
    everything = listed.source.columns.left(np.arange(4))
    assert everything.tolist() == [float(i > 2 and Y[i] != 0) for i in range(N)]  # what is in two groups goes once


def test_self_influence_is_the_diagonal(monkeypatch):
    own = attributed(CASE, queries=(X, Y))
    assert FOUND.self_influence() == pytest.approx(np.diag(own.effects), rel=1e-10)
    monkeypatch.setattr(source, "_BLOCK_BYTES", 7 * source.bytes_of_a_query(FOUND.source.problem))
    assert FOUND.self_influence([9, 3, 9]) == pytest.approx(np.diag(own.effects)[[9, 3, 9]], rel=1e-10)
    assert attributed(CASE, groups=Y).self_influence([5]) == pytest.approx(own.effects[5, 5], rel=1e-10)
    assert FOUND.self_influence(np.zeros(0, int)).shape == (0,)


def test_top_is_in_order_and_of_the_right_sign():
    top = FOUND.top(2, k=4)
    order = np.argsort(FOUND.effects[2])
    assert top.harmful.tolist() == order[:4].tolist()
    assert top.helpful.tolist() == order[::-1][:4].tolist()
    assert (top.helpful_effects == FOUND.effects[2, top.helpful]).all()
    assert (top.harmful_effects == FOUND.effects[2, top.harmful]).all()
    every = FOUND.top(2, k=1000)
    assert (every.helpful_effects > 0).all()
    assert (every.harmful_effects < 0).all()
    assert len(every.helpful) + len(every.harmful) == np.count_nonzero(FOUND.effects[2])
    assert top == TopExamples(*top)
    assert top != every


# ---- held against retraining -------------------------------------------------------------------------------------


def test_predicted_and_real_changes_of_a_training_that_is_a_formula():
    """One step of least squares from zero: w = a mean(c x y), with a the rate times one minus the decay."""
    rng = np.random.default_rng(0)
    x, y, xq, yq = rng.standard_normal(8), rng.standard_normal(8), rng.standard_normal(3), rng.standard_normal(3)
    model, a = fastrev.MLP((1, 1), loss="squared_error"), 0.5 * (1 - 0.5)
    found = fastrev.attribute(
        model, np.zeros(2), train=(x[:, None], y), queries=(xq[:, None], yq), lr=[[0.5, 0.0]], decay=0.5, steps=1
    )
    w = a * np.mean(x * y)
    assert found.effects == pytest.approx(-np.outer((xq * w - yq) * xq, a * x * y / 8))
    check = found.check(fraction=0.25, subsets=6)
    assert check.subsets.shape == (6, 2)
    for kept, scale in ((False, 8), (True, 6)):  # weights of 0, or a mean over six
        check = found.check(fraction=0.25, subsets=6, redraw=kept, seed=3)
        for s, subset in enumerate(check.subsets):
            left = np.delete(x * y, subset).sum() * a / scale
            real = ((xq * left - yq) ** 2 - (xq * w - yq) ** 2) / 2
            assert check.real[:, s] == pytest.approx(real, abs=1e-12)
            assert check.predicted[:, s] == pytest.approx(found.effects[:, subset].sum(axis=1))
        expected = [spearmanr(*each).statistic for each in zip(check.predicted, check.real, strict=True)]
        assert check.score == pytest.approx(expected)
        assert check.mean_score == pytest.approx(np.mean(expected))


def test_predictions_rank_real_changes():
    check = FOUND.check(fraction=0.05, subsets=20)
    assert check.mean_score > 0.9
    assert check.fraction == 0.05
    assert not check.redraw
    low, high = check.score_interval.T
    assert ((low <= check.score) & (check.score <= high) & (low < high)).all()
    assert check.mean_score_interval.shape == (2,)
    assert str(check).startswith(
        "linear datamodeling score of 20 queries, 20 subsets of 5 % left out, the same batches"
    )
    assert "lowest" in str(check)
    assert repr(check).startswith("<AttributionCheck: mean score 0.9")


def test_left_out_is_a_weight_of_zero_or_a_training_of_the_others():
    for redraw in (False, True):
        check = FOUND.check(fraction=0.1, subsets=3, redraw=redraw, seed=5)
        for s, subset in enumerate(check.subsets):
            weights = np.ones(N)
            weights[subset] = 0
            others = np.delete(np.arange(N), subset)
            run = CASE.train(train=(X[others], Y[others])) if redraw else CASE.train(example_weights=weights)
            assert (check.real[:, s] == FOUND.source.queries.losses(run.w) - FOUND.losses).all()


def test_the_check_has_the_same_bits_wherever_it_runs():
    expected = FOUND.check(subsets=5, fraction=0.1)
    assert FOUND.check(subsets=5, fraction=0.1) == expected
    assert FOUND.check(subsets=5, fraction=0.1, workers=2, progress=True) == expected
    assert FOUND.check(subsets=5, fraction=0.1, seed=1) != expected
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        assert FOUND.check(subsets=5, fraction=0.1, workers=pool) == expected


def test_it_can_be_kept():
    assert pickle.loads(pickle.dumps(FOUND)) == FOUND


def test_groups_are_left_out_as_a_whole():
    found = attributed(CASE, groups=np.arange(N) // 4)
    check = found.check(fraction=0.2, subsets=3)
    assert check.subsets.shape == (3, 2)
    weights = np.where(np.isin(np.arange(N) // 4, check.subsets[1]), 0.0, 1.0)
    assert (check.real[:, 1] == FOUND.source.queries.losses(CASE.train(example_weights=weights).w) - found.losses).all()
    assert check.predicted[:, 1] == pytest.approx(FOUND.effects[:, weights == 0].sum(axis=1))


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 9), st.data(), st.integers(3, 40), st.integers(0, 5))
def test_no_subset_is_drawn_twice(columns, data, count, seed):
    size = data.draw(st.integers(1, columns - 1))
    subsets = drawn(columns, size, count, seed)
    assert subsets.shape == (min(count, comb(columns, size)), size)
    assert (np.diff(subsets, axis=1) > 0).all()
    assert 0 <= subsets.min() <= subsets.max() < columns
    assert len(np.unique(subsets, axis=0)) == len(subsets)
    assert (subsets == drawn(columns, size, count, seed)).all()


def test_of_few_groups_all_subsets_are_left_out():
    ten = attributed(CASE, groups=np.arange(N) // 4)
    check = ten.check(fraction=0.1, subsets=30)
    assert check.subsets.tolist() == [[g] for g in range(10)]
    assert "20 queries, all 10 subsets of 10 % left out" in str(check)
    assert (check.predicted == ten.effects).all()
    fewer = ten.check(fraction=0.1, subsets=9)
    assert "20 queries, 9 subsets of 10 % left out" in str(fewer)
    assert attributed(CASE, groups=Y).check(fraction=0.5).subsets.tolist() == [[0, 1], [0, 2], [1, 2]]
    for groups, count in ((Y == 0, 2), (np.zeros(N), 1)):
        with pytest.raises(fastrev.ArgumentError, match=f"'groups' must hold 3 at least for check, not {count}"):
            attributed(CASE, groups=groups).check()


def test_what_never_changes_has_no_score():
    still = attributed(CASE, lr=0.0)
    assert (still.effects == 0).all()
    check = still.check(subsets=4)
    assert np.isnan(check.score).all()
    assert np.isnan(check.mean_score)
    assert np.isnan(check.score_interval).all()
    assert "20 have no score" in str(check)
    assert still.top(0).helpful.size == 0


def test_rank_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.integers(5, size=(2, 7, 12)).astype(float)  # with ties
    assert rank_correlations(a, b) == pytest.approx([spearmanr(*each).statistic for each in zip(a, b, strict=True)])
    a[0], b[1] = 1, 2
    assert np.isnan(rank_correlations(a, b)).tolist() == [True, True, *[False] * 5]


def test_intervals_hold_the_score_of_many_subsets():
    """95 % of them should; of 200 with 40 subsets each, not fewer than 88 %."""
    rng = np.random.default_rng(0)
    draw = lambda size: (a := rng.standard_normal(size), 0.9 * a + np.sqrt(0.19) * rng.standard_normal(size))
    true = rank_correlations(*draw(200_000))
    low, high = intervals(*draw((200, 40)), 0)[0].T
    assert 0.88 < np.mean((low < true) & (true < high)) < 0.995


# ---- models of one's own -----------------------------------------------------------------------------------------


class Weighed:
    """Least squares with a weight for each example, by hand."""

    num_params = 3

    def __init__(self, x, y):
        self.x, self.y, self.theta = x, y, {"weights": np.ones(len(x)), "penalty": np.float64(0.1)}

    def grad(self, w, t):
        return self.x.T @ (self.theta["weights"] * (self.x @ w - self.y)) / len(self.x) + self.theta["penalty"] * w

    def hvp(self, w, u, t):
        return self.x.T @ (self.theta["weights"] * (self.x @ u)) / len(self.x) + self.theta["penalty"] * u

    def cross(self, w, u, t):
        return {"weights": (self.x @ w - self.y) * (self.x @ u) / len(self.x), "penalty": w @ u}


OWN = {"lr": 0.5, "decay": 0.8, "steps": 30}


def squared(x, y):
    return lambda w: (float((x @ w - y) ** 2 / 2), (x @ w - y) * x)


def test_an_objective_has_the_effects_of_its_own_weights():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 3)), rng.standard_normal(12)
    model, network = Weighed(x[:8], y[:8]), fastrev.MLP((3, 1), loss="squared_error")
    queries = [squared(*each) for each in zip(x[8:], y[8:], strict=True)]
    found = fastrev.attribute(model, np.zeros(3), queries=queries, example_weights="weights", **OWN)
    same = fastrev.attribute(  # whose bias does not move
        network, np.zeros(4), train=(x[:8], y[:8]), queries=(x[8:], y[8:]), l2=0.1, **(OWN | {"lr": [[0.5, 0]]})
    )
    assert relative_error(found.effects, same.effects) < 1e-10
    checks = [each.check(fraction=0.25, subsets=5) for each in (found, same)]
    assert relative_error(checks[0].real, checks[1].real) < 1e-10
    assert (model.theta["weights"] == 1).all()
    grouped = fastrev.attribute(model, np.zeros(3), queries=queries, example_weights="weights", groups=[[0, 1]], **OWN)
    assert grouped.effects[:, 0] == pytest.approx(found.effects[:, :2].sum(axis=1))
    for message, call in [
        ("'model'.*MLP for self_influence.*queries=", found.self_influence),
        ("'redraw'.*False for a fastrev.Objective", lambda: found.check(redraw=True)),
    ]:
        with pytest.raises(fastrev.ArgumentError, match=message):
            call()
    assert isinstance(found.plot(), Figure)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("'example_weights'.*'weights', 'penalty', not None", {"example_weights": None}),
        ("'example_weights'.*'weights', 'penalty', not 'c'", {"example_weights": "c"}),
        (r"'example_weights'.*\(N,\).*'penalty', of shape \(\)", {"example_weights": "penalty"}),
        ("'queries' must be a list of functions.*not a tuple", {"queries": (np.ones((1, 3)), np.ones(1))}),
        (r"'queries\[0\]'.*function", {"queries": [np.ones(3)]}),
        ("'train' must be left out", {"train": (X, Y)}),
    ],
)
def test_what_an_objective_needs(message, named):
    model = Weighed(np.ones((2, 3)), np.ones(2))
    given = {"queries": [squared(np.ones(3), 0.0)], "example_weights": "weights"} | OWN | named
    with pytest.raises(fastrev.ArgumentError, match=message):
        fastrev.attribute(model, np.zeros(3), **given)


# ---- faults ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("'queries' must be a pair.*empty list", {"queries": []}),
        ("'queries' must be a pair.*not a function", {"queries": lambda w: w}),
        (r"'queries\[0\]'", {"queries": (X[:, :2], Y)}),
        (r"'queries\[1\]'.*hold classes", {"queries": (X[:2], [0, 9])}),
        (r"'queries\[1\]' must be a function of the final weights alone", {"queries": [(X, Y), lambda: 1]}),
        ("'groups' must hold a label for each of the 40.*shape", {"groups": [0, 1]}),
        (r"'groups\[1\]'.*from 0 to 39, not 40", {"groups": [[0], [1, 40]]}),
        (r"'groups\[0\]'.*from 0 to 39, not -1", {"groups": [[-1]]}),
        (r"'groups\[0\]'.*indices", {"groups": [[0.5]]}),
        ("'example_weights'", {"example_weights": "weights"}),
        ("'lr'", {"lr": -1.0}),
    ],
)
def test_bad_arguments_are_named(message, named):
    with pytest.raises(fastrev.ArgumentError, match=message):
        attributed(CASE, **named)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("'fraction' must be a number above 0", lambda: FOUND.check(fraction=1.0)),
        ("'fraction' must be a number above 0", lambda: FOUND.check(fraction="half")),
        ("'fraction' must leave one of 40", lambda: FOUND.check(fraction=0.999)),
        ("'subsets' must be at least 3", lambda: FOUND.check(subsets=2)),
        ("'redraw' must be True or False", lambda: FOUND.check(redraw=1)),
        ("'seed'", lambda: FOUND.check(seed=-1)),
        ("'workers'", lambda: FOUND.check(workers=0)),
        ("'query' must be at most 19", lambda: FOUND.top(20)),
        ("'k' must be at least 1", lambda: FOUND.top(0, 0)),
        ("'rows'.*from 0 to 39, not 40", lambda: FOUND.self_influence([40])),
        ("'rows' must be whole numbers", lambda: FOUND.self_influence([0.5])),
        ("'query'", lambda: FOUND.plot(-1)),
        ("'query' must be at most 19", lambda: FOUND.check(subsets=3).plot(20)),
        (r"'shape' must be \(height, width\) of 4 pixels", lambda: FOUND.plot(shape=(3, 3))),
        (r"'shape' must be \(height, width\) of 4 pixels", lambda: FOUND.plot(shape=(-2, -2))),
        (r"'shape' must be \(height, width\) of 4 pixels", lambda: FOUND.plot(shape=4)),
        (r"'shape' must be \(\) or left out for groups", lambda: attributed(CASE, groups=Y).plot(shape=(2, 2))),
        ("'batches' must be left out", lambda: attributed(
            CASE, batch_size=None, steps=None, batches=np.zeros((2, 3), int)).check(redraw=True)),
    ],
)  # fmt: skip
def test_bad_requests_are_named(message, call):
    with pytest.raises(fastrev.ArgumentError, match=message):
        call()


def test_a_query_without_a_finite_loss_is_refused():
    with pytest.raises(fastrev.DivergenceError, match=r"loss of queries\[1\] after training is nan"):
        attributed(CASE, queries=[lambda w: (0.0, w), lambda w: (np.nan, w)])


def test_a_query_without_a_finite_loss_after_a_retraining_is_refused():
    """Of which no rank means anything."""

    def fragile(w):
        return (0.0 if (w == FOUND.w).all() else np.inf), np.ones(w.size)

    found = attributed(CASE, queries=[lambda w: (w @ w, 2 * w), fragile])
    for workers in (1, 2):
        with pytest.raises(
            fastrev.DivergenceError, match=r"queries\[1\] after .* without subsets\[\d\] is inf"
        ) as error:
            found.check(subsets=3, workers=workers)
        assert error.value.run.stats.steps == CASE.arguments["steps"]


def test_a_retraining_that_is_refused_says_of_which_subset():
    """Of examples of which one keeps the others from running away."""
    model, train = fastrev.MLP((1, 1), loss="squared_error"), (np.ones((3, 1)), np.ones(3))
    found = fastrev.attribute(
        model, np.zeros(2), train=train, queries=train, example_weights=[100.0, 50.0, -149.0], lr=[[1.0, 0.0]],
        decay=0.5, steps=40,
    )  # fmt: skip
    refused = r"^In the retraining without subsets\[\d\]: Step \d+ of 40 was refused.* error.run.rewind\(\)"
    with pytest.raises(fastrev.DivergenceError, match=refused) as error:
        found.check(fraction=0.5, subsets=3)
    error.value.run.rewind()
    assert error.value.run.stats.steps == error.value.step


def test_somebody_must_be_left_to_be_drawn():
    few = attributed(CASE, batch_size=30)
    assert few.check(fraction=0.25, subsets=3, redraw=True).real.shape == (Q, 3)
    with pytest.raises(
        fastrev.ArgumentError, match=r"a batch of 30 at least, not one that leaves 29 of 40 without subs"
    ):
        few.check(fraction=0.275, subsets=3, redraw=True)


# ---- pictures ----------------------------------------------------------------------------------------------------


def test_bars_are_the_effects():
    figure = FOUND.plot(1, k=3)
    (axis,) = figure.axes
    top = FOUND.top(1, 3)
    assert [bar.get_width() for bar in axis.patches] == [*top.helpful_effects, *top.harmful_effects[::-1]]
    labels = [each.get_text() for each in axis.get_yticklabels()]
    assert labels == [f"row {i}: {Y[i]}" for i in [*top.helpful, *top.harmful[::-1]]]
    asked, read = (
        classes[1] for classes in (CASE.arguments["valid"][1], CASE.model.predict(FOUND.w, CASE.arguments["valid"][0]))
    )
    assert axis.get_title() == f"query 1: {asked}, read as {read}\nloss {FOUND.losses[1]:.3g}"
    labels = [each.get_text() for each in attributed(CASE, groups=Y * 1.0).plot().axes[0].get_yticklabels()]
    assert set(labels) == {"0", "1", "2"}
    assert axis.yaxis_inverted()


def test_images_are_those_of_the_rows():
    rng = np.random.default_rng(0)
    images, classes = rng.random((30, 36)), np.arange(30) % 3
    model = fastrev.MLP((36, 3))
    found = fastrev.attribute(
        model, model.init(0), train=(images, classes), queries=(images[:2], classes[:2]), lr=0.1, decay=0.5, steps=5
    )
    query, *others = (axis.images[0].get_array() for axis in found.plot(1, k=2).axes)
    top = found.top(1, 2)
    assert (query.ravel() == images[1]).all()
    for shown, i in zip(others, [*top.helpful, *top.harmful], strict=True):
        assert (shown.ravel() == images[i]).all()
    axis = found.plot(1, k=2).axes[1]
    assert axis.get_title() == f"{top.helpful_effects[0]:+#.2g}"
    assert axis.get_xlabel() == f"row {top.helpful[0]}: {classes[top.helpful[0]]}"
    assert found.plot(shape=[4, 9]).axes[0].images[0].get_array().shape == (4, 9)
    assert not found.plot(shape=()).axes[0].images
    assert not attributed(CASE).plot().axes[0].images  # two pixels by two are no image


@pytest.mark.parametrize("k", [1, 3, 9, 20])
def test_titles_of_a_picture_are_whole_and_apart(k):
    rng = np.random.default_rng(0)
    images, classes, model = rng.random((60, 36)), np.arange(60) % 3, fastrev.MLP((36, 3))
    found = fastrev.attribute(
        model, model.init(0), train=(images, classes), queries=(images[:2], classes[:2]), lr=0.1, decay=0.5, steps=5
    )
    figure = found.plot(1, k=k)
    figure.canvas.draw()
    left, right = (part.get_window_extent() for part in (each._suptitle for each in figure.subfigs))
    assert 0 <= left.x0 < left.x1 < right.x0 < right.x1 <= figure.bbox.x1
    assert figure.bbox.width / figure.dpi < 15
    shown = [axis for axis in figure.axes[1:] if axis.images]
    assert len(shown) == sum(map(len, (found.top(1, k).helpful, found.top(1, k).harmful)))
    assert all(axis.spines["top"].get_visible() for axis in [figure.axes[0], *shown])


def test_a_check_is_drawn_as_a_dot_for_each_subset():
    check = FOUND.check(subsets=5)
    (axis,) = check.plot(3).axes
    diagonal, dots = axis.lines
    assert [each.get_text() for each in axis.get_legend().get_texts()] == ["predicted = real"]
    assert (dots.get_xdata() == check.predicted[3]).all()
    assert (dots.get_ydata() == check.real[3]).all()
    assert (diagonal.get_xdata() == diagonal.get_ydata()).all()
    assert f"score {check.score[3]:.3f}" in axis.get_title()


# ---- what may change meanwhile ---------------------------------------------------------------------------------


def test_queries_are_its_own_and_data_that_changed_are_refused():
    x, y, xq = X.copy(), Y.copy(), CASE.arguments["valid"][0].copy()
    found = attributed(CASE, (xq, CASE.arguments["valid"][1]), train=(x, y))
    of_all = attributed(CASE, [(xq, CASE.arguments["valid"][1])], train=(x, y))
    before = found.check(0.1, 10), of_all.check(0.1, 10)
    xq *= 2
    assert (found.check(0.1, 10), of_all.check(0.1, 10)) == before
    x *= 2
    with pytest.raises(fastrev.ReversalError, match=r"train\[0\] changed in place after the attribution"):
        found.check(0.1, 10)
    for changed in (found.self_influence, found.plot):
        with pytest.raises(fastrev.ReversalError, match=r"train\[0\] changed in place after the attribution"):
            changed()


def test_groups_that_overlap_have_effects_but_no_check():
    found = attributed(CASE, groups=[[0, 1], [0, 2], [3], [4]])
    np.testing.assert_allclose(found.effects[:, 1], FOUND.effects[:, [0, 2]].sum(axis=1), rtol=1e-12)
    with pytest.raises(fastrev.ArgumentError, match="'groups' must not overlap for check"):
        found.check(0.5, 5)
