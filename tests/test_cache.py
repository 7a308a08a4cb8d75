"""The kernels' code on disk: never stale, never foreign, and never in the way."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from fastrev.kernels import code_cache, jit
from fastrev.kernels.fixed_point import grid_to_floats
from fastrev.kernels.momentum import undo_position_of_span as undo_position
from tests.test_house import copy_package, run_python

# prints the weight undone by one step, and how often code was found on disk and not
UNDO = """
import numpy as np
from fastrev.kernels.momentum import undo_position_of_span as undo_position
w = np.full(3, 5 * 2**52)
undo_position(w, np.full(3, 2**52), 1.0, 0, 3)
print(w[0] / 2**52, sum(undo_position.stats.cache_hits.values()), sum(undo_position.stats.cache_misses.values()))
"""
COMPILED, FOUND = ["4.0", "0", "1"], ["4.0", "1", "0"]
NOWHERE = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache", "LOCALAPPDATA": "/dev/null"}


def undo(path, **environment):
    return run_python(UNDO, path, **environment).split()


@pytest.fixture
def copy(tmp_path):
    """A copy of the package, to edit."""
    copy_package(tmp_path)
    return tmp_path


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty folder for the code that this process compiles."""
    monkeypatch.setattr(code_cache, "_folders", lambda: [tmp_path / "code"])
    monkeypatch.setattr(code_cache, "_warned", False)
    return tmp_path / "code"


def call(kernel=grid_to_floats):
    """Call a kernel as in a fresh process.  Returns how often its code was found."""
    fresh = numba.njit(kernel.py_func, nogil=True, **jit._OPTIONS)
    code_cache.attach(fresh)
    x = np.empty(2)
    fresh(np.array([2**52, -(2**51)]), x)
    assert x.tolist() == [1.0, -0.5]
    return sum(fresh.stats.cache_hits.values())


# ---- what the code is known by -------------------------------------------------------------------------------


def test_code_is_that_of_the_sources(copy):
    """`undo_position_of_span` inlines `to_float` of another file; Numba by itself would not see that change."""
    callee = copy / "fastrev" / "kernels" / "fixed_point.py"
    bytecode = {"PYTHONDONTWRITEBYTECODE": ""}  # is written
    assert undo(copy) == COMPILED
    callee.touch()
    assert undo(copy, **bytecode) == FOUND

    times = callee.stat()
    source = callee.read_text(encoding="utf-8")
    edited = source.replace("(c) * spacing.step", "(c) + spacing.step")
    assert len(edited) == len(source)
    assert edited != source
    callee.write_text(edited, encoding="utf-8")
    os.utime(callee, ns=(times.st_atime_ns, times.st_mtime_ns))
    script = "import warnings; warnings.simplefilter('ignore')" + UNDO
    for _ in range(2):  # Python takes the old bytecode for fresh; what it compiled to is not kept as the new source's
        assert run_python(script, copy, **bytecode).split() == COMPILED
    for file in callee.parent.glob("__pycache__/*.pyc"):
        file.unlink()
    assert undo(copy) == ["5.0", "0", "1"]
    assert undo(copy) == ["5.0", "1", "0"]


def test_code_of_older_sources_is_removed(copy):
    kernels = copy / "fastrev" / "kernels"
    assert undo(copy) == COMPILED
    (before,) = (kernels / "__pycache__" / "fastrev").iterdir()
    with (kernels / "losses.py").open("a", encoding="utf-8") as file:
        file.write("# more\n")
    assert undo(copy) == COMPILED
    (after,) = (kernels / "__pycache__" / "fastrev").iterdir()
    assert after != before


@pytest.mark.parametrize("change", ["VECTOR", "AVX512"])
def test_code_is_that_of_the_processor(folder, monkeypatch, change):
    assert [call(), call()] == [0, 1]
    monkeypatch.setattr(code_cache.vectors, change, 7)
    assert [call(), call()] == [0, 1]


def test_code_under_a_foreign_name_is_not_taken(folder, monkeypatch):
    call()
    (file,) = folder.iterdir()
    content = file.read_bytes()
    monkeypatch.setattr(code_cache.vectors, "VECTOR", 7)
    call()
    (other,) = set(folder.iterdir()) - {file}
    assert other.read_bytes() != content
    other.write_bytes(content)
    assert [call(), call()] == [0, 1]


# ---- damage and company --------------------------------------------------------------------------------------


