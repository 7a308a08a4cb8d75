"""A training as a node of JAX's graph."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import MethodType
from typing import Any

import numpy as np
import pytest

import fastrev
from fastrev.interop import _jax_node
from fastrev.interop import autograd as fastrev_autograd
from fastrev.interop import jax as fastrev_jax
from tests.node_cases import (
    ARRAYS,
    CLASSES,
    INPUTS,
    MODEL,
    NAMES,
    RIDGE,
    STEPS,
    TARGETS,
    THETA,
    VALID,
    W0,
    Spy,
    arguments,
    expected,
    squares,
)
from tests.unrolled import computing_in_float64

jax: Any = pytest.importorskip("jax", reason="JAX is not installed")
jnp: Any = jax.numpy
check_grads: Any = pytest.importorskip("jax.test_util").check_grads
validation_loss = fastrev_jax.validation_loss
TWICE = "The gradient of validation_loss has no derivative of its own"
# by version, and by whether anybody waited: XlaRuntimeError, JaxRuntimeError, ValueError
AS_IT_RUNS = (RuntimeError, ValueError)
COMPILED_OR_NOT = pytest.mark.parametrize("jit", [jax.jit, lambda function: function], ids=["compiled", "not compiled"])


@pytest.fixture(autouse=True)
def _wide_jax() -> Iterator[None]:
    yield from computing_in_float64()


@pytest.fixture
def _narrow_jax() -> Iterator[None]:
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


def traced(*names: str, dtype: Any = None) -> dict[str, Any]:
    """Some of the arrays, as JAX's."""
    return {name: jnp.asarray(ARRAYS[name], dtype) for name in names}


def loss_of(arrays: dict[str, Any], **more: Any) -> Any:
    return validation_loss(MODEL, **(arguments(ARRAYS | arrays) | more))


def of_rates(lr: Any, **more: Any) -> Any:
    return loss_of({"lr": lr} | more)


RATES = ARRAYS["lr"]


# ---- values and gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_check_grads(name: str) -> None:
    # below 1e-4 the difference by decay meets the rounding to ratios n/d, of some 1e-9
    check_grads(lambda value: loss_of({name: value}), (ARRAYS[name],), order=1, modes=["rev"], eps=1e-4)


def test_check_grads_of_all_at_once() -> None:
    check_grads(jax.jit(loss_of), (traced(*NAMES),), order=1, modes=["rev"], eps=1e-4)


@COMPILED_OR_NOT
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_the_bits_of_meta_grad(dtype: str, jit: Callable[[Any], Any]) -> None:
    given = traced(*NAMES, dtype=dtype)
    result = expected({name: np.asarray(each, np.float64) for name, each in given.items()})
    loss, gradients = jit(jax.value_and_grad(loss_of))(given)
    assert loss.shape == ()
    assert loss.dtype == dtype
    assert loss == np.asarray(result.loss).astype(loss.dtype)
    for name, each in gradients.items():
        assert each.dtype == dtype
        np.testing.assert_array_equal(each, np.asarray(getattr(result.grad, name)).astype(each.dtype), name)


@pytest.mark.usefixtures("_narrow_jax")
def test_where_jax_computes_in_float32() -> None:
    """Constants of NumPy are float64 nevertheless."""
    loss, gradient = jax.jit(jax.value_and_grad(of_rates))(RATES)
    assert loss.dtype == gradient.dtype == np.float32
    result = expected(ARRAYS | {"lr": RATES.astype(np.float32).astype(np.float64)}, wrt=("lr",))
    assert loss == np.float32(result.loss)
    np.testing.assert_array_equal(gradient, result.grad.lr.astype(np.float32))


def test_mixed_dtypes() -> None:
    given = traced("w0", dtype="float32") | traced("decay", dtype="bfloat16")
    loss, gradients = jax.jit(jax.value_and_grad(loss_of))(given)
    assert loss.dtype == np.float32
    result = expected(ARRAYS | {name: np.asarray(each, np.float64) for name, each in given.items()})
    for name, each in gradients.items():
        assert each.dtype == given[name].dtype
        np.testing.assert_array_equal(each, getattr(result.grad, name).astype(each.dtype))


