"""Numba's linking of kernels, less the copies of those that are not inlined.

Numba links all that a kernel calls into the kernel's own library, and what that calls, and optimises and translates the
whole again: in a first meta-gradient six copies of each panel of a product, and 91,000 LLVM instructions to translate,
of which 39,000 were different.  Here a kernel is called where its code is, unless it is so small that LLVM might inline
it: a first meta-gradient takes 12.4 s, not 14.6, or 22 s of one core, not 27 (`python -m bench.choices linked`), and
the kernels are as fast.

So a kernel's symbol has to be the same in every process, where Numba's ends in a number that counts functions.  And
Numba's own cache must not keep a caller of such a kernel, as it would load that without what it calls, and the process
would end at the call.

All of this is private to Numba.  Where it is not as known an import of this module fails, and jit.py does without.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding as llvm
from numba.core import codegen, compiler

from . import callees, inlining

# Lines of LLVM's text, up to which a kernel is copied into its callers.  A step of W3 takes as long as with copies of
# all, within some 3 %, with none, 150, 250 and 400: rather slower with the first two; the last compiles longer
_SMALL = 250

# By a global of such a name Numba's cache takes code for that of one process
_MARK = "numba.dynamic.globals.called_where_it_is"

inlining.require(
    {
        codegen.CodeLibrary.__init__: "self codegen name",
        codegen.JITCodeLibrary.add_llvm_module: "self ll_module",
        codegen.JITCodeLibrary.finalize: "self",
        codegen.JITCodeLibrary.enable_object_caching: "self",
        codegen.JITCodeLibrary._get_module_for_linking: "self",
        compiler.Compiler._compile_bytecode: "self",
    }
)


class _Library(codegen.JITCodeLibrary):
    """The code of one kernel, and of the small ones that it calls."""

    called: tuple[callees.Kernel, ...] = ()

    def finalize(self) -> None:
        called: dict[callees.Kernel, None] = {}  # a set in order
        linked = []
        for each in self._linking_libraries:
            kernel = callees.kernel(each)
            if kernel is None or _is_small(each, kernel):
                linked.append(each)
                called |= dict.fromkeys(callees.called_by(each))
            else:
                called[kernel] = None
        self._linking_libraries, self.called = linked, tuple(called)
        if called:
            self.add_llvm_module(llvm.parse_assembly(f'@"{_MARK}" = weak constant i8 0'))
        super().finalize()
        self._dynamic_globals = [name for name in self._dynamic_globals if name != _MARK]  # the cache of ours knows


def _is_small(library: Any, kernel: callees.Kernel) -> bool:
    return str(library._get_module_for_linking().get_function(kernel.symbol)).count("\n") <= _SMALL


class Compiler(inlining.Compiler):
    """That of inlining.py, for a function whose name is no other's."""

    def _compile_bytecode(self) -> Any:
        state = self.state
        function = state.func_id
        function.unique_id = 0
        state.library = _Library(state.targetctx.codegen(), function.func_qualname)
        state.library.enable_object_caching()
        cres = super()._compile_bytecode()
        callees.note(cres, function.modname, function.func_qualname, state.library.called)
        return cres
