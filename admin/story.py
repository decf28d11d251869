"""What the record says, in sentences: who did what, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
    environment: str | None
    what: str
    why: str | None
    tone: str


def line(entry: Body) -> Line:
    """Return a decoded entry of the record in words. What is not known is named as it is."""
    kind, _, name = entry["target"].partition("/")
    teller, tone = _TELLERS.get(entry["action"], (None, "neutral"))
    what = entry["action"].replace(":", " ")
    if teller is not None:
        what = teller(entry.get("before") or {}, entry.get("after") or {})
    return Line(
        seq=entry["seq"],
        at=entry["ts"],
        actor=entry["actor"],
        role=entry["role"],
        target=name or kind,
        flag=name if kind == "flag" else None,
        environment=entry["environment"],
        what=what,
        why=entry["reason"],
        tone=tone,
    )


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


def _critical(before: Body, after: Body) -> str:
    if before.get("critical") != after.get("critical"):
        return "made critical" if after["critical"] else "no longer critical"
    return "environment edited"


def _plain(text: str) -> Callable[[Body, Body], str]:
    return lambda before, after: text


_TELLERS: dict[str, tuple[Callable[[Body, Body], str] | None, str]] = {
    "flag:create": (_plain("flag created"), "neutral"),
    "flag:edit": (_edited, "neutral"),
    "flag:archive": (_plain("flag archived"), "neutral"),
    "flag:unarchive": (_plain("flag brought back"), "neutral"),
    "flag:share:change": (_changed_state, "accent"),
    "flag:kill": (_killed, "danger"),
    "flag:unkill": (_unkilled, "accent"),
    "environment:create": (_plain("environment created"), "neutral"),
    "environment:edit": (_critical, "neutral"),
    "token:create": (lambda before, after: f"{after.get('scope')} token made", "neutral"),
    "token:adopt": (lambda before, after: f"{after.get('scope')} token adopted", "neutral"),
    "token:revoke": (lambda before, after: f"{after.get('scope')} token revoked", "neutral"),
    "session:begin": (_plain("signed in"), "neutral"),
}
"""Action -> how it is told, and in which tone."""
