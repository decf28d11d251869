"""`/api/v1/approvals`: what waits for a second person. Only a person approves, on the pages."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue
from typing_extensions import TypedDict

from flagserver.domain import approvals
from flagserver.domain.access import READ
from flagserver.domain.approvals import State
from flagserver.domain.commands import Reasoned
from flagserver.services.proposals import ProposalView

from . import present
from .query import Choice, Words
from .routing import Call, Routes, visible

routes = Routes()

APPROVALS = "/api/v1/approvals"
APPROVAL = f"{APPROVALS}/{{id}}"


class BaseJson(TypedDict):
    """A document that it is about, at the revision that it was asked for."""

    collection: str
    key: str
    revision: int


class ApprovalJson(TypedDict):
    """Something that somebody asked for.

    thing: `flag/<key>`, `rollout/<id>`, or `service/<name>` for a rollout that is not there yet.
    summary: what it is, in words.  hash: SHA-256 of what is approved of.  author, owner, by: opaque
    ids; owner: the person behind an author that is a token; by: who ended it.
    outcome: what it was done to, once it is approved: `rollout/<id>` of a new rollout.
    page: where a person approves, below the server's address.
    """

    id: str
    state: str
    environment: str
    thing: str
    action: str
    summary: str
    base: list[BaseJson]
    command: dict[str, JsonValue]
    result: dict[str, JsonValue]
    hash: str
    author: str
    owner: str | None
    reason: str | None
    created: str
    expires: str
    ended: str | None
    by: str | None
    outcome: str | None
    page: str
    revision: int


class ApprovalsJson(TypedDict):
    """Newest first."""

    approvals: list[ApprovalJson]


THE_APPROVAL = ("What somebody asked for.", ApprovalJson)


@routes.add(
    *("GET", APPROVALS, READ, {200: ("Newest first.", ApprovalsJson)}),
    query={
        "environment": Words("only of this one"),
        "state": Choice("only in this state", tuple(State)),
    },
)
def list_approvals(call: Call) -> Any:
    """List what waits for a second person, and what has waited in the last 30 days."""
    environment, state = visible(call.principal, call.query["environment"]), call.query["state"]
    wanted = State(state) if state else None
    found = call.services.approvals.all(call.principal, environment, wanted)
    return {"approvals": [_told(view) for view in found]}


@routes.add("GET", APPROVAL, READ, {200: THE_APPROVAL})
def read_approval(call: Call, id: str) -> Any:
    """Read what somebody asked for, and how it stands."""
    return _approval(call.services.approvals.get(id, call.principal))


@routes.add("POST", f"{APPROVAL}/withdraw", READ, {200: THE_APPROVAL}, model=Reasoned)
def withdraw_approval(call: Call, id: str) -> Any:
    """Let something wait no longer; for who asked for it, and for who may hold and kill there."""
    return _approval(call.services.approvals.withdraw(id, call.body, call.principal))


def _approval(view: ProposalView) -> Any:
    return _told(view), 200, present.etag(view.revision)


def _told(view: ProposalView) -> ApprovalJson:
    it, asked = view.proposal, view.proposal.asked
    return {
        "id": it.id,
        "state": str(view.state),
        "environment": asked.environment,
        "thing": asked.thing,
        "action": asked.action,
        "summary": approvals.summary(asked),
        "base": [
            {"collection": b.collection, "key": b.key, "revision": b.revision} for b in asked.base
        ],
        "command": dict(asked.command),
        "result": dict(asked.result),
        "hash": it.fingerprint,
        "author": it.author,
        "owner": it.owner,
        "reason": it.reason,
        "created": it.created,
        "expires": it.expires,
        "ended": it.ended,
        "by": it.by,
        "outcome": it.outcome,
        "page": f"/approvals/{it.id}",
        "revision": view.revision,
    }
