"""Losses written in JAX, PyTorch and autograd, as objectives."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import sys
import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

import fastrev
from fastrev.interop import jax as fastrev_jax
from fastrev.interop import torch as fastrev_torch
from tests.test_house import PACKAGE, run_python
from tests.unrolled import LIBRARIES, Library, central, computing_in_float64

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((3, 6, 4)), np.eye(3)[RNG.integers(0, 3, (3, 6))]
THETA = {"l2": 0.03, "scale": RNG.uniform(0.5, 1.5, 4), "unused": np.ones((2, 1))}
IMAGES, LABELS = RNG.standard_normal((5, 1, 8, 8)), np.eye(3)[RNG.integers(0, 3, 5)]


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Library:
    return Library(request.param)


@pytest.fixture(autouse=True)
def _wide_jax() -> Iterator[None]:
    yield from computing_in_float64()


def parameters(dtype: type = np.float64) -> dict[str, Any]:
    """A nested tree, with a number, a tuple, an empty leaf and one that the loss does not depend on."""
    rng = np.random.default_rng(1)
    shapes = [((4, 5), (5,)), ((5, 3), (3,))]
    return {
        "layers": [tuple(rng.standard_normal(shape).astype(dtype) for shape in layer) for layer in shapes],
        "gain": dtype(0.7),
        "unused": np.ones((2, 2), dtype),
        "empty": np.ones((0, 2), dtype),
    }


NAMES = ["gain", "layers.0.0", "layers.0.1", "layers.1.0", "layers.1.1", "unused"]


def mlp(library: Library, dtype: type = np.float64) -> Callable[..., Any]:
    """The same loss in each of the libraries."""
    xp, x, y = library.numpy, library.array(X, dtype), library.array(Y, dtype)

    def loss(params: Any, theta: Any, t: Any) -> Any:
        (w1, b1), (w2, b2) = params["layers"]
        z = params["gain"] * (xp.tanh((x[t % 3] * theta["scale"]) @ w1 + b1) @ w2 + b2)
        entropy = (xp.log(xp.exp(z).sum(1)) - (y[t % 3] * z).sum(1)).mean()
        return entropy + theta["l2"] * ((w1**2).sum() + (w2**2).sum() * params["gain"])

    return loss


def tensors(library: Library, tree: Any) -> Any:
    """The tree with the library's own arrays for leaves."""
    if isinstance(tree, dict):
        return {key: tensors(library, each) for key, each in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(tensors(library, each) for each in tree)
    return library.array(tree)


def mlp_objective(library: Library, dtype: type = np.float64) -> tuple[Any, np.ndarray]:
    return library.adapter.objective(mlp(library, dtype), tensors(library, parameters(dtype)), THETA)


# ---- derivatives ---------------------------------------------------------------------------------------------


def test_vector_and_groups(library: Library) -> None:
    objective, w0 = mlp_objective(library)
    assert list(objective.groups) == NAMES
    assert (objective.num_params, objective.dtype) == (48, np.float64)
    assert [each.start for each in objective.groups.values()] == [0, 1, 21, 26, 41, 44]
    assert [each.stop for each in objective.groups.values()] == [1, 21, 26, 41, 44, 48]
    layers = parameters()["layers"]
    expected = [[0.7], *(each.ravel() for layer in layers for each in layer), np.ones(4)]
    np.testing.assert_array_equal(w0, np.concatenate(expected))
    assert w0.dtype == np.float64
    assert repr(objective) == "<objective of 48 float64 parameters, theta: l2, scale, unused>"
    assert objective.library == {"jax": "JAX", "torch": "PyTorch", "autograd": "autograd"}[library.name]
    assert objective.jitted == (library.name == "jax")


def test_derivatives_against_central_differences(library: Library) -> None:
    objective, w0 = mlp_objective(library)
    rng = np.random.default_rng(2)
    u, direction = rng.standard_normal((2, w0.size))
    for t in range(2):
        slope = central(lambda h: objective.loss(w0 + h * direction, t))
        np.testing.assert_allclose(objective.grad(w0, t) @ direction, slope, rtol=1e-8)
        curvature = central(lambda h: objective.grad(w0 + h * u, t))
        np.testing.assert_allclose(objective.hvp(w0, u, t), curvature, rtol=1e-6, atol=1e-8)
        crossed = objective.cross(w0, u, t)
        assert {name: each.shape for name, each in crossed.items()} == {"l2": (), "scale": (4,), "unused": (2, 1)}
        for name, value in objective.theta.items():
            step = rng.standard_normal(value.shape)
            moved = lambda h: objective.with_theta({**objective.theta, name: value + h * step})
            slope = central(lambda h: moved(h).grad(w0, t) @ u)
            np.testing.assert_allclose((crossed[name] * step).sum(), slope, rtol=1e-7, atol=1e-9)
        product, both = objective.hvp_and_cross(w0, u, t)
        np.testing.assert_allclose(product, objective.hvp(w0, u, t), rtol=1e-12, atol=1e-14)
        for name in THETA:
            np.testing.assert_allclose(both[name], crossed[name], rtol=1e-12, atol=1e-14)


def everything(objective: Any, w: np.ndarray, u: np.ndarray) -> list[np.ndarray]:
    product, crossed = objective.hvp_and_cross(w, u, 1)
    alone = objective.cross(w, u, 1).values()
    return [objective.loss(w, 1), objective.grad(w, 1), objective.hvp(w, u, 1), product, *crossed.values(), *alone]


def test_libraries_agree(library: Library) -> None:
    objective, w0 = mlp_objective(library)
    reference, start = mlp_objective(Library("autograd"))
    np.testing.assert_array_equal(w0, start)
    u = np.random.default_rng(3).standard_normal(w0.size)
    for one, other in zip(everything(objective, w0, u), everything(reference, w0, u), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_float32(library: Library) -> None:
    objective, w0 = mlp_objective(library, np.float32)
    reference, _ = mlp_objective(library)
    assert objective.dtype == np.float32
    assert w0.dtype == np.float64
    u = np.random.default_rng(3).standard_normal(w0.size)
    found = everything(objective, w0, u)
    assert {each.dtype for each in found[1:]} == {np.dtype(np.float32)}
    assert {each.dtype for each in objective.theta.values()} == {np.dtype(np.float64)}
    for one, other in zip(found, everything(reference, w0, u), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def convolution(library: Library) -> Callable[..., Any]:
    xp, x, y = library.numpy, library.array(IMAGES), library.array(LABELS)
    conv = import_module("jax.lax" if library.name == "jax" else "torch.nn.functional")
    convolve = partial(conv.conv, window_strides=(1, 1), padding="VALID") if library.name == "jax" else conv.conv2d

    def loss(params: Any, theta: Any, t: Any) -> Any:
        hidden = xp.tanh(convolve(x, params["filters"]) + params["shift"]).mean((2, 3))
        z = hidden @ params["w"] + params["b"]
        return (xp.log(xp.exp(z).sum(1)) - (y * z).sum(1)).mean() + theta["l2"] * (params["filters"] ** 2).sum()

    return loss


def test_convolutions_agree() -> None:
    shapes = {"filters": (2, 1, 3, 3), "shift": (2, 1, 1), "w": (2, 3), "b": (3,)}
    params = {name: RNG.standard_normal(shape) for name, shape in shapes.items()}
    found = []
    for library in map(Library, ("jax", "torch")):
        objective, w0 = library.adapter.objective(convolution(library), params, {"l2": 0.1})
        found.append(everything(objective, w0, np.cos(np.arange(w0.size))))
        slope = central(lambda h: objective.grad(w0 + h, 0))
        np.testing.assert_allclose(objective.hvp(w0, np.ones(w0.size), 0), slope, rtol=1e-6, atol=1e-8)
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_same_bits_every_time(library: Library, dtype: type) -> None:
    objective, w0 = mlp_objective(library, dtype)
    expected = objective.grad(w0, 1)
    for k in range(50):
        memory = np.empty(w0.size + 8)[k % 8 :][: w0.size]  # at another address modulo the width of vectors
        memory[:] = w0
        assert objective.grad(memory, 1).tobytes() == expected.tobytes()


def test_results_are_the_callers_own(library: Library) -> None:
    objective, w0 = mlp_objective(library)
    w = w0.copy()
    first = objective.grad(w, 1)
    kept = first.copy()
    w[:] = 0
    objective.grad(w, 1)
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    w.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective.hvp(w, w, 1)
    np.testing.assert_array_equal(w, 0)


# ---- what a loss may be --------------------------------------------------------------------------------------


def test_no_theta_and_one_array(library: Library) -> None:
    def loss(params: Any, theta: Any, t: Any) -> Any:
        assert theta == {}
        return (params**3).sum() * (t + 1)

    objective, w0 = library.adapter.objective(loss, library.array([[1.0, 2.0]]))
    assert (dict(objective.groups), dict(objective.theta)) == ({"params": slice(0, 2)}, {})
    np.testing.assert_allclose(objective.grad(w0, 1), [6, 24])
    np.testing.assert_allclose(objective.hvp(w0, [1, 1], 0), [6, 12])
    assert objective.cross(w0, [1, 1], 0) == {}
    product, crossed = objective.hvp_and_cross(w0, [1, 1], 0)
    np.testing.assert_allclose(product, [6, 12])
    assert crossed == {}
    assert np.asarray(objective.unflatten(w0)).shape == (1, 2)


@pytest.mark.parametrize("theta", [None, {"slope": 2.0}])
def test_a_linear_loss_has_no_curvature(library: Library, theta: Any) -> None:
    def loss(params: Any, theta: Any, t: Any) -> Any:
        return params.sum() * theta.get("slope", 1.0)

    objective, w0 = library.adapter.objective(loss, np.ones(3), theta)
    np.testing.assert_array_equal(objective.hvp(w0, w0, 0), 0)
    product, crossed = objective.hvp_and_cross(w0, w0, 0)
    np.testing.assert_array_equal(product, 0)
    assert crossed == objective.cross(w0, w0, 0) == ({"slope": 3.0} if theta else {})


def test_a_hyperparameter_that_only_shifts_the_loss(library: Library) -> None:
    objective, w0 = library.adapter.objective(
        lambda params, theta, t: params.sum() + theta["shift"].sum(), np.ones(3), {"shift": [1.0, 2.0]}
    )
    np.testing.assert_array_equal(objective.grad(w0, 0), 1)
    np.testing.assert_array_equal(objective.cross(w0, w0, 0)["shift"], [0, 0])
    np.testing.assert_array_equal(objective.hvp_and_cross(w0, w0, 0)[1]["shift"], [0, 0])


def test_not_a_number_passes_through(library: Library) -> None:
    objective, w0 = library.adapter.objective(lambda params, theta, t: library.numpy.log(params).sum(), -np.ones(2))
    with np.errstate(invalid="ignore"):
        assert np.isnan(objective.loss(w0, 0))
        assert np.isnan(objective.loss(np.full(2, np.nan), 0))
    assert np.isnan(objective.grad(np.full(2, np.nan), 0)).all()


Pair = namedtuple("Pair", "left right")


def test_trees_come_back(library: Library) -> None:
    params = {"pair": Pair(np.ones(2), [np.zeros((1, 2)), 3.0]), "a": (np.float64(1),), "last": OrderedDict(x=2.0)}

    def loss(params: Any, theta: Any, t: Any) -> Any:
        return (params["pair"].left * params["pair"].right[1]).sum() + params["a"][0] * params["last"]["x"]

    objective, w0 = library.adapter.objective(loss, params)
    assert list(objective.groups) == ["a.0", "last.x", "pair.left", "pair.right.0", "pair.right.1"]
    assert objective.loss(w0, 0) == 8
    tree = objective.unflatten(w0 + 1)
    assert tree.keys() == params.keys()
    assert type(tree["pair"]) is Pair
    np.testing.assert_array_equal(tree["pair"].right[0], [[1, 1]])
    assert float(tree["last"]["x"]) == 3
    assert isinstance(tree["pair"].left, type(library.array(w0)))


def test_python_floats_take_the_dtype_beside_them(library: Library) -> None:
    objective, _ = library.adapter.objective(lambda params, theta, t: sum(params), [1.0, np.float32(2)])
    assert objective.dtype == np.float32
    alone = {"jax": np.float64, "torch": np.float32, "autograd": np.float64}
    assert library.adapter.objective(lambda params, theta, t: params, 1.0)[0].dtype == alone[library.name]


# ---- hyperparameters -----------------------------------------------------------------------------------------


def test_other_values_of_theta_trace_nothing_again(library: Library) -> None:
    calls = []

    def loss(params: Any, theta: Any, t: Any) -> Any:
        calls.append(t)
        return (params**2).sum() * theta["l2"]

    objective, w0 = library.adapter.objective(loss, np.ones(2), {"l2": 1.0})
    other = objective.with_theta({"l2": np.float32(3)})
    assert (objective.grad(w0, 0) == 2).all()
    traced = len(calls)
    for t in range(3):
        assert (other.grad(w0, t) == 6).all()
    assert len(calls) == traced + (0 if library.name == "jax" else 3)
    assert (objective.theta["l2"], other.theta["l2"]) == (1, 3)
    with pytest.raises(ValueError, match="read-only"):
        other.theta["l2"][...] = 2


def test_theta_is_a_copy(library: Library) -> None:
    value = np.ones(2)
    objective, w0 = library.adapter.objective(
        lambda params, theta, t: (params * theta["a"]).sum(), np.ones(2), {"a": value}
    )
    value[:] = 7
    np.testing.assert_array_equal(objective.grad(w0, 0), 1)


# ---- errors --------------------------------------------------------------------------------------------------


def refused(message: str) -> Any:
    return pytest.raises(fastrev.ArgumentError, match=re.escape(message))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"a": np.ones(2), "b": [np.ones(1, np.float32), np.ones(1, np.float32)]},
         "Argument 'params' must have leaves of one dtype, not float32 at 'b.0', 'b.1' and float64 at 'a'. Convert"),
        ({"a": np.ones(2), "b": np.ones(2, int)}, "must have leaves of float32 or float64, not int64 at 'b'."),
        ({"a": np.ones(2, complex)}, "not complex128 at 'a'"),
        ({"a": 1}, "not int at 'a'"),
        ([1.0, "x"], "not str at '1'"),
        ([np.ones(1, bool)] * 5, "not bool at '0', '1', '2' and 2 more. Convert what is to be trained"),
        ({}, "must hold at least one number to train, not a tree without any"),
        ([np.ones(0)], "must hold at least one number to train"),
        ({"a.b": 1.0, "a": {"b": 1.0}}, "must have leaves of different names, not two of 'a.b'. Rename"),
    ],
)  # fmt: skip
def test_params_are_checked(library: Library, params: Any, message: str) -> None:
    with refused(message):
        library.adapter.objective(lambda params, theta, t: 0.0, params)


