"""Whatever is passed for an array: it works as a plain copy of it does, or is refused by name; and is left alone."""

from __future__ import annotations

import copy
import os
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import fastrev
from fastrev.estimators import MetaMLPClassifier, MetaMLPRegressor
from tests.test_received import ARGUMENTS, MODEL, OF_P, RATES, Argument, W, X, Y

TRAINING = {"w0": W, "train": (X, Y), "lr": 0.125, "decay": 0.5, "steps": 2}


def with_(call: Callable[..., Any], **changes: Any) -> Any:
    return call(MODEL, **(TRAINING | changes))


def attributed(**changes: Any) -> Any:
    return with_(fastrev.attribute, **{"queries": (X, Y)} | changes).effects


def checked(**changes: Any) -> Any:
    return repr(with_(fastrev.check_meta_grad, **{"valid": (X, Y), "directions": 1} | changes))


def smooth(**changes: Any) -> Any:
    return with_(fastrev.metasmoothness, **changes)


def adam_step(g: Any = W, **changes: Any) -> Any:
    adam = fastrev.ReversibleAdam(W)
    adam.step(g, **({"lr": 0.125} | changes))
    return adam.w


def by_adam(**changes: Any) -> Any:
    optimizer = fastrev.Adam(**({"lr": 0.125} | changes))
    return fastrev.train(MODEL, W, train=(X, Y), optimizer=optimizer, steps=2).w


def fitted(x: Any, y: Any, kind: type = MetaMLPClassifier) -> Any:
    given = {"hidden_layer_sizes": (2,), "meta_steps": 1, "runs": 1, "steps": 2, "validation_fraction": 0.5}
    given = {name: value for name, value in given.items() if name in kind().get_params()}
    return kind(random_state=0, **given).fit(x, y).predict(np.zeros((1, 2)))


def minimized(gradient: Any) -> Any:
    fun = lambda x, seed: (float(x["x"] @ x["x"]), {"x": gradient})
    return fastrev.minimize(fun, {"x": np.ones(P)}, meta_steps=2, runs=1, progress=False).x["x"]


P = MODEL.num_params
X8, Y8 = np.concatenate([X, X + 1]), np.concatenate([Y, Y])
MORE = {
    "queries[0]": Argument(lambda v: attributed(queries=(v, Y)), X, "queries[0]"),
    "queries[1]": Argument(lambda v: attributed(queries=(X, v)), Y, "queries[1]"),
    "groups of attribute": Argument(lambda v: attributed(groups=v), Y, "groups"),
    "weights of attribute": Argument(lambda v: attributed(example_weights=v), W[:4], "example_weights"),
    "w0 of check": Argument(lambda v: checked(w0=v), OF_P, "w0"),
    "Xv of check": Argument(lambda v: checked(valid=(v, Y)), X, "valid[0]"),
    "lr of metasmoothness": Argument(lambda v: smooth(lr=v), RATES, "lr"),
    "g of Adam": Argument(adam_step, OF_P, "g"),
    "lr of Adam's step": Argument(lambda v: adam_step(lr=v), np.array(0.25), "lr"),
    "beta1 of Adam's step": Argument(lambda v: adam_step(beta1=v), np.array(0.75), "beta1"),
    "lr of Adam": Argument(lambda v: by_adam(lr=v), RATES, "lr"),
    "beta1": Argument(lambda v: by_adam(beta1=v), RATES, "beta1"),
    "beta2": Argument(lambda v: by_adam(beta2=v), RATES, "beta2"),
    "eps": Argument(lambda v: by_adam(eps=v), RATES, "eps"),
    "eps_root": Argument(lambda v: by_adam(eps_root=v), np.array(1e-8), "eps_root"),
    "weight_decay": Argument(lambda v: by_adam(weight_decay=v), RATES, "weight_decay"),
    "gradient of minimize": Argument(minimized, OF_P, "fun"),
}  # fmt: skip
EVERY = ARGUMENTS | MORE
COUNT = int(os.environ.get("HOSTILE", "12"))  # of each argument

WIDE = (
    "i1",
    "u1",
    "i4",
    "i8",
    "u8",
    "f2",
    "f4",
    "f8",
    "g",
    ">f8",
    ">i4",
    "?",
    "c16",
    "S3",
    "U3",
    "O",
    "M8[s]",
    "m8[s]",
)
WIDE += ("V4", "i4,f8")


def values(dtype: np.dtype[Any], shape: tuple[int, ...], chance: random.Random) -> np.ndarray:
    """Numbers that the dtype has: mostly small ones, and those at its ends."""
    count = int(np.prod(shape))
    if dtype.kind in "f":
        ends = [np.nan, np.inf, -np.inf, float(np.finfo(dtype).max), 5e-324, -0.0, 1e300, 3000.0]
    elif dtype.kind in "iu":
        ends = [np.iinfo(dtype).max, np.iinfo(dtype).min]
    else:
        ends = [0]
    strange = chance.random() < 0.4
    picked = [
        chance.choice(ends) if strange and chance.random() < 0.3 else chance.choice([0, 1, 1]) for _ in range(count)
    ]
    with np.errstate(all="ignore"):
        if dtype.names or dtype.kind in "VMm":
            return np.zeros(shape, dtype)
        return np.array(picked, object).reshape(shape).astype(dtype)


