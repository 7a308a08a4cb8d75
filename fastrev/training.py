"""Training forward on the grid, and back: exactly, and differentiating if asked to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev import _arguments as arguments
from fastrev import _state
from fastrev._extras import progress_bar
from fastrev._problem import Problem, prepare
from fastrev._threads import beside
from fastrev._workspace import record_for, ring_for, tangents_for, workspace_for
from fastrev.batches import FullBatch
from fastrev.errors import DivergenceError, ReversalError, TrainingInterrupt
from fastrev.kernels import adjoint as adjoint_kernels
from fastrev.kernels import momentum
from fastrev.kernels import training as training_kernels
from fastrev.kernels.structures import Adjoint, Schedule
from fastrev.mlp import MLP
from fastrev.results import Gradients, Stats

FloatArray = npt.NDArray[np.float64]

WRT = ("lr", "decay", "w0", "v0", "l2", "x", "y", "example_weights")
DEFAULT_WRT = ("lr", "decay", "w0", "v0", "l2")

# About a tenth of a second between two returns to Python, where Ctrl-C and progress are seen to.  Counted in
# multiply-adds, not in seconds, so that a run makes the same calls every time.
_CHUNK_WORK = 1e9
_CHUNK_STEPS = 2048  # bounds the table of row indices of a chunk


class Run:
    """A training run that can be taken back.  `train` makes it.

    Attributes
    ----------
    w, v : (P,) float64 ndarray
        Final weights and velocity.
    stats : Stats
        ``stats.exact`` becomes True when the run has been taken back.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._fingerprint = problem.fingerprint()
        size = problem.model.num_params
        self._gathered = 0 if isinstance(problem.batches, FullBatch) else problem.batches.size
        self._work = workspace_for(problem.model, self._gathered)
        self._record = record_for(problem.model, problem.batches.size)
        v0 = np.zeros(size, np.int64) if problem.v0 is None else problem.v0.copy()
        self._state = _state.new_state(problem.w0.copy(), v0)
        self._end: tuple[FloatArray, FloatArray, Stats] | None = None  # kept when the way back begins
        self._adjoint_lost = False
        work_per_step = 6.0 * size * problem.batches.size + 100.0 * size
        self._chunk = int(np.clip(_CHUNK_WORK / work_per_step, 1, _CHUNK_STEPS))

    @property
    def w(self) -> FloatArray:
        return _state.to_floats(self._state.w) if self._end is None else self._end[0]

    @property
    def v(self) -> FloatArray:
        return _state.to_floats(self._state.v) if self._end is None else self._end[1]

    @property
    def stats(self) -> Stats:
        if self._end is not None:
            return self._end[2]
        done, top, _ = self._state.cursor.tolist()
        bits = _state.stored_bits(self._state.heads, top)
        return Stats(
            steps=done,
            stored_bits=bits,
            bits_per_parameter_step=bits / (self._state.w.size * max(done, 1)),
            bytes_held=_bytes(self._problem.w0, self._problem.v0, *self._state, *self._record, *self._work),
            exact=None,
        )

    def pullback(
        self,
        w_bar: npt.ArrayLike,
        v_bar: npt.ArrayLike | None = None,
        wrt: tuple[str, ...] = DEFAULT_WRT,
        *,
        progress: bool = False,
    ) -> Gradients:
        """Differentiate any loss of the final weights and velocity through the training.  Consumes the run.

        Parameters
        ----------
        w_bar : (P,) array_like
            Derivative of the loss by the final weights.
        v_bar : (P,) array_like, optional
            Derivative by the final velocity; default zero.
        wrt : tuple of str
            What to differentiate by: names among "lr", "decay", "w0", "v0", "l2", "x", "y", "example_weights".
        progress : bool
            Show a progress bar (needs tqdm).

        Returns
        -------
        Gradients

        Raises
        ------
        ReversalError
            If the run does not arrive at its start bit for bit, or was consumed before.

        References
        ----------
        D. Maclaurin, D. Duvenaud, R. P. Adams, "Gradient-based Hyperparameter Optimization through Reversible
        Learning", ICML 2015, Algorithm 2.
        """
        self._require_unconsumed()
        if self._adjoint_lost:
            raise ReversalError(
                f"An earlier pullback stopped with {self._state.cursor[0]} steps to go; its derivatives are lost. "
                "Call run.rewind() to take the run back to its start, or train again."
            )
        wrt = arguments.distinct_choices("wrt", wrt, WRT)
        adjoint, pull, size = self._way_back(w_bar, v_bar, wrt)

        def undo(schedule: Schedule, done: int, stop: int) -> int:
            with beside(lambda: pull(schedule, done, stop), self._record.progress) as finish:
                reason = self._travel(schedule, stop)[0]
                if reason != training_kernels.TAIL_EMPTY:
                    finish()
            return reason

        self._adjoint_lost = True
        self._take_back(undo, progress, size)
        return _gradients(self._problem, adjoint, wrt)

    def _way_back(
        self, w_bar: npt.ArrayLike, v_bar: npt.ArrayLike | None, wrt: tuple[str, ...]
    ) -> tuple[Adjoint, Callable[[Schedule, int, int], object], int]:
        """The adjoint, what pulls it back through the steps done > t >= stop, and the bytes that the two take."""
        problem = self._problem
        model, data = problem.model, problem.data
        tangents = tangents_for(model, problem.batches.size, inputs="x" in wrt)
        work = workspace_for(model, self._gathered, inputs="x" in wrt)
        v_start = np.zeros(model.num_params) if v_bar is None else v_bar
        adjoint = Adjoint(
            w=arguments.parameters("w_bar", w_bar, model.num_params).copy(),
            v=arguments.parameters("v_bar", v_start, model.num_params).copy(),
            lr=np.zeros(problem.lr.values.shape),
            decay=np.zeros(problem.decay.values.shape),
            l2=np.zeros(problem.schedule.l2.size if "l2" in wrt else 0),
            x=np.zeros(data.x.size if "x" in wrt else 0),
            y=np.zeros(data.y.size if "y" in wrt else 0),
            weights=np.zeros(problem.examples if "example_weights" in wrt else 0),
        )
        self._record = record = ring_for(model, problem.batches.size)

        def pull(schedule: Schedule, done: int, stop: int) -> object:
            return adjoint_kernels.pull(
                model._network, data, problem.examples, schedule, record, work, tangents, adjoint, done, stop
            )

        return adjoint, pull, _bytes(*work, *tangents, *adjoint)

    def rewind(self, *, progress: bool = False) -> None:
        """Take the run back to its start without differentiating, and prove that it arrived.  Consumes the run.

        This also finishes a pullback that was interrupted: the state is whole between any two steps.

        Raises
        ------
        ReversalError
            If the run does not arrive at its start bit for bit, or was consumed before.
        """
        self._require_unconsumed()
        self._record = record_for(self._problem.model, self._problem.batches.size)
        self._take_back(lambda schedule, _, stop: self._travel(schedule, stop)[0], progress, 0)

    def _require_unconsumed(self) -> None:
        if self._end is not None and self._end[2].exact:
            raise ReversalError("The run was consumed: it has been taken back to its start already. Train again.")

    def _advance(self, progress: bool) -> None:
        problem, state = self._problem, self._state
        with progress_bar(progress, problem.steps, "training") as tick:
            while (done := int(state.cursor[0])) < problem.steps:
                stop = min(done + self._chunk, problem.steps)
                reason, parameter = self._travel(problem.schedule_of(done, stop), stop)
                tick(int(state.cursor[0]) - done)
                if reason == training_kernels.TAIL_FULL:
                    _state.make_room(state.tail, int(state.cursor[1]), state.w.size)
                elif reason != momentum.FINE:
                    raise self._divergence(reason, parameter)

    def _travel(self, schedule: Schedule, stop: int) -> tuple[int, int]:
        """Make or undo steps until `stop` are done.  Returns why it ended and, of a refused step, a parameter."""
        problem = self._problem
        reason, parameter = training_kernels.travel(
            problem.model._network,
            problem.data,
            problem.examples,
            schedule,
            self._state,
            self._record,
            self._work,
            stop,
        )
        return reason, parameter

    def _take_back(self, undo: Callable[[Schedule, int, int], int], progress: bool, more_bytes: int) -> None:
        """Undo all steps in chunks by `undo`, then hold the state against the start."""
        problem, state = self._problem, self._state
        if self._end is None:
            stats = self.stats
            self._end = (self.w, self.v, replace(stats, bytes_held=stats.bytes_held + more_bytes))
        with progress_bar(progress, int(state.cursor[0]), "reversing") as tick:
            while (left := int(state.cursor[0])) > 0:
                stop = max(left - self._chunk, 0)
                reason = undo(problem.schedule_of(stop, left), left, stop)
                tick(left - int(state.cursor[0]))
                if reason != momentum.FINE:
                    raise _no_arrival([f"the stored information ran out at step {state.cursor[0] - 1}"])
        faults = _state.faults(state, problem.w0, problem.v0)
        found = problem.fingerprint()
        faults += [f"'{name}' was changed" for name, value in self._fingerprint.items() if found[name] != value]
        if faults:
            raise _no_arrival(faults)
        self._end = (*self._end[:2], replace(self._end[2], exact=True))

    def _divergence(self, reason: int, parameter: int) -> DivergenceError:
        step = int(self._state.cursor[0])
        groups = list(self._problem.model.groups)
        position = int(np.searchsorted(self._problem.model._network.bounds, parameter, side="right")) - 1
        group, lr = groups[position], self._problem.lr.values
        rate = lr[min(step, len(lr) - 1), min(position, lr.shape[1] - 1)]
        what = (
            "the gradient holds NaN or infinite values"
            if reason == momentum.NOT_FINITE
            else "the weights or their velocity would leave the grid, magnitudes below 2048"
        )
        return DivergenceError(
            f"Step {step} of {self._problem.steps} was refused: {what}, in group '{group}'. The likely cause is a "
            f"learning rate that is too high (lr = {rate:g} there): lower lr, or scale the inputs down. The run up to "
            "that step is whole: error.run.rewind() takes it back to its start.",
            step=step,
            group=group,
            run=self,
        )


