"""Where the kernels are if the link fastrev/kernels is not: beside the package, as ``fastrev.kernels`` all the same.

An unpacked sdist has no such link, and a clone without symbolic links, as Git makes on Windows, a file in its place.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def find_kernels() -> None:
    """Import `kernels` from beside the package, where it is not within."""
    room = _PACKAGE.parent / "kernels"
    if (_PACKAGE / "kernels").is_dir() or not room.is_dir():
        return
    spec = importlib.util.spec_from_file_location(
        "fastrev.kernels", room / "__init__.py", submodule_search_locations=[str(room)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fastrev.kernels"] = module
    spec.loader.exec_module(module)
    sys.modules["fastrev"].kernels = module  # type: ignore[attr-defined]  # as an import would have set it
