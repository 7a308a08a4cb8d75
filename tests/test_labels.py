"""Targets as people have them: classes of any dtype, one target a row, labels and weights that are no shares."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fastrev
from fastrev._engine.problem import prepare
from tests.cases import LOSSES, Case, digits_like, relative_error

RNG = np.random.default_rng(0)
X, XV = RNG.standard_normal((20, 3)), RNG.standard_normal((7, 3))
BINARY = (X[:, 0] > 0).astype(int), (XV[:, 0] > 0).astype(int)
ONE_OUTPUT = ("squared_error", "logistic")


def one_output(loss, column, **changes):
    """A problem of one target a row, as (N,) or as a column."""
    model = fastrev.MLP((3, 4, 1), loss=loss)
    y, y_valid = (each[:, None] if column else each for each in (X @ [1.0, -1, 2], XV @ [1.0, -1, 2]))
    if loss == "logistic":
        y, y_valid = 1 / (1 + np.exp(-y)), 1 / (1 + np.exp(-y_valid))
    data = {"train": (X, y), "valid": (XV, y_valid), "lr": 0.2, "decay": 0.8, "l2": 1e-3}
    data |= {"steps": 6, "batches": fastrev.minibatches(20, 5, 6)}
    return Case(model, model.init(0), data | {"example_weights": np.linspace(0.5, 1.5, 20)} | changes)


# ---- classes -------------------------------------------------------------------------------------------------

OF_TWO = {
    "bool": lambda y: y.astype(bool),
    "list of bool": lambda y: y.astype(bool).tolist(),
    "float64": lambda y: y.astype(np.float64),
    "float32": lambda y: y.astype(np.float32),
    "minus zero": lambda y: np.where(y, 1.0, -0.0),
    "uint64": lambda y: y.astype(np.uint64),
    "int8": lambda y: y.astype(np.int8),
}


@pytest.mark.parametrize("make", OF_TWO.values(), ids=OF_TWO)
def test_classes_may_be_whole_numbers_of_any_dtype_wherever_there_are_labels(make):
    model = fastrev.MLP((3, 2))
    w, given = model.init(0), {"lr": 0.3, "decay": 0.9, "steps": 4}

    def everything(y, y_valid):
        train, valid = (X, y), (XV, y_valid)
        run = fastrev.train(model, w, train=train, curve=(*valid, 2), **given)
        tuned = fastrev.tune(
            model, train=train, valid=valid, learn=("y", "lr"), meta_steps=2, runs=2, progress=False, **given
        )
        found = fastrev.meta_grad(model, w, train=train, valid=valid, wrt=("y", "x"), **given)
        return [
            model.loss_value(w, X, y), model.accuracy(w, X, y), model.grad(w, X, y), model.hvp(w, w, X, y),
            run.w, run.curve, tuned, tuned.train(X, y, seed=1).w, found,
            fastrev.metasmoothness(model, w, train=train, **given),
            fastrev.check_meta_grad(model, w, train=train, valid=valid, **given),
        ]  # fmt: skip

    for a, b in zip(everything(*map(make, BINARY)), everything(*BINARY), strict=True):
        assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 0.5, 2.5], "must hold whole numbers where it holds classes, not 0.5 at Y[2]"),
        ([0, 1, np.nan, 0.5], "must be finite, not nan at Y[2]. Remove the examples that have no finite target."),
        ([0, 1, 0, -np.inf], "must be finite, not -inf at Y[3]"),
        ([0.0, 1.0, 2.0, 3.0], "must hold classes from 0 to 2, for the model's 3 outputs, not 3.0 at Y[3]"),
        ([0.0, 1.0, 2.0, 1e300], "not 1e+300 at Y[3]"),
        ([0.0, -1.0, 2.0, 1.0], "not -1.0 at Y[1]"),
        (np.array([0, 1, 2**63, 1], np.uint64), "not 9223372036854775808 at Y[2]"),
    ],
)
def test_classes_that_are_none_are_named(y, message):
    model = fastrev.MLP((3, 3))
    with pytest.raises(fastrev.ArgumentError, match=re.escape(message)):
        model.loss_value(model.init(0), X[:4], y)


class NAType:
    """As pandas' NA, whose comparisons have no truth."""

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None


@pytest.mark.parametrize("missing", [None, np.nan, np.float32("nan"), np.datetime64("NaT"), NAType()])
def test_missing_labels_are_named(missing):
    model = fastrev.MLP((3, 3))
    with pytest.raises(fastrev.ArgumentError, match=r"where it holds classes.*Remove the examples that have no class"):
        model.loss_value(model.init(0), X[:4], np.array([0, "a", missing, 1], object))