def test_keys_that_cannot_be_sorted() -> None:
    for library in map(Library, ("torch", "autograd")):
        with refused("must have dictionaries of keys that can be sorted, not 'a', '1'"):
            library.adapter.objective(lambda params, theta, t: 0.0, {"a": 1.0, 1: 1.0})


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        ([1.0], "Argument 'theta' must be a dictionary of names and arrays, not [1.0]. Pass {\"l2\": 1e-4}, say."),
        ({1: 1.0}, "must be a dictionary of names and arrays"),
        ({"l2": 1}, "Argument 'theta['l2']' must hold floats, not int64. Pass floats, such as 1.0"),
        ({"l2": [1j]}, "must hold floats, not complex128"),
        ({"l2": [[1.0], [1.0, 2.0]]}, "Argument 'theta['l2']' must be a rectangular array, not a ragged sequence"),
        ({"l2": [1.0, np.nan]}, "Argument 'theta['l2']' must be finite, not nan at theta['l2'][1]"),
    ],
)
def test_theta_is_checked(library: Library, theta: Any, message: str) -> None:
    with refused(message):
        library.adapter.objective(lambda params, theta, t: 0.0, np.ones(2), theta)


def test_theta_is_finite_in_the_dtype_of_params(library: Library) -> None:
    with refused("must be finite in float32, not 1e+300"):
        library.adapter.objective(lambda params, theta, t: 0.0, np.ones(2, np.float32), {"l2": 1e300})