def test_damaged_code_is_compiled_again_and_replaced(folder):
    call()
    (file,) = folder.iterdir()
    whole = file.read_bytes()

    def flipped(position):
        return whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]

    size = len(whole)
    damaged = [b"", b"\0" * size, os.urandom(size), whole + b"\0"]
    damaged += [whole[:length] for length in (1, 31, 32, 33, size // 2, size - 1)]
    damaged += [flipped(position) for position in (0, 31, 32, 40, size // 3, size // 2, size - 1)]
    for content in damaged:
        file.write_bytes(content)
        assert [call(), call()] == [0, 1]
    assert list(folder.iterdir()) == [file]


def test_a_folder_in_place_of_a_file_is_passed_over(folder):
    call()
    (file,) = folder.iterdir()
    file.unlink()
    file.mkdir()
    with pytest.warns(RuntimeWarning, match="could not be kept on disk"):
        assert call() == 0


def test_many_processes_compile_at_once(copy):
    script = """
import sys, numpy as np
from fastrev.kernels.fixed_point import grid_to_floats
for dtype in sys.argv[1:]:
    x = np.empty(2, dtype)
    grid_to_floats(np.array([2**52, -(2**51)]), x)
    assert x.tolist() == [1.0, -0.5]
print(sum(grid_to_floats.stats.cache_hits.values()))
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(copy / "numba"), "PYTHONPATH": str(copy)}

    def start(*dtypes):
        command = [sys.executable, "-W", "error", "-c", script, *dtypes]
        return subprocess.Popen(command, env=environment, cwd=copy, stdout=subprocess.PIPE, text=True)

    orders = [("float32", "float64"), ("float64", "float32"), ("float32",), ("float64",), ("float32",), ("float64",)]
    processes = [start(*order) for order in orders]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    files = [file for file in (copy / "numba").rglob("*") if file.is_file()]
    assert sorted(file.name.split("-")[1] for file in files) == ["float32", "float64"]
    assert start("float32", "float64").communicate()[0].strip() == "2"


# ---- where nothing can be kept -------------------------------------------------------------------------------


def test_without_a_folder_there_is_one_warning(copy):
    package = copy / "fastrev" / "kernels" / "__pycache__"
    package.write_text("not a folder")
    run_python("import fastrev", copy, **NOWHERE)
    script = f"""
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    {UNDO.replace(chr(10), chr(10) + "    ")}
    from fastrev.kernels.fixed_point import grid_to_floats
    grid_to_floats(w, np.empty(3))
for warning in caught:
    print(warning.category.__name__, warning.message)
"""
    result, *printed = run_python(script, copy, NUMBA_CACHE_DIR="/dev/null/numba", **NOWHERE).splitlines()
    assert result.split() == COMPILED
    (warning,) = printed
    assert warning.startswith("RuntimeWarning Every process compiles the kernels anew, for some 20 s")
    for named in (str(package), "/dev/null/numba", "/dev/null/cache", "Set NUMBA_CACHE_DIR to a folder"):
        assert named in warning


def test_code_that_cannot_be_written_to_is_read(copy):
    assert undo(copy) == COMPILED
    assert undo(copy, NUMBA_CACHE_DIR="/dev/null/numba", **NOWHERE) == FOUND
    assert undo(copy, NUMBA_CACHE_DIR=str(copy / "numba")) == FOUND
    assert not (copy / "numba").exists()


def test_the_next_folder_is_taken(copy):
    (copy / "fastrev" / "kernels" / "__pycache__").write_text("not a folder")
    user = NOWHERE | {"XDG_CACHE_HOME": str(copy / "user"), "LOCALAPPDATA": str(copy / "user")}
    if sys.platform == "darwin":
        user["HOME"] = str(copy / "user")
    assert [undo(copy, **user), undo(copy, **user)] == [COMPILED, FOUND]


def test_a_full_disk_is_no_error(folder, monkeypatch):
    def refuse(path, content):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.warns(RuntimeWarning, match="No space left on device") as caught:
        assert [call(), call()] == [0, 0]
    assert len(caught) == 1
    assert not list(folder.iterdir())


def test_a_numba_that_takes_no_cache_goes_without(copy):
    """One whose dispatchers keep their cache under another name."""
    script = """
import warnings
from numba.core.dispatcher import Dispatcher, _CompileStats
Dispatcher.stats = property(lambda self: _CompileStats(None, self._cache_hits, self._cache_misses))
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as caught:
    import fastrev
print(*(warning.message for warning in caught))
"""
    warning, result = run_python(script + UNDO, copy).splitlines()
    assert warning.count("takes no cache in the way that is known") == 1
    assert result.split() == COMPILED
    assert not (copy / "fastrev" / "kernels" / "__pycache__" / "fastrev").exists()


def test_a_program_without_sources_goes_without(folder, monkeypatch):
    call()
    monkeypatch.setattr(code_cache, "_SOURCES", {})
    with pytest.warns(RuntimeWarning, match="source files of fastrev.kernels are not there"):
        assert call() == 0


def test_a_cache_can_be_emptied(folder):
    assert call() == 0
    assert call() == 1
    code_cache.Cache(grid_to_floats.py_func).flush()
    assert not list(folder.iterdir())
    assert call() == 0


def test_kernels_say_where_their_code_is(folder):
    assert undo_position.stats.cache_path == str(folder)
