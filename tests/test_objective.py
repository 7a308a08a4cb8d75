"""Models of one's own: the same steps and the same proof, and nothing that their functions do goes unseen."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

import fastrev
from tests.cases import digits_like, random_case, relative_error

T = 12


class Quadratic:
    """sum(scale * (w - center_t)**2) / 2 + sum(log(cosh(w))): cubic enough, and every derivative is a line."""

    num_params = 5
    groups = {"a": slice(0, 2), "b": slice(2, 5)}

    def __init__(self, **changes):
        rng = np.random.default_rng(0)
        self.centers = rng.standard_normal((T, 5))
        self.theta = {"scale": rng.uniform(0.5, 2, 5), "shift": np.float64(0.3)}
        vars(self).update(changes)

    def grad(self, w, t):
        return self.theta["scale"] * (w - self.centers[t] - self.theta["shift"]) + np.tanh(w)

    def hvp(self, w, u, t):
        return self.theta["scale"] * u + u / np.cosh(w) ** 2

    def cross(self, w, u, t):
        return {"scale": u * (w - self.centers[t] - self.theta["shift"]), "shift": -self.theta["scale"] @ u}


class Plain(Quadratic):
    """The same without hyperparameters of its own."""

    def __init__(self):
        super().__init__()
        self.values = self.theta
        del self.theta

    def grad(self, w, t):
        return w - self.centers[t] + np.tanh(w)

    def hvp(self, w, u, t):
        return u + u / np.cosh(w) ** 2


W0 = np.linspace(-1, 1, 5)
SETTINGS = {"lr": 0.3, "decay": 0.8, "steps": T}


def valid(w):
    return float(np.sum(w**4)), 4 * w**3


def meta_grad(model, **changes):
    return fastrev.meta_grad(model, W0, **({"valid": valid} | SETTINGS | changes))


def mlp_as_objective(case):
    """The case's model as functions; the arguments that are left, and the rows of every step."""
    model, a = case.model, dict(case.arguments)
    (x, y), l2 = a.pop("train"), a.pop("l2")
    weights, batches, steps = a.pop("example_weights"), a.pop("batches"), a["steps"]
    assert weights is None
    rows = np.tile(np.arange(len(x)), (steps, 1)) if batches is None else batches
    objective = SimpleNamespace(
        num_params=model.num_params,
        groups=model.groups,
        grad=lambda w, t: model.grad(w, x[rows[t]], y[rows[t]], l2),
        hvp=lambda w, u, t: model.hvp(w, u, x[rows[t]], y[rows[t]], l2),
    )
    a["valid"] = lambda w, data=a["valid"]: (model.loss_value(w, *data), model.grad(w, *data))
    return objective, a


# ---- the same run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", range(12))
def test_an_mlp_as_an_objective_goes_the_same_way_bit_for_bit(seed, dtype):
    case = random_case(seed, batch=None if seed % 3 == 0 else 5, dtype=dtype)
    case.arguments["example_weights"] = None
    wrt = ("lr", "decay", "w0", "v0")
    expected = case.meta_grad(wrt=wrt)
    objective, arguments = mlp_as_objective(case)
    result = fastrev.meta_grad(objective, case.w0, wrt=wrt, **arguments)
    np.testing.assert_array_equal(result.w, expected.w)
    np.testing.assert_array_equal(result.v, expected.v)
    assert result.stats.stored_bits == expected.stats.stored_bits
    assert result.stats.exact
    for name in wrt:
        got, wanted = getattr(result.grad, name), getattr(expected.grad, name)
        assert np.shape(got) == np.shape(wanted)
        assert relative_error(got, wanted) < (1e-12 if dtype == np.float64 else 1e-4), name
    np.testing.assert_allclose(result.stats.adjoint_norms, expected.stats.adjoint_norms, rtol=1e-4)


@pytest.mark.parametrize("shape", [(), (T,), (T, 1), (1, 2), (T, 2)])
def test_derivatives_of_every_shape_by_central_differences(shape):
    rng = np.random.default_rng(1)
    lr, v0, model = rng.uniform(0.1, 0.4, shape), rng.standard_normal(5), Quadratic()
    result = meta_grad(model, lr=lr, v0=v0)
    direction, eps = rng.standard_normal(shape), 1e-5
    losses = [meta_grad(model, lr=lr + sign * eps * direction, v0=v0).loss for sign in (1, -1)]
    assert np.shape(result.grad.lr) == shape
    assert np.sum(result.grad.lr * direction) == pytest.approx((losses[0] - losses[1]) / (2 * eps), rel=1e-6)
    for name, value in model.theta.items():
        direction = rng.standard_normal(value.shape)
        losses = [
            meta_grad(Quadratic(theta=model.theta | {name: value + sign * eps * direction}), lr=lr, v0=v0).loss
            for sign in (1, -1)
        ]
        numeric = (losses[0] - losses[1]) / (2 * eps)
        assert np.sum(result.grad.theta[name] * direction) == pytest.approx(numeric, rel=1e-6)
        assert np.shape(result.grad.theta[name]) == value.shape


