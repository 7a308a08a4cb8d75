"""Comparisons of neighbouring elements at once, a bit for each: LLVM makes one after the other of such a loop.

Looking for the rare spill so takes 0.1 ns an element, where a loop that ors the comparisons took 1.1, most of a
multiplication (`python -m bench.choices lanes`, which compares groups of other sizes).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from .jit import primitive

LANES = 16

_DOUBLES, _BITS = ir.VectorType(ir.DoubleType(), LANES), ir.IntType(LANES)
_I32, _I64 = ir.IntType(32), ir.IntType(64)


@primitive
def lanes_above(typingctx: Any, k: Any, first: Any, d: Any, bound: Any) -> Any:
    """Bits of the `LANES` elements from `first` on where k d + d, rounded once, is above; d for all or (P,)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        k, d = (_vector(context, builder, signature.args[i], args[i], args[1]) for i in (0, 2))
        return _mask(builder, ">", _fma(builder, k, d, d), _same(builder, args[3]))

    return types.int64(k, types.intp, d, types.float64), codegen


@primitive
def lanes_up_to(typingctx: Any, k: Any, first: Any, n: Any, bound: Any) -> Any:
    """Bits of the `LANES` elements from `first` on where k n is not above the bound; n for all or (P,)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        k, n = (_vector(context, builder, signature.args[i], args[i], args[1]) for i in (0, 2))
        return _mask(builder, "<=", builder.fmul(k, n), _same(builder, args[3]))

    return types.int64(k, types.intp, n, types.float64), codegen


@primitive
def lowest(typingctx: Any, lanes: Any) -> Any:
    """The position of the lowest bit of some."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


@primitive
def highest(typingctx: Any, lanes: Any) -> Any:
    """The position of the highest bit of some."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sub(_I64(63), builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1)))

    return types.int64(types.int64), codegen


def _vector(context: Any, builder: Any, kind: Any, value: Any, first: Any) -> Any:
    """The elements of an array from `first` on, or a number for all of them, as float64."""
    if not isinstance(kind, types.Array):
        return _same(builder, builder.sitofp(value, ir.DoubleType()))
    data = builder.gep(context.make_array(kind)(context, builder, value).data, [first])
    vector = ir.VectorType(data.type.pointee, LANES)
    loaded = builder.load(builder.bitcast(data, vector.as_pointer()))
    loaded.align = 8
    return loaded if kind.dtype == types.float64 else builder.sitofp(loaded, _DOUBLES)


def _same(builder: Any, number: Any) -> Any:
    empty = ir.Constant(_DOUBLES, ir.Undefined)
    first = builder.insert_element(empty, number, _I32(0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    kind = ir.FunctionType(_DOUBLES, [_DOUBLES] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f64"), [a, b, c])


def _mask(builder: Any, comparison: str, a: Any, b: Any) -> Any:
    return builder.zext(builder.bitcast(builder.fcmp_ordered(comparison, a, b), _BITS), _I64)
