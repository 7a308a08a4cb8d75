"""`check_meta_grad` passes what is right and finds what was made wrong on purpose; `metasmoothness` is what it says."""

from __future__ import annotations

import dataclasses
import math
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

import fastrev
from fastrev import interop
from fastrev._engine.compiled_walk import CompiledWalkBack
from tests.cases import WRT, digits_like, random_case
from tests.test_objective import SETTINGS, W0, Plain, Quadratic, T, valid


def check(model, **changes):
    return fastrev.check_meta_grad(model, W0, **({"valid": valid} | SETTINGS | changes))


def check_case(case, **changes):
    return fastrev.check_meta_grad(case.model, case.w0, **({"wrt": WRT} | case.arguments | changes))


# ---- what is right -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 3, 4, 5, 8])  # smooth activations
def test_an_mlp_passes_by_everything(seed):
    result = check_case(random_case(seed))
    assert result.passed, str(result)
    assert result.hyperparameters.keys() == set(WRT)
    for each in result.hyperparameters.values():
        assert math.isnan(each.slope) or 1.8 < each.slope < 2.5
        assert each.error < 1e-4
        assert each.stored < 1e-12
    assert result.terms.keys() == {"hvp", "l2", "x", "y", "example_weights", "valid"}
    assert max(each.error for each in result.terms.values()) < 1e-6


def test_an_mlp_in_single_precision_passes():
    result = check_case(digits_like(dtype=np.float32))
    assert result.passed, str(result)
    assert max(each.stored for each in result.hyperparameters.values()) < 1e-4


@pytest.mark.parametrize("shape", [(), (T,), (1, 2), (T, 2)])
def test_an_objective_passes(shape):
    rng = np.random.default_rng(2)
    result = check(Quadratic(), lr=rng.uniform(0.1, 0.3, shape), decay=rng.uniform(0.5, 1, shape))
    assert result.passed, str(result)
    assert set(result.hyperparameters) == {"lr", "decay", "w0", "v0", "theta['scale']", "theta['shift']"}
    assert all(1.9 < each.slope < 2.1 for each in result.hyperparameters.values())


def test_edges_of_what_is_allowed_pass():
    result = check(Plain(), lr=[0.0] + [0.2] * (T - 1), decay=[1.0, 65535 / 65536, 2.0**-16] + [0.9] * (T - 3))
    assert result.passed, str(result)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scale", [1e-6, 1e-2, 10.0])
@pytest.mark.parametrize("start", [0.0, 1e-6, 3.0])
def test_what_is_right_passes_at_any_scale(dtype, scale, start):
    """Weights that begin near zero or large, of inputs that are small or large, with steps that hardly move them."""
    rng = np.random.default_rng(1)
    for sizes, activation, loss, lr in [
        ((4, 5), "tanh", "cross_entropy", 0.3),
        ((3, 4, 3), "identity", "squared_error", 1e-7),
        ((5, 2, 6), "softplus", "logistic", 0.3),
    ]:
        model = fastrev.MLP(sizes, activation, loss, dtype)
        data = scale * rng.standard_normal((6, sizes[0])), rng.random((6, sizes[-1]))
        result = fastrev.check_meta_grad(
            model, start * model.init(seed=1), train=data, valid=data, lr=lr / max(1, scale**2), decay=0.9, steps=5,
            l2=0.01, wrt=WRT, directions=1,
        )  # fmt: skip
        assert result.passed, str(result)


@pytest.mark.parametrize("loss", [0.0, 2.5])
def test_a_loss_that_never_changes_passes(loss):
    result = check(Quadratic(), valid=lambda w: (loss, np.zeros(5)))
    assert result.passed, str(result)
    assert result.growth == 1.0
    assert all(each.error == 0.0 for each in result.hyperparameters.values())


def test_what_is_checked_is_what_is_asked_for():
    result = check(Quadratic(), wrt=("lr",), directions=1)
    assert list(result.hyperparameters) == ["lr"]
    assert list(result.terms) == ["hvp", "valid"]
    assert str(result) == str(check(Quadratic(), wrt=("lr",), directions=1))
    for piece in ("slope", "stored", "lr  ", "hvp  ", "right", "Passed"):
        assert piece in str(result)


