"""Every route with a request that it takes, for tests that walk all of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from flagserver.domain import approvals, documents, people
from flagserver.domain.access import ALLOWED
from flagserver.domain.approvals import Base, Wish
from flagserver.domain.documents import Change, Fact, Write
from flagserver.domain.flags import State
from flagserver.domain.people import NewPerson
from flagserver.http import ofrep
from flagserver.http.routing import PUBLIC, Route
from flagserver.services.sealing import Sealer
from flagserver.system import SystemClock, SystemEntropy
from tests.anchors import FakeAnchors
from tests.gates import DEPLOYMENT, FakeGates, an_asking
from tests.record.records import KEY

from .api import SOMEBODY, WHY, Api, Caller

NAMES = {
    "key": "new-search",
    "environment": "production",
    "id": "00000000000a",
    "schedule": "careful",
    "person": "5f2c91ab",
}

ROLLOUT = "r-e45672eca4"
"""The id of the rollout that `furnish` starts: its idempotency key makes it always this one."""

SERVED = State("new-search", "production", 50_000, (("on", 1_000_000),)).to_body()

WISH = Wish(
    *("production", "flag/new-search", "flag:unkill"),
    (Base(documents.states("production"), "new-search", 1),),
    *(WHY, {"before": SERVED | {"killed": True}, "after": SERVED}),
)
"""What waits for a second person."""

A_ROLLOUT: dict[str, Any] = WHY | {
    "environment": "production",
    "service": "shop",
    "schedule": "5%:5m,100%",
    "guards": "none",
}

APPROVAL = approvals.propose(WISH, SOMEBODY, datetime(2026, 1, 1, tzinfo=UTC)).id

A_SCHEDULE = {"schedule": "1%:30m,10%:30m,100%:10m", "description": "For what must not fail."}

BATCH: dict[str, Any] = {
    "format": 1,
    "service.name": "shop",
    "service.version": "1.4.0",
    "instance": "0123456789abcdef",
    "started": 1763880000,
    "seq": 1,
    "ticks": [],
}

BODIES: dict[str, dict[str, Any]] = {
    "create_flag": {"key": "another"},
    "edit_flag": {"owner": "team"},
    "change_state": WHY | {"share": 10},
    "acknowledge_loss": {"reason": "the disk was full"},
    "unkill_flag": WHY,
    "explain_flag": {"request_id": "abc"},
    "plan_rollout": {name: told for name, told in A_ROLLOUT.items() if name not in WHY}
    | {"targets": [{"kind": "flag", "name": "new-cart"}]},
    "start_rollout": A_ROLLOUT | {"targets": [{"kind": "flag", "name": "new-cart"}]},
    "begin_rollout": WHY,
    "resume_rollout": WHY,
    "advance_rollout": WHY,
    "approve_rollout": WHY,
    "note_rollout": {"reason": "the shop was slow"},
    "put_schedule": A_SCHEDULE,
    "mark_rollout": {"mark": None},
    "create_environment": {"key": "another"},
    "edit_environment": {"description": "words"},
    "create_token": {"scope": "admin"},
    "invite_person": {"name": "Ben", "login": "ben"},
    "edit_person": {"name": "Ana B."},
    "sdk_outcomes": BATCH,
    "ask_codedeploy": {"deployment": DEPLOYMENT, "execution": "eyJlbmMiOiJBMjU2R0NNIn0"},
    "hear_eventbridge": {
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "source": "aws.cloudwatch",
        "detail-type": "CloudWatch Alarm State Change",
        "time": "2026-11-23T08:00:00Z",
        "detail": {"alarmName": "sortition-shop", "state": {"value": "ALARM"}},
    },
    "post_metrics": {
        "environment": "production",
        "points": [{"metric": "carts.lost", "service": "shop", "numerator": 3, "denominator": 40}],
    },
    "ofrep_evaluate": {"context": {"targetingKey": "abc"}},
    "ofrep_evaluate_all": {"context": {"targetingKey": "abc"}},
}


def furnish(api: Api) -> None:
    """Make what the paths and bodies name: two flags, a schedule, and a rollout of a third."""
    api.flag("new-search", share=5)
    api.flag("new-cart")
    api.flag("in-rollout")
    kept = api.admin.send("PUT", f"/api/v1/schedules/production/{NAMES['schedule']}", A_SCHEDULE)
    assert kept.status == 201, kept.text
    body = A_ROLLOUT | {"targets": [{"kind": "flag", "name": "in-rollout"}]}
    begun = api.admin.post("/api/v1/rollouts", body, Idempotency_Key="furnish")
    assert begun.json["id"] == ROLLOUT, begun.text
    store = api.services.audit._store
    ana = people.create(NewPerson(name="Ana", login="ana"), id=NAMES["person"], at="t")
    write = Write(documents.PEOPLE, ana.id, 0, ana.to_body())
    fact = Fact("a test", "admin", "person:create", f"person/{ana.id}")
    store.commit(Change((write,), fact), at=api.clock.now(), salt="5f")
    waiting = approvals.propose(WISH, SOMEBODY, api.clock.now())
    write = Write(documents.APPROVALS, waiting.id, 0, waiting.to_body())
    fact = approvals.fact(waiting, approvals.ASK, SOMEBODY, None)
    store.commit(Change((write,), fact), at=api.clock.now(), salt="60")
    Sealer(store, KEY, FakeAnchors(), SystemClock(), SystemEntropy()).seal()
    api.services.hooks._gates = FakeGates({DEPLOYMENT: an_asking()})


def path(route: Route, **names: str) -> str:
    """Return the route's path with names in it."""
    ids = {"/api/v1/rollouts/": ROLLOUT, "/api/v1/approvals/": APPROVAL}
    id = next((id for start, id in ids.items() if route.path.startswith(start)), NAMES["id"])
    known = NAMES | {"id": id} | names
    return re.sub(r"{(\w+)}", lambda found: known[found[1]], route.path)


def address(api: Api, route: Route) -> str:
    """Return the route's path, with a ticket where one opens it."""
    if route.view.__name__ != "ofrep_events":
        return path(route)
    told = api.sdk().post(ofrep.ALL, BODIES["ofrep_evaluate_all"]).json["eventStreams"]
    return str(told[0]["endpoint"]["requestUri"])


def body(route: Route) -> dict[str, Any] | None:
    """Return a body that the route takes, or None where it takes none."""
    return None if route.model is None else BODIES.get(route.view.__name__, {})


def headers(route: Route) -> dict[str, Any]:
    """Return the headers that the route asks for."""
    # A schedule that is there already is written in place of itself.
    there = route.view.__name__ == "put_schedule"
    return {"If_Match": '"1"'} if route.revision or there else {}


def let_in(api: Api, route: Route) -> Caller:
    """Return somebody whom the route lets in."""
    if route.action == PUBLIC:
        return api.nobody
    if route.action in ALLOWED["admin"]:
        return api.admin
    return api.sdk()
