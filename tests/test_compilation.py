"""The first call ever: two processes compile, and nothing depends on it."""

from __future__ import annotations

import copy as copying
import ctypes
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import inline_closurecall, ir

import fastrev
from fastrev._engine import announcing, compilation, interruptible
from fastrev._engine.sgd import SGDRule
from fastrev.kernels import code_cache, inlining, linking
from tests.test_house import copy_package

SCRIPT = """
import numpy as np, fastrev
from fastrev.kernels import mlp_gradient
optimizer = fastrev.SGD(0.1, 0.9)
model = fastrev.MLP((2, 3, 2), dtype=np.float32)
x, y = np.ones((4, 2)), np.array([0, 1, 0, 1])
result = fastrev.meta_grad(model, model.init(0), train=(x, y), valid=(x, y), optimizer=optimizer, steps=3)
assert result.stats.exact
for kernel in (optimizer.kind.walks.make, optimizer.kind.walks.pull, mlp_gradient.mean_loss_and_gradient):
    print(sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))
"""


def run_script(script, copy):
    """What a script prints in a fresh interpreter with a copy of the package, which keeps its code to itself."""
    return run_with_errors(script, copy)[0]


def run_with_errors(script, copy):
    """Also what it says on stderr."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(copy / "numba")}
    environment["PYTHONPATH"] = os.pathsep.join([str(copy), *map(str, sys.path)])
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr.splitlines()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """What a first call leaves on disk."""
    copy = tmp_path_factory.mktemp("copy")
    copy_package(copy)
    return copy, *run_with_errors(SCRIPT, copy)


@pytest.mark.skipif(not compilation._possible(SGDRule), reason="needs two cores")
def test_the_way_back_is_compiled_beside_the_way_there(kept):
    copy, first, _ = kept
    assert first == ["0 1", "1 0", "1 0"]
    assert run_with_errors(SCRIPT, copy) == (["1 0", "1 0", "1 0"], [])


def test_who_waits_for_the_compiler_is_told_once(kept):
    before, afterwards = kept[2]
    assert re.fullmatch(r"fastrev: compiling for float32, once on this machine \(.*\) \.\.\.", before)
    assert re.fullmatch(r"fastrev: compiled in \d+\.\d s", afterwards)


@pytest.mark.parametrize("gone", [None, "closed"])
def test_nobody_listens(monkeypatch, tmp_path, gone):
    with (tmp_path / "closed").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file if gone else None)
    monkeypatch.setattr(announcing, "_begun", False)
    announcing.begin("float64")
    announcing.end()


@numba.njit(inline="always")
def one_more(x):
    return x + 1 if x > 0 else x


@numba.njit(inline="always")
def two_more(x):
    return one_more(one_more(x))


def test_numba_inlines_as_is_known(monkeypatch):
    """It takes InlineWorker and InlineInlinables of kernels/inlining.py, and copies nothing that it inlines.

    Else compilation takes half as long again.  Where Numba does not copy any more, that room can go.
    """
    assert issubclass(linking.Compiler, inlining.Compiler)
    assert SGDRule.walks.make._compiler.pipeline_class is linking.Compiler
    copied, deepcopy = [], copying.deepcopy

    def watched(what, memo=None):
        copy = deepcopy(what, memo)
        if isinstance(what, ir.Block):
            copied.append(copy is not what)
        return copy

    monkeypatch.setattr(inline_closurecall.copy, "deepcopy", watched)
    assert numba.njit(lambda x: two_more(x) + 1, pipeline_class=inlining.Compiler)(1) == 4
    assert copied
    assert not any(copied)


def test_what_a_kernel_calls_is_there_before_it(kept):
    """The walks' code on disk has no copy of the kernels that it calls: those are loaded first, or compiled."""
    copy = kept[0]
    panels = sorted((copy / "numba").rglob("products._*panel*-float32-*.nbc"))
    assert len(panels) == 5
    for file in panels[:3]:
        file.unlink()
    panels[3].write_bytes(b"damaged")
    assert run_script(SCRIPT, copy) == ["1 0"] * 3
    assert all(file.stat().st_size > 1000 for file in panels)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("ask", [3, 20])
def test_ctrl_c_waits_for_code_to_be_loaded(kept, ask):
    """It came to nothing where LLVM asks Python for the code, and the process ended in a segmentation fault."""
    interrupt = f"""
import os, signal
from numba.core import codegen
asked, hand_over = [], codegen.CPUCodeLibrary._object_getbuffer_hook.__func__
def hook(cls, module):
    asked.append(module)
    if len(asked) == {ask}:
        os.kill(os.getpid(), signal.SIGINT)
    return hand_over(cls, module)
codegen.CPUCodeLibrary._object_getbuffer_hook = classmethod(hook)
"""
    again = f"try:\n{textwrap.indent(SCRIPT, '    ')}\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
    assert run_script(interrupt + again + SCRIPT, kept[0]) == ["interrupted"] + ["1 0"] * 3


