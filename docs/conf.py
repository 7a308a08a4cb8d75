"""The site: ``python -m pip install ".[docs]" && sphinx-build -W --keep-going docs docs/_build``."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import fastrev

HERE = Path(__file__).resolve().parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Repository"]

project = "fastrev"
author = PROJECT["authors"][0]["name"]
copyright = author

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
]
# what was built before; and the text of the notebook, which is read with what it printed
exclude_patterns = ["_build", "**/jupyter_execute", "jupyter_execute", "tutorial.md"]

# ---- pages -----------------------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # docs/make_notebook.py runs the notebook, and CI holds it against its text
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

# ---- reference -------------------------------------------------------------------------------------------------

nitpicky = True
default_role = "name"
autodoc_typehints = "none"  # the docstrings say more: shapes
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
CONSTRUCTED = {
    "MLP",
    "MetaMLPClassifier",
    "MetaMLPRegressor",
    "ReversibleArray",
    "ReversibleSGD",
    "threads",
}  # by users; other classes are what they get
numpydoc_validation_checks = {"PR01", "PR02", "RT01", "YD01"}  # what is taken and returned is documented, all of it
numpydoc_validation_exclude = {rf"^fastrev\.((interop|estimators)\.)?(?!({'|'.join(CONSTRUCTED)})$)[A-Z]\w*$"}
numpydoc_xref_param_type = True  # types link to what is public here, and to nothing else
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {name: f"fastrev.{name}" for name in (
    "MLP", "Objective", "Run", "MetaGradient", "Gradients", "Stats", "Curve", "StepPullback", "TuneResult",
    "MinimizeResult", "History", "MetaGradientCheck", "HyperparameterCheck", "TermCheck", "ArgumentError",
    "Attribution", "AttributionCheck", "TopExamples",
    "DivergenceError", "ReversalError", "MissingExtraError", "TrainingInterrupt", "ChaosWarning",
)}  # fmt: skip
LINKED = {
    *(f"fastrev.{name}" for name in fastrev.__all__),
    *(f"fastrev.estimators.{name}" for name in ("MetaMLPClassifier", "MetaMLPRegressor")),
    *(f"fastrev.interop.{name}.objective" for name in ("jax", "torch", "autograd")),
    *(f"fastrev.interop.{name}.validation_loss" for name in ("jax", "torch")),
}

# ---- look ------------------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "fastrev"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_domain_indices = False
html_sidebars = {"*": []}  # pages in no folder have no neighbours to show
html_theme_options = {
    "github_url": REPOSITORY,
    "navbar_align": "left",
    "header_links_before_dropdown": 6,  # more would wrap at 1,300 pixels
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def setup(app: Any) -> None:
    """Called by Sphinx."""
    from numpydoc.xref import DEFAULT_LINKS  # not above: pytest imports this file where Sphinx is not installed

    DEFAULT_LINKS.clear()  # of Python's and NumPy's types, which only the network could resolve
    app.connect("source-read", _from_repository)
    app.connect("doctree-read", _link_names)
    app.connect("autodoc-process-docstring", _sections_of_modules)
    app.connect("autodoc-process-signature", _only_of_the_constructed)
    app.add_role("name", _public_name)


def _from_repository(_app: Any, page: str, source: list[str]) -> None:
    """What is right in the repository, made right here: links to what lies beside docs/ lead to the repository."""

    def address(link: re.Match[str]) -> str:
        path, _, heading = link[2].partition("#")
        target = ((HERE / page).parent / path).resolve()
        if not target.exists() or target.is_relative_to(HERE):
            return link[0]
        where = target.relative_to(HERE.parent).as_posix()
        return f"{link[1]}({REPOSITORY}/blob/main/{where}{'#' + heading if heading else ''})"

    source[0] = re.sub(r"\n\n```$", "\n```", source[0], flags=re.M)  # doctest wants an empty line after an example
    source[0] = re.sub(r"(?<!!)(\[[^]]*\])\((\.\./[^)\s]+)\)", address, source[0])


def _link_names(_app: Any, doctree: Any) -> None:
    """What pages put as code, such as ``fastrev.tune``, leads to the reference."""
    from docutils import nodes
    from sphinx.addnodes import pending_xref

    for code in list(doctree.findall(nodes.literal)):
        name = code.astext()
        if isinstance(code.parent, pending_xref):
            continue
        if name in LINKED:
            link = pending_xref("", code.deepcopy(), refdomain="py", reftype="obj", reftarget=name, refexplicit=True)
            code.replace_self(link)


def _sections_of_modules(_app: Any, what: str, _of: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Numpydoc leaves a module's docstring alone: its headings would be sections of the page."""
    if what == "module":
        for number in reversed(range(1, len(lines))):
            if re.fullmatch("-{4,}", lines[number]):
                lines[number - 1 : number + 1] = [f".. rubric:: {lines[number - 1]}", ""]


def _only_of_the_constructed(_app: Any, what: str, name: str, *_rest: Any) -> tuple[str, None] | None:
    """How the library makes its results is its own business."""
    return ("", None) if what == "class" and name.rpartition(".")[2] not in CONSTRUCTED else None


def _public_name(
    role: str, raw: str, text: str, line: int, inliner: Any, options: Any = None, content: Any = ()
) -> Any:
    """What docstrings put between single backticks: a link where it is a public name, else code."""
    name = text.removeprefix("fastrev.")
    first = name.partition(".")[0]
    if first not in fastrev.__all__ or (name in _ARGUMENTS and name == text):
        from docutils import nodes

        return [nodes.literal(raw, text)], []
    from sphinx.domains.python import PyXRefRole

    link = PyXRefRole()
    return link("py:obj", raw, f"{text} <fastrev.{name}>", line, inliner, options or {}, content)


# names of parameters that are also functions: linked as ``fastrev.train`` only
_ARGUMENTS = {"train", "ratio", "load", "compile", "threads"}
