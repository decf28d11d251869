"""The documents that ship with the server, as pages.

They are Markdown by CommonMark, with tables. HTML in them is shown and not interpreted, and links
lead to other documents, to the web, or nowhere: what stands in a document can do nothing on a page.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

HERE = Path(__file__).parent
PLACES = (HERE / "docs", HERE.parent / "docs")
"""Where they lie in an installed package, and in a checkout."""

SHELVES = {
    "tutorials": "Learn",
    "how-to": "Do something",
    "operations": "Run it, and mend it",
    "training": "Train for it",
    "reference": "Look it up",
    "explanation": "Understand it",
    "adr": "Why it is built so",
}
"""Folder -> what it is called, in the order of the table of contents."""

MOST_FOUND = 20

_NAMELESS = re.compile(r"<thead>\n<tr>\n(<td></td>\n)+</tr>\n</thead>\n")

SCROLLS = 'tabindex="0" role="group" aria-label="Table"'


@dataclass(frozen=True, slots=True)
class Entry:
    """A document in a table of contents. found: where a search found its words, "" elsewhere."""

    path: str
    title: str
    found: str = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """A part of a document."""

    anchor: str
    title: str


@dataclass(frozen=True, slots=True)
class Page:
    """A document as it is shown."""

    path: str
    title: str
    body: Markup
    headings: Sequence[Heading]


class Library:
    """All documents. They are read when the first page of them is asked for."""

    def __init__(self, folder: Path | None = None) -> None:
        places = PLACES if folder is None else (folder,)
        self._folder = next((place for place in places if place.is_dir()), None)

    def shelves(self) -> dict[str, list[Entry]]:
        """Return the documents of each shelf, by title."""
        return {
            words: [Entry(path, self._title(path)) for path in self._on(shelf)]
            for shelf, words in SHELVES.items()
            if self._on(shelf)
        }

    def page(self, path: str) -> Page | None:
        """Return a document by its path without its suffix, or None."""
        return self._page(path) if path in self._texts else None

    def search(self, words: str) -> list[Entry]:
        """Return the documents in which all words stand: first those that have them in a title,
        then those that have them side by side; those that help before those that explain."""
        wanted = [word.casefold() for word in words.split()]
        if not wanted:
            return []
        found = [
            (
                not all(word in self._title(path).casefold() for word in wanted),
                " ".join(wanted) not in " ".join(text.casefold().split()),
                _shelf_of(path),
                path,
            )
            for path, text in self._texts.items()
            if all(word in text.casefold() for word in wanted)
        ]
        ranked = [path for *_, path in sorted(found)][:MOST_FOUND]
        return [Entry(p, self._title(p), _around(self._texts[p], wanted[0])) for p in ranked]

    def _on(self, shelf: str) -> list[str]:
        there = [path for path in self._texts if path.startswith(f"{shelf}/")]
        return sorted(there) if shelf == "adr" else sorted(there, key=self._title)

    def _title(self, path: str) -> str:
        heading = re.search(r"^# (.+)$", self._texts[path], re.MULTILINE)
        return heading[1].replace("`", "") if heading else path

    @cached_property
    def _texts(self) -> Mapping[str, str]:
        if self._folder is None:
            return {}
        return {
            file.relative_to(self._folder).with_suffix("").as_posix(): _without_front(
                file.read_text(encoding="utf-8")
            )
            for file in sorted(self._folder.rglob("*.md"))
        }

    @lru_cache(maxsize=100)  # noqa: B019 (one library lives as long as the process)
    def _page(self, path: str) -> Page:
        tokens = _markdown().parse(self._texts[path])
        headings = _anchored(tokens)
        self._lead(tokens, path)
        markdown = _markdown()
        # Whoever has no mouse scrolls long lines by keyboard.
        body = markdown.renderer.render(tokens, markdown.options, {})
        body = body.replace("<pre>", '<pre tabindex="0">')
        # A column without a name has no header.
        body = body.replace("<th></th>", "<td></td>")
        body = _NAMELESS.sub("", body)
        # What Markdown makes of text without HTML is safe: see `_markdown`.
        return Page(path, self._title(path), Markup(body), headings)  # noqa: S704 (as said above)

    def _lead(self, tokens: Sequence[Token], path: str) -> None:
        """Let links between documents lead to their pages, and others out of here nowhere."""
        for token in _all(tokens):
            if token.type == "image":
                token.attrSet("src", "")
            elif token.type == "link_open":
                there = self._address(str(token.attrGet("href")), path)
                if there is None:
                    token.tag, token.attrs = "span", {}
                else:
                    token.attrSet("href", there)
            elif token.type in {"th_open", "td_open"}:
                # Our policy lets no element say its own style.
                style = token.attrs.pop("style", "")
                if style == "text-align:right":
                    token.attrSet("class", "n")

    def _address(self, href: str, path: str) -> str | None:
        parts = urlsplit(href)
        if parts.scheme or parts.netloc:
            return href if parts.scheme in {"http", "https", "mailto"} else None
        anchor = f"#{parts.fragment}" if parts.fragment else ""
        if not parts.path:
            return anchor or None
        joined = posixpath.join(posixpath.dirname(path), parts.path)
        wanted = posixpath.normpath(joined).removesuffix(".md")
        return f"/help/{wanted}{anchor}" if wanted in self._texts else None


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    # Without HTML, and it refuses addresses such as `javascript:` by itself.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("link_close", _link_close)
    markdown.add_render_rule("image", lambda self, tokens, i, *_: _words(tokens[i].children or []))
    markdown.add_render_rule("table_open", _table_open)
    markdown.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return markdown


def _link_close(self: object, tokens: Sequence[Token], i: int, *_: object) -> str:
    """Close what was opened: a link that leads nowhere is a span."""
    depth = 0
    for token in reversed(tokens[:i]):
        if token.type == "link_close":
            depth += 1
        elif token.type == "link_open":
            if depth == 0:
                return f"</{token.tag}>"
            depth -= 1
    return "</a>"


def _table_open(self: object, tokens: Sequence[Token], i: int, *_: object) -> str:
    """Let a table that is wider than the page scroll, by keyboard too."""
    return (
        '<div class="scroll" tabindex="0" role="group" aria-label="Table"><table class="compact">\n'
    )


def _anchored(tokens: Sequence[Token]) -> list[Heading]:
    """Give headings anchors, as other documents name them; return those of the second level."""
    found, taken = [], set()
    for opened, inside in pairwise(tokens):
        if opened.type != "heading_open":
            continue
        words = _words(inside.children or [])
        anchor = slug(words)
        while anchor in taken:
            anchor += "-1"
        taken.add(anchor)
        opened.attrSet("id", anchor)
        if opened.tag == "h2":
            found.append(Heading(anchor, words))
    return found


def slug(title: str) -> str:
    """Return a heading's anchor as Git hosts make it: `What it does` -> `what-it-does`."""
    kept = "".join(c for c in title.lower() if c in " -_" or unicodedata.category(c)[0] in "LN")
    return kept.replace(" ", "-")


def _words(tokens: Sequence[Token]) -> str:
    return "".join(token.content for token in tokens if token.type in {"text", "code_inline"})


def _all(tokens: Sequence[Token]) -> list[Token]:
    return [each for token in tokens for each in (token, *_all(token.children or []))]


def _without_front(text: str) -> str:
    """Return a document without the facts about itself that may stand before it."""
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)


def _shelf_of(path: str) -> int:
    """Return which of the shelves a document stands on; one that stands on none comes last."""
    shelf = path.partition("/")[0]
    return list(SHELVES).index(shelf) if shelf in SHELVES else len(SHELVES)


def _around(text: str, word: str) -> str:
    """Return the line in which a word stands."""
    line = next((line for line in text.splitlines() if word in line.casefold()), "")
    return line.strip("#| ")[:160]
