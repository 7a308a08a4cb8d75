"""The estimators are what scikit-learn expects, learn by `fastrev.tune`, and depend on their examples alone."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")

from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine, make_multilabel_classification
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastrev
from fastrev._tuning.loop import Descent
from fastrev.errors import ArgumentError
from fastrev.estimators import MetaMLPClassifier, MetaMLPRegressor
from fastrev.estimators._examples import merged, sums

FAST = {"hidden_layer_sizes": (16,), "steps": 60, "meta_steps": 1, "runs": 1}
CLASSIFIER = MetaMLPClassifier(**FAST, random_state=0)
REGRESSOR = MetaMLPRegressor(**FAST, random_state=0)
X, Y = load_wine(return_X_y=True)
D = X.shape[1]
LEARNED = ("lr", "decay", "l2", "init_scale")
REAL = X[:, 0] * np.sqrt(X[:, 1])


def bits(estimator):
    return estimator.w_.tobytes()


def fast(**changes):
    return clone(CLASSIFIER).set_params(**changes)


# ---- as scikit-learn has it ----------------------------------------------------------------------------------


# a list of what it yields: newer versions of pytest warn of the generator that scikit-learn 1.6 hands them
CHECKS = parametrize_with_checks([CLASSIFIER, REGRESSOR, MetaMLPRegressor(**FAST, optimizer="adam", random_state=0)])


@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), **CHECKS.kwargs)
def test_checks_of_scikit_learn(estimator, check):
    """All of them; none is expected to fail.  With defaults they pass as well, and take two minutes."""
    check(estimator)


def test_defaults_pass_what_a_network_must_reach():
    for estimator, data, least in [
        (MetaMLPClassifier, load_breast_cancer, 0.94),
        (MetaMLPRegressor, load_diabetes, 0.3),
    ]:
        X, X_test, y, y_test = train_test_split(*data(return_X_y=True), random_state=1)
        assert estimator(random_state=0).fit(X, y).score(X_test, y_test) > least


@pytest.mark.parametrize(
    "labels",
    [np.array(["no", "yes"]), np.array([False, True]), np.array([0.0, 1.0]), np.array([-1, 1]),
     np.array(["b", "a"], object), np.array([10, 2**40])],
    ids=["strings", "bools", "floats", "signs", "objects", "large"],
)  # fmt: skip
def test_labels_of_any_kind(labels):
    classes = (Y == 0).astype(int)
    fitted = fast().fit(X, labels[classes])
    expected = fast().fit(X, classes if labels[0] < labels[1] else 1 - classes)
    np.testing.assert_array_equal(fitted.classes_, np.sort(labels))
    assert bits(fitted) == bits(expected)
    assert set(fitted.predict(X)) <= set(labels)
    assert fitted.score(X, labels[classes]) > 0.9


def test_probabilities():
    fitted = fast().fit(X, Y)
    p = fitted.predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.log(p), fitted.predict_log_proba(X), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(fitted.classes_[p.argmax(axis=1)], fitted.predict(X))
    far = fitted.predict_log_proba(1e6 * X)
    assert np.isfinite(far).all()


def test_multilabel_targets():
    X, targets = make_multilabel_classification(200, 8, n_classes=3, random_state=0)
    fitted = fast(steps=200).fit(X, targets)
    assert bits(fitted) == bits(fast(steps=200).fit(X, scipy.sparse.csr_array(targets)))
    p = fitted.predict_proba(X)
    assert p.shape == targets.shape
    np.testing.assert_array_equal(fitted.predict(X), (p > 0.5).astype(int))
    assert (fitted.predict(X) == targets).mean() > 0.75
    with pytest.raises(ArgumentError, match="'class_weight' must be None where targets are multilabel"):
        fast(class_weight="balanced").fit(X, targets)


@pytest.mark.parametrize("columns", [1, 3])
def test_real_targets_come_back_in_their_shape(columns):
    targets = np.stack([REAL, 5 - 2 * REAL, X[:, 2]], axis=1)[:, :columns]
    fitted = clone(REGRESSOR).set_params(steps=200).fit(X, targets)
    assert fitted.predict(X).shape == targets.shape
    assert fitted.score(X, targets) > 0.7
    if columns == 1:
        flat = clone(REGRESSOR).set_params(steps=200).fit(X, targets[:, 0])
        np.testing.assert_array_equal(flat.predict(X), fitted.predict(X)[:, 0])
        assert flat.predict(X).shape == (len(X),)


def test_predictions_scale_with_their_targets():
    """Standardisation is undone, at whatever unit."""
    first = clone(REGRESSOR).fit(X, REAL).predict(X)
    np.testing.assert_allclose(clone(REGRESSOR).fit(X, 1e6 * REAL + 1e7).predict(X), 1e6 * first + 1e7, rtol=1e-5)


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"feature {i}" for i in range(D)])
    fitted = fast().fit(frame, pandas.Series(Y).map({0: "a", 1: "b", 2: "c"}))
    np.testing.assert_array_equal(fitted.feature_names_in_, frame.columns)
    assert bits(fitted) == bits(fast().fit(X, Y))
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[frame.columns[::-1]])


def test_pipelines_searches_and_cross_validation():
    pipeline = make_pipeline(MinMaxScaler(), fast())
    grid = {"metamlpclassifier__hidden_layer_sizes": [(), (8,)], "metamlpclassifier__activation": ["tanh", "relu"]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, Y)
    assert search.best_score_ > 0.85
    assert cross_val_predict(pipeline, X, Y, cv=3).shape == Y.shape


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler((-5, 5))], ids=["standard", "min max"])
def test_units_of_the_features_are_nothing(scaler):
    """The same draws of examples and weights, and within rounding the same network."""
    scaled = make_pipeline(scaler, fast()).fit(X, Y)
    np.testing.assert_allclose(scaled.predict_proba(X), fast().fit(X, Y).predict_proba(X), atol=1e-3)


@pytest.mark.parametrize("fitted", [CLASSIFIER, REGRESSOR], ids=["classifier", "regressor"])
def test_copies_predict_the_same(fitted):
    fitted = clone(fitted).fit(X, Y)
    for copied in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(copied.predict(X), fitted.predict(X))
        assert repr(copied.tuned_) == repr(fitted.tuned_)
    assert not hasattr(clone(fitted), "w_")


def test_a_fitted_estimator_holds_no_training_data():
    size = len(pickle.dumps(fast().fit(X, Y)))
    assert (
        len(pickle.dumps(fast().fit(np.tile(X, (20, 1)) + np.arange(20 * len(X))[:, None], np.tile(Y, 20))))
        < size + 100
    )


# ---- what is learned -----------------------------------------------------------------------------------------


def test_it_learns_by_tune_and_trains_on_everything():
    """By the public functions alone, to the last bit."""
    fitted = fast(meta_steps=3, runs=2).fit(X, Y)
    order = merged(X, Y, np.ones(len(X)))
    Z = StandardScaler().fit_transform(order.X)
    model = fastrev.MLP((D, 16, 3), activation="relu", dtype=np.float32)
    seed = np.random.RandomState(0).randint(2**31 - 1)
    found = fastrev.tune(
        model, train=(Z, order.y), valid=0.2, lr=np.full(60, 0.1), decay=0.9, l2=np.full(4, 1e-3), batch_size=64,
        steps=60, learn=LEARNED, meta_steps=3, meta_lr=0.2, runs=2, seed=seed, progress=False,
    )  # fmt: skip
    for name in LEARNED:
        np.testing.assert_array_equal(getattr(fitted, f"{name}_"), getattr(found, name))
    assert fitted.loss_ == found.loss
    run = found.train(seed=seed)
    np.testing.assert_array_equal(fitted.w_, run.w)
    Z = fitted.scaler_.transform(X)
    np.testing.assert_array_equal(fitted.predict(X), model.predict(run.w, Z))
    for name, W in zip(("W1", "W2"), fitted.coefs_, strict=True):
        np.testing.assert_array_equal(W, model.unflatten(run.w)[name])
    np.testing.assert_array_equal(fitted.intercepts_[1], model.unflatten(run.w)["b2"])


@pytest.mark.parametrize(
    ("changes", "shape"),
    [({}, (60,)), ({"lr": 0.2}, ()), ({"lr": np.full((1, 4), 0.2)}, (1, 4)), ({"lr": np.full((60, 4), 0.2)}, (60, 4)),
     ({"lr": np.full(30, 0.2), "steps": "auto"}, (30,)), ({"decay": np.full(30, 0.8), "steps": "auto"}, (30,))],
)  # fmt: skip
def test_rates_are_learned_as_finely_as_they_are_given(changes, shape):
    fitted = fast(**changes).fit(X, Y)
    assert np.shape(fitted.lr_) == shape
    assert np.shape(fitted.decay_) == np.shape(changes.get("decay", 0.9))


def test_the_optimizer_holds_what_the_short_form_says():
    short = fast(lr=np.full(60, 0.2), decay=0.8).fit(X, Y)
    for optimizer in (fastrev.SGD(np.full(60, 0.2), 0.8), fastrev.SGD([0.2] * 60, np.float32(0.8))):
        found = fast(optimizer=optimizer).fit(X, Y)
        if isinstance(optimizer.decay, float):
            assert bits(found) == bits(short)
        assert found.lr_ is found.optimizer_.lr
        assert found.decay_ is found.optimizer_.decay
        assert isinstance(found.optimizer_, fastrev.SGD)
        assert clone(found).get_params()["optimizer"].decay == optimizer.decay
        again = clone(found).set_params(
            optimizer=found.optimizer_, l2=found.l2_, init_scale=found.init_scale_, learn=()
        )
        assert bits(again.fit(X, Y)) == bits(found)
    assert bits(fast(optimizer="sgd").fit(X, Y)) == bits(fast().fit(X, Y))
    search = GridSearchCV(fast(), {"optimizer": ["sgd", fastrev.SGD(0.3, 0.9)]}, cv=2).fit(X, Y)
    assert search.best_score_ > 0.8


def test_adam_is_learned_by_its_own_names():
    fitted = fast(optimizer="adam", meta_steps=3).fit(X, Y)
    assert list(fitted.tuned_.learned) == ["lr", "beta1", "beta2", "eps", "l2", "init_scale"]
    assert isinstance(fitted.optimizer_, fastrev.Adam)
    assert fitted.lr_.shape == (60,)
    assert not hasattr(fitted, "decay_")
    for name in ("lr", "beta1", "beta2", "eps", "weight_decay", "eps_root"):
        assert getattr(fitted, f"{name}_") is getattr(fitted.optimizer_, name)
    again = fast(optimizer=fitted.optimizer_, learn=(), l2=fitted.l2_, init_scale=fitted.init_scale_).fit(X, Y)
    assert bits(again) == bits(fitted)
    held = fastrev.Adam(np.full(60, 0.001))
    assert bits(fast(optimizer=held, meta_steps=3).fit(X, Y)) == bits(fitted)
    assert bits(fast(optimizer="adam", lr=np.full(60, 0.001), meta_steps=3).fit(X, Y)) == bits(fitted)
    decoupled = fast(optimizer=fastrev.Adam([[0.01] * 4] * 60, weight_decay=0.1), steps="auto").fit(X, Y)
    assert "weight_decay" in decoupled.tuned_.learned
    assert decoupled.lr_.shape == (60, 4)
    assert pickle.loads(pickle.dumps(decoupled)).predict(X).tolist() == decoupled.predict(X).tolist()


def test_all_that_is_not_0_is_learned():
    fitted = fast(l2=0, init_scale=[0.2, 0, 0.2, 0]).fit(X, Y)
    assert list(fitted.tuned_.learned) == ["lr", "decay", "init_scale"]
    assert fitted.l2_ == 0
    assert list(fast(lr=0).fit(X, Y).tuned_.learned) == ["decay", "l2", "init_scale"]


def test_what_is_not_learned_stays():
    fitted = fast(learn=("lr",), l2=0.01, decay=0.8, init_scale=0.2).fit(X, Y)
    assert (fitted.l2_, fitted.decay_, fitted.init_scale_) == (0.01, 0.8, 0.2)
    assert np.unique(fitted.lr_).size > 1


@pytest.mark.parametrize(
    ("examples", "steps", "batch"), [(10, 200, 8), (178, 200, 64), (1000, 313, 64), (9000, 1000, 64)]
)
def test_automatic_steps_and_batches(examples, steps, batch):
    rows = np.random.default_rng(0).standard_normal((examples, 2))
    fitted = fast(steps="auto", hidden_layer_sizes=()).fit(rows, np.arange(examples) % 2)
    assert fitted.tuned_.training.arguments["steps"] == steps
    assert fitted.tuned_.training.arguments["batch_size"] == batch


def test_what_was_learned_trains_again_to_the_same_bits():
    fitted = fast(meta_steps=3).fit(X, Y, np.linspace(1, 2, len(X)))
    learned = {name: getattr(fitted, f"{name}_") for name in LEARNED}
    again = fast(learn=(), **learned).fit(X, Y, np.linspace(1, 2, len(X)))
    assert bits(again) == bits(fitted)
    assert again.tuned_ is again.loss_ is None
    for name in LEARNED:
        np.testing.assert_array_equal(getattr(again, f"{name}_"), learned[name])


def test_what_was_tuned_with_weights_asks_for_weights():
    fitted, rows = fast().fit(X, Y, np.linspace(1, 2, len(X))), StandardScaler().fit_transform(X)
    with pytest.raises(ArgumentError, match="'example_weights' must be given with X and Y, since tune had weights"):
        fitted.tuned_.train(rows, Y)
    with pytest.raises(ArgumentError, match="'X' and 'Y' must be given: this result is kept without its data"):
        fitted.tuned_.train()
    assert fast().fit(X, Y).tuned_.train(rows, Y).stats.steps == 60


def test_batches_are_not_larger_than_what_there_is():
    assert bits(fast(batch_size=1000).fit(X, Y)) == bits(fast(batch_size=len(X) - round(0.2 * len(X))).fit(X, Y))


def test_full_batches():
    fitted = fast(batch_size=None, steps="auto").fit(X, Y)
    assert fitted.score(X, Y) > 0.9
    assert fitted.lr_.shape == (200,)


@pytest.mark.parametrize("made", [0, 2])
def test_interrupted_it_is_fitted_with_what_was_learned(made, monkeypatch):
    step, taken = Descent.step, []

    def interrupted(descent):
        if len(taken) == made:
            raise KeyboardInterrupt
        taken.append(step(descent))

    monkeypatch.setattr(Descent, "step", interrupted)
    estimator = fast(meta_steps=5)
    if made:
        with pytest.warns(
            RuntimeWarning, match=r"Interrupted after 2 meta-steps\. Training with what was learned so far"
        ):
            estimator.fit(X, Y)
        assert estimator.tuned_.nit == 2
        assert estimator.score(X, Y) > 0.9
    else:
        with pytest.raises(KeyboardInterrupt, match="Interrupted after 0 meta-steps"):
            estimator.fit(X, Y)
        with pytest.raises(NotFittedError):
            estimator.predict(X)


def test_what_cannot_be_fitted_again_is_not_fitted():
    fitted = fast().fit(X, Y)
    with pytest.raises(ArgumentError):
        fitted.fit(X[:, :5], np.zeros(len(X)))
    with pytest.raises(NotFittedError):
        fitted.predict(X)
    assert fitted.fit(X[:, :5], Y).predict(X[:, :5]).shape == Y.shape


# ---- examples and their weights ------------------------------------------------------------------------------


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_the_order_of_examples_is_nothing(class_weight):
    rows, labels, weights = X.repeat(3, axis=0), Y.repeat(3), np.resize([0.1, 0.2, 0.3, 1 / 3], 3 * len(X))
    order = np.random.default_rng(0).permutation(len(rows))
    fitted = fast(class_weight=class_weight, dtype="float64").fit(rows, labels, weights)
    again = fast(class_weight=class_weight, dtype="float64").fit(rows[order], labels[order], weights[order])
    assert bits(fitted) == bits(again)


def test_sums_do_not_depend_on_order():
    """Where sums in the order of the rows do."""
    of, weights = np.zeros(3, int), np.array([0.1, 0.2, 0.3])
    assert np.bincount(of, weights) != np.bincount(of, weights[::-1])
    assert sums(of, weights) == sums(of, weights[::-1])


@pytest.mark.parametrize(
    "estimator", [CLASSIFIER, REGRESSOR, fast(class_weight="balanced")], ids=["C", "R", "balanced"]
)
def test_weights_are_repetitions_to_the_last_bit(estimator):
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    weighted = clone(estimator).fit(X, Y, weights)
    assert bits(weighted) == bits(clone(estimator).fit(X.repeat(weights, axis=0), Y.repeat(weights)))
    assert bits(weighted) == bits(clone(estimator).fit(X, Y, 8.0 * weights))
    assert bits(weighted) != bits(clone(estimator).fit(X, Y))
    assert bits(clone(estimator).fit(X, Y, 0.1)) == bits(clone(estimator).fit(X, Y))


def test_a_class_of_weight_zero_is_not_there():
    fitted = fast().fit(X, Y, Y < 2)
    assert bits(fitted) == bits(fast().fit(X[Y < 2], Y[Y < 2]))
    assert fitted.classes_.tolist() == [0, 1]


def test_weights_of_classes_are_weights_of_their_examples():
    weights = np.array([1.0, 4.0, 2.0])
    by_class = fast(class_weight=dict(enumerate(weights))).fit(X, Y)
    assert bits(by_class) == bits(fast().fit(X, Y, weights[Y]))
    balanced = fast(class_weight="balanced").fit(X, Y)
    assert bits(balanced) == bits(fast().fit(X, Y, 1 / np.bincount(Y)[Y]))
    with pytest.raises(ArgumentError, match="'class_weight' must hold finite weights, none of them negative"):
        fast(class_weight={0: -1.0, 1: 1.0, 2: 1.0}).fit(X, Y)
    for bad in (np.nan, np.inf):
        with pytest.raises(ArgumentError, match="'class_weight' must hold finite weights"):
            fast(class_weight={0: bad}).fit(X, Y)
    with pytest.raises(ArgumentError, match="'class_weight' must hold finite weights"):
        fast(class_weight={0: 1e300}).fit(X, Y, np.full(len(X), 1e10))
    for few in ({0: 0, 1: 0}, {0: 0, 1: 0, 2: 0}):
        with pytest.raises(ArgumentError, match="'class_weight' must leave weight to at least two classes of y"):
            fast(class_weight=few).fit(X, Y)
    assert set(fast(class_weight={0: 5e-324}).fit(X, Y).predict(X)) == {1, 2}  # what weighs nothing beside the others


@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 12), st.just(2)),
        elements=st.sampled_from([-np.inf, -2.5, -1e-300, -0.0, 0.0, 1.0, 2.5]),
    ),
    st.data(),
)
def test_merged_examples_are_distinct_and_weigh_as_much(X, data):
    n = len(X)
    y = np.array(data.draw(st.lists(st.integers(-1, 1), min_size=n, max_size=n)))
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), float)
    found = merged(X, y, weights)
    expected: dict[tuple[float, ...], float] = {}
    for row, label, weight in zip(X.tolist(), y.tolist(), weights.tolist(), strict=True):
        expected[*row, label] = expected.get((*row, label), 0.0) + weight
    rows = zip(found.X.tolist(), found.y.tolist(), found.weights.tolist(), strict=True)
    assert {(*row, label): weight for row, label, weight in rows} == expected
    assert len(found.X) == len(expected)
    rows = list(zip(*found.X.T.tolist(), found.y.tolist(), strict=True))
    assert rows == sorted(rows)


def test_copies_of_an_example_are_on_one_side():
    """Two different examples, a hundred times each: one trains, one is held out, and nothing else is possible."""
    rows, labels = np.array([[0.0], [1.0]]).repeat(100, axis=0), np.repeat([0, 1], 100)
    assert fast().fit(rows, labels).tuned_.training.arguments["batch_size"] == 1


def test_the_arguments_are_not_changed():
    given = X.copy(), Y.copy(), np.linspace(0.5, 2, len(X))
    kept = [each.copy() for each in given]
    for each in given:
        each.setflags(write=False)
    fast().fit(*given).predict(given[0])
    for each, before in zip(given, kept, strict=True):
        np.testing.assert_array_equal(each, before)


# ---- randomness and workers ----------------------------------------------------------------------------------


def test_a_seed_is_the_same_bits_and_another_is_not():
    assert bits(fast().fit(X, Y)) == bits(fast().fit(X, Y))
    assert bits(fast().fit(X, Y)) == bits(fast(random_state=np.random.RandomState(0)).fit(X, Y))
    assert bits(fast().fit(X, Y)) != bits(fast(random_state=1).fit(X, Y))
    assert bits(fast(random_state=None).fit(X, Y)) != bits(fast(random_state=None).fit(X, Y))


def test_workers_change_no_bit():
    assert bits(fast(runs=3).fit(X, Y)) == bits(fast(runs=3, workers=2).fit(X, Y))


# ---- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_layer_sizes": "9"}, "'hidden_layer_sizes' must be a sequence of whole numbers, not '9'. Pass"),
        ({"hidden_layer_sizes": (10, 0)}, r"'hidden_layer_sizes\[1\]' must be at least 1, not 0"),
        ({"hidden_layer_sizes": (1.5,)}, r"'hidden_layer_sizes\[0\]' must be a whole number"),
        ({"activation": "logistic"}, "'activation' must be one of 'tanh', 'sigmoid'"),
        ({"validation_fraction": 0}, "'validation_fraction' must be between 0 and 1, not 0"),
        ({"validation_fraction": 1.0}, "'validation_fraction' must be between 0 and 1, not 1.0"),
        ({"validation_fraction": "0.2"}, "'validation_fraction' must be between 0 and 1, not '0.2'"),
        ({"hidden_layer_sizes": {5, 3}}, "'hidden_layer_sizes' must be a sequence of whole numbers, not {3, 5}"),
        ({"lr": [[0.1], [0.2, 0.3]], "steps": "auto"}, "'lr' must be a rectangular array"),
        ({"decay": np.full(4, 0.9), "steps": "auto"}, r"'decay' must be unambiguous .* Pass steps=4 too"),
        ({"learn": ("x",)}, "'learn' must hold names among 'lr', 'decay', 'l2', 'init_scale', not 'x'"),
        ({"optimizer": "lbfgs"}, "'optimizer' must be one of 'sgd', 'adam', not 'lbfgs'"),
        (
            {"optimizer": "adam", "decay": 0.9},
            "'decay' must be left out where the optimizer has none, not 0.9. Adam has lr, beta1, beta2, eps, weight_",
        ),
        ({"optimizer": "adam", "learn": ("decay",)}, "'learn' must hold names among 'lr', 'beta1', .* not 'decay'"),
        ({"optimizer": "adam", "learn": ("weight_decay",)}, "'weight_decay' must hold a number above 0 to be learned"),
        ({"optimizer": fastrev.Adam(np.full(4, 0.1)), "steps": "auto"}, "'lr' must be unambiguous .* Pass steps=4 too"),
        ({"optimizer": 3}, "'optimizer' must be a fastrev.SGD or fastrev.Adam, not 3"),
        ({"optimizer": fastrev.SGD}, "'optimizer' must be a fastrev.SGD or fastrev.Adam, not <class"),
        ({"optimizer": fastrev.SGD(0.1, 0.9), "lr": 0.2}, "'lr' must be left out where there is an optimizer, which"),
        ({"optimizer": fastrev.SGD(0.1, 2.0)}, r"'decay' must be in \(0, 1\]"),
        ({"hidden_layer_sizes": b"33"}, "'hidden_layer_sizes' must be a sequence of whole numbers"),
        (
            {"l2": 0, "learn": LEARNED},
            "'l2' must hold a number above 0 to be learned, not 0. What is not in learn stays: leave 'l2' out",
        ),
        ({"lr": np.zeros(60), "learn": ("lr",)}, "'lr' must hold a number above 0 to be learned"),
        ({"steps": 0}, "'steps' must be at least 1, not 0"),
        ({"steps": "many"}, "'steps' must be a whole number, not 'many'"),
        ({"steps": 10, "lr": np.full(20, 0.1)}, "'lr' must have 10 steps, as steps has, not 20"),
        ({"batch_size": 0}, "'batch_size' must be at least 1, not 0"),
        ({"batch_size": 10.0}, "'batch_size' must be a whole number, not 10.0"),
        ({"meta_steps": 0}, "'meta_steps' must be at least 1"),
        ({"meta_lr": -1}, "'meta_lr' must be a number above 0"),
        ({"runs": 0}, "'runs' must be at least 1"),
        ({"workers": 0}, "'workers' must be at least 1"),
        ({"dtype": "float16"}, "'dtype' must be numpy.float64 or numpy.float32, not 'float16'"),
        ({"decay": 0}, r"'decay' must be in \(0, 1\]"),
        ({"lr": -0.1}, "'lr' must not be negative"),
        ({"l2": np.ones(3)}, "'l2' must be a number, one per group"),
    ],
)  # fmt: skip
def test_parameters_that_cannot_be_are_named(changes, message):
    with pytest.raises(ArgumentError, match=message):
        fast(**changes).fit(X, Y)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"'sample_weight' must have shape \(178,\), one per example, not shape \(3,\)"),
        (-np.ones(len(X)), "'sample_weight' must not be negative, not -1"),
        (
            np.zeros(len(X)),
            "'sample_weight' must be above zero for at least 2 examples, one of which is held out, not for 0",
        ),
        (np.full(len(X), np.nan), "'sample_weight' must be finite"),
        (np.full(len(X), 1e308), r"'sample_weight' must have a finite sum, not up to 1e\+308"),
    ],
)
def test_weights_that_cannot_be_are_named(weights, message):
    with pytest.raises(ArgumentError, match=message):
        fast().fit(X, Y, weights)


def test_one_class_is_no_classes():
    with pytest.raises(
        ArgumentError, match="'y' must hold at least two classes, of examples with a weight, not one, a"
    ):
        fast().fit(X, np.full(len(X), "a"))
    with pytest.raises(ArgumentError, match="'y' must hold at least two classes"):
        fast().fit(X, Y, Y == 0)


@pytest.mark.parametrize("size", [1e160, 1e300])
def test_what_has_no_variance_is_named(size):
    with pytest.raises(ArgumentError, match=r"'X' must have variances below 1e308, not values up to 1e"):
        fast().fit(np.where(X.max() == X, size, X), Y)
    with pytest.raises(ArgumentError, match="'y' must have variances below 1e308"):
        clone(REGRESSOR).fit(X, np.where(Y, size, -size))


def test_one_layer_of_an_array():
    assert bits(fast(hidden_layer_sizes=np.array(16)).fit(X, Y)) == bits(fast().fit(X, Y))


def test_a_failed_fit_leaves_nothing_behind():
    fitted = clone(REGRESSOR).fit(X, REAL)
    with pytest.raises(ArgumentError):
        fitted.set_params(l2=-1).fit(X, 1000 * REAL)
    with pytest.raises(NotFittedError):
        fitted.predict(X)


def test_no_warnings_of_ours():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MetaMLPRegressor(**FAST, random_state=0).fit(X, REAL).predict(X)
