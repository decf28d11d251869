"""The list of flags, and making a new one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, request, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain.errors import Refusal
from flagserver.services.catalogue import FlagView

from .. import listing
from ..cards import Desk, Line
from ..forms import Typed, Unusable, read_flag
from ..interface import Interface, now, principal
from ..reached import Reached


class Flags:
    """The list and the form."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._listing = listing.Listing()
        self._reached = Reached(ui.services.outcomes)
        self._heads: dict[str, tuple[FlagView, object, Markup]] = {}

    def show(self) -> Response:
        """The whole page."""
        return self._ui.page("flags.html", **self._content())

    def live(self) -> Response:
        """The rows."""
        return self._ui.fragment("_flags.html", **self._content())

    def new(self) -> Response:
        """An empty form; a search that found nothing suggests its words as the key."""
        typed = Typed({"key": request.args.get("key", "")[: listing.MAX_QUERY]})
        return self._ui.page("flag_new.html", form=typed)

    def create(self) -> AnyResponse:
        """Create the flag, or show the form again as it was typed."""
        typed = Typed(request.form.to_dict())
        try:
            view = self._ui.services.flags.create(read_flag(typed), principal())
        except Unusable:
            return self._ui.page("flag_new.html", status=422, form=typed)
        except Refusal as refusal:
            if refusal.status >= 500:
                raise
            typed.errors["key" if refusal.code == "already_exists" else ""] = refusal.detail
            return self._ui.page("flag_new.html", status=refusal.status, form=typed)
        return self._ui.go(url_for("admin.flag", key=view.flag.key), "created")

    def _content(self) -> dict[str, Any]:
        services, at = self._ui.services, now()
        desk = Desk(services, at)
        asked = listing.read(request.args, [each.key for each in desk.environments])
        searched = services.flags.all(query=asked.query, archived=True)
        last_asked = services.outcomes.asking.last
        found = self._listing.find(searched, asked, desk.environments, last_asked, at)
        lines = desk.lines([row.view for row in found.rows], self._reached)
        return {
            "found": found,
            "asked": found.asked,
            "states": listing.STATES,
            "sorts": listing.SORTS,
            "environments": desk.environments,
            "rows": [(row, self._head(desk, row, lines[row.view.flag.key])) for row in found.rows],
        }

    def _head(self, desk: Desk, row: listing.Row, lines: Sequence[Line]) -> Markup:
        """Return a row up to its time. It is made anew when something in it has changed."""
        key = row.view.flag.key
        known = self._heads.get(key)
        if known is not None and known[0] is row.view and known[1] == (row.stale, lines):
            return known[2]
        cards = desk.lined(row.view, lines)
        made = self._ui.piece("_flag_row.html", row=row, cards=cards, base=url_for("admin.flags"))
        self._heads[key] = row.view, (row.stale, lines), made
        return made


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of the list and of the form."""
    flags = Flags(ui)
    blueprint.add_url_rule("/flags", "flags", flags.show)
    blueprint.add_url_rule("/ui/flags", "flags_live", flags.live)
    blueprint.add_url_rule("/flags/new", "flag_new", flags.new)
    blueprint.add_url_rule("/flags/new", "flag_create", flags.create, methods=["POST"])