def test_code_that_calls_another_symbol_is_compiled_again(kept):
    """Such as of a Numba that names the same kernel otherwise.  LLVM would end the process."""
    rename = """
from fastrev.kernels import code_cache
require = code_cache._require
code_cache._require = lambda kernel: require(kernel._replace(symbol=kernel.symbol.replace("scattering", "another")))
"""
    assert run_script(rename + SCRIPT, kept[0]) == ["1 0", "0 1", "1 0"]


def test_numbas_own_cache_keeps_no_caller_of_kernels(kept):
    """It would call kernels in a process where they are not, and end it."""
    copy = kept[0]
    (copy / "callers.py").write_text("""
import numba, numpy as np
from fastrev.kernels.products import product

@numba.njit(cache=True)
def multiply(a, b, c):
    product(a, 0, 2, 1, b, 0, 2, 2, 2, c, 0)

@numba.njit(cache=True)
def call(a, b, c):
    multiply(a, b, c)
""")
    script = """
import warnings, numpy as np, callers
a, c = np.ones((2, 4), np.float32)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    callers.call(a, a, c)
print(c, *sorted(str(each.message).split('"')[1] for each in caught))
"""
    assert [run_script(script, copy) for _ in range(2)] == [["[3. 3. 3. 3.] call multiply"]] * 2


@pytest.mark.skipif(not compilation._possible(SGDRule), reason="needs two cores")
def test_another_rule_is_compiled_likewise(kept):
    copy = kept[0]
    script = SCRIPT.replace("SGD(0.1, 0.9)", "Adam(0.1)")
    assert run_script(script, copy) == ["0 1", "1 0", "1 0"]
    assert run_script(script, copy) == ["1 0", "1 0", "1 0"]


def test_ctrl_c_is_answered_while_the_way_back_is_compiled(kept):
    """By the second process, and where that is of no help by this one; the next call works."""
    script = """
import os, signal, threading, time
import numpy as np, fastrev
from fastrev._engine import compilation, interruptible
from fastrev.kernels.rules import BY_MOMENTUM
from numba.core import event
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background processes ignore
compilation._possible = lambda rule: True
compilation._SCRIPT = "import time; time.sleep(600)"
sent = []

def press():
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

class Press(event.Listener):
    def on_start(self, event):
        if event.data["dispatcher"] is BY_MOMENTUM.pull and len(sent) == 1:
            threading.Timer(0.3, press).start()

    def on_end(self, event):
        pass

def interrupted():
    try:
        run.pullback(run.w)
    except KeyboardInterrupt:
        print(time.monotonic() - sent[-1] < 2)

event.register("numba:compile", Press())
model = fastrev.MLP((2, 3, 2), dtype=np.float32)
x, y = np.ones((4, 2)), np.array([0, 1, 0, 1])
run = fastrev.train(model, model.init(0), train=(x, y), lr=0.1, decay=0.9, steps=3)
helper, = compilation._helpers.values()
threading.Timer(0.3, press).start()
interrupted()
print(helper.returncode is not None)
interrupted()
run.pullback(run.w)
print(run.stats.exact)
"""
    copy = kept[0]
    for file in copy.rglob("adjoint.pull_by_momentum-*.nbc"):
        file.unlink()
    assert run_script(script, copy) == ["True"] * 4


@pytest.fixture
def cold(monkeypatch, tmp_path):
    """As before the first call, with a second process possible."""
    monkeypatch.setattr(compilation, "_helpers", {})
    monkeypatch.setattr(compilation, "_asked", set())
    monkeypatch.setattr(compilation, "_compiled", lambda dtype, rule: False)
    monkeypatch.setattr(compilation, "_possible", lambda rule: True)
    return monkeypatch


FLOAT64 = np.dtype(np.float64)


def begun():
    compilation.begin(FLOAT64, SGDRule)
    (helper,) = compilation._helpers.values()
    return helper


def test_a_system_without_processes_does_without(cold):
    def refuse(*arguments, **options):
        raise PermissionError("no processes here")

    cold.setattr(subprocess, "Popen", refuse)
    compilation.begin(FLOAT64, SGDRule)
    assert not compilation._helpers
    compilation.finish(FLOAT64)


def test_a_failing_process_is_waited_for(cold):
    with pytest.MonkeyPatch.context() as lost:
        lost.setattr(sys, "path", ["/nonexistent"])
        helper = begun()
    compilation.finish(FLOAT64)
    assert helper.returncode > 0
    assert not compilation._helpers


