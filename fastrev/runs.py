"""A training run, that can be taken back: exactly, and differentiating if asked to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._durable.checkpoints import Checkpoint, Keeper, checkpoint_of, what_is_asked
from fastrev._durable.contents import Standing, curve_of, fill
from fastrev._durable.run_files import fingerprint, made, read, write
from fastrev._engine import announcing, arguments, chaos, compilation, lookers, passes, refusals
from fastrev._engine import state as states
from fastrev._engine.companion import in_company
from fastrev._engine.cotangents import cotangents
from fastrev._engine.exclusive import Exclusive, exclusive
from fastrev._engine.lookers import NOBODY, Audience, Losses
from fastrev._engine.optimizer import Optimizer
from fastrev._engine.problem import Problem, prepare
from fastrev._engine.tail import InMemory, Tail
from fastrev._engine.types import FloatArray, Ints
from fastrev._engine.walk import Undo, WalkBack, nbytes, norm
from fastrev._engine.walks import walk_through
from fastrev._files.replacing import StrPath
from fastrev._files.shelf import shelf_in
from fastrev.errors import ReversalError, TrainingInterrupt
from fastrev.mlp import MLP
from fastrev.objective import Objective
from fastrev.optimizers import optimizer_of
from fastrev.results import Curve, Gradients, Stats


class Run(Exclusive):
    """A training run that can be taken back.  `train` makes it.

    Attributes
    ----------
    w : (P,) float64 ndarray
        Final weights.
    v : (P,) float64 ndarray
        Final velocity; of Adam, which has none, the first moment m.
    stats : Stats
        ``stats.exact`` becomes True when the run has been taken back.
    curve : Curve or None
        The losses that `train` was asked for, as far as the run came.
    """

    def __init__(self, problem: Problem, tail: Tail | None = None) -> None:
        super().__init__()
        self._problem, self._tail = problem, tail or InMemory()
        self._walk = walk_through(problem, self._tail)
        self._state = problem.start()
        self._end: tuple[FloatArray, FloatArray, Stats] | None = None  # kept when the way back begins
        self._astray = False  # did not arrive at its start
        self._losses: Losses | None = None
        self._file: Path | None = None  # of the way there, which may name files of words

    def __repr__(self) -> str:
        done, size = int(self._state.cursor[0]), self._state.w.size
        if self._end is None:
            bits = states.stored_bits(self._state.heads, states.words_held(self._state)) / (size * max(done, 1))
            steps, stands = f"{done} of {self._problem.steps} steps", "not taken back"
        else:
            stats = self._end[2]
            bits, steps = stats.bits_per_parameter_step, f"{stats.steps} steps"
            stands = "taken back, every bit" if stats.exact else f"taken back to step {done}"
        stands = "lost on its way back" if self._astray else stands
        return f"Run({steps}, {size} parameters, {bits:.3g} bits per parameter and step, {stands})"

    @property
    def w(self) -> FloatArray:
        return states.to_floats(self._state.w) if self._end is None else self._end[0].copy()

    @property
    def v(self) -> FloatArray:
        v: FloatArray = self._moments()[0]
        return v

    def _moments(self) -> FloatArray:
        return self._problem.moments_of(self._state) if self._end is None else self._end[1].copy()

    @property
    def stats(self) -> Stats:
        return self._stats(0) if self._end is None else self._end[2]

    def _steps(self) -> int:
        """Those made, or that were made before the way back began."""
        return int(self._state.cursor[0]) if self._end is None else self._end[2].steps

    def _stats(self, more_bytes: int) -> Stats:
        done, bits = int(self._state.cursor[0]), states.stored_bits(self._state.heads, states.words_held(self._state))
        return Stats(
            steps=done,
            stored_bits=bits,
            bits_per_parameter_step=bits / (self._state.w.size * max(done, 1)),
            bytes_held=self._walk.nbytes + nbytes(self._problem.w0, self._problem.moments, *self._state) + more_bytes,
            bytes_on_disk=self._tail.bytes_elsewhere(self._state),
            exact=None,
        )

    @property
    def curve(self) -> Curve | None:
        return None if self._losses is None else Curve(*self._losses.read())

    @exclusive
    def pullback(
        self,
        w_bar: npt.ArrayLike,
        v_bar: npt.ArrayLike | None = None,
        wrt: tuple[str, ...] | None = None,
        *,
        truncate: int | None = None,
        checkpoint: StrPath | None = None,
        every: int | None = None,
        progress: bool = False,
    ) -> Gradients:
        """Differentiate any loss of the final weights and velocity through the training, or many.  Consumes the run.

        Parameters
        ----------
        w_bar : (P,) or (K, P) array_like
            Derivative of the loss by the final weights, or those of K losses: all gradients then have a first axis of
            K.
        v_bar : array_like, of the shape of w_bar, optional
            Derivative by the final velocity, of Adam by the final first moment m; default zero.
        wrt : tuple of str, optional
            What to differentiate by, as in `meta_grad`.
        truncate : int, optional
            Differentiate through the last so many steps only, as if all before had been fixed: derivatives by what came
            before, `w0` and `v0` among it, are zero.  The run is taken back to its start nevertheless.
        checkpoint, every : optional
            As of `train`: where the file is of this way back, it goes on from there, whatever the run has come to
            since.  The path may be that of the training: the one file then takes the place of the other.
        progress : bool
            Show a progress bar.

        Returns
        -------
        Gradients

        Raises
        ------
        ArgumentError
            If an argument is at fault, or the checkpoint of another way back; the run is as before.  Or if a function
            of an `Objective` returns what it must not, at the step that was to be undone; `rewind` takes the run back
            from there.
        ReversalError
            If the run does not arrive at its start bit for bit, was consumed before, or an earlier pullback stopped on
            its way.

        Warns
        -----
        RuntimeWarning
            If the checkpoint cannot be written, for want of room, say.  The run goes on.
        ChaosWarning
            If the derivatives exploded on their way: training is chaotic there, and they are noise.  Where warnings are
            errors they are lost, and the run is consumed.

        Notes
        -----
        K losses take one reversal: each step is undone once, and its gradient's passes over the batch are made once.
        The bits of each row are those of a pullback of this row alone.  An MLP's adjoints are pulled back by both
        threads, in K losses a third to a half of the time of K pullbacks.  Memory grows with K by that of the gradients
        in float64, those by w0 and by every array (P,) that the optimizer keeps always among them: 16 P bytes a loss
        for SGD, 8 N D more by `x`.  ``stats.bytes_held`` counts it all.

        References
        ----------
        D. Maclaurin, D. Duvenaud, R. P. Adams, "Gradient-based Hyperparameter Optimization through Reversible
        Learning", ICML 2015, Algorithm 2.

        Examples
        --------
        Differentiate each of the final weights by the learning rate, the Jacobian of the training:

        >>> import numpy as np, fastrev
        >>> model = fastrev.MLP((2, 1), loss="squared_error")
        >>> run = fastrev.train(model, [1.0, 2.0, 0.0], train=(np.eye(2), np.ones(2)), lr=0.1, decay=0.5, steps=5)
        >>> run.pullback(np.eye(3), wrt=("lr",)).lr.round(3)
        array([ 0.203, -1.586, -1.383])
        """
        file = checkpoint_of(checkpoint, every, self._problem)
        met = None if file is None else file.read()
        if met is None or met.adjoint is None:
            self._require_end()
            met = None
        names = differentiable(self, wrt)
        dw, dm = cotangents(w_bar, v_bar, self._problem)
        by_moments = [0.0 if v_bar is None else norm(m) for m in dm]
        done = self._steps()
        last = done if truncate is None else min(arguments.count("truncate", truncate), done)
        asked = {} if file is None else what_is_asked(dw, dm, names, last, done, self.w)
        if file is not None and met is not None:
            file.require_same(met.asked or {}, asked)
        back = self._walk.back(dw, dm, names, range(done - last, done))
        if met is not None:
            fill(back.kept(), met.adjoint or {})
            self._stand(met)
        keeper = None
        if file is not None:
            own = self._tail if file.is_in_place_of(self._file) else None
            keeper = Keeper(file, lambda: self._standing(back, asked), met, tail=own)
        with announcing.waiting():
            compilation.finish(self._problem.trained.dtype)
            back.compile(self._state)
        announcing.end()
        chunk = back.chunk_steps(progress or (keeper is not None and keeper.impatient))
        back.through(self._state, lambda undo: self._take_back(undo, chunk, progress, back.nbytes, keeper))
        (norms, at), one = back.norms(), arguments.as_array("w_bar", w_bar).ndim == 1
        sizes = [max(*each) for each in zip(norms[:, -1].tolist(), by_moments, strict=True)]
        self._proved(norms[0] if one else norms, at)
        chaos.guard(norms, at, sizes)
        gradients = back.gradients()
        return Gradients(**{name: _first(gradients[name]) if one else gradients[name] for name in names})

    @exclusive
    def rewind(self, *, progress: bool = False) -> None:
        """Take the run back to its start without differentiating, and prove that it arrived.  Consumes the run.

        This also finishes a pullback that was interrupted: the state is whole between any two steps.

        Parameters
        ----------
        progress : bool
            Show a progress bar.

        Raises
        ------
        ReversalError
            If the run does not arrive at its start bit for bit, or was consumed before.
        """
        self._require_unconsumed()
        self._walk.compile_undo(self._state)
        chunk = self._walk.chunk_steps(progress)
        in_company(lambda _: self._take_back(lambda stop: self._walk.undo(self._state, stop), chunk, progress, 0))
        self._proved()

    @exclusive
    def save(self, path: StrPath) -> None:
        """Write the run as it stands to a file, from which `fastrev.load` makes it again: an ``.npz`` without pickle.

        The run may be at its end, interrupted (`TrainingInterrupt`), refused (`DivergenceError`), on its way back or
        back at its start.  Data and functions are not in the file, only what tells whether they are the same.

        Parameters
        ----------
        path : str or path-like
            Taken as it is; no suffix is added.  A file that was there is replaced as a whole.

        Raises
        ------
        ArgumentError
            If the file cannot be written.  One that was there stays.
        ReversalError
            If the run is lost.

        Notes
        -----
        `train` goes on from the file where it is passed as `checkpoint`.  The derivatives of a pullback that was
        interrupted are not in it: these are in that pullback's own checkpoint.
        """
        self._require_found()
        state = self._tail.whole(self._state)
        standing = Standing(state, self._walk.kept(int(state.cursor[0])), self._end, losses=self._losses)
        write(path, made(self._problem, fingerprint(self._problem), standing))

    def _standing(self, back: WalkBack | None = None, asked: dict[str, str] | None = None) -> Standing:
        adjoint, state = None if back is None else back.kept(), self._state
        walk, files = self._walk.kept(int(state.cursor[0])), self._tail.sync(state)
        return Standing(state, walk, self._end, adjoint, asked, self._losses, files)

    def _stand(self, met: Standing) -> None:
        fill(self._walk.kept(int(met.state.cursor[0])), met.walk)
        self._tail.restore(met.files, met.state)
        self._state, self._end, self._astray = met.state, met.end, False

    def _resume(self, file: Checkpoint, audience: Audience) -> Audience:
        """Go on from the file, if it is there.  Returns the audience, with who writes it again."""
        self._file, met = file.path, file.read()
        if met is not None:
            file.require_same({"curve": curve_of(met.losses)}, {"curve": curve_of(audience.losses)})
            self._stand(met)
            audience.go_on(met.losses, int(met.state.cursor[0]), ended=met.end is not None)
        return replace(audience, keeper=Keeper(file, self._standing, met, tail=self._tail))

    def _require_found(self) -> None:
        if self._astray:
            raise ReversalError("The run did not arrive at its start when it was taken back. It is lost: train again.")

    def _require_end(self) -> None:
        self._require_unconsumed()
        if self._end is not None:
            raise ReversalError(
                f"The run has begun its way back: an earlier pullback or rewind stopped with {self._state.cursor[0]} "
                f"of {self._end[2].steps} steps to go, and derivatives begin at the end. Call run.rewind() to take the "
                "run back to its start, or train again."
            )

    def _require_unconsumed(self) -> None:
        self._require_found()
        if self._end is not None and self._end[2].exact:
            raise ReversalError("The run was consumed: it has been taken back to its start already. Train again.")

    def _advance(self, progress: bool, audience: Audience = NOBODY) -> None:
        if self._end is None:  # as in a file that is of a run on its way back
            with refusals.with_the_run(self):
                passes.advance(self._problem, self._walk, self._state, self._tail, progress, audience, self)

    def _take_back(self, undo: Undo, chunk: int, progress: bool, more_bytes: int, keeper: Keeper | None = None) -> None:
        """Undo all steps in chunks by `undo`, then hold what there is against the start."""
        if faults := self._problem.unsound(self._state):
            raise refusals.no_arrival(self._problem, faults)
        if self._end is None:
            self._end = self.w, self._moments(), self._stats(more_bytes)
        with refusals.with_the_run(self):
            faults = passes.take_back(self._problem, self._state, undo, chunk, progress, keeper, self)
        if faults or self._problem.changed():
            self._astray = True
            raise refusals.no_arrival(self._problem, faults, kept=keeper is not None)
        if keeper is not None:
            keeper.end(self._state)

    def _proved(self, norms: FloatArray | None = None, at: Ints | None = None) -> None:
        assert self._end is not None
        proved = Stats(**vars(self._end[2]) | {"exact": True, "adjoint_norms": norms, "adjoint_steps": at})
        self._end = (*self._end[:2], proved)
        self._walk.release()


def start(
    model: MLP | Objective,
    w0: npt.ArrayLike,
    *,
    lr: npt.ArrayLike | None = None,
    decay: npt.ArrayLike | None = None,
    optimizer: Optimizer | None = None,
    buffer: StrPath | None = None,
    **training: Any,
) -> Run:
    """A run of which no step is made yet, if all arguments of `train` are right."""
    problem = prepare(model, w0, optimizer=optimizer_of(lr, decay, optimizer), **training)
    return Run(problem, None if buffer is None else shelf_in(buffer))


def make_all_steps(
    run: Run,
    progress: bool,
    *,
    curve: Any = None,
    callback: Any = None,
    checkpoint: StrPath | None = None,
    every: int | None = None,
) -> None:
    """Check these arguments of `train`, and train: from where the checkpoint stands, if it is there."""
    audience = lookers.prepare(run._problem, curve, callback)
    file = checkpoint_of(checkpoint, every, run._problem)
    run._losses = audience.losses
    try:
        with announcing.waiting():
            compilation.begin(run._problem.trained.dtype, type(run._problem.rule))
            run._walk.compile_make(run._state)
            run._tail.compile()
        if file is not None:
            audience = run._resume(file, audience)
        in_company(lambda _: run._advance(progress, audience))
        if audience.keeper is not None and run._end is None:
            audience.keeper.end(run._state)
    except KeyboardInterrupt:
        raise TrainingInterrupt(run) from None


def _first(rows: Any) -> Any:
    """The only row of derivatives."""
    return {name: each[0] for name, each in rows.items()} if isinstance(rows, dict) else rows[0]


def restored(run: Run, path: StrPath) -> Run:
    """The run as it stood when it was written to the file."""
    met = read(path, run._problem, fingerprint(run._problem))
    run._stand(met)
    run._losses = met.losses
    if met.files is not None:
        run._file = Path(path).absolute()
    return run


def values(run: Run) -> dict[str, FloatArray]:
    """All that there is to differentiate by, in float64."""
    return run._problem.values()


def moments(run: Run) -> FloatArray:
    """All that the optimizer keeps beside the weights, (M, P)."""
    return run._moments()


def expected_stats(run: Run, losses: int, names: tuple[str, ...]) -> Stats:
    """Those of a run of which no step is made yet, once it is made and pulled back for so many losses."""
    problem, state, shape = run._problem, run._state, (losses, len(run._problem.rule.moments), run._state.w.size)
    words, bits = problem.rule.information(problem.steps, problem.trained.bounds)
    back = run._walk.back(np.zeros((losses, state.w.size)), np.zeros(shape), names, range(problem.steps))
    tail, elsewhere = run._tail.bytes_of(words, states.words_of_a_step(state))
    return Stats(
        steps=problem.steps,
        stored_bits=bits,
        bits_per_parameter_step=bits / (state.w.size * problem.steps),
        bytes_held=run.stats.bytes_held + back.nbytes + tail,
        bytes_on_disk=elsewhere,
        exact=None,
    )


def differentiable(run: Run, wrt: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of what is to be differentiated by, if it is there."""
    trained, rule = run._problem.trained, run._problem.rule
    own = (*rule.names, "w0", *rule.starts)
    trained.require_hvp()
    if wrt is None:
        return own + trained.names_by_default
    return arguments.distinct_choices("wrt", wrt, own + trained.names)
