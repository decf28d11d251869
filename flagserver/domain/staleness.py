"""Which flags can be removed, and why: temporary ones that have served all alike for long.

Flags that are off, permanent or archived never nag.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sortition.core.bucketing import WHOLE

from .flags import Flag, State

STALE_AFTER = timedelta(days=30)


def stale(flag: Flag, states: Collection[State], now: datetime) -> str | None:
    """Return in words why a flag can go, or None. states: of the environments where it counts."""
    if flag.kind != "temporary" or flag.archived or not states:
        return None
    if not all(_serves_all_alike(state) for state in states):
        return None
    since = max(datetime.fromisoformat(state.changed or flag.created) for state in states)
    if now - since < STALE_AFTER:
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
