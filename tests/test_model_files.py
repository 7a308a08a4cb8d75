"""Models in files, and the probabilities that they give."""

from __future__ import annotations

import re
from unittest import mock

import numpy as np
import pytest

import fastrev
from fastrev._files import files
from tests.cases import ACTIVATIONS, LOSSES
from tests.test_comparing import tuned

MODEL = fastrev.MLP((3, 4, 2))
W = MODEL.init(0)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_model_comes_back_to_the_bit(loss, dtype, tmp_path):
    for activation in ACTIVATIONS:
        model = fastrev.MLP((3, 4, 2), activation, loss, dtype)
        w = model.init(1) * 1e-3
        w[:4] = -0.0, 5e-324, 1e300, np.pi
        model.save(tmp_path / "a", w)
        again, found = fastrev.MLP.load(tmp_path / "a")
        assert repr(again) == repr(model)
        assert again == model
        assert hash(again) == hash(model)
        assert (found.dtype, found.tobytes()) == (np.float64, w.tobytes())
        assert found.flags.writeable
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
    with np.load(tmp_path / "a", allow_pickle=False) as plain:  # as anybody reads it
        assert plain["w"].tobytes() == w.tobytes()


def test_models_are_equal_if_their_arguments_are():
    others = [
        fastrev.MLP((3, 5, 2)), fastrev.MLP((3, 4, 2), "relu"), fastrev.MLP((3, 4, 2), loss="logistic"),
        fastrev.MLP((3, 4, 2), dtype=np.float32), None, "MLP",
    ]  # fmt: skip
    assert fastrev.MLP(np.array([3, 4, 2]), dtype="float64") == MODEL
    assert all(other != MODEL for other in others)
    assert mock.ANY == MODEL
    assert MODEL == mock.ANY
    assert len({MODEL, fastrev.MLP((3, 4, 2)), *others[:4]}) == 5


def test_whoever_inherits_loads_one_of_its_own(tmp_path):
    class Mine(fastrev.MLP):
        pass

    MODEL.save(tmp_path / "a", W)
    assert type(Mine.load(tmp_path / "a")[0]) is Mine


def test_what_cannot_be_saved_leaves_the_old_file(tmp_path):
    MODEL.save(tmp_path / "a", W)
    for w, message in {"short": (W[:-1], "'w' must have shape"), "nan": (W * np.nan, "'w' must be finite")}.values():
        with pytest.raises(fastrev.ArgumentError, match=message):
            MODEL.save(tmp_path / "a", w)
    with pytest.raises(fastrev.ArgumentError, match="'path' must be"):
        MODEL.save(tmp_path / "none" / "a", W)
    assert np.array_equal(fastrev.MLP.load(str(tmp_path / "a"))[1], W)


def test_files_of_another_kind_say_what_reads_them(tmp_path):
    MODEL.save(tmp_path / "model", W)
    tuned().save(tmp_path / "tuned")
    with pytest.raises(fastrev.ArgumentError, match=r"of kind 'model', not 'tune result'. Call fastrev.MLP.load\."):
        fastrev.load(tmp_path / "model")
    with pytest.raises(fastrev.ArgumentError, match=r"of kind 'tune result', not 'model'. Call fastrev.load\(path\)\."):
        fastrev.MLP.load(tmp_path / "tuned")
    with pytest.raises(fastrev.ArgumentError, match=r"of kind 'model', not 'tuning checkpoint'. Call fastrev.MLP"):
        fastrev.minimize(lambda x, seed: (0.0, x), {"a": 1.0}, checkpoint=tmp_path / "model", progress=False)


