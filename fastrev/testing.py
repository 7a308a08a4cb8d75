"""Property tests of exact reversibility: strategies for hypothesis, and the laws to hold.

Needs hypothesis (``python -m pip install "fastrev[hypothesis]"``, in a checkout ``".[hypothesis]"``).

Examples
--------
That any training of any small network can be taken back, bit for bit:

>>> from hypothesis import given, settings
>>> from hypothesis import strategies as st
>>> from fastrev import testing
>>> @settings(max_examples=5, deadline=None, database=None)
... @given(testing.models(), st.data())
... def test_trainings_are_reversible(model, data):
...     testing.assert_reversible(model, model.init(seed=0), **data.draw(testing.trainings(model)))
>>> test_trainings_are_reversible()

And that a pair of functions of one's own is a step and its undo:

>>> import fastrev
>>> @settings(max_examples=20, deadline=None, database=None)
... @given(testing.grid_values((3,)), testing.ratios())
... def test_div_undoes_mul(x, ratio):
...     a = fastrev.ReversibleArray(x)
...     testing.assert_undone(lambda: a.mul(*ratio), lambda: a.div(*ratio), lambda: {"x": a.value, "bits": a.bits})
>>> test_div_undoes_mul()
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastrev._engine.arguments import fault
from fastrev._engine.extras import require
from fastrev._engine.hyperparameters import LARGEST_DECAY, SMALLEST_DECAY
from fastrev._engine.python_objective import theta_name
from fastrev.errors import ChaosWarning, DivergenceError
from fastrev.kernels.fixed_point import GRID
from fastrev.kernels.information_buffer import MAX_DENOMINATOR
from fastrev.mlp import MLP
from fastrev.objective import Objective
from fastrev.optimizers import BY_NAME, SGD, Adam
from fastrev.runs import Run, moments
from fastrev.settings import threads
from fastrev.training import train

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

Action = Callable[[], object]

__all__ = [
    "EDGE_RATIOS",
    "assert_reversible",
    "assert_same",
    "assert_undone",
    "batches",
    "decays",
    "grid_values",
    "in_turn",
    "models",
    "optimizers",
    "ratios",
    "schedules",
    "trainings",
]

# Any, as mypy may have to do without hypothesis: hence the ignores of what strategies return
st: Any = require("hypothesis.strategies", "hypothesis", "fastrev.testing")

EDGE_RATIOS = [
    (1, 1), (1, 2), (1, 3), (2, 3), (9, 10), (99, 100), (255, 256), (12345, 23456), (1, 32768), (1, 65535), (1, 65536),
    (3, 65536), (32768, 65535), (65521, 65536), (65534, 65535), (65535, 65536), (65536, 65536),
]  # fmt: skip
_EDGE_DECAYS = [1.0, 0.9, 0.5, SMALLEST_DECAY, LARGEST_DECAY, float(np.nextafter(1.0, 0.0))]
_LARGEST = float(np.nextafter(GRID.limit, 0.0))


# ---- strategies ----------------------------------------------------------------------------------------------


def ratios() -> SearchStrategy[tuple[int, int]]:
    """Ratios (n, d), 1 <= n <= d <= 65536, that the exact arithmetic multiplies by; its edges among them.

    Returns
    -------
    strategy of tuple of int
    """
    denominators = st.integers(1, MAX_DENOMINATOR)
    return st.one_of(  # type: ignore[no-any-return]
        st.sampled_from(EDGE_RATIOS),
        denominators.flatmap(lambda d: st.tuples(st.integers(1, d), st.just(d))),
        st.integers(2, MAX_DENOMINATOR).map(lambda d: (d - 1, d)),
    )


def decays() -> SearchStrategy[float]:
    """Momentum decays, from the smallest that there is a ratio for up to 1.

    Returns
    -------
    strategy of float
    """
    return st.one_of(st.sampled_from(_EDGE_DECAYS), st.floats(SMALLEST_DECAY, LARGEST_DECAY))  # type: ignore[no-any-return]


def grid_values(shape: int | tuple[int, ...], bound: float = _LARGEST) -> SearchStrategy[npt.NDArray[np.float64]]:
    """Float64 arrays of what rounds to a grid value.

    Parameters
    ----------
    shape : int or tuple of int
        Of the arrays.
    bound : float
        Magnitudes go up to it; below 2048.

    Returns
    -------
    strategy of float64 ndarray
    """
    arrays = require("hypothesis.extra.numpy", "hypothesis", "fastrev.testing").arrays
    return arrays(np.float64, shape, elements=st.floats(-bound, bound))  # type: ignore[no-any-return]


def schedules(
    steps: int, groups: int = 1, values: SearchStrategy[float] | None = None
) -> SearchStrategy[npt.NDArray[np.float64]]:
    """Learning rates or decays in every shape that is accepted: one, per step, per group, or both.

    Parameters
    ----------
    steps, groups : int
        T and G.
    values : strategy of float, optional
        For single numbers; default: learning rates from 0 to 0.5.  `decays` gives decays.

    Returns
    -------
    strategy of float64 ndarray
    """
    arrays = require("hypothesis.extra.numpy", "hypothesis", "fastrev.testing").arrays
    shapes = st.sampled_from([(), (steps,), (steps, 1), (1, groups), (steps, groups)])
    return arrays(np.float64, shapes, elements=st.floats(0, 0.5) if values is None else values)  # type: ignore[no-any-return]


def batches(examples: int, steps: int, largest: int = 8) -> SearchStrategy[npt.NDArray[np.int64]]:
    """Row indices, some of them drawn twice.

    Parameters
    ----------
    examples : int
        N, the number of rows.
    steps : int
        T.
    largest : int
        Batches have from 1 to so many rows, B.

    Returns
    -------
    strategy of (T, B) int64 ndarray
    """
    arrays = require("hypothesis.extra.numpy", "hypothesis", "fastrev.testing").arrays
    shapes = st.integers(1, largest).map(lambda size: (steps, size))
    return arrays(np.int64, shapes, elements=st.integers(0, examples - 1))  # type: ignore[no-any-return]


def models(
    layers: int = 3,
    units: int = 6,
    dtypes: Sequence[npt.DTypeLike] = (np.float64, np.float32),
) -> SearchStrategy[MLP]:
    """Networks of every activation and loss.

    Parameters
    ----------
    layers, units : int
        The most layers of weights, and the most units of each.
    dtypes : sequence of dtype
        To draw from; default float64 and float32.

    Returns
    -------
    strategy of MLP
    """
    activations = ("tanh", "sigmoid", "relu", "softplus", "identity")
    losses = ("cross_entropy", "squared_error", "logistic")
    sizes = st.lists(st.integers(2, units), min_size=2, max_size=layers + 1)
    return st.builds(  # type: ignore[no-any-return]
        MLP, sizes, st.sampled_from(activations), st.sampled_from(losses), st.sampled_from(list(dtypes))
    )


def optimizers(steps: int, groups: int = 1) -> SearchStrategy[SGD | Adam]:
    """Optimizers of every kind, their numbers in every shape that is accepted.

    Parameters
    ----------
    steps, groups : int
        T and G.

    Returns
    -------
    strategy of SGD or Adam
    """

    def of(kind: type[SGD | Adam]) -> SearchStrategy[SGD | Adam]:
        below = decays().filter(lambda decay: decay <= LARGEST_DECAY)
        numbers = {name: below if name in kind.kind.ratios else None for name in kind.kind.names}
        return st.builds(kind, **{name: schedules(steps, groups, each) for name, each in numbers.items()})  # type: ignore[no-any-return]

    return st.one_of([of(kind) for kind in BY_NAME.values()])  # type: ignore[no-any-return]


def trainings(model: MLP | Objective, steps: int = 8, examples: int = 12) -> SearchStrategy[dict[str, Any]]:
    """Arguments of `fastrev.train` for a model, all of them but the initial weights.

    Of an `Objective`, which has data of its own, `lr` and `decay` or `optimizer`, `steps`, and of SGD `v0`.

    Parameters
    ----------
    model : MLP or Objective
        What is to be trained.  An Objective is to know as many steps.
    steps, examples : int
        The most steps, and the most training examples.

    Returns
    -------
    strategy of dict
    """

    @st.composite  # type: ignore[untyped-decorator]
    def draw_all(draw: DrawFn) -> dict[str, Any]:
        count, rows = draw(st.integers(1, steps)), draw(st.integers(1, examples))
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        groups, size = len(getattr(model, "groups", None) or [0]), model.num_params
        short = st.fixed_dictionaries({"lr": schedules(count, groups), "decay": schedules(count, groups, decays())})
        long = st.fixed_dictionaries({"optimizer": optimizers(count, groups)})
        rule: dict[str, Any] = draw(short | long) | {"steps": count}
        if "v0" in rule.get("optimizer", SGD).kind.starts:
            rule["v0"] = draw(st.none() | st.just(0.1 * rng.standard_normal(size)))
        if not isinstance(model, MLP):
            return rule
        return rule | {
            "train": (rng.standard_normal((rows, model.sizes[0])), rng.random((rows, model.sizes[-1]))),
            "batches": draw(st.none() | batches(rows, count)),
            "l2": rng.uniform(0, 0.1, draw(st.sampled_from([(), (groups,), (size,)]))),
            "example_weights": draw(st.none() | st.just(rng.uniform(0, 2, rows))),
        }

    return draw_all()  # type: ignore[no-any-return]


# ---- laws ----------------------------------------------------------------------------------------------------


def assert_reversible(model: MLP | Objective, w0: npt.ArrayLike, **training: Any) -> None:
    """Training is a function of its arguments, can be taken back bit for bit, and differentiated on the way.

    A step that is refused ends the training there; what was made is taken back.

    Parameters
    ----------
    model, w0, **training
        As in `fastrev.train`.

    Raises
    ------
    AssertionError
        If two trainings end with different bits, or two ways back give other derivatives.
    ReversalError
        If a training is not taken back to its start.
    """
    runs = [_train(model, w0, training) for _ in range(3)]
    ends = [{"w": run.w, "v": run.v, "moments": moments(run), "bits": run.stats.stored_bits} for run in runs]
    for other in ends[1:]:
        _assert_law("Two trainings with the same arguments end alike", other, ends[0])
    runs[0].rewind()
    if not isinstance(model, MLP) and not hasattr(model, "hvp"):
        return
    gradients = [_derivatives(run, per_run) for run, per_run in zip(runs[1:], (1, 2), strict=True)]
    _assert_law("Two ways back, on one thread and on two, give the same derivatives", *gradients)


def assert_undone(step: Action, undo: Action, state: Callable[[], Mapping[str, Any]]) -> None:
    """``undo()`` takes the state back to before ``step()``, in every bit, and ``step()`` can then be made again.

    Parameters
    ----------
    step, undo : functions without arguments
        What changes the state, and what undoes it.
    state : function without arguments
        A copy of all there is, by name.

    Raises
    ------
    AssertionError
        If a bit differs.
    ReversalError
        If a `ReversibleArray` or `ReversibleSGD` of the state refuses an undo, as it is not that of the last step.
    """
    before = state()
    step()
    after = state()
    undo()
    assert_same(state(), before)
    step()
    assert_same(state(), after)
    undo()
    assert_same(state(), before)


def assert_same(state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Equal in every number; NaN equals NaN, and dtypes count.

    Parameters
    ----------
    state, expected : mapping of str to array_like
        What there is and what there should be, by name.

    Raises
    ------
    AssertionError
        Naming what differs.
    ArgumentError
        If one is no mapping.
    """
    for each in (state, expected):
        if not isinstance(each, Mapping):
            raise fault("state", "map names to numbers or arrays", f"a {type(each).__name__}", "Return a dict.")
    if state.keys() != expected.keys():
        raise AssertionError(f"There is {sorted(state)} where {sorted(expected)} is expected.")
    for name, value in expected.items():
        if np.asarray(state[name]).dtype != np.asarray(value).dtype:
            raise AssertionError(f"{name} is {np.asarray(state[name]).dtype}, not {np.asarray(value).dtype}.")
        np.testing.assert_array_equal(state[name], value, err_msg=name)


