"""`/api/v1/rollouts/{id}/drill`: a rollback that is made to happen on purpose, and its proof."""

from __future__ import annotations

from typing import Any

# pydantic asks for this TypedDict below Python 3.12, and brings it.
from typing_extensions import TypedDict

from flagserver.domain.access import CHANGE, READ
from flagserver.domain.commands import Reasoned
from flagserver.domain.times import from_unix

from .rollouts import ROLLOUT
from .routing import Call, Routes

routes = Routes()


class ToldJson(TypedDict):
    """A notice, and which notifiers have delivered it."""

    kind: str
    at: str
    title: str
    notifiers: list[str]


class DrillJson(TypedDict):
    """What a drill showed so far. Seconds: from its beginning to the decision to go back, and from
    that to 0 %, confirmed; null before. passed: it went back by itself, and somebody was told."""

    rollout: str
    environment: str
    service: str
    state: str
    began: str
    by: str
    reason: str | None
    guard: str | None
    detected: str | None
    restored: str | None
    seconds_to_detect: float | None
    seconds_to_restore: float | None
    told: list[ToldJson]
    passed: bool


@routes.add(
    *("POST", f"{ROLLOUT}/drill", CHANGE, {200: ("It is in the record.", DrillJson)}),
    model=Reasoned,
)
def begin_drill(call: Call, id: str) -> Any:
    """Write down that this rollout is made to fail on purpose; refused where it is critical."""
    drills, by = call.services.drills, call.principal
    drills.begin(id, call.body, by)
    return _proof(call, id)


@routes.add("GET", f"{ROLLOUT}/drill", READ, {200: ("What it showed.", DrillJson)})
def read_drill(call: Call, id: str) -> Any:
    """Read what a drill showed: time to detect, to restore, and who was told."""
    return _proof(call, id)


def _proof(call: Call, id: str) -> DrillJson:
    proof = call.services.drills.proof(id, call.principal)
    it, cause = proof.rollout, proof.rollout.rollback
    verdict = None if cause is None else cause.verdict
    confirmed = None if cause is None else cause.confirmed
    return {
        "rollout": it.id,
        "environment": it.environment,
        "service": it.service,
        "state": str(it.state),
        "began": from_unix(proof.began),
        "by": proof.by,
        "reason": None if cause is None else cause.reason,
        "guard": None if verdict is None else str(verdict["guard"]),
        "detected": None if cause is None else from_unix(cause.detected),
        "restored": None if confirmed is None else from_unix(confirmed),
        "seconds_to_detect": proof.detected_after,
        "seconds_to_restore": proof.restored_after,
        "told": [
            {
                "kind": each.notice.kind,
                "at": each.notice.at,
                "title": each.notice.title,
                "notifiers": list(each.notifiers),
            }
            for each in proof.told
        ],
        "passed": proof.passed,
    }
