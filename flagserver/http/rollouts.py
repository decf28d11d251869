"""`/api/v1/rollouts`: planned, started, followed, and taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flask import Response

from flagserver.domain.access import READ, ROLL_OUT, SHRINK
from flagserver.domain.commands import Enlarging, Reasoned
from flagserver.domain.errors import NotFound
from flagserver.domain.rollout_commands import NewRollout, RolloutPlan
from flagserver.domain.states import State
from flagserver.services.lists import Wanted
from flagserver.services.rollouts import Enlarge, Shrink
from flagserver.services.turns import RolloutView

from . import present, present_rollouts
from .errors import Problem
from .query import Choice, Number, Switch, Words
from .routing import Call, Routes, View, visible

routes = Routes()

ROLLOUTS = "/api/v1/rollouts"
ROLLOUT = f"{ROLLOUTS}/{{id}}"

THE_ROLLOUT = ("The rollout.", present_rollouts.RolloutJson)


@routes.add(
    *("GET", ROLLOUTS, READ, {200: ("Newest first.", present_rollouts.RolloutsJson)}),
    query={
        "environment": Words("only of this one"),
        "state": Choice("only in this state", tuple(State)),
        "flag": Words("only those that move this flag"),
        "live": Switch("only those that have not ended"),
        "before": Words("only those created before this one: `next` of the page before"),
        "limit": Number("at most so many", 1, 200, 50),
    },
)
def list_rollouts(call: Call) -> Any:
    """List rollouts, newest first."""
    asked = Wanted(
        environment=visible(call.principal, call.query["environment"]),
        state=call.query["state"],
        flag=call.query["flag"] or None,
        live=call.query["live"],
    )
    rollouts, before = call.services.rollouts, call.query["before"] or None
    try:
        page = rollouts.page(asked, before=before, limit=call.query["limit"])
    except NotFound as error:
        raise Problem(422, "invalid_field", error.detail, parameter="?before") from None
    standings, looks = rollouts.standings(page.views), rollouts.last_looks(page.views)
    return {
        "rollouts": [
            present_rollouts.rollout(v, standings[v.rollout.id], looks.get(v.rollout.id))
            for v in page.views
        ],
        "next": page.following,
    }


@routes.add(
    *("POST", f"{ROLLOUTS}/plan", READ),
    {200: ("What it would do.", present_rollouts.RolloutPlanJson)},
    model=RolloutPlan,
)
def plan_rollout(call: Call) -> Any:
    """Say what every step of a rollout would really do; nothing is changed."""
    return present_rollouts.plan(call.services.rollouts.plan(call.body, call.principal))


@routes.add(*("POST", ROLLOUTS, ROLL_OUT, {201: THE_ROLLOUT}), model=NewRollout)
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
    query={
        "limit": Number("at most so many looks", 1, 400, 400),
        "series": Switch("with every tick that it was judged by, as `rollouts replay` reads them"),
    },
)
def rollout_evidence(call: Call, id: str) -> Any:
    """Read what controllers saw at a rollout, what the record says of it, and how both versions
    differ."""
    rollouts, grounds, by = call.services.rollouts, call.services.grounds, call.principal
    return {
        "rollout": _rollout(call, rollouts.get(id, by))[0],
        "looks": rollouts.looks(id, by, limit=call.query["limit"]),
        "entries": present.history(rollouts.history(id, by))["entries"],
        "differences": [present_rollouts.difference(one) for one in grounds.differences(id, by)],
        "series": grounds.series(id, by) if call.query["series"] else None,
    }


LINES = "application/x-ndjson"


@routes.add(
    *("GET", f"{ROLLOUT}/evidence/series", READ),
    {200: ("A line of JSON each: the head, then every look with its ticks.", LINES)},
)
def rollout_series(call: Call, id: str) -> Any:
    """Export what a rollout was judged by, tick by tick, for whoever replays it; empty where
    nothing was compared."""
    bodies = call.services.grounds.series(id, call.principal)
    lines = "".join(f"{json.dumps(body, ensure_ascii=False)}\n" for body in bodies)
    return Response(lines, mimetype=LINES, headers={"Cache-Control": "no-store"})


# --- on its way -----------------------------------------------------------------------------------


DRY = {"dry_run": Switch("only say what would become of it")}


def enlarging(verb: str) -> Callable[[View], View]:
    """Declare what lets exposure grow: at the revision that was seen, and no other."""
    path, answers = f"{ROLLOUT}/{verb}", {200: THE_ROLLOUT}
    return routes.add("POST", path, ROLL_OUT, answers, model=Enlarging, revision=True, query=DRY)


def shrinking(verb: str) -> Callable[[View], View]:
    """Declare what lets nothing grow: without a revision, to whatever is there."""
    path, answers = f"{ROLLOUT}/{verb}", {200: THE_ROLLOUT}
    return routes.add(
        *("POST", path, SHRINK, answers), model=Reasoned, optional_revision=True, query=DRY
    )


@enlarging("start")
def begin_rollout(call: Call, id: str) -> Any:
    """Start a rollout now that waits for its time."""
    return _enlarge(call, id, call.services.rollouts.begin)


@shrinking("hold")
def hold_rollout(call: Call, id: str) -> Any:
    """Stop the timer and every move up, until somebody resumes."""
    return _shrink(call, id, call.services.rollouts.hold)


@enlarging("resume")
def resume_rollout(call: Call, id: str) -> Any:
    """Go on after somebody held it, or changed a target or flag of it."""
    return _enlarge(call, id, call.services.rollouts.resume)


@enlarging("advance")
def advance_rollout(call: Call, id: str) -> Any:
    """Skip the rest of this step's wait."""
    return _enlarge(call, id, call.services.rollouts.advance)


@enlarging("approve")
def approve_rollout(call: Call, id: str) -> Any:
    """Approve of going on from this step."""
    return _enlarge(call, id, call.services.rollouts.approve)


@shrinking("rollback")
def roll_rollout_back(call: Call, id: str) -> Any:
    """Take everything back to 0 %; waits for nobody."""
    return _shrink(call, id, call.services.rollouts.roll_back)


@shrinking("notes")
def note_rollout(call: Call, id: str) -> Any:
    """Add words to a rollout's record: why it was taken back, what was found since."""
    return _shrink(call, id, call.services.rollouts.note)


def _enlarge(call: Call, id: str, verb: Enlarge) -> Any:
    asked = (id, call.body, call.revision(), call.principal, call.idempotency)
    return _rollout(call, verb(*asked, dry=call.query["dry_run"]))


def _shrink(call: Call, id: str, verb: Shrink) -> Any:
    asked = (id, call.body, call.principal, call.optional_revision(), call.idempotency)
    return _rollout(call, verb(*asked, dry=call.query["dry_run"]))


def _rollout(call: Call, view: RolloutView, status: int = 200) -> Any:
    rollouts, id = call.services.rollouts, view.rollout.id
    standing, look = rollouts.standings([view])[id], rollouts.last_looks([view]).get(id)
    judged = rollouts.judgement(view)
    shown = present_rollouts.rollout(view, standing, look, judged)
    return shown, status, present.etag(view.revision)
