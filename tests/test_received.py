"""Whatever comes in place of an array, to every argument that is one: it works as the plain array does, or is named."""

from __future__ import annotations

import copy
import datetime
import re
import warnings
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.sparse import csr_array

import fastrev
from fastrev._engine.received import UnreadableError, plain

MODEL = fastrev.MLP((2, 2))  # P = 6, G = 2
P = MODEL.num_params
W, X, Y = np.arange(P) / 8 - 0.25, np.array([[1.0, 2], [0, -1], [3, 0.5], [-2, 1]]), np.array([0, 1, 1, 0])
LOGISTIC = fastrev.MLP((2, 1), loss="logistic")


def meta_grad(**changes: Any) -> Any:
    given = {"w0": W, "train": (X, Y), "valid": (X, Y), "lr": 0.125, "decay": 0.5, "steps": 2} | changes
    result = fastrev.meta_grad(MODEL, **given)
    return result.w, result.grad.w0, result.grad.lr


def curve(position: int, value: Any) -> Any:
    parts = [X, Y, [0, 2]]
    parts[position] = value
    return fastrev.train(MODEL, W, train=(X, Y), lr=0.125, decay=0.5, steps=2, curve=tuple(parts)).curve


def called_at(every: Any) -> list[int]:
    steps: list[int] = []
    look = (lambda step, w: steps.append(step), every)
    fastrev.train(MODEL, W, train=(X, Y), lr=0.125, decay=0.5, steps=2, callback=look)
    return steps


def pullback(w_bar: Any, v_bar: Any = None) -> Any:
    run = fastrev.train(MODEL, W, train=(X, Y), lr=0.125, decay=0.5, steps=2)
    return run.pullback(w_bar, v_bar).w0


def tune(**changes: Any) -> Any:
    given = {"w0": W, "train": (X, Y), "valid": (X, Y), "lr": 0.125, "decay": 0.5, "steps": 2, "learn": ("lr",)}
    return fastrev.tune(MODEL, **(given | changes), meta_steps=1, runs=1, progress=False).loss


def added(y: Any) -> Any:
    a = fastrev.ReversibleArray(W)
    a.add(y)
    return a.value


def multiplied(n: Any, d: Any) -> Any:
    a = fastrev.ReversibleArray(W)
    a.mul(n, d)
    return a.value


def stepped(g: Any = W, lr: Any = 0.25, decay: Any = 0.5) -> Any:
    sgd = fastrev.ReversibleSGD(W)
    sgd.step(g, lr, decay)
    return sgd.w


def backed(w_bar: Any = W, v_bar: Any = None, hu: Any = W) -> Any:
    sgd = fastrev.ReversibleSGD(W)
    sgd.step(W, 0.25, 0.5)
    return sgd.backward(W, lambda w, u: hu, w_bar, v_bar, lr=0.25, decay=0.5).w_bar


class Argument(NamedTuple):
    call: Callable[[Any], Any]
    good: Any  # what it takes as it is
    name: str
    optional: bool = False
    none: str = r"None\. Pass numbers"  # of a message, where it is not optional


NEITHER = r"None\. Pass lr=0\.1, decay=0\.9, say, or optimizer=fastrev\.Adam\(lr=0\.001\)"

