"""Which kernels' code a kernel's code calls where that is, rather than hold a copy of it (linking.py).

The cache keeps these with the code, and has them there before it.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary


class Kernel(NamedTuple):
    """A specialisation of a kernel, and the symbol that is called by."""

    module: str
    name: str
    types: tuple[Any, ...]
    symbol: str


# by Numba's library of the code
_kernels: WeakKeyDictionary[Any, Kernel] = WeakKeyDictionary()
_callees: WeakKeyDictionary[Any, tuple[Kernel, ...]] = WeakKeyDictionary()


def note(cres: Any, module: str, name: str, callees: tuple[Kernel, ...]) -> None:
    """Make what was compiled or loaded known as a kernel."""
    _kernels[cres.library] = Kernel(module, name, cres.signature.args, cres.fndesc.mangled_name)
    _callees[cres.library] = callees


def kernel(library: Any) -> Kernel | None:
    """Whose code it is, if a kernel's that can be called where it is."""
    return _kernels.get(library)


def called_by(library: Any) -> tuple[Kernel, ...]:
    """What has to be there before that code."""
    return _callees.get(library, ())
