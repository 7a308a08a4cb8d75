"""LLVM's vector instructions, for the two loops that the optimiser does not turn into them by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils

AVX512 = bool(llvm.get_host_cpu_features().get("avx512f"))
VECTOR = 64 if AVX512 else 32  # bytes
L1, L2 = 3, 2  # localities of LLVM's prefetch

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@contextmanager
def each(builder: Any, count: Any) -> Iterator[Any]:
    """A loop over 0 <= i < count."""
    with cgutils.for_range(builder, count, intp=_I64) as loop:
        yield loop.index


def fetch(builder: Any, base: Any, at: Any, near: int) -> None:
    """Ask for the cache line with an element, into the cache `L1` or `L2`; it need not exist."""
    pointer, number = ir.IntType(8).as_pointer(), _I32
    signature = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
    where = builder.bitcast(builder.gep(base, [at]), pointer)
    builder.call(function, [where, number(0), number(near), number(1)])  # to read; data


class Vectors:
    """Instructions on vectors of `lanes` elements, of which a masked one touches the first `width`."""

    def __init__(self, builder: Any, element: Any, lanes: int, width: Any) -> None:
        self.builder = builder
        self.lanes = lanes
        self.type = ir.VectorType(element, lanes)
        self._bytes = 8 if isinstance(element, ir.DoubleType) else 4
        numbers = ir.VectorType(_I64, lanes)
        widths = self._broadcast(width, numbers)
        self._mask = builder.icmp_signed("<", ir.Constant(numbers, list(range(lanes))), widths)

    def load(self, base: Any, at: Any, masked: bool) -> Any:
        address = self._address(base, at)
        if masked:
            zeros = ir.Constant(self.type, None)
            return self._call("masked.load", self.type, address, _I32(self._bytes), self._mask, zeros)
        value = self.builder.load(address)
        value.align = self._bytes
        return value

    def store(self, value: Any, base: Any, at: Any, masked: bool) -> None:
        address = self._address(base, at)
        if masked:
            self._call("masked.store", ir.VoidType(), value, address, _I32(self._bytes), self._mask)
        else:
            self.builder.store(value, address).align = self._bytes

    def splat(self, base: Any, at: Any) -> Any:
        return self._broadcast(self.builder.load(self.builder.gep(base, [at])), self.type)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self._call("fma", self.type, a, b, c)

    def swap(self, a: Any, b: Any, half: int) -> tuple[Any, Any]:
        """Lanes of a with the bit `half` in their number, and the lanes of b without it, in each other's place."""
        lanes = range(self.lanes)
        takes = [lane if not lane & half else self.lanes + lane - half for lane in lanes]
        leaves = [lane + half if not lane & half else self.lanes + lane for lane in lanes]
        return self._choose(a, b, takes), self._choose(a, b, leaves)

    def _choose(self, a: Any, b: Any, lanes: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, self.lanes), lanes))

    def _broadcast(self, scalar: Any, vector: Any) -> Any:
        empty = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(empty, scalar, _I32(0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes))

    def _address(self, base: Any, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(base, [at]), self.type.as_pointer())

    def _call(self, name: str, returns: Any, *args: Any) -> Any:
        suffix = f"v{self.lanes}f{8 * self._bytes}" + (".p0" if name.startswith("masked") else "")
        signature = ir.FunctionType(returns, [arg.type for arg in args])
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.{name}.{suffix}")
        return self.builder.call(function, args)