def test_every_damage_is_found(tmp_path):
    MODEL.save(tmp_path / "a", W)
    whole = (tmp_path / "a").read_bytes()
    rng = np.random.default_rng(0)
    for cut in (0, 1, 100, len(whole) - 1):
        (tmp_path / "b").write_bytes(whole[:cut])
        with pytest.raises(fastrev.ArgumentError, match="'path' must be a file that fastrev wrote"):
            fastrev.MLP.load(tmp_path / "b")
    for at in rng.integers(len(whole), size=100):
        (tmp_path / "b").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(fastrev.ArgumentError, match="'path' must be a file that fastrev wrote"):
            fastrev.MLP.load(tmp_path / "b")
    for path in (tmp_path, tmp_path / "none", None, 3):
        with pytest.raises(fastrev.ArgumentError, match="'path' must be"):
            fastrev.MLP.load(path)
    np.savez(tmp_path / "c.npz", w=W)
    with pytest.raises(fastrev.ArgumentError, match="no file of fastrev's"):
        fastrev.MLP.load(tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("about", "arrays"),
    [
        ({}, {"w": W}),
        ({"model": None}, {"w": W}),
        ({"model": {"sizes": [3, 4, 2]}}, {}),
        ({"model": {"sizes": [3, 4, 2]}}, {"w": W[:-1]}),
        ({"model": {"sizes": [3, 4, 2]}}, {"w": W + np.inf}),
        ({"model": {"sizes": [3, 4, 2], "colour": "red"}}, {"w": W}),
        ({"model": {"sizes": [2**40, 2**40]}}, {"w": W}),
        ({"model": {"sizes": "abc"}}, {"w": W}),
        ({"model": {"sizes": [3, 4, 2], "dtype": "int8"}}, {"w": W}),
    ],
)
def test_a_file_that_was_made_by_hand_is_refused(about, arrays, tmp_path):
    files.write(tmp_path / "a", files.MODEL, about, arrays)
    with pytest.raises(fastrev.ArgumentError, match=re.escape("'path' must be a file that fastrev wrote")):
        fastrev.MLP.load(tmp_path / "a")


# ---- probabilities -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_probabilities_are_those_of_the_formulas(dtype):
    X = np.random.default_rng(0).standard_normal((50, 3))
    classes, binary = fastrev.MLP((3, 4, 5), dtype=dtype), fastrev.MLP((3, 4, 5), loss="logistic", dtype=dtype)
    w = 3 * classes.init(0)
    z = classes.outputs(w, X)
    p = classes.predict_proba(w, X)
    assert p.dtype == np.float64
    assert p.shape == (50, 5)
    assert np.allclose(p, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), rtol=1e-13, atol=0)
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-15
    assert np.array_equal(p.argmax(axis=1), classes.predict(w, X))
    assert np.allclose(-np.log(p)[np.arange(50), 1].mean(), classes.loss_value(w, X, np.ones(50, int)), rtol=1e-6)
    q = binary.predict_proba(w, X)
    assert q.shape == (50, 5)
    assert np.allclose(q, 1 / (1 + np.exp(-binary.outputs(w, X))), rtol=1e-13, atol=0)
    assert np.array_equal(q > 0.5, binary.predict(w, X))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_probabilities_of_extreme_outputs(dtype):
    """Outputs of 1000, as of weights that are far from anything trained."""
    w, X = np.array([1000.0, -1000.0, 0.0, 0.0]), np.array([[1.0], [-1.0], [0.0]])
    p = fastrev.MLP((1, 2), dtype=dtype).predict_proba(w, X)
    assert np.array_equal(p, [[1, 0], [0, 1], [0.5, 0.5]])
    q = fastrev.MLP((1, 2), loss="logistic", dtype=dtype).predict_proba(w, X)
    assert np.array_equal(q, [[1, 0], [0, 1], [0.5, 0.5]])
    one = fastrev.MLP((1, 1), loss="logistic").predict_proba(w[[0, 2]], X)
    assert one.shape == (3, 1)


def test_squared_error_gives_no_probabilities():
    model = fastrev.MLP((3, 2), loss="squared_error")
    with pytest.raises(fastrev.ArgumentError, match=r"'model\.loss' must be 'cross_entropy' or 'logistic' for prob"):
        model.predict_proba(model.init(0), np.zeros((1, 3)))
