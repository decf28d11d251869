"""What CodeDeploy says of a deployment to ECS, in our words: names, shares, and the lane. Pure.

`codedeploy.CodeDeployDriver` asks; here is what its answers mean.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sortition.core.bucketing import WHOLE

from flagserver.domain.engines import Event, Lane, Phase
from flagserver.domain.errors import Invalid
from flagserver.domain.schedule import Schedule, Step
from flagserver.domain.targets import Reading, Target

from .hooks import OURS

ENGINE = "CodeDeploy"

NAME = r"[A-Za-z0-9+=,.@_-]{1,100}"
DEPLOYMENT = re.compile(r"d-[A-Z0-9]{1,30}")
GROUP = re.compile(rf"(?:([a-z]{{2}}(?:-[a-z]+)+-\d):)?({NAME})/({NAME})")

Told = Mapping[str, Any]
"""Something in AWS's own words."""


@dataclass(frozen=True, slots=True)
class Followed:
    """A target as AWS has to be asked for it, settled."""

    region: str
    application: str
    group: str
    deployment: str
    service: str
    previous: str

    @property
    def words(self) -> str:
        """The group for people: `shop/blue-green`."""
        return f"{self.application}/{self.group}"


def check_named(target: Target) -> None:
    """Raise Invalid for a name or settings of which nothing can be found."""
    unknown = sorted(name for name, _ in target.settings if name != "region")
    if unknown:
        raise Invalid(
            f"A codedeploy target has the setting region, not {', '.join(unknown)}.",
            field=f"/settings/{unknown[0]}",
        )
    if not (DEPLOYMENT.fullmatch(target.name) or GROUP.fullmatch(target.name)):
        raise Invalid(
            f"{target.name!r} is neither the id of a deployment (d-3XAMPL3ID) nor "
            "APPLICATION/GROUP.",
            field="/name",
        )


def followed_of(target: Target) -> Followed:
    """Return what a settled target names. Raises Invalid."""
    match = GROUP.fullmatch(target.name)
    parts = {name: target.get(name) for name in ("region", "deployment", "service", "previous")}
    if match is None or not all(isinstance(part, str) for part in parts.values()):
        raise Invalid(f"{target.name} was not settled before it began.", field="/name")
    told = {name: str(part) for name, part in parts.items()}
    return Followed(application=match[2], group=match[3], **told)