def in_turn(pairs: Sequence[tuple[Action, Action]]) -> tuple[Action, Action]:
    """One step, and its undo, of many: all steps in order, all undos in the opposite order.

    Parameters
    ----------
    pairs : sequence of pairs of functions without arguments
        Each a step and its undo.

    Returns
    -------
    step, undo : functions without arguments
    """

    def step() -> None:
        for do, _ in pairs:
            do()

    def undo() -> None:
        for _, back in reversed(pairs):
            back()

    return step, undo


def _assert_law(law: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    try:
        assert_same(found, expected)
    except AssertionError as error:
        raise AssertionError(
            f"{law}, if every function depends on its arguments alone. It is not so: {error}"
        ) from None


def _train(model: MLP | Objective, w0: npt.ArrayLike, training: dict[str, Any]) -> Run:
    try:
        return train(model, w0, **training)
    except DivergenceError as error:
        run: Run = error.run
        return run


def _derivatives(run: Run, per_run: int) -> dict[str, Any]:
    """Of the sum of the final weights, by all that there is, on so many threads."""
    with threads(per_run=per_run), warnings.catch_warnings():
        warnings.simplefilter("ignore", ChaosWarning)
        gradients = {name: each for name, each in vars(run.pullback(np.ones_like(run.w))).items() if each is not None}
    theta = gradients.pop("theta", {})
    return gradients | {theta_name(name): each for name, each in theta.items()}