def test_no_array_of_jax_at_all() -> None:
    for loss in (loss_of({}), jax.jit(lambda: loss_of({}))()):
        assert loss.dtype == np.float64
        assert loss == expected(ARRAYS).loss


@pytest.mark.parametrize("shape", [(), (STEPS,), (STEPS, 1), (1, 4)])
def test_shapes(shape: tuple[int, ...]) -> None:
    values = {"lr": np.full(shape, 0.4), "decay": np.full(shape, 0.8)}
    found = jax.jit(jax.grad(lambda given: loss_of(given, steps=STEPS)))(values)
    result = expected(ARRAYS | values, steps=STEPS)
    for name, each in found.items():
        assert each.shape == shape
        np.testing.assert_array_equal(each, getattr(result.grad, name))


def test_integer_classes_and_batches() -> None:
    batches = np.asarray(fastrev.minibatches(len(INPUTS), 4, STEPS, 3))

    @jax.jit
    def both(lr: Any, classes: Any, batches: Any) -> Any:
        function = lambda lr, y, batches: of_rates(lr, y=y, batch_size=None, batches=batches)
        return jax.value_and_grad(function)(lr, classes, batches)

    loss, gradient = both(RATES, CLASSES, batches)
    result = expected(ARRAYS | {"y": CLASSES}, wrt=("lr",))
    assert loss == result.loss
    np.testing.assert_array_equal(gradient, result.grad.lr)
    by_classes = jax.grad(lambda y: of_rates(jnp.asarray(RATES), y=y), allow_int=True)(jnp.asarray(CLASSES))
    assert by_classes.dtype == jax.dtypes.float0


def test_truncate() -> None:
    found = jax.jit(jax.grad(lambda given: loss_of(given, truncate=2)))(traced("lr", "w0"))
    np.testing.assert_array_equal(found["lr"], expected(ARRAYS, wrt=("lr",), truncate=2).grad.lr)
    assert not found["w0"].any()


def test_constants_are_as_they_were_traced() -> None:
    x, lr = INPUTS.copy(), np.array(0.4)
    function = jax.jit(lambda w0: loss_of({"w0": w0, "x": x, "lr": lr}, steps=STEPS))
    before = function(ARRAYS["w0"])
    x[:], lr[...] = 0, 0
    assert function(ARRAYS["w0"]) == before


# ---- an Objective --------------------------------------------------------------------------------------------


def of_theta(theta: dict[str, Any]) -> Any:
    return validation_loss(RIDGE, W0, valid=squares, lr=0.3, decay=0.8, steps=6, theta=theta)


@pytest.mark.parametrize("names", [("penalty", "scale"), ("scale",)])
def test_check_grads_of_theta(names: tuple[str, ...]) -> None:
    check_grads(jax.jit(of_theta), ({name: THETA[name] + 0.1 for name in names},), order=1, modes=["rev"], eps=1e-4)
    assert RIDGE.theta is THETA


def test_hyperparameters_are_not_made_up_while_tracing() -> None:
    class Picky(type(RIDGE)):
        def with_theta(self, theta: dict[str, np.ndarray]) -> Any:
            assert (theta["penalty"] > 0).all()
            return type(self)(self.X, self.y, theta)

    model = Picky(RIDGE.X, RIDGE.y, THETA)
    function = lambda theta: validation_loss(model, W0, valid=squares, lr=0.3, decay=0.8, steps=6, theta=theta)
    assert jax.jit(function)(THETA) == function(THETA)


