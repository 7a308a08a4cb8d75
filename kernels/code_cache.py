"""Machine code kept on disk: one file a specialisation, named by all that the code depends on.

Numba's own cache holds an index of each function's specialisations, which it reads, changes and writes without a lock:
two processes that compile at once can give two specialisations one file, and a process that is killed can leave an
index that names another's.  It knows a function by its own source file only, not by those that it calls into
(https://numba.readthedocs.io/en/stable/developer/caching.html), and a damaged file is an error until somebody deletes
it.  A stale or foreign half of a do/undo pair would be the worst of errors here.

So there is no index, and nothing is ever changed: a file is put in place whole, under a name that no other code can
have, and begins with the digest of that name's meaning and of the rest.  Whatever fails that test, or cannot be loaded
for any reason, is compiled again and replaced.  Where code calls that of other kernels (linking.py), those are loaded
before it, or compiled, from files of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import shutil
import signal
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import compiler, serialize, sigutils

from . import callees, vectors

config: Any = numba.config  # whose attributes come from variables of the environment
_DIGEST = 32  # bytes
_CODE_OPTIONS = "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT"

_warned = False
_dispatchers: dict[tuple[str, str], Any] = {}  # of all kernels, by module and name


def _read_sources() -> dict[str, bytes]:
    """The source file of every module of this package; empty where a program was packed without them."""
    with contextlib.suppress(OSError):
        files = sorted(resources.files(__package__).iterdir(), key=lambda file: file.name)
        return {file.name.removesuffix(".py"): file.read_bytes() for file in files if file.name.endswith(".py")}
    return {}


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


_SOURCES = _read_sources()
_CONTENT = _hash(_SOURCES)  # not their times: a file that was only touched is the same code, one changed unseen is not


def attach(dispatcher: Any) -> None:
    """Let a dispatcher of Numba keep its code here, if this Numba works as those that are known."""
    try:
        before, dispatcher._cache = dispatcher._cache, Cache(dispatcher.py_func)
        if dispatcher.stats.cache_path == dispatcher._cache.cache_path:
            _dispatchers.setdefault(_name(dispatcher.py_func), dispatcher)
            return
        dispatcher._cache = before
        reason = f"its statistics show the folder {dispatcher.stats.cache_path!r}"
    except Exception as error:
        reason = repr(error)
    _warn(f"Numba {numba.__version__} takes no cache in the way that is known ({reason}). Use another version of Numba")


def holds(dispatcher: Any, dtype: str) -> bool:
    """Whether there is code of a function for this precision, of these sources though perhaps of another Numba."""
    pattern = _file_name(dispatcher.py_func, dtype, "*")
    return any(any(folder.glob(pattern)) for folder in _folders())


def writable() -> bool:
    """Whether there is a folder to keep code in."""
    return any(_accepts(folder) for folder in _folders())


def precision(signature: object) -> str:
    """The type of the gradient's arithmetic in a specialisation for these types."""
    return next((name for name in ("float32", "float64") if name in str(signature)), "int64")


class Cache:
    """What a dispatcher asks for code before it compiles, and hands it to afterwards.

    The interface is what Numba's dispatchers use of ``numba.core.caching.NullCache``.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    @property
    def cache_path(self) -> str:
        return str(_folders()[0])

    def flush(self) -> None:
        """Forget the code of all specialisations."""
        for folder in _folders():
            for file in folder.glob(_file_name(self._function, "*", "*")):
                with contextlib.suppress(OSError):
                    file.unlink()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled specialisation, or None."""
        target_context.refresh()  # what the code refers to is looked up there
        if _SOURCES:
            name, meaning = self._describe(sig, target_context)
            for folder in _folders():
                with contextlib.suppress(Exception):  # not there, damaged, not to be read: compiled anew, all of them
                    content = (folder / name).read_bytes()
                    return _rebuilt(content, meaning, sig, target_context, _name(self._function))
        return None

    def save_overload(self, sig: Any, cres: Any) -> None:
        """Keep a specialisation that was compiled."""
        try:
            name, meaning = self._describe(sig, cres.target_context)
            _require_cachable(cres)
            _write(name, _packed(cres, meaning))
        except RuntimeError:  # Ctrl-C came while LLVM handed the code over: Numba has not got it to pickle
            pass
        except Exception as error:  # whatever it is, there is code to go on with
            _warn(str(error))

    def _describe(self, sig: Any, target_context: Any) -> tuple[str, bytes]:
        """The name of a specialisation's file, and all that its code depends on."""
        meaning = (
            _CONTENT,
            (numba.__version__, llvmlite.__version__, np.__version__, sys.version),
            target_context.codegen().magic_tuple(),  # the processor
            (vectors.AVX512, vectors.VECTOR),
            [getattr(config, option, None) for option in _CODE_OPTIONS],
            _name(self._function),
            str(sig),
        )
        return _file_name(self._function, precision(sig), _hash(meaning)), repr(meaning).encode()


