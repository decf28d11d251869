"""Which flags a list shows: what its address asks for, and how many there are of each sort."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from flagserver.domain.environments import Environment
from flagserver.domain.flags import State
from flagserver.domain.staleness import STALE_AFTER, Mark, marks, not_asked
from flagserver.domain.staleness import Asked as LastAsked
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
    """A flag in a list. stale: why it can go or waits for somebody, or None."""

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


@dataclass(frozen=True, slots=True)
class Facts:
    """What lists ask of a flag, as long as nothing of it is changed.

    tokens: environment -> its state there.  moved: environments where a rollout moves it.
    counted: its states in the environments where it counts.
    marks: why it can be stale as it is served, see `staleness`.
    created: when it was, for whoever looks whether it is old enough to be asked for by nobody.
    everywhere: of which sorts it is, staleness aside, looked at in all environments.
    """

    view: FlagView
    changed: str
    tokens: Mapping[str, str]
    moved: frozenset[str]
    counted: Sequence[State]
    marks: tuple[Mark, ...]
    created: datetime
    everywhere: frozenset[str]

    def stale(self, silences: Mapping[str, LastAsked], now: datetime) -> str | None:
        """Return why it can go or waits for somebody, or None."""
        for mark in self.marks:
            if mark.is_due(now):
                return mark.told(now)
        if now - self.created < STALE_AFTER:
            return None
        silent = not_asked(self.view.flag, self.counted, silences, now)
        return silent.told(now) if silent is not None and silent.is_due(now) else None

    def sorts(self, where: str) -> frozenset[str]:
        """Return of which sorts it is, staleness aside, in an environment ("": in any)."""
        if not where or self.view.flag.archived:
            return self.everywhere
        return _sorts(self.tokens, self.moved, [where])


class Listing:
    """Finds the flags of lists. What is known of a flag is kept until it changes."""

    def __init__(self) -> None:
        self._facts: dict[str, Facts] = {}
        self._counted: tuple[str, ...] = ()

    def find(
        self,
        views: Sequence[FlagView],
        asked: Asked,
        environments: Sequence[Environment],
        last_asked: Callable[[str], LastAsked],
        now: datetime,
    ) -> Found:
        """Return a page of the flags that are asked for. views: those that a search found, archived
        ones too, by key.  last_asked: when services asked for the flags of an environment."""
        keys = [each.key for each in environments]
        where = [asked.environment] if asked.environment else keys
        counted = tuple(each.key for each in environments if each.critical) or tuple(where)
        known = [self._of(view, counted) for view in views]
        if asked.owner:
            known = [facts for facts in known if facts.view.flag.owner == asked.owner]
        owners = sorted({view.flag.owner for view in views if view.flag.owner})
        counts = dict.fromkeys(("", *STATES), 0)
        silences = {name: last_asked(name) for name in counted}
        why: dict[str, str] = {}
        wanted = []
        for facts in known:
            sorts = facts.sorts(asked.environment)
            for sort in sorts:
                counts[sort] += 1
            stale = facts.stale(silences, now)
            if stale is not None:
                why[facts.view.flag.key] = stale
            if asked.state in sorts or (stale is not None and asked.state == "stale"):
                wanted.append(facts)
        counts["stale"] = len(why)
        if asked.sort == "changed":
            wanted.sort(key=lambda facts: facts.changed, reverse=True)
        pages = max(1, -(-len(wanted) // PAGE_SIZE))
        page = min(max(1, asked.page), pages)
        shown = wanted[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
        return Found(
            asked=replace(asked, page=page),
            rows=[Row(it.view, it.changed, why.get(it.view.flag.key)) for it in shown],
            total=len(wanted),
            pages=pages,
            counts=counts,
            owners=owners,
        )

    def _of(self, view: FlagView, counted: tuple[str, ...]) -> Facts:
        if counted != self._counted:
            self._facts, self._counted = {}, counted
        known = self._facts.get(view.flag.key)
        if known is None or known.view is not view:
            known = self._facts[view.flag.key] = _facts(view, counted)
        return known


def _facts(view: FlagView, counted: Sequence[str]) -> Facts:
    states = {name: each.state for name, each in view.states.items()}
    tokens = {name: present.status(view.flag, state).token for name, state in states.items()}
    moved = frozenset(name for name, state in states.items() if state.rollout is not None)
    archived = view.flag.archived
    here = [states[name] for name in counted if name in states]
    return Facts(
        view=view,
        changed=_changed(view),
        tokens=tokens,
        moved=moved,
        counted=here,
        marks=marks(view.flag, here),
        created=datetime.fromisoformat(view.flag.created),
        everywhere=frozenset({"archived"}) if archived else _sorts(tokens, moved, list(states)),
    )


def _sorts(
    tokens: Mapping[str, str], moved: frozenset[str], where: Sequence[str]
) -> frozenset[str]:
    """Return the sorts of a flag that is not archived, looked at in these environments."""
    found = {tokens[name] for name in where if name in tokens}
    if len(found) > 1:
        found.discard("off")
    if not moved.isdisjoint(where):
        found.add("rollout")
    return frozenset({"", *found})


def _changed(view: FlagView) -> str:
    """Return when anything about a flag was changed last."""
    states = (state.state.changed for state in view.states.values())
    return max([view.flag.changed, *(changed for changed in states if changed)])


def one_of(text: str, known: Iterable[str], otherwise: str) -> str:
    """Return what an address says if that is known, else otherwise."""
    return text if text in set(known) else otherwise
