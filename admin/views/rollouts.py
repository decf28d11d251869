"""The list of rollouts: those under way first, then what has been, fifty at a time."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain.errors import NotFound

from .. import board
from ..board import Board
from ..interface import Interface, now, principal


class Rollouts:
    """One page, and the part of it that lives."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui

    def show(self) -> AnyResponse:
        """The whole page."""
        try:
            return self._ui.page("rollouts.html", **self._content())
        except NotFound:
            # What the page began after is kept no more: begin at the newest.
            return redirect(url_for("admin.rollouts"), 303)

    def live(self) -> Response:
        """The rows."""
        return self._ui.fragment("_rollouts.html", **self._content())

    def _content(self) -> dict[str, Any]:
        gathered = Board(self._ui.services, principal(), now())
        environments = gathered.environments
        asked = board.read(request.args, environments)
        return {
            "asked": asked,
            "found": gathered.find(asked),
            "environments": environments,
            "sorts": board.SORTS,
        }


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of the list."""
    rollouts = Rollouts(ui)
    blueprint.add_url_rule("/rollouts", "rollouts", rollouts.show)
    blueprint.add_url_rule("/ui/rollouts", "rollouts_live", rollouts.live)
