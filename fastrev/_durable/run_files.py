"""The file of a run: written, and read again for the same problem, where the same bits are computed."""

from __future__ import annotations

from typing import Any

from fastrev._durable.contents import Standing, packed, unpacked
from fastrev._durable.probes import here, probe
from fastrev._engine import arguments
from fastrev._engine.problem import Problem
from fastrev._engine.types import AnyArray
from fastrev._engine.version import __version__
from fastrev._files import files
from fastrev._files.fingerprints import digest, require_same

_LAYOUT = 1  # of what is in it; docs/guides/durable.md has it in words


def fingerprint(problem: Problem) -> dict[str, str]:
    """SHA-256 of all that a run depends on, by the names of the arguments."""
    given = {**problem.trained.given(), **problem.rule.given(), "steps": problem.steps, "w0": problem.w0}
    start = problem.start().moments
    given |= {name: start[i] for i, name in enumerate(problem.rule.starts)}
    return {name: digest(value) for name, value in given.items()}


def made(problem: Problem, made_with: dict[str, str], standing: Standing) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    """What is to be written, the arrays being those that are at work."""
    about, arrays = packed(standing)
    head = {"layout": _LAYOUT, "fingerprint": made_with, "probe": _probe(problem, standing), "computed on": here()}
    return head | about, arrays


def write(path: Any, contents: tuple[dict[str, Any], dict[str, AnyArray]], name: str = "path") -> None:
    """Write it, on disk when this returns; until then, and after any fault, the old file is there."""
    files.write(path, files.RUN, *contents, name)


def read(path: Any, problem: Problem, made_with: dict[str, str], name: str = "path") -> Standing:
    """Read it.

    Raises
    ------
    ArgumentError
        If it is no such file, damaged, of another run, or this machine computes other bits.
    """
    _, about, arrays = files.read(path, files.RUN, name)
    try:
        layout, kept = int(about["layout"]), dict(about["fingerprint"])
        probed, made_on = list(about["probe"]), str(about["computed on"])
    except (LookupError, TypeError, ValueError) as error:  # with a checksum, but not made by `write`
        raise files.unfit(name, str(path), "it is no whole run") from error
    if layout != _LAYOUT:
        why = f"its layout is {layout}; this is fastrev {__version__}, which knows {_LAYOUT}"
        raise files.unfit(name, str(path), why, "Upgrade fastrev to read it.")
    require_same(name, path, kept, made_with)
    try:
        standing = unpacked(about, arrays, problem)
    except (LookupError, TypeError, ValueError) as error:
        raise files.unfit(name, str(path), f"it is no whole run ({error})") from error
    if _probe(problem, standing) == probed:
        return standing
    raise arguments.fault(
        name, "be of a run whose gradients come out with the same bits here",
        f"{str(path)!r}: at the weights that it holds they do not. It was computed on {made_on}; this is {here()}",
        "Go on where it was begun, with the same libraries, and where the model is an Objective with its functions and "
        "data as they were; or pass another path to begin anew.",
    )  # fmt: skip


def _probe(problem: Problem, standing: Standing) -> list[int]:
    return probe(problem, standing.state, None if standing.adjoint is None else standing.adjoint["w"])
