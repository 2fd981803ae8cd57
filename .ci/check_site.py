"""A built site takes nothing from outside: `check_site.py FOLDER` prints what does, and exits with 1 then.

Links that a reader follows may lead outside; scripts, styles, fonts and images may not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

OUTSIDE = re.compile(r"\s*(https?:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"(?:url\(\s*|@import\s+)[\"']?\s*((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)
LOADED = {"href": ("link",), "src": ("script", "img", "iframe", "audio", "video", "source", "embed")}
HARMLESS = {"canonical", "prev", "next", "alternate"}  # a <link> of these loads nothing


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        harmless = tag == "link" and set((given.get("rel") or "").split()) <= HARMLESS
        for name, tags in LOADED.items():
            if tag in tags and not harmless and OUTSIDE.match(given.get(name) or ""):
                self.found.append(f"<{tag} {name}={given[name]}>")


def outside(folder: Path) -> Iterator[str]:
    """What the pages and styles of a site would fetch from elsewhere."""
    for path in sorted(folder.rglob("*.html")):
        page = _Page()
        text = path.read_text(encoding="utf-8")
        page.feed(text)
        yield from (f"{path.relative_to(folder)}: {what}" for what in page.found)
        yield from (f"{path.relative_to(folder)}: {url}" for url in IN_STYLE.findall(text))
    for path in sorted(folder.rglob("*.css")):
        yield from (f"{path.relative_to(folder)}: {url}" for url in IN_STYLE.findall(path.read_text("utf-8")))


if __name__ == "__main__":
    found = list(outside(Path(sys.argv[1])))
    print("\n".join(found), end="\n" * bool(found))
    sys.exit(bool(found))