def test_what_is_wanted_is_what_comes():
    assert meta_grad(Quadratic()).grad.theta.keys() == {"scale", "shift"}
    grad = meta_grad(Quadratic(), wrt=("w0",)).grad
    assert grad.theta is None
    assert grad.lr is None
    assert meta_grad(Plain()).grad.theta is None
    with pytest.raises(fastrev.ArgumentError, match=r"'wrt' must hold names among .*'theta', not 'x'"):
        meta_grad(Quadratic(), wrt=("x",))
    with pytest.raises(fastrev.ArgumentError, match="not 'theta'"):
        meta_grad(Plain(), wrt=("theta",))


def test_both_second_derivatives_at_once():
    class Both(Quadratic):
        def hvp_and_cross(self, w, u, t):
            return super().hvp(w, u, t), super().cross(w, u, t)

        def cross(self, w, u, t):
            raise AssertionError

    a, b = meta_grad(Quadratic()).grad, meta_grad(Both()).grad
    np.testing.assert_array_equal(a.theta["scale"], b.theta["scale"])
    np.testing.assert_array_equal(a.w0, b.w0)


def test_a_long_run_holds_little():
    model = Quadratic(centers=np.random.default_rng(0).standard_normal((20_000, 5)))
    run = fastrev.train(model, W0, lr=0.01, decay=0.97, steps=20_000)
    assert run.stats.bits_per_parameter_step == pytest.approx(np.log2(1 / 0.97), rel=1e-2)
    run.pullback(run.w)
    assert run.stats.exact
    assert run.stats.adjoint_norms.size <= 1025


# ---- what the functions may do -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "turn",
    [
        list,
        lambda g: g.astype(np.float32).astype(np.float64),
        lambda g: np.round(1e3 * g).astype(np.int64),
        lambda g: np.broadcast_to(g[:, None], (5, 2))[:, 0],
        lambda g: np.frombuffer(g.tobytes()),  # read-only
    ],
)
def test_gradients_come_in_many_forms(turn):
    class Turned(Plain):
        def grad(self, w, t):
            return turn(super().grad(w, t))

    assert meta_grad(Turned(), lr=1e-4).stats.exact


def test_float32_is_taken_exactly():
    class Single(Quadratic):
        def grad(self, w, t):
            return Quadratic.grad(self, w, t).astype(np.float32)

    assert meta_grad(Single(), wrt=("lr",)).stats.exact


def test_arrays_that_are_given_may_be_kept_and_changed():
    class Hostile(Quadratic):
        out, calls, kept = np.empty(5), 0, []

        def __getattribute__(self, name):
            own = super().__getattribute__(name)
            if name not in ("grad", "hvp", "cross"):
                return own

            def spoiling(*given):
                result = own(*given)
                Hostile.calls += 1
                for each in given[:-1]:
                    if Hostile.calls % 2:
                        each[:] = np.nan
                    else:
                        self.kept.append((each, each.copy()))
                if name == "cross":
                    return result
                self.out[:] = result  # the same array every time
                return self.out

            return spoiling

    model = Hostile()
    result, expected = meta_grad(model), meta_grad(Quadratic())
    np.testing.assert_array_equal(result.grad.w0, expected.grad.w0)
    np.testing.assert_array_equal(result.grad.theta["scale"], expected.grad.theta["scale"])
    for array, then in model.kept:
        np.testing.assert_array_equal(array, then)


@pytest.mark.parametrize("step", [0, 3, T - 1])
def test_a_gradient_that_does_not_come_again_is_refused_by_its_step(step):
    model = Quadratic()
    run = fastrev.train(model, W0, **SETTINGS)
    grad = model.grad
    model.grad = lambda w, t: np.nextafter(grad(w, t), np.inf) if t == step else grad(w, t)
    with pytest.raises(fastrev.ReversalError, match=rf"Step {step} .*model.grad\(w, {step}\).*w and t alone") as error:
        run.pullback(run.w)
    assert "rewind" in str(error.value)
    assert error.value.run is run
    assert pickle.loads(pickle.dumps(error.value)).run is None
    with pytest.raises(fastrev.ReversalError, match=rf"Step {step} "):
        run.rewind()
    model.grad = grad
    run.rewind()
    assert run.stats.exact


