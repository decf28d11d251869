"""The overview: what runs, what needs a person, what ramps, who reports, what happened last."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response
from sortition.core.bucketing import WHOLE

from flagserver.domain.flags import State

from ..board import Board
from ..cards import Desk
from ..interface import Interface, now, principal
from ..story import line
from ..waiting import waiting_for

EVENTS = 10


class Overview:
    """One page, and the part of it that lives."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui

    def show(self) -> Response:
        """The whole page."""
        return self._ui.page("overview.html", **self._content())

    def live(self) -> Response:
        """What changes on it."""
        return self._ui.fragment("_overview.html", **self._content())

    def _content(self) -> dict[str, Any]:
        services = self._ui.services
        at = now()
        desk = Desk(services, at)
        flags = services.flags.all()
        states = [state.state for view in flags for state in view.states.values()]
        board = Board(services, principal(), at)
        running = board.under_way()
        moving = [view for view in flags if any(_moves(s.state) for s in view.states.values())]
        cards = [card for view in moving for card in desk.cards(view) if _moves(card.state)]
        return {
            "running": running,
            "waiting": waiting_for(services, principal()),
            "wanted": [*(it for it in running if it.wants), *board.unexplained()],
            "flags": len(flags),
            "killed": sum(state.killed for state in states),
            "ramping": sum(_ramps(state) for state in states),
            "cards": sorted(cards, key=lambda c: (not c.environment.critical, c.flag.key)),
            "services": desk.services(),
            "events": [line(entry) for entry in services.record.recent(limit=EVENTS)],
        }


def _ramps(state: State) -> bool:
    return not state.killed and 0 < state.share < WHOLE


def _moves(state: State) -> bool:
    return _ramps(state) or state.killed


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of the overview."""
    overview = Overview(ui)
    blueprint.add_url_rule("/", "overview", overview.show)
    blueprint.add_url_rule("/ui/overview", "overview_live", overview.live)