def laid_out(array: np.ndarray, chance: random.Random) -> Any:
    """The same numbers in memory in some other way."""
    kind = chance.randrange(10)
    if kind == 0:
        return np.asfortranarray(array)
    if kind == 1 and array.ndim:
        return np.repeat(array, 2, axis=0)[::-2][::-1]
    if kind == 2:
        array = array.copy()
        array.setflags(write=False)
    if kind == 3 and array.dtype.kind not in "O" and array.size:
        return np.frombuffer(b"\0" + array.tobytes(), array.dtype, offset=1).reshape(array.shape)  # misaligned
    if kind == 4 and array.size:
        return np.broadcast_to(array.reshape(-1)[:1].reshape((1,) * array.ndim), array.shape)
    if kind == 5:
        return np.ma.masked_array(array, np.zeros(array.shape, bool) if chance.random() < 0.5 else array == array)
    if kind == 6 and array.ndim == 2:
        return array.view(np.matrix)
    if kind == 7:
        return array.tolist()
    return array


def foreign(array: np.ndarray, chance: random.Random) -> Any:
    """What other libraries make of it, where they can; or the array."""
    kind = chance.choice(("torch", "bfloat16", "jax", "Series", "nullable", "frame", "sparse", "ragged", "huge"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if kind in ("torch", "bfloat16"):
                torch = pytest.importorskip("torch")
                tensor = torch.from_numpy(np.ascontiguousarray(array))
                return tensor.to(torch.bfloat16) if kind == "bfloat16" else tensor
            if kind == "jax":
                return pytest.importorskip("jax.numpy").asarray(array)
            if kind in ("Series", "nullable", "frame"):
                pandas = pytest.importorskip("pandas")
                made = pandas.Series(array.reshape(-1)) if kind != "frame" else pandas.DataFrame(np.atleast_2d(array))
                return made.convert_dtypes() if kind == "nullable" else made
            if kind == "sparse":
                return chance.choice((sparse.csr_array, sparse.coo_array, sparse.csc_matrix))(np.atleast_2d(array))
        except (TypeError, ValueError, RuntimeError, OverflowError, AttributeError):
            return array
    if kind == "ragged":
        return [array.reshape(-1)[:1].tolist(), array.tolist()]
    return np.broadcast_to(np.zeros((), array.dtype), (10**7, 10**7))


def hostile(good: np.ndarray, chance: random.Random) -> Any:
    """Something in the place of a good array."""
    shapes = [good.shape, good.shape, good.shape, good.shape[::-1], (), (0,), (0, 2), (2, 0), (1, *good.shape)]
    shapes += [(*good.shape, 1), (good.size,), (good.size + 1,)]
    array = values(np.dtype(chance.choice(WIDE)), chance.choice(shapes), chance)
    if chance.random() < 0.2:
        array = good.astype(chance.choice(("f4", ">f8", "f2", "i8", "g", "O")))
    return foreign(array, chance) if chance.random() < 0.25 else laid_out(array, chance)


def bits(value: Any) -> Any:
    """Everything of it that a call could change."""
    if isinstance(value, np.ndarray):
        mask = np.ma.getmaskarray(value).tobytes() if isinstance(value, np.ma.MaskedArray) else b""
        data = np.asarray(value)
        data = data[(slice(1),) * data.ndim] if data.size > 10**6 else data
        return data.tobytes(), value.shape, value.strides, value.dtype, value.flags.writeable, mask
    if isinstance(value, list):
        return copy.deepcopy(value)
    if hasattr(value, "toarray"):
        return value.toarray().tobytes()
    array = value.double().numpy() if "bfloat16" in str(getattr(value, "dtype", "")) else np.asarray(value)
    return array.tobytes(), array.shape


def same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.values()), list(b.values()))
    return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=np.asarray(a).dtype.kind == "f")


def plain_copy(value: Any) -> np.ndarray:
    """As NumPy has it, in the widest of what it is."""
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":
        value = value.double()
    array = np.asarray(value)
    return np.array(array, array.dtype if array.dtype.kind in "iu" else np.float64, order="C")


def of_any_class(argument: Argument) -> bool:
    return argument.name in ("train[1]", "valid[1]", "curve[1]", "queries[1]", "Y", "groups")


def attempt(argument: Argument, value: Any) -> str | None:
    """What a call says to it; the error's text, or None if it works."""
    before = bits(value) if value is not None else None
    result, told = None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fastrev.ChaosWarning)
        try:
            result = argument.call(value)
        except fastrev.ArgumentError as error:
            told = str(error)
        except fastrev.DivergenceError:
            return None
    assert value is None or bits(value) == before, "it was changed"
    if told is None and not of_any_class(argument) and value is not None:
        assert same(result, argument.call(plain_copy(value))), "the result is not that of a plain copy"
    return told


@pytest.mark.parametrize("name", EVERY)
def test_whatever_is_passed_works_or_is_named(name):
    chance, argument = random.Random(name), EVERY[name]
    assert attempt(argument, argument.good) is None
    for number in range(COUNT):
        value = hostile(argument.good, chance)
        try:
            told = attempt(argument, value)
        except Exception as error:
            what = f"{type(value).__name__} of {getattr(value, 'dtype', value)!r}"
            raise AssertionError(f"number {number}, {what}: {error!r}") from error
        assert told is None or told.startswith(("Argument '", "fun(values, seed)")), told


@pytest.mark.parametrize("name", EVERY)
def test_what_no_memory_holds_is_named(name):
    """Numbers that are one and the same, so that they take no memory until they are copied."""
    for shape in ((10**7, 10**7), (10**14,)):
        with pytest.raises(fastrev.ArgumentError):
            EVERY[name].call(np.broadcast_to(1.0, shape))


@pytest.mark.parametrize("kind", [MetaMLPClassifier, MetaMLPRegressor])
def test_estimators_leave_what_they_are_given_alone(kind):
    for x in (X8, np.asfortranarray(X8[::-1]), X8.astype(">f4"), X8.tolist()):
        for y in (Y8[::-1], Y8.astype(np.float64)):
            before = bits(x), bits(y)
            fitted(x, y, kind)
            assert (bits(x), bits(y)) == before