def train(
    model: MLP,
    w0: npt.ArrayLike,
    *,
    train: tuple[npt.ArrayLike, npt.ArrayLike],
    lr: npt.ArrayLike,
    decay: npt.ArrayLike,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    batches: npt.ArrayLike | None = None,
    l2: npt.ArrayLike = 0.0,
    v0: npt.ArrayLike | None = None,
    example_weights: npt.ArrayLike | None = None,
    progress: bool = False,
) -> Run:
    """Train by SGD with momentum so that the run can be taken back, and differentiated, exactly.

    Takes the arguments of `meta_grad`, which see, up to its validation data.

    Returns
    -------
    Run
        Its `pullback` differentiates any loss of the final weights.

    Raises
    ------
    ArgumentError
        Before anything is computed, if an argument is at fault.
    DivergenceError
        If a step's gradient is not finite or the step would leave the grid.
    TrainingInterrupt
        On Ctrl-C, with the run so far.

    Examples
    --------
    Differentiate the norm of the final weights by the learning rate:

    >>> import numpy as np, fastrev
    >>> model = fastrev.MLP((2, 3), loss="squared_error")
    >>> X, Y = np.eye(2), np.ones((2, 3))
    >>> run = fastrev.train(model, model.init(seed=0), train=(X, Y), lr=0.1, decay=0.9, steps=5)
    >>> grad = run.pullback(run.w / np.linalg.norm(run.w))
    >>> round(float(grad.lr), 6), run.stats.exact
    (0.888132, True)
    """
    run = Run(
        prepare(
            model, w0, train=train, lr=lr, decay=decay, steps=steps, batch_size=batch_size, seed=seed,
            batches=batches, l2=l2, v0=v0, example_weights=example_weights,
        )
    )  # fmt: skip
    try:
        run._advance(progress)
    except KeyboardInterrupt:
        raise TrainingInterrupt(run) from None
    return run


