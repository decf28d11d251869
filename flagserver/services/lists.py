"""Lists of rollouts, a page at a time: newest first, whatever there is of them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from flagserver.domain.errors import NotFound
from flagserver.domain.states import State
from flagserver.domain.targets import FLAG

from .ended import Header
from .turns import RolloutView, Turns

Place = tuple[float, str]
"""Where a rollout is in a list: (created, id)."""

Shown = Callable[[Sequence[RolloutView]], Mapping[str, State]]
"""How rollouts stand now, by id; a stored state may be one that nobody looks after."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rollouts are asked for. None: whichever.  flag: a key.  live: not ended."""

    environment: str | None = None
    state: str | None = None
    flag: str | None = None
    live: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Some rollouts, newest first. following: the id that the next page begins after; None: there
    is no more."""

    views: tuple[RolloutView, ...]
    following: str | None


def page(turns: Turns, shown: Shown, wanted: Wanted, *, before: str | None, limit: int) -> Page:
    """Return the newest rollouts that are wanted. before: only what was created before this one.

    Raises NotFound when that is not kept any more.
    """
    # In this order: one that ends meanwhile is in both, and not in neither.
    live = turns.live()
    ended = {header.id: header for header in turns.headers()}
    live = {id: view for id, view in live.items() if id not in ended}
    places = {id: (view.rollout.created, id) for id, view in live.items()}
    places |= {id: (header.created, id) for id, header in ended.items()}
    if before is not None and before not in places:
        raise NotFound(f"There is no rollout {before!r} any more to go on from.")
    found = {*_live(live, shown, wanted), *_ended(ended.values(), wanted)}
    rest = (places[id] for id in found if before is None or places[id] < places[before])
    newest = [id for _, id in heapq.nlargest(limit + 1, rest)]
    ids = newest[:limit]
    views = live | turns.read_ended([id for id in ids if id in ended])
    following = ids[-1] if len(newest) > limit else None
    return Page(tuple(views[id] for id in ids if id in views), following)


def _live(views: Mapping[str, RolloutView], shown: Shown, wanted: Wanted) -> list[str]:
    found = [
        view
        for view in views.values()
        if wanted.environment in {None, view.rollout.environment}
        and (wanted.flag is None or _flag(wanted) in {it.id for it in view.rollout.targets})
    ]
    states = {} if wanted.state is None else shown(found)
    ids = [view.rollout.id for view in found]
    return [id for id in ids if wanted.state is None or states[id] == wanted.state]


def _ended(headers: Iterable[Header], wanted: Wanted) -> list[str]:
    if wanted.live:
        return []
    return [
        header.id
        for header in headers
        if wanted.environment in {None, header.environment}
        and wanted.state in {None, header.state}
        and (wanted.flag is None or _flag(wanted) in header.targets)
    ]


def _flag(wanted: Wanted) -> str:
    """Return the id of the target that is asked for."""
    return f"{FLAG}/{wanted.flag}"