# ---- what is wrong -------------------------------------------------------------------------------------------


def hvp_faults():
    def entry(own, w, u, t):
        return own(w, u, t) * (1 + 1e-3 * (np.arange(5) == 2))

    yield "one entry by a thousandth", entry
    yield "one step by a hundredth", lambda own, w, u, t: own(w, u, t) * (1 + 1e-2 * (t == 3))
    yield "a sign", lambda own, w, u, t: -own(w, u, t)
    yield "a term left out", lambda own, w, u, t: own(w, u, t) - 1e-4 * u
    yield "another direction", lambda own, w, u, t: own(w, u[::-1].copy(), t)
    yield "nothing", lambda own, w, u, t: np.zeros(5)


@pytest.mark.parametrize("fault", [pytest.param(fault, id=name) for name, fault in hvp_faults()])
def test_a_wrong_hvp_is_found(fault):
    model = Quadratic()
    own = model.hvp
    model.hvp = lambda w, u, t: fault(own, w, u, t)
    result = check(model)
    assert not result.passed
    assert not result.terms["hvp"].passed
    assert "model.hvp is not the derivative of the gradient" in result.verdict
    assert min(each.slope for each in result.hyperparameters.values()) < 1.5  # by which it would be found alone
    assert result.terms["theta['scale']"].passed


class Single(Quadratic):
    """The same in float32, with derivatives that are off by a factor."""

    off_hvp = off_cross = 1.0

    def grad(self, w, t):
        return super().grad(w, t).astype(np.float32)

    def hvp(self, w, u, t):
        return self.off_hvp * super().hvp(w, u, t)

    def cross(self, w, u, t):
        return {name: self.off_cross * each for name, each in super().cross(w, u, t).items()}


@pytest.mark.parametrize(("fault", "wrong"), [
    ({}, set()),
    ({"off_hvp": 1.02}, {"hvp"}),
    ({"off_cross": 1.02}, {"theta['scale']", "theta['shift']"}),
])  # fmt: skip
def test_single_precision_hides_no_error_of_two_percent(fault, wrong):
    result = check(Single(**fault))
    assert {name for name, term in result.terms.items() if not term.passed} == wrong, str(result)
    assert result.passed == (not wrong)


@pytest.mark.parametrize("name", ["scale", "shift"])
@pytest.mark.parametrize("factor", [-1, 0, 1.001])
def test_a_wrong_cross_derivative_is_found(name, factor):
    model = Quadratic()
    own = model.cross
    model.cross = lambda w, u, t: own(w, u, t) | {name: factor * own(w, u, t)[name]}
    result = check(model)
    assert not result.passed
    wrong = [each for each, term in result.terms.items() if not term.passed]
    assert wrong == [f"theta[{name!r}]"]
    assert f"the cross derivative by theta[{name!r}]" in result.verdict
    for each, found in result.hyperparameters.items():
        assert (found.slope < 1.5) == (each == f"theta[{name!r}]")
    assert "wrong" in str(result)


def test_a_wrong_derivative_of_a_library_is_found():
    """Of the row that PyTorch's embedding takes for constant, though the loss depends on it."""
    torch = pytest.importorskip("torch", reason="PyTorch is not in the test extra")
    module = torch.nn.Embedding(4, 3, padding_idx=0).double()
    rows = torch.arange(4)
    with torch.no_grad():
        module.weight += 0.5
    model, w0 = interop.torch.objective(lambda module, theta, t: torch.sin(module(rows).sum(0)).sum(), module)
    result = fastrev.check_meta_grad(
        model, w0, valid=lambda w: model.loss_and_grad(w, 0), lr=0.1, decay=0.9, steps=5, wrt=("lr", "w0")
    )
    assert not result.terms["hvp"].passed, str(result)
    assert "model.hvp is not the derivative of the gradient" in result.verdict


def test_a_wrong_validation_gradient_is_found():
    result = check(Quadratic(), valid=lambda w: (valid(w)[0], 4.001 * w**3))
    assert [name for name, each in result.terms.items() if not each.passed] == ["valid"]
    assert "valid(w)[1] is not the gradient of valid(w)[0]: it is off by 0.025 %." in result.verdict


