"""Code in the pages that is not a doctest, since it needs what the test extra leaves out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = [
    block
    for page in (ROOT / "docs").glob("*.md")
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


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_what_cannot_run_here_is_python_all_the_same(page):
    for block in re.findall(r"^```py\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        compile(block, page.name, "exec")


def test_there_are_some():
    assert BLOCKS
