"""What `attribute` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrev._attribution.scores import changes, drawn, intervals, mean_score, rank_correlations
from fastrev._attribution.shown import Shown, of_network
from fastrev._attribution.source import Source, losses_without
from fastrev._engine import arguments
from fastrev._engine.batches import FullBatch
from fastrev._engine.equality import compared_by_value
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.progress import progress_bar
from fastrev._engine.types import AnyArray, FloatArray, Ints
from fastrev._pictures import attributions as pictures
from fastrev._pool.workers import fan_out
from fastrev.attribution_check import AttributionCheck

_FEWEST_PIXELS = 36  # of what is taken for an image without being told
_FEWEST_SUBSETS = 3  # two are ranked right by chance every other time


@compared_by_value
class TopExamples(NamedTuple):
    """The examples, or groups, with the largest effects on one query, which `Attribution.top` returns.

    Attributes
    ----------
    helpful, harmful : (k,) int64 ndarray
        Columns of ``Attribution.effects``, which are training examples or groups, those of the largest effects first.
        Fewer than k if fewer help, or harm, at all.
    helpful_effects, harmful_effects : (k,) float64 ndarray
        Their effects: above zero, and below.
    """

    helpful: Ints
    helpful_effects: FloatArray
    harmful: Ints
    harmful_effects: FloatArray


@compared_by_value
@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Attribution:
    """What `attribute` returns: what each training example did to the loss of each query.

    Attributes
    ----------
    effects : (Q, N) float64 ndarray
        Predicted change of the loss of query q if example i is left out: positive for an example that helps.  With
        groups (Q, number of groups), each the sum of its members'.
    losses : (Q,) float64 ndarray
        Of the queries after training.
    w : (P,) float64 ndarray
        The final weights.
    groups : ndarray or None
        The label of each group, in the order of the columns; of groups given by indices, their numbers.
    """

    effects: FloatArray
    losses: FloatArray
    w: FloatArray
    groups: AnyArray | None
    source: Source = field(compare=False)
    shown: Shown | None = field(default=None, compare=False)  # None: what the network was trained on

    def top(self, query: int = 0, k: int = 10) -> TopExamples:
        """The most helpful and the most harmful examples of a query.

        Parameters
        ----------
        query : int
            Which.
        k : int
            How many of each, at most.

        Returns
        -------
        TopExamples

        Raises
        ------
        ArgumentError
            If an argument is at fault.
        """
        effects = self.effects[arguments.index("query", query, len(self.effects))]
        order, k = np.argsort(-effects, kind="stable"), arguments.count("k", k)
        helpful, harmful = order[:k], order[::-1][:k]
        helpful, harmful = helpful[effects[helpful] > 0], harmful[effects[harmful] < 0]
        return TopExamples(helpful, effects[helpful], harmful, effects[harmful])

    def self_influence(self, rows: npt.ArrayLike | None = None, *, progress: bool = False) -> FloatArray:
        """The effect of training examples on their own losses, of whatever queries.

        Where it is large, the network owes what it says of an example to having seen it: wrong labels are among these,
        and rare cases.

        Parameters
        ----------
        rows : (K,) array_like of int, optional
            Which training examples.  Default: all of them.
        progress : bool
            Show progress bars.

        Returns
        -------
        (K,) float64 ndarray
            Predicted change of the loss of example i if it is left out itself: with ``queries=train``, the diagonal of
            the effects.

        Raises
        ------
        ArgumentError
            If an argument is at fault, or the model is a `fastrev.Objective`: of its examples nobody knows the losses.

        Notes
        -----
        It trains again, and takes that back once for each block of examples as `attribute` does for queries; no more
        than a block's effects are held.  With groups, examples are meant all the same.
        """
        self._require_network(
            "model", "be a fastrev.MLP for self_influence", "a fastrev.Objective",
            "Pass queries=[...], a function of each training example's loss, to attribute.",
        )  # fmt: skip
        self.source.require_unchanged()
        examples, shares = self.source.columns.rows
        which = np.arange(len(examples)) if rows is None else _rows(rows, len(examples))
        distinct, of = np.unique(examples[which], return_inverse=True)
        blocks = self.source.of_its_own_examples().blocks(distinct, progress)
        found = [block.effects[np.arange(len(block.which)), block.which] for block in blocks]
        influence: FloatArray = shares[which] * np.concatenate([np.empty(0), *found])[of]
        return influence

    def check(
        self,
        fraction: float = 0.05,
        subsets: int = 50,
        *,
        redraw: bool = False,
        workers: Any = 1,
        seed: int = 0,
        progress: bool = False,
    ) -> AttributionCheck:
        """Hold predictions against real retrainings without random subsets of the examples, or groups.

        Parameters
        ----------
        fraction : float
            Share of the examples, or groups, that each subset leaves out.
        subsets : int
            How many are drawn, at least 3, no two alike: as many trainings.  All there are, where there are no more.
        redraw : bool
            What "left out" means.  False: the weights of these examples are 0.  Every step is made on the batch that it
            had, and divides by B as before, so that a batch with k such examples makes a step of ``(B - k) / B`` of the
            size: that is what `effects` are the derivatives of.  True: the network is trained on the others alone, and
            batches are drawn from them by the same seed, other ones then; with all examples at every step the mean is
            over those that are left.  What other batches do to the loss is noise to the prediction.
        workers : int, map-like callable, or object with a method ``map``
            Who retrains, as in `fastrev.tune`; the result has the same bits with each.
        seed : int
            Of the subsets, and of the bootstrap.
        progress : bool
            Show a progress bar.

        Returns
        -------
        AttributionCheck
            With a score for each query; print it for a summary.

        Raises
        ------
        ArgumentError
            If an argument is at fault, if there are fewer than 3 examples, or groups, and so than 3 subsets, if groups
            overlap, or if batches cannot be drawn again: where `batches` were given, of an Objective, or without a
            subset that leaves fewer examples than there are in a batch.
        DivergenceError
            If a step of a retraining is refused, or the loss of a query after it is not finite.  It says of which
            subset.
        ReversalError
            If the training data changed in place since.

        References
        ----------
        S. M. Park, K. Georgiev, A. Ilyas, G. Leclerc, A. Madry, "TRAK: Attributing Model Behavior at Scale", ICML 2023,
        arXiv:2303.14186, definition 2.4.
        """
        columns, count = self.source.columns.count, arguments.whole("subsets", subsets, _FEWEST_SUBSETS)
        arguments.whole("seed", seed, 0)
        if not arguments.is_number(fraction) or not 0 < fraction < 1:
            raise arguments.fault("fraction", "be a number above 0 and below 1", arguments.shown(fraction))
        if columns < _FEWEST_SUBSETS:  # as many subsets
            raise arguments.fault(
                "train" if self.groups is None else "groups", f"hold {_FEWEST_SUBSETS} at least for check",
                f"{columns}", "Train without each by example_weights, and hold the losses against effects.",
            )  # fmt: skip
        size = max(1, round(fraction * columns))
        if size >= columns:
            raise arguments.fault("fraction", f"leave one of {columns} at least", f"{fraction}", "Pass a smaller one.")
        if arguments.flag("redraw", redraw):
            trained = self._require_network(
                "redraw", "be False for a fastrev.Objective", "True", "It has batches of its own."
            )
            trained.batches.drawn_from(trained.examples)  # refuses those that were given
        if self.source.columns.overlap:
            raise arguments.fault(
                "groups", "not overlap for check, which leaves out several at a time", "groups with common examples",
                "Attribute again by groups of which each example is in one.",
            )  # fmt: skip
        without = drawn(columns, size, count, seed)
        if redraw:
            self._require_examples(without)
        real = self._retrained(without, redraw, workers, progress).T - self.losses[:, None]
        predicted = changes(self.effects, without)
        score = rank_correlations(predicted, real)
        score_interval, mean_score_interval = intervals(predicted, real, seed)
        return AttributionCheck(
            score=score, score_interval=score_interval, mean_score=mean_score(score),
            mean_score_interval=mean_score_interval, predicted=predicted, real=real, subsets=without,
            fraction=size / columns, redraw=bool(redraw),
        )  # fmt: skip

    def _retrained(self, without: Ints, redraw: bool, workers: Any, progress: bool) -> FloatArray:
        """The losses (S, Q) without each of the subsets."""
        tasks = [(subset, columns, redraw) for subset, columns in enumerate(without)]
        at_a_time = max(1, len(tasks) // 10) if progress else len(tasks)
        found: list[FloatArray] = []
        bar = progress_bar(progress, len(tasks), "retraining", "run")
        with fan_out(losses_without, self.source, workers) as each_of, bar as tick:
            for first in range(0, len(tasks), at_a_time):
                part = each_of(tasks[first : first + at_a_time])
                found += part
                tick(len(part))
        return np.stack(found)

    def _require_examples(self, without: Ints) -> None:
        """Refuse subsets without which batches cannot be drawn from the examples that are left."""
        trained = self._require_network()
        full = isinstance(trained.batches, FullBatch)
        fewest = 1 if full else trained.batches.size
        for subset, columns in enumerate(without):
            left = np.count_nonzero(self.source.columns.left(columns))
            if left < fewest:
                kind = "one at least" if full else f"a batch of {fewest} at least"
                raise arguments.fault(
                    "fraction", f"leave examples to train on where redraw=True, {kind}",
                    f"one that leaves {left} of {trained.examples} without subsets[{subset}], {columns.tolist()}",
                    "Pass a smaller one, or to attribute smaller groups.",
                )  # fmt: skip

    def _require_network(self, *otherwise: str) -> MLPObjective:
        trained = self.source.problem.trained
        if not isinstance(trained, MLPObjective):
            raise arguments.fault(*otherwise)
        return trained

    def plot(self, query: int = 0, k: int = 8, *, shape: tuple[int, int] | None = None) -> Any:
        """Draw the most helpful and the most harmful examples of a query, with their effects.

        Parameters
        ----------
        query : int
            Which.
        k : int
            How many of each, at most.
        shape : tuple (height, width), optional
            Draw inputs as images of this shape, those of an estimator as they were before it standardised them.
            Default: square ones, where there are that many pixels and 36 at least.  ``()``, a `fastrev.Objective`, or
            groups, which are no images: bars for the effects.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ArgumentError
            If an argument is at fault.
        MissingExtraError
            If matplotlib is not installed.
        """
        q, top = arguments.index("query", query, len(self.effects)), self.top(query, k)
        shown = of_network(self.source, self.w) if self.shown is None else self.shown
        size = self._size_of_images(shown, shape)
        known = "" if shown is None else shown.title(q)
        title = f"query {q}{known and ': '}{known}\nloss {self.losses[q]:.3g}"
        if shown is not None and size:
            query_image = None if shown.queries is None else shown.queries[q].reshape(size)
            return pictures.as_images(top, shown.inputs.reshape(-1, *size), query_image, shown.labels, title)
        if self.groups is not None:
            names = [pictures.written(each) for each in self.groups]
        else:
            labels = None if shown is None else shown.labels
            names = pictures.captions(np.arange(self.effects.shape[1]), labels)
        return pictures.as_bars(top, names, "training example" if self.groups is None else "group", title)

    def _size_of_images(self, shown: Shown | None, shape: Any) -> tuple[int, ...]:
        """Height and width; none for bars."""
        if isinstance(shape, tuple) and shape == ():
            return ()
        if shown is None or self.groups is not None:
            if shape is not None:
                what = "a fastrev.Objective" if shown is None else "groups"
                raise arguments.fault(
                    "shape", f"be () or left out for {what}", arguments.shown(shape), "Bars are drawn."
                )
            return ()
        pixels = shown.inputs.shape[1]
        if shape is None:
            side = isqrt(pixels)
            return (side, side) if side**2 == pixels and pixels >= _FEWEST_PIXELS else ()
        whole = isinstance(shape, tuple | list) and all(
            isinstance(each, int | np.integer) and not isinstance(each, bool) for each in shape
        )
        sizes = tuple(shape) if whole else ()
        if len(sizes) != 2 or min(sizes) < 1 or sizes[0] * sizes[1] != pixels:
            raise arguments.fault("shape", f"be (height, width) of {pixels} pixels, or ()", arguments.shown(shape))
        return sizes

    def __repr__(self) -> str:
        columns = "training examples" if self.groups is None else "groups"
        low, high = self.losses.min(), self.losses.max()
        return (
            f"{type(self).__name__}(effects of {self.effects.shape[1]} {columns} on {len(self.losses)} queries, whose "
            f"losses are {low:.3g} to {high:.3g})"
        )


def _rows(rows: npt.ArrayLike, count: int) -> Ints:
    found = arguments.as_array("rows", rows)
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise arguments.fault("rows", "be whole numbers, of shape (K,)", f"of dtype {found.dtype}, shape {found.shape}")
    for bad in found[(found < 0) | (found >= count)][:1]:
        raise arguments.fault("rows", f"be from 0 to {count - 1}", f"{bad}")
    return found.astype(np.int64)
