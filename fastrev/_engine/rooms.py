"""What of the package is imported where it is first named, as it needs more, or is needed by few."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

_ROOMS = ("estimators", "interop", "testing")


def __getattr__(name: str) -> ModuleType:
    """Of `fastrev`, which takes this function for its own: ``fastrev.interop`` needs no import of its own."""
    if name in _ROOMS:
        return import_module(f"fastrev.{name}")
    raise AttributeError(f"module 'fastrev' has no attribute {name!r}")