def _gradients(problem: Problem, adjoint: Adjoint, wrt: tuple[str, ...]) -> Gradients:
    """The adjoint in the shapes of the arguments; a scalar for a scalar."""
    sizes = problem.model.sizes
    shapes: dict[str, tuple[FloatArray, tuple[int, ...]]] = {
        "lr": (adjoint.lr, problem.lr.shape),
        "decay": (adjoint.decay, problem.decay.shape),
        "w0": (adjoint.w, adjoint.w.shape),
        "v0": (adjoint.v, adjoint.v.shape),
        "l2": (adjoint.l2, problem.l2_shape),
        "x": (adjoint.x, (problem.examples, sizes[0])),
        "y": (adjoint.y, (problem.examples, sizes[-1])),
        "example_weights": (adjoint.weights, (problem.examples,)),
    }
    gradients: dict[str, Any] = {name: shapes[name][0].reshape(shapes[name][1])[()] for name in wrt}
    return Gradients(**gradients)


def _no_arrival(faults: list[str]) -> ReversalError:
    return ReversalError(
        f"The reversal did not arrive at the start of the run: {', '.join(faults)}. Something changed between the two "
        "passes: the training data or another array of the run were written to, memory failed, or the gradient was "
        "not reproduced bit for bit. Results are withheld."
    )


def _bytes(*arrays: npt.NDArray[Any] | None) -> int:
    return sum(array.nbytes for array in arrays if array is not None)