OF_P = W + 1
RATES = np.array([[0.125, 0.25], [0.5, 0.0625]])
ROWS = np.array([[0, 1, 3], [2, 2, 1]])
ARGUMENTS = {
    "w0": Argument(lambda v: meta_grad(w0=v), OF_P, "w0"),
    "v0": Argument(lambda v: meta_grad(v0=v), OF_P, "v0", optional=True),
    "lr": Argument(lambda v: meta_grad(lr=v), RATES, "lr", none=NEITHER),
    "decay": Argument(lambda v: meta_grad(decay=v), RATES, "decay", none=NEITHER),
    "l2": Argument(lambda v: meta_grad(l2=v), np.array([0.125, 0.5]), "l2"),
    "X": Argument(lambda v: meta_grad(train=(v, Y)), X, "train[0]"),
    "classes": Argument(lambda v: meta_grad(train=(X, v)), Y, "train[1]"),
    "soft labels": Argument(lambda v: meta_grad(train=(X, v)), X / 4, "train[1]"),
    "Xv": Argument(lambda v: meta_grad(valid=(v, Y)), X, "valid[0]"),
    "Yv": Argument(lambda v: meta_grad(valid=(X, v)), Y, "valid[1]"),
    "batches": Argument(lambda v: meta_grad(batches=v), ROWS, "batches", optional=True),
    "example_weights": Argument(lambda v: meta_grad(example_weights=v), W[:4], "example_weights", optional=True),
    "curve[0]": Argument(lambda v: curve(0, v), X, "curve[0]"),
    "curve[1]": Argument(lambda v: curve(1, v), Y, "curve[1]"),
    "curve[2]": Argument(lambda v: curve(2, v), np.array([0, 1, 2]), "curve[2]"),
    "callback[1]": Argument(called_at, np.array([1, 2]), "callback[1]"),
    "w_bar": Argument(pullback, OF_P, "w_bar"),
    "v_bar": Argument(lambda v: pullback(W, v), OF_P, "v_bar", optional=True),
    "w0 of tune": Argument(lambda v: tune(w0=v), OF_P, "w0", optional=True),
    "lr of tune": Argument(lambda v: tune(lr=v), RATES, "lr", none=NEITHER),
    "X of tune": Argument(lambda v: tune(train=(v, Y)), X, "train[0]"),
    "classes of tune": Argument(lambda v: tune(train=(X, v)), Y, "train[1]"),
    "init_scale": Argument(lambda v: tune(w0=None, init_scale=v), np.array([0.5, 0.25]), "init_scale", optional=True),
    "x0": Argument(
        lambda v: fastrev.minimize(lambda x, seed: (0.0, x), {"x": v}, meta_steps=1, runs=1, progress=False).x["x"],
        OF_P, "x0['x']",
    ),
    "array": Argument(lambda v: fastrev.ReversibleArray(v).value, RATES, "x"),
    "add": Argument(added, OF_P, "y"),
    "n": Argument(lambda v: multiplied(v, 16), np.arange(1, P + 1), "n"),
    "d": Argument(lambda v: multiplied(1, v), np.arange(1, P + 1), "d"),
    "ratio": Argument(fastrev.ratio, RATES, "decay"),
    "w0 of SGD": Argument(lambda v: fastrev.ReversibleSGD(v).w, OF_P, "w0"),
    "v0 of SGD": Argument(lambda v: fastrev.ReversibleSGD(W, v).v, OF_P, "v0", optional=True),
    "g": Argument(stepped, OF_P, "g"),
    "lr of a step": Argument(lambda v: stepped(lr=v), OF_P, "lr"),
    "decay of a step": Argument(lambda v: stepped(decay=v), np.full(P, 0.25), "decay"),
    "w_bar of a step": Argument(lambda v: backed(v), OF_P, "w_bar"),
    "v_bar of a step": Argument(lambda v: backed(v_bar=v), OF_P, "v_bar", optional=True),
    "hvp of a step": Argument(lambda v: backed(hu=v), OF_P, "hvp"),
    "scale": Argument(lambda v: MODEL.init(scale=v), np.array([0.5, 0.25]), "scale", optional=True),
    "groups": Argument(lambda v: MODEL.flatten({"W1": v, "b1": W[:2]}), RATES, "W1"),
    "values": Argument(MODEL.group_sums, OF_P, "values"),
    "w": Argument(lambda v: MODEL.outputs(v, X), OF_P, "w"),
    "w of predict_proba": Argument(lambda v: MODEL.predict_proba(v, X), OF_P, "w"),
    "X of predict": Argument(lambda v: MODEL.predict(W, v), X, "X"),
    "Y of accuracy": Argument(lambda v: MODEL.accuracy(W, X, v), Y, "Y"),
    "Y of loss_value": Argument(lambda v: MODEL.loss_value(W, X, v), Y, "Y"),
    "targets (N,)": Argument(lambda v: LOGISTIC.loss_value(W[:3], X, v), W[:4], "Y"),
    "u": Argument(lambda v: MODEL.hvp(W, v, X, Y), OF_P, "u"),
    "l2 of grad": Argument(lambda v: MODEL.grad(W, X, Y, v), OF_P, "l2"),
}  # fmt: skip
WHOLE = ("batches", "curve[2]", "callback[1]", "n", "d")  # which floats are nothing for


