"""Single instructions that Numba does not offer by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from .jit import primitive

# Zero and one as arguments of kernels: Numba compiles a kernel once more for every pattern of literal arguments
ZERO, ONE = np.int64(0), np.int64(1)

_FLOAT_BITS = {types.float64: (64, 52, 1023), types.float32: (32, 23, 127)}  # width, fraction bits, exponent bias


@primitive
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` rounded once, whatever the optimiser does with the code around it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return c(c, c, c), codegen


@primitive
def wrapping_add(typingctx: Any, a: Any, b: Any) -> Any:
    """``a + b`` modulo 2**64.  Numba's own `+` promises LLVM that it never overflows, and LLVM builds on that."""
    return types.int64(types.int64, types.int64), _build("add")


@primitive
def wrapping_sub(typingctx: Any, a: Any, b: Any) -> Any:
    """``a - b`` modulo 2**64."""
    return types.int64(types.int64, types.int64), _build("sub")


@primitive
def wrapping_mul(typingctx: Any, a: Any, b: Any) -> Any:
    """``a * b`` modulo 2**64."""
    return types.int64(types.int64, types.int64), _build("mul")


@primitive
def shift_right(typingctx: Any, a: Any, count: Any) -> Any:
    """``a >> count`` with zeros coming in from the left: Numba's own `>>` brings in the sign."""
    return types.int64(types.int64, types.int64), _build("lshr")


def _build(instruction: str) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)

    return codegen


@primitive
def rint(typingctx: Any, x: Any) -> Any:
    """`x` rounded to the nearest integer, ties to even, still a float."""
    return x(x), _call_llvm("llvm.rint")


@primitive
def floor(typingctx: Any, x: Any) -> Any:
    """`x` rounded down to an integer, still a float."""
    return x(x), _call_llvm("llvm.floor")


def _call_llvm(name: str) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic(name, [args[0].type]), args)

    return codegen


@primitive
def like(typingctx: Any, x: Any, value: Any) -> Any:
    """The constant `value` in the type of `x`: a bare literal would pull float32 arithmetic up to float64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.cast(builder, args[1], signature.args[1], signature.return_type)

    return x(x, value), codegen


@primitive
def by_precision(typingctx: Any, x: Any, double: Any, single: Any) -> Any:
    """The constant `double` where `x` is float64, `single` where it is float32, in the type of `x`."""
    chosen = 1 if x == types.float64 else 2

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.cast(builder, args[chosen], signature.args[chosen], signature.return_type)

    return x(x, double, single), codegen


@primitive
def power_of_two(typingctx: Any, k: Any) -> Any:
    """``2**k`` for an integer-valued float `k` of normal range: the exponent field is written directly.

    Adding 1.5 * 2**fraction_bits leaves `k` in the low bits of the float, which vectorises on machines that have no
    conversion from float to int64.
    """
    width, fraction_bits, bias = _FLOAT_BITS[k]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer = ir.IntType(width)
        shifted = builder.fadd(args[0], ir.Constant(args[0].type, 1.5 * 2.0**fraction_bits))
        exponent = builder.add(builder.bitcast(shifted, integer), integer(bias))
        return builder.bitcast(builder.shl(exponent, integer(fraction_bits)), args[0].type)

    return k(k), codegen


@primitive
def bits(typingctx: Any, x: Any) -> Any:
    """The bits of a number of any type, as an int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer = ir.IntType(signature.args[0].bitwidth)
        return builder.zext(builder.bitcast(args[0], integer), ir.IntType(64))

    return types.int64(x), codegen


@primitive
def word(typingctx: Any, array: Any, i: Any) -> Any:
    """The 64 bits of an array's memory from byte 8 i on, as an int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        loaded = builder.load(builder.gep(builder.bitcast(data, ir.IntType(64).as_pointer()), [args[1]]))
        loaded.align = context.get_abi_sizeof(data.type.pointee)
        return loaded

    return types.int64(array, types.intp), codegen


@primitive
def cycles(typingctx: Any) -> Any:
    """A clock of the processor that anybody may read: 0 for ever where there is none."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function_type = ir.FunctionType(ir.IntType(64), [])
        clock = cgutils.get_or_insert_function(builder.module, function_type, "llvm.readcyclecounter")
        return builder.call(clock, [])

    return types.int64(), codegen


@primitive
def copy_elements(typingctx: Any, source: Any, source0: Any, out: Any, out0: Any, count: Any) -> Any:
    """``out[out0 : out0 + count] = source[source0 : source0 + count]`` for arrays of one dtype, as one memcpy.

    Numba's assignment between slices compiles for 0.3 s (`python -m bench.choices slices`), and a loop over two slices
    takes two to four times as long as this for the short rows of a batch (`python -m bench.choices copy`).
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, source0, out, out0, count = args
        source_data = context.make_array(signature.args[0])(context, builder, source).data
        out_data = context.make_array(signature.args[2])(context, builder, out).data
        size = context.get_abi_sizeof(out_data.type.pointee)
        cgutils.raw_memcpy(builder, builder.gep(out_data, [out0]), builder.gep(source_data, [source0]), count, size)
        return context.get_dummy_value()

    return types.void(source, types.intp, out, types.intp, types.intp), codegen


@primitive
def address(typingctx: Any, array: Any, i: Any) -> Any:
    """Where an element of an array lies, as a pointer."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])

    return types.CPointer(array.dtype)(array, types.intp), codegen


@primitive
def after(typingctx: Any, pointer: Any, count: Any) -> Any:
    """The pointer `count` elements further."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.intp), codegen