def test_an_objective_of_another_library() -> None:
    def loss(params: Any, theta: Any, t: Any) -> Any:
        return ((INPUTS @ params["w"] - CLASSES) ** 2).mean() + theta["l2"] * (params["w"] ** 2).sum()

    model, w0 = fastrev_autograd.objective(loss, {"w": np.full(3, 0.1)}, {"l2": 0.1})

    def function(log_l2: Any) -> Any:
        return validation_loss(model, w0, valid=squares, lr=0.5, decay=0.8, steps=6, theta={"l2": jnp.exp(log_l2)})

    check_grads(jax.jit(function), (-2.0,), order=1, modes=["rev"], eps=1e-4)


# ---- what is computed ----------------------------------------------------------------------------------------


@COMPILED_OR_NOT
def test_only_what_jax_differentiates_by_is_differentiated(
    monkeypatch: pytest.MonkeyPatch, jit: Callable[[Any], Any]
) -> None:
    spy = Spy(monkeypatch)
    given = traced(*NAMES)
    jax.block_until_ready(jit(loss_of)(given))
    assert spy.wrt == []
    jax.block_until_ready(jit(jax.grad(lambda some, given: loss_of(given | some)))(traced("lr", "x"), given))
    assert [sorted(each) for each in spy.wrt] == [["lr", "x"]]
    constant = jit(jax.grad(lambda lr: lr.sum() + of_rates(jax.lax.stop_gradient(lr))))(RATES)
    np.testing.assert_array_equal(constant, 1)
    assert len(spy.wrt) == 1


# ---- compositions --------------------------------------------------------------------------------------------


def composition(a: Any, b: Any) -> Any:
    lr = jnp.exp(a) * jnp.linspace(1, 0.5, STEPS)
    one = loss_of({"lr": lr, "decay": jax.nn.sigmoid(b)})
    return jnp.log(one) * a + loss_of({"lr": 2 * lr, "decay": 0.7}) ** 2


def test_a_composition() -> None:
    check_grads(composition, (-1.0, 1.3), order=1, modes=["rev"], eps=1e-4)
    check_grads(jax.jit(composition), (-1.0, 1.3), order=1, modes=["rev"], eps=1e-4)
    np.testing.assert_allclose(jax.jit(jax.grad(composition))(-1.0, 1.3), jax.grad(composition)(-1.0, 1.3), rtol=1e-12)


ROWS = np.stack([RATES, 0.5 * RATES, 2 * RATES])


def gradients_of_rows() -> np.ndarray:
    return np.stack([expected(ARRAYS | {"lr": each}, wrt=("lr",)).grad.lr for each in ROWS])


def losses_of_rows() -> list[float]:
    return [expected(ARRAYS | {"lr": each}, wrt=("lr",)).loss for each in ROWS]


@pytest.mark.parametrize("axis", [0, 2])
@COMPILED_OR_NOT
def test_vmap(axis: int, jit: Callable[[Any], Any]) -> None:
    rows = np.moveaxis(ROWS, 0, axis)
    assert jit(jax.vmap(of_rates, axis))(rows).tolist() == losses_of_rows()
    losses, found = jit(jax.vmap(jax.value_and_grad(of_rates), axis))(rows)
    assert losses.tolist() == losses_of_rows()
    np.testing.assert_array_equal(found, gradients_of_rows())


@COMPILED_OR_NOT
def test_grad_of_vmap(jit: Callable[[Any], Any]) -> None:
    found = jit(jax.grad(lambda rows: jax.vmap(of_rates)(rows).sum()))(ROWS)
    np.testing.assert_array_equal(found, gradients_of_rows())


def test_vmap_within_vmap_by_what_is_not_mapped() -> None:
    starts = np.stack([ARRAYS["w0"], -ARRAYS["w0"]])
    gradient = jax.grad(lambda w0, lr: loss_of({"w0": w0, "lr": lr}))
    found = jax.jit(jax.vmap(jax.vmap(gradient, (None, 0)), (0, None)))(starts, ROWS)
    for i, w0 in enumerate(starts):
        for j, lr in enumerate(ROWS):
            np.testing.assert_array_equal(found[i, j], expected(ARRAYS | {"w0": w0, "lr": lr}).grad.w0)


