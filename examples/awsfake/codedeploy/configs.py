"""Deployment configurations: how much of the traffic goes over, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULT = "CodeDeployDefault.OneAtATime"
"""What a group has when it names none: of no use for ECS, as at AWS."""

CUSTOM = 50
"""Most configurations of one's own."""

LARGEST = 99
"""Most percent of one increment."""

LONGEST = 2880
"""Most minutes from the first increment to the last."""

Increment = tuple[int, int]
"""(percent that goes to green from now on, minutes until the next one)."""


def _canary(percent: int, minutes: int) -> dict[str, Any]:
    told = {"canaryPercentage": percent, "canaryInterval": minutes}
    return {"type": "TimeBasedCanary", "timeBasedCanary": told}


def _linear(percent: int, minutes: int) -> dict[str, Any]:
    told = {"linearPercentage": percent, "linearInterval": minutes}
    return {"type": "TimeBasedLinear", "timeBasedLinear": told}


PREDEFINED: Mapping[str, tuple[str, dict[str, Any] | None]] = {
    "CodeDeployDefault.OneAtATime": ("Server", None),
    "CodeDeployDefault.HalfAtATime": ("Server", None),
    "CodeDeployDefault.AllAtOnce": ("Server", None),
    "CodeDeployDefault.ECSAllAtOnce": ("ECS", {"type": "AllAtOnce"}),
    "CodeDeployDefault.ECSCanary10Percent5Minutes": ("ECS", _canary(10, 5)),
    "CodeDeployDefault.ECSCanary10Percent15Minutes": ("ECS", _canary(10, 15)),
    "CodeDeployDefault.ECSLinear10PercentEvery1Minutes": ("ECS", _linear(10, 1)),
    "CodeDeployDefault.ECSLinear10PercentEvery3Minutes": ("ECS", _linear(10, 3)),
}
"""Name -> compute platform and routing, of those that concern us."""


def increments(routing: Mapping[str, Any]) -> list[Increment]:
    """Return what a routing does, in order; the last one gives everything and waits for nothing."""
    if routing["type"] == "TimeBasedCanary":
        canary = routing["timeBasedCanary"]
        return [(canary["canaryPercentage"], canary["canaryInterval"]), (100, 0)]
    if routing["type"] == "TimeBasedLinear":
        linear = routing["timeBasedLinear"]
        percent, minutes = linear["linearPercentage"], linear["linearInterval"]
        return [*((share, minutes) for share in range(percent, 100, percent)), (100, 0)]
    return [(100, 0)]


def problem(routing: Mapping[str, Any] | None) -> str | None:
    """Return what AWS refuses about a routing, or None."""
    kinds = {"TimeBasedCanary": "timeBasedCanary", "TimeBasedLinear": "timeBasedLinear"}
    if not routing or routing.get("type") not in {*kinds, "AllAtOnce"}:
        return "A traffic routing configuration with a known type is required."
    kind = kinds.get(routing["type"])
    if set(routing) - {"type"} != ({kind} if kind else set()):
        return f"{routing['type']} goes with {kind or 'nothing else'}, and with nothing else."
    if kind is None:
        return None
    percent, minutes = _numbers(routing[kind])
    if percent is None or not 1 <= percent <= LARGEST:
        return f"A percentage is from 1 to {LARGEST}."
    if minutes is None or minutes < 1:
        return "An interval is at least 1 minute."
    if sum(wait for _, wait in increments(routing)) > LONGEST:
        return f"All increments must be done within {LONGEST} minutes."
    return None


def _numbers(told: Mapping[str, Any]) -> tuple[int | None, int | None]:
    percent = told.get("canaryPercentage", told.get("linearPercentage"))
    return percent, told.get("canaryInterval", told.get("linearInterval"))
