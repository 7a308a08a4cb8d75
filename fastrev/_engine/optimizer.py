"""What the machinery asks of an optimizer: its rule, what it was given, and another that was given something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar, Protocol, cast

import numpy as np

from fastrev._engine.rule import Rule
from fastrev._engine.types import Ints


class Optimizer(Protocol):
    """What `fastrev.SGD` and `fastrev.Adam` are: dataclasses whose fields are their arguments, as given."""

    kind: ClassVar[type[Rule]]  # of the rule
    usual: ClassVar[Mapping[str, float]]  # of the arguments that have no default, where an estimator begins

    def rule(self, bounds: Ints) -> Rule:
        """Its hyperparameters, checked for parameter groups that lie between the bounds (G + 1,)."""


def arguments_of(optimizer: Optimizer) -> dict[str, Any]:
    """By name, as given."""
    return {each.name: getattr(optimizer, each.name) for each in fields(cast(Any, optimizer))}


def described(optimizer: Optimizer) -> str:
    """Its class with its arguments, of which arrays are shown by their shapes."""
    shown = (f"{name}={_brief(value)}" for name, value in arguments_of(optimizer).items())
    return f"{type(optimizer).__name__}({', '.join(shown)})"


def _brief(value: Any) -> str:
    try:
        shape = tuple(np.shape(value))
    except Exception:  # of what is no array, and will be refused as such
        return f"a {type(value).__name__}"
    return f"array{shape}" if shape else f"{value}"


def replaced(optimizer: Optimizer, values: Mapping[str, Any]) -> Optimizer:
    """Another with those of these values that are arguments of it."""
    changes = {name: values[name] for name in arguments_of(optimizer) if name in values}
    return cast(Optimizer, replace(cast(Any, optimizer), **changes))
