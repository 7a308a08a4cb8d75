"""The page of promises: each names a test that could fail, and that test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guarantees.md"
TESTS = Path(__file__).parent
NAMED = re.compile(r"`(test_\w+)\.py::(test_\w+)`")

if not PAGE.exists():
    pytest.skip("not a checkout", allow_module_level=True)


def functions_of(file: Path) -> set[str]:
    return {
        node.name for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)
    }


def test_every_test_that_the_page_names_is_there():
    named = NAMED.findall(PAGE.read_text(encoding="utf-8"))
    assert len(named) > 40
    missing = [(file, test) for file, test in named if test not in functions_of(TESTS / f"{file}.py")]
    assert not missing


def test_every_promise_names_a_test():
    promised, _ = PAGE.read_text(encoding="utf-8").split("## What is not guaranteed")
    rows = [line for line in promised.splitlines() if line.startswith("| ")]
    head = "| promise | a test that could fail |"
    promises = [row for row in rows if row != head and row.count("|") == 3]
    assert len(promises) > 20
    assert not [row for row in promises if not NAMED.search(row)]


@pytest.mark.parametrize("script", ["fuzz", "interrupts", "flips", "environments", "soak"])
def test_every_script_has_its_place(script):
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(f"<!-- made by python -m bench.{script} -->") == 1
    assert text.count(f"<!-- end of bench.{script} -->") == 1
