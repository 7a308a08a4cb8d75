"""Optional dependencies: imported where they are used, with an error that says how to install them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fastrev.errors import MissingExtraError


def require(module: str, extra: str, purpose: str) -> Any:
    """Import a module that the extra `extra` installs."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise  # the module is there; something that it needs is not
        raise MissingExtraError(
            f'{purpose} needs {error.name}, which is not installed. Run: python -m pip install "fastrev[{extra}]", '
            f'or in a checkout: python -m pip install ".[{extra}]"'
        ) from error