def test_the_picture_of_learned_labels_begins_at_classes_of_any_dtype():
    pytest.importorskip("matplotlib")
    result = fastrev.tune(
        fastrev.MLP((3, 2)), train=(X, BINARY[0] > 0), valid=(XV, BINARY[1]), lr=0.3, decay=0.9, steps=3,
        learn=("y",), meta_steps=2, runs=2, progress=False,
    )  # fmt: skip
    result.plot()


# ---- one output ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ONE_OUTPUT)
def test_one_target_a_row_needs_no_column(loss):
    """Shape in, shape out; and the bits of a column."""
    flat, column = one_output(loss, False), one_output(loss, True)
    found, expected = flat.meta_grad(), column.meta_grad()
    assert found.grad.y.shape == (20,)
    assert expected.grad.y.shape == (20, 1)
    assert np.array_equal(found.grad.y[:, None], expected.grad.y)
    for name, each in vars(expected.grad).items():
        if name not in ("y", "theta"):
            assert np.array_equal(getattr(found.grad, name), each), name
    assert found.loss == expected.loss
    assert relative_error(found.grad.y, column.oracle()[1]["y"].ravel()) < 1e-9
    model, w = flat.model, flat.w0
    (x, y), (_, y_column) = flat.arguments["valid"], column.arguments["valid"]
    assert model.loss_value(w, x, y) == model.loss_value(w, x, y_column)
    assert np.array_equal(model.grad(w, x, y.tolist()), model.grad(w, x, y_column))
    assert flat.train(curve=(x, y, 2)).curve == column.train(curve=(x, y_column, 2)).curve


@pytest.mark.parametrize("loss", ONE_OUTPUT)
def test_targets_without_a_column_are_moved_checked_and_learned(loss):
    case = one_output(loss, False, batches=None, example_weights=None)
    given = {name: value for name, value in case.arguments.items() if name not in ("valid", "lr", "decay")}
    optimizer = fastrev.SGD(case.arguments["lr"], case.arguments["decay"])
    problem = prepare(case.model, case.w0, optimizer=optimizer, batch_size=None, seed=0, v0=None, **given)
    y = problem.values()["y"]
    assert y.shape == (20,)
    moved = problem.with_value("y", y / 2)
    assert np.array_equal(moved.values()["y"], y / 2)
    assert moved.changed() == []
    check = fastrev.check_meta_grad(case.model, case.w0, wrt=("y", "x", "lr"), **case.arguments)
    assert check.passed, check
    assert fastrev.metasmoothness(case.model, case.w0, optimizer=optimizer, wrt=("y",), **given) > 0.5
    result = fastrev.tune(case.model, case.w0, learn=("y",), meta_steps=3, progress=False, **case.arguments)
    assert result.y.shape == (20,)
    assert not np.array_equal(result.y, y)
    result.train().rewind()
    with pytest.raises(fastrev.ArgumentError, match=re.escape("'Y' must have shape (N, K) = (5, 1) or (N,) = (5,)")):
        result.train(X[:5], result.y)


def test_bools_are_binary_targets():
    model = fastrev.MLP((3, 1), loss="logistic")
    w, y = model.init(0), BINARY[0]
    for given in (y > 0, (y > 0)[:, None], (y > 0).tolist(), y, y.astype(float)):
        assert model.loss_value(w, X, given) == model.loss_value(w, X, y[:, None])
        assert model.accuracy(w, X, given) == model.accuracy(w, X, y[:, None])
    for loss in LOSSES:  # one-hot, as pandas makes them
        model = fastrev.MLP((3, 2), loss=loss)
        w, one_hot = model.init(0), np.eye(2)[y]
        assert model.loss_value(w, X, one_hot > 0) == model.loss_value(w, X, one_hot)
    with pytest.raises(
        fastrev.ArgumentError, match=re.escape("'X' must be an array of real numbers, not of dtype bool. Co")
    ):
        model.predict(w, X > 0)


@pytest.mark.parametrize("loss", ONE_OUTPUT)
def test_several_outputs_need_columns(loss):
    model = fastrev.MLP((3, 2), loss=loss)
    with pytest.raises(fastrev.ArgumentError, match="Make a model of one output for one target"):
        model.loss_value(model.init(0), X, BINARY[0])
    with pytest.raises(fastrev.ArgumentError, match="The inputs hold 20 examples"):
        model.loss_value(model.init(0), X, BINARY[0][:19])


