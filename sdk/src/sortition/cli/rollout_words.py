"""A rollout in words: where it stands, what its targets have, what its guards say. Nothing but text
is made here; it reads the rollout as the API gives it (shares in percent, times in seconds)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from .output import clean, duration, percent

Rollout = Mapping[str, Any]

PPM_PER_PERCENT = 10_000

STANDING_STILL = frozenset({"holding", "paused"})

NO_NAME = "custom"
"""What a schedule is called that was written down step by step, without a name."""

VERDICTS = {
    "pass": "✔ pass",
    "fail": "✖ fail",
    "not_enough_data": "… not enough data",
    "no_data": "? no data",
    "error": "! error",
}
"""Verdict -> its sign and words."""

RELATIONS = {
    "lock_step": "in lock-step: flags and traffic both get the step's share",
    "on_canary": "on the canary: flags are on where the new version runs",
    "after": "after: the flags begin when the traffic is complete",
}
"""How flags and traffic relate, for people."""

_ALB = re.compile(
    r"arn:[^:]*:elasticloadbalancing:[^:]*:[^:]*:listener(-rule)?/app/([^/]+)/[^/]+/(?:.*/)?([^/]+)"
)


@dataclass(frozen=True)
class GuardRow:
    """One guard as it stood at the last look. verdict: its key in VERDICTS, "" before any look."""

    name: str
    canary: str
    stable: str
    limit: str
    verdict: str


# --- where it stands ------------------------------------------------------------------------------


def title(it: Rollout) -> str:
    """Return what is rolled out where: `api 2.4.0 in production`."""
    version = f" {it['version']}" if it["version"] else ""
    return clean(f"{it['service']}{version} in {it['environment']}")


def schedule(it: Rollout) -> str:
    """Return what it goes by: `5%:5m,100%`, after its name where it has one."""
    name, text = clean(it["schedule_name"]), it["schedule"]
    return f"{name}, {text}" if name not in {text, NO_NAME} else str(text)


def state(it: Rollout) -> str:
    """Return the state with its sign: `▶ Running`."""
    return f"{it['state_icon']} {it['state_words']}"


def step(it: Rollout) -> str:
    """Return the step and its share: `step 2/4 at 25 %`."""
    if not it["step"]:
        return "before the first step"
    return f"step {it['step']}/{len(it['steps'])} at {percent(share(it))}"


def share(it: Rollout) -> float:
    """Return the share of the step that it is at, in percent; 0 before the first."""
    return float(it["steps"][it["step"] - 1]["share"]) if it["step"] else 0.0


def reason(it: Rollout) -> str:
    """Return why it waits or went back, "" when neither."""
    back, waiting = it["rollback"], it["waiting"]
    if back is not None:
        if it["terminal"] or not back["trouble"]:
            return clean(back["reason"])
        by_hand = f" By hand: {'; '.join(it['by_hand'])}" if it["by_hand"] else ""
        return clean(f"{back['reason']} Not confirmed yet: {back['trouble']}{by_hand}")
    return clean(waiting["reason"]) if waiting is not None else ""


def is_settled(it: Rollout) -> bool:
    """Tell whether every target has what the step gives it."""
    return bool(it["step"]) and all(
        target["confirmed"] is not None and target["confirmed"] == target["intended"]
        for target in it["targets"]
    )


def left(it: Rollout, age: float = 0.0) -> float | None:
    """Return the seconds until this step's hold is over, None while the timer stands.

    age: seconds since the rollout was read; the server's own count is used, so that clocks which
    disagree do not matter.
    """
    if it["due"] is None or not it["step"] or it["terminal"]:
        return None
    hold = float(it["steps"][it["step"] - 1]["hold"])
    return max(0.0, hold - float(it["elapsed"]) - age)


def time_left(it: Rollout, age: float = 0.0) -> str:
    """Return how long this step is still held, in words; "" while the timer stands."""
    seconds = left(it, age)
    if seconds is None:
        return ""
    if not seconds:
        return "about to go on"
    # Nobody waits for the second while minutes are left.
    return f"{duration(seconds if seconds < 90 else 60 * round(seconds / 60))} left"


WHO_WENT_BACK = {"person": "Rolled back by somebody", "engine": "Rolled back by its engine"}
"""How a rollback is told that no guard began."""


def rollback_times(it: Rollout) -> str:
    """Return how long a rollback took: `Detected 12:09:26Z, at 0 % 4s later.`"""
    back = it["rollback"]
    if back is None:
        return ""
    words = [f"{WHO_WENT_BACK.get(back['by'], 'Detected')} {clock(back['detected'])}"]
    if back["first_bad"]:
        before = unix(back["detected"]) - unix(back["first_bad"])
        words.append(f"{duration(before)} after the first bad data point")
    if back["confirmed"]:
        after = unix(back["confirmed"]) - unix(back["detected"])
        words.append(f"at 0 % {duration(after)} later" if round(after) else "at 0 % at once")
    return ", ".join(words) + "."


# --- targets --------------------------------------------------------------------------------------


def target(each: Mapping[str, Any]) -> str:
    """Return a target's short name: a flag's key, `alb shop 9683b2d02a6cabee`."""
    if each["kind"] == "flag":
        return clean(each["name"])
    match = _ALB.fullmatch(each["name"])
    if match is None:
        return clean(f"{each['kind']} {each['name']}")
    is_rule, balancer, id = match.groups()
    return clean(f"{each['kind']} {balancer} {id if is_rule else 'default rule'}")


def target_of(id: str) -> str:
    """Return the short name for a target's id: `flag/new-search` -> `new-search`."""
    kind, _, name = id.partition("/")
    return target({"kind": kind, "name": name})


