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
    | 50, 64, 32      |   78 |                72 |             32 |

A tile of C, ROWS x 3 vectors, stays in registers while k runs.  A is read element by element through its two
strides, so A^T needs no copy; B and C have rows of N contiguous elements.  All matrices are flat arrays with an offset.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from ._jit import kernel, primitive
from .vectors import AVX512, VECTOR, Vectors, each

# A tile of C: ROWS x 3 accumulators, 3 vectors of B and one of A fit in the 32 (else 16) registers.  Of 6x4, 8x3 and
# 12x2, measured on the products above, 8x3 was the fastest (float64: 75, 92, 91).  Narrower panels have 2 vectors or 1;
# 4 are 2 and 2, which is faster than 3 and 1 (50, 64, 32: 109 and 90).
ROWS = 8 if AVX512 else 4
# B is walked in slices of this many rows, which stay in the L1 cache between two tiles (64: 90, 128: 92, all: 89)
DEPTH = 128

_I64 = ir.IntType(64)


@kernel
def product(a, a0, a_row, a_column, b, b0, m, n, k, c, c0):
    """C (m, n) += A (m, k) B (k, n), with A_ij = a[a0 + i a_row + j a_column], B and C row-major from b0 and c0."""
    lanes = VECTOR // c.itemsize
    for k0 in range(0, k, DEPTH):
        depth = min(DEPTH, k - k0)
        a1, b1 = a0 + k0 * a_column, b0 + k0 * n
        j = 0
        while j < n:
            vectors = (n - j + lanes - 1) // lanes
            if vectors == 1:
                _panel_of_1(a, a1, a_row, a_column, b, b1 + j, n, m, depth, n - j, c, c0 + j)
                j += lanes
            elif vectors == 2 or vectors == 4:
                _panel_of_2(a, a1, a_row, a_column, b, b1 + j, n, m, depth, min(lanes, n - j - lanes), c, c0 + j)
                j += 2 * lanes
            else:
                _panel_of_3(a, a1, a_row, a_column, b, b1 + j, n, m, depth, min(lanes, n - j - 2 * lanes), c, c0 + j)
                j += 3 * lanes


@kernel
def transpose(a, a0, m, n, b):
    """B (n, m) = A^T of A (m, n), row-major."""
    for i in range(m):
        for j in range(n):
            b[j * m + i] = a[a0 + i * n + j]


def _tile(rows: int, columns: int) -> Any:
    """C += A B on a tile of `rows` rows and `columns` vectors, of the last of which `width` elements count."""

    @primitive
    def tile(typingctx, a, a0, a_row, a_column, b, b0, n, depth, width, c, c0):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, a0, a_row, a_column, b, b0, n, depth, width, c, c0 = args

            pa, pb, pc = (
                builder.gep(context.make_array(signature.args[i])(context, builder, array).data, [offset])
                for i, array, offset in ((0, a, a0), (4, b, b0), (9, c, c0))
            )
            element = context.get_value_type(signature.args[0].dtype)
            vectors = Vectors(builder, element, VECTOR // context.get_abi_sizeof(element), width)
            accumulators = []
            for r in range(rows):
                for j in range(columns):
                    at = builder.add(builder.mul(_I64(r), n), _I64(j * vectors.lanes))
                    slot = cgutils.alloca_once_value(builder, vectors.load(pc, at, j == columns - 1))
                    accumulators.append((r, j, at, slot))  # which LLVM keeps in a register
            with each(builder, depth) as k:
                b_k = [
                    vectors.load(pb, builder.add(builder.mul(k, n), _I64(j * vectors.lanes)), j == columns - 1)
                    for j in range(columns)
                ]
                a_k = [
                    vectors.splat(pa, builder.add(builder.mul(k, a_column), builder.mul(_I64(r), a_row)))
                    for r in range(rows)
                ]
                for r, j, _, slot in accumulators:
                    builder.store(vectors.fma(a_k[r], b_k[j], builder.load(slot)), slot)
            for _, j, at, slot in accumulators:
                vectors.store(builder.load(slot), pc, at, j == columns - 1)
            return context.get_dummy_value()

        integers = [types.intp] * 3
        return types.void(a, *integers, b, *integers, types.intp, c, types.intp), codegen

    return tile


def _panel(columns: int) -> Any:
    """A kernel for `columns` vectors of every row of C, of the last of which `width` elements count."""
    tile, pair, row = (_tile(rows, columns) for rows in (ROWS, 2, 1))

    def panel(a, a0, a_row, a_column, b, b0, n, m, depth, width, c, c0):
        i = 0
        while i + ROWS <= m:
            tile(a, a0 + i * a_row, a_row, a_column, b, b0, n, depth, width, c, c0 + i * n)
            i += ROWS
        while i + 2 <= m:
            pair(a, a0 + i * a_row, a_row, a_column, b, b0, n, depth, width, c, c0 + i * n)
            i += 2
        if i < m:
            row(a, a0 + i * a_row, a_row, a_column, b, b0, n, depth, width, c, c0 + i * n)

    return kernel(panel)


_panel_of_1, _panel_of_2, _panel_of_3 = (_panel(columns) for columns in (1, 2, 3))
