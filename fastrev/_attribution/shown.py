"""What pictures show of training examples and queries."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastrev._attribution.source import Source
from fastrev._engine.evaluation import outputs
from fastrev._engine.mlp_objective import MLPObjective
from fastrev._engine.types import AnyArray, FloatArray
from fastrev._pictures.attributions import written


class Shown(NamedTuple):
    """Inputs as the user knows them, and what they are; None where that is not known."""

    inputs: FloatArray  # (N, D)
    labels: AnyArray | None  # (N,)
    queries: FloatArray | None  # (Q, D)
    query_labels: AnyArray | None  # (Q,)
    read_as: AnyArray | None  # (Q,)

    def title(self, query: int) -> str:
        """What is known of a query beside its number."""
        parts = [] if self.query_labels is None else [written(self.query_labels[query])]
        parts += [] if self.read_as is None else [f"read as {written(self.read_as[query])}"]
        return ", ".join(parts)


def of_network(source: Source, w: FloatArray) -> Shown | None:
    """Of what a network was trained on; None of an Objective, which keeps its examples to itself."""
    trained = source.problem.trained
    if not isinstance(trained, MLPObjective):
        return None
    source.require_unchanged()
    values, model = trained.values(), trained.model
    classes = model.loss == "cross_entropy"
    labels = values["y"].argmax(axis=1) if classes else None
    data, count = source.queries.data, source.queries.count
    if data is None:
        return Shown(values["x"], labels, None, None, None)
    queries = data.x.reshape(count, -1).astype(np.float64)
    if not classes:
        return Shown(values["x"], labels, queries, None, None)
    z = outputs(model, w.astype(model.dtype), data, count)
    asked, read = (each.reshape(count, -1).argmax(axis=1) for each in (data.y, z))
    return Shown(values["x"], labels, queries, asked, read)
