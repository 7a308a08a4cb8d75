"""Effects on what an estimator predicts, of the rows that it was fitted to."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")

from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_wine, make_multilabel_classification
from sklearn.exceptions import NotFittedError

import fastrev
from fastrev.estimators import MetaMLPClassifier, MetaMLPRegressor
from fastrev.runs import Run
from tests.cases import relative_error

FAST = {
    "hidden_layer_sizes": (6,), "activation": "tanh", "steps": 40, "batch_size": 32, "learn": (), "dtype": "float64",
    "random_state": 0,
}  # fmt: skip
ROWS = np.random.default_rng(0).permutation(178)
X, Y = (each[ROWS] for each in load_wine(return_X_y=True))
TRAIN, ASKED = (X[:100], Y[:100]), (X[100:110], Y[100:110])
FITTED = MetaMLPClassifier(**FAST).fit(*TRAIN)
FOUND = FITTED.attribute(*ASKED, train=TRAIN)


def by_hand(fitted, examples, targets, weights, query, target):
    """The gradient by the weights of examples in the order that was trained on, by `fastrev.meta_grad`."""
    return fastrev.meta_grad(
        fitted.model_, fitted.model_.init(fitted._trained["seed"], scale=fitted.init_scale_),
        train=(fitted.scaler_.transform(examples), targets), valid=(fitted.scaler_.transform(query), target),
        example_weights=weights, lr=fitted.lr_, decay=fitted.decay_, l2=fitted.l2_, wrt=("example_weights",),
        **fitted._trained,
    )  # fmt: skip


def test_effects_are_those_of_the_rows_that_were_given():
    order = np.lexsort((Y[:100], *X[:100].T[::-1]))  # as they are merged
    for q in (0, 7):
        result = by_hand(FITTED, X[:100][order], Y[:100][order], np.ones(100), ASKED[0][q : q + 1], ASKED[1][q : q + 1])
        assert relative_error(FOUND.effects[q, order], -result.grad.example_weights) < 1e-10
        assert FOUND.losses[q] == pytest.approx(result.loss)
    assert (FOUND.w == FITTED.w_).all()
    assert FOUND.losses == pytest.approx(-FITTED.predict_log_proba(ASKED[0])[np.arange(10), ASKED[1]])


def test_the_order_of_the_rows_is_that_of_the_effects():
    order = np.random.default_rng(1).permutation(100)
    shuffled = FITTED.attribute(*ASKED, train=(X[:100][order], Y[:100][order]))
    assert (shuffled.effects == FOUND.effects[:, order]).all()


def test_copies_share_an_effect_by_their_weights():
    again = np.concatenate([X[:100], X[:2], X[:1]]), np.concatenate([Y[:100], Y[:2], Y[:1]])
    weights = np.ones(103)
    weights[[0, 100, 102, 1, 101, 50]] = 0.5, 0.5, 2, 0.25, 0.75, 0
    fitted = clone(FITTED).fit(*again, sample_weight=weights)
    found = fitted.attribute(*ASKED, train=again, sample_weight=weights)
    assert found.effects.shape == (10, 103)
    assert found.effects[:, 0] == pytest.approx(found.effects[:, 100])
    assert found.effects[:, 102] == pytest.approx(4 * found.effects[:, 0])
    assert found.effects[:, 101] == pytest.approx(3 * found.effects[:, 1])
    assert (found.effects[:, 50] == 0).all()
    check = found.check(fraction=0.1, subsets=8)
    assert check.mean_score > 0.8
    own = found.self_influence([0, 102, 50, 7])
    assert own[:2] == pytest.approx([own[0], 4 * own[0]])
    assert own[2] == 0

    grouped = fitted.attribute(
        *ASKED, train=again, sample_weight=weights, groups=[[0, 100, 102], [0], np.arange(103) == 7]
    )
    expected = [found.effects[:, [0, 100, 102]].sum(axis=1), found.effects[:, 0], found.effects[:, 7]]
    assert grouped.effects == pytest.approx(np.stack(expected, axis=1))
    left = grouped.source.columns.left(np.array([0]))
    assert np.count_nonzero(left == 0) == 1  # all copies of one example
    assert (np.delete(left, left.argmin()) == 1).all()
    half = grouped.source.columns.left(np.array([1]))
    assert half.min() == pytest.approx(1 - 0.5 / 3)


def test_a_wrong_label_shows_in_its_own_influence():
    y = TRAIN[1].copy()
    y[11] = (y[11] + 1) % 3
    fitted = clone(FITTED).set_params(steps=150).fit(X[:100], y)
    found = fitted.attribute(X[100:], Y[100:], train=(X[:100], y))
    assert found.self_influence().argmax() == 11
    assert found.effects.sum(axis=0).argmin() == 11


def test_labels_of_any_kind_and_weights_of_classes():
    names = np.array(["red", "white", "rose"])
    for settings in ({}, {"class_weight": "balanced"}, {"class_weight": {"red": 2.0}}):
        fitted = clone(FITTED).set_params(**settings).fit(X[:100], names[Y[:100]])
        found = fitted.attribute(ASKED[0], names[ASKED[1]], train=(X[:100], names[Y[:100]]))
        assert (found.w == fitted.w_).all()
        assert found.effects.shape == (10, 100)
    with pytest.raises(ValueError, match="'y_queries' must hold labels that fit was given, not green"):
        fitted.attribute(ASKED[0][:1], ["green"], train=(X[:100], names[Y[:100]]))


def test_regressors_and_labels_by_the_dozen():
    x, y = load_diabetes(return_X_y=True)
    fitted = MetaMLPRegressor(**FAST).fit(x[:80], y[:80])
    found = fitted.attribute(x[80:85], y[80:85], train=(x[:80], y[:80]))
    scale = fitted.target_scaler_.scale_[0]
    assert found.losses == pytest.approx(((fitted.predict(x[80:85]) - y[80:85]) / scale) ** 2 / 2)
    assert found.check(fraction=0.05, subsets=8).mean_score > 0.8
    both = np.stack([y, -y], axis=1)
    fitted = clone(fitted).fit(x[:80], both[:80])
    assert fitted.attribute(x[80:85], both[80:85], train=(x[:80], both[:80])).effects.shape == (5, 80)

    x, y = make_multilabel_classification(60, 5, n_classes=4, random_state=0)
    fitted = MetaMLPClassifier(**FAST).fit(x, y)
    assert fitted.attribute(x[:3], y[:3], train=(x, y)).effects.shape == (3, 60)
    with pytest.raises(ValueError, match="'y_queries' must hold 4 labels"):
        fitted.attribute(x[:3], y[:3, :2], train=(x, y))


def test_after_learning_it_is_the_last_training():
    fitted = clone(FITTED).set_params(learn=("lr", "l2", "init_scale"), meta_steps=2, runs=1, random_state=None)
    fitted.fit(*TRAIN)
    assert (fitted.attribute(*ASKED, train=TRAIN).w == fitted.w_).all()


def test_pictures_show_the_rows_as_they_were_given():
    x, y = np.random.default_rng(0).integers(17, size=(60, 36)).astype(float), np.arange(60) % 3 * 2.0
    weights = np.ones(60)
    weights[:3] = 0, 2, 3
    fitted = clone(FITTED).fit(x[:50], y[:50], sample_weight=weights[:50])
    found = fitted.attribute(x[50:], y[50:], train=(x[:50], y[:50]), sample_weight=weights[:50])
    top, figure = found.top(4, 2), found.plot(4, 2)
    query, *others = (axis.images[0].get_array() for axis in figure.axes)
    assert (query.ravel() == x[54]).all()
    for shown, i in zip(others, [*top.helpful, *top.harmful], strict=True):
        assert (shown.ravel() == x[i]).all()
    assert figure.axes[1].get_xlabel() == f"row {top.helpful[0]}: {y[top.helpful[0]]:.0f}"
    read = fitted.predict(x[54:55])[0]
    assert (
        figure.subfigs[0]._suptitle.get_text()
        == f"query 4: {y[54]:.0f}, read as {read:.0f}\nloss {found.losses[4]:.3g}"
    )
    assert found.plot(4, shape=(4, 9)).axes[0].images[0].get_array().shape == (4, 9)
    assert not found.plot(4, shape=()).axes[0].images
    with pytest.raises(
        fastrev.ArgumentError, match=r"'shape' must be \(height, width\) of 36 pixels, or \(\), not \(9, 9\)"
    ):
        found.plot(4, shape=(9, 9))


@pytest.mark.parametrize(
    "train", [(X[:99], Y[:99]), (X[:100] + 1e-9, Y[:100]), (X[:100], np.roll(Y[:100], 1))], ids=["rows", "X", "y"]
)
def test_other_data_are_refused_before_the_way_back(train, monkeypatch):
    def way_back(run, *args, **named):
        raise AssertionError("it began, to no end")

    monkeypatch.setattr(Run, "pullback", way_back)
    with pytest.raises(ValueError, match="'train' must hold the examples that fit was given"):
        FITTED.attribute(*ASKED, train=train)


def test_what_else_can_be_wrong():
    with pytest.raises(ValueError, match="'train' must hold the examples"):
        FITTED.attribute(*ASKED, train=TRAIN, sample_weight=np.arange(100))
    with pytest.raises(ValueError, match=r"'train' must be a pair \(X, Y\)"):
        FITTED.attribute(*ASKED, train=X)
    with pytest.raises(NotFittedError):
        clone(FITTED).attribute(*ASKED, train=TRAIN)
    with pytest.raises(ValueError, match="2 features"):
        FITTED.attribute(ASKED[0][:, :2], ASKED[1], train=TRAIN)
    with pytest.raises(ValueError, match="'groups'"):
        FITTED.attribute(*ASKED, train=TRAIN, groups=[0])
