"""Whatever takes learning rates and decays takes an optimizer in their place, and learns and differentiates by it."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator
from dataclasses import fields, replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import fastrev
from fastrev._files import files
from fastrev._tuning.trials import Trial, attempt
from fastrev.errors import ArgumentError
from fastrev.interop import jax as fastrev_jax
from fastrev.interop import torch as fastrev_torch
from tests.test_checkpoint import all_of
from tests.test_objective import W0, Plain, valid
from tests.unrolled import computing_in_float64

T, G = 8, 4
RNG = np.random.default_rng(0)
X = RNG.random((60, 4))
Y = (X @ RNG.standard_normal((4, 3))).argmax(axis=1)
MODEL = fastrev.MLP((4, 5, 3))
DATA = {"train": (X[:40], Y[:40]), "valid": (X[40:], Y[40:])}
FAST = {"runs": 4, "meta_steps": 6, "meta_lr": 0.1, "progress": False}

# of each kind one whose numbers have all shapes, none of them 0, and what cannot be learned of it
OPTIMIZERS = {
    "SGD": fastrev.SGD(lr=np.full((T, G), 0.2), decay=RNG.uniform(0.61, 0.89, T)),
    "Adam": fastrev.Adam(
        lr=np.full((T, G), 0.03), beta1=RNG.uniform(0.61, 0.89, (1, G)), beta2=RNG.uniform(0.91, 0.97, (T, 1)),
        eps=np.full(T, 1e-3), eps_root=1e-6, weight_decay=0.1,
    ),
}  # fmt: skip
CONSTANT: dict[str, tuple[str, ...]] = {"SGD": (), "Adam": ("eps_root",)}
KINDS = list(OPTIMIZERS)


def names_of(kind: str) -> tuple[str, ...]:
    return tuple(each.name for each in fields(OPTIMIZERS[kind]) if each.name not in CONSTANT[kind])


def tune(kind: str, **changes: Any) -> fastrev.TuneResult:
    given = DATA | {"steps": T, "batch_size": 8, "learn": names_of(kind)} | FAST | {"optimizer": OPTIMIZERS[kind]}
    return fastrev.tune(MODEL, **(given | changes))


# ---- signatures ----------------------------------------------------------------------------------------------

DOORS = [
    fastrev.train, fastrev.meta_grad, fastrev.check_meta_grad, fastrev.metasmoothness, fastrev.tune, fastrev.attribute,
    fastrev_jax.validation_loss, fastrev_torch.validation_loss,
]  # fmt: skip


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.__module__}.{door.__name__}")
def test_every_door_takes_an_optimizer_or_its_short_form(door):
    found = inspect.signature(door).parameters
    assert all(found[name].default is None for name in ("lr", "decay", "optimizer"))
    assert all(found[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ("lr", "decay", "optimizer"))
    names = list(found)
    at = names.index("lr")
    assert names[at : at + 3] == ["lr", "decay", "optimizer"]
    parameters = door.__doc__.partition("Parameters\n")[2].partition("Returns\n")[0]
    assert "optimizer" in parameters


CALLS = {
    "train": lambda **given: fastrev.train(MODEL, MODEL.init(0), train=DATA["train"], steps=T, **given),
    "meta_grad": lambda **given: fastrev.meta_grad(MODEL, MODEL.init(0), **DATA, steps=T, **given),
    "check_meta_grad": lambda **given: fastrev.check_meta_grad(MODEL, MODEL.init(0), **DATA, steps=T, **given),
    "metasmoothness": lambda **given: fastrev.metasmoothness(
        MODEL, MODEL.init(0), train=DATA["train"], steps=T, **given
    ),
    "tune": lambda **given: fastrev.tune(MODEL, **DATA, steps=T, learn=("lr",), **FAST, **given),
    "attribute": lambda **given: fastrev.attribute(
        MODEL, MODEL.init(0), train=DATA["train"], queries=DATA["valid"], steps=T, **given
    ),
    "jax": lambda **given: fastrev_jax.validation_loss(MODEL, MODEL.init(0), **DATA, steps=T, **given),
    "torch": lambda **given: fastrev_torch.validation_loss(MODEL, MODEL.init(0), **DATA, steps=T, **given),
}
FAULTS = [
    ({}, "'lr' must be given where there is no optimizer, not None. Pass lr=0.1, decay=0.9, say, or optimizer="),
    ({"lr": 0.1}, "'decay' must be given where there is no optimizer, not None"),
    ({"decay": 0.1}, "'lr' must be given where there is no optimizer, not None"),
    ({"optimizer": fastrev.SGD(0.1, 0.9), "lr": 0.2}, "'lr' must be left out where there is an optimizer"),
    ({"optimizer": fastrev.SGD(0.1, 0.9), "decay": 0.8}, "'decay' must be left out where there is an optimizer"),
    ({"optimizer": fastrev.SGD}, "'optimizer' must be a fastrev.SGD or fastrev.Adam, not <class"),
    ({"optimizer": "sgd"}, "'optimizer' must be a fastrev.SGD or fastrev.Adam, not 'sgd'"),
    ({"optimizer": fastrev.SGD(-0.1, 0.9)}, "'lr' must not be negative, not -0.1"),
    ({"optimizer": fastrev.SGD(None, 0.9)}, "'lr' must be an array of real numbers, not None"),
]


@pytest.mark.parametrize("door", CALLS)
@pytest.mark.parametrize(("given", "message"), FAULTS)
def test_every_door_refuses_the_same(door, given, message):
    if door == "torch":
        pytest.importorskip("torch", reason="PyTorch is not in the test extra")
    with pytest.raises(ArgumentError) as info:
        CALLS[door](**given)
    assert message in str(info.value)


# ---- tune ----------------------------------------------------------------------------------------------------


def test_the_short_form_is_learned_to_the_same_bits():
    optimizer = OPTIMIZERS["SGD"]
    short = tune("SGD", optimizer=None, lr=optimizer.lr, decay=optimizer.decay)
    assert all_of(short) == all_of(tune("SGD"))
    assert isinstance(short.optimizer, fastrev.SGD)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_of_an_optimizer_is_learned_in_its_shape(kind):
    given = OPTIMIZERS[kind]
    before = copy.deepcopy(given)
    result = tune(kind)
    assert type(result.optimizer) is type(given)
    for name in names_of(kind):
        start, learned = getattr(given, name), getattr(result, name)
        assert np.shape(learned) == np.shape(start)
        assert not np.array_equal(learned, start), name
        assert np.array_equal(start, getattr(before, name))
        assert learned is result.learned[name]
        assert np.array_equal(getattr(result.optimizer, name), learned)
    for name in CONSTANT[kind]:
        assert getattr(result, name) == getattr(result.optimizer, name) == getattr(given, name)
    assert set(names_of(kind)) <= set(dir(result))
    assert result.loss < result.start_loss


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_by_the_optimizer_that_it_found(kind):
    result = tune(kind)
    expected = fastrev.train(
        MODEL, MODEL.init(3), train=DATA["train"], optimizer=result.optimizer, steps=T, batch_size=8, seed=3
    )
    assert np.array_equal(result.train(seed=3).w, expected.w)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["lr", "eps", "weight_decay", "decay", "beta1", "beta2"])
def test_the_first_meta_step_moves_in_the_coordinates_of_the_name(kind, name):
    """By Adam's rate: a rate in log, a ratio in logit."""
    if name not in names_of(kind):
        pytest.skip("of other optimizers")
    start = np.asarray(getattr(OPTIMIZERS[kind], name), np.float64)
    states = []
    tune(kind, learn=(name,), w0=MODEL.init(0), batch_size=None, runs=1, meta_steps=1, callback=states.append)
    moved = states[0].current()[name]
    ratio = name in ("decay", "beta1", "beta2")
    free = [np.log(each / (1 - each)) if ratio else np.log(each) for each in (start, moved)]
    if name == "lr":  # after the search along the rates
        free[0] = free[0] + np.log(2.0) * np.round((free[1] - free[0]) / np.log(2.0))
    np.testing.assert_allclose(np.abs(free[1] - free[0]), 0.1, rtol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_results_come_back_from_files_and_copies(kind, tmp_path):
    result = tune(kind)
    result.save(tmp_path / "learned")
    for again in (fastrev.load(tmp_path / "learned"), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert again == result
        assert type(again.optimizer) is type(result.optimizer)
        for each in fields(result.optimizer):
            assert np.array_equal(getattr(again, each.name), getattr(result, each.name))
        assert np.array_equal(again.train(*DATA["train"], seed=2).w, result.train(seed=2).w)
        assert len(again.plot().axes) == len(result.plot().axes) > len(names_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_holds_the_optimizer(kind, tmp_path):
    path = tmp_path / "state"
    tune(kind, checkpoint=path)
    assert all_of(tune(kind, checkpoint=path)) == all_of(tune(kind))
    for each in fields(OPTIMIZERS[kind]):
        other = replace(OPTIMIZERS[kind], **{each.name: 0.77 * np.asarray(getattr(OPTIMIZERS[kind], each.name))})
        with pytest.raises(ArgumentError, match=f"differs in '{each.name}'"):
            tune(kind, checkpoint=path, optimizer=other)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_of_the_optimizer_is_not_learned(kind):
    own = ", ".join(map(repr, names_of(kind)))
    for name in ("momentum", *CONSTANT[kind]):
        with pytest.raises(ArgumentError, match=f"'learn' must hold names among {own}, .*, not '{name}'"):
            tune(kind, learn=(name,))


@pytest.mark.parametrize("kind", KINDS)
def test_the_hyperparameters_of_an_objective_and_of_an_optimizer_are_learned_together(kind):
    optimizer = replace(OPTIMIZERS[kind], **{name: np.max(getattr(OPTIMIZERS[kind], name)) for name in names_of(kind)})
    result = fastrev.tune(Plain(), W0, valid=valid, steps=12, optimizer=optimizer, learn=names_of(kind), **FAST)
    assert result.loss < result.start_loss


def test_rates_and_weight_decays_that_move_too_far_together_are_survived():
    """Where a step would turn the weights round the run is refused, and the loop goes on."""
    result = tune("Adam", optimizer=fastrev.Adam(lr=0.05, weight_decay=15.0), learn=("lr", "weight_decay"), meta_lr=0.5)
    assert 0 < result.lr * result.weight_decay < 1
    assert result.loss < result.start_loss
    outcome = attempt(result.training, Trial({"lr": np.array(0.1)}, 0, True))
    assert outcome.loss == np.inf
    assert "'weight_decay' must be at most (1 - 2**-16) / lr" in outcome.refusal
    assert np.isfinite(attempt(result.training, Trial({"lr": np.array(0.06)}, 0, True)).loss)
    together = {"optimizer": fastrev.Adam(lr=0.1, weight_decay=20.0), "learn": ("lr",)}
    with pytest.raises(ArgumentError, match="'weight_decay' must be at most"):
        tune("Adam", **together)
    softening = {"optimizer": fastrev.Adam(0.03, eps=1e-3, eps_root=0.0), "transforms": {"eps": "linear"}}
    assert tune("Adam", **softening, learn=("eps",), meta_lr=0.01).loss < np.inf  # goes down to 0, where it is refused


def test_a_weight_decay_of_0_is_learned_as_it_is():
    with pytest.raises(ArgumentError, match="'weight_decay' must hold a number above 0 to be learned in log, not 0"):
        tune("Adam", optimizer=fastrev.Adam(0.03), learn=("lr", "weight_decay"))
    way = {"optimizer": fastrev.Adam(0.03), "transforms": {"weight_decay": "linear"}, "learn": ("weight_decay",)}
    assert tune("Adam", **way).weight_decay >= 0
    without = {"optimizer": fastrev.Adam(0.03), "steps": T, "wrt": ("weight_decay",)}
    assert fastrev.check_meta_grad(MODEL, MODEL.init(0), **DATA, **without).passed


# ---- trust ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_meta_gradients_are_checked_by_every_name(kind):
    check = fastrev.check_meta_grad(
        MODEL, MODEL.init(0), **DATA, steps=T, optimizer=OPTIMIZERS[kind], wrt=names_of(kind)
    )
    assert check.passed, check
    assert set(check.hyperparameters) == set(names_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_training_answers_smoothly_to_every_name(kind):
    for name in names_of(kind):
        smoothness = fastrev.metasmoothness(
            MODEL, MODEL.init(0), train=DATA["train"], steps=T, optimizer=OPTIMIZERS[kind], wrt=(name,)
        )
        assert smoothness > 0.9, name


# ---- nodes of graphs -----------------------------------------------------------------------------------------


@pytest.fixture
def jax() -> Iterator[Any]:
    module = pytest.importorskip("jax", reason="JAX is not installed")
    yield from (module for _ in computing_in_float64())


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not in the test extra")


NODE = {"batch_size": 8, "seed": 3, "steps": T}


def expected_of(kind: str) -> fastrev.MetaGradient:
    return fastrev.meta_grad(
        MODEL, MODEL.init(0), **DATA, **NODE, optimizer=OPTIMIZERS[kind], wrt=("w0", *names_of(kind))
    )


def with_arrays(kind: str, arrays: dict[str, Any]) -> Any:
    return replace(OPTIMIZERS[kind], **{name: each for name, each in arrays.items() if name != "w0"})


@pytest.mark.parametrize("kind", KINDS)
def test_the_fields_may_be_tensors(torch, kind):
    names, expected = names_of(kind), expected_of(kind)
    arrays = {"w0": MODEL.init(0)} | {name: getattr(OPTIMIZERS[kind], name) for name in names}
    tensors = {name: torch.tensor(each, dtype=torch.float64).requires_grad_() for name, each in arrays.items()}

    def loss_of(*values: Any) -> Any:
        given = dict(zip(tensors, values, strict=True))
        optimizer = with_arrays(kind, given)
        return fastrev_torch.validation_loss(MODEL, given["w0"], **DATA, **NODE, optimizer=optimizer)

    loss = loss_of(*tensors.values())
    loss.backward()
    assert loss.item() == expected.loss
    for name, tensor in tensors.items():
        assert np.array_equal(tensor.grad.numpy(), getattr(expected.grad, name)), name
    assert torch.autograd.gradcheck(loss_of, tuple(tensors.values()), eps=1e-4, rtol=1e-3, atol=1e-7)
    rates = torch.stack([tensors["lr"].detach(), 0.5 * tensors["lr"].detach()])
    rows = torch.func.vmap(lambda lr: loss_of(*({**tensors, "lr": lr}).values()))(rates)
    assert rows[0] == loss


@pytest.mark.parametrize("kind", KINDS)
def test_the_fields_may_be_traced(jax, kind):
    names, expected = names_of(kind), expected_of(kind)
    arrays = {"w0": MODEL.init(0)} | {name: getattr(OPTIMIZERS[kind], name) for name in names}
    arrays = {name: jax.numpy.asarray(each, "float64") for name, each in arrays.items()}

    def loss_of(given: dict[str, Any]) -> Any:
        optimizer = with_arrays(kind, given)
        return fastrev_jax.validation_loss(MODEL, given["w0"], **DATA, **NODE, optimizer=optimizer)

    for transformed in (jax.value_and_grad(loss_of), jax.jit(jax.value_and_grad(loss_of))):
        loss, gradients = transformed(arrays)
        assert loss == expected.loss
        for name in arrays:
            assert np.array_equal(gradients[name], getattr(expected.grad, name)), name
    check_grads = import_module("jax.test_util").check_grads
    check_grads(loss_of, (arrays,), order=1, modes=["rev"], eps=1e-4, rtol=1e-3, atol=1e-7)
    rates = jax.numpy.stack([arrays["lr"], 0.5 * arrays["lr"]])
    assert jax.vmap(lambda lr: loss_of(arrays | {"lr": lr}))(rates)[0] == loss


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_derivative_is_constant_in_graphs(jax, torch, kind):
    for name in CONSTANT[kind]:
        number = float(getattr(OPTIMIZERS[kind], name))
        given = {"model": MODEL, "w0": MODEL.init(0), **DATA, **NODE}

        def loss_of(value: Any, node: Any, name: str = name, given: dict[str, Any] = given) -> Any:
            return node(**given, optimizer=replace(OPTIMIZERS[kind], **{name: value}))

        with pytest.raises(ArgumentError, match=f"'{name}' must be constant, not something to differentiate by"):
            loss_of(torch.tensor(number, requires_grad=True), fastrev_torch.validation_loss)
        with pytest.raises(ArgumentError, match=f"'{name}' must be constant, not something to differentiate by"):
            jax.grad(loss_of)(number, fastrev_jax.validation_loss)
        constant = torch.tensor(number, dtype=torch.float64)
        assert loss_of(constant, fastrev_torch.validation_loss).item() == expected_of(kind).loss
        assert jax.jit(loss_of, static_argnums=1)(number, fastrev_jax.validation_loss) == expected_of(kind).loss


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about, arrays: about.update(optimizer="Lion"), "its optimizer 'Lion' is unknown here"),
        (lambda about, arrays: arrays.pop("given.beta2"), "'beta2' of its Adam is missing"),
    ],
    ids=["optimizer", "number"],
)
def test_a_file_of_another_optimizer_is_refused(change, message, tmp_path):
    tune("Adam", meta_steps=1, runs=1).save(tmp_path / "a")
    kind, about, arrays = files.read(tmp_path / "a")
    change(about, arrays)
    files.write(tmp_path / "b", kind, about, arrays)
    with pytest.raises(ArgumentError, match=f"'path' must be a file that fastrev wrote, not '.*b': {message}"):
        fastrev.load(tmp_path / "b")


@pytest.mark.parametrize("kind", KINDS)
def test_v_and_v_bar_are_of_the_velocity_or_of_the_first_moment(kind):
    """By differences, of a loss of both ends."""
    data = DATA["train"]
    w0, a, b = MODEL.init(0), *RNG.standard_normal((2, MODEL.num_params))
    usual = OPTIMIZERS[kind]

    def end(lr: Any) -> fastrev.Run:
        return fastrev.train(MODEL, w0, train=data, steps=T, optimizer=replace(usual, lr=lr))

    def loss(lr: Any) -> float:
        run = end(lr)
        return float(a @ run.w + b @ run.v)

    h, along = 1e-5, RNG.standard_normal((T, G)) * usual.lr
    expected = (loss(usual.lr + h * along) - loss(usual.lr - h * along)) / (2 * h)
    assert np.vdot(end(usual.lr).pullback(a, b, wrt=("lr",)).lr, along) == pytest.approx(expected, rel=1e-6)
    only = end(usual.lr).pullback(0 * a, b, wrt=("lr",)).lr
    assert np.vdot(only, along) != pytest.approx(0.0)


def test_v_of_adam_is_the_mean_of_gradients():
    """After one step, (1 - beta1) g."""
    data, w0 = DATA["train"], MODEL.init(0)
    run = fastrev.train(MODEL, w0, train=data, steps=1, optimizer=fastrev.Adam(lr=0.1, beta1=0.75))
    assert run.v == pytest.approx(0.25 * MODEL.grad(w0, *data), abs=1e-12)
