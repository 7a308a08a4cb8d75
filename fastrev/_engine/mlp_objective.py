"""An MLP with its examples, penalty and batches as something to train."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastrev._engine.architecture import Architecture
from fastrev._engine.batches import Batches, FullBatch, plan
from fastrev._engine.examples import as_pair, as_weights, shape_of_targets, unit_of
from fastrev._engine.hyperparameters import penalty
from fastrev._engine.state import imprint
from fastrev._engine.types import Fingerprint, FloatArray, Floating, Ints
from fastrev.kernels.structures import Data, Objective, ObjectiveAdjoint


@dataclass(frozen=True)
class MLPObjective:
    """Checked once, and then good for any number of runs: if any of it has changed since, the proof of a run tells."""

    model: Architecture
    data: Data
    examples: int  # N
    l2: FloatArray  # (1,), (G,) or (P,)
    l2_shape: tuple[int, ...]  # of the argument, and of the targets
    y_shape: tuple[int, ...]
    batches: Batches
    imprints: Fingerprint  # the fingerprint as it was when the data were checked

    names: ClassVar[tuple[str, ...]] = ("l2", "x", "y", "example_weights")  # what there is to differentiate by
    names_by_default: ClassVar[tuple[str, ...]] = ("l2",)

    @property
    def num_params(self) -> int:
        """P."""
        return self.model.num_params

    @property
    def dtype(self) -> np.dtype[np.floating[Any]]:
        """The precision in which the walks are compiled."""
        return self.model.dtype

    @property
    def group_names(self) -> tuple[str, ...]:
        """Of the parameter groups."""
        return tuple(self.model.groups)

    @property
    def bounds(self) -> Ints:
        """(G + 1,) between the parameter groups."""
        return self.model.network.bounds

    @property
    def axes(self) -> list[tuple[str, int | None]]:
        """Every argument with its number of steps, if it has an axis of them."""
        return [("batches", self.batches.steps)]

    def require_hvp(self) -> None:
        """Its second derivatives are there."""

    @property
    def work_per_step(self) -> float:
        """Multiply-adds of a step, about."""
        return 6.0 * self.model.num_params * self.batches.size + 100.0 * self.model.num_params

    @property
    def gathered(self) -> int:
        """How many rows of the data have to be brought together for a batch."""
        return 0 if isinstance(self.batches, FullBatch) else self.batches.size

    def chunk(self, begin: int, end: int) -> Objective:
        """What the kernels take of it for the steps begin <= t < end."""
        rows = self.batches.rows(begin, end)
        return Objective(self.model.network, self.data, self.examples, self.l2, rows, begin)

    def given(self) -> dict[str, Any]:
        """All that makes it, by the name of the argument."""
        model, data = self.model, self.data
        return {
            "model": f"{model.sizes} {model.activation} {model.loss}", "dtype": model.dtype.name, "train[0]": data.x,
            "train[1]": data.y, "example_weights": data.weights, "l2": self.l2, **self.batches.given,
        }  # fmt: skip

    def fingerprint(self) -> Fingerprint:
        """What tells whether anything changed that the kernels read, by the name of the argument."""
        unit = unit_of(self.model, self.data.y.reshape(self.examples, -1))
        return _fingerprint(self.model, self.data, unit, self.l2, self.batches)

    def layout(self) -> Fingerprint:
        """Of what the kernels find their way in memory by, which a damaged one of would lead outside of it."""
        return {**_of_model(self.model), **_of_batches(self.batches)}

    def suspect(self, step: int, rate: float, *, finite: bool) -> str:
        """What made a step grow at a learning rate, or its gradient not finite, as far as one can tell; what to do."""
        cause = f"The likely cause is a learning rate (lr = {rate:g} there) that is too high"
        x, y, weights = map(_size, (self.data.x, self.data.y, self.data.weights))
        l2 = float(np.abs(self.l2).max())  # of which one is enough
        if self.model.loss == "squared_error" and y > max(_LARGE, x):
            return f"{cause} for targets of about {y:.3g}: standardise them, (Y - Y.mean()) / Y.std(), or lower lr."
        if x > _LARGE:
            return f"{cause} for inputs of about {x:.3g}: scale them to about 1, X / {x:.3g}, or lower lr."
        if weights > _LARGE:
            return f"{cause} for example weights of about {weights:.3g}: divide them by their mean, or lower lr."
        if rate * l2 > 1 and l2 > 1:
            return f"{cause} for penalties of up to l2 = {l2:g}: lower l2 or lr."
        return f"{cause}: lower lr."

    def new_adjoint(self, wrt: tuple[str, ...], leading: tuple[int, ...] = ()) -> ObjectiveAdjoint:
        """Zeros for the derivatives that are wanted, behind the `leading` axes."""
        sizes = {"l2": self.l2.size, "x": self.data.x.size, "y": self.data.y.size, "example_weights": self.examples}
        return ObjectiveAdjoint(*[np.zeros((*leading, size if name in wrt else 0)) for name, size in sizes.items()])

    def gradients(self, adjoint: ObjectiveAdjoint, leading: tuple[int, ...] = ()) -> dict[str, FloatArray]:
        """The derivatives in the shapes of the arguments, behind the `leading` axes; none where not wanted."""
        shapes = [self.l2_shape, (self.examples, self.model.sizes[0]), self.y_shape, (self.examples,)]
        return {
            name: array.reshape(leading + shape)[()]
            for name, array, shape in zip(self.names, adjoint, shapes, strict=True) if array.size
        }  # fmt: skip

    def values(self) -> dict[str, FloatArray]:
        """What there is to differentiate by, each number of it; classes as one-hot targets."""
        x, y, d = self.data.x, self.data.y, self.model.sizes[0]
        return {
            "l2": self.l2.reshape(self.l2_shape),
            "x": x.reshape(-1, d).astype(np.float64),
            "y": y.reshape(self.y_shape).astype(np.float64),
            "example_weights": self.weights,
        }

    @property
    def weights(self) -> FloatArray:
        """Of the examples, (N,)."""
        weights = self.data.weights
        return weights.astype(np.float64) if weights.size else np.ones(self.examples)

    def with_value(self, name: str, value: FloatArray) -> MLPObjective:
        """The same with another value of one of these."""
        if name == "l2":
            return self.with_penalty(value)
        if name == "example_weights":
            return self.with_weights(value)
        values = self.values() | {name: value}
        weights = values["example_weights"] if self.data.weights.size else None
        data, _ = as_pair(self.model, "train", (values["x"], values["y"]), weights)
        return replace(self, data=data, imprints={**self.imprints, **_of_data(data, data.unit)})

    def with_weights(self, example_weights: npt.ArrayLike) -> MLPObjective:
        """The same with other example weights; nothing else is checked again, or copied."""
        weights = as_weights(self.model, example_weights, self.examples)
        imprints = {**self.imprints, "example_weights": imprint(weights)}
        return replace(self, data=self.data._replace(weights=weights), imprints=imprints)

    def among(self, rows: Ints) -> MLPObjective:
        """The same on these of the examples alone, from which batches are drawn anew."""
        data, n = self.data, self.examples
        x, y = (each.reshape(n, -1)[rows] for each in (data.x, data.y))
        weights = data.weights[rows] if data.weights.size else data.weights
        fewer = Data(x.reshape(-1), y.reshape(-1), weights, unit_of(self.model, y))
        batches = self.batches.drawn_from(len(rows))
        imprints = {**self.imprints, **_of_data(fewer, fewer.unit), **_of_batches(batches)}
        return replace(
            self, data=fewer, examples=len(rows), batches=batches, y_shape=(len(rows), *self.y_shape[1:]),
            imprints=imprints,
        )  # fmt: skip

    def with_penalty(self, l2: npt.ArrayLike) -> MLPObjective:
        """The same with other penalty coefficients; nothing else is checked again."""
        values, shape = penalty(self.model, l2)
        return replace(self, l2=values, l2_shape=shape, imprints={**self.imprints, **_of_penalty(values)})

    def with_batches(
        self, batch_size: int | None = None, seed: int = 0, batches: npt.ArrayLike | None = None
    ) -> MLPObjective:
        """The same with other batches; nothing else is checked again."""
        others = plan(self.examples, batch_size, seed, batches)
        return replace(self, batches=others, imprints={**self.imprints, **_of_batches(others)})


def prepare(
    model: Architecture,
    *,
    train: Any,
    batch_size: int | None,
    seed: int,
    batches: npt.ArrayLike | None,
    l2: npt.ArrayLike,
    example_weights: npt.ArrayLike | None,
) -> MLPObjective:
    """Check everything that makes the objective."""
    values, l2_shape = penalty(model, l2)
    data, examples = as_pair(model, "train", train, example_weights)
    batch_plan = plan(examples, batch_size, seed, batches)
    imprints = _fingerprint(model, data, data.unit, values, batch_plan)
    y_shape = shape_of_targets(model, train[1], examples)
    return MLPObjective(model, data, examples, values, l2_shape, y_shape, batch_plan, imprints)


_LARGE = 3.0  # of what is standardised the size is 1, of pixels from 0 to 255 some 100


def _size(values: Floating) -> float:
    """The root mean square, which one outlier does not make large; the largest magnitude where no square is finite."""
    with np.errstate(over="ignore"):
        square = float(np.dot(values, values)) / max(values.size, 1)  # without a copy of them all
    return math.sqrt(square) if square < np.inf else float(np.abs(values).max())


def _fingerprint(model: Architecture, data: Data, unit: int, l2: FloatArray, batches: Batches) -> Fingerprint:
    return {**_of_model(model), **_of_data(data, unit), **_of_penalty(l2), **_of_batches(batches)}


def _of_model(model: Architecture) -> Fingerprint:
    network = model.network
    return {"model": (*imprint(network.sizes, network.bounds), network.activation, network.loss)}


def _of_data(data: Data, unit: int) -> Fingerprint:
    # `unit` was found before the imprints were taken: what changed the targets in between shows in the next finding
    return {
        "train[0]": imprint(data.x), "train[1]": (*imprint(data.y), unit),
        "example_weights": imprint(data.weights),
    }  # fmt: skip


def _of_penalty(l2: FloatArray) -> Fingerprint:
    return {"l2": imprint(l2)}


def _of_batches(batches: Batches) -> Fingerprint:
    return {"batches": imprint(batches.table)}