class Handed:
    """What an array comes in where it is of no library that we know."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if isinstance(self._array, Exception):
            raise self._array
        return self._array


def readonly(good: Any) -> Any:
    array = good.copy()
    array.setflags(write=False)
    return array


def torch(good: Any, **changes: Any) -> Any:
    return pytest.importorskip("torch").tensor(good.tolist(), **changes)


def bfloat16(good: Any) -> Any:
    return good.astype(pytest.importorskip("ml_dtypes").bfloat16)


WORKS: dict[str, Callable[[Any], Any]] = {
    "a list": lambda good: good.tolist(),
    "a tuple": lambda good: tuple(good.tolist()),
    "numbers of NumPy's in a list": list,
    "Fortran order": np.asfortranarray,
    "negative strides": lambda good: np.repeat(good, 2, axis=0)[::-2][::-1],
    "read-only": readonly,
    "other bytes": lambda good: good.astype(good.dtype.newbyteorder()),
    "unmasked": lambda good: np.ma.masked_array(good, np.zeros(good.shape, bool)),
    "handed over": Handed,
    "tensor": torch,
    "array of JAX": lambda good: pytest.importorskip("jax.numpy").asarray(good),
}
FLOATS: dict[str, Callable[[Any], Any]] = {
    "float32": lambda good: good.astype(np.float32),
    "float16": lambda good: good.astype(np.float16),
    "long doubles": lambda good: good.astype(np.longdouble),
    "bfloat16": bfloat16,
    "bfloat16, handed over": lambda good: Handed(bfloat16(good)),
    "tensor of bfloat16": lambda good: torch(good, dtype=pytest.importorskip("torch").bfloat16),
    "JAX's bfloat16": lambda good: pytest.importorskip("jax.numpy").asarray(good, "bfloat16"),
}


def holding(good: Any, value: Any, dtype: Any = object) -> Any:
    """The same array, with something else at its second place."""
    array = good.astype(dtype)
    array.reshape(-1)[1] = value
    return array


def masked(good: Any) -> Any:
    return np.ma.masked_array(good, np.arange(good.size).reshape(good.shape) == 1)


def requiring_grad(good: Any) -> Any:
    return torch(good, requires_grad=True, dtype=pytest.importorskip("torch").float64)


class Refused(NamedTuple):
    make: Callable[[Any], Any]
    numbers: str  # what came and what to pass, of those who read numbers; float64 is int64 where they are whole
    classes: str = ""  # of those who read classes, where it differs
    one: str = ""  # of those who read whole numbers, of which one is enough, where it differs


NUMBER_THEM = r"Number them: classes, Y = np\.unique\(Y, return_inverse=True\)"
ONE = r"\. Pass an int of at least 1"
MASKED = r"a masked array with masked elements, which stand for no number: fill them in with \.filled\(\)"
OBJECT = "of dtype object, with "
AT = r" at \[(0, )?(0, )?1\]\. "
REFUSED = {
    "None": Refused(lambda good: None, r"None\. Pass numbers", one="None" + ONE),
    "ragged": Refused(lambda good: [[1.0], [1.0, 2.0]], r"a ragged sequence\. Pass rows of equal length"),
    "masked": Refused(masked, MASKED),
    "rows that are masked": Refused(
        lambda good: list(masked(np.atleast_2d(good))), MASKED
    ),
    "masked in rows": Refused(
        lambda good: [[1.0, np.ma.masked]], MASKED
    ),
    "requires grad": Refused(requiring_grad, r"a Tensor that requires grad\. Pass \.detach\(\) of it"),
    "list that requires grad": Refused(
        lambda good: [requiring_grad(good)[0]] * len(good),
        r"a list of tensors that require grad\. Pass \.detach\(\) of each",
    ),
    "text": Refused(lambda good: "abc", r"of dtype <U3\. Pass numbers", one="'abc'" + ONE),
    "texts": Refused(
        lambda good: good.astype(str), r"of dtype <U\d\d\. Convert it with \.astype\(np\.float64\)",
        classes=r"of dtype <U\d\d\. " + NUMBER_THEM,
    ),
    "words": Refused(
        lambda good: np.full(good.shape, "cat"), r"of dtype <U3\. Strings stand for no numbers: encode them first",
        classes=r"of dtype <U3\. " + NUMBER_THEM,
    ),
    "dict": Refused(lambda good: {"a": 1.0}, r"a dict\. Pass its values as an array", one="{'a': 1.0}" + ONE),
    "generator": Refused(
        lambda good: (each for each in good), r"a generator\. Pass a list of what it yields",
        one="<generator object .*>" + ONE,
    ),
    "set": Refused(lambda good: {1.0, 2.0}, r"a set\. Pass its values as an array", one="{1.0, 2.0}" + ONE),
    "function": Refused(
        lambda good: np.sum, r"an? \w+\. Pass the numbers that it returns", one="<function sum at .*>" + ONE
    ),
    "huge": Refused(lambda good: 10**400, r"an int\. Pass a number below 1\.8e308", one=r"10{76}\.\.\."),
    "huge ones": Refused(
        lambda good: holding(good, 10**400), OBJECT + r"10*\.\.\." + AT + r"Pass numbers below 1\.8e308",
        classes=OBJECT + r"10*\.\.\." + AT + NUMBER_THEM,
    ),
    "missing": Refused(
        lambda good: holding(good, None), OBJECT + "None" + AT + "Remove or fill in what is missing",
        classes=OBJECT + "None" + AT + "Remove the examples that have no class",
    ),
    "objects": Refused(
        lambda good: holding(good, object()), OBJECT + "<object object at .*>" + AT + "Pass numbers",
        classes=OBJECT + "<object object at .*>" + AT + NUMBER_THEM,
    ),
    "decimals": Refused(
        lambda good: holding(good, Decimal(1)), r"of dtype object\. Convert it with \.astype\(np\.float64\)",
        classes=r"of dtype object\. " + NUMBER_THEM,
    ),
    "an object": Refused(
        lambda good: np.array(Decimal(1), object), r"of dtype object\. Convert it with \.astype\(np\.float64\)",
        one=r"array\(Decimal\('1'\), dtype=object\)\. Pass int\(.*\), of at least 1",
    ),
    "missing object": Refused(
        lambda good: np.array(None, object), OBJECT + r"None\. Remove or fill in what is missing",
        one=r"array\(None, dtype=object\)" + ONE,
    ),
    "complex": Refused(
        lambda good: good.astype(complex), r"of dtype complex128\. Pass its \.real, or its parts as .*"
    ),
    "dates": Refused(
        lambda good: good.astype("M8[D]"), r"of dtype datetime64\[D\]\. Pass the time since one date, in one unit: .*",
        classes=r"of dtype datetime64\[D\]\. " + NUMBER_THEM,
    ),
    "times": Refused(lambda good: good.astype("m8[s]"), r"of dtype timedelta64\[s\]\. Pass it in one unit: .*'s'\)"),
    "a date": Refused(
        lambda good: datetime.date(2020, 1, 1), r"a date\. Pass its values as an array",
        one=r"datetime\.date\(2020, 1, 1\)" + ONE,
    ),
    "records": Refused(
        lambda good: good.astype([("a", float)]), r"of structured dtype\. Pass its fields as columns of .*"
    ),
    "bytes": Refused(lambda good: np.zeros(good.shape, "V3"), r"of dtype \|V3\. Raw bytes stand for no numbers"),
    "sparse": Refused(
        lambda good: csr_array(np.atleast_2d(good)), r"a sparse csr_array\. Pass \.toarray\(\) of it",
        one=r"<Compressed .*\.\.\." + ONE,
    ),
    "a run": Refused(
        lambda good: fastrev.train(MODEL, W, train=(X, Y), lr=1, decay=0.5, steps=1), r"a Run\. Pass its w",
        one=r"Run\(.*\)" + ONE,
    ),
    "broken": Refused(
        lambda good: Handed(KeyError("gone")), r"a Handed: 'gone'\. Pass its values as a NumPy array"
    ),
}  # fmt: skip
# one argument of each who reads them in a way of its own
READERS = ("lr", "X", "classes", "batches", "n", "callback[1]")
CLASSES = ("classes", "Yv", "curve[1]", "classes of tune", "Y of accuracy", "Y of loss_value")
EVERYWHERE = ("None", "ragged", "words")  # what every argument is given, not only these
ANY_SHAPE = ("x0", "array", "ratio")


def cases(kinds: Iterable[str], everywhere: tuple[str, ...]) -> list[tuple[str, str]]:
    """All kinds for those who read in ways of their own, some for every argument."""
    return [(name, kind) for name in ARGUMENTS for kind in kinds if name in READERS or kind in everywhere]


def accepts_none(argument: str, kind: str) -> bool:
    return kind == "None" and ARGUMENTS[argument].optional


def same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple | dict):
        values = (lambda each: list(each.values())) if isinstance(a, dict) else list
        return all(map(same, values(a), values(b)))
    return np.array_equal(a, b)


def untouched(before: Any, after: Any) -> bool:
    """Whether an array has kept its bytes and its looks."""
    if not isinstance(after, np.ndarray):
        return True
    fields = ("dtype", "shape", "strides")
    return after.dtype == object or (
        after.tobytes() == before.tobytes() and all(getattr(after, f) == getattr(before, f) for f in fields[:2])
    )


@pytest.mark.parametrize(("argument", "kind"), cases(WORKS, ("a list", "read-only")))
def test_arrays_of_any_make_are_taken(argument, kind):
    call, good, *_ = ARGUMENTS[argument]
    value = WORKS[kind](good.copy())
    before = copy.copy(value)
    assert same(call(value), call(good))
    assert untouched(before, value)


@pytest.mark.parametrize(("argument", "kind"), [each for each in cases(FLOATS, ("bfloat16",)) if each[0] not in WHOLE])
def test_floats_of_any_precision_are_taken(argument, kind):
    call, good, *_ = ARGUMENTS[argument]
    assert same(call(FLOATS[kind](good)), call(good))


@pytest.mark.parametrize(("argument", "kind"), [each for each in cases(REFUSED, EVERYWHERE) if not accepts_none(*each)])
def test_what_is_no_array_of_numbers_is_named(argument, kind):
    call, good, name, _, none = ARGUMENTS[argument]
    make, text, classes, one = REFUSED[kind]
    text = none if kind == "None" else text
    if argument in WHOLE:
        text = text.replace("float64", "int64")
    if argument in CLASSES:
        text = classes or text
    elif argument in WHOLE and argument != "batches":
        text = one or text
    with pytest.raises(fastrev.ArgumentError) as caught:
        call(make(good))
    message = str(caught.value)
    assert re.fullmatch(f"Argument '{re.escape(name)}' must [^.]*, not (an array )?{text}\\.", message), message
    assert len(message) < 300, message


@pytest.mark.parametrize("argument", [name for name, each in ARGUMENTS.items() if each.optional])
def test_what_may_be_left_out_may_be_none(argument):
    ARGUMENTS[argument].call(None)


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("shape", [(0,), (1, 1, 1, 1)])
def test_another_shape_is_named(argument, shape):
    call, good, name, *_ = ARGUMENTS[argument]
    value = np.ones(shape, good.dtype)
    if argument in ANY_SHAPE:
        assert np.shape(call(value)[0] if argument == "ratio" else call(value)) == shape
        return
    with pytest.raises(fastrev.ArgumentError) as caught:
        call(value)
    start = f"Argument '{name}' must "
    assert str(caught.value).startswith(start)
    assert re.search(rf", not (of )?shape {re.escape(str(shape))}", str(caught.value)), caught.value


@pytest.mark.parametrize("action", ["ignore", "error"])
def test_masked_numbers_of_any_kind_are_found_whatever_numpy_makes_of_them(action):
    of_float, of_int = (np.ma.masked_array(number, True) for number in (3.0, 3))
    rows = np.ma.masked_array([1.0, 2.0], [False, True])
    whole = np.ma.masked_array([1.0, 2.0])
    found = [
        np.ma.masked, of_float, [1.0, np.ma.masked], [1, np.ma.masked], (1.0, of_float), [1, of_int], [[1.0, of_float]],
        [rows, rows], [[1.0, 2.0], rows], ([rows], [whole]), [whole, [1.0, np.ma.masked]],
    ]  # fmt: skip
    for value in found:
        with warnings.catch_warnings(action=action), pytest.raises(UnreadableError, match="masked elements"):
            plain(value)
    for value in ([whole, whole], [[1.0, np.nan]], [whole, [1.0, np.nan]]):
        assert np.array_equal(plain(value), np.array(value), equal_nan=True)


def test_a_list_is_read_without_a_look_at_its_numbers():
    class Row(list):
        looks = 0

        def __iter__(self):
            Row.looks += 1
            return super().__iter__()

    assert plain([Row([1.0, 2.0])] * 3).shape == (3, 2)
    seen = Row.looks
    np.asarray([Row([1.0, 2.0])] * 3)
    assert Row.looks == 2 * seen  # those are NumPy's


@pytest.mark.parametrize("argument", WHOLE)
def test_floats_in_place_of_whole_numbers_are_told_how_to_become_them(argument):
    call, good, name, *_ = ARGUMENTS[argument]
    for value, advice in {
        "array": (good / 2, ".astype(np.int64)"), "list": ((good / 2).tolist(), "np.array(..., np.int64)."),
    }.values():  # fmt: skip
        with pytest.raises(fastrev.ArgumentError, match=re.escape(advice)) as caught:
            call(value)
        assert f"'{name}' must " in str(caught.value)


def test_what_can_be_unflattened_has_the_shape():
    for value in (None, {"W1": W}, 0.5, W[:2], "abc"):
        with pytest.raises(fastrev.ArgumentError, match=re.escape("'w' must have shape (6,)")):
            MODEL.unflatten(value)
    with pytest.raises(fastrev.ArgumentError, match="'groups' must map names to arrays, not an ndarray"):
        MODEL.flatten(W)


def test_a_matrix_is_told_how_to_become_a_vector():
    with warnings.catch_warnings(action="ignore"):
        matrix, inputs = np.asmatrix(OF_P), np.asmatrix(X)
    for value in (matrix, OF_P[:, None]):
        with pytest.raises(fastrev.ArgumentError, match=re.escape("Pass numpy.ravel(w0).")):
            meta_grad(w0=value)
        assert np.ravel(value).shape == (P,)
    assert same(meta_grad(train=(inputs, Y)), meta_grad())


@pytest.mark.parametrize("name", ["steps", "batch_size", "seed", "truncate"])
def test_whole_numbers(name):
    def call(value):
        changes = {name: value} | ({} if name in ("steps", "truncate") else {"batch_size": 2, name: value})
        return meta_grad(**changes)

    good = 2
    for value in (np.int64(good), np.uint8(good)):
        assert same(call(value), call(good))
    for value in (2.0, np.float64(2), np.array(2)):
        with pytest.raises(
            fastrev.ArgumentError, match=re.escape(f"a whole number, not {value!r}. Pass int({name}), of")
        ):
            call(value)
    for value in (True, np.True_, 2.5, "2", [2], float("inf")):
        with pytest.raises(fastrev.ArgumentError, match=re.escape(f"a whole number, not {value!r}. Pass an int of")):
            call(value)
    with pytest.raises(fastrev.ArgumentError, match="at least"):
        call(-(10**5000))  # which Python refuses to print


def test_numbers_of_things_that_nobody_has_are_refused():
    for name in ("steps", "batch_size", "truncate"):
        with pytest.raises(fastrev.ArgumentError, match=re.escape(f"'{name}' must be below 2**63, not 1000000")):
            meta_grad(**{name: 10**30})
    with pytest.raises(fastrev.ArgumentError, match=re.escape("'meta_lr' must be a number above 0, not 1000")):
        tune(meta_lr=10**400)
    with pytest.raises(fastrev.ArgumentError, match="or a pair of bounds"):
        tune(transforms={"lr": (0, 10**400)})
    with pytest.raises(fastrev.ArgumentError, match=r"'sizes' must make fewer than 2\*\*48 parameters"):
        fastrev.MLP((2**40, 2**40))
    for sizes in ({64, 10}, {"a": 64, "b": 10}, "64", None, [[64, 10]], (each for each in (64, 10))):
        with pytest.raises(fastrev.ArgumentError, match=re.escape("Pass (inputs, hidden, ..., outputs).")):
            fastrev.MLP(sizes)
    assert fastrev.MLP(np.array([2, 3])).sizes == (2, 3)
    for sizes in ([2, [3, 4]], [[2, 3], [3, 4]], (2, None), [2, np.ones(2)], [2, "3"]):
        with pytest.raises(
            fastrev.ArgumentError, match=r"'sizes\[[01]\]' must be a whole number, .*Pass an int of at "
        ):
            fastrev.MLP(sizes)
    with pytest.raises(fastrev.ArgumentError, match=re.escape("Pass (inputs, hidden, ..., outputs).")):
        fastrev.MLP(np.ones((2, 2), int))


def test_what_functions_return_is_told_how_to_become_an_array():
    class Bowl:
        num_params = P

        def grad(self, w, t):
            return requiring_grad(w)

    given = {"lr": 0.125, "decay": 0.5, "steps": 2}
    with pytest.raises(fastrev.ArgumentError, match=r"model.grad\(w, 0\) must return .*grad. Pass .detach"):
        fastrev.train(Bowl(), W, **given)
    with pytest.raises(fastrev.ArgumentError, match=r"valid\(w\)\[1\] must be .*grad. Pass .detach\(\) of it\."):
        fastrev.meta_grad(MODEL, W, train=(X, Y), valid=lambda w: (0.0, requiring_grad(w)), **given)
    halved = fastrev.meta_grad(MODEL, W, train=(X, Y), valid=lambda w: (0.0, bfloat16(np.ones(P))), **given)
    assert same(halved.grad.w0, pullback(np.ones(P)))
