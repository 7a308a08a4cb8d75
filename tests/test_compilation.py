"""The first call ever: two processes compile, and nothing depends on it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from fastrev._engine import compilation

SCRIPT = """
import numpy as np, fastrev
from fastrev.kernels import adjoint, mlp_gradient, training
model = fastrev.MLP((2, 3, 2), dtype=np.float32)
x, y = np.ones((4, 2)), np.array([0, 1, 0, 1])
result = fastrev.meta_grad(model, model.init(0), train=(x, y), valid=(x, y), lr=0.1, decay=0.9, steps=3)
assert result.stats.exact
for kernel in (training.make, adjoint.pull, mlp_gradient.mean_loss_and_gradient):
    print(sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))
"""


def first_call(cache, **environment):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)} | environment
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:3]


@pytest.mark.skipif(not compilation._possible(), reason="needs two cores")
def test_the_way_back_is_compiled_beside_the_way_there(tmp_path):
    assert first_call(tmp_path) == ["0 1", "1 0", "1 0"]
    assert first_call(tmp_path) == ["1 0", "1 0", "1 0"]


@pytest.fixture
def cold(monkeypatch, tmp_path):
    """As before the first call, with a second process possible."""
    monkeypatch.setattr(compilation, "_helpers", {})
    monkeypatch.setattr(compilation, "_cached", lambda: False)
    monkeypatch.setattr(compilation, "_possible", lambda: True)
    monkeypatch.setattr(compilation, "_pull", type("NotCompiled", (), {"overloads": {}}))
    return monkeypatch


def test_a_system_without_processes_does_without(cold):
    def refuse(*arguments, **options):
        raise PermissionError("no processes here")

    cold.setattr(subprocess, "Popen", refuse)
    compilation.begin(np.dtype(np.float64))
    compilation.finish(np.dtype(np.float64))


def test_a_failing_process_is_waited_for(cold):
    cold.setattr(sys, "path", ["/nonexistent"])
    compilation.begin(np.dtype(np.float64))
    compilation.finish(np.dtype(np.float64))
    (helper,) = compilation._helpers.values()
    assert helper.returncode is not None


@pytest.mark.parametrize("program", ["", "uwsgi", "blender", "my_application"])
def test_another_program_is_never_started(monkeypatch, program):
    monkeypatch.setattr(sys, "executable", program)
    assert not compilation._possible()
