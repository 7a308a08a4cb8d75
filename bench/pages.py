"""The tables of the pages, each between two comments that say what makes it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "docs" / "benchmarks.md"


def rewrite(page: Path, maker: str, text: str) -> None:
    """Put the text where the page says that `maker`, such as "bench.report", makes it."""
    begin, end = f"<!-- made by python -m {maker} -->", f"<!-- end of {maker} -->"
    whole = page.read_text(encoding="utf-8")
    if whole.count(begin) != 1 or whole.count(end) != 1:
        raise ValueError(f"{page} must have one {begin} and one {end}")
    before, rest = whole.split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