def test_calls_are_checked(library: Library) -> None:
    with refused("Argument 'loss' must be a function of (params, theta, t), not 3"):
        library.adapter.objective(3, np.ones(2))
    objective, w0 = mlp_objective(library)
    with refused("Argument 'w' must have shape (48,), one number per parameter, not shape (2,)"):
        objective.grad([1, 2], 0)
    with refused("Argument 'u' must have shape (48,), one number per parameter, not shape (1, 48)"):
        objective.hvp(w0, w0[None], 0)
    with refused("Argument 't' must be a whole number, not 0.5"):
        objective.grad(w0, 0.5)
    with refused("Argument 'theta' must hold 'l2', 'scale', 'unused', not 'l2'. Pass {**objective.theta, ...}."):
        objective.with_theta({"l2": 1.0})
    with refused("Argument 'theta['l2']' must have shape (), not shape (1,)"):
        objective.with_theta({**THETA, "l2": [1.0]})


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda xp, params: params * 2, "must return one number, not an array of shape (3,). Return its mean or its"),
        (lambda xp, params: (params * 1j).sum(), "must return a real floating number, not complex128. Return its real"),
        (lambda xp, params: 3.0, "must return a number computed from its params, not a float. Compute it from them"),
        (lambda xp, params: None, "must return a number computed from its params, not a NoneType"),
        (lambda xp, params: (params.sum(), 1), "must return a number computed from its params, not a tuple"),
        (lambda xp, params: xp.ones(3).sum(), "Argument 'loss' must return a number computed from its params, not "),
    ],
)
def test_losses_are_checked(library: Library, loss: Any, message: str) -> None:
    objective, w0 = library.adapter.objective(lambda params, theta, t: loss(library.numpy, params), np.ones(3))
    for use in (objective.grad, lambda w, t: objective.hvp(w, w, t)):
        with refused(message):
            use(w0, 0)


