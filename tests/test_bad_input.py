"""Every bad argument is named before anything is computed, with what it must be and what came."""

from __future__ import annotations

import re
from functools import partial

import numba
import numpy as np
import pytest
from scipy.sparse import csr_array

import fastrev
from fastrev._engine.arguments import takes
from tests.cases import digits_like

NAN, INF = float("nan"), float("inf")


def changed(array, value, at=0):
    copy = np.array(array, np.float64)
    copy.flat[at] = value
    return copy


X, Y = np.random.default_rng(0).random((40, 4)), np.arange(40) % 3
SIZE = 4 * 5 + 5 + 5 * 3 + 3

# argument, value, the pieces that the message must hold
BAD_ARGUMENTS = [
    ("w0", np.zeros(SIZE - 1), ["'w0'", f"shape ({SIZE},)", f"shape ({SIZE - 1},)"]),
    ("w0", np.zeros((SIZE, 1)), ["'w0'", f"shape ({SIZE}, 1)"]),
    ("w0", changed(np.zeros(SIZE), NAN, 7), ["'w0'", "finite", "nan at w0[7]"]),
    ("w0", changed(np.zeros(SIZE), -INF), ["'w0'", "finite", "-inf"]),
    ("w0", np.full(SIZE, 2048.0), ["'w0'", "below 2048", "up to 2048"]),
    ("w0", np.zeros(SIZE, complex), ["'w0'", "real numbers", "complex128"]),
    ("w0", np.array(["a"] * SIZE), ["'w0'", "real numbers", "dtype <U1"]),
    ("w0", [None] * SIZE, ["'w0'", "real numbers", "dtype object"]),
    ("w0", [[1.0], [1.0, 2.0]], ["'w0'", "rectangular"]),
    ("v0", np.zeros(3), ["'v0'", f"shape ({SIZE},)", "shape (3,)"]),
    ("v0", 0.0, ["'v0'", "shape ()"]),
    ("v0", np.full(SIZE, NAN), ["'v0'", "finite", "nan"]),
    ("v0", np.full(SIZE, -1e9), ["'v0'", "grid's range", "up to 1e+09"]),
    ("l2", [[1.0], [1.0, 2.0]], ["'l2'", "rectangular", "ragged"]),
    ("lr", -0.1, ["'lr'", "not be negative", "-0.1"]),
    ("lr", NAN, ["'lr'", "finite", "nan"]),
    ("lr", [0.1, INF], ["'lr'", "finite", "inf at lr[1]"]),
    ("lr", "0.1", ["'lr'", "real numbers"]),
    ("lr", None, ["'lr'", "None", "optimizer=fastrev.Adam"]),
    ("decay", None, ["'decay'", "None", "optimizer=fastrev.Adam"]),
    ("lr", True, ["'lr'", "real numbers", "bool"]),
    ("lr", np.ones((20, 3)), ["'lr'", "(20, 3)", "(T, 4)"]),
    ("lr", np.ones((20, 4, 1)), ["'lr'", "(20, 4, 1)"]),
    ("lr", np.ones(0), ["'lr'", "shape (0,)"]),
    ("lr", np.ones(19), ["'lr'", "20 steps", "19", "shape (1, G)"]),
    ("lr", np.ones((21, 4)), ["'lr'", "20 steps", "21"]),
    ("decay", 0.0, ["'decay'", "(0, 1]", "not 0"]),
    ("decay", -0.5, ["'decay'", "(0, 1]", "-0.5"]),
    ("decay", 1.01, ["'decay'", "(0, 1]", "1.01"]),
    ("decay", 1e-6, ["'decay'", "2**-16", "1e-06"]),
    ("decay", [0.5] * 19 + [0.999995], ["'decay'", "at most 65535/65536", "0.999995", "0.99998"]),
    ("decay", NAN, ["'decay'", "finite", "nan"]),
    ("decay", np.full(30, 0.5), ["'decay'", "20 steps", "30"]),
    ("decay", np.full((20, 2), 0.5), ["'decay'", "(20, 2)"]),
    ("l2", NAN, ["'l2'", "finite"]),
    ("l2", np.ones(5), ["'l2'", "per group (4,)", f"per parameter ({SIZE},)", "shape (5,)"]),
    ("l2", np.ones((4, 1)), ["'l2'", "shape (4, 1)"]),
    ("steps", 0, ["'steps'", "at least 1", "0"]),
    ("steps", -3, ["'steps'", "at least 1", "-3"]),
    ("steps", 2.0, ["'steps'", "whole number", "2.0"]),
    ("steps", True, ["'steps'", "whole number", "True"]),
    ("steps", None, ["'steps'", "no other argument has an axis of steps", "steps=T"]),
    ("batch_size", 0, ["'batch_size'", "at least 1"]),
    ("batch_size", 41, ["'batch_size'", "at most 40", "41"]),
    ("batch_size", 8.0, ["'batch_size'", "whole number", "8.0"]),
    ("seed", -1, ["'seed'", "at least 0", "-1"]),
    ("seed", 1.5, ["'seed'", "whole number", "1.5"]),
    ("batches", np.zeros((20, 5), int), ["'batches'", "batch_size", "both"]),
    ("example_weights", np.ones(39), ["'example_weights'", "shape (40,)", "shape (39,)"]),
    ("example_weights", np.full(40, NAN), ["'example_weights'", "finite"]),
    ("train", X, ["'train'", "pair (X, Y)", "ndarray"]),
    ("train", (X,), ["'train'", "pair (X, Y)", "1 items"]),
    ("train", (X, Y, Y), ["'train'", "pair (X, Y)", "3 items"]),
    ("train", (X[:, :3], Y), ["'train[0]'", "(N, 4)", "(40, 3)"]),
    ("train", (X[:, 0], Y), ["'train[0]'", "(N, 4)", "(40,)"]),
    ("train", (X[:0], Y[:0]), ["'train[0]'", "at least one example", "(0, 4)"]),
    ("train", (changed(X, NAN, 9), Y), ["'train[0]'", "finite", "nan at train[0][2, 1]"]),
    ("train", (X, Y[:39]), ["'train[1]'", "(40,)", "(39,)"]),
    ("train", (X, Y + 0.5), ["'train[1]'", "whole numbers", "not 0.5 at train[1][0]", "squared_error"]),
    ("train", (X, changed(Y, 3).astype(int)), ["'train[1]'", "classes from 0 to 2", "not 3"]),
    ("train", (X, changed(Y, -1).astype(int)), ["'train[1]'", "classes from 0 to 2", "not -1"]),
    ("train", (X, np.ones((40, 2))), ["'train[1]'", "(40, 3)", "(40, 2)"]),
    ("train", (X, np.full((40, 3), INF)), ["'train[1]'", "finite", "inf"]),
    ("train", (X > 0.5, Y), ["'train[0]'", "real numbers", "bool"]),
    ("valid", (X, Y[:-1]), ["'valid[1]'", "(40,)", "(39,)"]),
    ("valid", (X[:0], Y[:0]), ["'valid[0]'", "at least one example"]),
    ("valid", (changed(X, NAN), Y), ["'valid[0]'", "finite", "nan"]),
    ("valid", None, ["'valid'", "pair (X, Y)", "NoneType"]),
    ("wrt", ("lr", "momentum"), ["'wrt'", "'decay'", "'momentum'"]),
    ("wrt", "lr", ["'wrt'", "sequence of names", "'lr'"]),
    ("wrt", ("lr", "lr"), ["'wrt'", "once"]),
]


