"""Matrix products C += A B, register-blocked by hand.

Every element of C is one chain of fused multiply-adds over k in ascending order,

    c_ij <- fma(a_ik, b_kj, c_ij),   k = 0, 1, ...

so its bits depend on nothing but that formula: not on tiling, vector width, alignment, thread count or machine.  BLAS
promises none of this.  Nor would it be faster at the sizes of this library (GFLOP/s, float64, one core of a Zen 5,
bench/test_products.py measures them again):

    | (M, K, N)       | this | OpenBLAS, AVX-512 | OpenBLAS, AVX2 |
    | 200, 784, 50    |   92 |                60 |             45 |
    | 784, 200, 50    |   91 |                60 |             45 |
    | 200, 50, 50     |   90 |                83 |             40 |
    | 50, 64, 32      |  109 |                72 |             32 |

A tile of C, ROWS x COLUMNS vectors, stays in registers while k runs.  A is read element by element through its two
strides, so A^T needs no copy; B and C have rows of N contiguous elements.  All matrices are flat arrays with an offset,
below the first call plain addresses: an array is seven words as an argument, a tenth to a quarter of the time of W3's
products (`python -m bench.choices addresses`).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from .jit import inlined, kernel, primitive
from .primitives import address, after
from .vectors import AVX512, L1, L2, VECTOR, Vectors, each, fetch

# A tile of C: ROWS x COLUMNS accumulators, COLUMNS vectors of B and one of A fit in the 32 (else 16) registers.  8x3 is
# faster than 6x4 and 12x2 (200, 784, 50: 92, 75, 91), on a Zen 3, without AVX-512, 4x3 than 2x4 and 6x2 (40, 29, 38),
# measured by `python -m bench.choices tiles`.  Narrower panels have 2 vectors or 1; 4 are 2 and 2, faster than 3 and 1
# (50, 64, 32: 109 and 90; `python -m bench.choices panels`).  The last vector of those is half a vector where that is
# enough: 32 bytes take half the time of 64 on a Zen 4 (200, 784, 50: 49 and 52, with 10: 35 and 42; `python -m
# bench.choices halves`).
ROWS, COLUMNS = 8 if AVX512 else 4, 3
# B is walked in slices of this many rows, which stay in the L1 cache between two tiles (64: 90, 128: 92, all: 89;
# `python -m bench.choices depth`)
DEPTH = 128
# A processor fetches ahead along a row, not from one to the next: where matrices lie beyond its caches a product waits
# for each row of B and C, unless the tiles before have asked for it (64, 995, 995 from memory: 54, else 40, in float32
# 106 and 79; `python -m bench.choices ahead`).  A copy of each panel of B, whose rows then lie close, costs 5 % and
# gains nothing.
NEAR = 2**15  # elements of C that are taken to be in the cache
SQUARE = VECTOR // 8  # a transpose goes by squares of so many rows and columns

_I64 = ir.IntType(64)


@inlined
def product(a, a0, a_row, a_column, b, b0, m, n, k, c, c0):
    """C (m, n) += A (m, k) B (k, n), with A_ij = a[a0 + i a_row + j a_column], B and C row-major from b0 and c0."""
    if n == 1 and a_row == 1 and a_column == m:
        # C^T += B^T A^T, whose rows fill vectors: 64, 64, 1 takes 0.2 us, not 1.1, in float32 0.14
        _product(address(b, b0), a_row, a_row, address(a, a0), n, m, k, address(c, c0))
    else:
        _product(address(a, a0), a_row, a_column, address(b, b0), m, n, k, address(c, c0))


@kernel
def _product(a, a_row, a_column, b, m, n, k, c):
    count = lanes(c)
    for k0 in range(0, k, DEPTH):
        depth = min(DEPTH, k - k0)
        a1, b1 = after(a, k0 * a_column), after(b, k0 * n)
        j = 0
        while j < n:
            vectors = (n - j + count - 1) // count
            columns = min(vectors, 2 if vectors == COLUMNS + 1 else COLUMNS)
            width = min(count, n - j - (columns - 1) * count)
            if columns == COLUMNS:
                _full_panel(a1, a_row, a_column, after(b1, j), n, m, depth, width, after(c, j))
            elif columns == 2 and 2 * width > count:
                _panel_of_2(a1, a_row, a_column, after(b1, j), n, m, depth, width, after(c, j))
            elif columns == 2:
                _panel_of_1_and_half(a1, a_row, a_column, after(b1, j), n, m, depth, width, after(c, j))
            elif 2 * width > count:
                _panel_of_1(a1, a_row, a_column, after(b1, j), n, m, depth, width, after(c, j))
            else:
                _panel_of_half(a1, a_row, a_column, after(b1, j), n, m, depth, width, after(c, j))
            j += columns * count


@primitive
def lanes(typingctx: Any, pointer: Any) -> Any:
    """Elements of a vector."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _I64(VECTOR // context.get_abi_sizeof(args[0].type.pointee))

    return types.intp(pointer), codegen