def test_a_hanging_process_is_ended(cold):
    cold.setattr(compilation, "_SCRIPT", "import time; time.sleep(600)")
    cold.setattr(compilation, "_TIME_LIMIT", 0.1)
    helper = begun()
    compilation.finish(FLOAT64)
    assert helper.returncode is not None


def test_a_killed_process_is_no_loss(cold):
    cold.setattr(compilation, "_SCRIPT", "import time; time.sleep(600)")
    helper = begun()
    helper.kill()
    compilation.finish(FLOAT64)
    assert helper.returncode is not None
    assert not compilation._helpers


def test_no_process_is_left_behind(cold):
    cold.setattr(compilation, "_SCRIPT", "import time; time.sleep(600)")
    helper = begun()
    compilation._end_all()
    assert helper.returncode is not None


def test_ctrl_c_ends_the_process_too(cold):
    cold.setattr(compilation, "_SCRIPT", "import time; time.sleep(600)")
    helper = begun()
    wait = helper.wait

    def interrupted(timeout=None):
        if timeout is not None:
            raise KeyboardInterrupt
        return wait()

    cold.setattr(helper, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compilation.finish(FLOAT64)
    assert helper.returncode is not None
    compilation.finish(FLOAT64)


def test_the_process_finds_modules_where_this_one_does(cold, tmp_path):
    """Also where a place is a `Path`, which Python passes over and some programs leave there."""
    out = tmp_path / "out"
    cold.setattr(
        compilation, "_SCRIPT", compilation._SCRIPT.split("from")[0] + f"open({str(out)!r}, 'w').write(sys.path[0])"
    )
    cold.setattr(sys, "path", [tmp_path / "ü", *sys.path])
    begun()
    compilation.finish(FLOAT64)
    assert out.read_text() == str(tmp_path / "ü")


def test_it_is_asked_once_and_after_the_arguments_were_checked(cold):
    started = []
    cold.setattr(subprocess, "Popen", lambda *arguments, **options: started.append(arguments))
    finished = []
    cold.setattr(compilation, "finish", finished.append)
    model = fastrev.MLP((2, 3, 2))
    x, y = np.ones((4, 2)), np.array([0, 1, 0, 1])
    good = {"train": (x, y), "lr": 0.1, "decay": 0.9, "steps": 3}
    for bad in ({"lr": -1.0}, {"decay": 2.0}, {"train": (x, y[:3])}):
        with pytest.raises(fastrev.ArgumentError):
            fastrev.train(model, model.init(0), **(good | bad))
    with pytest.raises(fastrev.ArgumentError):
        fastrev.meta_grad(model, model.init(0), valid=(x, y[:3]), **good)
    assert not started
    for _ in range(2):
        run = fastrev.train(model, model.init(0), **good)
    assert len(started) == 1
    run.pullback(run.w)
    assert finished == [model.dtype]


def test_a_missed_ctrl_c_is_made_up_for():
    """What C calls by ctypes prints and forgets its exceptions; so does what LLVM calls when it has compiled."""

    @ctypes.CFUNCTYPE(None)
    def called_by_c():
        raise KeyboardInterrupt

    hook = sys.unraisablehook
    for _ in range(2):  # it is made up for each time, until the call succeeds
        with pytest.raises(KeyboardInterrupt):
            interruptible.compile_here("a test", None, FLOAT64, called_by_c)
        assert sys.unraisablehook is hook
    interruptible.compile_here("a test", None, FLOAT64, lambda: None)
    interruptible.compile_here("a test", None, FLOAT64, called_by_c)  # not called any more


@pytest.mark.parametrize("program", ["", "uwsgi", "blender", "my_application", "python_app", "pythonic"])
def test_another_program_is_never_started(monkeypatch, program):
    monkeypatch.setattr(sys, "executable", program)
    assert not compilation._possible(SGDRule)


@pytest.mark.parametrize("program", ["python", "python3.11", "python3.13t", "python.exe", "pythonw.exe", "Python"])
def test_an_interpreter_is_known(monkeypatch, program):
    monkeypatch.setattr(sys, "executable", f"/usr/bin/{program}")
    assert compilation._is_python()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not compilation._is_python()


@pytest.mark.skipif(not compilation._possible(SGDRule), reason="needs two cores")
def test_nothing_is_started_where_it_could_not_leave_anything(monkeypatch, tmp_path):
    monkeypatch.setattr(code_cache, "_folders", lambda: [tmp_path])
    assert compilation._possible(SGDRule)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(code_cache, "_folders", lambda: [Path("/dev/null/code")])
    assert not compilation._possible(SGDRule)