@pytest.mark.parametrize(("name", "value", "pieces"), BAD_ARGUMENTS)
def test_of_meta_grad(name, value, pieces):
    case = digits_like(train=(X, Y), valid=(X, Y))
    if name == "w0":
        case.w0 = value
    else:
        case.arguments[name] = value
    check(pieces, case.meta_grad)


@pytest.mark.parametrize(
    ("changes", "pieces"),
    [
        ({"decay": None}, ["'lr'", "be left out where there is an optimizer", "not 0.3"]),
        ({"lr": None}, ["'decay'", "be left out where there is an optimizer", "not 0.9"]),
        ({"lr": None, "decay": None, "optimizer": fastrev.SGD}, ["'optimizer'", "be a fastrev.SGD", "fastrev.Adam"]),
        ({"lr": None, "decay": None, "optimizer": "adam"}, ["'optimizer'", "be a fastrev.SGD", "not 'adam'"]),
        ({"lr": None, "decay": None, "optimizer": fastrev.SGD(-0.1, 0.9)}, ["'lr'", "not be negative", "-0.1"]),
        ({"lr": None, "decay": None, "optimizer": fastrev.SGD(0.1, 2)}, ["'decay'", "(0, 1]", "not 2"]),
    ],
)
def test_of_an_optimizer(changes, pieces):
    check(pieces, digits_like(**({"optimizer": fastrev.SGD(0.1, 0.9)} | changes)).meta_grad)


