"""A training as a node of PyTorch's graph."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrev
from fastrev.interop import torch as fastrev_torch
from tests.node_cases import (
    ARRAYS,
    CLASSES,
    INPUTS,
    MODEL,
    NAMES,
    RIDGE,
    STEPS,
    THETA,
    VALID,
    W0,
    Spy,
    arguments,
    expected,
    squares,
)

torch: Any = pytest.importorskip("torch", reason="PyTorch is not in the test extra")
validation_loss = fastrev_torch.validation_loss
TWICE = "The gradient of validation_loss has no derivative of its own"


def tensors(*names: str, dtype: Any = None) -> dict[str, Any]:
    """All arrays as tensors, of which these require a gradient."""
    return {name: torch.tensor(each, dtype=dtype).requires_grad_(name in names) for name, each in ARRAYS.items()}


def loss_of(arrays: dict[str, Any], **more: Any) -> Any:
    return validation_loss(MODEL, **(arguments(arrays) | more))


def of_rates(lr: Any, **more: Any) -> Any:
    return loss_of(ARRAYS | {"lr": lr} | more)


def rates(**more: Any) -> Any:
    return torch.tensor(ARRAYS["lr"], **more)


# ---- values and gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name: str) -> None:
    # below 1e-4 the difference by decay meets the rounding to ratios n/d, of some 1e-9
    given = tensors(name)
    assert torch.autograd.gradcheck(lambda value: loss_of(given | {name: value}), given[name], eps=1e-4)


def test_gradcheck_of_all_at_once() -> None:
    given = tensors(*NAMES)

    def function(*values: Any) -> Any:
        return loss_of(dict(zip(NAMES, values, strict=True)))

    assert torch.autograd.gradcheck(function, tuple(given.values()), eps=1e-4)


def test_a_difference_over_less_meets_the_rounding_of_decays() -> None:
    def loss(decay: float) -> float:
        return loss_of(ARRAYS | {"decay": decay}).item()

    right = expected(ARRAYS | {"decay": 0.9}, wrt=("decay",)).grad.decay
    errors = [abs((loss(0.9 + eps) - loss(0.9 - eps)) / (2 * eps) / right - 1) for eps in (1e-4, 1e-6)]
    assert errors[0] < 1e-6
    assert errors[1] > 0.1


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_the_bits_of_meta_grad(dtype: str) -> None:
    given = tensors(*NAMES, dtype=getattr(torch, dtype))
    result = expected({name: each.detach().double().numpy() for name, each in given.items()})
    loss = loss_of(given)
    loss.backward()
    assert loss.shape == ()
    assert loss.dtype == getattr(torch, dtype)
    assert torch.equal(loss, torch.tensor(result.loss, dtype=loss.dtype))
    for name, each in given.items():
        assert each.grad.dtype == each.dtype
        assert torch.equal(each.grad, torch.tensor(getattr(result.grad, name)).to(each.dtype)), name


def test_mixed_dtypes() -> None:
    given = {"w0": torch.tensor(ARRAYS["w0"]).float(), "decay": torch.tensor(ARRAYS["decay"]).bfloat16()}
    for each in given.values():
        each.requires_grad_()
    loss = loss_of(ARRAYS | given)
    assert loss.dtype == torch.float32
    loss.backward()
    result = expected(ARRAYS | {name: each.detach().double().numpy() for name, each in given.items()})
    for name, each in given.items():
        assert torch.equal(each.grad, torch.tensor(getattr(result.grad, name)).to(each.dtype))


def test_no_tensor_at_all() -> None:
    loss = loss_of(ARRAYS)
    assert loss.dtype == torch.float64
    assert not loss.requires_grad
    assert loss.item() == expected(ARRAYS).loss


@pytest.mark.parametrize("shape", [(), (STEPS,), (STEPS, 1), (1, 4)])
def test_shapes(shape: tuple[int, ...]) -> None:
    lr, decay = (torch.full(shape, value, dtype=torch.float64, requires_grad=True) for value in (0.4, 0.8))
    loss_of(ARRAYS | {"lr": lr, "decay": decay}, steps=STEPS).backward()
    result = expected(ARRAYS | {"lr": lr.detach().numpy(), "decay": decay.detach().numpy()}, steps=STEPS)
    assert lr.grad.shape == decay.grad.shape == shape
    np.testing.assert_array_equal(lr.grad, result.grad.lr)
    np.testing.assert_array_equal(decay.grad, result.grad.decay)


def test_views_of_tensors() -> None:
    x = torch.tensor(ARRAYS["x"].T.copy(), requires_grad=True)
    w0 = torch.tensor(np.repeat(ARRAYS["w0"], 2), requires_grad=True)
    loss_of(ARRAYS | {"x": x.T, "w0": w0[::2]}).backward()
    result = expected(ARRAYS)
    np.testing.assert_array_equal(x.grad.T, result.grad.x)
    np.testing.assert_array_equal(w0.grad[::2], result.grad.w0)


def test_integer_classes_and_batches() -> None:
    batches = fastrev.minibatches(len(INPUTS), 4, STEPS, 3)
    lr = rates(requires_grad=True)
    loss = of_rates(lr, y=torch.tensor(CLASSES), batch_size=None, batches=torch.tensor(batches))
    loss.backward()
    result = expected(ARRAYS | {"y": CLASSES}, wrt=("lr",))
    assert loss.item() == result.loss
    np.testing.assert_array_equal(lr.grad, result.grad.lr)


def test_classes_are_not_differentiated_by() -> None:
    """Floats that stand for them neither: their derivative would be that of one-hot labels."""
    labels = torch.tensor(CLASSES * 1.0)
    losses = lambda y: loss_of(ARRAYS | {"y": y})
    with pytest.raises(fastrev.ArgumentError, match=r"'train\[1\]' must have shape \(N, 2\) to be diff"):
        losses(labels.clone().requires_grad_())
    with pytest.raises(fastrev.ArgumentError, match=r"'train\[1\]' must have shape \(N, 2\) to be diff"):
        torch.func.vmap(torch.func.grad(losses))(torch.stack([labels, labels]))
    assert losses(labels) == losses(torch.tensor(CLASSES))


SECOND = {
    "itself": lambda x: of_rates(x), "times": lambda x: 3 * of_rates(x), "square": lambda x: of_rates(x) ** 2,
    "exp": lambda x: torch.exp(of_rates(x)), "log": lambda x: torch.log(of_rates(x)),
}  # fmt: skip


@pytest.mark.parametrize("function", SECOND.values(), ids=SECOND)
def test_second_derivatives_of_what_is_made_of_it_are_refused(function: Any) -> None:
    """None of them is left out without a word."""
    x = torch.tensor(ARRAYS["lr"])
    calls = {
        "hessian": lambda: torch.autograd.functional.hessian(function, x),
        "grad of grad": lambda: torch.func.grad(lambda x: torch.func.grad(function)(x).sum())(x),
        "create_graph": lambda: torch.autograd.grad(torch.autograd.grad(function(y), y, create_graph=True)[0].sum(), y),
        "backward": lambda: torch.autograd.grad(function(y), y, create_graph=True)[0].sum().backward(),
    }
    y = x.clone().requires_grad_()
    for call in calls.values():
        with pytest.raises(fastrev.ArgumentError, match="The gradient of validation_loss has no derivative of its own"):
            call()


def test_what_scales_a_gradient_is_differentiated_by() -> None:
    """As where a step of an outer loop is itself a part of the graph."""
    x, factor = (
        torch.tensor(ARRAYS["lr"], requires_grad=True),
        torch.tensor(0.5, dtype=torch.float64, requires_grad=True),
    )
    (first,) = torch.autograd.grad(of_rates(x), x)
    (gradient,) = torch.autograd.grad(of_rates(x) * torch.exp(factor), x, create_graph=True)
    (found,) = torch.autograd.grad(gradient.sum(), factor)
    torch.testing.assert_close(found, first.sum() * torch.exp(factor).detach())


def test_truncate() -> None:
    given = tensors("lr", "w0")
    loss_of(given, truncate=2).backward()
    result = expected(ARRAYS, wrt=("lr", "w0"), truncate=2)
    np.testing.assert_array_equal(given["lr"].grad, result.grad.lr)
    assert not given["w0"].grad.any()


def test_a_model_in_float32() -> None:
    model = fastrev.MLP(MODEL.sizes, dtype=np.float32)
    given = tensors("x")
    validation_loss(model, **arguments(given)).backward()
    result = fastrev.meta_grad(model, wrt=("x",), **arguments(ARRAYS))
    np.testing.assert_array_equal(given["x"].grad, result.grad.x)


# ---- an Objective --------------------------------------------------------------------------------------------


def of_theta(penalty: Any, scale: Any) -> Any:
    theta = {"penalty": penalty, "scale": scale}
    return validation_loss(RIDGE, W0, valid=squares, lr=0.3, decay=0.8, steps=6, theta=theta)


def test_gradcheck_of_theta() -> None:
    given = [torch.tensor(THETA[name] + 0.1, requires_grad=True) for name in ("penalty", "scale")]
    assert torch.autograd.gradcheck(of_theta, given, eps=1e-4)


def test_some_of_theta() -> None:
    scale = torch.tensor(2.0, requires_grad=True)
    theta = torch.nn.ParameterDict({"scale": scale})
    validation_loss(RIDGE, W0, valid=squares, lr=0.3, decay=0.8, steps=6, theta=theta).backward()
    other = type(RIDGE)(RIDGE.X, RIDGE.y, THETA | {"scale": np.array(2.0)})
    result = fastrev.meta_grad(other, W0, valid=squares, lr=0.3, decay=0.8, steps=6)
    assert theta["scale"].grad == np.float32(result.grad.theta["scale"])
    assert RIDGE.theta is THETA


def test_an_objective_of_pytorch() -> None:
    x, y = torch.tensor(INPUTS), torch.tensor(CLASSES)

    def loss(params: Any, theta: Any, t: int) -> Any:
        logits = x @ params["w"] * theta.get("gain", 1)
        return torch.nn.functional.cross_entropy(logits, y) + theta.get("l2", 0) * (params["w"] ** 2).sum()

    params = {"w": np.full((3, 2), 0.1)}
    model, w0 = fastrev_torch.objective(loss, params, {"l2": 0.1, "gain": 1.0})
    valid, _ = fastrev_torch.objective(loss, params)
    log_l2 = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)

    def function(log_l2: Any) -> Any:
        return validation_loss(model, w0, valid=valid, lr=0.5, decay=0.8, steps=6, theta={"l2": torch.exp(log_l2)})

    assert torch.autograd.gradcheck(function, log_l2, eps=1e-4)


# ---- what is computed ----------------------------------------------------------------------------------------


def test_only_what_needs_a_gradient_is_differentiated(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    given = tensors("lr", "x")
    loss = loss_of(given)
    assert spy.wrt == [("lr", "x")]  # in the forward pass
    loss.backward()
    assert len(spy.wrt) == 1
    assert {name for name, each in given.items() if each.grad is not None} == {"lr", "x"}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nothing_is_differentiated_where_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch, mode: Any) -> None:
    spy = Spy(monkeypatch)
    with mode():
        loss = loss_of(tensors(*NAMES))
    assert not loss.requires_grad
    assert loss.item() == loss_of(tensors()).item()
    assert spy.wrt == []


def test_tensors_may_change_in_place() -> None:
    given = tensors("lr", "w0", "x")
    loss = loss_of(given)
    with torch.no_grad():
        for each in given.values():
            each.zero_()
    loss.backward()
    result = expected(ARRAYS, wrt=("lr", "w0", "x"))
    for name in ("lr", "w0", "x"):
        np.testing.assert_array_equal(given[name].grad, getattr(result.grad, name))


def test_tensors_are_not_kept() -> None:
    arrays = {name: each.copy() for name, each in ARRAYS.items()}
    given = {name: torch.from_numpy(each) for name, each in arrays.items()}
    log_lr = given["lr"].log().requires_grad_()
    given["lr"] = log_lr.exp()
    kept = {name: weakref.ref(each) for name, each in arrays.items()}  # alive as long as any tensor of its memory
    rates = weakref.ref(given["lr"])
    loss = loss_of(given)
    del arrays, given
    gc.collect()
    assert [name for name, each in kept.items() if each() is not None] == []
    assert rates() is None
    loss.backward()
    with pytest.raises(RuntimeError, match="freed"):
        _ = loss.grad_fn.saved_tensors  # the derivatives


def test_tensors_stay_as_they_are() -> None:
    given = tensors(*NAMES)
    loss_of(given).backward()
    for name, each in given.items():
        np.testing.assert_array_equal(each.detach(), ARRAYS[name])


# ---- compositions --------------------------------------------------------------------------------------------


def test_a_composition() -> None:
    def function(a: Any, b: Any) -> Any:
        lr = torch.exp(a) * torch.linspace(1, 0.5, STEPS, dtype=torch.float64)
        one = loss_of(ARRAYS | {"lr": lr, "decay": torch.sigmoid(b)})
        return torch.log(one) * a + loss_of(ARRAYS | {"lr": 2 * lr, "decay": 0.7}) ** 2

    given = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (-1.0, 1.3)]
    assert torch.autograd.gradcheck(function, given, eps=1e-4)


def test_an_optimizer_learns() -> None:
    log_lr = torch.full((STEPS,), -3.0, requires_grad=True)
    optimizer = torch.optim.Adam([log_lr], lr=0.3)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = of_rates(log_lr.exp())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


ROWS = [ARRAYS["lr"], 0.5 * ARRAYS["lr"], 2 * ARRAYS["lr"]]


def gradients_of_rows() -> np.ndarray:
    return np.stack([expected(ARRAYS | {"lr": each}, wrt=("lr",)).grad.lr for each in ROWS])


def test_grad_of_functions() -> None:
    gradient, value = torch.func.grad_and_value(of_rates)(rates())
    result = expected(ARRAYS, wrt=("lr",))
    assert value.item() == result.loss
    np.testing.assert_array_equal(gradient, result.grad.lr)
    np.testing.assert_array_equal(torch.func.jacrev(of_rates)(rates()), result.grad.lr)


@pytest.mark.parametrize("dim", [0, 2])
def test_vmap(dim: int) -> None:
    rows = torch.tensor(np.stack(ROWS, axis=dim))
    losses = torch.func.vmap(of_rates, in_dims=dim)(rows)
    assert losses.tolist() == [expected(ARRAYS | {"lr": each}).loss for each in ROWS]
    found = torch.func.vmap(torch.func.grad(of_rates), in_dims=dim)(rows)
    np.testing.assert_array_equal(found, gradients_of_rows())


def test_grad_of_vmap() -> None:
    rows = torch.tensor(np.stack(ROWS), requires_grad=True)
    found = torch.func.grad(lambda rows: torch.func.vmap(of_rates)(rows).sum())(rows.detach())
    np.testing.assert_array_equal(found, gradients_of_rows())
    torch.func.vmap(of_rates)(rows).sum().backward()
    np.testing.assert_array_equal(rows.grad, gradients_of_rows())


def test_vmap_within_vmap_by_what_is_not_mapped() -> None:
    def function(w0: Any, lr: Any) -> Any:
        return loss_of(ARRAYS | {"w0": w0, "lr": lr})

    starts = torch.tensor(np.stack([ARRAYS["w0"], -ARRAYS["w0"]]))
    rows = torch.tensor(np.stack(ROWS))
    found = torch.func.vmap(torch.func.vmap(torch.func.grad(function), (None, 0)), (0, None))(starts, rows)
    assert found.shape == (2, 3, MODEL.num_params)
    for i, w0 in enumerate(starts.numpy()):
        for j, lr in enumerate(ROWS):
            np.testing.assert_array_equal(found[i, j], expected(ARRAYS | {"w0": w0, "lr": lr}).grad.w0)


def test_vmap_over_validation_examples() -> None:
    inputs = torch.tensor(np.stack([VALID[0], 2 * VALID[0]]))
    losses = torch.func.vmap(lambda x: of_rates(ARRAYS["lr"], valid=(x, VALID[1])))(inputs)
    assert losses.tolist() == [expected(ARRAYS, valid=(x, VALID[1])).loss for x in inputs.numpy()]


@pytest.mark.filterwarnings("ignore")  # of the compiler, which this is no test of
def test_what_is_compiled_leaves_it_out() -> None:
    torch.compiler.reset()

    def function(a: Any) -> Any:
        return 2 * of_rates(torch.exp(a) * torch.linspace(1, 0.5, STEPS, dtype=torch.float64)) + a

    found = [torch.tensor(-1.0, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    function(found[0]).backward()
    torch.compile(function, backend="eager")(found[1]).backward()
    assert found[0].grad == found[1].grad


# ---- twice ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["lr", "w0"])
def test_a_gradient_is_not_differentiated_again(by: str) -> None:
    given = tensors("lr", "w0")
    (gradient,) = torch.autograd.grad(loss_of(given), given["lr"], create_graph=True)
    with pytest.raises(fastrev.ArgumentError, match=TWICE):
        torch.autograd.grad(gradient.sum() + given["lr"].sum(), given[by])


def test_a_gradient_in_a_graph_is_not_differentiated_again() -> None:
    lr = rates(requires_grad=True)
    (gradient,) = torch.autograd.grad(of_rates(lr) ** 2, lr, create_graph=True)
    with pytest.raises(fastrev.ArgumentError, match=TWICE):
        gradient.sum().backward()


def test_a_gradient_is_differentiated_by_what_scales_it() -> None:
    lr, scale = rates(requires_grad=True), torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(scale * of_rates(lr), lr, create_graph=True)
    (by_scale,) = torch.autograd.grad(gradient.sum(), scale)
    assert by_scale == pytest.approx(expected(ARRAYS, wrt=("lr",)).grad.lr.sum(), rel=1e-14)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # which PyTorch itself calls in forward mode
@pytest.mark.parametrize("by", [0, 1])
def test_functions_are_not_differentiated_twice(by: int) -> None:
    def function(lr: Any, w0: Any) -> Any:
        return loss_of(ARRAYS | {"lr": lr, "w0": w0})

    point = rates(), torch.tensor(ARRAYS["w0"])
    with pytest.raises(fastrev.ArgumentError, match=TWICE):
        torch.func.grad(lambda *point: torch.func.grad(function)(*point).sum(), by)(*point)
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.hessian(function, by)(*point)


def test_a_loss_within_a_gradient_is_differentiated() -> None:
    """By something else than that gradient is: the run is made once more."""

    def function(lr: Any, w0: Any) -> Any:
        return loss_of(ARRAYS | {"lr": lr, "w0": w0})

    def outer(w0: Any) -> Any:
        _, value = torch.func.grad_and_value(function)(rates(), w0)
        return value

    found = torch.func.grad(outer)(torch.tensor(ARRAYS["w0"]))
    np.testing.assert_array_equal(found, expected(ARRAYS, wrt=("w0",)).grad.w0)


# ---- refusals ------------------------------------------------------------------------------------------------


def of_valid(x: Any) -> Any:
    return of_rates(ARRAYS["lr"], valid=(x, VALID[1]))


def test_validation_examples_are_not_differentiated_by() -> None:
    inputs = torch.tensor(VALID[0], requires_grad=True)
    for function in (of_valid, torch.func.grad(of_valid)):
        with pytest.raises(fastrev.ArgumentError, match=r"'valid\[0\]' must be constant.*Detach it"):
            function(inputs)
    assert of_valid(inputs.detach()).item() == expected(ARRAYS).loss
    with torch.no_grad():
        assert of_valid(inputs).item() == expected(ARRAYS).loss


REFUSED = [
    ({"lr": torch.tensor(-0.1)}, "'lr' must not be negative"),
    (
        {"lr": [torch.tensor(0.1, requires_grad=True)] * STEPS},
        "'lr' must be one array, not a list of several. Stack them",
    ),
    ({"decay": torch.tensor(2.0)}, "'decay' must be in (0, 1]"),
    ({"lr": torch.tensor(True)}, "'lr' must be an array of real numbers, not of dtype bool"),
    (
        {"batches": torch.ones((STEPS, 4), dtype=torch.bool), "batch_size": None},
        "'batches' must hold integer row indices, not of dtype bool. Pass numbers",
    ),
    ({"w0": torch.zeros(3)}, "'w0' must have shape (26,)"),
    ({"w0": None}, "'w0' must be an array of real numbers, not None"),
    ({"x": torch.zeros(12, 3).to_sparse()}, "'train[0]' must be dense"),
    ({"y": torch.zeros(5, 2)}, "'train[1]' must have shape"),
    ({"l2": torch.zeros(4) * 1j}, "'l2' must be an array of real numbers"),
    ({"steps": torch.tensor(5)}, "'steps' must be a whole number"),
    ({"steps": 6}, "'lr' must have 6 steps, as steps has, not 5"),
    ({"truncate": 0}, "'truncate' must be at least 1"),
    ({"train": INPUTS}, "'train' must be a pair (X, Y)"),
    ({"valid": [INPUTS]}, "'valid' must be a pair (X, Y)"),
    ({"valid": torch.zeros(3)}, "'valid' must be"),
    ({"valid": (torch.zeros(6, 4), VALID[1])}, "'valid[0]' must have shape (N, 3)"),
    ({"theta": {"l2": 0.1}}, "'theta' must be left out where the model is a fastrev.MLP"),
]


@pytest.mark.parametrize(("more", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_arguments_at_fault(more: dict[str, Any], message: str) -> None:
    with pytest.raises(fastrev.ArgumentError, match=re.escape(message)):
        loss_of(ARRAYS | more)


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        ({"other": 1.0}, "'theta' must hold names of model.theta, 'penalty', 'scale', not 'other'"),
        ({"penalty": torch.zeros(4)}, "Argument 'theta['penalty']' must have shape (3,)"),
        ({"scale": torch.tensor(float("nan"))}, "Argument 'theta['scale']' must be finite"),
        (torch.zeros(3), "'theta' must be a dictionary"),
    ],
)
def test_theta_at_fault(theta: Any, message: str) -> None:
    with pytest.raises(fastrev.ArgumentError, match=re.escape(message)):
        validation_loss(RIDGE, W0, valid=squares, lr=0.3, decay=0.8, steps=6, theta=theta)


def test_no_second_derivatives() -> None:
    """Refused before training, and only where there is something to differentiate."""

    class Linear:
        num_params = 3
        grad: Callable[..., Any] = lambda self, w, t: np.ones(3)

    lr = torch.tensor(0.1, requires_grad=True)
    validation_loss(Linear(), W0, valid=squares, lr=lr.detach(), decay=0.9, steps=2)
    with pytest.raises(fastrev.ArgumentError, match="hvp' must be there"):
        validation_loss(Linear(), W0, valid=squares, lr=lr, decay=0.9, steps=2)


def test_divergence() -> None:
    with pytest.raises(fastrev.DivergenceError, match="Step 0 of 5 was refused"):
        of_rates(rates(requires_grad=True) * 1e9)


# ---- what scales, and what comes forwards --------------------------------------------------------------------


def test_what_scales_a_loss_keeps_narrow_gradients() -> None:
    """As mixed precision has it: 2**16 is not in float16, nor are gradients below 6e-8."""
    x = torch.tensor(INPUTS).half()
    wide = loss_of(ARRAYS | {"w0": torch.tensor(ARRAYS["w0"]).float(), "x": (y := x.float().requires_grad_())})
    narrow = loss_of(ARRAYS | {"w0": torch.tensor(ARRAYS["w0"]).float(), "x": (z := x.clone().requires_grad_())})
    (wide * 2.0**16).backward()
    (narrow * 2.0**16).backward()
    assert narrow.dtype == torch.float32
    assert (z.grad.dtype, bool(torch.isfinite(z.grad).all())) == (torch.float16, True)
    torch.testing.assert_close(z.grad, y.grad.half())
    (loss_of(ARRAYS | {"x": (u := torch.tensor(INPUTS).float().requires_grad_())}) * 1e-30 * 1e30).backward()
    assert torch.isfinite(u.grad).all()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_forward_mode_is_refused_whatever_is_recorded(mode: Any) -> None:
    """A tangent is not lost, which would be a derivative of zero."""
    lr = torch.tensor(ARRAYS["lr"])
    with mode():
        for call in (
            lambda: torch.func.jvp(of_rates, (lr,), (torch.ones_like(lr),)),
            lambda: torch.func.jacfwd(of_rates)(lr),
        ):
            with pytest.raises((NotImplementedError, RuntimeError)):
                call()