def test_vmap_over_validation_examples() -> None:
    inputs = np.stack([VALID[0], 2 * VALID[0]])
    losses = jax.jit(jax.vmap(lambda x: of_rates(RATES, valid=(x, VALID[1]))))(inputs)
    assert losses.tolist() == [expected(ARRAYS, valid=(x, VALID[1])).loss for x in inputs]


def test_loops_of_jax() -> None:
    """Gradient descent on the rates, by three kinds of loop."""

    def step(lr: Any) -> Any:
        return lr - 0.1 * jax.grad(of_rates)(lr)

    by_hand = jnp.asarray(RATES)
    for _ in range(3):
        by_hand = step(by_hand)
    scanned, losses = jax.lax.scan(lambda lr, _: (step(lr), of_rates(lr)), RATES, None, length=3)
    looped = jax.lax.fori_loop(0, 3, lambda _, lr: step(lr), jnp.asarray(RATES))
    while_looped, _ = jax.lax.while_loop(
        lambda state: state[1] < 3, lambda state: (step(state[0]), state[1] + 1), (jnp.asarray(RATES), 0)
    )
    for each in (scanned, looped, while_looped):
        np.testing.assert_allclose(each, by_hand, rtol=1e-14)
    assert (np.diff(losses) < 0).all()


def test_differentiated_through_a_loop_and_a_condition() -> None:
    @jax.jit
    def function(scale: Any) -> Any:
        _, losses = jax.lax.scan(lambda lr, _: (0.9 * lr, of_rates(lr)), scale * RATES, None, length=3)
        return jax.lax.cond(scale > 0, lambda: losses.sum(), lambda: 0.0)

    check_grads(function, (1.0,), order=1, modes=["rev"], eps=1e-4)
    check_grads(jax.checkpoint(function), (1.0,), order=1, modes=["rev"], eps=1e-4)


def test_arrays_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are handed over where they are large."""
    monkeypatch.setattr(_jax_node, "_SMALL", 40)
    found = jax.jit(jax.vmap(jax.grad(loss_of), ({"lr": 0} | dict.fromkeys(set(NAMES) - {"lr"}),)))(
        traced(*NAMES) | {"lr": ROWS}
    )
    for k, lr in enumerate(ROWS):
        grad = expected(ARRAYS | {"lr": lr}).grad
        for name, each in found.items():
            np.testing.assert_array_equal(each[k], getattr(grad, name))


def test_callbacks_of_several_threads_do_not_wait_for_each_other() -> None:
    """As many as there are cores, with arrays that JAX would copy in the threads that they occupy."""
    script = """
import threading
import jax, jax.numpy as jnp, numpy as np, fastrev
from fastrev.interop.jax import validation_loss
X = np.random.default_rng(0).standard_normal((1000, 300)).astype(np.float32)
Y, model = (X.sum(1) > 0).astype(int), fastrev.MLP((300, 4, 2), dtype=np.float32)
w0, x = jnp.asarray(model.init(0)), jnp.asarray(X)
loss = lambda lr, x: validation_loss(
    model, w0, train=(x, Y), valid=(X[:50], Y[:50]), lr=lr, decay=0.9, steps=5, batch_size=50)
gradient, done = jax.jit(jax.grad(loss)), []
def work(k):
    for i in range(4):
        done.append(float(gradient(0.1 + 0.01 * k, x + i)))
threads = [threading.Thread(target=work, args=(k,), daemon=True) for k in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join(100)
print(len(done), flush=True)
import os; os._exit(0)  # threads that wait for ever would be waited for
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=150, check=False)
    assert run.stdout.split() == ["16"], run.stderr


def test_constants_are_as_they_were_when_traced() -> None:
    """Lists as arrays."""
    listed, array = ARRAYS["lr"].tolist(), ARRAYS["lr"].copy()
    functions = [jax.jit(lambda w0, lr=lr: loss_of({"w0": w0, "lr": lr})) for lr in (listed, array)]
    before = [float(function(jnp.asarray(ARRAYS["w0"]))) for function in functions]
    listed[0][0], array[0, 0] = 3.0, 3.0
    assert [float(function(jnp.asarray(ARRAYS["w0"]))) for function in functions] == before


