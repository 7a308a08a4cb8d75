"""Numba's inlining of `inlined` helpers, less what it copies for nothing.

Numba makes the IR of a helper anew for each call of it, copies that twice, and each copy of a block is one of all the
function's variables as well; a helper within a helper is copied again with each that it became part of.  Here nothing
is copied, and only the outermost function inlines, one level after the other: the kernels of a first meta-gradient
took 24 s of compilation so, not 35, of which inlining was a third and is 0.6 s (`python -m bench.choices copies`).

All of this is private to Numba.  Where it is not as known an import of this module fails, and jit.py does without.
"""

from __future__ import annotations

import inspect
from typing import Any

from numba.core import compiler
from numba.core.compiler_machinery import register_pass
from numba.core.inline_closurecall import InlineWorker
from numba.core.untyped_passes import InlineInlinables


def require(known: dict[Any, str]) -> None:
    """Fail where functions of Numba do not take the parameters that they are known by."""
    for function, parameters in known.items():
        if " ".join(inspect.signature(function).parameters) != parameters:
            raise ImportError(f"Numba's {function.__qualname__} does not take {parameters}")


require(
    {
        InlineInlinables._do_work: "self state work_list block i expr inline_worker",
        InlineWorker.__init__: "self typingctx targetctx locals pipeline flags validator typemap calltypes",
        InlineWorker.inline_function: "self caller_ir block i function arg_typs",
        InlineWorker.inline_ir: "self caller_ir block i callee_ir callee_freevars arg_typs",
        InlineWorker.run_untyped_passes: "self func enable_ssa",
        compiler.DefaultPassBuilder.define_untyped_pipeline: "state name",
        compiler.Compiler.define_pipelines: "self",
    }
)


class _Worker(InlineWorker):
    """What puts a helper in the place of one call."""

    def __init__(self, state: Any) -> None:
        super().__init__(state.typingctx, state.targetctx, state.locals, state.pipeline, state.flags)
        self._compiler_pipeline = _without_inlining

    def inline_ir(self, caller_ir: Any, block: Any, i: int, callee_ir: Any, *rest: Any, **named: Any) -> Any:
        for each in callee_ir.blocks.values():
            each.__deepcopy__ = lambda memo, each=each: each  # it was made for this call: nobody else has it
        try:
            return super().inline_ir(caller_ir, block, i, callee_ir, *rest, **named)
        finally:
            for each in callee_ir.blocks.values():
                del each.__deepcopy__


@register_pass(mutates_CFG=True, analysis_only=False)
class _Inline(InlineInlinables):
    _name = "inline_inlinables_without_copies"

    def _do_work(self, state: Any, work_list: Any, block: Any, i: int, expr: Any, inline_worker: Any) -> Any:
        return super()._do_work(state, work_list, block, i, expr, _Worker(state))


def _without_inlining(state: Any, name: str = "untyped") -> Any:
    """What a helper goes through before it is inlined; what it calls comes to its caller, which goes on from there."""
    passes = compiler.DefaultPassBuilder.define_untyped_pipeline(state, name)
    passes.passes = [each for each in passes.passes if each[0] is not InlineInlinables]
    return passes


class Compiler(compiler.Compiler):
    """Numba's own, with `_Inline` for its inlining."""

    def define_pipelines(self) -> list[Any]:
        """The lists of passes, the first of which that succeeds is taken."""
        pipelines: list[Any] = super().define_pipelines()
        for each in pipelines:
            each.passes = [(_Inline if made is InlineInlinables else made, text) for made, text in each.passes]
            each.finalize()
        return pipelines
