"""Make tutorial.ipynb, with outputs, of tutorial.md: ``python docs/make_notebook.py``; ``--check`` writes nothing.

It needs jupytext, nbclient and ipykernel, and what the notebook needs: ``fastrev[demo]``.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TEXT, NOTEBOOK = HERE / "tutorial.md", HERE / "tutorial.ipynb"


def executed() -> Any:
    """The notebook that the text says, run from top to bottom; raises if a cell does."""
    import jupytext  # not above: pytest imports this file where neither is installed
    from nbclient import NotebookClient

    notebook = jupytext.read(TEXT, fmt="md:myst")
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {name: each for name, each in cell.metadata.items() if name == "mystnb"}  # words for pictures
    where = {"metadata": {"path": str(HERE)}}  # where no folder is called fastrev: the installed one is run
    NotebookClient(notebook, timeout=600, record_timing=False, coalesce_streams=True, resources=where).execute()
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}  # without versions
    return notebook


def main() -> str | None:
    """Write the notebook, or compare its sources with the text's.  Returns what is wrong."""
    import nbformat

    parser = argparse.ArgumentParser(description="Make docs/tutorial.ipynb of docs/tutorial.md.")
    parser.add_argument("--check", action="store_true", help="run the text, compare sources, write nothing")
    check, made = parser.parse_args().check, executed()
    if check:
        kept = nbformat.read(NOTEBOOK, as_version=4)
        texts = [[(cell.cell_type, cell.source, cell.metadata) for cell in each.cells] for each in (made, kept)]
        return None if texts[0] == texts[1] else "tutorial.ipynb is out of date: run python docs/make_notebook.py"
    for warning in (out.text for cell in made.cells for out in cell.get("outputs", ()) if out.get("name") == "stderr"):
        return f"Nothing is written, since a cell warns: {warning}"
    nbformat.write(made, NOTEBOOK)
    return None


if __name__ == "__main__":
    sys.exit(main())
