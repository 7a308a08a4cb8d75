"""One source for a number that holds for all elements and for an array with one for each.

Where it is a number, the compiler takes out of a loop all that depends on it only.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.np.arrayobj import populate_array

from .jit import primitive


@primitive
def at(typingctx: Any, x: Any, p: Any) -> Any:
    """What holds for element p: the number, or ``x[p]``."""
    if not isinstance(x, types.Array):
        return x(x, p), _itself

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.gep(context.make_array(x)(context, builder, args[0]).data, [args[1]]))

    return x.dtype(x, types.intp), codegen


@primitive
def part(typingctx: Any, x: Any, start: Any, stop: Any) -> Any:
    """What holds for the elements start <= p < stop: the number, or ``x[start:stop]``."""
    if not isinstance(x, types.Array):
        return x(x, start, stop), _itself

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole, view = context.make_array(x)(context, builder, args[0]), context.make_array(x)(context, builder)
        populate_array(
            view, data=builder.gep(whole.data, [args[1]]), shape=[builder.sub(args[2], args[1])],
            strides=whole.strides, itemsize=whole.itemsize, meminfo=whole.meminfo, parent=whole.parent,
        )  # fmt: skip
        return view._getvalue()

    return x(x, types.intp, types.intp), codegen


@primitive
def equal(typingctx: Any, x: Any, y: Any) -> Any:
    """Whether two integers are equal.  Arrays never are, as a whole."""
    arrays = isinstance(x, types.Array) or isinstance(y, types.Array)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.boolean, False) if arrays else builder.icmp_signed("==", *args)

    return types.boolean(x, y), codegen


@primitive
def entry(typingctx: Any, table: Any, i: Any, j: Any) -> Any:
    """``table[i, j]``, with an axis of length 1 standing for any index; a (P,) array as it is."""
    if table.ndim == 1:
        return table(table, i, j), _itself

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.compile_internal(builder, _element, signature, args)

    return table.dtype(table, types.intp, types.intp), codegen


@primitive
def row(typingctx: Any, arrays: Any, i: Any) -> Any:
    """A tuple of arrays with the i-th along their first axes."""
    rows = types.NamedTuple([each.copy(ndim=each.ndim - 1) for each in arrays.types], arrays.instance_class)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        views = []
        for j, (array, of) in enumerate(zip(arrays.types, rows.types, strict=True)):
            whole = context.make_array(array)(context, builder, builder.extract_value(args[0], j))
            view = context.make_array(of)(context, builder)
            shape, strides = (cgutils.unpack_tuple(builder, each) for each in (whole.shape, whole.strides))
            start = cgutils.pointer_add(builder, whole.data, builder.mul(args[1], strides[0]))
            populate_array(
                view, data=start, shape=shape[1:], strides=strides[1:], itemsize=whole.itemsize, meminfo=whole.meminfo,
                parent=whole.parent,
            )  # fmt: skip
            views.append(view._getvalue())
        return context.make_tuple(builder, rows, views)

    return rows(arrays, types.intp), codegen


def _itself(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return args[0]


def _element(table, i, j):
    return table[min(i, table.shape[0] - 1), min(j, table.shape[1] - 1)]
