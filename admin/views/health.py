"""How the server is doing, and what hangs on it: the store, controllers, services, notices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Blueprint, Response

from flagserver.domain.errors import StoreUnavailable
from flagserver.services.rollouts import STALE_SECONDS

from .. import present
from ..interface import Interface, now

Told = TypeVar("Told")


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing and how it is. role: of its colour, which never speaks alone."""

    name: str
    role: str
    words: str
    more: str


class Health:
    """One page, and the part of it that lives."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._services = ui.services

    def show(self) -> Response:
        """The whole page."""
        return self._ui.page("health.html", **self._content())

    def live(self) -> Response:
        """What changes on it."""
        return self._ui.fragment("_health.html", **self._content())

    def _content(self) -> dict[str, Any]:
        services = self._services
        return {
            "health": services.health(),
            "record": services.record,
            "streams": services.snapshots.streams(),
            "lines": self._ui.doorbell.open_lines(),
            "signs": _asked(self._signs) or [],
        }

    def _signs(self) -> list[Sign]:
        """Return what only the store can tell of. Raises StoreUnavailable."""
        return [self._controllers(), self._reporting(), *self._channels()]

    def _controllers(self) -> Sign:
        views = self._services.rollouts.under_way()
        standings = self._services.rollouts.standings(views)
        at = now().timestamp()
        wanted = [view for view in views if view.rollout.needs_controller(at)]
        if not wanted:
            return Sign("Controllers", "neutral", "nothing to look at", "no rollout needs one now")
        looks = [standings[view.rollout.id].looked for view in wanted]
        ago = max(at - (look or 0.0) for look in looks)
        words = f"{present.count(len(wanted))} under way"
        if None in looks:
            return Sign("Controllers", "warn", f"? {words}", "one was never looked at yet")
        told = f"each was looked at within {present.span(ago)}"
        good = ago < STALE_SECONDS
        return Sign(
            "Controllers", "ok" if good else "danger", f"{'✔' if good else '✖'} {words}", told
        )

    def _reporting(self) -> Sign:
        keys = [view.environment.key for view in self._services.environments.all()]
        found = [(key, each) for key in keys for each in self._services.outcomes.sources(key)]
        if not found:
            return Sign(
                "Services", "neutral", "none report", "as soon as one asks a flag by the SDK"
            )
        names = {(key, each["service.name"]) for key, each in found}
        blind = {name for name in names if not _has_version(found, name)}
        words = f"{len(names)} in {len({each['instance'] for _, each in found})} processes"
        if blind:
            told = ", ".join(sorted(name for _, name in blind))
            return Sign("Services", "warn", f"⚠ {words}", f"no service.version: {told}")
        return Sign("Services", "ok", f"✔ {words}", "all say their version")

    def _channels(self) -> Sequence[Sign]:
        return [
            Sign(
                f"Notices to {channel.name}",
                "warn" if channel.waiting else "ok",
                f"◷ {channel.waiting} waiting" if channel.waiting else "✔ has everything",
                f"since {present.ago(channel.oldest, now())}" if channel.oldest else "",
            )
            for channel in self._services.notifying.channels()
        ]


def _asked(ask: Callable[[], Told]) -> Told | None:
    """Return what the store tells, or None while it does not answer: the rest is shown all the
    same."""
    try:
        return ask()
    except StoreUnavailable:
        return None


def _has_version(found: Sequence[tuple[str, Any]], name: tuple[str, str]) -> bool:
    return all(
        each["service.version"] for key, each in found if (key, each["service.name"]) == name
    )


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of the health page."""
    health = Health(ui)
    blueprint.add_url_rule("/health", "health", health.show)
    blueprint.add_url_rule("/ui/health", "health_live", health.live)