@pytest.mark.parametrize(
    ("advice", "changes"),
    [
        ("The inputs hold 40 examples, row i of both is one.", {"train": (np.zeros((40, 4)), np.zeros(39, int))}),
        ("Pass numpy.ravel(Y) for classes.", {"train": (np.zeros((40, 4)), np.zeros((40, 1), int))}),
        ("np.unique(Y, return_inverse=True)", {"train": (np.zeros((40, 4)), np.array(["a", "b"] * 20))}),
        ("Make a model of 7 inputs", {"train": (np.zeros((40, 7)), np.zeros(40, int))}),
        ("X.reshape(len(X), -1)", {"train": (np.zeros((40, 2, 2)), np.zeros(40, int))}),
        ("X[None] for a single example", {"train": (np.zeros(4), np.zeros(1, int))}),
        ("a sparse csr_array. Pass .toarray() of it.", {"train": (csr_array(np.zeros((40, 4))), np.zeros(40, int))}),
        ("not inf. Pass a finite number.", {"lr": np.inf}),
        ("not nan. Pass a finite number.", {"decay": np.nan}),
        ("a dict. Pass its values as an array.", {"l2": {"W1": 0.1}}),
        ("Pass its .real", {"v0": np.zeros(SIZE, complex)}),
    ],
)
def test_advice_fits_the_fault(advice, changes):
    with pytest.raises(fastrev.ArgumentError, match=re.escape(advice)):
        digits_like(**changes).meta_grad()


def test_callables_of_all_kinds_say_what_they_take():
    class Undescribed:
        __signature__ = "none"

        def __call__(self, w):
            return w

    fitting = [numba.njit(lambda w: w), partial(max, 1), np.sin, abs, lambda *both: both, Undescribed()]
    assert all(takes(each, 1) for each in fitting)
    assert takes(map, 2)
    assert not takes(numba.njit(lambda w, theta, t: w), 1)
    assert not takes(lambda: None, 1)


def test_a_run_in_place_of_its_weights_is_told_apart():
    case = digits_like()
    with pytest.raises(fastrev.ArgumentError, match=re.escape("a Run. Pass its w.")):
        case.model.accuracy(case.train(), *case.arguments["valid"])


def check(pieces, call):
    with pytest.raises(fastrev.ArgumentError) as info:
        call()
    message = str(info.value)
    assert isinstance(info.value, ValueError)
    assert isinstance(info.value, fastrev.FastrevError)
    assert all(piece in message for piece in pieces), message


@pytest.mark.parametrize(
    ("batches", "pieces"),
    [
        (np.zeros(20, int), ["'batches'", "(T, B)", "(20,)"]),
        (np.zeros((20, 0), int), ["'batches'", "(T, B)", "(20, 0)"]),
        (np.zeros((20, 5)), ["'batches'", "integer", "float64"]),
        (np.full((20, 5), 40), ["'batches'", "from 0 to 39", "40"]),
        (np.full((20, 5), -1), ["'batches'", "from 0 to 39", "-1"]),
        (np.zeros((19, 5), int), ["'batches'", "20 steps", "19"]),
    ],
)
def test_of_batches(batches, pieces):
    check(pieces, digits_like(batches=batches, batch_size=None).meta_grad)


def test_two_axes_of_steps_must_agree():
    case = digits_like(steps=None, lr=np.ones(5), decay=np.full((6, 1), 0.9))
    check(["'decay'", "have 5 steps, as lr has", "6"], case.meta_grad)


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        ({"sizes": (4,)}, ["'sizes'", "at least two", "(4,)"]),
        ({"sizes": 4}, ["'sizes'", "at least two", "4"]),
        ({"sizes": (4, 0, 2)}, ["'sizes[1]'", "at least 1", "0"]),
        ({"sizes": (4, 2.5, 2)}, ["'sizes[1]'", "whole number", "2.5"]),
        ({"sizes": (4, 1)}, ["'sizes'", "at least 2 classes", "loss='logistic'"]),
        ({"activation": "gelu"}, ["'activation'", "'tanh'", "'softplus'", "'gelu'"]),
        ({"activation": np.tanh}, ["'activation'", "'tanh'"]),
        ({"loss": "mse"}, ["'loss'", "'squared_error'", "'mse'"]),
        ({"dtype": np.float16}, ["'dtype'", "numpy.float64 or numpy.float32", "float16"]),
        ({"dtype": "no dtype"}, ["'dtype'", "'no dtype'"]),
    ],
)
def test_of_models(arguments, pieces):
    check(pieces, lambda: fastrev.MLP(**({"sizes": (4, 3, 2)} | arguments)))


