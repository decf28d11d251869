"""Which flags a list shows: what its address asks for, and how many there are of each sort."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from flagserver.domain.environments import Environment
from flagserver.domain.staleness import stale
from flagserver.services.catalogue import FlagView

from . import present

MAX_QUERY = 200
PAGE_SIZE = 50

STATES = {
    "ramping": "Ramping",
    "rollout": "In a rollout",
    "killed": "Killed",
    "on": "On",
    "off": "Off",
    "stale": "Stale",
    "archived": "Archived",
}
"""What a list can be narrowed to. Archived flags are in no other list."""

SORTS = {"key": "Key", "changed": "Last change"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address of a list says. environment: where the state is looked at, "" for any."""

    query: str = ""
    state: str = ""
    environment: str = ""
    owner: str = ""
    sort: str = "key"
    page: int = 1

    def address(self, **changes: Any) -> dict[str, Any]:
        """Return the parameters of the same list with something changed, and from its first page
        unless that says another."""
        asked = replace(self, **{"page": 1, **changes})
        given = {
            "q": asked.query,
            "state": asked.state,
            "env": asked.environment,
            "owner": asked.owner,
            "sort": "" if asked.sort == "key" else asked.sort,
            "page": "" if asked.page == 1 else asked.page,
        }
        return {name: value for name, value in given.items() if value}

    @property
    def narrowed(self) -> bool:
        """Whether it shows less than all."""
        return bool(self.query or self.state or self.environment or self.owner)


@dataclass(frozen=True, slots=True)
class Row:
    """A flag in a list. stale: why it can go, or None."""

    view: FlagView
    changed: str
    stale: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """A page of a list. counts: of each of `STATES`, whichever of them is asked for ("": all)."""

    asked: Asked
    rows: Sequence[Row]
    total: int
    pages: int
    counts: Mapping[str, int]
    owners: Sequence[str]


def read(arguments: Mapping[str, str], environments: Iterable[str]) -> Asked:
    """Return what an address asks for; what it cannot mean counts as not said."""
    page = arguments.get("page", "")
    return Asked(
        query=arguments.get("q", "").strip()[:MAX_QUERY],
        state=one_of(arguments.get("state", ""), STATES, ""),
        environment=one_of(arguments.get("env", ""), environments, ""),
        owner=arguments.get("owner", "")[:MAX_QUERY],
        sort=one_of(arguments.get("sort", ""), SORTS, "key"),
        page=int(page) if page.isascii() and page.isdigit() and len(page) < 10 else 1,
    )


def find(
    views: Sequence[FlagView], asked: Asked, environments: Sequence[Environment], now: datetime
) -> Found:
    """Return a page of the flags that are asked for. views: those that a search found, archived
    ones too, by key."""
    where = [asked.environment] if asked.environment else [each.key for each in environments]
    counted = [environment.key for environment in environments if environment.critical] or where
    owners = sorted({view.flag.owner for view in views if view.flag.owner})
    rows = [_row(view, counted, now) for view in views if asked.owner in ("", view.flag.owner)]
    sorts = {name: [row for row in rows if _is(row, name, where)] for name in ("", *STATES)}
    wanted = sorts[asked.state]
    if asked.sort == "changed":
        wanted = sorted(wanted, key=lambda row: row.changed, reverse=True)
    pages = max(1, -(-len(wanted) // PAGE_SIZE))
    page = min(max(1, asked.page), pages)
    return Found(
        asked=replace(asked, page=page),
        rows=wanted[(page - 1) * PAGE_SIZE : page * PAGE_SIZE],
        total=len(wanted),
        pages=pages,
        counts={name: len(found) for name, found in sorts.items()},
        owners=owners,
    )


def _row(view: FlagView, counted: Sequence[str], now: datetime) -> Row:
    states = [view.states[name].state for name in counted if name in view.states]
    return Row(view, _changed(view), stale(view.flag, states, now))


def _is(row: Row, state: str, where: Sequence[str]) -> bool:
    """Tell whether a flag is of a sort. where: the environments that are looked at."""
    flag = row.view.flag
    if state == "archived" or flag.archived:
        return flag.archived and state == "archived"
    if state == "":
        return True
    if state == "stale":
        return row.stale is not None
    states = [row.view.states[name].state for name in where if name in row.view.states]
    if state == "rollout":
        return any(each.rollout is not None for each in states)
    tokens = {present.status(flag, each).token for each in states}
    return tokens == {"off"} if state == "off" else state in tokens


def _changed(view: FlagView) -> str:
    """Return when anything about a flag was changed last."""
    states = (state.state.changed for state in view.states.values())
    return max([view.flag.changed, *(changed for changed in states if changed)])


def one_of(text: str, known: Iterable[str], otherwise: str) -> str:
    """Return what an address says if that is known, else otherwise."""
    return text if text in set(known) else otherwise
