"""C += A B: right for every shape, the same bits as a chain of fused multiply-adds, and nothing else touched."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrev.kernels.products import DEPTH, ROWS, VECTOR, product, transpose
from fastrev.kernels.scattering import subtract_products

Floats = npt.NDArray[Any]
DTYPES = [np.float64, np.float32]

sizes = st.one_of(st.integers(1, 20), st.sampled_from([50, DEPTH - 1, DEPTH, DEPTH + 1, 257]))


class Guarded:
    """A matrix in the middle of a flat array of NaN, row-major or (for the left factor) column-major."""

    def __init__(self, matrix: Floats, before: int, transposed: bool = False) -> None:
        rows, columns = matrix.shape
        self.shape, self.transposed, self.offset = matrix.shape, transposed, before
        self.strides = (1, rows) if transposed else (columns, 1)  # in elements
        self.flat = np.full(before + matrix.size + 70, np.nan, matrix.dtype)
        self.flat[before : before + matrix.size] = (matrix.T if transposed else matrix).ravel()

    @property
    def matrix(self) -> Floats:
        inside = self.flat[self.offset : self.offset + self.shape[0] * self.shape[1]]
        return inside.reshape(self.shape[::-1]).T if self.transposed else inside.reshape(self.shape)

    def guards_stand(self) -> bool:
        size = self.shape[0] * self.shape[1]
        return bool(np.isnan(self.flat[: self.offset]).all() and np.isnan(self.flat[self.offset + size :]).all())


def run(a: Floats, b: Floats, c: Floats, transposed: bool = False, offsets: tuple[int, int, int] = (0, 0, 0)) -> Floats:
    """Compute C + A B by the kernel, between guards that it must neither read nor write."""
    (m, k), n = a.shape, b.shape[1]
    left, right, out = Guarded(a, offsets[0], transposed), Guarded(b, offsets[1]), Guarded(c, offsets[2])
    product(left.flat, left.offset, *left.strides, right.flat, right.offset, m, n, k, out.flat, out.offset)
    assert out.guards_stand()
    np.testing.assert_array_equal(left.matrix, a)
    np.testing.assert_array_equal(right.matrix, b)
    return out.matrix.copy()


def matrices(rng: np.random.Generator, m: int, n: int, k: int, dtype: Any, integers: bool) -> list[Floats]:
    """Draw A, B and C."""
    shapes = [(m, k), (k, n), (m, n)]
    if integers:  # sums are exact in any order
        return [rng.integers(-9, 10, shape).astype(dtype) for shape in shapes]
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


@settings(deadline=None, max_examples=200)
@given(
    sizes, sizes, sizes, st.sampled_from(DTYPES), st.booleans(), st.tuples(*[st.integers(0, 70)] * 3),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_exact_on_integers(
    m: int, n: int, k: int, dtype: Any, transposed: bool, offsets: tuple[int, int, int], seed: int
) -> None:
    a, b, c = matrices(np.random.default_rng(seed), m, n, k, dtype, integers=True)
    np.testing.assert_array_equal(run(a, b, c, transposed, offsets), c + a @ b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_rest_of_a_tile(dtype: Any) -> None:
    """All m modulo the tile's rows, and all n modulo its columns."""
    rng = np.random.default_rng(0)
    width = 4 * VECTOR // np.dtype(dtype).itemsize
    for m in range(1, 2 * ROWS + 2):
        for n in range(1, width + VECTOR + 2):
            a, b, c = matrices(rng, m, n, 3, dtype, integers=True)
            np.testing.assert_array_equal(run(a, b, c, transposed=(m + n) % 2 == 1), c + a @ b)


@settings(deadline=None, max_examples=100)
@given(sizes, sizes, sizes, st.sampled_from(DTYPES), st.booleans(), st.integers(0, 2**32 - 1))
def test_close_to_numpy(m: int, n: int, k: int, dtype: Any, transposed: bool, seed: int) -> None:
    a, b, c = matrices(np.random.default_rng(seed), m, n, k, dtype, integers=False)
    wide = [matrix.astype(np.float64) for matrix in (a, b, c)]
    # a chain of k roundings, each of at most half a unit in the last place of the sum of magnitudes
    bound = (k + 2) * np.finfo(dtype).eps * (np.abs(wide[2]) + np.abs(wide[0]) @ np.abs(wide[1]))
    assert (np.abs(run(a, b, c, transposed) - (wide[2] + wide[0] @ wide[1])) <= bound).all()


def rounded(x: Fraction, bits: int) -> Fraction:
    """Round to a float of so many significant bits, ties to even."""
    if x == 0:
        return x
    exponent = abs(x).numerator.bit_length() - x.denominator.bit_length() - bits
    while abs(x) >= Fraction(2) ** (exponent + bits):
        exponent += 1
    unit = Fraction(2) ** exponent
    assert 2 ** (bits - 1) <= abs(x / unit) <= 2**bits
    return round(x / unit) * unit


def chain(a: Floats, b: Floats, c: Floats) -> Floats:
    """C + A B by one fused multiply-add after the other, each an exact fraction rounded once."""
    bits = np.finfo(c.dtype).nmant + 1
    out = c.copy()
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            total = Fraction(float(c[i, j]))
            for a_ik, b_kj in zip(a[i], b[:, j], strict=True):
                total = rounded(Fraction(float(a_ik)) * Fraction(float(b_kj)) + total, bits)
            out[i, j] = float(total)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 40), (3, 5, 7), (9, 2, 11), (2, 25, 6), (1, 3, DEPTH + 5)])
