"""exp, tanh and their kin against 80-bit arithmetic, in units in the last place."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest

from fastrev.kernels import elementary

Floats = npt.NDArray[Any]

ULPS = 3.0
DTYPES = [np.float64, np.float32]


def reference_softplus(x: Floats) -> Floats:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def reference_sigmoid(x: Floats) -> Floats:
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


# What each is compared with, and where: from, to.
FUNCTIONS: dict[str, tuple[Callable[[Floats], Floats], float, float]] = {
    "exp_negative": (np.exp, -708.0, 0.0),
    "expm1_negative": (np.expm1, -87.0, 0.0),
    "log1p_unit": (np.log1p, 0.0, 1.0),
    "tanh": (np.tanh, -1000.0, 1000.0),
    "sigmoid": (reference_sigmoid, -708.0, 1000.0),
    "softplus": (reference_softplus, -708.0, 1000.0),
}
ACTIVATIONS = ["tanh", "sigmoid", "softplus"]


@cache
def loop_over(name: str) -> Callable[[Floats, Floats], None]:
    """Compile a loop, into which the function is inlined as it is in the kernels."""
    function = getattr(elementary, name)

    @numba.njit(error_model="numpy")
    def loop(x: Floats, out: Floats) -> None:
        for p in range(x.size):
            out[p] = function(x[p])

    return loop


def evaluate(name: str, x: npt.ArrayLike, dtype: Any) -> Floats:
    x = np.asarray(x, dtype)
    out = np.full_like(x, 77)
    loop_over(name)(x, out)
    return out


def grid(name: str, dtype: Any) -> Floats:
    """Points all over the domain: even, at every magnitude, around multiples of ln 2 / 2, random."""
    _, low, high = FUNCTIONS[name]
    if dtype == np.float32:
        low = max(low, -87.0)
    rng = np.random.default_rng(0)
    magnitudes = np.geomspace(np.finfo(dtype).tiny, 1000.0, 20_001)
    seams = np.arange(-2100, 2101)[:, None] * (np.log(2) / 2) + np.linspace(-1e-6, 1e-6, 11)
    points = [
        np.linspace(low, high, 100_001), magnitudes, -magnitudes, seams.ravel(), np.linspace(-25.0, 25.0, 100_001),
        np.linspace(-1.0, 1.0, 20_001), rng.normal(0.0, 3.0, 100_000), [0.0, -0.0, low, high],
    ]  # fmt: skip
    x = np.unique(np.concatenate(points).astype(dtype))
    return x[(x >= low) & (x <= high)]


def ulps(y: Floats, exact: Floats) -> Floats:
    """Errors in units in the last place of the exact result."""
    spacing = np.spacing(np.abs(exact.astype(y.dtype))).astype(exact.dtype)
    return np.abs(y.astype(exact.dtype) - exact) / spacing


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(name: str, dtype: Any) -> None:
    x = grid(name, dtype)
    wide = np.float64 if dtype == np.float32 else np.longdouble
    errors = ulps(evaluate(name, x, dtype), FUNCTIONS[name][0](x.astype(wide)))
    doubt = 1.0 if np.finfo(wide).nmant == np.finfo(dtype).nmant else 0.0  # where long double is no wider
    worst = int(np.argmax(errors))
    assert errors[worst] <= ULPS + doubt, x[worst]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("exp_negative", 0.0, 1.0),
        ("exp_negative", -0.0, 1.0),
        ("exp_negative", -5e-324, 1.0),
        ("exp_negative", -1000.0, 0.0),
        ("exp_negative", -1e30, 0.0),
        ("exp_negative", -np.inf, 0.0),
        ("expm1_negative", 0.0, 0.0),
        ("expm1_negative", -0.0, 0.0),
        ("expm1_negative", -1e-30, -1e-30),
        ("expm1_negative", -50.0, -1.0),
        ("log1p_unit", 0.0, 0.0),
        ("log1p_unit", 1e-30, 1e-30),
        ("log1p_unit", 1.0, np.log(2.0)),
        ("tanh", 0.0, 0.0),
        ("tanh", -0.0, 0.0),
        ("tanh", 1e-30, 1e-30),
        ("tanh", -1e-30, -1e-30),
        ("tanh", 30.0, 1.0),
        ("tanh", -30.0, -1.0),
        ("tanh", 1e30, 1.0),
        ("tanh", np.inf, 1.0),
        ("tanh", -np.inf, -1.0),
        ("sigmoid", 0.0, 0.5),
        ("sigmoid", -0.0, 0.5),
        ("sigmoid", 1e-30, 0.5),
        ("sigmoid", 800.0, 1.0),
        ("sigmoid", -800.0, 0.0),
        ("sigmoid", np.inf, 1.0),
        ("sigmoid", -np.inf, 0.0),
        ("softplus", 0.0, np.log(2.0)),
        ("softplus", -0.0, np.log(2.0)),
        ("softplus", 800.0, 800.0),
        ("softplus", 1e30, 1e30),
        ("softplus", -800.0, 0.0),
        ("softplus", np.inf, np.inf),
        ("softplus", -np.inf, 0.0),
    ],
)
def test_special_values(name: str, x: float, y: float, dtype: Any) -> None:
    # Alone and in a vector: the loop's vectorised body must agree with its scalar rest.
    assert evaluate(name, [x], dtype).tolist() == [dtype(y)]
    assert evaluate(name, [x] * 67, dtype).tolist() == [dtype(y)] * 67


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_propagates(name: str, dtype: Any) -> None:
    x = np.zeros(67, dtype)
    x[[0, 13, 66]] = np.nan
    y = evaluate(name, x, dtype)
    assert np.flatnonzero(np.isnan(y)).tolist() == [0, 13, 66]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_bits_do_not_depend_on_the_place_in_the_array(name: str, dtype: Any) -> None:
    """Vector lanes and the scalar rest of the loop give the same bits, as exact reversal needs."""
    x = grid(name, dtype)[::997]
    whole = evaluate(name, x, dtype)
    for start in (1, 2, 3, 7):
        np.testing.assert_array_equal(evaluate(name, x[start:], dtype), whole[start:])
    np.testing.assert_array_equal([evaluate(name, [each], dtype)[0] for each in x], whole)


@pytest.mark.parametrize("dtype", DTYPES)
def test_symmetries(dtype: Any) -> None:
    x = grid("tanh", dtype)
    np.testing.assert_array_equal(evaluate("tanh", -x, dtype), -evaluate("tanh", x, dtype))
    assert np.abs(evaluate("tanh", x, dtype)).max() == 1.0
    assert (evaluate("sigmoid", x, dtype) <= 1.0).all()
    assert (evaluate("softplus", x, dtype) >= np.maximum(x, 0)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_below_the_normal_numbers_exp_is_zero(dtype: Any) -> None:
    edge = -708.0 if dtype == np.float64 else -87.0
    below = np.nextafter(dtype(edge), dtype(-np.inf))
    assert evaluate("exp_negative", [edge], dtype)[0] >= np.finfo(dtype).tiny
    assert evaluate("exp_negative", [below], dtype)[0] == 0.0
    x = np.linspace(edge - 100.0, edge - 1e-4, 10_001)
    assert not evaluate("exp_negative", x, dtype).any()
