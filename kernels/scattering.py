"""The sum of two products, subtracted from rows of a float64 matrix that lie anywhere.

    S[row_i] -= float64(A_i B + C_i D),   i = 0, 1, ...

Every element of A B + C D is one chain of fused multiply-adds from 0 on, first those of A B (products.py), and never
leaves its register: as products into an array, which is then subtracted row by row, 250 rows of 784 with 10 terms each
took 1.6 times as long, in float32 1.3 (`python -m bench.choices scatter`).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from .jit import inlined, kernel, primitive
from .primitives import address, after
from .products import ROWS, lanes
from .vectors import VECTOR, Vectors, each

_I64, _DOUBLE = ir.IntType(64), ir.DoubleType()


@inlined
def subtract_products(a, a0, b, b0, c, c0, d, d0, m, n, k, rows, t, first, s):
    """S[rows[t, first + i]] -= A_i B + C_i D for A, C (m, k) and B, D (k, n), all row-major from their offsets on.

    Without `rows` it is row first + i.  A row that comes twice is subtracted from in order.
    """
    drawn = rows.size > 0
    places = address(rows, t * rows.shape[1] + first)
    _subtract(
        address(a, a0), address(b, b0), address(c, c0), address(d, d0), m, n, k, drawn, places, first, address(s, 0)
    )


def _tile(rows: int, columns: int) -> Any:
    """The same for so many rows and vectors: 3 whole ones, or one of `width` elements."""

    @primitive
    def tile(typingctx, a, b, c, d, n, k, width, drawn, places, first, s):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, b, c, d, n, k, width, drawn, places, first, s = args
            element = a.type.pointee
            count = VECTOR // context.get_abi_sizeof(element)
            vector, doubles = (Vectors(builder, kind, count, width) for kind in (element, _DOUBLE))
            masked = columns == 1
            zero = ir.Constant(vector.type, None)
            slots = [[cgutils.alloca_once_value(builder, zero) for _ in range(columns)] for _ in range(rows)]
            starts = [builder.gep(s, [builder.mul(_row(builder, drawn, places, first, r), n)]) for r in range(rows)]
            for left, right in ((a, b), (c, d)):
                with each(builder, k) as p:
                    row = [
                        vector.load(right, builder.add(builder.mul(p, n), _I64(j * count)), masked)
                        for j in range(columns)
                    ]
                    for r in range(rows):
                        left_p = vector.splat(left, builder.add(p, builder.mul(_I64(r), k)))
                        for slot, right_p in zip(slots[r], row, strict=True):
                            builder.store(vector.fma(left_p, right_p, builder.load(slot)), slot)
            for start, sums in zip(starts, slots, strict=True):
                for j, slot in enumerate(sums):
                    value = builder.load(slot)
                    wide = value if vector.type == doubles.type else builder.fpext(value, doubles.type)
                    at = _I64(j * count)
                    doubles.store(builder.fsub(doubles.load(start, at, masked), wide), start, at, masked)
            return context.get_dummy_value()

        size = types.intp
        return types.void(a, b, c, d, size, size, size, types.boolean, places, size, s), codegen

    return tile


def _row(builder: Any, drawn: Any, places: Any, first: Any, r: int) -> Any:
    """Which row of S it is."""
    row = cgutils.alloca_once_value(builder, builder.add(first, _I64(r)))
    with builder.if_then(drawn):
        builder.store(builder.load(builder.gep(places, [_I64(r)])), row)
    return builder.load(row)


_tile_of_rows, _tile_of_2, _tile_of_1 = _tile(ROWS, 3), _tile(2, 3), _tile(1, 3)
_narrow_of_rows, _narrow_of_1 = _tile(ROWS, 1), _tile(1, 1)


@kernel
def _subtract(a, b, c, d, m, n, k, drawn, places, first, s):
    # Along the rows of S, which come from memory, where B and D come from the L2 cache: down its columns, 250 rows of
    # 5,000 took 305 us, not 198
    vector, i = lanes(a), 0
    while i < m:
        a_i, c_i, places_i, row = after(a, i * k), after(c, i * k), after(places, i), first + i
        tall = ROWS if m - i >= ROWS else min(2, m - i)
        j = 0
        while j + 3 * vector <= n:
            b_j, d_j, s_j = after(b, j), after(d, j), after(s, j)
            if tall == ROWS:
                _tile_of_rows(a_i, b_j, c_i, d_j, n, k, n - j, drawn, places_i, row, s_j)
            elif tall == 2:
                _tile_of_2(a_i, b_j, c_i, d_j, n, k, n - j, drawn, places_i, row, s_j)
            else:
                _tile_of_1(a_i, b_j, c_i, d_j, n, k, n - j, drawn, places_i, row, s_j)
            j += 3 * vector
        while j < n:
            b_j, d_j, s_j = after(b, j), after(d, j), after(s, j)
            if tall == ROWS:
                _narrow_of_rows(a_i, b_j, c_i, d_j, n, k, n - j, drawn, places_i, row, s_j)
            else:
                for r in range(tall):
                    a_r, c_r, places_r = after(a_i, r * k), after(c_i, r * k), after(places_i, r)
                    _narrow_of_1(a_r, b_j, c_r, d_j, n, k, n - j, drawn, places_r, row + r, s_j)
            j += vector
        i += tall