def test_narrow_gradients_are_as_wide_as_the_loss_until_they_are_scaled() -> None:
    x, w0 = jnp.asarray(INPUTS, jnp.float16), jnp.asarray(ARRAYS["w0"], jnp.float32)
    gradient = lambda x: jax.grad(lambda x: loss_of({"x": x, "w0": w0}) * 2.0**-20 * 2.0**20)(x)
    found, wide = gradient(x), gradient(x.astype(jnp.float32))
    assert found.dtype == jnp.float16
    np.testing.assert_array_equal(found, wide.astype(jnp.float16))
    small = jax.grad(lambda x: loss_of({"x": x, "w0": w0}) * 2.0**40)
    assert bool(jnp.isinf(small(x)).any())  # which no float16 holds: the product was made in float32


def test_classes_are_not_differentiated_by() -> None:
    """Floats that stand for them neither: their derivative would be that of one-hot labels."""
    labels = jnp.asarray(CLASSES, float)
    of_labels = jax.grad(lambda y: loss_of({"y": y}))
    for function in (of_labels, jax.jit(of_labels), jax.vmap(of_labels, axis_size=2, in_axes=None)):
        with pytest.raises(fastrev.ArgumentError, match=r"'train\[1\]' must have shape \(N, 2\) to be diff"):
            function(labels)


def test_traced_arrays_are_told_what_jax_differentiates() -> None:
    """Where they are passed to what does not know them."""
    with pytest.raises(fastrev.ArgumentError, match=r"'lr' .* not known yet.* fastrev\.interop\.jax\.validation_loss"):
        jax.grad(lambda lr: fastrev.meta_grad(MODEL, **arguments(ARRAYS | {"lr": lr})).loss)(RATES)


# ---- twice, and forwards -------------------------------------------------------------------------------------


@COMPILED_OR_NOT
def test_second_derivatives_are_refused(jit: Callable[[Any], Any]) -> None:
    function = lambda lr, w0: loss_of({"lr": lr, "w0": w0})
    for by in (0, 1):
        for twice in (
            jax.hessian(function, by),
            jax.grad(lambda *point: jax.grad(function)(*point).sum(), by),
            jax.jacrev(jax.grad(function), by),
        ):
            with pytest.raises(fastrev.ArgumentError, match=TWICE):
                jit(twice)(jnp.asarray(RATES), jnp.asarray(ARRAYS["w0"]))


def test_forward_mode_is_refused() -> None:
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(of_rates, (RATES,), (RATES,))


# ---- refusals ------------------------------------------------------------------------------------------------


def test_validation_examples_are_not_differentiated_by() -> None:
    function = lambda x: of_rates(RATES, valid=(x, VALID[1]))
    for derivative in (jax.grad(function), jax.jit(jax.grad(function))):
        with pytest.raises(fastrev.ArgumentError, match=r"'valid\[0\]' must be constant.*stop_gradient"):
            derivative(VALID[0])
    stopped = jax.jit(jax.grad(lambda x: function(jax.lax.stop_gradient(x)) + x.sum()))(VALID[0])
    np.testing.assert_array_equal(stopped, 1)


SHAPES = [  # of what is traced, and constants
    ({"w0": np.zeros(3)}, "'w0' must have shape (26,)"),
    ({"lr": np.zeros((STEPS, 3))}, "'lr' must be a number or have shape"),
    ({"lr": np.zeros(STEPS + 1)}, "must have 6 steps"),
    ({"x": np.zeros((12, 4))}, "'train[0]' must have shape (N, 3)"),
    ({"y": np.zeros((5, 2))}, "'train[1]' must have shape"),
    ({"l2": np.zeros(3)}, "'l2' must be a number, one per group"),
    ({"v0": np.zeros(26, complex)}, "'v0' must be an array of real numbers"),
    ({"example_weights": np.zeros(3)}, "'example_weights' must have shape (12,)"),
    ({"batches": np.zeros((STEPS, 2))}, "'batches' must hold integer row indices, not of dtype float64"),
    (
        {"batches": np.ones((STEPS, 4), bool)},
        "'batches' must hold integer row indices, not of dtype bool. Pass numbers",
    ),
    ({"lr": np.array(True)}, "'lr' must be an array of real numbers, not of dtype bool. Pass a number"),
]


