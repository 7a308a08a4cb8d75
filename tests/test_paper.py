"""What holds the experiments against the paper: made of their files alone, and of every one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastrev.experiments import EXPERIMENTS, main
from fastrev.experiments._shared.commands import name_of
from tests.test_commands import FEW, FEW_EXAMPLES

pytest.importorskip("bench.paper", reason="not a checkout")
from bench import pages, paper

FEWER = {
    **FEW, "valley": [], "reverse": ["--steps", "20"], "hypergradient": ["--trainings", "2", "--steps", "5"],
    "chaos": ["--points", "9", "--examples", "80"], "select": ["--trials", "1", "--meta-steps", "2"],
    "attribute": FEW_EXAMPLES,
}  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    for experiment in EXPERIMENTS:
        name = name_of(experiment)
        assert main([name, *FEWER[name], "--out", str(folder)]) == 0
    return folder


def test_every_experiment_has_a_row(results):
    head, rule, *rows = paper.table(results, results).splitlines()
    assert head.count("|") == rule.count("|") == 5
    assert all(row.count("|") == 5 for row in rows)
    assert {re.match(r"\| `(\w+)` ", row)[1] for row in rows} == {name_of(each) for each in EXPERIMENTS}
    assert not re.search(r"\bnan\b.*\bnan\b.*\bnan\b", "\n".join(rows))
    assert "| 395.36, 356.60, 356.30 |" in rows[0]
    assert "211 times at decay 0.9; 0.0291 bits, 1098 times at 0.98" in rows[1]


def test_pictures_become_small(results):
    image = pytest.importorskip("PIL.Image", reason="comes with matplotlib only")
    packed = paper.small(results / "valley.png")
    assert len(packed) < 0.7 * (results / "valley.png").stat().st_size
    (results / "small.png").write_bytes(packed)
    with image.open(results / "small.png") as small, image.open(results / "valley.png") as whole:
        assert small.size == whole.size


def test_a_table_goes_where_the_page_says(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- made by python -m bench.x -->\nold\n<!-- end of bench.x -->\nb\n", encoding="utf-8")
    pages.rewrite(page, "bench.x", "new")
    expected = "a\n<!-- made by python -m bench.x -->\nnew\n<!-- end of bench.x -->\nb\n"
    assert page.read_text(encoding="utf-8") == expected
    with pytest.raises(ValueError, match=r"must have one <!-- made by python -m bench\.y -->"):
        pages.rewrite(page, "bench.y", "new")
    assert page.read_text(encoding="utf-8") == expected


def test_the_page_has_the_table_and_every_picture():
    page = paper.PAGE.read_text(encoding="utf-8")
    between = page.split("<!-- made by python -m bench.paper -->")[1].split("<!-- end of bench.paper -->")[0]
    for experiment in EXPERIMENTS:
        name = name_of(experiment)
        assert f"\n## {name}\n" in page
        assert f"| `{name}` | " in between
        assert f"(pictures/{name}.png)" in page
        assert (paper.PICTURES / f"{name}.png").read_bytes().startswith(b"\x89PNG")
