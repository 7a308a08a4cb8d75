"""`fastrev.compile`: what it leaves on disk is all that runs need, and many processes may leave it at once."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack

import pytest

import fastrev
from tests.test_house import copy_package, run_python

OPTIMIZERS = {
    "SGD": ("None", "fastrev.SGD(np.full((6, 1), 0.1), 0.9)"),
    "Adam": ("fastrev.Adam(np.ones((7, 3)))", "fastrev.Adam(np.full((6, 1), 0.1), weight_decay=0.5)"),
}
COMPILE = "import numpy as np, fastrev; assert fastrev.compile(np.float32, optimizer={}) is None"
USE = """
import numpy as np, fastrev

optimizer, starts = OPTIMIZER, STARTS
rng = np.random.default_rng(0)
x, y = rng.random((40, 3)), rng.random((40, 2))
for loss in ("cross_entropy", "logistic"):
    model = fastrev.MLP((3, 5, 4, 2), loss=loss, dtype=np.float32)
    w0, train = model.init(0), {"optimizer": optimizer, "l2": 1e-3, "batch_size": 7}
    run = fastrev.train(model, w0, train=(x, y), **dict.fromkeys(starts, w0), example_weights=np.ones(40), **train)
    run.rewind()
    for per_run in (1, 2):
        with fastrev.threads(per_run=per_run):
            wrt = (*optimizer.kind.names, "w0", *starts, "l2", "x", "y", "example_weights")
            fastrev.meta_grad(model, w0, train=(x, y), valid=(x, y), wrt=wrt, **train)
    model.loss_value(w0, x, y), model.accuracy(w0, x, y), model.predict(w0, x), model.grad(w0, x, y)

class Bowl:
    num_params = 3
    theta = {"a": np.ones(2)}
    def grad(self, w, t): return w
    def hvp(self, w, u, t): return u
    def cross(self, w, u, t): return {"a": np.zeros(2)}

fastrev.meta_grad(Bowl(), np.ones(3), valid=lambda w: (w @ w / 2, w), optimizer=optimizer, buffer=".")
"""
COMPILED = """
import sys
from numba.core.dispatcher import Dispatcher
kernels = {
    id(value): value for name, module in list(sys.modules.items()) if name.startswith("fastrev.kernels")
    for value in vars(module).values() if isinstance(value, Dispatcher)
}
print([kernel.py_func.__name__ for kernel in kernels.values() if kernel.stats.cache_misses])
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of the package, with an empty cache."""
    copy_package(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_afterwards_nothing_is_left_to_compile(copy, kind):
    asked, used = OPTIMIZERS[kind]
    run_python(COMPILE.format(asked), copy)
    use = USE.replace("OPTIMIZER", used).replace("STARTS", repr(getattr(fastrev, kind).kind.starts))
    assert run_python(use + COMPILED, copy) == "[]\n"


@pytest.mark.parametrize("optimizer", ["adam", fastrev.Adam])
def test_another_optimizer_is_refused(optimizer):
    with pytest.raises(fastrev.ArgumentError, match=r"'optimizer' must be a fastrev\.SGD or fastrev\.Adam, not "):
        fastrev.compile(optimizer=optimizer)


def test_eight_processes_on_an_empty_cache(copy):
    """With the arithmetic by itself: a whole `fastrev.compile` would take each of them 20 s or more."""
    script = """
import fastrev
array = fastrev.ReversibleArray([1.0, -2.0])
array.mul(9, 10); array.add([0.1, 0.1])
print(array.value.tobytes().hex())
array.sub([0.1, 0.1]); array.div(9, 10)
array.verify()
"""
    inherited = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-W", "error", "-c", script], env=inherited | {"PYTHONPATH": str(copy)}, cwd=copy,
                    stdout=subprocess.PIPE, text=True,
                )
            ) for _ in range(8)
        ]  # fmt: skip
        results = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    assert len(set(results)) == 1
    assert run_python(script + COMPILED, copy) == results[0] + "[]\n"


def test_another_dtype_is_refused():
    with pytest.raises(fastrev.ArgumentError, match=r"'dtype' must be numpy\.float64 or numpy\.float32, not 'int8'"):
        fastrev.compile("int8")
