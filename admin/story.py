"""What the record says, in sentences: who did what, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flagserver.domain import events

from . import present

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of the record as a page tells it. what: a sentence without the thing's name."""

    seq: int
    at: str
    actor: str
    role: str
    target: str
    flag: str | None
    rollout: str | None
    environment: str | None
    what: str
    why: str | None
    tone: str
    approver: str | None = None
    """Who approved of it, where a second person had to."""
    undo: str | None = None
    """What was served before it, where that can be served again."""
    person: str | None = None
    """Who it was done to, as actors are named."""


def line(entry: Body) -> Line:
    """Return a decoded entry of the record in words."""
    kind, _, name = entry["target"].partition("/")
    teller, tone = _TELLERS.get(entry["action"], (None, "neutral"))
    what = events.words(entry["action"])
    if teller is not None:
        what = teller(entry.get("before") or {}, entry.get("after") or {})
    person = _person(entry["target"])
    if person is not None:
        # Who it is stands before it.
        what = what.removeprefix("somebody ")
    return Line(
        seq=entry["seq"],
        at=entry["ts"],
        actor=entry["actor"],
        role=entry["role"],
        target=name or kind,
        flag=name if kind == "flag" else None,
        rollout=name if kind == "rollout" else None,
        environment=entry["environment"],
        what=what,
        why=entry["reason"],
        tone=tone,
        approver=_approver(entry.get("after")),
        undo=_undo(entry),
        person=person,
    )


def _person(target: str) -> str | None:
    if target.startswith("person/"):
        return target.replace("/", ":", 1)
    return target if target.startswith("person:") else None


def _approver(after: Any) -> str | None:
    approval = after.get("approval") if isinstance(after, dict) else None
    return approval.get("by") if isinstance(approval, dict) else None


def _undo(entry: Body) -> str | None:
    before = entry.get("before")
    if entry["action"] != "flag:share:change" or not before:
        return None
    return present.percent(before["share"])


def _changed_state(before: Body, after: Body) -> str:
    parts = []
    if before.get("share") != after.get("share"):
        parts.append(
            f"share {present.percent(before.get('share', 0))} → {present.percent(after['share'])}"
        )
    fields = ("weights", "conditions", "prerequisites")
    parts += [f"{field} changed" for field in fields if before.get(field) != after.get(field)]
    return ", ".join(parts) or "nothing that is served"


def _killed(before: Body, after: Body) -> str:
    return f"killed at {present.percent(after['share'])}"


def _unkilled(before: Body, after: Body) -> str:
    return f"no longer killed: {present.percent(after['share'])} again"


def _edited(before: Body, after: Body) -> str:
    fields = [f for f in ("description", "owner", "kind") if before.get(f) != after.get(f)]
    return f"{' and '.join(fields) or 'nothing'} edited"


def _environment_edited(before: Body, after: Body) -> str:
    parts = []
    if before.get("critical") != after.get("critical"):
        parts.append("made critical" if after["critical"] else "no longer critical")
    days = after.get("retention_days")
    if before.get("retention_days") != days:
        parts.append(f"record kept for {days} {'day' if days == 1 else 'days'}")
    return ", ".join(parts) or "environment edited"


def _said(words: str) -> Callable[[Body, Body], str]:
    return lambda before, after: words


def _step_begun(before: Body, after: Body) -> str:
    return f"step {after['step'] + 1} begun: going to {_largest(after['intended'])}"


def _step_confirmed(before: Body, after: Body) -> str:
    return f"step {after['step'] + 1}: {_largest(after['confirmed'])} confirmed"


def _goes_back(before: Body, after: Body) -> str:
    share = _largest(before.get("confirmed") or {})
    return f"rolling back from {share}" if before.get("confirmed") else "rolling back"


def _followed(before: Body, after: Body) -> str:
    return f"followed {_engine(after)} to {_largest(after['confirmed'])}"


def _engine_says(before: Body, after: Body) -> str:
    """Tell the newest that an engine says of itself: `CodeDeploy: Install Succeeded`."""
    lane = after.get("lane") or {}
    told = [it for it in lane.get("events", ()) if it["status"] not in {"Pending", "Skipped"}]
    newest = f"{told[-1]['name']} {told[-1]['status']}" if told else lane.get("status", "")
    return f"{_engine(after)}: {newest}"


def _engine(after: Body) -> str:
    return str((after.get("lane") or {}).get("engine", "the engine"))


def _largest(shares: Body) -> str:
    return present.percent(max(shares.values(), default=0))


_TELLERS: dict[str, tuple[Callable[[Body, Body], str], str]] = {
    "flag:edit": (_edited, "neutral"),
    "flag:share:change": (_changed_state, "accent"),
    "flag:kill": (_killed, "danger"),
    "flag:unkill": (_unkilled, "accent"),
    "rollout:step:begin": (_step_begun, "neutral"),
    "rollout:step:confirm": (_step_confirmed, "accent"),
    "rollout:step:follow": (_followed, "accent"),
    "rollout:engine:note": (_engine_says, "neutral"),
    "rollout:wait:begin": (_said("holds"), "warn"),
    "rollout:wait:change": (_said("holds for another reason"), "warn"),
    "rollout:rollback:begin": (_goes_back, "danger"),
    "rollout:rollback:fail": (_said("rollback cannot be confirmed"), "danger"),
    "rollout:rollback:confirm": (_said("back at 0 %"), "danger"),
    "rollout:complete": (_said("complete"), "ok"),
    "environment:edit": (_environment_edited, "neutral"),
    "token:create": (lambda before, after: f"{after.get('scope')} token made", "neutral"),
    "token:adopt": (lambda before, after: f"{after.get('scope')} token adopted", "neutral"),
    "token:revoke": (lambda before, after: f"{after.get('scope')} token revoked", "neutral"),
}
"""Action -> how it is told where there is more to say than `events.words`, and in which tone."""