def observed(it: Rollout, each: Mapping[str, Any]) -> str:
    """Return the share that a controller last saw a target have, "" where there is no other side
    that could be looked at, or nobody looked since it was taken back."""
    shares = (it["last_look"] or {}).get("observed") or {}
    id = f"{each['kind']}/{each['name']}"
    if id not in shares or _is_outdated(it):
        return ""
    # A look is kept as the controller writes it: in parts per million.
    return "unclear" if shares[id] is None else percent(shares[id] / PPM_PER_PERCENT)


def _is_outdated(it: Rollout) -> bool:
    """Tell whether the last look is of before everything was taken back."""
    confirmed = (it["rollback"] or {}).get("confirmed")
    return confirmed is not None and unix(it["last_look"]["at"]) < unix(confirmed)


def confirmed(each: Mapping[str, Any]) -> str:
    """Return the share that a target is known to have."""
    return "not known" if each["confirmed"] is None else percent(each["confirmed"])


# --- the engine that is followed ------------------------------------------------------------------

NOT_YET = frozenset({"Pending", "Skipped"})
"""Statuses of lifecycle events that nobody has to be told of."""


def lane(it: Rollout) -> str:
    """Return how the engine that is followed stands: `CodeDeploy d-1 InProgress`; "" where none
    is."""
    found = it.get("lane")
    if not found:
        return ""
    back = f", going back by {found['back']} {found['back_status']}" if found["back"] else ""
    return clean(f"{found['engine']} {found['deployment']} {found['status']}{back}")


def lane_events(it: Rollout) -> list[str]:
    """Return its lifecycle so far: `d-1 AllowTraffic Succeeded`."""
    events = (it.get("lane") or {}).get("events") or []
    return [
        clean(f"{e['deployment']} {e['name']} {e['status']}" + (f": {said}" if said else ""))
        for e in events
        if e["status"] not in NOT_YET
        for said in [e["message"]]
    ]


# --- guards ---------------------------------------------------------------------------------------


def guard_rows(it: Rollout) -> list[GuardRow]:
    """Return every guard with what the last look said of it."""
    said = {verdict["guard"]: verdict for verdict in (it["last_look"] or {}).get("guards") or []}
    return [_guard_row(guard, said.get(guard["name"])) for guard in it["guards"]]


def guards_short(it: Rollout, most: int = 4) -> str:
    """Return the guards that have numbers on one line, failing ones first."""
    said = (it["last_look"] or {}).get("guards") or []
    found = [v for v in said if v["value"] is not None and v["signal"]["measure"] != "alarm"]
    found.sort(key=lambda verdict: verdict["kind"] != "fail")
    return "  ".join(
        clean(
            f"{v['guard']} {measured(v['signal']['measure'], v['value'])}"
            f" of {measured(v['signal']['measure'], v['limit'])}"
        )
        for v in found[:most]
    )


def limit(guard: Mapping[str, Any]) -> str:
    """Return what a guard demands: `≤ 1 %`, `≤ 1000 ms, 2 × stable`."""
    measure = guard["signal"]["measure"]
    if measure == "alarm":
        return "quiet" if guard["limit"] <= 1 else f"< {guard['limit']:g}, which it always is"
    sign = {"unhealthy_hosts": "<", "healthy_ratio": "≥"}.get(measure, "≤")
    factor = guard.get("baseline_factor")
    also = f", {factor:g} × stable" if factor else ""
    return f"{sign} {measured(measure, guard['limit'])}{also}"


def measured(measure: str, value: float | None) -> str:
    """Return a value in its unit: fractions in percent, seconds in milliseconds."""
    if value is None:
        return "–"
    if measure in {"rate", "healthy_ratio"}:
        return f"{value * 100:.3g} %"
    if measure == "latency":
        return f"{value * 1000:.0f} ms"
    if measure == "alarm":
        return "firing" if value else "quiet"
    return f"{value:.6g}"


def _guard_row(guard: Mapping[str, Any], said: Mapping[str, Any] | None) -> GuardRow:
    measure = guard["signal"]["measure"]
    return GuardRow(
        clean(guard["name"]),
        measured(measure, said["value"] if said else None),
        measured(measure, said["control"] if said else None),
        limit(guard),
        said["kind"] if said else "",
    )


# --- time and bars --------------------------------------------------------------------------------


def unix(instant: str) -> float:
    """Return the unix seconds of an RFC 3339 instant in UTC."""
    # Python 3.10 does not read the Z.
    return datetime.fromisoformat(instant.replace("Z", "+00:00")).timestamp()


def clock(instant: str | float) -> str:
    """Return an instant's time of day in UTC: `12:09:26Z`."""
    seconds = unix(instant) if isinstance(instant, str) else instant
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%H:%M:%SZ")


def rfc3339(seconds: float) -> str:
    """Return unix seconds as RFC 3339 has them."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def bar(part: float, width: int, signs: str = "#.") -> str:
    """Return a bar: so much of it is full (0..1). signs: of what is full, and of the rest."""
    full = round(max(0.0, min(1.0, part)) * width)
    return signs[0] * full + signs[1] * (width - full)


def around(steps: Sequence[Any], now: int, most: int) -> tuple[int, int]:
    """Return which of many steps to show: from, to (exclusive), with the current one among them."""
    if len(steps) <= most:
        return 0, len(steps)
    first = max(0, min(now - most // 3, len(steps) - most))
    return first, first + most