@pytest.mark.parametrize(("given", "message"), SHAPES, ids=[message for _, message in SHAPES])
def test_shapes_at_fault_are_refused_while_tracing(given: dict[str, Any], message: str) -> None:
    more = {"batch_size": None} if "batches" in given else {}
    with pytest.raises(fastrev.ArgumentError, match=re.escape(message)):
        jax.jit(lambda given: loss_of(given, **more)).lower(given)


CONCRETE = object()  # an array of JAX that is not traced
CONSTANTS = [
    ({"decay": 2.0}, "'decay' must be in (0, 1]"),
    ({"decay": CONCRETE}, "'decay' must be in (0, 1]"),
    ({"steps": 6}, "'lr' must have 6 steps, as steps has, not 5"),
    ({"batch_size": 13}, "'batch_size' must be at most 12"),
    ({"truncate": 0}, "'truncate' must be at least 1"),
    ({"train": INPUTS}, "'train' must be a pair (X, Y)"),
    ({"valid": [INPUTS]}, "'valid' must be a pair (X, Y)"),
    ({"valid": 3.0}, "'valid' must be"),
    ({"theta": {"l2": 0.1}}, "'theta' must be left out where the model is a fastrev.MLP"),
    ({"w0": None}, "'w0' must be an array of real numbers, not None"),
]


@pytest.mark.parametrize(("more", "message"), CONSTANTS, ids=[message for _, message in CONSTANTS])
def test_constants_at_fault_are_refused_while_tracing(more: dict[str, Any], message: str) -> None:
    more = {name: jnp.asarray(2.0) if value is CONCRETE else value for name, value in more.items()}
    with pytest.raises(fastrev.ArgumentError, match=re.escape(message)):
        jax.jit(lambda lr: of_rates(lr, **more)).lower(RATES)


def test_theta_at_fault() -> None:
    for theta, message in [
        ({"other": 1.0}, "'theta' must hold names of model.theta"),
        ({"penalty": jnp.zeros(4)}, r"Argument 'theta\['penalty'\]' must have shape \(3,\)"),
    ]:
        with pytest.raises(fastrev.ArgumentError, match=message):
            jax.jit(of_theta).lower(theta)


@pytest.mark.parametrize("name", ["steps", "batch_size", "seed", "truncate"])
def test_what_is_no_array_is_not_traced(name: str) -> None:
    with pytest.raises(fastrev.ArgumentError, match=rf"'{name}' must be known while JAX traces.*static_argnames"):
        jax.jit(lambda value: of_rates(RATES, **{name: value}))(4)
    assert jax.jit(lambda seed: of_rates(RATES, seed=seed), static_argnames="seed")(seed=3) == expected(ARRAYS).loss


def test_a_bool_is_no_rate() -> None:
    with pytest.raises(fastrev.ArgumentError, match="'lr' must be an array of real numbers, not of dtype bool"):
        of_rates(jnp.asarray(True))


def test_several_arrays_in_place_of_one() -> None:
    with pytest.raises(fastrev.ArgumentError, match="'lr' must be one array, not a list of several"):
        jax.grad(lambda lr: of_rates([lr] * STEPS))(0.3)


def test_values_at_fault() -> None:
    """Of traced arrays they are known where they run: JAX makes an error of its own of the message."""
    function = lambda decay: loss_of({"decay": decay})
    for each in (function, jax.grad(function)):
        with pytest.raises(fastrev.ArgumentError, match=re.escape("'decay' must be in (0, 1], not 2")):
            each(jnp.asarray(2.0))
        with pytest.raises(AS_IT_RUNS, match=re.escape("'decay' must be in (0, 1], not 2")):
            jax.block_until_ready(jax.jit(each)(2.0))


