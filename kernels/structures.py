"""What travels together through the kernels, as tuples of arrays: nothing is allocated or checked here.

Three choices meet in a training run, each a tuple of its own: what is trained (`Objective`), how a step is made (the
`Tables` of a rule, rules.py), and what is wanted back (`Adjoint`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]
Floats = npt.NDArray[Any]  # float64 or float32: the precision of the gradient's arithmetic


# ---- what is trained -----------------------------------------------------------------------------------------


class Network(NamedTuple):
    """The shape of an MLP with L layers, P parameters, G = 2 L parameter groups W1, b1, W2, b2, ..."""

    sizes: Int64s  # (L + 1,): inputs, hidden units, outputs
    bounds: Int64s  # (G + 1,): group g holds the parameters bounds[g] <= p < bounds[g + 1]
    activation: int  # of kernels.activations
    loss: int  # of kernels.losses


class Data(NamedTuple):
    """N examples, flat and row-major."""

    x: Floats  # (N D,)
    y: Floats  # (N K,)
    weights: Floats  # (N,), or empty: all one
    unit: int  # 1 if the mass of every target is one (losses.py)


class Batch(NamedTuple):
    """`size` consecutive examples of the arrays of a `Data`, from row `first` on."""

    x: Floats
    y: Floats
    weights: Floats
    unit: int
    first: int
    size: int


class Objective(NamedTuple):
    """What the steps of a chunk of training descend on: an MLP's mean loss over each step's batch, and the penalty."""

    net: Network
    data: Data
    examples: int  # N
    l2: Float64s  # (1,), (G,) or (P,): penalty coefficients
    rows: Int64s  # (steps of this chunk, B): examples of each step; (0, 0): all of them, in order
    first: int  # the step of rows[0]


# ---- how a step is made --------------------------------------------------------------------------------------


class State(NamedTuple):
    """A training run between two steps: all that exact reversal needs."""

    w: Int64s  # (P,) on the grid
    carry: Int64s  # (1, P) what shrinking took from the weights (shrinking.py), or (0, P) if the rule shrinks none
    moments: Int64s  # (M, P), each on the grid that its rule chooses: the velocity
    heads: Int64s  # (M, P): of an information buffer for each moment
    tail: npt.NDArray[np.uint16]  # (capacity,)
    # (4,): steps done, top of the tail, running checksum of the steps' gradients (at decay 1 they leave no trace
    # elsewhere), and how many words lie below the tail, not in memory (shelving.py); written last in a step, by the
    # kernel, so the state is whole
    cursor: Int64s


# ---- what is wanted back -------------------------------------------------------------------------------------


class ObjectiveAdjoint(NamedTuple):
    """Derivatives by the arrays of an `Objective`; empty where not wanted."""

    l2: Float64s  # as Objective.l2
    x: Float64s  # (N D,)
    y: Float64s  # (N K,)
    weights: Float64s  # (N,)


class Adjoint(NamedTuple):
    """Derivatives of the final loss: by the current w and moments, and sums over the steps undone so far.

    Also of C losses: every array then has a first axis of that length.
    """

    w: Float64s  # (P,)
    moments: Float64s  # (M, P)
    rule: Any  # derivatives by the tables of the rule
    objective: ObjectiveAdjoint | None  # None: what is trained is not the kernels' business
    norms: Float64s  # (S,): the Euclidean norm of w as it was before the steps first, first + every, ...
    first: int  # the adjoint comes down to
    every: int


# ---- what the passes leave and work in -----------------------------------------------------------------------


class Passes(NamedTuple):
    """What a forward and a backward pass over `ROWS` examples leave; H is the sum of all layers' outputs.

    Also a ring of R such: every array then has a first axis of that length.
    """

    act: Floats  # (ROWS H,): activations of every layer; of the last, its outputs z
    mean: Floats  # (ROWS K,): what the outputs predict
    delta: Floats  # (ROWS H,): dL/dz of every layer


class Steps(NamedTuple):
    """A ring of S steps."""

    w: Floats  # (S, P): the weights of a step
    moments: Floats  # (S, M, P): the moments that it ended with
    g: Floats  # (S, P): its gradient; once the step is undone, what the rule makes of it


class Record(NamedTuple):
    """What the steps in flight leave for their differentiation.

    Without a reader, S = R = 1 and `progress` tells the writer that everything was read.
    """

    steps: Steps
    passes: Passes  # a ring
    progress: Int64s  # of kernels.handover


class Team(NamedTuple):
    """One thread, or one of two (team.py)."""

    me: int  # 0: the one that called; or 1
    size: int
    cut: int  # the first parameter of the second share; 0: there is no second
    progress: Int64s  # of kernels.handover


class Workspace(NamedTuple):
    """Scratch of one thread; of a team the gathered examples are the same arrays."""

    x: Floats  # (ROWS D,), y (ROWS K,), weights (ROWS,): gathered examples; empty where nothing is gathered
    y: Floats
    weights: Floats
    across: Floats  # (largest a b,): a transposed weight matrix
    one: Floats  # (1,): 1
    scratch: Float64s  # (SCRATCH,)


class Tangents(NamedTuple):
    """Scratch of the R-operator passes: what they need of a step whatever the direction, and R{.} of `Passes`."""

    turned: Floats  # (P,): the transposed weight matrices, each where the matrix lies
    slope: Floats  # (ROWS H,): phi' where that is no matter of a few instructions
    u: Floats  # (P,): the direction
    hu: Floats  # (P,): the Hessian times u
    act: Floats  # (ROWS H,)
    delta: Floats  # (ROWS H,)
    bend: Floats  # (ROWS H,): phi'' / phi' R{z}
    x: Floats  # (D b,): the first weight matrix of u, transposed, or empty: R{dL/dX} is not wanted
