"""Rollouts gathered for pages: those under way, a page of the list, and one by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flagserver.domain import access
from flagserver.domain.documents import Principal
from flagserver.domain.environments import Environment
from flagserver.domain.states import State
from flagserver.services import Services
from flagserver.services.lists import Page, Wanted
from flagserver.services.turns import RolloutView

from . import progress
from .listing import one_of
from .progress import Progress

PAGE_SIZE = 50
SHOWN_IN_STRIP = 3

LIVE = "live"
"""Stands in an address for whatever has not ended."""

SORTS = {LIVE: "Under way", **{str(s): s.shown.words for s in State if s is not State.UNKNOWN}}
"""What the list can be narrowed to."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address of the list says. before: the id that the page begins after."""

    environment: str = ""
    state: str = ""
    flag: str = ""
    before: str = ""

    def address(self, **changes: str) -> dict[str, str]:
        """Return the parameters of the same list with something changed, from its beginning unless
        that says another."""
        given = {"env": self.environment, "state": self.state, "flag": self.flag, **changes}
        return {name: value for name, value in given.items() if value}

    @property
    def narrowed(self) -> bool:
        """Whether it shows less than all."""
        return bool(self.environment or self.state or self.flag)

    @property
    def wanted(self) -> Wanted:
        """What the services are asked."""
        live = self.state == LIVE
        return Wanted(
            environment=self.environment or None,
            state=None if live else self.state or None,
            flag=self.flag or None,
            live=live,
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A page of the list. following: where the next begins, None at the end."""

    asked: Asked
    rows: tuple[Progress, ...]
    following: str | None


@dataclass(frozen=True, slots=True)
class Strip:
    """What runs, for every page. more: how many there are besides.

    since: the instant at which this was so, where the store does not answer now.
    """

    rows: tuple[Progress, ...] = ()
    more: int = 0
    since: datetime | None = None


class Board:
    """Gathers rollouts for whoever looks."""

    def __init__(self, services: Services, by: Principal, now: datetime) -> None:
        self._services = services
        self._by = by
        self._now = now

    @property
    def environments(self) -> list[Environment]:
        """Every environment that may be seen, the most critical first."""
        found = [view.environment for view in reversed(self._services.environments.all())]
        return [each for each in found if access.may(self._by, access.READ, each.key)]

    def under_way(self) -> list[Progress]:
        """Return what has not ended: what somebody should look at first, then the most critical."""
        return sorted(self._gather(self._services.rollouts.under_way()), key=urgency)

    def one(self, id: str) -> Progress:
        """Return one rollout. Raises NotFound, Forbidden."""
        (found,) = self._gather([self._services.rollouts.get(id, self._by)], looks=True)
        return found

    def find(self, asked: Asked) -> Found:
        """Return a page of the list. Raises NotFound when what it begins after is kept no more."""
        page: Page = self._services.rollouts.page(
            asked.wanted, before=asked.before or None, limit=PAGE_SIZE
        )
        return Found(asked, tuple(self._gather(list(page.views))), page.following)

    def unexplained(self) -> list[Progress]:
        """Return what was taken back lately without a word why."""
        back = Wanted(state=State.ROLLED_BACK)
        page = self._services.rollouts.page(back, limit=PAGE_SIZE)
        silent = self._services.rollouts.unexplained(page.views)
        views = [view for view in page.views if view.rollout.id in silent]
        return self._gather(views, unexplained=silent)

    def _gather(
        self, views: list[RolloutView], *, looks: bool = False, unexplained: Any = ()
    ) -> list[Progress]:
        rollouts = self._services.rollouts
        if not views:
            return []
        last = rollouts.last_looks(views) if looks else {}
        standings = rollouts.standings(views)
        silent = rollouts.unexplained(views) if looks else unexplained
        return progress.of(views, standings, last, self.environments, self._now, silent)


def read(arguments: Mapping[str, str], environments: list[Environment]) -> Asked:
    """Return what an address asks for; what it cannot mean counts as not said."""
    return Asked(
        environment=one_of(arguments.get("env", ""), [each.key for each in environments], ""),
        state=one_of(arguments.get("state", ""), SORTS, ""),
        flag=arguments.get("flag", "").strip()[:100],
        before=arguments.get("before", "")[:40],
    )


def urgency(progress: Progress) -> tuple[bool, bool, float]:
    """Sort what a person is wanted for first, then what is critical, then what is newest."""
    urgent = progress.wants is not None or progress.goes_back
    return not urgent, not progress.environment.critical, -progress.rollout.created
