"""The rules of the house: who imports whom, what an import costs, how kernels are compiled."""

from __future__ import annotations

import ast
import graphlib
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import numba
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

import fastrev
from fastrev.kernels import information_buffer as buffer
from fastrev.kernels import jit
from fastrev.kernels.momentum import step_span

PACKAGE = Path(fastrev.__file__).parent
KERNEL_ROOM = Path(fastrev.kernels.__file__).parent  # in an sdist, and without symbolic links, beside the package
KERNELS = sorted(KERNEL_ROOM.glob("*.py"))
KERNEL_MODULES = [f"fastrev.kernels.{file.stem}" for file in KERNELS if file.stem != "__init__"]
MODULES = {
    ".".join(("fastrev", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): file
    for file in sorted({*PACKAGE.rglob("*.py")} - {*KERNELS})  # rglob does not follow the link to the kernels
} | {f"fastrev.kernels.{file.stem}".removesuffix(".__init__"): file for file in KERNELS}
# what other packages offer under such a name only
FROM_OTHERS = {("fastrev.kernels.broadcast", "_getvalue"), ("fastrev.kernels.code_cache", "_cache"),
               ("fastrev.kernels.code_cache", "_reduce"), ("fastrev.kernels.code_cache", "_rebuild"),
               ("fastrev.kernels.linking", "_get_module_for_linking")}  # fmt: skip
OF_NAMED_TUPLES = {"_fields", "_replace"}
ALLOWED = sys.stdlib_module_names | {"numpy", "numba", "llvmlite"}


def run_python(script: str, path: Path, **environment: str) -> str:
    """Run a script in a fresh interpreter that finds the package in `path`; any warning is an error."""
    inherited = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment = inherited | {"PYTHONPATH": str(path)} | environment
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, env=environment, cwd=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def copy_package(folder: Path) -> None:
    """A copy of the package, with an empty cache."""
    without = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(PACKAGE, folder / "fastrev", ignore=without)
    shutil.copytree(KERNEL_ROOM, folder / "fastrev" / "kernels", ignore=without)


def dispatchers() -> Iterator[tuple[str, Dispatcher]]:
    for name in KERNEL_MODULES:
        for attribute, value in vars(importlib.import_module(name)).items():
            if isinstance(value, Dispatcher):
                yield f"{name}.{attribute}", value


# ---- imports -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", KERNELS, ids=lambda file: file.name)
def test_kernels_import_only_each_other_and_the_compiler(file: Path) -> None:
    """The API depends on the kernels, never the other way."""
    stems = {each.stem for each in KERNELS}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [str(node.module)]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1, ast.unparse(node)
            siblings = [node.module] if node.module else [alias.name for alias in node.names]
            assert set(siblings) <= stems, ast.unparse(node)
            continue
        else:
            continue
        assert {module.partition(".")[0] for module in modules} <= ALLOWED, ast.unparse(node)


def imports_of(file: Path) -> set[str]:
    """The modules of the package that a file imports, also for its types only or within a function."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = "fastrev.kernels" if node.level else node.module or ""
            base = f"{parent}.{node.module}" if node.level and node.module else parent
            found |= {f"{base}.{alias.name}" for alias in node.names} & set(MODULES) or {base}
    return found & set(MODULES)


def test_no_circle_of_imports() -> None:
    """Every module stands above what it uses."""
    assert set(KERNEL_MODULES) <= MODULES.keys()
    graph = {name: imports_of(file) - {name, "fastrev"} for name, file in MODULES.items() if name != "fastrev"}
    assert sum(map(len, graph.values())) > 200
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names them


def test_the_machinery_stands_below_what_is_public() -> None:
    public = {name for name in MODULES if not name.startswith(("fastrev._engine", "fastrev.kernels"))}
    public -= {"fastrev.errors"}  # which everybody may raise
    rooms = [f"fastrev.{room}" for room in ("_engine", "_files", "_pictures", "_pool")]
    assert all(any(name.startswith(room) for name in MODULES) for room in rooms)
    for room in rooms:
        above = {name for name in public if not name.startswith(room)}
        for name, file in MODULES.items():
            if name.startswith(room):
                assert not imports_of(file) & above, name


def test_no_module_hides_behind_a_name_that_it_holds() -> None:
    """``fastrev.x`` is a function or a module, never one in place of the other."""
    for name in vars(fastrev):
        assert not isinstance(getattr(fastrev, name), FunctionType | type) or f"fastrev.{name}" not in MODULES, name


def test_underscores_are_private_to_their_module() -> None:
    """Folders and modules are private by the folder's underscore, names by their own; nobody reaches for another's."""
    for name, file in MODULES.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        own |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                theirs = ast.unparse(node.value) not in ("self", "cls")
                allowed = node.attr in own | OF_NAMED_TUPLES or (name, node.attr) in FROM_OTHERS
                assert allowed or not theirs, f"{name}: {ast.unparse(node)}"
            if isinstance(node, ast.ImportFrom):
                private = [alias.name for alias in node.names if re.match("_[a-z]", alias.name)]
                assert not set(private) - {"_engine"}, f"{name}: {private}"


def test_kernels_are_reached_by_one_import_path() -> None:
    """That is fastrev.kernels, wherever they lie: there by a link, or found beside the package where there is none."""
    assert "kernels" not in sys.modules
    if (PACKAGE / "kernels").is_symlink():
        assert (PACKAGE / "kernels").readlink() == Path("..", "kernels")


@pytest.mark.parametrize("link", ["missing", "a file"])
def test_a_checkout_without_symbolic_links_finds_its_kernels(tmp_path: Path, link: str) -> None:
    """As Git leaves it on Windows, and as an sdist is: both commands of the README begin there."""
    copy_package(tmp_path)
    (tmp_path / "fastrev" / "kernels").rename(tmp_path / "kernels")
    if link == "a file":
        (tmp_path / "fastrev" / "kernels").write_text("../kernels")
    (tmp_path / "beside.py").touch()
    script = """
import importlib.util
import fastrev, fastrev.kernels.jit
print(fastrev.kernels.__file__, fastrev.__file__, fastrev.kernels.jit.__name__)
print(*(importlib.util.find_spec(f"fastrev.{name}") for name in ("beside", "fastrev")))
"""
    kernels, package, module, *others = run_python(script, tmp_path).split()
    assert (Path(kernels).parent, Path(package).parent) == (tmp_path / "kernels", tmp_path / "fastrev")
    assert module == "fastrev.kernels.jit"
    assert others == ["None", "None"]


def test_an_import_is_light_and_compiles_nothing() -> None:
    script = """
import sys
import numba, numpy                                    # which may import what they like
from numba.core import event
before = set(sys.modules)
with event.install_recorder("numba:compile") as recorder:
    import fastrev
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))
print(sorted({"matplotlib", "sklearn", "tqdm", "pytest", "autograd", "jax", "hypothesis"} & set(sys.modules)))
from numba.core.dispatcher import Dispatcher
compiled = [
    f"{name}.{attribute}"
    for name, module in list(sys.modules.items()) if name.startswith("fastrev")
    for attribute, value in vars(module).items() if isinstance(value, Dispatcher) and value.signatures
]
print(compiled, len(recorder.buffer))
"""
    third_party, unwanted, compiled = run_python(script, PACKAGE.parent).splitlines()
    assert set(ast.literal_eval(third_party)) <= {"fastrev", "numba", "llvmlite", "numpy"}
    assert unwanted == "[]"
    assert compiled == "[] 0"


def test_rooms_are_found_where_they_are_named() -> None:
    """Without an import of their own; what is no room is no attribute."""
    script = """
