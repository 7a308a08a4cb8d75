"""What Numba and llvmlite promise nobody, and the kernels are made with: why pyproject.toml bounds Numba from above.

A newer minor version of Numba comes in when these tests, and those of the bits, pass with it.
"""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from pathlib import Path

import numba
import pytest
from numba.core import codegen, compiler, cpu, dispatcher

import fastrev.kernels  # noqa: F401  its modules import all that is below

ROOT = Path(__file__).parent.parent
# Names of modules that are no part of Numba's documented API, as far as the kernels use them
PRIVATE = {
    "numba.core.cgutils.alloca_once_value": "builder value name zfill",
    "numba.core.cgutils.for_range": "builder count start intp",
    "numba.core.cgutils.get_or_insert_function": "module fnty name",
    "numba.core.cgutils.pointer_add": "builder ptr offset return_type",
    "numba.core.cgutils.raw_memcpy": "builder dst src count itemsize align",
    "numba.core.cgutils.unpack_tuple": "builder tup count",
    "numba.core.codegen.CodeLibrary.__init__": "self codegen name",
    "numba.core.codegen.JITCodeLibrary._get_module_for_linking": "self",
    "numba.core.codegen.JITCodeLibrary.add_llvm_module": "self ll_module",
    "numba.core.codegen.JITCodeLibrary.enable_object_caching": "self",
    "numba.core.codegen.JITCodeLibrary.finalize": "self",
    "numba.core.compiler.Compiler._compile_bytecode": "self",
    "numba.core.compiler.CompileResult._rebuild": None,
    "numba.core.compiler.Compiler.define_pipelines": "self",
    "numba.core.compiler.DefaultPassBuilder.define_untyped_pipeline": "state name",
    "numba.core.compiler_machinery.register_pass": "mutates_CFG analysis_only",
    "numba.core.inline_closurecall.InlineWorker.__init__":
        "self typingctx targetctx locals pipeline flags validator typemap calltypes",
    "numba.core.inline_closurecall.InlineWorker.inline_function": "self caller_ir block i function arg_typs",
    "numba.core.inline_closurecall.InlineWorker.inline_ir":
        "self caller_ir block i callee_ir callee_freevars arg_typs",
    "numba.core.inline_closurecall.InlineWorker.run_untyped_passes": "self func enable_ssa",
    "numba.core.serialize.dumps": "obj",
    "numba.core.sigutils.normalize_signature": "sig",
    "numba.core.untyped_passes.InlineInlinables._do_work": "self state work_list block i expr inline_worker",
    "numba.np.arrayobj.populate_array": None,
}  # fmt: skip
# And what is asked of their objects
ATTRIBUTES = {
    dispatcher.Dispatcher: ("stats",),
    compiler.CompileResult: ("_reduce", "library", "lifted", "fndesc", "target_context", "signature"),
    codegen.CPUCodegen: ("magic_tuple",),
    codegen.CPUCodeLibrary: ("has_dynamic_globals",),
    cpu.CPUContext: (
        "cast", "compile_internal", "get_abi_sizeof", "get_constant", "get_dummy_value", "make_array", "make_tuple",
        "codegen", "refresh",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PRIVATE)
def test_a_private_function_is_as_known(name):
    function = _resolve(name)
    assert callable(function)
    if (parameters := PRIVATE[name]) is not None:
        assert " ".join(inspect.signature(function).parameters) == parameters


@pytest.mark.parametrize("kind", ATTRIBUTES, ids=lambda kind: kind.__name__)
def test_a_private_attribute_is_there(kind):
    fields = getattr(kind, "_fields", ()) + getattr(kind, "__slots__", ())
    assert [name for name in ATTRIBUTES[kind] if not hasattr(kind, name) and name not in fields] == []


def test_a_dispatcher_takes_a_cache():
    function = numba.njit(lambda x: x)
    assert all(hasattr(function, name) for name in ("_cache", "_compiler", "overloads", "py_func"))
    assert function.stats.cache_path is None


def test_no_other_private_name_is_used():
    used = {
        name
        for path in [*(ROOT / "kernels").glob("*.py"), *(ROOT / "fastrev").rglob("*.py")]
        for name in _names_of(ast.parse(path.read_text(encoding="utf-8")))
    }
    private = {
        name for name in used if name.startswith(("numba.core.", "numba.np.")) and "types" not in name.split(".")[2]
    }
    modules_and_classes = {name.rpartition(".")[0] for name in PRIVATE}
    modules_and_classes |= {name.rpartition(".")[0] for name in modules_and_classes}
    assert private - set(PRIVATE) - modules_and_classes == set()
    assert set(PRIVATE) - private == set()


def test_the_bound_is_the_next_minor_version_of_what_was_tested():
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    (bounds,) = [each for each in requirements if each.startswith("numba")]
    low, high = re.fullmatch(r"numba>=(\d+\.\d+),<(\d+\.\d+)", bounds).groups()
    assert _version(low) <= _version(numba.__version__) < _version(high)


def _version(text):
    return tuple(map(int, text.split(".")[:2]))


def _resolve(name):
    """The object of a dotted name."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            found = __import__(".".join(parts[:count]), fromlist=["_"])
        except ImportError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise AssertionError(name)


def _names_of(tree):
    """The dotted names of what a module uses of others, as they are called there."""
    imported = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
        elif isinstance(node, ast.Import):
            for each in node.names:
                root, whole = each.name.split(".")[0], each.name
                imported |= {each.asname: whole} if each.asname else {root: root}
    for node in ast.walk(tree):
        parts, root = [], node
        while isinstance(root, ast.Attribute):
            parts.append(root.attr)
            root = root.value
        if isinstance(root, ast.Name) and root.id in imported:
            yield ".".join([imported[root.id], *reversed(parts)])
