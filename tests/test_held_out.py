"""A share of the training examples is held out, another by each seed: the split, and what `tune` does with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrev
from fastrev._tuning.held_out import quotas, split
from fastrev._tuning.loop import Descent
from fastrev._tuning.trials import Trial, attempt
from fastrev.errors import ArgumentError
from tests.test_objective import W0, Quadratic
from tests.test_tuning import MODEL, G, T, X, Y, tune
from tests.test_workers import POOLS

N = len(X)
SHARE = 0.25
WEIGHTS = np.linspace(0.1, 2, N)


def held(**changes):
    return tune(**{"train": (X, Y), "valid": SHARE, **changes})


# ---- the split -----------------------------------------------------------------------------------------------

strata = st.lists(st.integers(0, 4), min_size=2, max_size=60).map(lambda each: np.array(each, np.int64))
shares = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32 - 1)


@given(strata, shares, seeds, seeds)
def test_split_is_a_partition_of_the_same_sizes_for_every_seed(strata, share, seed, other):
    kept, out = split(strata, share, seed)
    assert sorted([*kept, *out]) == list(range(strata.size))
    assert len(kept) >= 1
    assert len(out) >= 1
    np.testing.assert_array_equal(kept, np.sort(kept))
    np.testing.assert_array_equal(out, np.sort(out))
    for again, first in zip(split(strata, share, other), (kept, out), strict=True):
        np.testing.assert_array_equal(np.bincount(strata[again]), np.bincount(strata[first]))


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=8).map(np.array).filter(lambda counts: counts.sum() > 1), shares
)
def test_each_stratum_gives_its_share_and_keeps_one(counts, share):
    quota = quotas(counts, share)
    assert quota.sum() >= 1
    if (counts > 1).any():
        assert (quota < counts).all()
    fewest = np.minimum(np.floor(share * counts), counts - 1)
    assert ((fewest <= quota) & (quota <= np.floor(share * counts) + 1)).all()


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([50, 50], 0.2, [10, 10]),
        ([5, 5, 5], 0.2, [1, 1, 1]),
        ([7, 3], 0.25, [2, 0]),  # 2.5 in all is 2, as in Python; of equal remainders the first counts
        ([7, 4], 0.25, [2, 1]),
        ([1, 9], 0.5, [0, 5]),  # one of each stratum is always kept
        ([2], 0.99, [1]),
        ([1, 1, 1], 0.9, [1, 0, 0]),  # something is always held out
        ([100, 1], 0.001, [1, 0]),
    ],
)
def test_quotas_by_number(counts, share, expected):
    assert quotas(np.array(counts), share).tolist() == expected


def test_every_example_is_held_out_by_some_seed():
    out = np.concatenate([split(np.zeros(10, np.int64), 0.3, seed)[1] for seed in range(40)])
    assert set(out) == set(range(10))


# ---- in the loop ---------------------------------------------------------------------------------------------


def by_hand(values, seed, weights):
    """By the public functions alone: the held-out loss of a run and its gradients."""
    kept, out = split(Y, SHARE, seed)
    given = {"lr": 0.3, "decay": 0.9, "steps": T, "batch_size": 8, "seed": seed, **values}
    c = np.ones(N) if weights is None else weights

    def valid(w):
        losses = [c[i] * MODEL.loss_value(w, X[[i]], Y[[i]]) for i in out]
        return np.mean(losses), np.mean([c[i] * MODEL.grad(w, X[[i]], Y[[i]]) for i in out], axis=0)

    return fastrev.meta_grad(
        MODEL, MODEL.init(seed), train=(X[kept], Y[kept]), valid=valid,
        example_weights=None if weights is None else weights[kept], **given,
    )  # fmt: skip


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_run_is_that_of_its_own_examples(weights, seed):
    values = {"lr": np.full((T, G), 0.2), "decay": np.float64(0.8), "l2": np.full(G, 1e-3)}
    training = held(example_weights=weights, meta_steps=1).training
    found = attempt(training, Trial(values, seed, True))
    expected = by_hand(values, seed, weights)
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    for name in values:
        np.testing.assert_allclose(found.gradients[name], getattr(expected.grad, name), rtol=1e-9, atol=1e-14)


def test_each_meta_step_holds_out_others():
    training = held(meta_steps=1).training
    losses = {attempt(training, Trial({"lr": np.float64(0.3)}, seed, False)).loss for seed in range(5)}
    assert len(losses) == 5


def test_the_end_is_below_the_start_and_trains_on_everything():
    result = held(learn=("lr", "decay", "l2", "init_scale"), l2=1e-3, meta_steps=10)
    assert result.loss <= result.start_loss
    again = fastrev.train(
        MODEL, MODEL.init(0, scale=result.init_scale), train=(X, Y), lr=result.lr, decay=result.decay, l2=result.l2,
        steps=T, batch_size=8,
    )  # fmt: skip
    np.testing.assert_array_equal(result.train().w, again.w)


@pytest.mark.parametrize("pool", POOLS)
def test_the_same_bits_on_all_workers(pool):
    expected = held(meta_steps=2)
    with POOLS[pool]() as workers:
        assert held(meta_steps=2, workers=workers).lr == expected.lr


def test_without_other_chance_runs_still_differ():
    """Runs of given weights and full batches depend on their seeds, by what they hold out."""
    result = held(w0=MODEL.init(0), batch_size=None, meta_steps=2, runs=3)
    assert result.nfev > 2 * 3


def test_one_hot_targets_and_classes_are_held_out_alike():
    assert held(meta_steps=2).lr == held(train=(X, np.eye(3)[Y]), meta_steps=2).lr


def test_saved_and_loaded(tmp_path):
    result = held(meta_steps=2)
    result.save(tmp_path / "result.npz")
    np.testing.assert_array_equal(fastrev.load(tmp_path / "result.npz").train(X, Y).w, result.train().w)


def test_rates_that_the_search_chose_and_that_diverge_are_lowered(monkeypatch):
    """On other seeds than those of the search: the start was fine, and so is the end."""
    search = Descent._search_along_the_rates

    def too_far(descent):
        search(descent)
        descent._now.z = descent._times(1e6)

    monkeypatch.setattr(Descent, "_search_along_the_rates", too_far)
    result = tune(runs=1, meta_steps=30)
    assert result.loss <= result.start_loss < np.inf


def test_a_checkpoint_of_another_share_is_refused(tmp_path):
    path = tmp_path / "state.npz"
    first = held(meta_steps=2, checkpoint=path)
    assert held(meta_steps=2, checkpoint=path).lr == first.lr
    with pytest.raises(ArgumentError, match="valid"):
        held(meta_steps=2, checkpoint=path, valid=0.3)


@pytest.mark.parametrize("share", [0, 0.0, 1, 1.0, -0.1, 1.5, np.nan, np.inf, True])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ArgumentError, match=r"'valid' must be .* a share of the training examples between 0 and 1"):
        held(valid=share)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batches": np.zeros((T, 8), int), "batch_size": None}, "'batches' must be left out where valid is a share"),
        ({"train": (X[:1], Y[:1])}, "'train' must hold at least 2 examples, one of which is held out, not 1"),
        ({"train": None}, r"'train' must be a pair"),
        ({"train": (X, Y[:5])}, r"'train\[1\]' must have shape \(60, 3\)"),
        ({"batch_size": 46}, "'batch_size' must be at most 45, the training examples that are not held out, not 46"),
        ({"batch_size": 8.0}, "'batch_size' must be a whole number"),
        (
            {"example_weights": np.resize([0.0, 1.0], N)},
            "'example_weights' must be above 0 where valid is a share",
        ),
        ({"learn": ("x",)}, "'learn' must hold 'x' only where valid holds examples or is a function"),
        ({"learn": ("y",)}, "'learn' must hold 'y' only"),
        ({"learn": ("example_weights",)}, "'learn' must hold 'example_weights' only"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ArgumentError, match=message):
        held(**changes)


def test_an_objective_has_no_examples_to_hold_out():
    with pytest.raises(ArgumentError, match=r"'valid' must be a function where the model is a fastrev.Objective"):
        fastrev.tune(Quadratic(), W0, valid=0.2, lr=0.1, decay=0.9, steps=3, learn=("lr",), progress=False)