import fastrev
print(fastrev.interop.jax.objective.__name__, fastrev.testing.__name__, fastrev.estimators.MetaMLPClassifier.__name__)
try:
    fastrev.estimator
except AttributeError as error:
    print(error)
"""
    pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
    names, error = run_python(script, PACKAGE.parent).splitlines()
    assert names == "objective fastrev.testing MetaMLPClassifier"
    assert error == "module 'fastrev' has no attribute 'estimator'"


# ---- compilation ---------------------------------------------------------------------------------------------


def test_no_kernel_is_compiled_with_fast_math() -> None:
    """Not even contraction: the bits of a result are a property of the source."""
    found = dict(dispatchers())
    assert len(found) > 50
    for name, dispatcher in found.items():
        assert dispatcher.targetoptions["fastmath"] is False, name
        assert dispatcher.targetoptions["error_model"] == "numpy", name
        assert not dispatcher.targetoptions.get("parallel"), name


def test_compiled_code_holds_no_fast_math_instruction() -> None:
    compiled = numba.njit(buffer.multiply.py_func, **jit._OPTIONS)  # anew: a cache keeps no readable code
    heads = np.full(9, buffer.START)
    compiled(np.ones(9, np.int64), heads, np.empty(18, np.uint16), 0, 9, 10, 0, 9, np.empty(2 * buffer.BLOCK))
    (code,) = compiled.inspect_llvm().values()
    instructions = re.findall(r"\bf(?:add|sub|mul|div|cmp|neg) .*", code)
    assert len(instructions) > 3
    flags = re.compile(r"\b(?:fast|reassoc|contract|nnan|ninf|nsz|arcp|afn)\b")
    assert not [each for each in instructions if flags.search(each)]


def test_kernels_are_told_apart_by_their_names() -> None:
    names = [(each.py_func.__module__, each.py_func.__qualname__) for each in set(dict(dispatchers()).values())]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "<" in name[1]]
    with pytest.raises(ValueError, match=r"a kernel fastrev.kernels.momentum.step_span already"):
        jit.kernel(step_span.py_func)


def test_numba_without_its_compiler_is_refused() -> None:
    script = """
try:
    import fastrev
except ImportError as error:
    print(error)
"""
    assert "NUMBA_DISABLE_JIT=1" in run_python(script, PACKAGE.parent, NUMBA_DISABLE_JIT="1")
