"""Two threads on one `Record`: the undo writes steps ahead, the differentiation reads them behind.

Undoing a step and differentiating it cost about the same and share nothing but what the record holds, so each has a
thread, and a meta-gradient takes two thirds to nine tenths of the time (`python -m bench.choices threads`).  The bits
do not depend on it: nothing is computed in another order.  Each count is written by one thread only.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from .jit import kernel, primitive
from .primitives import address

# Positions in `Record.progress`, each in a cache line (two, as they are fetched in pairs) of its own
(
    BLOCKS_WRITTEN, STEPS_WRITTEN, BLOCKS_READ, STEPS_READ, TASKS_DONE, ABANDONED, PATIENCE, CORE, _MET_0, _MET_1,
    BATON, _ALLOWED, _OWN,
) = range(0, 208, 16)  # fmt: skip
# Meetings of a team (team.py), of each thread; behind them, when it began, its time and how much of that it has waited,
# and what it tells
MET = _MET_0, _MET_1
BEGUN, SPENT, WAITED, TOLD = 1, 2, 3, 4
_MASK = 16  # words of a set of cores: Linux' own size, for 1024 of them
PROGRESS = _OWN + _MASK

# How many pauses (of 40 ns) before the processor is offered to others.  Two threads on one core need that soon; on two
# cores it costs a whole slice of time if anything else runs there, as BLAS does for some 25 ms after a product: W2 took
# 170 us a step with the short patience then, 40 with the long one, 24 undisturbed (`python -m bench.choices patience`,
# whose effect depends on the machine: 1.1 times on another).
PATIENCE_ON_ONE_CORE, PATIENCE_ON_TWO = 64, 4096

_yield_processor = types.ExternalFunction("SwitchToThread" if os.name == "nt" else "sched_yield", types.intc())
_LINUX = sys.platform == "linux"
_get_cores, _set_cores = (
    types.ExternalFunction(name, types.intc(types.intc, types.uintp, types.CPointer(types.int64)))
    for name in ("sched_getaffinity", "sched_setaffinity")
)
_X86 = llvm.get_default_triple().startswith(("x86", "i686", "amd64"))


@kernel
def wait(progress, which, count):
    """Wait until a count has come that far.  Returns whether it has: not if the other side gave up."""
    pauses = 0
    while _load(progress, which) < count:
        if _load(progress, ABANDONED):
            return False
        _pause()
        pauses += 1
        if pauses >= progress[PATIENCE]:
            _yield_processor()
            pauses = 0
    return True


@kernel
def announce(progress, which, count):
    """Set a count: what was written before is seen by whoever sees it."""
    _store(progress, which, count)


@kernel
def keep_to_core(progress):
    """Keep this thread to core ``progress[CORE] - 1``, if any.  Returns whether it is kept; `let_go` takes it back.

    This pair is compiled, and called within one kernel, because nothing can come between: an interrupt, which Python
    raises between any two lines, would otherwise leave the caller's thread on one core for the rest of its life.
    """
    core = progress[CORE] - 1
    if not _LINUX or core < 0 or core >= 64 * _MASK:
        return False
    if _get_cores(0, 8 * _MASK, address(progress, _ALLOWED)) != 0:
        return False
    for i in range(_MASK):
        progress[_OWN + i] = 0
    progress[_OWN + core // 64] = np.int64(1) << (core % 64)
    return _set_cores(0, 8 * _MASK, address(progress, _OWN)) == 0


@kernel
def let_go(progress, kept):
    """Undo `keep_to_core`."""
    if _LINUX and kept:
        _set_cores(0, 8 * _MASK, address(progress, _ALLOWED))


@primitive
def _load(typingctx: Any, array: Any, i: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load_atomic(builder.gep(data, [args[1]]), "acquire", 8)

    return types.int64(array, types.intp), codegen


@primitive
def _store(typingctx: Any, array: Any, i: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        builder.store_atomic(args[2], builder.gep(data, [args[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


@primitive
def _pause(typingctx: Any) -> Any:
    """Tell an x86 core that this is a waiting loop."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if _X86:
            function_type = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function_type, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen
