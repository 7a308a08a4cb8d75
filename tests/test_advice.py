"""Advice that fits: numbers that are not finite, trainings that diverge, on a command line too."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fastrev
from fastrev._engine import refusals
from fastrev.experiments import main
from tests.cases import digits_like

NAN, INF = float("nan"), float("inf")
SIZE = digits_like().w0.size


def with_nan(*shape):
    array = np.ones(shape)
    array.flat[1] = NAN
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": with_nan(20)}, "'lr' must be finite, not nan at lr[1]. Pass finite rates, such as 0.1."),
        ({"lr": INF}, "'lr' must be finite, not inf. Pass a finite number."),
        ({"decay": with_nan(20, 1)}, "not nan at decay[1, 0]. Pass decays in (0, 1], such as 0.9."),
        ({"decay": NAN}, "'decay' must be finite, not nan. Pass a finite number."),
        ({"l2": with_nan(4)}, "'l2' must be finite, not nan at l2[1]. Pass finite penalties; 0 is none."),
        ({"w0": with_nan(SIZE)}, "not nan at w0[1]. Begin with finite weights, such as model.init() makes."),
        ({"v0": with_nan(SIZE)}, "not nan at v0[1]. Begin with a finite velocity, or leave it out for 0."),
        ({"example_weights": with_nan(40)}, "example_weights[1]. Pass finite weights; 0 leaves an example out."),
        ({"train": (with_nan(40, 4), np.zeros(40))}, "train[0][0, 1]. Remove or impute NaN and infinite entries"),
        ({"train": (np.ones((40, 4)), with_nan(40))}, "train[1][1]. Remove the examples that have no finite target."),
        ({"train": (np.ones((40, 4)), with_nan(40, 3))}, "train[1][0, 1]. Remove the examples that have no finite"),
    ],
)  # fmt: skip
def test_what_is_not_finite_gets_advice_of_its_own(changes, message):
    case = digits_like()
    case.w0 = changes.pop("w0", case.w0)
    with pytest.raises(fastrev.ArgumentError, match=re.escape(message)) as caught:
        case.meta_grad(**changes)
    assert ("impute" in str(caught.value)) == ("train[0]" in message)


def test_other_calls_too():
    model = digits_like().model
    for call, advice in {
        "scale": (lambda: model.init(scale=[1.0, NAN, 1, 1]), "Pass finite standard deviations."),
        "init_scale": (lambda: fastrev.tune(model, init_scale=[NAN] * 4, learn=("lr",), **digits_like().arguments),
                       "Pass finite standard deviations."),
        "w": (lambda: model.predict(with_nan(SIZE), np.ones((1, 4))), "Pass finite weights, such as the w of a run."),
        "g": (lambda: fastrev.ReversibleSGD([1.0, 2.0]).step([INF, 1.0], 0.1, 0.5), "training diverged: lower lr."),
        "x": (lambda: fastrev.ReversibleArray([NAN]), "Pass finite numbers."),
    }.values():  # fmt: skip
        with pytest.raises(fastrev.ArgumentError, match=re.escape(advice)):
            call()


def test_numbers_that_only_float64_holds():
    case = digits_like(dtype=np.float32)
    with pytest.raises(fastrev.ArgumentError, match=re.escape("Scale it down, or give the model dtype=np.float64.")):
        case.model.predict(case.w0, np.full((1, 4), 1e300))


# ---- divergence ----------------------------------------------------------------------------------------------


def regression(x=1.0, y=1.0, loss="squared_error", **changes):
    """A training that diverges."""
    rng = np.random.default_rng(0)
    X, Y = x * rng.uniform(-1, 1, (30, 3)), y * rng.uniform(-1, 1, (30, 2))
    model = fastrev.MLP((3, 4, 2), "relu", loss)
    arguments = {"train": (X, Y), "lr": 1e4, "decay": 0.9, "steps": 200} | changes
    with pytest.raises(fastrev.DivergenceError) as caught:
        fastrev.train(model, model.init(0), **arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"y": 1e5, "lr": 1.0}, r"\(lr = 1 there\) that is too high for targets of about 6.*e\+04: standardise them"),
        ({"y": 1e5, "x": 100.0, "lr": 1.0}, "too high for targets of about 6"),
        ({"x": 255.0, "lr": 1.0}, r"for inputs of about 1[45]\d: scale them to about 1, X / 1[45]\d, or lower lr"),
        ({"x": 255.0, "y": 100.0, "lr": 1.0}, "too high for inputs of about 1"),
        ({"x": 1e200, "lr": 1.0}, r"too high for inputs of about 9.*e\+199"),
        ({}, r"a learning rate \(lr = 10000 there\) that is too high: lower lr\. The run"),
        ({"l2": 1e6, "lr": 1.0}, r"too high for penalties of up to l2 = 1e\+06: lower l2 or lr"),
        ({"l2": [0, 1e6, 0, 0], "lr": 1.0}, r"too high for penalties of up to l2 = 1e\+06: lower l2 or lr"),
        ({"example_weights": np.full(30, 1e6), "lr": 1.0}, r"example weights of about 1e\+06: divide them by"),
        ({"example_weights": np.full(30, -1e6), "lr": 1.0}, r"example weights of about 1e\+06"),
    ],
)
def test_a_training_that_diverges_says_which_numbers_are_large(changes, advice):
    message = regression(**changes)
    assert re.search(advice, message), message
    assert message.endswith(refusals.OF_THE_RUN)


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_one_outlier_of_what_is_standardised_is_not_blamed(loss):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((200, 3)), rng.standard_normal((200, 2))
    X[7, 1], Y[9, 0] = 12.0, 13.0
    assert "too high: lower lr. The run" in regression(loss=loss, train=(X, Y))


def test_targets_are_not_blamed_where_the_loss_is_linear_in_them():
    assert "targets" not in regression(y=100.0, loss="logistic", lr=1e9)


def test_an_objective_is_told_of_its_learning_rate_or_of_its_start():
    class Bowl:
        num_params = 2

        def grad(self, w, t):
            return w / 0.0 if t == self.bad else w

    with np.errstate(all="ignore"):
        Bowl.bad = 0
        with pytest.raises(fastrev.DivergenceError, match=r"at w0 itself, whatever lr: look at model.grad\(w0, 0\)"):
            fastrev.train(Bowl(), [1.0, 2.0], lr=0.1, decay=0.5, steps=3)
        Bowl.bad = 1
        with pytest.raises(fastrev.DivergenceError, match=r"too high \(lr = 0.1 there\): lower lr\. The run"):
            fastrev.train(Bowl(), [1.0, 2.0], lr=0.1, decay=0.5, steps=3)


@pytest.mark.parametrize("meta_lr", [100.0, 1e6, 1e307, 1.7e308])
def test_a_meta_lr_that_is_far_too_high_is_survived(meta_lr):
    """Steps that go to the bounds of what a run can be made with, that of decays too, are tried and taken back."""
    case = digits_like()
    result = fastrev.tune(
        case.model, learn=("lr", "decay", "l2", "init_scale", "example_weights", "x"), meta_steps=4, runs=2,
        meta_lr=meta_lr, progress=False, **(case.arguments | {"l2": 1e-4, "example_weights": np.ones(40)}),
    )  # fmt: skip
    assert result.loss <= result.start_loss


# ---- on a command line ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["valley", "reverse", "hypergradient", "l2"])
@pytest.mark.parametrize("steps", ["1", "5"])
def test_a_command_that_diverges_speaks_of_its_options(command, steps, tmp_path, capsys):
    few = {"l2": ["--meta-steps", "2", "--runs", "1"], "hypergradient": ["--trainings", "2"]}.get(command, [])
    assert main([command, "--lr", "1e9", "--steps", steps, *few, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    when = "Every training diverged" if command == "l2" else "Training diverged at step 1"
    told = (
        f"fastrev: {when}: its weights or gradients became too large. Pass a lower learning rate, --lr below 1e+09.\n"
    )
    assert error.endswith(told)
    assert "error.run" not in error
    assert " of 1 " not in error


def test_the_option_that_was_given_is_blamed(tmp_path, capsys):
    few = ["--steps", "5", "--meta-steps", "2", "--runs", "1", "--out", str(tmp_path)]
    assert main(["l2", "--l2", "1e9", *few]) == 2
    assert "Pass a lower penalty, --l2 below 1e+09.\n" in capsys.readouterr().err
    assert main(["l2", "--l2", "1e9", "--lr", "2", *few]) == 2
    assert "lower learning rate, --lr below 2, or a lower penalty, --l2 below 1e+09.\n" in capsys.readouterr().err


@pytest.mark.parametrize("meta_lr", ["100", "1e7"])
def test_the_valley_blames_its_meta_lr_for_what_it_learned(meta_lr, tmp_path, capsys):
    assert main(["valley", "--meta-lr", meta_lr, "--meta-steps", "20", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fastrev: Argument '--meta-lr' must be low enough")
    assert f"not {float(meta_lr):g}: meta-iteration 1 came to lr from " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["hypergradient", "scales"])
def test_initial_scales_beyond_the_grid_are_named(command, tmp_path, capsys):
    assert main([command, "--scale", "5000", "--out", str(tmp_path)]) == 2
    assert "Argument '--scale' must be at most 200, as weights must be below 2048, not 5000." in capsys.readouterr().err
