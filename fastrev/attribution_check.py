"""What `Attribution.check` returns."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrev._attribution.scores import changes, rank_correlations
from fastrev._engine import arguments
from fastrev._engine.equality import compared_by_value
from fastrev._engine.types import FloatArray, Ints
from fastrev._pictures import attributions as pictures


@compared_by_value
@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class AttributionCheck:
    """Predicted changes beside those of real retrainings, which `Attribution.check` returns; printed, it is a summary.

    Attributes
    ----------
    score : (Q,) float64 ndarray
        The linear datamodeling score of each query: Spearman's rank correlation of predicted and real changes over the
        subsets.  NaN where either is the same for all of them.
    score_interval : (Q, 2) float64 ndarray
        95 % intervals, from bootstrap samples of the subsets: of the scores that very many subsets would have.  Scores
        near 1 of few subsets are somewhat lower than these.
    mean_score : float
        Their mean, over the queries that have one.
    mean_score_interval : (2,) float64 ndarray
        Likewise: from the same samples, since all queries share the subsets.
    predicted, real : (Q, S) float64 ndarray
        Change of each query's loss without each subset.
    subsets : (S, k) int64 ndarray
        The columns of ``Attribution.effects`` that were left out, no two of them alike.
    fraction : float
        k in units of all columns.
    redraw : bool
        Whether batches were drawn again.
    """

    score: FloatArray
    score_interval: FloatArray
    mean_score: float
    mean_score_interval: FloatArray
    predicted: FloatArray
    real: FloatArray
    subsets: Ints
    fraction: float
    redraw: bool

    def score_of(self, effects: npt.ArrayLike) -> FloatArray:
        """The scores of other effects on the same retrainings: of influence functions, say, to be held against.

        Parameters
        ----------
        effects : (Q, N) array_like
            As ``Attribution.effects``, in any unit.

        Returns
        -------
        (Q,) float64 ndarray
            As `score`.

        Raises
        ------
        ArgumentError
            If `effects` are at fault.
        """
        others = arguments.real_array("effects", effects)
        queries, columns = len(self.score), self._columns
        if others.shape != (queries, columns):
            raise arguments.fault("effects", f"have shape ({queries}, {columns})", f"shape {others.shape}")
        return rank_correlations(changes(others, self.subsets), self.real)

    def plot(self, query: int = 0) -> Any:
        """Draw predicted against real changes of one query's loss, a dot for each subset.

        Parameters
        ----------
        query : int
            Which.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ArgumentError
            If there is no such query.
        MissingExtraError
            If matplotlib is not installed.
        """
        q = arguments.index("query", query, len(self.score))
        return pictures.of_check(self.predicted[q], self.real[q], float(self.score[q]), f"query {q}", self._left_out)

    @property
    def _columns(self) -> int:
        columns: int = round(self.subsets.shape[1] / self.fraction)
        return columns

    @property
    def _left_out(self) -> str:
        batches = "batches drawn again" if self.redraw else "the same batches"
        count, size = self.subsets.shape
        every = "all " if count == comb(self._columns, size) else ""
        return f"{every}{count} subsets of {100 * self.fraction:.3g} % left out, {batches}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: mean score {self.mean_score:.3f}, {self._left_out}>"

    def __str__(self) -> str:
        low, high = self.mean_score_interval
        lines = [
            f"linear datamodeling score of {len(self.score)} queries, {self._left_out}",
            f"mean {self.mean_score:.3f} (95 % interval {low:.3f} to {high:.3f})",
        ]
        defined = np.flatnonzero(~np.isnan(self.score))
        if defined.size > 1:
            worst = defined[np.argmin(self.score[defined])]
            lines.append(
                f"median {np.median(self.score[defined]):.3f}; lowest {self.score[worst]:.3f}, of query {worst} "
                f"({self.score_interval[worst][0]:.3f} to {self.score_interval[worst][1]:.3f})"
            )
        if defined.size < len(self.score):
            lines.append(
                f"{len(self.score) - defined.size} have no score: what is predicted or real is the same for all subsets"
            )
        return "\n".join(lines)
