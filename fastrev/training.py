"""Training forward on the grid, and back: exactly, and differentiating if asked to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments, chaos, compilation
from fastrev._engine import state as states
from fastrev._engine.compiled_walk import CompiledWalk
from fastrev._engine.exclusive import Exclusive, exclusive
from fastrev._engine.extras import progress_bar
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.problem import Problem, prepare
from fastrev._engine.python_walk import PythonWalk
from fastrev._engine.sgd import SGD
from fastrev._engine.types import FloatArray, Ints
from fastrev._engine.walk import Undo, Walk, nbytes, norm
from fastrev.errors import DivergenceError, ReversalError, TrainingInterrupt
from fastrev.kernels import outcomes
from fastrev.mlp import MLP
from fastrev.objective import Objective
from fastrev.results import Gradients, Stats

Examples = tuple[npt.ArrayLike, npt.ArrayLike]


class Run(Exclusive):
    """A training run that can be taken back.  `train` makes it.

    Attributes
    ----------
    w, v : (P,) float64 ndarray
        Final weights and velocity.
    stats : Stats
        ``stats.exact`` becomes True when the run has been taken back.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self._problem = problem
        self._walk = _walk_through(problem)
        v0 = np.zeros_like(problem.w0) if problem.v0 is None else problem.v0.copy()
        self._state = states.new_state(problem.w0.copy(), v0)
        self._end: tuple[FloatArray, FloatArray, Stats] | None = None  # kept when the way back begins
        self._astray = False  # did not arrive at its start

    @property
    def w(self) -> FloatArray:
        return states.to_floats(self._state.w) if self._end is None else self._end[0].copy()

    @property
    def v(self) -> FloatArray:
        return states.to_floats(self._state.v) if self._end is None else self._end[1].copy()

    @property
    def stats(self) -> Stats:
        if self._end is not None:
            return self._end[2]
        done, top, _ = self._state.cursor.tolist()
        bits = states.stored_bits(self._state.heads, top)
        return Stats(
            steps=done,
            stored_bits=bits,
            bits_per_parameter_step=bits / (self._state.w.size * max(done, 1)),
            bytes_held=self._walk.nbytes + nbytes(self._problem.w0, self._problem.v0, *self._state),
            exact=None,
        )

    @exclusive
    def pullback(
        self,
        w_bar: npt.ArrayLike,
        v_bar: npt.ArrayLike | None = None,
        wrt: tuple[str, ...] | None = None,
        *,
        truncate: int | None = None,
        progress: bool = False,
    ) -> Gradients:
        """Differentiate any loss of the final weights and velocity through the training.  Consumes the run.

        Parameters
        ----------
        w_bar : (P,) array_like
            Derivative of the loss by the final weights.
        v_bar : (P,) array_like, optional
            Derivative by the final velocity; default zero.
        wrt : tuple of str, optional
            What to differentiate by, as in `meta_grad`.
        truncate : int, optional
            Differentiate through the last K steps only, as if all before had been fixed: derivatives by what came
            before, `w0` and `v0` among it, are zero.  The run is taken back to its start nevertheless.
        progress : bool
            Show a progress bar (needs tqdm).

        Returns
        -------
        Gradients

        Raises
        ------
        ArgumentError
            If an argument is at fault; the run is as before.  Or if a function of an `Objective` returns what it must
            not, at the step that was to be undone; `rewind` takes the run back from there.
        ReversalError
            If the run does not arrive at its start bit for bit, was consumed before, or an earlier pullback stopped on
            its way.
        MissingExtraError
            If a progress bar is asked for and tqdm is not installed.

        Warns
        -----
        ChaosWarning
            If the derivatives exploded on their way: training is chaotic there, and they are noise.  Where warnings are
            errors they are lost, and the run is consumed.

        References
        ----------
        D. Maclaurin, D. Duvenaud, R. P. Adams, "Gradient-based Hyperparameter Optimization through Reversible
        Learning", ICML 2015, Algorithm 2.
        """
        self._require_unconsumed()
        if self._end is not None:
            raise ReversalError(
                f"The run has begun its way back: an earlier pullback or rewind stopped with {self._state.cursor[0]} "
                f"of {self._end[2].steps} steps to go, and derivatives begin at the end. Call run.rewind() to take the "
                "run back to its start, or train again."
            )
        problem, done = self._problem, int(self._state.cursor[0])
        names = differentiable(self, wrt)
        dw = arguments.parameters("w_bar", w_bar, problem.trained.num_params).copy()
        dv = np.zeros_like(dw) if v_bar is None else arguments.parameters("v_bar", v_bar, dw.size).copy()
        last = done if truncate is None else min(arguments.whole("truncate", truncate, 1), done)
        size = max(norm(dw), norm(dv))
        back = self._walk.back(dw, dv, names, range(done - last, done))
        compilation.finish(problem.trained.dtype)
        back.compile(self._state)
        back.through(self._state, lambda undo: self._take_back(undo, progress, back.nbytes))
        self._proved(*back.norms())
        chaos.guard(*back.norms(), size)
        gradients = back.gradients()
        return Gradients(**{name: gradients[name] for name in names})

    @exclusive
    def rewind(self, *, progress: bool = False) -> None:
        """Take the run back to its start without differentiating, and prove that it arrived.  Consumes the run.

        This also finishes a pullback that was interrupted: the state is whole between any two steps.

        Parameters
        ----------
        progress : bool
            Show a progress bar (needs tqdm).

        Raises
        ------
        ReversalError
            If the run does not arrive at its start bit for bit, or was consumed before.
        """
        self._require_unconsumed()
        self._walk.compile_undo(self._state)
        self._take_back(lambda stop: self._walk.undo(self._state, stop), progress, 0)
        self._proved()

    def _require_unconsumed(self) -> None:
        if self._astray:
            raise ReversalError("The run did not arrive at its start when it was taken back. It is lost: train again.")
        if self._end is not None and self._end[2].exact:
            raise ReversalError("The run was consumed: it has been taken back to its start already. Train again.")

    def _advance(self, progress: bool) -> None:
        problem, state, walk = self._problem, self._state, self._walk
        chunk = walk.chunk_steps(progress)
        states.make_room(state.tail, int(state.cursor[1]), state.w.size)
        with progress_bar(progress, problem.steps, "training") as tick:
            while (done := int(state.cursor[0])) < problem.steps:
                stop = min(done + chunk, problem.steps)
                reason, parameter = walk.make(state, stop)
                tick(int(state.cursor[0]) - done)
                if reason == outcomes.TAIL_FULL:
                    states.make_room(state.tail, int(state.cursor[1]), state.w.size)
                elif reason != outcomes.FINE:
                    raise self._divergence(reason, parameter)

    def _take_back(self, undo: Undo, progress: bool, more_bytes: int) -> None:
        """Undo all steps in chunks by `undo`, then hold what there is against the start."""
        problem, state = self._problem, self._state
        if self._end is None:
            stats = self.stats
            self._end = (self.w, self.v, replace(stats, bytes_held=stats.bytes_held + more_bytes))
        chunk = self._walk.chunk_steps(progress)
        with progress_bar(progress, int(state.cursor[0]), "reversing") as tick:
            while (left := int(state.cursor[0])) > 0:
                reason = undo(max(left - chunk, 0))
                tick(left - int(state.cursor[0]))
                if reason == outcomes.NOT_REPRODUCED:
                    raise self._not_reproduced()
                if reason != outcomes.FINE:
                    raise self._no_arrival([f"the stored information ran out at step {state.cursor[0] - 1}"])
        if (faults := states.faults(state, problem.w0, problem.v0)) or problem.changed():
            raise self._no_arrival(faults)

    def _proved(self, norms: FloatArray | None = None, at: Ints | None = None) -> None:
        assert self._end is not None
        self._end = (*self._end[:2], replace(self._end[2], exact=True, adjoint_norms=norms, adjoint_steps=at))

    def _not_reproduced(self) -> ReversalError:
        step = int(self._state.cursor[0]) - 1
        changed = " and ".join(self._problem.changed())
        cause = (
            f"{changed} changed in place after the training began."
            if changed
            else "It must depend on w and t alone: give random numbers, those of dropout too, a seed made of t, and "
            "change neither its data nor, by train() or eval(), its mode."
        )
        error = ReversalError(
            f"Step {step} cannot be undone: model.grad(w, {step}) did not return the bits that it returned when the "
            f"step was made, at the same w. {cause} The way back begins with the last step. Nothing has changed: "
            "once it returns them again, error.run.rewind() takes the run back."
        )
        error.run = self
        return error

    def _no_arrival(self, faults: list[str]) -> ReversalError:
        self._astray = True
        changed = [f"'{name}'" for name in self._problem.changed()]
        cause = (
            f"{' and '.join(changed)} changed in place after the training began. Leave such an array alone until the "
            "run has been taken back, or pass a copy of it, and train again."
            if changed
            else "Memory failed, or the gradient was not reproduced bit for bit. Train again."
        )
        what = f" ({', '.join(faults)})" if faults else ""
        return ReversalError(
            f"The reversal did not arrive at the start of the run{what}: {cause} Results are withheld."
        )

    def _divergence(self, reason: int, parameter: int) -> DivergenceError:
        step = int(self._state.cursor[0])
        trained = self._problem.trained
        position = int(np.searchsorted(trained.bounds, parameter, side="right")) - 1
        group, rate = trained.group_names[position], self._problem.rule.rate_at(step, position)
        what = (
            "the gradient holds NaN or infinite values"
            if reason == outcomes.NOT_FINITE
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


def _walk_through(problem: Problem) -> Walk:
    trained, rule, steps = problem.trained, problem.rule, problem.steps
    if isinstance(trained, MLPObjective):
        return CompiledWalk(trained, rule, steps)
    return PythonWalk(trained, rule, steps)


def train(
    model: MLP | Objective,
    w0: npt.ArrayLike,
    *,
    train: Examples | None = None,
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

    Takes the arguments of `meta_grad`, which see, but for its validation data.  Training inputs and targets are not
    copied where they are arrays of the model's dtype already: leave them alone until the run has been taken back.

    Returns
    -------
    Run
        Its `pullback` differentiates any loss of the final weights.

    Raises
    ------
    ArgumentError
        Before anything is computed, if an argument is at fault.  Later, if a function of an Objective returns what it
        must not.
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
    run = start(
        model, w0, train=train, lr=lr, decay=decay, steps=steps, batch_size=batch_size, seed=seed, batches=batches,
        l2=l2, v0=v0, example_weights=example_weights,
    )  # fmt: skip
    make_all_steps(run, progress)
    return run


def start(model: MLP | Objective, w0: npt.ArrayLike, **training: Any) -> Run:
    """A run of which no step is made yet, if all arguments of `train` are right."""
    return Run(prepare(model, w0, **training))


def make_all_steps(run: Run, progress: bool) -> None:
    """Train."""
    compilation.begin(run._problem.trained.dtype)
    try:
        run._walk.compile_make(run._state)
        run._advance(progress)
    except KeyboardInterrupt:
        raise TrainingInterrupt(run) from None


def differentiable(run: Run, wrt: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of what is to be differentiated by, if it is there."""
    trained, own = run._problem.trained, (*SGD.names, "w0", "v0")
    trained.require_hvp()
    if wrt is None:
        return own + trained.names_by_default
    return arguments.distinct_choices("wrt", wrt, own + trained.names)
