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

A tile of C, ROWS x COLUMNS vectors, stays in registers while k runs.  A is read element by element through its two
strides, so A^T needs no copy; B and C have rows of N contiguous elements.  All matrices are flat arrays with an offset.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types

from ._jit import kernel, primitive

_AVX512 = bool(llvm.get_host_cpu_features().get("avx512f"))

# Bytes of a vector, and the tile of C: ROWS x COLUMNS accumulators, COLUMNS vectors of B and one of A fit in the 32
# (else 16) registers.  Of 6x4, 8x3 and 12x2, measured on the products above, 8x3 was the fastest (float64: 75, 92, 91).
VECTOR = 64 if _AVX512 else 32
ROWS, COLUMNS = (8, 3) if _AVX512 else (4, 3)
# B is walked in slices of this many rows, which stay in the L1 cache between two tiles (64: 90, 128: 92, all: 89)
DEPTH = 128

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@kernel
def product(a, a0, a_row, a_column, b, b0, m, n, k, c, c0):
    """C (m, n) += A (m, k) B (k, n), with A_ij = a[a0 + i a_row + j a_column], B and C row-major from b0 and c0."""
    lanes = VECTOR // c.itemsize
    for k0 in range(0, k, DEPTH):
        depth = min(DEPTH, k - k0)
        a1, b1 = a0 + k0 * a_column, b0 + k0 * n
        j = 0
        while j + COLUMNS * lanes <= n:
            _wide_panel(a, a1, a_row, a_column, b, b1 + j, n, m, depth, c, c0 + j)
            j += COLUMNS * lanes
        while j < n:
            _narrow_panel(a, a1, a_row, a_column, b, b1 + j, n, m, depth, n - j, c, c0 + j)
            j += lanes


@kernel
def transpose(a, a0, m, n, b):
    """B (n, m) = A^T of A (m, n), row-major."""
    for i in range(m):
        for j in range(n):
            b[j * m + i] = a[a0 + i * n + j]


def _tile(rows: int, columns: int, masked: bool) -> Any:
    """C += A B on a tile of `rows` rows and `columns` vectors; with `masked`, only `width` elements of the last."""

    @primitive
    def tile(typingctx, a, a0, a_row, a_column, b, b0, n, depth, width, c, c0):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, a0, a_row, a_column, b, b0, n, depth, width, c, c0 = args

            def pointer(position: int, array: Any, offset: Any) -> Any:
                return builder.gep(context.make_array(signature.args[position])(context, builder, array).data, [offset])

            pa, pb, pc = pointer(0, a, a0), pointer(4, b, b0), pointer(9, c, c0)
            vectors = _Vectors(builder, context.get_value_type(signature.args[0].dtype), width if masked else None)
            accumulators = []
            for r in range(rows):
                for j in range(columns):
                    at = builder.add(builder.mul(_I64(r), n), _I64(j * vectors.lanes))
                    slot = cgutils.alloca_once_value(builder, vectors.load(pc, at))  # LLVM makes it a register
                    accumulators.append((r, j, at, slot))
            with _each(builder, depth) as k:
                b_k = [
                    vectors.load(pb, builder.add(builder.mul(k, n), _I64(j * vectors.lanes))) for j in range(columns)
                ]
                a_k = [
                    vectors.splat(pa, builder.add(builder.mul(k, a_column), builder.mul(_I64(r), a_row)))
                    for r in range(rows)
                ]
                for r, j, _, slot in accumulators:
                    builder.store(vectors.fma(a_k[r], b_k[j], builder.load(slot)), slot)
            for _, _, at, slot in accumulators:
                vectors.store(builder.load(slot), pc, at)
            return context.get_dummy_value()

        integers = [types.intp] * 3
        return types.void(a, *integers, b, *integers, types.intp, c, types.intp), codegen

    return tile


@contextmanager
def _each(builder: Any, count: Any) -> Iterator[Any]:
    with cgutils.for_range(builder, count, intp=_I64) as loop:
        yield loop.index


class _Vectors:
    """The instructions of a tile on vectors of `VECTOR` bytes, of which `width` elements are touched if it is given."""

    def __init__(self, builder: Any, element: Any, width: Any) -> None:
        self.builder = builder
        self.bytes = 8 if isinstance(element, ir.DoubleType) else 4
        self.lanes = VECTOR // self.bytes
        self.type = ir.VectorType(element, self.lanes)
        self.mask = None
        if width is not None:
            numbers = ir.VectorType(_I64, self.lanes)
            widths = self._broadcast(width, numbers)
            self.mask = builder.icmp_signed("<", ir.Constant(numbers, list(range(self.lanes))), widths)

    def load(self, base: Any, at: Any) -> Any:
        address = self._address(base, at)
        if self.mask is not None:
            return self._call(
                "masked.load", self.type, address, _I32(self.bytes), self.mask, ir.Constant(self.type, None)
            )
        value = self.builder.load(address)
        value.align = self.bytes
        return value

    def store(self, value: Any, base: Any, at: Any) -> None:
        address = self._address(base, at)
        if self.mask is not None:
            self._call("masked.store", ir.VoidType(), value, address, _I32(self.bytes), self.mask)
        else:
            self.builder.store(value, address).align = self.bytes

    def splat(self, base: Any, at: Any) -> Any:
        return self._broadcast(self.builder.load(self.builder.gep(base, [at])), self.type)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self._call("fma", self.type, a, b, c)

    def _broadcast(self, scalar: Any, vector: Any) -> Any:
        empty = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(empty, scalar, _I32(0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes))

    def _address(self, base: Any, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(base, [at]), self.type.as_pointer())

    def _call(self, name: str, returns: Any, *args: Any) -> Any:
        suffix = f"v{self.lanes}f{8 * self.bytes}" + (".p0" if name.startswith("masked") else "")
        signature = ir.FunctionType(returns, [arg.type for arg in args])
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.{name}.{suffix}")
        return self.builder.call(function, args)


_wide, _wide_pair, _wide_row = (_tile(rows, COLUMNS, masked=False) for rows in (ROWS, 2, 1))
_narrow, _narrow_pair, _narrow_row = (_tile(rows, 1, masked=True) for rows in (ROWS, 2, 1))


@kernel
def _wide_panel(a, a0, a_row, a_column, b, b0, n, m, depth, c, c0):
    """COLUMNS whole vectors of every row of C."""
    i = 0
    while i + ROWS <= m:
        _wide(a, a0 + i * a_row, a_row, a_column, b, b0, n, depth, 0, c, c0 + i * n)
        i += ROWS
    while i + 2 <= m:
        _wide_pair(a, a0 + i * a_row, a_row, a_column, b, b0, n, depth, 0, c, c0 + i * n)
        i += 2
    if i < m:
        _wide_row(a, a0 + i * a_row, a_row, a_column, b, b0, n, depth, 0, c, c0 + i * n)


@kernel
def _narrow_panel(a, a0, a_row, a_column, b, b0, n, m, depth, width, c, c0):
    """One vector of every row of C, or its first `width` elements if that is less."""
    i = 0
    while i + ROWS <= m:
        _narrow(a, a0 + i * a_row, a_row, a_column, b, b0, n, depth, width, c, c0 + i * n)
        i += ROWS
    while i + 2 <= m:
        _narrow_pair(a, a0 + i * a_row, a_row, a_column, b, b0, n, depth, width, c, c0 + i * n)
        i += 2
    if i < m:
        _narrow_row(a, a0 + i * a_row, a_row, a_column, b, b0, n, depth, width, c, c0 + i * n)
