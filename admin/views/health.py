"""How the server is doing, in a few lines."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from ..interface import Interface


class Health:
    """One page, and the part of it that lives."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui

    def show(self) -> Response:
        """The whole page."""
        return self._ui.page("health.html", **self._content())

    def live(self) -> Response:
        """What changes on it."""
        return self._ui.fragment("_health.html", **self._content())

    def _content(self) -> dict[str, Any]:
        services = self._ui.services
        return {
            "health": services.health(),
            "record": services.record,
            "streams": services.snapshots.streams(),
            "lines": self._ui.doorbell.open_lines(),
        }


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of the health page."""
    health = Health(ui)
    blueprint.add_url_rule("/health", "health", health.show)
    blueprint.add_url_rule("/ui/health", "health_live", health.live)
