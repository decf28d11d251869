"""Rollouts over the API: planned, started once, steered by who may, and every refusal named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.builders import SURE
from tests.engines import ERRORS, FLAG, RULE, Engine, a_body, only_flag

from .api import Answer, Api, Caller, api_of

ROLLOUTS = "/api/v1/rollouts"
ENLARGING = ["start", "resume", "advance", "approve"]
SHRINKING = ["hold", "rollback"]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(directory=tmp_path)


@pytest.fixture
def api(engine: Engine) -> Api:
    return api_of(engine)


def begin(api: Api, **told: Any) -> str:
    """Start a rollout; return its path."""
    begun = api.admin.post(ROLLOUTS, a_body(**told))
    assert begun.status == 201, begun.text
    return f"{ROLLOUTS}/{begun.json['id']}"


def do(caller: Caller, path: str, verb: str, **more: Any) -> Answer:
    """Do something to a rollout at the revision that it has."""
    revision = caller.api.admin.get(path).json["revision"]
    return caller.post(f"{path}/{verb}", why(verb), revision=revision, **more)


def why(verb: str) -> dict[str, Any]:
    """Return what a verb is told; what shrinks takes no confirmation."""
    return SURE if verb in ENLARGING else {"reason": SURE["reason"]}


def staging(**told: Any) -> dict[str, Any]:
    """Return what a rollout of the flag alone in staging says otherwise."""
    return only_flag(environment="staging", confirm_environment="staging", **told)


class TestItsLife:
    def test_from_the_plan_to_its_end(self, api: Api, engine: Engine) -> None:
        plan = api.admin.post(f"{ROLLOUTS}/plan", planned(requests_per_second=100))
        assert [step["shares"][f"flag/{FLAG}"] for step in plan.json["steps"]] == [5, 25, 50, 100]
        assert [step["requests"] for step in plan.json["steps"]] == [1500, 15000, 45000, 0]
        assert plan.json["problems"] == []

        begun = api.admin.post(ROLLOUTS, a_body())
        assert (begun.status, begun.headers["ETag"]) == (201, '"1"')
        assert (begun.json["state"], begun.json["step"]) == ("pending", 0)
        path = f"{ROLLOUTS}/{begun.json['id']}"

        engine.run(100)
        now = api.admin.get(path).json
        assert (now["state"], now["step"], now["last_look"]["does"]) == ("running", 1, "stay")
        assert {target["confirmed"] for target in now["targets"]} == {5.0}
        assert [step["at"] for step in now["steps"]] == ["now", "next", "next", "next"]
        assert now["elapsed"] == pytest.approx(90, abs=10)
        assert now["due"] > now["looked"]

        engine.run(1800)
        ended = api.admin.get(path).json
        assert (ended["state"], ended["terminal"]) == ("completed", True)
        assert {step["at"] for step in ended["steps"]} == {"done"}
        assert do(api.admin, path, "rollback").code == "conflict"

    def test_a_plan_changes_nothing_and_says_what_would_refuse_the_start(
        self, api: Api, engine: Engine
    ) -> None:
        engine.change(FLAG, "production", share=10, **SURE)
        engine.driver.weights[RULE.name].owner = "deployment d-1"

        plan = api.admin.post(f"{ROLLOUTS}/plan", planned())

        assert plan.status == 200
        assert [" ".join(words.split()[:4]) for words in plan.json["problems"]] == [
            "new-search is at 10",
            "deployment d-1 owns arn:rule.",
        ]
        assert api.admin.get(ROLLOUTS).json == {"rollouts": [], "next": None}

    def test_a_plan_is_made_though_the_cloud_is_away(self, api: Api, engine: Engine) -> None:
        engine.driver.down = True

        assert api.admin.post(f"{ROLLOUTS}/plan", planned()).json["problems"] == [
            "The fake is down."
        ]

    def test_one_that_waits_for_its_time_may_be_started_now(self, api: Api, engine: Engine) -> None:
        path = begin(api, start_at="2026-11-24T12:00:00Z")
        engine.run(60)
        assert api.admin.get(path).json["state"] == "pending"

        assert do(api.admin, path, "start").json["state"] == "running"

    def test_held_resumed_advanced_and_approved(self, api: Api, engine: Engine) -> None:
        path = begin(api, schedule="5%:5m:approve,100%")
        engine.run(20)

        assert api.admin.post(f"{path}/hold", {"reason": "lunch"}).json["state"] == "paused"
        assert do(api.admin, path, "resume").json["state"] == "running"
        assert do(api.admin, path, "approve").json["approvals"][0]["step"] == 1
        assert do(api.admin, path, "advance").status == 200
        engine.run(10)
        assert engine.share == 100

    def test_taken_back(self, api: Api, engine: Engine) -> None:
        path = begin(api)
        engine.run(20)

        going = api.admin.post(f"{path}/rollback", {"reason": "looks bad"})

        assert (going.status, going.json["state"]) == (200, "rolling_back")
        assert engine.share == 0
        engine.run(5)
        back = api.admin.get(path).json
        assert (back["state"], engine.weight) == ("rolled_back", 0)
        assert (back["rollback"]["reason"], back["rollback"]["step"]) == ("looks bad", 1)
        assert back["rollback"]["confirmed"] >= back["rollback"]["applied"]
        assert api.admin.get(f"{ROLLOUTS}?live=1").json["rollouts"] == []

    def test_its_revision_rises_to_its_end_and_over_it(self, api: Api, engine: Engine) -> None:
        path = begin(api)
        seen = [api.admin.get(path).json["revision"]]
        while not api.admin.get(path).json["terminal"]:
            engine.run(5)
            seen.append(api.admin.get(path).json["revision"])

        ended = api.admin.get(path)
        assert seen == sorted(seen)
        assert seen[-1] > seen[-2] > 2
        assert (ended.json["revision"], ended.headers["ETag"]) == (seen[-1], f'"{seen[-1]}"')

    def test_whoever_takes_it_back_is_told_the_revision_that_it_ended_at(
        self, api: Api, engine: Engine
    ) -> None:
        path = begin(api, **only_flag())
        engine.run(20)
        before = api.admin.get(path).json["revision"]

        answer = do(api.admin, path, "rollback")
        engine.run(10)

        ended = api.admin.get(path).json
        assert (ended["state"], ended["terminal"]) == ("rolled_back", True)
        assert before < answer.json["revision"] <= ended["revision"]
        listed = api.admin.get(ROLLOUTS).json["rollouts"]
        assert [it["revision"] for it in listed] == [ended["revision"]]

    def test_a_newer_one_takes_over(self, api: Api, engine: Engine) -> None:
        older = begin(api, relation="on_canary")
        engine.run(20)
        refused = api.admin.post(ROLLOUTS, a_body(version="3"))
        assert (refused.status, refused.code) == (409, "conflict")

        newer = begin(api, version="3", replace=True)

        ended, begun = api.admin.get(older).json, api.admin.get(newer).json
        assert (ended["state"], ended["superseded_by"]) == ("superseded", begun["id"])
        assert begun["supersedes"] == ended["id"]
        # What tied the flag to the older version is gone with it.
        assert engine.flags.state(FLAG, "production").state.conditions == ()
        engine.run(20)
        assert (engine.weight, engine.share) == (5, 5)

    def test_whoever_takes_over_is_checked_for_what_is_new(self, api: Api, engine: Engine) -> None:
        begin(api)
        unknown = {"kind": "alb", "name": "arn:other", "settings": {}}

        refused = api.admin.post(
            ROLLOUTS, a_body(version="3", replace=True, targets=[*a_body()["targets"], unknown])
        )

        assert (refused.status, refused.field) == (422, "/targets/2/name")

    def test_when_nobody_looks_it_is_unknown(self, api: Api, engine: Engine) -> None:
        path = begin(api)
        engine.run(20)
        engine.clock.seconds += 61

        shown = api.admin.get(path).json
        assert (shown["state"], shown["state_words"], shown["due"]) == ("unknown", "Unknown", None)

        engine.let_leases_end()
        engine.run(5)
        assert api.admin.get(path).json["state"] == "running"

    def test_one_that_nobody_begins_is_unknown_once_it_is_due(
        self, api: Api, engine: Engine
    ) -> None:
        due, later = begin(api), begin(api, **staging(start_at="2026-11-23T13:00:00Z"))
        engine.clock.seconds += 61
        assert api.admin.get(due).json["state"] == "unknown"
        assert api.admin.get(later).json["state"] == "pending"

        engine.clock.seconds += 3600
        assert api.admin.get(later).json["state"] == "unknown"

    def test_its_evidence(self, api: Api, engine: Engine) -> None:
        path = begin(api)
        engine.run(200)

        found = api.admin.get(f"{path}/evidence").json

        assert found["rollout"]["step"] == 1
        actions = [entry["action"] for entry in found["entries"]]
        assert actions == [
            *("rollout:step:confirm", "rollout:step:begin", "rollout:start", "rollout:create"),
        ]
        [verdict] = found["looks"][-1]["guards"]
        assert (verdict["guard"], verdict["kind"], verdict["value"]) == ("errors", "pass", 0)
        times = [look["at"] for look in found["looks"]]
        assert times == sorted(times)
        assert api.admin.get(f"{path}/evidence?limit=1").json["looks"] == found["looks"][-1:]


class TestAskedTwice:
    def test_the_same_start_is_the_same_rollout(self, api: Api, engine: Engine) -> None:
        first = api.admin.post(ROLLOUTS, a_body(), Idempotency_Key="deploy-7")
        engine.run(20)
        again = api.admin.post(ROLLOUTS, a_body(), Idempotency_Key="deploy-7")

        assert (first.status, again.status) == (201, 201)
        assert first.json["id"] == again.json["id"]
        assert again.json["state"] == "running"

    def test_another_start_with_the_same_key_is_refused(self, api: Api) -> None:
        api.admin.post(ROLLOUTS, a_body(), Idempotency_Key="deploy-7")

        other = api.admin.post(ROLLOUTS, a_body(version="3"), Idempotency_Key="deploy-7")

        assert (other.status, other.code) == (422, "idempotency_mismatch")
        assert len(api.admin.get(ROLLOUTS).json["rollouts"]) == 1

    @pytest.mark.parametrize("verb", ["advance", "hold", "rollback"])
    def test_a_verb_whose_answer_was_lost(self, api: Api, engine: Engine, verb: str) -> None:
        path = begin(api)
        engine.run(20)
        revision = api.admin.get(path).json["revision"]
        asked = {"revision": revision, "Idempotency_Key": "once"}

        first = api.admin.post(f"{path}/{verb}", why(verb), **asked)
        engine.run(20)
        now = api.admin.get(path).json
        again = api.admin.post(f"{path}/{verb}", why(verb), **asked)

        assert (first.status, again.status, again.json) == (200, 200, now)


class TestNotes:
    def test_a_note_is_in_the_record_once_and_changes_nothing(
        self, api: Api, engine: Engine
    ) -> None:
        path = begin(api)
        engine.run(20)
        api.admin.post(f"{path}/rollback", {})
        engine.run(20)
        before = api.admin.get(path).json
        told = {"reason": "the shop was slow"}

        for _ in range(2):
            noted = api.admin.post(f"{path}/notes", told, Idempotency_Key="once")
            assert (noted.status, noted.json) == (200, before)

        entries = api.admin.get(f"{path}/evidence").json["entries"]
        notes = [it for it in entries if it["action"] == "rollout:note"]
        assert [it["reason"] for it in notes] == ["the shop was slow"]

    def test_a_note_says_something_that_names_nobody(self, api: Api) -> None:
        path = begin(api)

        for body in ({}, {"reason": " "}, {"reason": "ask ana@example.org"}):
            refused = api.admin.post(f"{path}/notes", body)
            assert (refused.status, refused.field) == (422, "/reason"), body
        assert api.admin.post(f"{path}/notes", {"reason": "x"}, revision=99).status == 412
        entries = api.admin.get(f"{path}/evidence").json["entries"]
        assert all(it["action"] != "rollout:note" for it in entries)

    def test_whoever_may_take_it_back_may_say_why(self, api: Api) -> None:
        path = begin(api)
        told = {"reason": "slow"}

        assert api.deploy("staging").post(f"{path}/notes", told).code == "forbidden"
        assert api.deploy("production").post(f"{path}/notes", told).status == 200


class TestWho:
    def test_a_deploy_token_sees_and_steers_its_own_environment(
        self, api: Api, engine: Engine
    ) -> None:
        theirs, mine = begin(api), begin(api, **staging())
        engine.run(20)
        caller = api.deploy("staging")

        assert [r["environment"] for r in caller.get(ROLLOUTS).json["rollouts"]] == ["staging"]
        assert caller.get(f"{ROLLOUTS}?environment=production").code == "forbidden"
        for path in (theirs, f"{theirs}/evidence"):
            assert (caller.get(path).status, caller.get(path).code) == (403, "forbidden")
        before = api.admin.get(theirs).json
        for verb in (*ENLARGING, *SHRINKING):
            assert do(caller, theirs, verb).code == "forbidden", verb
        assert api.admin.get(theirs).json == before
        assert caller.post(ROLLOUTS, a_body()).code == "forbidden"
        assert caller.post(f"{ROLLOUTS}/plan", planned()).code == "forbidden"
        assert do(caller, mine, "advance").status == 200
        assert caller.post(f"{mine}/rollback").json["state"] == "rolling_back"

    def test_an_sdk_token_is_refused(self, api: Api) -> None:
        path, sdk = begin(api), api.sdk()

        answers = [
            *(sdk.get(each) for each in (ROLLOUTS, path, f"{path}/evidence")),
            *(do(sdk, path, verb) for verb in (*ENLARGING, *SHRINKING)),
            *(sdk.post(ROLLOUTS, a_body()), sdk.post(f"{ROLLOUTS}/plan", planned())),
        ]

        assert {(answer.status, answer.code) for answer in answers} == {(403, "forbidden")}

    def test_the_list_by_environment_and_what_is_live(self, api: Api, engine: Engine) -> None:
        first = begin(api, **staging())
        engine.run(20)
        api.admin.post(f"{first}/rollback")
        engine.run(20)
        begin(api)

        def listed(query: str) -> list[tuple[str, str]]:
            found = api.admin.get(f"{ROLLOUTS}{query}").json["rollouts"]
            return [(rollout["environment"], rollout["state"]) for rollout in found]

        assert listed("") == [("production", "pending"), ("staging", "rolled_back")]
        assert listed("?environment=staging") == [("staging", "rolled_back")]
        assert listed("?environment=staging&live=1") == []
        assert listed("?live=1") == [("production", "pending")]
        assert listed("?environment=elsewhere") == []


class TestSafely:
    @pytest.mark.parametrize("verb", ENLARGING)
    def test_what_enlarges_names_the_revision_that_was_seen(
        self, api: Api, engine: Engine, verb: str
    ) -> None:
        path = begin(api)
        engine.run(20)
        before = api.admin.get(path).json

        without = api.admin.post(f"{path}/{verb}", SURE)
        stale = api.admin.post(f"{path}/{verb}", SURE, revision=1)

        assert (without.status, without.code) == (428, "revision_required")
        assert (stale.status, stale.code) == (412, "stale_revision")
        assert stale.json["revision"] == before["revision"]
        assert api.admin.get(path).json == before

    @pytest.mark.parametrize("verb", SHRINKING)
    def test_what_shrinks_waits_for_nobody_but_may_be_exact(
        self, api: Api, engine: Engine, verb: str
    ) -> None:
        path = begin(api)
        engine.run(20)

        assert api.admin.post(f"{path}/{verb}", If_Match='"1"').code == "stale_revision"
        assert api.admin.post(f"{path}/{verb}").status == 200

    @pytest.mark.parametrize("verb", ENLARGING)
    def test_enlarging_in_a_critical_environment_says_why_and_where(
        self, api: Api, engine: Engine, verb: str
    ) -> None:
        path = begin(api)
        engine.run(20)
        revision = api.admin.get(path).json["revision"]

        why = api.admin.post(f"{path}/{verb}", {}, revision=revision)
        where = api.admin.post(
            f"{path}/{verb}", {"reason": "x", "confirm_environment": "staging"}, revision=revision
        )

        assert (why.status, why.code, why.field) == (422, "reason_required", "/reason")
        assert (where.code, where.field) == ("confirmation_required", "/confirm_environment")

    def test_so_does_a_start_but_not_elsewhere(self, api: Api) -> None:
        unsure = {name: told for name, told in a_body().items() if name not in SURE}

        why = api.admin.post(ROLLOUTS, unsure)
        elsewhere = api.admin.post(ROLLOUTS, {**unsure, **only_flag(environment="staging")})

        assert (why.code, why.field) == ("reason_required", "/reason")
        assert elsewhere.status == 201

    @pytest.mark.parametrize("verb", SHRINKING)
    def test_shrinking_there_needs_no_words(self, api: Api, engine: Engine, verb: str) -> None:
        path = begin(api)
        engine.run(20)

        assert api.admin.post(f"{path}/{verb}").status == 200

    def test_what_cannot_be_says_what_can(self, api: Api, engine: Engine) -> None:
        path = begin(api)
        engine.run(20)
        api.admin.post(f"{path}/rollback")

        for verb in ("start", "resume", "advance", "approve", "hold"):
            answer = do(api.admin, path, verb)
            assert (answer.status, answer.code) == (409, "conflict"), verb
        assert api.admin.get(path).json["state"] == "rolling_back"

    def test_a_target_that_somebody_owns_or_that_does_not_answer(
        self, api: Api, engine: Engine
    ) -> None:
        engine.driver.weights[RULE.name].owner = "deployment d-1"
        owned = api.admin.post(ROLLOUTS, a_body())
        engine.driver.down = True
        away = api.admin.post(ROLLOUTS, a_body())

        assert (owned.status, owned.code, owned.field) == (409, "target_owned", "/targets/1/name")
        assert (away.status, away.code) == (503, "target_unavailable")
        assert away.headers["Retry-After"] == "2"
        assert api.admin.get(ROLLOUTS).json["rollouts"] == []


def planned(**told: Any) -> dict[str, Any]:
    """Return a body without what only a start takes."""
    return {name: value for name, value in a_body(**told).items() if name not in SURE}


TARGETS = a_body()["targets"]
A_GUARD = a_body()["guards"][0]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"environment": "elsewhere"}, "/environment"),
    ({"environment": "No"}, "/environment"),
    ({"service": ""}, "/service"),
    ({"version": None}, "/version"),
    ({"relation": "beside"}, "/relation"),
    (only_flag(relation="on_canary"), "/relation"),
    ({"schedule": "soon"}, "/schedule"),
    ({"schedule": 5}, "/schedule"),
    ({"schedule": "5%:5m,101%"}, "/schedule/steps/1/share"),
    ({"schedule": "50%:5m,25%:5m,100%"}, "/schedule/steps/1/share"),
    ({"schedule": {"steps": []}}, "/schedule/steps"),
    ({"schedule": {"steps": [{"share": 101}]}}, "/schedule/steps/0/share"),
    ({"schedule": {"steps": [{"share": 5, "hold": "soon"}]}}, "/schedule/steps/0/hold"),
    ({"schedule": {"steps": [{"share": 100}], "bake": "x"}}, "/schedule/bake"),
    ({"targets": []}, "/targets"),
    ({"targets": [TARGETS[0], TARGETS[0]]}, "/targets/1"),
    ({"targets": [TARGETS[0], {"kind": "dns", "name": "x"}]}, "/targets/1/kind"),
    ({"targets": [{"kind": "flag", "name": "nothing"}]}, "/targets/0/name"),
    ({"targets": [{"kind": "alb", "name": "arn:other"}]}, "/targets/0/name"),
    ({"targets": [{**TARGETS[0], "mode": "follow"}]}, "/targets/0/mode"),
    ({"guards": "some"}, "/guards"),
    ({"guards": [{**A_GUARD, "limit": 2}]}, "/guards/0/limit"),
    ({"guards": [{**A_GUARD, "limit": "x"}]}, "/guards/0/limit"),
    ({"guards": [A_GUARD, A_GUARD]}, "/guards/1/name"),
    ({"guards": [A_GUARD] * 51}, "/guards"),
    (
        {"guards": [{**A_GUARD, "signal": {"source": "moon", "measure": "rate"}}]},
        "/guards/0/signal/source",
    ),
    ({"guards": "standard"}, "/guards"),
    ({"start_at": "2027-01-31T22:00:00"}, "/start_at"),
    ({"requests_per_second": 0}, "/requests_per_second"),
    ({"colour": "red"}, "/colour"),
]


class TestBadInput:
    @pytest.mark.parametrize(("told", "field"), BAD, ids=lambda value: str(value)[:60])
    def test_names_its_field_and_changes_nothing(
        self, api: Api, engine: Engine, told: dict[str, Any], field: str
    ) -> None:
        answer = api.admin.post(ROLLOUTS, {**a_body(), **told})

        assert (answer.status, answer.field) == (422, field), answer.text
        assert api.admin.get(ROLLOUTS).json["rollouts"] == []
        assert engine.flags.state(FLAG, "production").revision == 0

    def test_a_signal_or_alarm_that_cannot_be_measured(self, api: Api, engine: Engine) -> None:
        engine.source.unusable[ERRORS] = "load_balancer"

        answer = api.admin.post(ROLLOUTS, a_body())

        assert answer.field == "/guards/0/signal/settings/load_balancer"

    def test_a_flag_that_is_tied_to_the_version_already(self, api: Api, engine: Engine) -> None:
        tie = {"attribute": "service.version", "operator": "in", "values": ["2"]}
        engine.change(FLAG, "production", conditions=[tie], **SURE)

        answer = api.admin.post(ROLLOUTS, a_body(relation="on_canary"))

        assert (answer.status, answer.code) == (409, "conflict")
        assert "Take it out first" in answer.text

    def test_what_is_not_there_is_not_found(self, api: Api) -> None:
        for path in (f"{ROLLOUTS}/r-none", f"{ROLLOUTS}/r-none/evidence", f"{ROLLOUTS}/R%20"):
            assert (api.admin.get(path).status, api.admin.get(path).code) == (404, "not_found")
        assert api.admin.post(f"{ROLLOUTS}/r-none/rollback").code == "not_found"