# ---- labels and weights that are no shares -------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("batch", [None, 5])
def test_negative_and_unnormalised_labels_and_negative_weights_mean_what_the_formula_says(loss, batch):
    """The loss is linear in weights, and in labels but for squared_error; autograd differentiates the same formula."""
    rng = np.random.default_rng(1)
    model = fastrev.MLP((3, 4, 3), loss=loss)
    case = Case(model, model.init(0), {
        "train": (X, rng.normal(0.3, 1, (20, 3))), "valid": (XV, rng.normal(0.3, 1, (7, 3))), "lr": 0.2, "decay": 0.8,
        "steps": 6, "l2": 0.0, "example_weights": rng.normal(0.5, 1, 20),
        "batches": None if batch is None else rng.integers(20, size=(6, batch)),
    })  # fmt: skip
    found = case.meta_grad()
    loss_value, gradients = case.oracle()
    assert relative_error(found.loss, loss_value) < 1e-12
    for name, expected in gradients.items():
        assert relative_error(getattr(found.grad, name), expected) < 1e-9, name
    y, z = case.arguments["valid"][1], model.outputs(case.w0, XV)
    by_hand = {
        "cross_entropy": -y * (z - np.log(np.exp(z).sum(axis=1, keepdims=True))),
        "squared_error": (z - y) ** 2 / 2,
        "logistic": np.logaddexp(0, z) - y * z,
    }[loss]
    assert model.loss_value(case.w0, XV, y) == pytest.approx(by_hand.sum(axis=1).mean(), rel=1e-12)


def test_a_label_of_mass_m_counts_as_m_examples():
    model = fastrev.MLP((3, 2))
    w, one_hot = model.init(0), np.eye(2)[BINARY[0]]
    assert np.allclose(model.grad(w, X, -3 * one_hot), -3 * model.grad(w, X, one_hot), rtol=1e-12)
    arguments = {"lr": 0.1, "decay": 0.5, "steps": 3}
    heavy = fastrev.train(model, w, train=(X, -2 * one_hot), **arguments).w
    weighted = fastrev.train(model, w, train=(X, one_hot), example_weights=np.full(20, -2.0), **arguments).w
    assert np.allclose(heavy, weighted, rtol=1e-12)


# ---- a shape of two meanings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [
    {"lr": np.full(4, 0.1)}, {"decay": [0.5] * 4}, {"lr": np.full(4, 0.1), "decay": np.full(4, 0.5)},
    {"lr": np.full(4, 0.1), "decay": np.full((1, 4), 0.5)}, {"lr": np.full((1, 4), 0.1), "decay": np.full(4, 0.5)},
])  # fmt: skip
def test_a_value_for_each_group_that_would_be_one_for_each_step_is_refused(changes):
    name = "lr" if np.ndim(changes.get("lr", 0)) == 1 else "decay"
    message = (
        f"Argument '{name}' must be unambiguous where nothing else gives the number of steps, not of shape (4,): it "
        f"may be for 4 steps, or for the 4 parameter groups. Pass steps=4 too for one value per step, "
        f"{name}.reshape(1, 4) and steps=T for one per group."
    )
    case = digits_like(steps=None, **changes)
    with pytest.raises(fastrev.ArgumentError, match=re.escape(message)):
        case.meta_grad()
    with pytest.raises(fastrev.ArgumentError, match="unambiguous"):
        fastrev.tune(case.model, learn=("lr",), **case.arguments)
    assert case.train(steps=4).stats.steps == 4
    wide = {each: np.reshape(value, (1, 4)) for each, value in changes.items()}
    assert case.train(steps=7, **wide).stats.steps == 7


@pytest.mark.parametrize("changes", [
    {"lr": np.full(5, 0.1)}, {"lr": np.full((4, 1), 0.1)}, {"lr": np.full((4, 4), 0.1)}, {"lr": np.full(1, 0.1)},
    {"lr": np.full(4, 0.1), "decay": np.full((4, 1), 0.5)}, {"lr": np.full(4, 0.1), "decay": np.full((4, 4), 0.5)},
    {"lr": np.full(4, 0.1), "batches": np.zeros((4, 2), int), "batch_size": None},
])  # fmt: skip
def test_what_can_only_be_steps_is_taken_for_them(changes):
    assert digits_like(steps=None, **changes).train().stats.steps == len(changes["lr"])


def test_one_group_has_no_two_meanings():
    class Bowl:
        num_params = 2

        def grad(self, w, t):
            return w

    assert fastrev.train(Bowl(), [1.0, 2.0], lr=[0.1], decay=0.5).stats.steps == 1