def test_a_detached_loss_is_refused() -> None:
    import jax

    objective, w0 = Library("jax").adapter.objective(lambda p, theta, t: jax.lax.stop_gradient(p).sum(), np.ones(3))
    with refused("must return a number computed from its params, not one that does not depend on them"):
        objective.grad(w0, 0)


def test_a_detached_tensor_is_refused() -> None:
    torch = Library("torch")
    objective, w0 = torch.adapter.objective(lambda p, theta, t: p.detach().sum(), np.ones(3))
    with refused("not a tensor that requires no gradient. Compute it from them with PyTorch alone"):
        objective.grad(w0, 0)
    other = torch.numpy.ones(3, requires_grad=True)
    objective, w0 = torch.adapter.objective(lambda p, theta, t: other.sum(), np.ones(3))
    with refused("not one that does not depend on them"):
        objective.grad(w0, 0)


@pytest.mark.parametrize("name", LIBRARIES)
def test_missing_libraries(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Also where the library is there: this process finds nothing any more."""
    adapter = import_module(f"fastrev.interop.{name}")
    for module in list(sys.modules):
        if module.partition(".")[0] == name:
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.setattr(sys, "meta_path", [each for each in sys.meta_path if "Editable" not in repr(each)])
    with pytest.raises(fastrev.MissingExtraError, match=re.escape(f'pip install "fastrev[{name}]"')) as caught:
        adapter.objective(lambda params, theta, t: 0.0, np.ones(2))
    assert f"fastrev.interop.{name} needs {name}, which is not installed" in str(caught.value)


@pytest.mark.parametrize("name", LIBRARIES)
def test_imports_are_lazy(name: str) -> None:
    script = f"""
import sys
import fastrev
assert "fastrev.interop" not in sys.modules
import fastrev.interop.{name} as adapter
from fastrev.interop import {name}
import fastrev.interop
assert fastrev.interop.{name} is {name} is adapter
print(sorted({{"jax", "torch", "autograd"}} & set(sys.modules)))
"""
    assert run_python(script, PACKAGE.parent) == "[]\n"


# ---- nodes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", [fastrev_jax.validation_loss, fastrev_torch.validation_loss], ids=["jax", "torch"])
def test_nodes_take_what_meta_grad_takes(node: Callable[..., Any]) -> None:
    """But `theta` in place of `wrt`, which the graph knows, no progress, and nothing that is kept on disk."""

    def taken(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
        return {each.name: (each.kind, each.default) for each in inspect.signature(function).parameters.values()}

    expected, found = taken(fastrev.meta_grad), taken(node)
    for name in ("wrt", "progress", "buffer", "checkpoint", "every"):
        del expected[name]
    assert found.pop("theta") == (inspect.Parameter.KEYWORD_ONLY, None)
    assert list(found.items()) == list(expected.items())


# ---- PyTorch's modules ---------------------------------------------------------------------------------------


@pytest.fixture
def torch() -> Any:
    module = pytest.importorskip("torch", reason="PyTorch is not in the test extra")
    module.manual_seed(0)
    return module


def data(torch: Any) -> tuple[Any, Any]:
    return torch.tensor(X[0]), torch.tensor(Y[0])


def module_objective(torch: Any, module: Any, **theta: float) -> tuple[Any, np.ndarray]:
    x, y = data(torch)

    def loss(module: Any, theta: Any, t: int) -> Any:
        penalty = sum((weight**2).sum() for weight in module.parameters())
        return torch.nn.functional.cross_entropy(module(x), y) + theta.get("l2", 0.0) * penalty

    return import_module("fastrev.interop.torch").objective(loss, module, theta)


def assert_differentiates(objective: Any, w0: np.ndarray, rtol: float = 1e-5) -> None:
    """The gradient and the Hessian against central differences."""
    direction = np.cos(np.arange(w0.size))
    slope = central(lambda h: objective.loss(w0 + h * direction, 0))
    np.testing.assert_allclose(objective.grad(w0, 0) @ direction, slope, rtol=1e-7, atol=1e-9)
    curvature = central(lambda h: objective.grad(w0 + h * direction, 0))
    np.testing.assert_allclose(objective.hvp(w0, direction, 0), curvature, rtol=rtol, atol=1e-8)


def layers(torch: Any) -> Any:
    return torch.nn.Sequential(
        OrderedDict(enter=torch.nn.Linear(4, 5), norm=torch.nn.BatchNorm1d(5), act=torch.nn.Tanh(),
                    leave=torch.nn.Linear(5, 3))
    ).double()  # fmt: skip


def test_a_module(torch: Any) -> None:
    module = layers(torch)
    module.leave.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    identities = [*map(id, module.parameters())]
    module.enter.weight.grad = mark = torch.ones(5, 4).double()
    objective, w0 = module_objective(torch, module, l2=0.1)
    assert list(objective.groups) == ["enter.weight", "enter.bias", "norm.weight", "norm.bias", "leave.weight"]
    assert_differentiates(objective, w0)
    assert objective.cross(w0, w0, 0)["l2"] == pytest.approx(2 * w0 @ w0)
    assert [*map(id, module.parameters())] == identities
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert module.enter.weight.grad is mark
    assert (mark == 1).all()
    assert module.leave.weight.grad is None
    assert module.training
    assert not hasattr(module, "params")


def test_the_state_of_a_module(torch: Any) -> None:
    module = layers(torch)
    objective, w0 = module_objective(torch, module)
    state = objective.unflatten(w0 + 1)
    assert state.keys() == module.state_dict().keys()
    other = layers(torch)
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.leave.bias.detach(), module.leave.bias.detach() + 1)
    module.load_state_dict(state)  # which changes no objective
    assert objective.loss(w0 + 1, 0) == module_objective(torch, module)[0].loss(w0 + 1, 0)
    state["enter.weight"].zero_()
    assert module.enter.weight.any()


def test_buffers_are_as_they_were(torch: Any) -> None:
    module = layers(torch).eval()
    objective, w0 = module_objective(torch, module)
    before = objective.loss(w0, 0)
    module.norm.running_mean += 1
    assert objective.loss(w0, 0) == before
    assert not module.training


def test_tied_weights_count_once(torch: Any) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4)).double()
    module[2].weight = module[0].weight
    x, _ = data(torch)
    objective, w0 = import_module("fastrev.interop.torch").objective(
        lambda module, theta, t: (module(x) ** 2).mean(), module
    )
    assert list(objective.groups) == ["0.weight", "0.bias", "2.bias"]
    assert_differentiates(objective, w0)
    state = objective.unflatten(w0 + 1)
    assert torch.equal(state["0.weight"], state["2.weight"])
    assert torch.equal(state["0.weight"], module[0].weight + 1)
    module.load_state_dict(state)


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda nn: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)),
    "gelu": lambda nn: nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)),
    "layer norm": lambda nn: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Softmax(1), nn.Linear(8, 3)),
    "max pool": lambda nn: nn.Sequential(
        nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 2), nn.MaxPool1d(3), nn.Flatten(), nn.Linear(3, 3)
    ),
    "images": lambda nn: nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 2, 2, padding=1), nn.GroupNorm(1, 2), nn.SiLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2, 3),
    ),
    "attention": lambda nn: nn.Sequential(
        nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), nn.Linear(4, 3)
    ),
}  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS)
def test_usual_operations(torch: Any, operation: str) -> None:
    module = OPERATIONS[operation](torch.nn).double()
    assert_differentiates(*module_objective(torch, module), rtol=1e-4)


def test_attention_over_a_sequence(torch: Any) -> None:
    module = torch.nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True).double()
    x = torch.tensor(X)
    objective, w0 = import_module("fastrev.interop.torch").objective(
        lambda module, theta, t: torch.sin(module(x)).mean(), module
    )
    assert_differentiates(objective, w0, rtol=1e-4)
    assert torch.backends.cuda.flash_sdp_enabled()


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
def test_whatever_the_caller_records(torch: Any, mode: str) -> None:
    module = layers(torch)
    objective, w0 = module_objective(torch, module, l2=0.1)
    expected = everything(objective, w0, w0)
    x, _ = data(torch)  # an inference tensor in that mode, which no module can be trained on
    adapter = import_module("fastrev.interop.torch")
    loss = lambda module, theta, t: theta["l2"] * (module(x) ** 2).mean()
    expected += everything(adapter.objective(loss, module, {"l2": 0.1})[0], w0, w0)
    with getattr(torch, mode)():
        inside = everything(objective, w0, w0)
        inside += everything(adapter.objective(loss, module, {"l2": 0.1})[0], w0, w0)
        assert not torch.is_grad_enabled()
        objective.unflatten(w0)
    for one, other in zip(inside, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert torch.is_grad_enabled()


def test_defaults_and_parameters_of_other_kinds(torch: Any) -> None:
    """Neither the default dtype nor what a tensor requires matters."""
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    adapter = import_module("fastrev.interop.torch")
    l2 = torch.tensor(2.0, requires_grad=True)
    objective, w0 = adapter.objective(lambda p, theta, t: (p["w"] ** 2).sum() * theta["l2"], {"w": weight}, {"l2": l2})
    np.testing.assert_array_equal(objective.grad(w0, 0), [4, 4, 4])
    assert objective.cross(w0, w0, 0)["l2"] == 6
    assert weight.grad is None
    assert l2.grad is None
    assert torch.get_default_dtype() == torch.float32
    assert not objective.unflatten(w0)["w"].requires_grad


def test_other_devices_and_dtypes_are_refused(torch: Any) -> None:
    adapter = import_module("fastrev.interop.torch")
    remedy = "Pass it after .cpu(), and let the loss use the CPU."
    with refused(f"Argument 'params' must be on the CPU, not on meta at 'bias'. {remedy}"):
        module = torch.nn.Linear(2, 2)
        module.bias = torch.nn.Parameter(torch.ones(2, device="meta"))
        adapter.objective(lambda module, theta, t: 0.0, module)
    with refused("must be on the CPU, not on meta at 'bias'"):
        module.bias.requires_grad_(False)
        adapter.objective(lambda module, theta, t: 0.0, module)
    with refused("Argument 'theta['l2']' must be on the CPU, not on meta."):
        adapter.objective(lambda module, theta, t: 0.0, np.ones(2), {"l2": torch.ones((), device="meta")})
    with refused("Argument 'params' must be float32 or float64, not bfloat16 at '0'. Convert it with .float()."):
        adapter.objective(lambda module, theta, t: 0.0, [torch.ones(2, dtype=torch.bfloat16)])
    with refused("must have leaves of float32 or float64, not float16 at 'weight', 'bias'"):
        adapter.objective(lambda module, theta, t: 0.0, torch.nn.Linear(2, 2).half())
    with refused("Argument 'params' must hold at least one number to train, not a tree without any"):
        adapter.objective(lambda module, theta, t: 0.0, torch.nn.Tanh())


def test_a_module_that_is_called_anew_where_it_is_differentiated(torch: Any) -> None:
    """Then, too, with the weights that are in place of its own."""
    checkpoint = import_module("torch.utils.checkpoint").checkpoint
    module, (x, y) = layers(torch).double(), data(torch)

    def loss(module: Any, theta: Any, t: int) -> Any:
        logits = checkpoint(module, x, use_reentrant=False) if t == 0 else module(x)
        return torch.nn.functional.cross_entropy(logits, y) * theta["scale"]

    objective, w0 = import_module("fastrev.interop.torch").objective(loss, module, {"scale": 2.0})
    w, u = w0 + 0.1, np.cos(np.arange(w0.size))
    assert_differentiates(objective, w)
    for function in (objective.hvp, lambda *at: objective.cross(*at)["scale"]):
        np.testing.assert_allclose(function(w, u, 0), function(w, u, 1), rtol=1e-12, atol=1e-14)


# ---- JAX's own ways ------------------------------------------------------------------------------------------


def test_the_step_is_a_traced_int32() -> None:
    import jax

    traced = []

    def loss(params: Any, theta: Any, t: Any) -> Any:
        traced.append(t.dtype)
        noise = jax.random.normal(jax.random.fold_in(jax.random.PRNGKey(0), t), (3,))
        return (params * noise).sum() + (params**2).sum() * jax.numpy.arange(3.0)[t]

    objective, w0 = Library("jax").adapter.objective(loss, np.ones(3))
    assert len({objective.grad(w0, t).tobytes() for t in (0, 1, np.int64(2))}) == 3
    assert traced == [np.int32]


def test_functions_with_derivatives_of_their_own() -> None:
    import jax

    @jax.custom_vjp
    def square(x: Any) -> Any:
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))
    objective, w0 = Library("jax").adapter.objective(
        lambda params, theta, t: theta["a"] * square(params).sum(), np.ones(2), {"a": 3.0}
    )
    np.testing.assert_array_equal(objective.hvp(w0, w0, 0), 6)
    product, crossed = objective.hvp_and_cross(w0, w0, 0)
    np.testing.assert_array_equal(product, 6)
    assert crossed["a"] == 4


def test_a_registered_class() -> None:
    import jax

    @jax.tree_util.register_pytree_with_keys_class
    class Layer:
        def __init__(self, w: Any, b: Any) -> None:
            self.w, self.b = w, b

        def tree_flatten_with_keys(self) -> Any:
            key = jax.tree_util.GetAttrKey
            return [(key("w"), self.w), (key("b"), self.b)], None

        @classmethod
        def tree_unflatten(cls, _: Any, children: Any) -> Layer:
            return cls(*children)

    objective, w0 = Library("jax").adapter.objective(
        lambda params, theta, t: params["layer"].w.sum() * params["layer"].b, {"layer": Layer(np.ones(2), 3.0)}
    )
    assert list(objective.groups) == ["layer.w", "layer.b"]
    np.testing.assert_array_equal(objective.grad(w0, 0), [3, 3, 2])
    assert isinstance(objective.unflatten(w0)["layer"], Layer)


def test_float64_needs_jax_to_compute_in_it() -> None:
    import jax

    jax.config.update("jax_enable_x64", False)
    adapter = Library("jax").adapter
    with refused("Argument 'params' must be float32 while JAX computes in it, not float64. "
                 'Call jax.config.update("jax_enable_x64", True) first, or convert them to float32.'):  # fmt: skip
        adapter.objective(lambda params, theta, t: 0.0, np.ones(2))
    objective, w0 = adapter.objective(lambda params, theta, t: params**2, 1.0)
    assert (objective.dtype, objective.grad(w0, 0).dtype) == (np.float32, np.float32)


# ---- copies, and other processes -----------------------------------------------------------------------------


def penalized(params: Any, theta: Any, t: Any) -> Any:
    return ((params["w"] - t) ** 4).sum() + theta["l2"] * (params["w"] ** 2).sum()


def of_a_module(module: Any, theta: Any, t: int) -> Any:
    weight = module.weight - module.mean * t
    return (weight**4).sum() + theta["l2"] * (weight**2).sum()


def importable(library: Library) -> tuple[Any, np.ndarray]:
    return library.adapter.objective(penalized, {"w": np.linspace(-0.5, 0.5, 3)}, {"l2": 0.5})


def assert_the_same_objective(other: Any, objective: Any, w0: np.ndarray) -> None:
    for one, another in zip(everything(other, w0, w0), everything(objective, w0, w0), strict=True):
        np.testing.assert_array_equal(one, another)
    assert (other.groups, dict(other.theta), repr(other)) == (objective.groups, dict(objective.theta), repr(objective))
    with pytest.raises(TypeError, match="assignment"):
        other.theta["l2"] = 2.0
    with pytest.raises(ValueError, match="read-only"):
        other.theta["l2"][...] = 2.0


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies(library: Library, again: Callable[[Any], Any]) -> None:
    objective, w0 = importable(library)
    assert_the_same_objective(again(objective), objective, w0)
    run = fastrev.train(objective, w0, lr=0.1, decay=0.9, steps=5)
    other = again(run) if again is not copy.copy else fastrev.train(again(objective), w0, lr=0.1, decay=0.9, steps=5)
    found, expected = other.pullback(w0), run.pullback(w0)
    np.testing.assert_array_equal(found.w0, expected.w0)
    assert found.theta == expected.theta


def test_a_deep_copy_takes_any_loss_and_compiles_nothing_again() -> None:
    traced = []

    def loss(params: Any, theta: Any, t: Any) -> Any:
        traced.append(t)
        return (params**2).sum()

    objective, w0 = Library("jax").adapter.objective(loss, np.ones(3))
    objective.grad(w0, 0)
    count = len(traced)
    copy.deepcopy(objective).grad(w0, 0)
    assert len(traced) == count


def test_a_module_is_pickled_with_the_buffers_that_it_had(torch: Any) -> None:
    module = torch.nn.Linear(3, 2, bias=False).double()
    module.register_buffer("mean", torch.tensor(0.25, dtype=torch.float64))
    objective, w0 = import_module("fastrev.interop.torch").objective(of_a_module, module, {"l2": 0.5})
    module.mean.fill_(7.0)
    other = pickle.loads(pickle.dumps(objective))
    assert_the_same_objective(other, objective, w0)
    np.testing.assert_array_equal(other.unflatten(w0)["weight"].numpy().ravel(), w0)


def diverge(name: str, local: bool) -> None:
    library = Library(name)
    loss = (lambda *arguments: penalized(*arguments)) if local else penalized
    objective, w0 = library.adapter.objective(loss, {"w": np.ones(3, np.float32)}, {"l2": 0.5})
    fastrev.train(objective, w0, lr=1e5, decay=0.9, steps=5)


@pytest.mark.parametrize("local", [False, True])
def test_a_process_pool_hands_a_refused_step_on(library: Library, local: bool) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(diverge, library.name, local).exception(timeout=120)
    assert isinstance(error, fastrev.DivergenceError)
    assert (error.step, error.group) == (0, "w")
    assert ("it cannot be pickled" in str(error)) == (error.run is None) == local
    if not local:
        error.run.rewind()
        assert error.run.stats.exact


# ---- what changed meanwhile ----------------------------------------------------------------------------------


def test_jax_no_longer_computes_in_float64() -> None:
    jax = Library("jax")
    objective, w0 = importable(jax)
    expected = objective.grad(w0, 0)
    narrow = import_module("jax").config.update
    narrow("jax_enable_x64", False)
    try:
        with refused("'w' must be float64 to JAX, as params were, not float32. Call jax.config.update("):
            objective.grad(w0, 0)
        with refused("'w' must be float64 to JAX"):
            objective.hvp_and_cross(w0, w0, 0)
    finally:
        narrow("jax_enable_x64", True)
    np.testing.assert_array_equal(objective.grad(w0, 0), expected)


def test_tensors_in_other_layouts(torch: Any) -> None:
    adapter = import_module("fastrev.interop.torch")
    with refused("Argument 'params' must be dense, not of torch.sparse_coo. Convert it with .to_dense()."):
        adapter.objective(lambda p, theta, t: (p**2).sum(), torch.ones(3).to_sparse())
    with refused("Argument 'params' must be float32 or float64, not bfloat16. Convert it with .float()."):
        adapter.objective(lambda p, theta, t: (p**2).sum(), torch.ones(3, dtype=torch.bfloat16))
    negated = torch.complex(torch.zeros(3), torch.ones(3)).conj().imag
    objective, w0 = adapter.objective(lambda p, theta, t: (p**2 * theta["a"]).sum(), negated, {"a": negated})
    np.testing.assert_array_equal(w0, [-1, -1, -1])
    np.testing.assert_array_equal(objective.grad(w0, 0), [2, 2, 2])