@kernel
def transpose(a, a0, m, n, b, b0):
    """B (n, m) = A^T of A (m, n), row-major."""
    if m < SQUARE or n < SQUARE:
        for i in range(m):
            for j in range(n):
                b[b0 + j * m + i] = a[a0 + i * n + j]
        return
    # The last squares of a row or column overlap those before.  Element by element it takes 3 to 8 times as long
    # (`python -m bench.choices transpose`)
    for i0 in range(0, m, SQUARE):
        i = min(i0, m - SQUARE)
        for j0 in range(0, n, SQUARE):
            j = min(j0, n - SQUARE)
            _turn_square(address(a, a0 + i * n + j), n, address(b, b0 + j * m + i), m)


@primitive
def _turn_square(typingctx: Any, a: Any, n: Any, b: Any, m: Any) -> Any:
    """B = A^T for squares that lie in rows of n and m elements, in registers: halves of rows change places."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, n, b, m = args
        square = Vectors(builder, a.type.pointee, SQUARE, _I64(SQUARE))
        rows = [square.load(a, builder.mul(_I64(i), n), False) for i in range(SQUARE)]
        half = SQUARE // 2
        while half:
            for i in range(SQUARE):
                if not i & half:
                    rows[i], rows[i + half] = square.swap(rows[i], rows[i + half], half)
            half //= 2
        for j, column in enumerate(rows):
            square.store(column, b, builder.mul(_I64(j), m), False)
        return context.get_dummy_value()

    return types.void(a, types.intp, b, types.intp), codegen


@primitive
def _fetch_tile(typingctx: Any, c: Any, n: Any) -> Any:
    """Bring the tile of C from there on into the L2 cache."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        c, n = args
        count = VECTOR // context.get_abi_sizeof(c.type.pointee)
        for r in range(ROWS):
            for j in range(COLUMNS + 1):  # of which one is for vectors that do not begin with a line
                fetch(builder, c, builder.add(builder.mul(_I64(r), n), _I64(j * count)), L2)
        return context.get_dummy_value()

    return types.void(c, types.intp), codegen


def _tile(rows: int, columns: int, half: bool) -> Any:
    """C += A B on a tile of `rows` rows and `columns` vectors, of the last of which `width` elements count.

    A tile of full size brings what lies `ahead`, a line of each row of B, into the cache.
    """
    full = rows == ROWS and columns == COLUMNS

    @primitive
    def tile(typingctx, a, a_row, a_column, b, n, depth, width, c, ahead):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, a_row, a_column, b, n, depth, width, c, ahead = args
            element = a.type.pointee
            count = VECTOR // context.get_abi_sizeof(element)
            vectors = [Vectors(builder, element, count, _I64(count)) for _ in range(columns - 1)]
            vectors.append(Vectors(builder, element, count // 2 if half else count, width))
            accumulators = []
            for r in range(rows):
                for j, vector in enumerate(vectors):
                    at = builder.add(builder.mul(_I64(r), n), _I64(j * count))
                    slot = cgutils.alloca_once_value(builder, vector.load(c, at, j == columns - 1))
                    accumulators.append((r, j, at, slot))  # which LLVM keeps in a register
            with each(builder, depth) as k:
                if full:
                    fetch(builder, ahead, builder.mul(k, n), L1)
                b_k = [
                    vector.load(b, builder.add(builder.mul(k, n), _I64(j * count)), j == columns - 1)
                    for j, vector in enumerate(vectors)
                ]
                for r, j, _, slot in accumulators:
                    a_k = vectors[j].splat(a, builder.add(builder.mul(k, a_column), builder.mul(_I64(r), a_row)))
                    builder.store(vectors[j].fma(a_k, b_k[j], builder.load(slot)), slot)
            for _, j, at, slot in accumulators:
                vectors[j].store(builder.load(slot), c, at, j == columns - 1)
            return context.get_dummy_value()

        size = types.intp
        return types.void(a, size, size, b, size, size, size, c, b), codegen

    return tile


def _panel(name: str, columns: int, half: bool = False) -> Any:
    """A kernel for `columns` vectors of every row of C, of the last of which `width` elements count."""
    tile, pair, row = (_tile(rows, columns, half) for rows in (ROWS, 2, 1))

    def panel(a, a_row, a_column, b, n, m, depth, width, c):
        i, far, ahead = 0, columns == COLUMNS and m * n > NEAR, after(b, columns * lanes(c))
        while i + ROWS <= m:
            if far:
                _fetch_tile(after(c, (i + ROWS) * n), n)
            tile(after(a, i * a_row), a_row, a_column, b, n, depth, width, after(c, i * n), ahead)
            i += ROWS
            if i <= columns * ROWS:
                ahead = after(ahead, lanes(c))
        while i + 2 <= m:
            pair(after(a, i * a_row), a_row, a_column, b, n, depth, width, after(c, i * n), ahead)
            i += 2
        if i < m:
            row(after(a, i * a_row), a_row, a_column, b, n, depth, width, after(c, i * n), ahead)

    panel.__name__ = panel.__qualname__ = name  # a kernel is known by its name
    return kernel(panel)


_full_panel = _panel("_full_panel", COLUMNS)
_panel_of_2, _panel_of_1_and_half = _panel("_panel_of_2", 2), _panel("_panel_of_1_and_half", 2, half=True)
_panel_of_1, _panel_of_half = _panel("_panel_of_1", 1), _panel("_panel_of_half", 1, half=True)
