"""The inner product, in float64 and in one fixed order."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from .jit import kernel, primitive
from .vectors import VECTOR, Vectors, each

# Chains of fused multiply-adds, element p on chain p mod 32, that are then added in halves.  One running sum would wait
# for each addition before the next: 1 ns an element, this 0.03, without AVX-512 0.1 (`python -m bench.choices sum`).
CHAINS = 32

_I32, _I64, _DOUBLE = ir.IntType(32), ir.IntType(64), ir.DoubleType()


@kernel
def dot(a, b, start, stop):
    """a . b over the elements start <= p < stop of two arrays, each float64 or float32."""
    return _dot(a, b, start, stop)


@primitive
def _dot(typingctx: Any, a: Any, b: Any, start: Any, stop: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start, count = args[2], builder.sub(args[3], args[2])
        whole = builder.sdiv(count, _I64(CHAINS))
        lanes = VECTOR // 8
        chains = [
            cgutils.alloca_once_value(builder, ir.Constant(ir.VectorType(_DOUBLE, lanes), None))
            for _ in range(CHAINS // lanes)
        ]

        def accumulate(at: Any, width: Any) -> None:
            for i, chain in enumerate(chains):
                terms = []
                for array, argument in zip(args[:2], signature.args[:2], strict=False):
                    data = context.make_array(argument)(context, builder, array).data
                    rest = _I64(lanes) if width is None else builder.sub(width, _I64(i * lanes))
                    vectors = Vectors(builder, data.type.pointee, lanes, rest)
                    term = vectors.load(data, builder.add(at, _I64(i * lanes)), width is not None)
                    wide = ir.VectorType(_DOUBLE, lanes)
                    terms.append(term if vectors.type == wide else builder.fpext(term, wide))
                doubles = Vectors(builder, _DOUBLE, lanes, _I64(lanes))
                builder.store(doubles.fma(terms[0], terms[1], builder.load(chain)), chain)

        with each(builder, whole) as i:
            accumulate(builder.add(start, builder.mul(i, _I64(CHAINS))), None)
        done = builder.mul(whole, _I64(CHAINS))
        accumulate(builder.add(start, done), builder.sub(count, done))
        return _fold(builder, [builder.load(chain) for chain in chains])

    return types.float64(a, b, types.intp, types.intp), codegen


def _fold(builder: Any, vectors: list[Any]) -> Any:
    """The sum of all elements: the upper half is added to the lower until one is left."""
    while len(vectors) > 1:
        half = len(vectors) // 2
        vectors = [builder.fadd(*pair) for pair in zip(vectors[:half], vectors[half:], strict=True)]
    (vector,) = vectors
    while (lanes := vector.type.count) > 1:
        halves = [
            builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_I32, lanes // 2), list(part)))
            for part in (range(lanes // 2), range(lanes // 2, lanes))
        ]
        vector = builder.fadd(*halves)
    return builder.extract_element(vector, _I32(0))
