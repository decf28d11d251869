"""The documents that ship with the server."""

from __future__ import annotations

from flask import Blueprint, Response, abort, request

from ..interface import Interface
from ..library import Library

MAX_WORDS = 100


class Help:
    """A table of contents, a search, and the documents."""

    def __init__(self, ui: Interface, library: Library) -> None:
        self._ui = ui
        self._library = library

    def contents(self) -> Response:
        """What there is, or what a search finds."""
        words = request.args.get("q", "").strip()[:MAX_WORDS]
        return self._ui.page(
            "help.html",
            words=words,
            found=self._library.search(words),
            shelves=self._library.shelves(),
        )

    def page(self, path: str) -> Response:
        """One document."""
        found = self._library.page(path.removesuffix(".md"))
        if found is None:
            abort(404)
        return self._ui.page("help_page.html", page=found)


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of help."""
    help = Help(ui, Library())
    blueprint.add_url_rule("/help", "help", help.contents)
    blueprint.add_url_rule("/help/<path:path>", "help_page", help.page)
