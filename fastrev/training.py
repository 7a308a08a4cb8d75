"""Training forward on the grid, and back: exactly, and differentiating if asked to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fastrev._engine import arguments, compilation
from fastrev._engine import state as states
from fastrev._engine.companion import Companion
from fastrev._engine.exclusive import Exclusive, exclusive
from fastrev._engine.extras import progress_bar
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.problem import Problem, prepare
from fastrev._engine.settings import one_thread
from fastrev._engine.sgd import SGD
from fastrev._engine.types import FloatArray
from fastrev._engine.walk import Walk, WalkBack, nbytes
from fastrev.errors import DivergenceError, ReversalError, TrainingInterrupt
from fastrev.kernels import outcomes
from fastrev.kernels.structures import Objective
from fastrev.mlp import MLP
from fastrev.results import Gradients, Stats

WRT = (*SGD.names, "w0", "v0", *MLPObjective.names)
DEFAULT_WRT = ("lr", "decay", "w0", "v0", "l2")

Undo = Callable[[Objective, int, int], int]  # chunk, steps done, steps to be left: why it ended


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
        self._walk = Walk(problem)
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
        ArgumentError
            If an argument is at fault; the run is as before.
        ReversalError
            If the run does not arrive at its start bit for bit, was consumed before, or an earlier pullback stopped on
            its way.
        MissingExtraError
            If a progress bar is asked for and tqdm is not installed.

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
        wrt = arguments.distinct_choices("wrt", wrt, WRT)
        size = self._problem.trained.model.num_params
        dw = arguments.parameters("w_bar", w_bar, size).copy()
        dv = np.zeros(size) if v_bar is None else arguments.parameters("v_bar", v_bar, size).copy()
        back = WalkBack(self._walk, dw, dv, wrt, one_thread=one_thread())
        compilation.finish(self._problem.trained.model.dtype)
        back.compile_pull()
        if back.steps_ahead:
            self._take_back(self._in_turn(back), progress, back.nbytes)
        else:
            self._side_by_side(back, progress)
        self._proved()
        gradients = back.gradients()
        return Gradients(**{name: gradients[name][()] for name in wrt})

    def _in_turn(self, back: WalkBack) -> Undo:
        """Undo some steps, pull the adjoint back through them, and so on."""

        def undo(chunk: Objective, done: int, stop: int) -> int:
            reason = outcomes.FINE
            while reason == outcomes.FINE and done > stop:
                left = max(done - back.steps_ahead, stop)
                reason = back.undo(chunk, self._state, left)
                if reason == outcomes.FINE:
                    back.pull(chunk, done, left)
                done = left
            return reason

        return undo

    def _side_by_side(self, back: WalkBack, progress: bool) -> None:
        """Undo steps while a second thread pulls the adjoint back through those just undone."""
        companion = Companion(back.progress)

        def undo(chunk: Objective, done: int, stop: int) -> int:
            companion.hand(lambda: back.pull(chunk, done, stop), last=stop == 0)
            reason = back.undo(chunk, self._state, stop)
            if reason == outcomes.GIVEN_UP:
                companion.finish()  # raises why
            return reason

        # given up twice, for an interrupt may come in the first
        try:
            try:
                self._take_back(undo, progress, back.nbytes)
                companion.finish()
            finally:
                companion.give_up()
        finally:
            companion.give_up()

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
        self._take_back(lambda chunk, _, stop: self._walk.undo(chunk, self._state, stop), progress, 0)
        self._proved()

    def _require_unconsumed(self) -> None:
        if self._astray:
            raise ReversalError("The run did not arrive at its start when it was taken back. It is lost: train again.")
        if self._end is not None and self._end[2].exact:
            raise ReversalError("The run was consumed: it has been taken back to its start already. Train again.")

    def _advance(self, progress: bool) -> None:
        problem, state, walk = self._problem, self._state, self._walk
        states.make_room(state.tail, int(state.cursor[1]), state.w.size)
        with progress_bar(progress, problem.steps, "training") as tick:
            while (done := int(state.cursor[0])) < problem.steps:
                stop = min(done + walk.chunk_steps, problem.steps)
                reason, parameter = walk.make(problem.trained.chunk(done, stop), state, stop)
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
        self._walk.compile_undo(state)
        with progress_bar(progress, int(state.cursor[0]), "reversing") as tick:
            while (left := int(state.cursor[0])) > 0:
                stop = max(left - self._walk.chunk_steps, 0)
                reason = undo(problem.trained.chunk(stop, left), left, stop)
                tick(left - int(state.cursor[0]))
                if reason != outcomes.FINE:
                    raise self._no_arrival([f"the stored information ran out at step {state.cursor[0] - 1}"])
        if (faults := states.faults(state, problem.w0, problem.v0)) or problem.changed():
            raise self._no_arrival(faults)

    def _proved(self) -> None:
        assert self._end is not None
        self._end = (*self._end[:2], replace(self._end[2], exact=True))

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
        model = self._problem.trained.model
        position = int(np.searchsorted(model.network.bounds, parameter, side="right")) - 1
        group, rate = list(model.groups)[position], self._problem.rule.rate_at(step, position)
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

    Takes the arguments of `meta_grad`, which see, up to its validation data.  Training inputs and targets are not
    copied where they are arrays of the model's dtype already: leave them alone until the run has been taken back.

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
    compilation.begin(model.dtype)
    try:
        run._walk.compile_make(run._state)
        run._advance(progress)
    except KeyboardInterrupt:
        raise TrainingInterrupt(run) from None
    return run
