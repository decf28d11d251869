"""Which flags can be removed, or wait for somebody, and why.

Each reason is something that is known for certain, of temporary flags alone: flags that are off,
permanent or archived never nag. That a prerequisite was archived cannot be a reason: a flag that
another stands on is not archived.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from sortition.core.bucketing import WHOLE

from .flags import Flag, State

STALE_AFTER = timedelta(days=30)
"""How long all must have been served alike, or nobody have asked."""

STUCK_AFTER = timedelta(days=90)
"""How long a share may stand half-way."""

REPORTS_WITHIN = timedelta(days=2)
"""How lately services must have asked for anything: else it is not the flag that is silent."""


@dataclass(frozen=True, slots=True)
class Asked:
    """When flags were asked for in an environment. since: the first day on which that was noted,
    None: never.  newest: the last day on which any flag was asked for.  last: flag -> its last."""

    since: date | None = None
    newest: date | None = None
    last: Mapping[str, date] | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A reason. since: when it began.  after: how long that may be so without a word."""

    since: datetime
    after: timedelta
    words: str
    advice: str

    def is_due(self, now: datetime) -> bool:
        """Tell whether it is to be said."""
        return now - self.since >= self.after

    def told(self, now: datetime) -> str:
        """Return it in words."""
        return f"{self.words} for {(now - self.since).days} days{self.advice}"


def marks(flag: Flag, states: Collection[State]) -> tuple[Mark, ...]:
    """Return the reasons that can come of how a flag is served. states: of the environments where
    it counts."""
    if flag.kind != "temporary" or flag.archived or not states:
        return ()
    if all(_serves_all_alike(state) for state in states):
        since = max(_changed(flag, state) for state in states)
        advice = ", no conditions: remove it from the code"
        return (Mark(since, STALE_AFTER, f"100 % in {_where(states)}", advice),)
    return tuple(
        Mark(
            _changed(flag, state),
            STUCK_AFTER,
            f"{state.share / 10_000:g} % in {state.environment}",
            ": finish the ramp or take it back",
        )
        for state in states
        if _stands_half_way(state)
    )


def not_asked(
    flag: Flag, states: Collection[State], asked: Mapping[str, Asked], now: datetime
) -> Mark | None:
    """Return that no service asks for a flag that somebody is to be served, or None. states: as for
    `marks`.  asked: by environment."""
    if flag.kind != "temporary" or flag.archived or not states:
        return None
    if all(state.serves_only_rest() for state in states):
        return None
    since = [_silent_since(flag, asked.get(state.environment, Asked()), now) for state in states]
    known = [each for each in since if each is not None]
    if len(known) < len(since):
        return None
    words = f"no service asked for it in {_where(states)}"
    return Mark(max(known), STALE_AFTER, words, ": remove it")


def stale(
    flag: Flag, states: Collection[State], asked: Mapping[str, Asked], now: datetime
) -> str | None:
    """Return in words why a flag can go or waits for somebody, or None."""
    for mark in (*marks(flag, states), not_asked(flag, states, asked, now)):
        if mark is not None and mark.is_due(now):
            return mark.told(now)
    return None


def _silent_since(flag: Flag, asked: Asked, now: datetime) -> datetime | None:
    """Return since when an environment's services, which ask for others, did not ask for a flag;
    None: that is not known."""
    if asked.since is None or asked.newest is None:
        return None
    if now.date() - asked.newest > REPORTS_WITHIN:
        return None
    last = (asked.last or {}).get(flag.key)
    # Of a day it is known that it was asked, and not when: so from the next one on.
    begun = asked.since if last is None else last + timedelta(days=1)
    return max(datetime.combine(begun, time(), UTC), datetime.fromisoformat(flag.created))


def _changed(flag: Flag, state: State) -> datetime:
    return datetime.fromisoformat(state.changed or flag.created)


def _where(states: Collection[State]) -> str:
    return " and ".join(sorted(state.environment for state in states))


def _stands_half_way(state: State) -> bool:
    return not state.killed and 0 < state.share < WHOLE and state.rollout is None


def _serves_all_alike(state: State) -> bool:
    return (
        not state.killed
        and state.share == WHOLE
        and sum(1 for _, weight in state.weights if weight) == 1
        and not state.conditions
        and not state.prerequisites
        and state.rollout is None
    )
