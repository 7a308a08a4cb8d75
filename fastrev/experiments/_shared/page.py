"""The page of pictures that all experiments leave."""

from __future__ import annotations

import contextlib
import html
import io
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastrev._engine.version import __version__
from fastrev._files.replacing import replace
from fastrev.errors import ArgumentError
from fastrev.experiments._shared.output import unwritable

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem; }
pre { background: #f6f6f6; padding: 0.8rem; overflow-x: auto; font-size: 0.85rem; }
img { max-width: 100%; height: auto; } .time { color: #666; } nav a { margin-right: 0.8rem; }
"""


@dataclass
class Entry:
    """One experiment of the page."""

    name: str
    purpose: str
    printed: str = ""
    seconds: float = 0.0


class _Both(io.TextIOBase):
    """Writes to two streams."""

    def __init__(self, *streams: io.TextIOBase) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()


@contextlib.contextmanager
def told(name: str, purpose: str) -> Iterator[Entry]:
    """Take down what is printed meanwhile, and how long it takes."""
    entry, heard, start = Entry(name, purpose), io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(_Both(sys.stdout, heard)):  # type: ignore[arg-type]  # a TextIO in all but name
        yield entry
    entry.printed = "\n".join(heard.getvalue().splitlines()[:-1])  # without the line on where the files are
    entry.seconds = time.perf_counter() - start


def save(folder: Path, entries: Sequence[Entry]) -> None:
    """Write ``index.html`` beside the pictures that it shows."""
    links = "".join(f'<a href="#{each.name}">{each.name}</a>' for each in entries)
    sections = "".join(map(_section, entries))
    text = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>fastrev: experiments</title><style>{_STYLE}</style></head><body>
<h1>Exact meta-gradients through training</h1>
<p>Made by <code>python -m fastrev all</code>, fastrev {__version__}.</p><nav>{links}</nav>{sections}</body></html>
"""
    try:
        replace(folder / "index.html", lambda file: file.write(text.encode()), "--out")
    except ArgumentError as error:
        raise unwritable(folder, error, "The pictures are saved, index.html is not.") from error


def _section(entry: Entry) -> str:
    name, purpose, printed = entry.name, html.escape(entry.purpose), html.escape(entry.printed)
    return f"""
<section id="{name}"><h2>{name}</h2><p>{purpose}. <span class="time">{entry.seconds:.0f} s.</span></p>
<pre>{printed}</pre><img src="{name}.png" alt="{purpose}"></section>"""
