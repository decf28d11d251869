"""What an event bus tells of deployments and alarms: a reason to look now, and nothing else.

Such events come late, twice, out of order or not at all, and whoever may send one may make one up.
So nothing is learnt from one but whom it may concern; how things stand is always read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .rollout import Rollout
from .signals import Measure
from .targets import FLAG

CODEDEPLOY = "CodeDeploy Deployment State-change Notification"
ECS = "ECS Deployment State Change"
ALARM = "CloudWatch Alarm State Change"
SOURCES = {CODEDEPLOY: "aws.codedeploy", ECS: "aws.ecs", ALARM: "aws.cloudwatch"}
"""The events of EventBridge that are known, by their `detail-type`; and who sends them."""

FRESH_SECONDS = 300.0
"""What is older was seen by polling long ago."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """One event. id: the bus's own; the same when it is delivered again.  kind: of SOURCES.
    at: unix seconds at which it happened.  alarm: the name of the alarm it tells of."""

    id: str
    kind: str
    at: float
    alarm: str | None = None


def read(
    id: str, source: str, kind: str, time: datetime, detail: Mapping[str, Any]
) -> Pushed | None:
    """Return an event of EventBridge, None for one that is not known here."""
    if SOURCES.get(kind) != source:
        return None
    alarm = detail.get("alarmName")
    at = (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
    return Pushed(id, kind, at, alarm if isinstance(alarm, str) else None)


def is_fresh(pushed: Pushed, now: float) -> bool:
    """Tell whether polling may not have seen it yet. One of the future is made up, or a clock is
    wrong; to look costs little."""
    return now - pushed.at <= FRESH_SECONDS


def concerns(pushed: Pushed, rollout: Rollout) -> bool:
    """Tell whether a rollout may stand otherwise for it: it watches that alarm, or moves or follows
    traffic, which any deployment may own from now on."""
    if pushed.kind != ALARM:
        return any(target.kind != FLAG for target in rollout.targets)
    return any(
        guard.signal.measure is Measure.ALARM
        and pushed.alarm in _alarms(guard.signal.get("alarms"))
        for guard in rollout.guards
    )


def _alarms(told: Any) -> tuple[str, ...]:
    return told if isinstance(told, tuple) else (told,)