MODEL = fastrev.MLP((4, 3))
W = MODEL.init(0)


@pytest.mark.parametrize(
    ("call", "pieces"),
    [
        (lambda: MODEL.init(seed=-1), ["'seed'", "at least 0"]),
        (lambda: MODEL.init(scale=[1.0, 2.0, 3.0]), ["'scale'", "(2,)", "(3,)", "W1, b1"]),
        (lambda: MODEL.init(scale=-1), ["'scale'", "not be negative", "-1"]),
        (lambda: MODEL.init(scale=NAN), ["'scale'", "finite"]),
        (lambda: MODEL.unflatten(W[:-1]), ["'w'", "shape (15,)", "shape (14,)"]),
        (lambda: MODEL.flatten({"W1": np.zeros((4, 3))}), ["'groups'", "W1, b1"]),
        (lambda: MODEL.flatten({"W1": np.zeros((3, 4)), "b1": np.zeros(3)}), ["'W1'", "(4, 3)", "(3, 4)"]),
        (lambda: MODEL.unflatten([[1.0], [1.0, 2.0]]), ["'w'", "rectangular", "ragged"]),
        (lambda: MODEL.grad(W, X, [[1.0], [1.0, 2.0]]), ["'Y'", "rectangular", "ragged"]),
        (lambda: MODEL.group_sums(W[:3]), ["'values'", "shape (15,)"]),
        (lambda: MODEL.grad(W, X[:, :2], Y), ["'X'", "(N, 4)", "(40, 2)"]),
        (lambda: MODEL.grad(W, X, Y + 1), ["'Y'", "classes from 0 to 2", "3"]),
        (lambda: MODEL.grad(W, X, Y, l2=[1.0, 2.0, 3.0]), ["'l2'", "(2,)", "(3,)"]),
        (lambda: MODEL.hvp(W, W[:3], X, Y), ["'u'", "shape (15,)", "(3,)"]),
        (lambda: MODEL.hvp(W, W * NAN, X, Y), ["'u'", "finite"]),
        (lambda: MODEL.predict(W, X[0]), ["'X'", "(N, 4)", "(4,)"]),
        (lambda: MODEL.loss_value(W[1:], X, Y), ["'w'", "shape (15,)", "(14,)"]),
        (
            lambda: fastrev.MLP((4, 3), loss="squared_error").accuracy(W, X, Y),
            ["'model.loss'", "accuracy", "loss_value"],
        ),
        (lambda: fastrev.MLP((4, 3), loss="squared_error").grad(W, X, Y), ["'Y'", "(40, 3)", "(40,)"]),
        (lambda: fastrev.minibatches(0, 1, 1), ["'examples'", "at least 1"]),
        (lambda: fastrev.minibatches(5, 6, 1), ["'batch_size'", "at most 5"]),
        (lambda: fastrev.minibatches(5, 2, 0), ["'steps'", "at least 1"]),
        (lambda: fastrev.train("model", W, train=(X, Y), lr=1, decay=1, steps=1), ["'model'", "fastrev.MLP", "str"]),
    ],
)
def test_of_other_calls(call, pieces):
    check(pieces, call)


def test_of_float32_data_that_overflows():
    case = digits_like(train=(changed(X, 1e300), Y), dtype=np.float32)
    check(["'train[0]'", "finite in float32", "1e+300"], case.meta_grad)


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        ({"w_bar": np.ones(3)}, ["'w_bar'", f"shape ({SIZE},)", "shape (3,)"]),
        ({"w_bar": np.full(SIZE, NAN)}, ["'w_bar'", "finite"]),
        ({"w_bar": np.ones(SIZE), "v_bar": np.ones(2)}, ["'v_bar'", f"shape ({SIZE},)"]),
        ({"w_bar": np.ones(SIZE), "wrt": ("z",)}, ["'wrt'", "'z'"]),
    ],
)
def test_of_pullback_and_the_run_is_as_before(arguments, pieces):
    run = digits_like(train=(X, Y)).train()
    check(pieces, lambda: run.pullback(**arguments))
    run.pullback(np.ones(SIZE))
    assert run.stats.exact