def test_a_wrong_reversal_is_found(monkeypatch):
    gradients = CompiledWalkBack.gradients
    monkeypatch.setattr(
        CompiledWalkBack, "gradients", lambda back: gradients(back) | {"lr": 1.01 * gradients(back)["lr"]}
    )
    result = check_case(digits_like(), wrt=("lr", "w0"))
    assert not result.passed
    assert "by lr the reversal differs from a stored run" in result.verdict


def test_a_validation_gradient_twice_too_large_is_found_in_single_precision_too():
    case = digits_like(dtype=np.float32)
    data = case.arguments["valid"]
    result = check_case(
        case, valid=lambda w: (case.model.loss_value(w, *data), 2 * case.model.grad(w, *data)), wrt=("lr", "w0")
    )
    assert not result.passed, str(result)


@pytest.mark.parametrize("fault", [np.nan, np.inf])
def test_derivatives_that_are_no_numbers_do_not_pass(fault):
    model = Quadratic()
    own = model.hvp
    model.hvp = lambda w, u, t: own(w, u, t) + (fault if t == 4 else 0.0)
    with pytest.raises(fastrev.ArgumentError, match=r"model.hvp\(w, u, 4\) must return finite numbers"):
        check(model)


def test_derivatives_that_differ_from_call_to_call_are_found():
    model, calls = Quadratic(), count()
    own = model.hvp
    model.hvp = lambda w, u, t: own(w, u, t) * (1 + 0.1 * (next(calls) % 2))
    result = check(model)
    assert not result.passed
    assert "model.hvp at step 0 is not a number, or not the same in two calls" in result.verdict


def test_hyperparameters_that_the_gradient_does_not_read_are_named():
    scale = np.full(5, 0.7)
    model = SimpleNamespace(
        num_params=5, theta={"a": scale}, grad=lambda w, t: scale * w, hvp=lambda w, u, t: scale * u,
        cross=lambda w, u, t: {"a": w * u},
    )  # fmt: skip
    result = check(model)
    assert not result.passed
    assert "the gradient does not change at all when theta['a'] does" in result.verdict
    assert "with_theta(theta)" in result.verdict


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", range(4))
def test_relu_passes_with_a_word_on_how_far_predictions_reach(seed, dtype):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((120, 10))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    model = fastrev.MLP((10, 16, 2), "relu", dtype=dtype)
    result = fastrev.check_meta_grad(
        model, model.init(seed), train=(x[:80], y[:80]), valid=(x[80:], y[80:]), lr=0.3, decay=0.9, steps=50
    )
    assert result.passed, str(result)
    rough = [name for name, each in result.hyperparameters.items() if each.reach < 1e-3]
    assert ("predict moves only up to" in result.verdict) == bool(rough)


@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1.0, 1990.0])
def test_weights_of_any_size_pass(scale):
    rng = np.random.default_rng(0)
    w0, a = scale * rng.uniform(0.5, 1, 5), 0.2 * np.arange(5)
    model = SimpleNamespace(num_params=5, grad=lambda w, t: a * w, hvp=lambda w, u, t: a * u)
    result = fastrev.check_meta_grad(model, w0, valid=lambda w: (float(w @ w) / scale, 2 * w / scale), **SETTINGS)
    assert result.passed, str(result)


def test_a_run_that_does_not_depend_on_anything_passes():
    still = SimpleNamespace(num_params=2, grad=lambda w, t: 0 * w, hvp=lambda w, u, t: 0 * u)
    result = fastrev.check_meta_grad(still, np.ones(2), valid=lambda w: (0.0, 0 * w), lr=0.1, decay=0.9, steps=3)
    assert result.passed, str(result)
    assert result.growth == 1.0


def test_chaos_does_not_pass():
    case = digits_like(steps=100, lr=2.0)
    case.arguments["train"] = (60 * case.arguments["train"][0], case.arguments["train"][1])
    result = check_case(case, wrt=("lr", "w0"))
    assert result.growth > 1e3
    assert not result.passed
    assert "chaotic" in result.verdict


# ---- hyperparameters of an objective are moved ---------------------------------------------------------------


