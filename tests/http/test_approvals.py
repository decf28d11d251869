"""A pipeline that asks for what a second person has to approve, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from flagserver.domain.approvals import Approve
from flagserver.domain.commands import NewToken
from flagserver.domain.documents import EVERYWHERE, Principal

from .api import WHY, Api, Caller
from .routes import A_ROLLOUT

ANA, BEN = (
    Principal(f"person:{name}", "admin", "person", roles={EVERYWHERE: "admin"})
    for name in ("ana", "ben")
)
STATE = "/api/v1/flags/new-search/environments/production"
START = A_ROLLOUT | {"targets": [{"kind": "flag", "name": "new-search"}]}


@pytest.fixture
def api(api: Api) -> Api:
    api.flag("new-search")
    wants_two(api, True)
    return api


def wants_two(api: Api, wanted: bool) -> None:
    path = "/api/v1/environments/production"
    revision = api.admin.get(path).json["revision"]
    answer = api.admin.patch(path, {"four_eyes": wanted}, revision=revision)
    assert answer.json["four_eyes"] is wanted


def pipeline(api: Api) -> Caller:
    """Return a token that Ana made."""
    made = api.services.tokens.create(NewToken(scope="deploy", environment="production"), ANA)
    api.follow()
    return Caller(api, made.text)


def approve(api: Api, id: str) -> None:
    seen = api.services.approvals.get(id, BEN).proposal.fingerprint
    api.services.approvals.approve(id, Approve.model_validate(WHY | {"hash": seen}), BEN)
    api.follow()


def test_what_enlarges_is_not_done_and_says_what_waits_and_where(api: Api) -> None:
    answer = api.admin.patch(STATE, WHY | {"share": 25}, revision=0)

    assert (answer.status, answer.code) == (409, "approval_required")
    waiting = answer.json["approval"]
    assert f"/approvals/{waiting}" in answer.json["detail"]
    assert api.admin.get(STATE).json["share"] == 0
    read = api.admin.get(f"/api/v1/approvals/{waiting}").json
    assert (read["state"], read["thing"], read["command"]["share"]) == (
        "open",
        "flag/new-search",
        25.0,
    )
    assert read["summary"] == "take new-search from 0 % to 25 %"


def test_a_job_that_starts_again_attaches_to_what_waits_and_then_to_the_rollout(api: Api) -> None:
    job = pipeline(api)
    first = job.post("/api/v1/rollouts", START, Idempotency_Key="run-17")
    second = job.post("/api/v1/rollouts", START, Idempotency_Key="run-17")
    assert first.json["approval"] == second.json["approval"]

    approve(api, first.json["approval"])
    third = job.post("/api/v1/rollouts", START, Idempotency_Key="run-17")

    assert third.status == 201
    read = job.get(f"/api/v1/approvals/{first.json['approval']}").json
    assert (read["state"], read["outcome"]) == ("approved", f"rollout/{third.json['id']}")
    assert (read["owner"], read["by"]) == (ANA.id, BEN.id)


def test_shrinking_killing_holding_and_taking_back_are_done_at_once(api: Api) -> None:
    job = pipeline(api)
    asked = job.post("/api/v1/rollouts", START, Idempotency_Key="run-17")
    approve(api, asked.json["approval"])
    id = job.post("/api/v1/rollouts", START, Idempotency_Key="run-17").json["id"]

    waits = job.post(f"/api/v1/rollouts/{id}/start", WHY, revision=1)
    back = job.post(f"/api/v1/rollouts/{id}/rollback", {})
    killed = job.post(f"{STATE}/kill", {})

    assert waits.code == "approval_required"
    assert (back.status, killed.status, killed.json["killed"]) == (200, 200, True)


def test_a_start_that_replaces_another_names_it_and_a_verb_tells_its_next_share(api: Api) -> None:
    job = pipeline(api)
    approve(api, job.post("/api/v1/rollouts", START, Idempotency_Key="run-17").json["approval"])
    id = job.post("/api/v1/rollouts", START, Idempotency_Key="run-17").json["id"]

    replaces = job.post("/api/v1/rollouts", START | {"replace": True}).json["approval"]
    begins = job.post(f"/api/v1/rollouts/{id}/start", WHY, revision=1).json["approval"]

    other = api.admin.get(f"/api/v1/approvals/{replaces}").json
    verb = api.admin.get(f"/api/v1/approvals/{begins}").json
    assert other["summary"].endswith(f"in place of {id}")
    assert other["result"]["supersedes"] == id
    first = other["result"]["schedule"]["steps"][0]["share"]
    steps = len(other["result"]["schedule"]["steps"])
    told = {"state": "running", "step": -1, "steps": steps, "share": 0, "next": first}
    assert verb["result"] == told


def test_what_would_be_done_is_told_without_asking_for_it(api: Api) -> None:
    assert api.admin.patch(f"{STATE}?dry_run=1", {"share": 25}, revision=0).status == 200
    assert api.admin.get("/api/v1/approvals").json == {"approvals": []}


@pytest.mark.parametrize("query", ["?state=open", "?environment=production", ""])
def test_what_waits_is_listed(api: Api, query: str) -> None:
    waiting = api.admin.patch(STATE, WHY | {"share": 25}, revision=0).json["approval"]

    found = api.admin.get(f"/api/v1/approvals{query}").json["approvals"]

    assert [each["id"] for each in found] == [waiting]
    assert api.admin.get("/api/v1/approvals?state=expired").json["approvals"] == []
    assert api.admin.get("/api/v1/approvals?environment=staging").json["approvals"] == []


def test_it_is_withdrawn_and_may_be_asked_for_again(api: Api) -> None:
    waiting = api.admin.patch(STATE, WHY | {"share": 25}, revision=0).json["approval"]
    path = f"/api/v1/approvals/{waiting}"

    done = api.admin.post(f"{path}/withdraw", {"reason": "not today"})
    again = api.admin.post(f"{path}/withdraw", {})

    assert (done.status, done.json["state"]) == (200, "withdrawn")
    assert (again.status, again.code) == (409, "conflict")
    assert api.admin.patch(STATE, WHY | {"share": 25}, revision=0).json["approval"] == waiting


def test_what_waits_elsewhere_is_nothing_to_a_token_of_one_environment(api: Api) -> None:
    waiting = api.admin.patch(STATE, WHY | {"share": 25}, revision=0).json["approval"]
    elsewhere = api.deploy("staging")

    assert elsewhere.get("/api/v1/approvals").json["approvals"] == []
    for answer in (
        elsewhere.get(f"/api/v1/approvals/{waiting}"),
        elsewhere.post(f"/api/v1/approvals/{waiting}/withdraw", {}),
    ):
        assert (answer.status, answer.code) == (403, "forbidden")


def test_no_token_approves_whatever_its_scope(api: Api) -> None:
    ways: list[Any] = [
        route.path for route in api.routes if route.path.startswith("/api/v1/approvals")
    ]

    assert sorted(ways) == [
        "/api/v1/approvals",
        "/api/v1/approvals/{id}",
        "/api/v1/approvals/{id}/withdraw",
    ]