def test_divergence() -> None:
    with pytest.raises(fastrev.DivergenceError, match="Step 0 of 5 was refused"):
        jax.grad(of_rates)(1e9 * RATES)
    with pytest.raises(AS_IT_RUNS, match="DivergenceError: Step 0 of 5 was refused"):
        jax.block_until_ready(jax.jit(of_rates)(1e9 * RATES))


def test_no_second_derivatives() -> None:
    class Linear:
        num_params = 3
        grad: Callable[..., Any] = lambda self, w, t: np.ones(3)

    function = lambda lr: validation_loss(Linear(), W0, valid=squares, lr=lr, decay=0.9, steps=2)
    jax.jit(function)(0.1)
    with pytest.raises(fastrev.ArgumentError, match="hvp' must be there"):
        jax.jit(jax.grad(function)).lower(0.1)


class Jitted(type(RIDGE)):
    """An Objective of which one method is compiled by JAX."""

    hvp = jax.jit(lambda self, w, u, t: u, static_argnums=0)


def squares_in_jax(scale: float, w: Any) -> tuple[Any, Any]:
    return scale * (w @ w) / 2, scale * w


def of_objective(l2: Any) -> Any:
    """Model and validation loss in JAX."""

    def loss(params: Any, theta: Any, t: Any) -> Any:
        return ((INPUTS @ params - TARGETS) ** 2).mean() + theta.get("l2", 0) * (params**2).sum()

    model, w0 = fastrev_jax.objective(loss, np.full(3, 0.1), {"l2": 0.1})
    valid, _ = fastrev_jax.objective(loss, np.zeros(3))
    return validation_loss(model, w0, valid=valid, lr=0.1, decay=0.8, steps=6, theta={"l2": l2})


def test_jax_within_jax_where_nothing_waits() -> None:
    check_grads(of_objective, (0.1,), order=1, modes=["rev"], eps=1e-4)
    constant, scaled = of_objective(0.1), lambda scale: scale * of_objective(0.1)
    assert jax.jit(jax.grad(scaled))(3.0) == constant
    np.testing.assert_array_equal(jax.vmap(scaled)(jnp.arange(3.0)), constant * np.arange(3))


def test_jax_within_jax_that_waits_is_refused() -> None:
    for compiled in (
        jax.jit(of_objective), jax.jit(jax.grad(of_objective)), jax.grad(jax.checkpoint(of_objective)),
        lambda l2: jax.vmap(of_objective)(l2[None]),
        lambda l2: jax.lax.map(of_objective, l2[None]),
    ):  # fmt: skip
        with pytest.raises(fastrev.ArgumentError, match="'model' must compute without JAX"):
            compiled(jnp.asarray(0.1))


@pytest.mark.parametrize("name", ["model", "valid"])
def test_jax_within_jax_is_found(name: str) -> None:
    objective, _ = fastrev_jax.objective(lambda params, theta, t: (params**2).sum(), np.ones(3))
    jitted = jax.jit(squares_in_jax)
    within: dict[str, Any] = {
        "model": [objective, Jitted(RIDGE.X, RIDGE.y, THETA)],
        "valid": [objective, partial(partial(jitted, 2.0)), MethodType(jitted, 2.0),
                  partial(objective.loss_and_grad, t=0)],
    }  # fmt: skip
    for each in within[name]:
        given = {"model": RIDGE, "valid": squares} | {name: each}
        function = lambda lr: validation_loss(w0=W0, lr=lr, decay=0.9, steps=2, **given)
        assert function(0.1) > 0
        with pytest.raises(fastrev.ArgumentError, match=f"'{name}' must compute without JAX.*Take jax.grad alone"):
            jax.jit(function).lower(0.1)