def test_an_objective_may_say_how_it_is_made_with_others():
    asked = []

    class Own(Quadratic):
        def with_theta(self, theta):
            asked.append(set(theta))
            return Own(theta=theta)

    assert check(Own()).passed
    assert {"scale", "shift"} in asked


def test_a_frozen_objective_is_moved_too():
    @dataclasses.dataclass(frozen=True)
    class Frozen:
        theta: dict
        num_params: int = 5

        grad = lambda self, w, t: self.theta["a"] * w
        hvp = lambda self, w, u, t: self.theta["a"] * u
        cross = lambda self, w, u, t: {"a": w @ u}

    model = Frozen({"a": np.float64(0.7)})
    assert check(model).passed
    assert model.theta == {"a": 0.7}


def test_an_objective_that_cannot_be_moved_says_what_to_do():
    class Fixed:
        num_params = 5
        theta = property(lambda self: {"scale": np.ones(5)})
        grad = lambda self, w, t: self.theta["scale"] * w
        hvp = lambda self, w, u, t: self.theta["scale"] * u
        cross = lambda self, w, u, t: {"scale": w * u}

    with pytest.raises(fastrev.ArgumentError, match=r"with_theta\(theta\).*a Fixed whose theta cannot be set"):
        check(Fixed())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"directions": 0}, "'directions' must be at least 1"),
        ({"direction_seed": -1}, "'direction_seed' must be at least 0"),
        ({"wrt": ("x",)}, "'wrt' must hold names among"),
        ({"valid": None}, "'valid' must be a function"),
    ],
)
def test_arguments_at_fault(changes, message):
    with pytest.raises(fastrev.ArgumentError, match=message):
        check(Quadratic(), **changes)


# ---- metasmoothness ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [0.3, 20.0])
def test_metasmoothness_by_its_definition(lr):
    case = digits_like(lr=lr)
    along = np.sign(np.random.default_rng(7).standard_normal(())) * lr
    a, b, c = (case.train(lr=lr + times * (0.05 * along)).w for times in (0, 1, 2))
    first, second = b - a, c - b
    expected = sum(abs(x) * np.sign(x) * np.sign(y) for x, y in zip(first, second, strict=True)) / sum(abs(first))
    arguments = {name: value for name, value in case.arguments.items() if name != "valid"}
    found = fastrev.metasmoothness(case.model, case.w0, **arguments, h=0.05, direction_seed=7)
    assert found == pytest.approx(expected, rel=1e-12)
    assert -1 <= found <= 1


@pytest.mark.parametrize("wrt", [("lr",), ("decay",), ("w0", "v0"), ("x", "y"), ("l2", "example_weights"), WRT])
def test_smooth_training_is_metasmooth(wrt):
    case = digits_like(l2=0.01)
    arguments = {name: value for name, value in case.arguments.items() if name != "valid"}
    assert fastrev.metasmoothness(case.model, case.w0, **arguments, wrt=wrt) > 0.95


def test_chaotic_training_is_not():
    assert fastrev.metasmoothness(Quadratic(), W0, **SETTINGS, wrt=("lr", "theta")) > 0.95
    rough = Quadratic(centers=np.zeros((200, 5)), grad=lambda w, t: np.sin(3 * w))
    assert fastrev.metasmoothness(rough, W0, lr=6.0, decay=0.5, steps=200) < 0.6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"h": 0.0}, "'h' must be above 0 and below 0.1, not 0.0"),
        ({"h": 0.1}, "'h' must be above 0 and below 0.1, not 0.1"),
        ({"h": np.nan}, "'h' must be finite"),
        ({"h": [1.0, 2.0]}, "'h' must be a number"),
        ({"h": 1e-30}, "'h' must be large enough to change the trained weights"),
        ({"wrt": ("x",)}, "'wrt' must hold names among"),
        ({"wrt": ()}, "'wrt' must name something to move"),
        ({"direction_seed": 0.5}, "'direction_seed' must be a whole number"),
    ],
)
def test_arguments_of_metasmoothness_at_fault(changes, message):
    with pytest.raises(fastrev.ArgumentError, match=message):
        fastrev.metasmoothness(Quadratic(), W0, **(SETTINGS | changes))
