"""`/api/v1/rollouts/{id}/heartbeat`: signs of life of whoever watches a rollout."""

from __future__ import annotations

from typing import Any

# pydantic asks for this TypedDict below Python 3.12, and brings it.
from typing_extensions import TypedDict

from flagserver.domain.access import SHRINK
from flagserver.domain.rollout_commands import Watch

from .rollouts import ROLLOUT
from .routing import Call, Routes

routes = Routes()


class WatchedJson(TypedDict):
    """A rollout that is watched. lost_after: seconds of silence after which it holds, null for one
    that has ended."""

    id: str
    state: str
    terminal: bool
    lost_after: int | None


@routes.add(
    *("POST", f"{ROLLOUT}/heartbeat", SHRINK),
    {200: ("The rollout is watched.", WatchedJson)},
    model=Watch,
)
def rollout_heartbeat(call: Call, id: str) -> Any:
    """Say that somebody watches: it holds when nothing is heard of him for two minutes."""
    it = call.services.watching.heartbeat(id, call.body, call.principal).rollout
    return {
        "id": it.id,
        "state": str(it.state),
        "terminal": it.state.shown.terminal,
        "lost_after": None if it.watcher is None else it.watcher.lost_after,
    }