def schedule_of(name: str, routing: Told) -> Schedule:
    """Return what a deployment configuration does as a schedule. routing: its
    trafficRoutingConfig."""
    canary, linear = routing.get("timeBasedCanary"), routing.get("timeBasedLinear")
    shares: Sequence[int] = ()
    minutes = 0
    if canary:
        shares, minutes = [canary["canaryPercentage"]], canary["canaryInterval"]
    elif linear:
        shares = range(linear["linearPercentage"], 100, linear["linearPercentage"])
        minutes = linear["linearInterval"]
    steps = (Step(share * WHOLE // 100, minutes * 60) for share in shares)
    return Schedule(name, (*steps, Step(WHOLE)))


def waits_of(info: Told, group: Told) -> int:
    """Return the seconds that a deployment waits at most besides shifting its traffic: for leave to
    go on, and until the old version's task set goes. Where it tells of none, its group's hold."""
    options = info.get("blueGreenDeploymentConfiguration") or {}
    options = options or group.get("blueGreenDeploymentConfiguration") or {}
    ready = options.get("deploymentReadyOption") or {}
    ends = options.get("terminateBlueInstancesOnDeploymentSuccess") or {}
    minutes = 0
    if ready.get("actionOnTimeout") == "STOP_DEPLOYMENT":
        minutes += int(ready.get("waitTimeInMinutes") or 0)
    if ends.get("action") == "TERMINATE":
        minutes += int(ends.get("terminationWaitTimeInMinutes") or 0)
    return minutes * 60


def way_back_description(it: Followed) -> str:
    """Return how a deployment is described by which we go back: who reads it knows us by it."""
    return f"{OURS} goes back from {it.deployment}."


def pair_of(info: Told) -> Told:
    """Return a deployment's pair of target groups, with its routes."""
    pairs: Sequence[Told] = info["loadBalancerInfo"]["targetGroupPairInfoList"]
    return pairs[0]


def newer(it: Followed, info: Told, newest: Told | None) -> str | None:
    """Return that somebody deploys something else since this one was over."""
    if newest is None or newest["createTime"] <= info["createTime"]:
        return None
    return f"{newest['deploymentId']} deploys something newer to {it.words}."


def lane_of(reading: Reading) -> Lane:
    """Return what is followed's lane, which its readings have."""
    assert reading.lane is not None  # noqa: S101 (says the docstring)
    return reading.lane


def green_set(target: Told) -> Told:
    """Return the replacement task set of a deployment's target; empty while there is none."""
    sets = target.get("taskSetsInfo") or []
    return next((each for each in sets if each.get("taskSetLabel") == "Green"), {})


def weight_of(task_set: Told) -> int:
    """Return the share (ppm) that CodeDeploy says a task set has."""
    return round(float(task_set.get("trafficWeight") or 0.0) * WHOLE / 100)


def _events(target: Told) -> Sequence[Told]:
    """Return the lifecycle events of a deployment's target."""
    return target.get("lifecycleEvents") or ()


def weight_in(rule: Told, pair: Collection[str], group: str) -> int:
    """Return the share (ppm) that a rule gives one group of a pair; 0 for a rule of others."""
    for action in rule.get("Actions") or []:
        tuples = (action.get("ForwardConfig") or {}).get("TargetGroups") or []
        weights = {each["TargetGroupArn"]: int(each.get("Weight", 1)) for each in tuples}
        if set(weights) & set(pair) and sum(weights.values()):
            return weights.get(group, 0) * WHOLE // sum(weights.values())
    return 0


# --- what it says of itself -----------------------------------------------------------------------


def lane_from(it: Followed, info: Told, target: Told, back: Told | None) -> Lane:
    """Return the lane of a deployment. target: its one target; back: the way back, with its own."""
    events = [_event(it.deployment, each) for each in _events(target)]
    if back is not None:
        events += [_event(back["deploymentId"], each) for each in _events(back["target"])]
    return Lane(
        engine=ENGINE,
        deployment=it.deployment,
        status=info["status"],
        phase=_phase(info, target, back),
        reason=_reason(info),
        back=None if back is None else back["deploymentId"],
        back_status=None if back is None else back["status"],
        events=tuple(events),
    )


def _phase(info: Told, target: Told, back: Told | None) -> Phase:
    status = info["status"]
    if back is not None:
        if back["status"] in {"Failed", "Stopped"}:
            return Phase.BROKEN
        return Phase.GONE_BACK if is_through(back) else Phase.GOING_BACK
    if status in {"Failed", "Stopped"}:
        return Phase.BROKEN
    if status == "Succeeded":
        return Phase.DONE
    if status == "Ready":
        return Phase.READY
    events = {event["lifecycleEventName"]: event.get("status") for event in _events(target)}
    traffic = events.get("AllowTraffic", "Pending")
    if status == "Baking" or traffic == "Succeeded":
        return Phase.WATCHING
    return Phase.PREPARING if traffic == "Pending" else Phase.SHIFTING


def is_through(back: Told) -> bool:
    """Tell whether a deployment by which the traffic goes back has nothing more to do but to wait
    until the task set that it replaced may go, which can take days."""
    statuses = {event.get("status") for event in _events(back["target"])}
    over = bool(statuses) and statuses <= {"Succeeded", "Skipped"}
    return over or back["status"] == "Succeeded"


def settled(lane: Lane, share: int) -> Lane:
    """Return a lane whose engine broke off, as it is when nothing of the traffic is left over."""
    if lane.phase is not Phase.BROKEN or share:
        return lane
    return replace(lane, phase=Phase.GONE_BACK)


def _reason(info: Told) -> str | None:
    """Return why a deployment ended badly, in CodeDeploy's words."""
    if info["status"] not in {"Failed", "Stopped"}:
        return None
    error = info.get("errorInformation") or {}
    code, message = error.get("code"), str(error.get("message") or "").rstrip(".")
    said = ": ".join(part for part in (code, message) if part)
    return f"{ENGINE} {info['deploymentId']} {info['status'].lower()}: {said or 'no reason given'}."


def _event(deployment: str, told: Told) -> Event:
    diagnostics = told.get("diagnostics") or {}
    return Event(
        deployment,
        told.get("lifecycleEventName", ""),
        told.get("status", "Unknown"),
        _seconds(told.get("startTime")),
        _seconds(told.get("endTime")),
        diagnostics.get("message"),
    )


def _seconds(at: Any) -> float | None:
    return None if at is None else round(float(at.timestamp()), 3)
