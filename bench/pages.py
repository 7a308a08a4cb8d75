"""The tables of the pages: each lies between two comments that say what makes it, and says what it was measured on."""

from __future__ import annotations

import datetime
import platform
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
GUARANTEES = ROOT / "docs" / "guarantees.md"


def rewrite(page: Path, maker: str, text: str) -> None:
    """Put the text where the page says that `maker`, such as "bench.report", makes it."""
    begin, end = f"<!-- made by python -m {maker} -->", f"<!-- end of {maker} -->"
    whole = page.read_text(encoding="utf-8")
    if whole.count(begin) != 1 or whole.count(end) != 1:
        raise ValueError(f"{page} must have one {begin} and one {end}")
    before, rest = whole.split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def machine(*packages: str) -> str:
    """What something was measured on: cores, and versions."""
    versions = ", ".join(f"{each} {version(each)}" for each in packages)
    return f"{processor()}, {versions}, Python {platform.python_version()}"


def processor() -> str:
    """The processor, as the system calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}" if names else platform.processor()


def today() -> str:
    """The date."""
    return f"{datetime.date.today():%Y-%m-%d}"
