"""Read the built site as a browser would, offline: ``python docs/check_site.py docs/_build``.

Every script, style and picture is there and none comes from elsewhere; every picture says what it shows; every link
within the site leads to a page, and to a place on it.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("source", "src")}
FEWEST_PAGES = 25


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
        self.loaded += [found[name] for kind, name in LOADED if kind == tag and name in found]
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "img" and (len(found.get("alt", "")) < 20 or found["alt"].endswith(".png")):
            self.silent.append(found["src"])


def faults(site: Path) -> list[str]:
    """All that is wrong with the site."""
    files = [file for file in sorted(site.rglob("*.html")) if "_static" not in file.relative_to(site).parts]
    pages = {file.resolve(): Page(file) for file in files}
    found = [] if len(pages) >= FEWEST_PAGES else [f"{site}: {len(pages)} pages only"]
    for file, page in pages.items():
        where = file.relative_to(site.resolve())
        found += [f"{where}: {each} has no words" for each in page.silent]
        for address in (*page.loaded, *page.links):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if address in page.loaded:
                    found.append(f"{where}: {address} is elsewhere")
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.is_file():
                found.append(f"{where}: {address} is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
                found.append(f"{where}: {address}: no such place")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(faults(Path(sys.argv[1]))) or None)
