"""What the kernels work in: allocated once a run, here and nowhere else."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fastrev.kernels.information_buffer import BLOCK
from fastrev.kernels.mlp_gradient import ROWS
from fastrev.kernels.structures import Tangents, Workspace

if TYPE_CHECKING:
    from fastrev.mlp import MLP


def workspace_for(model: MLP, examples: int, gather: bool = False) -> Workspace:
    """For batches of up to `examples` rows, which with `gather` are copied together from anywhere in the data."""
    rows = min(ROWS, examples)
    gathered = rows if gather else 0
    sizes, dtype = model.sizes, model.dtype
    width, k = sum(sizes[1:]), sizes[-1]
    return Workspace(
        w=np.empty(model.num_params, dtype),
        g=np.empty(model.num_params, dtype),
        x=np.empty(gathered * sizes[0], dtype),
        y=np.empty(gathered * k, dtype),
        weights=np.empty(gathered, dtype),
        act=np.empty(rows * width, dtype),
        slope=np.empty(rows * (width - k), dtype),
        mean=np.empty(rows * k, dtype),
        delta=np.empty(rows * width, dtype),
        across=np.empty(max(a * b for a, b in pairwise(sizes)), dtype),
        one=np.ones(1, dtype),
        scratch=np.empty(2 * BLOCK),
    )


def tangents_for(model: MLP, work: Workspace, inputs: bool) -> Tangents:
    """To go with a workspace; with `inputs`, for derivatives by the inputs as well."""
    rows = work.mean.size // model.sizes[-1]
    return Tangents(
        u=np.empty(model.num_params, model.dtype),
        hu=np.empty(model.num_params, model.dtype),
        act=np.empty_like(work.act),
        delta=np.empty_like(work.act),
        bend=np.empty_like(work.slope),
        x=np.empty(rows * model.sizes[0] if inputs else 0, model.dtype),
    )
