"""How far back a meta-gradient means anything: norms of the adjoint, the warning, and derivatives that end early."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

import fastrev
from fastrev._attribution import source
from fastrev._engine import chaos
from fastrev._engine import state as states
from fastrev.runs import Run
from tests.cases import WRT, digits_like, relative_error
from tests.test_interrupts import inject
from tests.test_objective import SETTINGS, W0, Quadratic, T, valid

STEPS = 14


def problems():
    """A function that trains from (w, v) with the steps from `first` on, and what it is differentiated by."""
    rng = np.random.default_rng(0)
    case = digits_like(steps=STEPS)
    rows = rng.integers(40, size=(STEPS, 8))
    lr, decay = rng.uniform(0.1, 0.5, (STEPS, 4)), rng.uniform(0.5, 0.95, STEPS)

    def mlp(w, v, first, last=STEPS):
        return case.train(
            steps=None, batch_size=None, batches=rows[first:last], lr=lr[first:last], decay=decay[first:last], v0=v,
            l2=0.01,
        ) if w is None else fastrev.train(
            case.model, w, train=case.arguments["train"], batches=rows[first:last], lr=lr[first:last],
            decay=decay[first:last], v0=v, l2=0.01,
        )  # fmt: skip

    def objective(w, v, first, last=STEPS):
        whole = Quadratic(centers=np.random.default_rng(3).standard_normal((STEPS, 5)))
        whole.centers = whole.centers[first:]
        return fastrev.train(
            whole, W0 if w is None else w, lr=lr[first:last, :2], decay=decay[first:last], v0=v
        )  # fmt: skip

    return [(mlp, WRT), (objective, ("lr", "decay", "w0", "v0", "theta"))]


@pytest.mark.parametrize("per_run", [1, 2])
@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("last", [1, 2, 5, STEPS - 1, STEPS, 10 * STEPS])
def test_a_truncated_pullback_is_that_of_the_last_steps(monkeypatch, kind, last, per_run):
    monkeypatch.setattr("fastrev._engine.compiled_walk._CHUNK_STEPS", 4)
    train, wrt = problems()[kind]
    first = max(STEPS - last, 0)
    run = train(None, None, 0)
    w_bar = run.w
    with fastrev.threads(per_run=per_run):
        grad = run.pullback(w_bar, wrt=wrt, truncate=last)
        assert run.stats.exact
        start = train(None, None, 0, first) if first else None
        tail = train(start.w, start.v, first) if first else train(None, None, 0)
        expected = tail.pullback(w_bar, wrt=wrt)
    for name in set(wrt) - {"w0", "v0", "lr", "decay", "theta"}:
        assert relative_error(getattr(grad, name), getattr(expected, name)) < 1e-10, name
    for name in ("lr", "decay"):
        assert not np.any(getattr(grad, name)[:first])
        assert relative_error(getattr(grad, name)[first:], getattr(expected, name)) < 1e-10, name
    for name in ("w0", "v0"):
        if first:
            assert not np.any(getattr(grad, name))
        else:
            np.testing.assert_array_equal(getattr(grad, name), getattr(expected, name))
    if kind:
        assert relative_error(grad.theta["scale"], expected.theta["scale"]) < 1e-10
    # the adjoint's norms are those of the derivatives by the weights at these steps
    assert run.stats.adjoint_steps.tolist() == list(range(first, STEPS + 1))
    assert run.stats.adjoint_norms[0] == pytest.approx(np.linalg.norm(expected.w0), rel=1e-10)
    assert run.stats.adjoint_norms[-1] == pytest.approx(np.linalg.norm(w_bar), rel=1e-14)


@pytest.mark.parametrize("last", [0, -1, 1.5, True])
def test_truncate_must_be_a_number_of_steps(last):
    with pytest.raises(fastrev.ArgumentError, match="'truncate' must be"):
        digits_like().meta_grad(truncate=last)
    run = digits_like().train()
    with pytest.raises(fastrev.ArgumentError, match="'truncate' must be"):
        run.pullback(run.w, truncate=last)
    assert run.pullback(run.w, truncate=3).lr


@pytest.mark.parametrize("steps", [1, 1023, 1024, 1025, 3000])
def test_norms_of_a_long_run_are_thinned(steps):
    run = fastrev.train(Quadratic(centers=np.zeros((steps, 5))), W0, lr=0.1, decay=0.9, steps=steps)
    assert run.stats.adjoint_norms is None
    run.pullback(np.ones(5))
    at = run.stats.adjoint_steps
    assert at[0] == 0
    assert at[-1] == steps
    assert at.size == run.stats.adjoint_norms.size <= 1025
    assert len(set(np.diff(at[:-1]).tolist())) <= 1
    assert np.isfinite(run.stats.adjoint_norms).all()


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("made", [1, 5])
def test_a_run_that_ended_early_has_the_norms_of_its_steps(kind, made):
    train, _ = problems()[kind]
    expected = train(None, None, 0, made)
    run = train(None, None, 0)
    run.rewind()
    run = Run(run._problem)
    while run.stats.steps < made:
        states.make_room(run._state.tail, int(run._state.cursor[1]), run.w.size)
        run._walk.maker(0, made)(run._state, made)
    w_bar = run.w
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.pullback(w_bar)
    expected.pullback(w_bar)
    np.testing.assert_array_equal(run.stats.adjoint_norms, expected.stats.adjoint_norms)
    assert run.stats.adjoint_steps.tolist() == list(range(made + 1))


def test_a_run_without_a_step_has_a_norm():
    with pytest.raises(fastrev.DivergenceError) as error:
        fastrev.train(Quadratic(grad=lambda w, t: np.full(5, np.inf)), W0, **SETTINGS)
    run = error.value.run
    np.testing.assert_array_equal(run.pullback(2 * W0).w0, 2 * W0)
    assert run.stats.adjoint_steps.tolist() == [0]


def egg_box(steps):
    model = Quadratic(centers=np.zeros((steps, 5)))
    model.grad = lambda w, t: np.sin(3 * w)
    model.hvp = lambda w, u, t: 3 * np.cos(3 * w) * u
    model.cross = lambda w, u, t: {"scale": np.zeros(5), "shift": 0.0}
    return model


def chaotic(steps=200, **changes):
    """Gradient descent on an egg box, far beyond its stable rates."""
    how = {"valid": valid, "lr": 4.0, "decay": 0.5, "steps": steps}
    return fastrev.meta_grad(egg_box(steps), W0, **(how | changes))


def test_chaos_is_warned_of_with_the_step_and_a_remedy_that_holds():
    with pytest.warns(fastrev.ChaosWarning) as caught:
        result = chaotic()
    (warning,) = caught
    assert warning.filename == __file__
    message = str(warning.message)
    norms, at = result.stats.adjoint_norms, result.stats.adjoint_steps
    step, steady = (at[1:][norms[:-1] > growth * norms[-1]].max() for growth in (1e3, 10))
    assert f"before step {step} is noise" in message
    assert f"truncate={200 - steady}" in message
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chaotic(truncate=200 - steady).stats.adjoint_norms.max() <= 10 * norms[-1]
        chaotic(lr=0.01)
        fastrev.meta_grad(Quadratic(), W0, valid=valid, **SETTINGS)


def still(w):
    return 0.0, np.zeros(w.size)


def test_losses_are_named_by_whoever_gave_them(monkeypatch):
    """By the argument that they came in, and by their numbers there also where they are taken in blocks."""

    def said():
        return [re.search(r"meta-gradient (.*?)(?:grew|overflowed)", str(each.message))[1] for each in caught]

    with pytest.warns(fastrev.ChaosWarning) as caught:
        chaotic(valid=[still, valid, valid, still])
    assert said() == ["of 2 of 4 losses (valid[1, 2]) "]
    with pytest.warns(fastrev.ChaosWarning) as caught:
        chaotic()
    assert said() == [""]
    run = fastrev.train(egg_box(200), W0, lr=4.0, decay=0.5, steps=200)
    with pytest.warns(fastrev.ChaosWarning) as caught:
        run.pullback(np.stack([run.w, 0 * run.w]))
    assert said() == ["of 1 of 2 losses (w_bar[0]) "]

    model, how = egg_box(200), {"example_weights": "scale", "lr": 4.0, "decay": 0.5, "steps": 200}
    problem = fastrev.attribute(model, W0, queries=[still], **how).source.problem
    monkeypatch.setattr(source, "_BLOCK_BYTES", 3 * source.bytes_of_a_query(problem))
    with pytest.warns(fastrev.ChaosWarning) as caught:
        fastrev.attribute(model, W0, queries=[still, valid, valid, valid, still, valid, still, valid], **how)
    assert said() == ["of 2 of 3 losses (queries[1, 2]) ", "of 2 of 3 losses (queries[3, 5]) ",
                      "of 1 of 2 losses (queries[7]) "]  # fmt: skip
    with pytest.warns(fastrev.ChaosWarning) as caught:
        fastrev.attribute(model, W0, queries=[still, still, still, valid], **how)
    assert said() == ["of queries[3] "]
    assert (caught[0].filename, len(caught)) == (__file__, 1)


def test_where_warnings_are_errors_the_run_has_been_taken_back():
    model = Quadratic(grad=lambda w, t: np.sin(3 * w), hvp=lambda w, u, t: 3 * np.cos(3 * w) * u)
    run = fastrev.train(model, W0, lr=4.0, decay=0.5, steps=200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(fastrev.ChaosWarning):
            run.pullback(run.w, wrt=("lr",))
    assert run.stats.exact
    assert run.stats.adjoint_norms.max() > 1e3 * run.stats.adjoint_norms[-1]


def test_chaos_of_the_last_few_of_very_many_steps_is_seen():
    """However many steps there are, those that are differentiated are on record."""
    with pytest.warns(fastrev.ChaosWarning, match="grew|overflowed"):
        result = chaotic(steps=5000, truncate=60)
    assert result.stats.adjoint_steps.tolist() == list(range(4940, 5001))


def test_the_warning_points_at_whoever_pulled():
    case = digits_like(steps=60, lr=1e3)
    case.arguments["train"] = (100 * case.arguments["train"][0], case.arguments["train"][1])
    run = case.train(lr=2.0)
    with pytest.warns(fastrev.ChaosWarning, match="grew|overflowed") as caught:
        run.pullback(run.w)
    assert [each.filename for each in caught] == [__file__]


@pytest.mark.parametrize(
    ("norms", "reference", "step"),
    [
        ([1.0, 1.0, 1.0], 1.0, None),
        ([1e3, 1.0, 1.0], 1.0, None),
        ([1001.0, 1.0, 1.0], 1.0, 10),
        ([1001.0, 1001.0, 1.0], 1.0, 20),
        ([1.0, 2000.0, 1.0], 1.0, 20),
        ([np.nan, 1.0, 1.0], 1.0, 10),
        ([np.inf, np.inf, 1.0], 1.0, 20),
        ([5.0, 5.0, 0.0], 0.0, None),
        ([5.0, 5.0, 0.0], 1.0, None),
        ([0.0, 0.0, 0.0], 0.0, None),
    ],
)
def test_the_guard_by_number(norms, reference, step):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chaos.guard(np.array([norms]), np.array([0, 10, 20]), [reference])
    assert [f"before step {step} " in str(each.message) for each in caught] == ([] if step is None else [True])


def test_a_velocity_alone_is_no_chaos():
    run = fastrev.train(Quadratic(), W0, **SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.pullback(np.zeros(5), np.ones(5))
    assert run.stats.adjoint_norms[-1] == 0.0
    assert run.stats.steps == T


@pytest.mark.parametrize("block", [chaos.unheard, lambda: chaos.naming("valid")])
def test_what_a_thread_is_told_ends_with_its_block(block):
    """Wherever an interrupt comes, in what ends the block, too."""
    here = lambda: (chaos._here.unheard(), chaos._here.names())

    def action():
        with block():
            assert here() != (None, None)

    for moment in range(1, 40):
        where = inject(action, moment, "opcode", within=chaos.__file__)
        assert here() == (None, None), where
    assert where is None