def _name(function: Callable[..., Any]) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def _file_name(function: Callable[..., Any], dtype: str, mark: str) -> str:
    return f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}-{dtype}-{mark}.nbc"


# ---- the content of a file -----------------------------------------------------------------------------------


def _packed(cres: Any, meaning: bytes) -> bytes:
    data: bytes = serialize.dumps((callees.called_by(cres.library), cres._reduce()))
    return hashlib.sha256(meaning + data).digest() + data


def _rebuilt(content: bytes, meaning: bytes, sig: Any, target_context: Any, name: tuple[str, str]) -> Any:
    digest, data = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(meaning + data).digest() != digest:
        raise ValueError("damaged")
    called, parts = pickle.loads(data)
    for each in called:
        _require(each)
    with _uninterrupted():
        cres = compiler.CompileResult._rebuild(target_context, *parts)
    if cres.signature.args != tuple(sigutils.normalize_signature(sig)[0]):
        raise ValueError("for other types")
    callees.note(cres, *name, called)
    return cres


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait: if it came while LLVM asks Python for the code, LLVM would take none, and end the process."""
    came: list[tuple[Any, ...]] = []
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *signaled: came.append(signaled))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        handler(*came[0])


def _require(kernel: callees.Kernel) -> None:
    """Have its code in this process, without which LLVM would end it."""
    dispatcher = _dispatchers[kernel.module, kernel.name]
    dispatcher.compile(kernel.types)
    if dispatcher.overloads[kernel.types].fndesc.mangled_name != kernel.symbol:
        raise ValueError(f"calls {kernel.symbol}, which is not here")


def _require_cachable(cres: Any) -> None:
    """Numba's own conditions, and that the code is that of the sources which it will be known by."""
    name = cres.fndesc.qualname
    if cres.lifted or cres.library.has_dynamic_globals:
        raise ValueError(f"{name} uses lifted code or addresses of this process")
    if not _SOURCES:
        raise ValueError(f"the source files of {__package__} are not there, by which stale code would be known")
    if strangers := _not_of_their_source():
        raise ValueError(f"the bytecode of {', '.join(strangers)} is not that of the source: delete its .pyc files")


@cache
def _not_of_their_source() -> list[str]:
    """Modules that run other code than their source says.

    Python takes bytecode for fresh if the source's time and size are those noted in it.
    """
    strangers = []
    for stem, source in _SOURCES.items():
        module = sys.modules.get(__package__ if stem == "__init__" else f"{__package__}.{stem}")
        if module is not None:
            loader: Any = module.__loader__
            if loader.get_code(module.__name__) != compile(source, stem, "exec", dont_inherit=True):
                strangers.append(module.__name__)
    return strangers


# ---- where the files are -------------------------------------------------------------------------------------


def _folders() -> list[Path]:
    """Where code is looked for, and kept in the first that can be written to: as Numba chooses."""
    package = Path(__file__).parent
    here = _hash(str(package.resolve()))  # two installations do not remove each other's
    homes = [package / "__pycache__" / "fastrev"]
    if config.CACHE_DIR:
        homes.insert(0, Path(config.CACHE_DIR) / f"fastrev-{here}")
    with contextlib.suppress(RuntimeError):  # a user without a home
        homes.append(_user_folder() / "fastrev" / here)
    return [home / _CONTENT for home in homes]


def _user_folder() -> Path:
    if sys.platform == "win32":
        folder = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        folder = "~/Library/Caches"
    else:
        folder = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(folder).expanduser()


def _accepts(folder: Path) -> bool:
    try:
        _make(folder)
        _put(folder, f"{uuid.uuid4().hex}.tmp", b"").unlink()
    except OSError:
        return False
    return True


def _write(name: str, content: bytes) -> None:
    refusals = []
    for folder in _folders():
        try:
            _make(folder)
            _put(folder, name, content)
            return
        except OSError as error:
            refusals.append(f"{folder} ({error.strerror})")
    raise OSError(f"no folder took them: {', '.join(refusals)}. Set NUMBA_CACHE_DIR to a folder that can be written to")


def _make(folder: Path) -> None:
    """Make a folder for the code of these sources, in place of those for what they were before."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.parent.glob("[0-9a-f]" * len(folder.name)):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)


def _put(folder: Path, name: str, content: bytes) -> Path:
    """Write a file that is whole or not there, whoever else writes it and whenever this process is killed.

    A crash of the machine may leave another; the digest tells.
    """
    draft = folder / f"{name}.{uuid.uuid4().hex}.tmp"
    try:
        draft.write_bytes(content)
        return draft.replace(folder / name)
    finally:
        draft.unlink(missing_ok=True)


def _warn(reason: str) -> None:
    """Say once in a process that nothing is kept."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"Every process compiles the kernels anew, for some 20 s, as they could not be kept on disk: {reason}.",
            RuntimeWarning,
            stacklevel=3,
        )