def test_hyperparameters_that_change_in_place_are_named():
    model = Quadratic()
    run = fastrev.train(model, W0, **SETTINGS)
    model.theta["scale"][0] *= 2
    with pytest.raises(fastrev.ReversalError, match=r"Step 11 .*model.theta\['scale'\] changed in place"):
        run.pullback(run.w)
    frozen = Quadratic(grad=lambda w, t: w)  # does not notice: the proof does
    run = fastrev.train(frozen, W0, **SETTINGS)
    frozen.theta["scale"][0] *= 2
    with pytest.raises(fastrev.ReversalError, match=r"'model.theta\['scale'\]' changed in place"):
        run.pullback(run.w)


class Unreadable:
    """As a tensor of a framework that does not hand it over."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("not mine to give.")


@pytest.mark.parametrize("rewind", [False, True])
@pytest.mark.parametrize("theta", [None, {}, {"shift": 0.3}, {"scale": np.ones(5), "shift": 0.3}])
def test_hyperparameters_that_are_gone_are_named(theta, rewind):
    frozen = Quadratic(grad=lambda w, t: w, hvp=lambda w, u, t: u)
    run = fastrev.train(frozen, W0, **SETTINGS)
    frozen.theta = theta
    with pytest.raises(fastrev.ReversalError, match=r"'model.theta\['scale'\]' .*changed in place"):
        run.rewind() if rewind else run.pullback(run.w, wrt=("lr",))


def test_groups_may_be_counted_from_the_end():
    lr = np.array([[0.1, 0.2]])
    expected = meta_grad(Quadratic(), lr=lr).grad.lr
    groups = {"a": slice(None, -3), "b": slice(np.int64(-3), None, 1)}
    np.testing.assert_array_equal(meta_grad(Quadratic(groups=groups), lr=lr).grad.lr, expected)


@pytest.mark.parametrize("name", ["theta", "groups"])
def test_a_property_that_fails_is_not_missing(name):
    class Faulty:
        num_params, grad, hvp = 5, staticmethod(lambda w, t: w), staticmethod(lambda w, u, t: u)
        locals()[name] = property(lambda self: {"a": self.forgotten})

    with pytest.raises(AttributeError, match="forgotten"):
        meta_grad(Faulty())


def test_names_of_hyperparameters_may_hold_anything():
    model = Quadratic(theta={"a{b}": np.ones(2)}, grad=lambda w, t: w, hvp=lambda w, u, t: u)
    model.cross = lambda w, u, t: {"a{b}": 0.0}
    with pytest.raises(fastrev.ArgumentError, match=r"cross\(w, u, 11\)\['a{b}'\] must return shape \(2,\)"):
        meta_grad(model)


class TrippedError(Exception):
    pass


@pytest.mark.parametrize("method", ["grad", "hvp", "cross"])
@pytest.mark.parametrize("step", [0, 5, T - 1])
def test_an_exception_leaves_a_whole_run(method, step):
    model = Quadratic()
    run = fastrev.train(model, W0, **SETTINGS)
    own = getattr(model, method)

    def trip(*arguments):
        if arguments[-1] == step:
            raise TrippedError
        return own(*arguments)

    setattr(model, method, trip)
    with pytest.raises(TrippedError):
        run.pullback(run.w)
    with pytest.raises(fastrev.ReversalError, match="has begun its way back"):
        run.pullback(run.w)
    setattr(model, method, own)
    run.rewind()
    assert run.stats.exact


def test_ctrl_c_while_training_gives_the_run_so_far():
    def grad(w, t):
        if t == 7:
            raise KeyboardInterrupt
        return w

    with pytest.raises(fastrev.TrainingInterrupt) as info:
        fastrev.train(SimpleNamespace(num_params=5, grad=grad), W0, **SETTINGS)
    run = info.value.run
    assert run.stats.steps == 7
    run.rewind()
    assert run.stats.exact


def test_a_function_that_takes_its_own_run_back_is_refused():
    runs = []

    def grad(w, t):
        if runs:
            runs[0].rewind()
        return w

    run = fastrev.train(SimpleNamespace(num_params=5, grad=grad), W0, **SETTINGS)
    runs.append(run)
    with pytest.raises(fastrev.ReversalError, match="another call is at work"):
        run.rewind()
    runs.clear()
    run.rewind()


def test_copies_share_nothing_and_travel():
    run = fastrev.train(Quadratic(), W0, **SETTINGS)
    others = [copy.deepcopy(run), pickle.loads(pickle.dumps(run))]
    expected = run.pullback(run.w)
    for other in others:
        np.testing.assert_array_equal(other.pullback(other.w).w0, expected.w0)


def test_divergence_names_step_and_group():
    with pytest.raises(fastrev.DivergenceError, match=r"Step \d+ of 12 .*in group 'b'.*lr = 900") as info:
        meta_grad(Quadratic(), lr=np.array([[1e-3, 900.0]]))
    info.value.run.rewind()
    with pytest.raises(fastrev.DivergenceError, match=r"Step 0 of 12 .*NaN"):
        meta_grad(Quadratic(grad=lambda w, t: w * np.nan))
    with pytest.raises(fastrev.DivergenceError, match="validation loss after training is nan"):
        meta_grad(Quadratic(), valid=lambda w: (np.nan, w))


# ---- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_params": None}, r"'model.num_params' must be a whole number, not None"),
        ({"num_params": 0}, r"'model.num_params' must be at least 1"),
        ({"num_params": 4}, r"'model.groups' must be slices that follow each other from 0 to 4.*'b'"),
        ({"grad": 3}, r"'model.grad' must be a method, not 3"),
        ({"hvp": None}, r"'model.hvp' must be a method, not None"),
        ({"groups": {}}, r"'model.groups' must map names to slices"),
        ({"groups": {"a": slice(0, 2)}}, r"'model.groups' must hold all 5 parameters, not the first 2 only"),
        ({"groups": {"a": slice(0, 2), "b": slice(3, 5)}}, r"follow each other.*'b': slice\(3, 5, None\)"),
        ({"groups": {"a": slice(0, 5, 2)}}, "follow each other"),
        ({"groups": {"a": slice(0, 0), "b": slice(0, 5)}}, "none empty"),
        ({"groups": {"a": 5}}, "follow each other"),
        ({"groups": {"a": slice(0, -1)}}, "must hold all 5 parameters, not the first 4 only"),
        ({"groups": {"a": slice(0, 4), "b": slice(-2, None)}}, r"follow each other.*'b': slice\(-2, None, None\)"),
        ({"groups": {"a": slice(0, 6)}}, r"follow each other.*'a': slice\(0, 6, None\)"),
        ({"groups": {"a": slice(0.0, 5.0)}}, "follow each other"),
        ({"groups": {"a": slice(0, 5, 0)}}, "follow each other"),
        ({"theta": {"a": np.ma.array([1.0, 2.0], mask=[0, 1])}}, r"'model.theta\['a'\]' .* not a masked array"),
        ({"theta": [1.0]}, r"'model.theta' must map names to arrays, not a list"),
        ({"theta": {"a": "b"}}, r"'model.theta\['a'\]' must be an array of real numbers"),
        ({"theta": {"a": np.nan}}, r"'model.theta\['a'\]' must be finite"),
        ({"cross": None}, r"'model.cross' must be a method, not None"),
    ],
)
def test_a_description_at_fault(changes, message):
    with pytest.raises(fastrev.ArgumentError, match=message):
        meta_grad(Quadratic(**changes))


def test_a_class_in_place_of_an_object_is_named():
    with pytest.raises(fastrev.ArgumentError, match="'model' must be an object, not the class Quadratic"):
        meta_grad(Quadratic)


def test_missing_derivatives_are_named_before_anything_is_computed():
    calls = []
    bare = SimpleNamespace(num_params=5, grad=lambda w, t: calls.append(t) or w)
    with pytest.raises(fastrev.ArgumentError, match=r"'model.hvp' must be there"):
        meta_grad(bare)
    bare.hvp, bare.theta = (lambda w, u, t: u), {"a": np.ones(2)}
    with pytest.raises(fastrev.ArgumentError, match=r"'model.cross' must be there"):
        meta_grad(bare)
    assert not calls
    del bare.theta
    assert meta_grad(bare).stats.exact


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grad": lambda w, t: None}, r"model.grad\(w, 0\) must return an array of real numbers, not None"),
        ({"grad": lambda w, t: w[1:]}, r"model.grad\(w, 0\) must return shape \(5,\).*not shape \(4,\)"),
        ({"grad": lambda w, t: w * 1j}, "not one of dtype complex128"),
        ({"grad": lambda w, t: [w, [1.0]]}, r"model.grad\(w, 0\) must return an array of real numbers"),
        ({"grad": lambda w, t: 1.0}, r"shape \(5,\).*not shape \(\)"),
        ({"grad": lambda w, t: np.ma.array(w, mask=w > 0)}, r"model.grad\(w, 0\) .* not a masked array with masked"),
        ({"grad": lambda w, t: Unreadable()}, r"model.grad\(w, 0\) .* not a Unreadable: not mine to give\."),
        ({"hvp": lambda w, u, t: np.where(t == 3, np.nan, u)}, r"model.hvp\(w, u, 3\) must return finite numbers"),
        (
            {"cross": lambda w, u, t: {"scale": u, "shift": np.inf if t == 3 else 0.0}},
            r"model.cross\(w, u, 3\)\['shift'\] must return finite numbers",
        ),
        ({"hvp": lambda w, u, t: u[:, None]}, r"model.hvp\(w, u, 11\) must return shape \(5,\).*not shape \(5, 1\)"),
        ({"cross": lambda w, u, t: 0}, r"model.cross\(w, u, 11\) must return a dict with 'scale', 'shift', not int"),
        ({"cross": lambda w, u, t: {"scale": u}}, "a dict with 'scale', 'shift', not 'scale'"),
        ({"cross": lambda w, u, t: {"scale": 0.0, "shift": 0.0}}, r"cross\(w, u, 11\)\['scale'\] .*shape \(5,\)"),
        ({"hvp_and_cross": lambda w, u, t: u}, r"model.hvp_and_cross\(w, u, 11\) must return a pair"),
    ],
)
def test_a_function_that_returns_something_else(changes, message):
    with pytest.raises(fastrev.ArgumentError, match=message):
        meta_grad(Quadratic(**changes))


@pytest.mark.parametrize(
    "changes",
    [{"train": (W0, W0)}, {"batch_size": 2}, {"seed": 1}, {"batches": [[0]] * T}, {"l2": 0.1}, {"example_weights": W0}],
    ids=lambda changes: next(iter(changes)),
)
def test_data_are_the_objectives_own_business(changes):
    (name,) = changes
    with pytest.raises(fastrev.ArgumentError, match=f"'{name}' must be left out where the model"):
        meta_grad(Quadratic(), **changes)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ((W0, W0), r"'valid' must be a function from weights \(P,\)"),
        (lambda w: 1.0, r"valid\(w\) must return a pair"),
        (lambda params, theta, t: 1.0, "'valid' must be a function of the final weights alone, not <lambda>, which"),
        (lambda w: (w, w), r"valid\(w\)\[0\] must be a number"),
        (lambda w: (1.0, w[1:]), r"valid\(w\)\[1\] must be the gradient.*\(5,\), not of shape \(4,\)"),
        (lambda w: (1.0, None), r"valid\(w\)\[1\].*dtype object"),
        (lambda w: (1.0, [1.0, [2.0]]), r"valid\(w\)\[1\].* not a ragged sequence"),
        (lambda w: (Unreadable(), w), r"valid\(w\)\[0\].* not a Unreadable: not mine to give\."),
        (lambda w: (1.0, np.ma.array(w, mask=w > 0)), r"valid\(w\)\[1\].* not a masked array"),
    ],
)
def test_a_validation_at_fault(function, message):
    with pytest.raises(fastrev.ArgumentError, match=message):
        meta_grad(Quadratic(), valid=function)


def test_an_mlp_takes_a_function_for_its_validation():
    case = digits_like()
    data = case.arguments["valid"]
    expected = case.meta_grad()
    result = case.meta_grad(valid=lambda w: (case.model.loss_value(w, *data), case.model.grad(w, *data)))
    assert result.loss == pytest.approx(expected.loss, rel=1e-12)
    assert relative_error(result.grad.w0, expected.grad.w0) < 1e-12
    with pytest.raises(fastrev.ArgumentError, match=r"'train' must be a pair \(X, Y\).*NoneType"):
        case.meta_grad(train=None)


def test_results_print_briefly():
    text = repr(meta_grad(Quadratic(), lr=np.full((T, 2), 0.1)))
    assert text.startswith("MetaGradient(loss=")
    for piece in ("w=array(5,)", "lr=array(12, 2)", "decay=", "theta={'scale': array(5,), 'shift': ", "exact=True"):
        assert piece in text
    assert "x=" not in text
    assert len(text) < 400


def test_a_progress_bar_moves_with_every_step(capsys):
    meta_grad(Quadratic(), progress=True)
    assert "12/12" in capsys.readouterr().err
