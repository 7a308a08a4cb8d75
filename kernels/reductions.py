"""The inner product, in float64 and in one fixed order."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from .jit import inlined, kernel, primitive
from .vectors import VECTOR, Vectors, each

# Chains of fused multiply-adds, element p on chain p mod 32, that are then added in halves.  One running sum would wait
# for each addition before the next: 1 ns an element, this 0.03, without AVX-512 0.1 (`python -m bench.choices sum`).
CHAINS = 32
LANES = VECTOR // 8

_I32, _I64, _DOUBLE = ir.IntType(32), ir.IntType(64), ir.DoubleType()


@kernel
def dot(a, b, start, stop):
    """a . b over the elements start <= p < stop of two arrays, each float64 or float32."""
    return _dot(a, b, start, stop)


@inlined
def begin(chains):
    """An inner product that goes on piece by piece: all chains at 0."""
    for i in range(CHAINS):
        chains[i] = 0.0


@inlined
def accumulate(a, b, start, stop, chains):
    """The elements start <= p < stop; all pieces but the last are multiples of `CHAINS`."""
    _accumulate(a, b, start, stop, chains)


@inlined
def fold(chains):
    """The inner product of all pieces."""
    return _fold(chains)


@primitive
def _dot(typingctx: Any, a: Any, b: Any, start: Any, stop: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(ir.VectorType(_DOUBLE, LANES), None)
        chains = [cgutils.alloca_once_value(builder, zero) for _ in range(CHAINS // LANES)]
        _add_to(chains, context, builder, signature, args)
        return _in_halves(builder, [builder.load(chain) for chain in chains])

    return types.float64(a, b, types.intp, types.intp), codegen


@primitive
def _accumulate(typingctx: Any, a: Any, b: Any, start: Any, stop: Any, chains: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors, base = _vectors_of(context, builder, signature.args[4], args[4])
        places = [_I64(i * LANES) for i in range(CHAINS // LANES)]
        slots = [cgutils.alloca_once_value(builder, vectors.load(base, place, False)) for place in places]
        _add_to(slots, context, builder, signature, args)
        for slot, place in zip(slots, places, strict=True):
            vectors.store(builder.load(slot), base, place, False)
        return context.get_dummy_value()

    return types.void(a, b, types.intp, types.intp, chains), codegen


@primitive
def _fold(typingctx: Any, chains: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors, base = _vectors_of(context, builder, signature.args[0], args[0])
        return _in_halves(builder, [vectors.load(base, _I64(i * LANES), False) for i in range(CHAINS // LANES)])

    return types.float64(chains), codegen


def _vectors_of(context: Any, builder: Any, array: Any, value: Any) -> tuple[Vectors, Any]:
    data = context.make_array(array)(context, builder, value).data
    return Vectors(builder, _DOUBLE, LANES, _I64(LANES)), data


def _add_to(chains: list[Any], context: Any, builder: Any, signature: Any, args: Any) -> None:
    """Add the products of a and b, of the elements start <= p < stop, to chains that lie in variables."""
    start, count = args[2], builder.sub(args[3], args[2])
    whole = builder.sdiv(count, _I64(CHAINS))

    def accumulate(at: Any, width: Any) -> None:
        for i, chain in enumerate(chains):
            terms = []
            for array, argument in zip(args[:2], signature.args[:2], strict=False):
                data = context.make_array(argument)(context, builder, array).data
                rest = _I64(LANES) if width is None else builder.sub(width, _I64(i * LANES))
                vectors = Vectors(builder, data.type.pointee, LANES, rest)
                term = vectors.load(data, builder.add(at, _I64(i * LANES)), width is not None)
                wide = ir.VectorType(_DOUBLE, LANES)
                terms.append(term if vectors.type == wide else builder.fpext(term, wide))
            doubles = Vectors(builder, _DOUBLE, LANES, _I64(LANES))
            builder.store(doubles.fma(terms[0], terms[1], builder.load(chain)), chain)

    with each(builder, whole) as i:
        accumulate(builder.add(start, builder.mul(i, _I64(CHAINS))), None)
    done = builder.mul(whole, _I64(CHAINS))
    accumulate(builder.add(start, done), builder.sub(count, done))


def _in_halves(builder: Any, vectors: list[Any]) -> Any:
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
