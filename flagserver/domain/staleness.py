"""Which flags can be removed, and why: temporary ones that have served all alike for long.

Flags that are off, permanent or archived never nag.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sortition.core.bucketing import WHOLE

from .flags import Flag, State

STALE_AFTER = timedelta(days=30)


def alike_since(flag: Flag, states: Collection[State]) -> datetime | None:
    """Return since when a temporary flag serves everybody alike, or None if it does not. states: of
    the environments where it counts."""
    if flag.kind != "temporary" or flag.archived or not states:
        return None
    if not all(_serves_all_alike(state) for state in states):
        return None
    return max(datetime.fromisoformat(state.changed or flag.created) for state in states)


def stale(flag: Flag, states: Collection[State], now: datetime) -> str | None:
    """Return in words why a flag can go, or None. states: as for `alike_since`."""
    since = alike_since(flag, states)
    if since is None or now - since < STALE_AFTER:
        return None
    where = " and ".join(sorted(state.environment for state in states))
    return f"100 % in {where} for {(now - since).days} days, no conditions: remove it from the code"


def _serves_all_alike(state: State) -> bool:
    return (
        not state.killed
        and state.share == WHOLE
        and sum(1 for _, weight in state.weights if weight) == 1
        and not state.conditions
        and not state.prerequisites
        and state.rollout is None
    )
