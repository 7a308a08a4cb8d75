"""The pages: their code that is not a doctest, their links and pictures, and that nothing public is left out."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

import fastrev
from fastrev import interop, testing

ROOT = Path(__file__).parents[1]
PAGES = sorted({*(ROOT / "docs").rglob("*.md")} - {*(ROOT / "docs" / "_build").rglob("*.md")})
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def blocks(language):
    texts = (page.read_text(encoding="utf-8") for page in PAGES)
    return [block for text in texts for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)]


BLOCKS = [block for block in blocks("python") if ">>>" not in block]
SCRIPTS = [block for block in blocks("py") if "__main__" in block]


def named(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("block", BLOCKS, ids=[each.splitlines()[0] for each in BLOCKS])
def test_scripts_of_the_pages_run(block, capsys):
    for node in ast.walk(ast.parse(block)):
        for module in [each.name for each in node.names] if isinstance(node, ast.Import) else []:
            pytest.importorskip(module, reason=f"{module} is not in the test extra")
    exec(compile(block, "page", "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("script", SCRIPTS, ids=range(len(SCRIPTS)))
def test_whole_scripts_run(script, tmp_path):
    """Those that start processes, which read the file again."""
    for node in ast.walk(ast.parse(script)):
        if isinstance(node, ast.ImportFrom):
            pytest.importorskip(node.module, reason=f"{node.module} is not in the test extra")
    file = tmp_path / "script.py"
    file.write_text(script, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(Path(fastrev.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, str(file)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "TuneResult: All 20 meta-steps were made" in done.stdout


def test_nothing_else_is_left_unrun():
    """Whatever is marked as Python is a doctest, or one of these."""
    assert len(blocks("py")) == len(SCRIPTS)


def test_tables_are_between_what_made_them():
    for page in [*PAGES, ROOT / "bench" / "README.md"]:
        text = page.read_text(encoding="utf-8")
        makers = re.findall(r"<!-- made by python -m (.*?) -->", text)
        assert makers == re.findall(r"<!-- end of (.*?) -->", text)
        for maker in makers:
            assert (ROOT / maker.split()[0].replace(".", "/")).with_suffix(".py").exists()


def test_the_readme_quotes_the_table():
    """Of ratios of speed, the least and the most."""
    rows = re.findall(r"^\| W\d float\d\d \|.*$", (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8"), re.M)
    jax, torch = ([float(row.split("|")[column].strip(" x")) for row in rows] for column in (3, 5))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"compiled JAX {min(jax):g} to {max(jax):g} times as long" in readme.replace("\n", " ")
    assert f"PyTorch's unrolled graph {min(torch):g} to {max(torch):g} times" in readme.replace("\n", " ")


def test_the_check_of_the_site_finds_faults(tmp_path):
    faults = runpy.run_path(str(ROOT / "docs" / "check_site.py"))["faults"]
    for number in range(25):
        (tmp_path / f"{number}.html").write_text('<h1 id="top">x</h1>', encoding="utf-8")
    (tmp_path / "picture.png").touch()
    words = 'alt="what there is to be seen on it"'
    good = (
        f'<a href="1.html#top">x</a><a href="#a">x</a><p id="a"><img {words} src="picture.png"><a href="https://x.org">'
    )
    (tmp_path / "0.html").write_text(good, encoding="utf-8")
    assert faults(tmp_path) == []
    planted = {  # what is wrong, and what is said of it
        '<a href="gone.html">': "is not there", '<a href="1.html#a">': "no such place",
        '<a href="#b">': "no such place",
        '<img src="picture.png">': "no words", f'<img {words} src="no.png">': "is not there",
        '<script src="https://x.org/a.js"></script>': "is elsewhere", '<iframe src="https://x.org/">': "is elsewhere",
        f'<img {words} srcset="https://x.org/a.png 2x">': "is elsewhere",
        '<p style="background: url(https://x.org/a.png)">': "is elsewhere",
        '<link href="//x.org/a.css">': "is elsewhere",
    }  # fmt: skip
    for fault, said in planted.items():
        (tmp_path / "0.html").write_text(good + fault, encoding="utf-8")
        (found,) = faults(tmp_path)
        assert said in found
    (tmp_path / "0.html").write_text(good, encoding="utf-8")
    (tmp_path / "a.css").write_text('@import "b.css"; p { background: url("https://x.org/a.png") }', encoding="utf-8")
    assert [fault.partition(": ")[2] for fault in faults(tmp_path)] == [
        "b.css is not there",
        "https://x.org/a.png is elsewhere",
    ]
    (tmp_path / "1.html").unlink()
    assert "24 pages only" in faults(tmp_path)[0]


def test_there_are_some():
    assert BLOCKS
    assert SCRIPTS


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "bench" / "README.md", *PAGES], ids=named)
def test_links_lead_somewhere(page):
    """Files are there, and headings that are linked to."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.S)):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in anchors, target


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_pictures_say_what_they_show(page):
    """To those who do not see them."""
    for words in re.findall(r"!\[([^]]*)\]", page.read_text(encoding="utf-8")):
        assert len(words) > 20


def test_everything_public_is_in_the_reference():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.parent.name == "reference")
    listed = re.findall(r"^\.\. auto(?:function|class|exception):: (\S+)$", text, re.M)
    interops = {f"fastrev.interop.{name}.objective" for name in interop.__all__ if name != "LossObjective"}
    interops |= {f"fastrev.interop.{name}.validation_loss" for name in ("jax", "torch")}
    estimators = pytest.importorskip("fastrev.estimators", reason="the extra sklearn is not installed").__all__
    assert sorted(listed) == sorted({*fastrev.__all__, *estimators, "LossObjective"} | interops)
    assert ".. automodule:: fastrev.testing\n   :members:" in text
    assert all(getattr(testing, name).__doc__ for name in testing.__all__ if name != "EDGE_RATIOS")


# ---- where there is no repository around ----------------------------------------------------------------------


def test_the_readme_of_the_package_has_absolute_links(monkeypatch):
    """As an index of packages shows it: setup.py makes it of README.md and project.urls."""
    given = {}
    monkeypatch.setitem(sys.modules, "setuptools", SimpleNamespace(setup=given.update))
    for command in "build_py", "sdist":
        monkeypatch.setitem(sys.modules, f"setuptools.command.{command}", SimpleNamespace(**{command: object}))
    runpy.run_path(str(ROOT / "setup.py"))
    links = re.findall(r"(!?)\[[^]]*\]\(([^)\s]+)\)", given["long_description"])
    repository = PROJECT["urls"]["Repository"]
    assert len(links) > 10
    for picture, address in links:
        assert address.startswith("https://"), address
        if picture:
            assert address.startswith(f"{repository}/raw/main/")
            assert (ROOT / address.removeprefix(f"{repository}/raw/main/")).exists()


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    found = dict(re.findall(r'^([a-z-]+): "?([^"\n]*)"?$', citation, re.M))
    assert found["version"] == fastrev.__version__
    assert found["repository-code"] == PROJECT["urls"]["Repository"]
    assert found["url"] == PROJECT["urls"]["Documentation"]
    assert PROJECT["authors"][0]["name"] in citation
