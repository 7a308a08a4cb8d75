"""Code in the pages that is not a doctest, since it needs what the test extra leaves out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCKS = [
    block
    for page in PAGES
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    if ">>>" not in block
]


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_scripts_of_the_pages_run(block, capsys):
    for node in ast.walk(ast.parse(block)):
        for module in [each.name for each in node.names] if isinstance(node, ast.Import) else []:
            pytest.importorskip(module, reason=f"{module} is not in the test extra")
    exec(compile(block, "page", "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_cannot_run_here_is_python_all_the_same(page):
    for block in re.findall(r"^```py\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        compile(block, page.name, "exec")


def test_there_are_some():
    assert BLOCKS


@pytest.mark.parametrize("page", ["README.md", "bench/README.md", *(f"docs/{each.name}" for each in PAGES)])
def test_links_lead_somewhere(page):
    """Files are there, and headings that are linked to."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.S)):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in anchors, target
