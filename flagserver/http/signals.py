"""`/api/v1/signals`: what others tell us happened. It hastens the next look, and says nothing."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from flagserver.domain.access import CHANGE
from flagserver.domain.hook_commands import EventBridgeEvent
from flagserver.services.pushes import Heard

from .routing import Call, Routes

routes = Routes()

EVENT_LIMIT = 1 << 20
"""Octets of the largest event of EventBridge."""


class HeardJson(TypedDict):
    """What became of an event: `hastens` a look, was `repeated`, came `late`, leaves every rollout
    `unconcerned`, or is `unknown`."""

    heard: Heard


@routes.add(
    *("POST", "/api/v1/signals/eventbridge", CHANGE, {202: ("Heard.", HeardJson)}),
    model=EventBridgeEvent,
    limit=EVENT_LIMIT,
)
def hear_eventbridge(call: Call) -> Any:
    """Hear an event of EventBridge; how things stand is read, not believed."""
    heard = call.services.pushes.hear(call.body, call.principal.environment)
    return {"heard": heard}, 202
