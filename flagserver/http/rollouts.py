"""`/api/v1/rollouts`: planned, started, followed, and taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flagserver.domain.access import CHANGE, READ, SHRINK
from flagserver.domain.commands import Enlarging, Reasoned
from flagserver.domain.rollout_commands import NewRollout, RolloutPlan
from flagserver.services.turns import RolloutView

from . import present, present_rollouts
from .query import Number, Switch, Words
from .routing import Call, Routes, visible

routes = Routes()

ROLLOUTS = "/api/v1/rollouts"
ROLLOUT = f"{ROLLOUTS}/{{id}}"

THE_ROLLOUT = ("The rollout.", present_rollouts.RolloutJson)


@routes.add(
    *("GET", ROLLOUTS, READ, {200: ("Rollouts.", present_rollouts.RolloutsJson)}),
    query={
        "environment": Words("only of this one"),
        "live": Switch("only those that have not ended"),
    },
)
def list_rollouts(call: Call) -> Any:
    """List rollouts, those that have not ended first."""
    asked = visible(call.principal, call.query["environment"])
    rollouts = call.services.rollouts
    views = rollouts.all(asked, ended=not call.query["live"])
    standings, looks = rollouts.standings(views), rollouts.last_looks(views)
    return {
        "rollouts": [
            present_rollouts.rollout(v, standings[v.rollout.id], looks.get(v.rollout.id))
            for v in views
        ]
    }


@routes.add(
    *("POST", f"{ROLLOUTS}/plan", READ),
    {200: ("What it would do.", present_rollouts.RolloutPlanJson)},
    model=RolloutPlan,
)
def plan_rollout(call: Call) -> Any:
    """Say what every step of a rollout would really do; nothing is changed."""
    return present_rollouts.plan(call.services.rollouts.plan(call.body, call.principal))


@routes.add(*("POST", ROLLOUTS, CHANGE, {201: THE_ROLLOUT}), model=NewRollout)
def start_rollout(call: Call) -> Any:
    """Start a rollout; the same Idempotency-Key twice is the same rollout."""
    start = call.services.rollouts.start
    return _rollout(call, start(call.body, call.principal, call.idempotency), 201)


@routes.add("GET", ROLLOUT, READ, {200: THE_ROLLOUT})
def read_rollout(call: Call, id: str) -> Any:
    """Read a rollout as it stands."""
    return _rollout(call, call.services.rollouts.get(id, call.principal))


@routes.add(
    *("GET", f"{ROLLOUT}/evidence", READ),
    {200: ("What it rests on.", present_rollouts.EvidenceJson)},
    query={"limit": Number("at most so many looks", 1, 400, 400)},
)
def rollout_evidence(call: Call, id: str) -> Any:
    """Read what controllers saw at a rollout, and what the record says of it."""
    rollouts, by = call.services.rollouts, call.principal
    return {
        "rollout": _rollout(call, rollouts.get(id, by))[0],
        "looks": rollouts.looks(id, by, limit=call.query["limit"]),
        "entries": present.history(rollouts.history(id, by))["entries"],
    }


@routes.add(
    *("POST", f"{ROLLOUT}/start", CHANGE, {200: THE_ROLLOUT}),
    model=Enlarging,
    revision=True,
)
def begin_rollout(call: Call, id: str) -> Any:
    """Start a rollout now that waits for its time."""
    return _enlarge(call, id, call.services.rollouts.begin)


@routes.add(
    *("POST", f"{ROLLOUT}/hold", SHRINK, {200: THE_ROLLOUT}),
    model=Reasoned,
    optional_revision=True,
)
def hold_rollout(call: Call, id: str) -> Any:
    """Stop the timer and every move up, until somebody resumes."""
    return _shrink(call, id, call.services.rollouts.hold)


@routes.add(
    *("POST", f"{ROLLOUT}/resume", CHANGE, {200: THE_ROLLOUT}),
    model=Enlarging,
    revision=True,
)
def resume_rollout(call: Call, id: str) -> Any:
    """Go on after somebody held it, or changed a target or flag of it."""
    return _enlarge(call, id, call.services.rollouts.resume)


@routes.add(
    *("POST", f"{ROLLOUT}/advance", CHANGE, {200: THE_ROLLOUT}),
    model=Enlarging,
    revision=True,
)
def advance_rollout(call: Call, id: str) -> Any:
    """Skip the rest of this step's wait."""
    return _enlarge(call, id, call.services.rollouts.advance)


@routes.add(
    *("POST", f"{ROLLOUT}/approve", CHANGE, {200: THE_ROLLOUT}),
    model=Enlarging,
    revision=True,
)
def approve_rollout(call: Call, id: str) -> Any:
    """Approve of going on from this step."""
    return _enlarge(call, id, call.services.rollouts.approve)


@routes.add(
    *("POST", f"{ROLLOUT}/rollback", SHRINK, {200: THE_ROLLOUT}),
    model=Reasoned,
    optional_revision=True,
)
def roll_rollout_back(call: Call, id: str) -> Any:
    """Take everything back to 0 %; waits for nobody."""
    return _shrink(call, id, call.services.rollouts.roll_back)


def _enlarge(call: Call, id: str, verb: Callable[..., RolloutView]) -> Any:
    return _rollout(call, verb(id, call.body, call.revision(), call.principal, call.idempotency))


def _shrink(call: Call, id: str, verb: Callable[..., RolloutView]) -> Any:
    revision, idempotency = call.optional_revision(), call.idempotency
    return _rollout(call, verb(id, call.body, call.principal, revision, idempotency))


def _rollout(call: Call, view: RolloutView, status: int = 200) -> Any:
    rollouts, id = call.services.rollouts, view.rollout.id
    standing, look = rollouts.standings([view])[id], rollouts.last_looks([view]).get(id)
    shown = present_rollouts.rollout(view, standing, look)
    return shown, status, present.etag(view.revision)
