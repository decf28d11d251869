"""What goes wrong is told in the same frame: what happened, what it means, what to do."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from flask import Blueprint, Response, abort, request
from flask.blueprints import BlueprintSetupState
from sortition.core.model import Flag
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from flagserver.domain.errors import Refusal, StoreUnavailable, TooMany

from ..interface import Interface, visitor

log = logging.getLogger(__name__)

TITLES = {
    401: "You are not signed in",
    403: "Not permitted",
    404: "There is no such page",
    405: "That does not work here",
    409: "It cannot be done now",
    413: "The form is too large",
}
INSIDE = "Something went wrong in the server. Flags are served as before."


class PagePath(BaseConverter):
    """Any path that belongs to people, not to programs: unknown ones get a page."""

    regex = r"(?!api/|ofrep/|assets/|ui/|healthz|readyz|metrics|openapi|docs).+"
    part_isolating = False


@dataclass(frozen=True, slots=True)
class Known:
    """A flag as the mirror knows it, for when the store does not answer."""

    flag: Flag
    environment: str


class Errors:
    """Pages for what goes wrong."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui

    def unknown(self, path: str) -> Response:  # noqa: ARG002 (the route has it)
        """An address that nobody has."""
        abort(404)

    def http(self, error: HTTPException) -> Response:
        """An error by its HTTP status."""
        status = error.code or 500
        detail = None if status == 404 else error.description
        return self._page(status, TITLES.get(status, error.name), detail)

    def refusal(self, refusal: Refusal) -> Response:
        """Something that the server will not do, or cannot do now."""
        if isinstance(refusal, StoreUnavailable):
            return self._away(refusal)
        page = self._page(refusal.status, refusal.title, refusal.detail)
        if isinstance(refusal, TooMany):
            page.headers["Retry-After"] = str(math.ceil(refusal.retry_after))
        return page

    def crash(self, error: Exception) -> Response:
        """Our own mistake. The log has it; the page does not."""
        log.error("a page failed: %s", request.endpoint, exc_info=error)
        return self._page(500, "Something went wrong", INSIDE)

    def _page(self, status: int, title: str, detail: str | None) -> Response:
        return self._ui.page("error.html", status=status, title=title, detail=detail)

    def _away(self, refusal: StoreUnavailable) -> Response:
        """Show the shares that the mirror holds to whoever was signed in before."""
        known = self._known() if visitor() is not None else []
        response = self._ui.page(
            "store_away.html",
            status=503,
            refusal=refusal,
            served=known,
            typed=None if visitor() is None else _typed(),
        )
        response.headers["Retry-After"] = "2"
        return response

    def _known(self) -> list[Known]:
        views = sorted(self._ui.services.snapshots.views().items())
        return [
            Known(flag, environment)
            for environment, view in views
            for flag in view.snapshot.flags.values()
        ]


def _typed() -> list[tuple[str, str]] | None:
    """Return the fields of the form that was sent, so that it can be sent again as it was typed;
    None where there was none, and where a password was in it."""
    if request.method != "POST":
        return None
    fields = [(name, text) for name, text in request.form.items(multi=True) if name != "csrf"]
    return None if any("password" in name for name, _ in fields) else fields


def _know_page_paths(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["page_path"] = PagePath


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Take every error of the blueprint, and every address that nobody has."""
    errors = Errors(ui)
    blueprint.record_once(_know_page_paths)
    blueprint.add_url_rule("/<page_path:path>", "unknown", errors.unknown)
    blueprint.register_error_handler(HTTPException, errors.http)
    blueprint.register_error_handler(Refusal, errors.refusal)
    blueprint.register_error_handler(Exception, errors.crash)
