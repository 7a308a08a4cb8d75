"""Read the built site, offline: ``python docs/check_site.py docs/_build``.

Every script, style, font and picture that HTML or CSS names is there and none comes from elsewhere; every picture says
what it shows; every link within the site leads to a page, and to a place on it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING = {"src", "data", "poster"}  # attributes, of whatever
FEWEST_PAGES = 25  # of some thirty: fewer are a build that ended early
SHORTEST_WORDS = 20  # less says nothing of a picture


class Page(HTMLParser):
    """What a page loads, links to, shows, and can be linked at."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.silent: list[str] = []  # pictures without words
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Called for each tag."""
        found = {name: value or "" for name, value in attributes}
        self.places |= {found[name] for name in ("id", "name") if name in found}
        self.loaded += [found[name] for name in LOADING & found.keys()]
        self.loaded += [each.split()[0] for each in found.get("srcset", "").split(",") if each.strip()]
        self.loaded += named_by_css(found.get("style", ""))
        if "href" in found:
            (self.loaded if tag == "link" else self.links).append(found["href"])
        words = found.get("alt", "")
        if tag == "img" and (len(words) < SHORTEST_WORDS or words.lower().endswith((".png", ".svg"))):
            self.silent.append(found.get("src", ""))


def named_by_css(text: str) -> list[str]:
    """Files that a style sheet names, but for data within it."""
    named = re.findall(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", re.sub(r"/\*.*?\*/", "", text, flags=re.S))
    return [one or other for one, other in named if not (one or other).startswith(("data:", "#"))]


def faults_of(file: Path, address: str, loaded: bool, pages: dict[Path, Page]) -> Iterator[str]:
    """What is wrong with an address in a file."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        if loaded and parts.scheme != "data":
            yield f"{address} is elsewhere"
        return
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if not target.is_file():
        yield f"{address} is not there"
    elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
        yield f"{address}: no such place"


def faults(site: Path) -> list[str]:
    """All that is wrong with the site."""
    site = site.resolve()
    pages = {file: Page(file) for file in sorted(site.rglob("*.html")) if "_static" not in file.relative_to(site).parts}
    found = [] if len(pages) >= FEWEST_PAGES else [f"{site}: {len(pages)} pages only"]
    for file, page in pages.items():
        said = [f"{each} has no words" for each in page.silent]
        for address in page.loaded:
            said += faults_of(file, address, True, pages)
        for address in page.links:
            said += faults_of(file, address, False, pages)
        found += [f"{file.relative_to(site)}: {each}" for each in said]
    for file in sorted(site.rglob("*.css")):
        for address in named_by_css(file.read_text(encoding="utf-8")):
            found += [f"{file.relative_to(site)}: {each}" for each in faults_of(file, address, True, pages)]
    return found


if __name__ == "__main__":
    sys.exit("\n".join(faults(Path(sys.argv[1]))) or None)
