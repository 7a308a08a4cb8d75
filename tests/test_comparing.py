"""Results, runs and reversible arrays as objects: compared, printed, measured, without ever raising."""

from __future__ import annotations

import copy
import pickle
import pydoc
from dataclasses import replace

import numpy as np
import pytest

import fastrev
from fastrev._tuning.account import History
from tests.cases import digits_like

SMALL = fastrev.MLP((2, 2))
DATA = np.array([[1.0, 2], [0, -1], [3, 0.5]]), np.array([0, 1, 1])
GIVEN = {"train": DATA, "lr": 0.1, "decay": 0.5, "steps": 2}


def tuned():
    return fastrev.tune(SMALL, valid=DATA, learn=("lr", "w0"), w0=SMALL.init(0), meta_steps=2, progress=False, **GIVEN)


def minimized():
    return fastrev.minimize(lambda x, seed: (x["a"] @ x["a"], {"a": 2 * x["a"]}), {"a": [1.0, 2.0]}, progress=False)


def backed():
    sgd = fastrev.ReversibleSGD([1.0, 2.0])
    sgd.step(sgd.w, 0.5, 0.5)
    return sgd.backward(lambda w: w, lambda w, u: u, [1.0, 1.0], lr=0.5, decay=0.5)


MAKERS = {
    "MetaGradient": lambda: digits_like().meta_grad(),
    "Gradients": lambda: digits_like().meta_grad().grad,
    "Stats": lambda: digits_like().meta_grad().stats,
    "Stats of a run": lambda: digits_like().train().stats,
    "Curve": lambda: digits_like().train(curve=(np.zeros((1, 4)), [0], 5)).curve,
    "StepPullback": backed,
    "TuneResult": tuned,
    "MinimizeResult": minimized,
    "History": lambda: tuned().history,
    "MetaGradientCheck": lambda: fastrev.check_meta_grad(SMALL, SMALL.init(0), valid=DATA, **GIVEN),
    "HyperparameterCheck": lambda: fastrev.HyperparameterCheck(np.nan, 0.1, 0.2, 0.3),
    "TermCheck": lambda: fastrev.TermCheck(0.1, 3, True),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_results_compare_by_value_and_never_raise(make):
    a, b = make(), make()
    for other in (a, b, copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert (a == other) is True
        assert (a != other) is False
    for other in (None, 1.0, "x", np.nan, {}, (), tuple(vars(a)) if hasattr(a, "__dict__") else tuple(a), object()):
        assert (a == other) is False
        assert (other == a) is False
        assert (a != other) is True
    with pytest.raises(TypeError, match="unhashable"):
        hash(a)


def test_every_field_counts():
    result = digits_like().meta_grad()
    assert result != replace(result, loss=result.loss + 1)
    assert result != replace(result, w=result.w + 1)
    assert result != replace(result, w=result.w[:, None])
    assert result != replace(result, w=result.w[:-1])
    assert result != replace(result, stats=replace(result.stats, exact=None))
    assert result.stats != replace(result.stats, adjoint_norms=result.stats.adjoint_norms * 2)
    assert result.stats != replace(result.stats, adjoint_norms=None)
    assert result.grad != replace(result.grad, x=None)
    assert result.grad == replace(result.grad, lr=float(result.grad.lr))
    assert result != result.grad


def test_nan_is_equal_to_nan_and_a_shape_to_itself_only():
    gradients = fastrev.Gradients
    assert gradients(w0=np.array([np.nan, 1.0])) == gradients(w0=np.array([np.nan, 1.0]))
    assert gradients(w0=np.array([np.nan, 1.0])) != gradients(w0=np.array([1.0, np.nan]))
    assert gradients(lr=np.nan) == gradients(lr=np.float64(np.nan))
    assert gradients(lr=1.0) != gradients(lr=np.ones(1))
    assert gradients(lr=np.ones(2)) == gradients(lr=np.ones(2, np.float32))
    theta = {"a": np.ones(2), "b": 0.5}
    assert gradients(theta=theta) == gradients(theta={"b": np.float64(0.5), "a": np.ones(2)})
    assert gradients(theta=theta) != gradients(theta={"a": np.ones(2)})
    assert gradients(theta=theta) != gradients(theta=theta | {"a": np.ones(3)})
    assert gradients(theta=theta) != gradients()


def test_sequences_of_arrays_are_compared_and_what_cannot_be_is_no_error():
    class Vague:
        def __eq__(self, other):
            return np.ones(2) == 1

        __hash__ = None

    def gradients(value):
        return fastrev.Gradients(theta={"a": value})

    assert gradients([np.ones(2), 1.0]) == gradients([np.ones(2), np.float64(1)])
    assert gradients([(np.ones(2), "x")]) == gradients([(np.ones(2), "x")])
    for other in ([np.ones(2)], [np.ones(2), 2.0], (np.ones(2), 1.0), [np.ones(3), 1.0], np.ones(2), None):
        assert (gradients([np.ones(2), 1.0]) == gradients(other)) is False
        assert (gradients(other) == gradients([np.ones(2), 1.0])) is False
    vague = Vague()
    assert gradients([vague]) == gradients([vague])
    assert gradients([vague]) != gradients([Vague()])


def test_a_named_tuple_is_equal_to_its_like_only():
    curve = fastrev.Curve(np.arange(2), np.ones(2))
    assert curve == fastrev.Curve(np.arange(2), np.ones(2))
    for other in ((np.arange(2), np.ones(2)), History(*[np.arange(2)] * 4)):
        assert (curve == other) is False
        assert (other == curve) is False
        assert (other != curve) is True
    steps, losses = curve
    assert steps is curve.steps
    assert losses is curve.losses


def test_a_loaded_result_is_equal_to_the_one_that_was_saved(tmp_path):
    result = tuned()
    result.save(tmp_path / "a")
    loaded = fastrev.load(tmp_path / "a")
    assert loaded == result  # though it has no data
    assert loaded != replace(result, message="another")
    assert loaded != replace(result, learned={"lr": result.lr})


def test_results_that_differ_show_how_in_a_test():
    """What pytest does with them: it compares, prints and looks into them."""
    a = digits_like().meta_grad()
    assert [a] == [a]
    assert a in [digits_like(lr=0.1).meta_grad(), digits_like().meta_grad()]
    assert "MetaGradient(loss=" in repr(a)


# ---- what they look like -------------------------------------------------------------------------------------


def test_a_run_says_where_it_stands():
    run = digits_like().train()
    assert repr(run) == "Run(20 of 20 steps, 43 parameters, 0.152 bits per parameter and step, not taken back)"
    run.rewind()
    assert repr(run) == "Run(20 steps, 43 parameters, 0.152 bits per parameter and step, taken back, every bit)"
    seen = []
    digits_like().train(callback=lambda step, w: seen.append(step))

    def stop(step, w):
        seen.append(step)
        if step == 7:
            raise StopIteration

    assert repr(digits_like().train(callback=stop)).startswith("Run(7 of 20 steps, ")
    with pytest.raises(fastrev.DivergenceError) as caught:
        digits_like(lr=1e9).train()
    assert repr(caught.value.run) == "Run(0 of 20 steps, 43 parameters, 0 bits per parameter and step, not taken back)"


def test_a_run_that_is_half_way_back_says_so():
    class Bowl:
        num_params, stop, seen = 2, False, ""

        def grad(self, w, t):
            if self.stop and t == 2:
                self.seen = repr(run)
                raise RuntimeError
            return w

    model = Bowl()
    run = fastrev.train(model, [1.0, 2.0], lr=0.1, decay=0.5, steps=5)
    model.stop = True
    with pytest.raises(RuntimeError):
        run.rewind()
    assert "Run(5 steps, 2 parameters, " in repr(run)
    assert repr(run).endswith("taken back to step 3)")
    assert "taken back to step" in model.seen
    run._astray = True
    assert repr(run).endswith("lost on its way back)")


def test_a_reversible_sgd_says_where_it_stands():
    sgd = fastrev.ReversibleSGD([1.0, 2.0])
    assert repr(sgd) == "ReversibleSGD(2 parameters, 0 steps to undo, 0.0 bits)"
    sgd.step([1.0, 1.0], 0.1, 0.5)
    assert repr(sgd) == "ReversibleSGD(2 parameters, 1 steps to undo, 2.0 bits)"


@pytest.mark.parametrize("value", [0.5, [], [1.0, -2.0], [[1.0, 2.0, 3.0]], np.zeros((2, 0, 3))])
def test_a_reversible_array_is_one_to_numpy(value):
    a, array = fastrev.ReversibleArray(value), np.array(value, np.float64)
    assert (a.shape, a.ndim, a.size, a.dtype) == (array.shape, array.ndim, array.size, array.dtype)
    assert np.array_equal(np.asarray(a), array)
    assert np.array_equal(np.array(a, np.float32), array.astype(np.float32))
    assert np.asarray(a, np.float32).dtype == np.float32
    assert np.asarray(a, dtype=np.float64, copy=True).dtype == np.float64 if hasattr(np, "long") else True
    assert np.array_equal(np.add(a, 1), array + 1)
    with pytest.raises(ValueError, match="copy=False"):
        a.__array__(copy=False)
    if array.ndim:
        assert len(a) == len(array)
    else:
        with pytest.raises(TypeError, match="len"):
            len(a)
    np.asarray(a)[...] = 7.0  # which is nobody else's
    assert np.array_equal(a.value, array)


@pytest.mark.parametrize("value", [0.0, -0.5, 2.0**-52, [0.0], [[3.0]]])
def test_a_reversible_array_of_one_element_has_its_truth(value):
    assert bool(fastrev.ReversibleArray(value)) is bool(np.array(value))


@pytest.mark.parametrize("value", [[], [1.0, 2.0], np.zeros((2, 0, 3))])
def test_a_reversible_array_of_other_than_one_element_has_no_truth(value):
    with pytest.raises(ValueError, match=f"of {np.size(value)} elements is ambiguous"):
        bool(fastrev.ReversibleArray(value))


def test_numpy_2_may_ask_for_no_copy():
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        with pytest.raises(ValueError, match="without a copy"):
            np.array(fastrev.ReversibleArray([1.0]), copy=False)


def test_a_reversible_array_goes_where_arrays_go():
    w = np.arange(6) / 8
    assert np.array_equal(SMALL.outputs(fastrev.ReversibleArray(w), DATA[0]), SMALL.outputs(w, DATA[0]))


def test_help_lists_all_that_is_public():
    text = pydoc.plain(pydoc.render_doc(fastrev))
    for name in fastrev.__all__:
        assert name in text, name
    assert sorted(fastrev.__all__) == sorted({name for name in vars(fastrev) if _is_public(name)})


def _is_public(name):
    """Whether it is a name of `fastrev` for users, not a module that is there because something imported it."""
    return (
        not name.startswith("_")
        and not hasattr(getattr(fastrev, name), "__path__")
        and not isinstance(getattr(fastrev, name), type(pydoc))
    )
