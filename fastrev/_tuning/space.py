"""All that is learned as one vector of free numbers, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fastrev._engine.types import FloatArray
from fastrev._tuning.transforms import Linear, Transform

Values = dict[str, FloatArray]


@dataclass(frozen=True)
class Space:
    """Where each of the learned things lies in the vector, and in which coordinates it moves."""

    transforms: Mapping[str, Transform]
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, transforms: Mapping[str, Transform], values: Values) -> Space:
        """That of values which move so."""
        return cls(transforms, {name: value.shape for name, value in values.items()})

    def free(self, values: Values) -> FloatArray:
        """The vector of these values."""
        parts = [np.ravel(each.free(name, values[name])) for name, each in self.transforms.items()]
        return np.concatenate(parts)

    def values(self, z: FloatArray) -> Values:
        """What a vector stands for."""
        return {name: self.transforms[name].value(part) for name, part in self._parts(z).items()}

    def pull(self, values: Values, gradients: Values) -> FloatArray:
        """The derivative by the vector, from those by the values."""
        parts = [np.ravel(each.pull(values[name], gradients[name])) for name, each in self.transforms.items()]
        return np.concatenate(parts)

    def within(self, z: FloatArray) -> FloatArray:
        """The nearest vector that stands for something admissible; what is frozen stays."""
        low, high = self.bounds()
        return np.where(np.isneginf(z), z, np.clip(z, low, high))

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Of every number of the vector."""
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        low, high = np.array([each.bounds for each in self.transforms.values()]).T
        return np.repeat(low, sizes), np.repeat(high, sizes)

    def clipped(self) -> list[str]:
        """What moves as it is, up to a bound at which it may lie."""
        return [name for name, each in self.transforms.items() if isinstance(each, Linear) and each.low >= 0]

    def where(self, name: str) -> FloatArray:
        """True for the numbers of one of the learned things."""
        return np.concatenate([np.full(int(np.prod(s)), each == name) for each, s in self.shapes.items()])

    def _parts(self, z: FloatArray) -> Values:
        parts, end = {}, 0
        for name, shape in self.shapes.items():
            begin, end = end, end + int(np.prod(shape))
            parts[name] = z[begin:end].reshape(shape)
        return parts
