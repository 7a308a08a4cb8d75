"""Numbers at the ends of what there is, in each group, at the first, middle and last step: refused there, or exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrev
from tests.cases import Case, digits_like

T = 9
STEPS = (0, T // 2, T - 1)
GROUPS = ("W1", "b1", "W2", "b2")
PRECISIONS = (np.float64, np.float32)
SMALLEST, LARGEST = 5e-324, np.finfo(np.float64).max
RATES = (0.0, SMALLEST, 2.0**-1022, 1e-300, 1e15, 1e300, LARGEST)
RATIOS = (2.0**-16, 0.5, 65535 / 65536, 1.0)


def rule(name: str, **numbers: Any) -> dict[str, Any]:
    """Arguments of `train` for one of the rules."""
    if name == "SGD":
        return {"lr": 0.1, "decay": 0.9} | numbers
    given = {"lr": 0.01, "weight_decay": 0.1 if name == "AdamW" else 0.0} | numbers
    return {"lr": None, "decay": None, "optimizer": fastrev.Adam(**given)}


def table(value: float, step: int, group: int, elsewhere: float) -> np.ndarray:
    found = np.full((T, len(GROUPS)), elsewhere)
    found[step, group] = value
    return found


def undone(case: Case, **changes: Any) -> fastrev.DivergenceError | None:
    """Train; whatever comes of it, every bit is taken back."""
    error = None
    try:
        run = case.train(**changes)
    except fastrev.DivergenceError as caught:
        error, run = caught, caught.run
        assert run.stats.steps == error.step
        assert f"Step {error.step} of {T} was refused" in str(error)
    assert np.isfinite(run.w).all()
    assert np.abs(run.w).max() < 2048
    run.rewind()
    assert run.stats.exact
    grid = run._state.w
    assert np.array_equal(grid, run._problem.w0)
    return error


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("group", range(4))
def test_a_rate_at_any_end_is_refused_at_its_step_and_group_or_undone(name, dtype, group):
    case = digits_like(steps=T, dtype=dtype)
    for step in STEPS:
        for rate in RATES:
            given = rule(name, lr=table(rate, step, group, 0.01))
            if name == "AdamW" and rate >= 1e15:  # its weights would be multiplied by a negative number
                with pytest.raises(fastrev.ArgumentError, match="'weight_decay' must be at most"):
                    case.train(**given)
                continue
            error = undone(case, **given)
            if rate >= 1e15:
                assert error is not None, (step, rate)
                assert (error.step, error.group) == (step, GROUPS[group]), (step, rate)
            else:
                assert error is None, (step, rate)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("name", "number"), [("SGD", "decay"), ("Adam", "beta1"), ("AdamW", "beta2")])
def test_ratios_at_their_ends_are_undone(name, number, dtype):
    case = digits_like(steps=T, dtype=dtype)
    for group in range(4):
        for step in STEPS:
            for ratio in RATIOS[: 4 if number == "decay" else 3]:
                assert undone(case, **rule(name, **{number: table(ratio, step, group, 0.9)})) is None


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("step", STEPS)
def test_a_gradient_that_is_not_finite_is_refused_at_its_step(name, dtype, step):
    """A row that only one step sees, of inputs so large that their products are no numbers."""
    case = digits_like(steps=T, dtype=dtype)
    X, Y = (part.copy() for part in case.arguments["train"])
    X[7] = np.finfo(dtype).max
    batches = np.tile(np.arange(5), (T, 1))
    batches[step, 3] = 7
    model = fastrev.MLP((4, 5, 3), "identity", "squared_error", dtype)
    case = Case(model, model.init(0), {"train": (X, np.eye(3)[Y]), "batches": batches})
    error = undone(case, **rule(name))
    assert error is not None
    assert error.step == step
    assert "NaN or infinite" in str(error)


@pytest.mark.filterwarnings("ignore::fastrev.ChaosWarning")  # of Adam's division by next to nothing
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
@pytest.mark.parametrize("what", ["x", "l2", "example_weights", "w0"])
def test_subnormal_numbers_change_no_bit_of_what_is_promised(name, dtype, what):
    case = digits_like(steps=T, dtype=dtype)
    tiny = float(np.finfo(dtype).smallest_subnormal)
    X, Y = case.arguments["train"]
    changes: dict[str, Any] = {"l2": tiny} if what == "l2" else {}
    if what == "x":
        changes["train"] = np.full(X.shape, tiny), Y
    if what == "example_weights":
        changes["example_weights"] = np.full(len(X), tiny)
    if what == "w0":
        case.w0 = np.full_like(case.w0, tiny)
    assert undone(case, **rule(name), **changes) is None
    runs = [case.train(**rule(name), **changes) for _ in range(2)]
    one, other = (run.pullback(np.ones(run.w.size)).w0 for run in runs)
    assert one.tobytes() == other.tobytes()
    assert np.isfinite(one).all()


@pytest.mark.parametrize("position", [0, 20, 25, 40])
@pytest.mark.parametrize("step", STEPS)
def test_the_edge_of_the_grid_is_met_by_number(position, step):
    """One weight a grid step from the edge, and a velocity that brings it over at one step: that one is refused."""
    case = digits_like(steps=T, decay=1.0)
    lr = np.zeros((T, 1))
    lr[step] = 1.0
    v0, w0 = np.zeros(case.w0.size), case.w0.copy()
    w0[position], v0[position] = np.nextafter(2048.0, 0.0), 1.0
    case.w0 = w0
    error = undone(case, lr=lr, v0=v0)
    assert error is not None
    assert (error.step, error.group) == (step, GROUPS[np.searchsorted([20, 25, 40], position, side="right")])
    v0[position] = -1.0
    assert undone(case, lr=lr, v0=v0) is None