@pytest.mark.parametrize("transposed", [False, True])
def test_bits_are_those_of_a_chain_of_fused_multiply_adds(m: int, n: int, k: int, dtype: Any, transposed: bool) -> None:
    a, b, c = matrices(np.random.default_rng(m * n * k), m, n, k, dtype, integers=False)
    np.testing.assert_array_equal(run(a, b, c, transposed), chain(a, b, c))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fused_multiply_add_rounds_once(dtype: Any) -> None:
    """(1 + e)(1 - e) - 1 = -e**2, which a rounded product would lose."""
    e = dtype(2.0 ** -(np.finfo(dtype).nmant // 2 + 2))
    for m, n in ((1, 1), (ROWS, 64), (ROWS + 3, 67)):
        a, b, c = np.full((m, 1), 1 + e, dtype), np.full((1, n), 1 - e, dtype), np.full((m, n), -1, dtype)
        np.testing.assert_array_equal(run(a, b, c), np.full((m, n), -e * e, dtype))


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 2 * ROWS + 1), st.integers(1, 60), st.integers(1, 2 * DEPTH), st.sampled_from(DTYPES),
    st.integers(0, 2**32 - 1), st.data(),
)  # fmt: skip
def test_bits_of_an_element_depend_on_its_row_and_column_alone(
    m: int, n: int, k: int, dtype: Any, seed: int, data: st.DataObject
) -> None:
    """Wherever a tile begins or ends, and however A lies in memory: a part of the product has the same bits."""
    a, b, c = matrices(np.random.default_rng(seed), m, n, k, dtype, integers=False)
    whole = run(a, b, c)
    i, j = data.draw(st.integers(0, m - 1)), data.draw(st.integers(0, n - 1))
    np.testing.assert_array_equal(run(a[i:], b[:, j:], c[i:, j:], transposed=True), whole[i:, j:])
    np.testing.assert_array_equal(run(a[: i + 1], b[:, : j + 1], c[: i + 1, : j + 1]), whole[: i + 1, : j + 1])
    cut = data.draw(st.integers(0, k))
    np.testing.assert_array_equal(run(a[:, cut:], b[cut:], run(a[:, :cut], b[:cut], c)), whole)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_to_multiply(dtype: Any) -> None:
    c = np.arange(15, dtype=dtype).reshape(3, 5)
    np.testing.assert_array_equal(run(np.ones((3, 0), dtype), np.ones((0, 5), dtype), c), c)
    assert run(np.ones((0, 4), dtype), np.ones((4, 5), dtype), np.ones((0, 5), dtype)).shape == (0, 5)
    assert run(np.ones((3, 4), dtype), np.ones((4, 0), dtype), np.ones((3, 0), dtype)).shape == (3, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_come_through(dtype: Any) -> None:
    a, b, c = np.ones((3, 4), dtype), np.ones((4, 5), dtype), np.zeros((3, 5), dtype)
    a[1, 2], b[0, 3] = np.nan, np.inf
    out = run(a, b, c)
    assert np.isnan(out[1]).all()
    np.testing.assert_array_equal(out[[0, 2]], [[4, 4, 4, np.inf, 4]] * 2)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9), st.sampled_from(DTYPES))
def test_transpose(m: int, n: int, offset: int, dtype: Any) -> None:
    a = np.arange(m * n, dtype=dtype).reshape(m, n)
    guarded = Guarded(a, offset)
    b = np.full(m * n + 5, np.nan, dtype)
    transpose(guarded.flat, guarded.offset, m, n, b, 0)
    np.testing.assert_array_equal(b[: m * n].reshape(n, m), a.T)
    assert np.isnan(b[m * n :]).all()


@pytest.mark.parametrize(("m", "n"), [(512, 1), (512, 7), (512, 8), (1024, 9), (1024, 17), (511, 9), (513, 9)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose_of_long_columns(m: int, n: int, dtype: Any) -> None:
    a = np.random.default_rng(0).random((m, n)).astype(dtype)
    b = np.empty(m * n, dtype)
    transpose(a.ravel(), 0, m, n, b, 0)
    np.testing.assert_array_equal(b.reshape(n, m), a.T)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 2 * ROWS + 3), st.integers(1, 70), st.integers(1, 20), st.integers(0, 5), st.booleans(),
    st.sampled_from(DTYPES), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_products_subtracted_from_rows(m: int, n: int, k: int, first: int, drawn: bool, dtype: Any, seed: int) -> None:
    """As if each was made, and subtracted row by row: a row that comes twice is so in order."""
    rng = np.random.default_rng(seed)
    a, b, zeros = matrices(rng, m, n, k, dtype, integers=False)
    c, d, _ = matrices(rng, m, n, k, dtype, integers=False)
    rows = rng.integers(first + m, size=(2, first + m)) if drawn else np.empty((0, 0), np.int64)
    s = rng.normal(size=(first + m, n))
    zeros[:] = 0
    expected, terms = s.copy(), run(c, d, run(a, b, zeros))
    for i, row in enumerate(rows[1, first:] if drawn else range(first, first + m)):
        expected[row] -= terms[i]
    out = Guarded(s, 0)
    subtract_products(
        a.ravel(), 0, b.ravel(), 0, c.ravel(), 0, d.ravel(), 0, m, n, k, rows, int(drawn), first, out.flat
    )
    assert out.guards_stand()
    np.testing.assert_array_equal(out.matrix, expected)
