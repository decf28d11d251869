"""Schedules by name: what is built in, each environment's templates, and what rollouts make of
them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakeredis
import pytest

from flagserver.domain import templates
from flagserver.storage.redis import keys
from tests.engines import FLAG, Engine, a_body, only_flag

from .api import Answer, Api, api_of

SCHEDULES = "/api/v1/schedules"
CAREFUL = f"{SCHEDULES}/production/careful"
STEPS = "1%:30m,10%:30m:approve:n=1000,100%:10m"
ROLLOUTS = "/api/v1/rollouts"
PRODUCTION = "/api/v1/environments/production"


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(directory=tmp_path)


@pytest.fixture
def api(engine: Engine) -> Api:
    return api_of(engine)


def put(api: Api, steps: Any = STEPS, path: str = CAREFUL, **more: Any) -> Answer:
    return api.admin.send("PUT", path, {"schedule": steps}, **more)


def kept(api: Api, steps: Any = STEPS, path: str = CAREFUL) -> Answer:
    made = put(api, steps, path)
    assert made.status == 201, made.text
    return made


def begun(api: Api, **told: Any) -> dict[str, Any]:
    """Start a rollout of the flag alone; return it."""
    answer = api.admin.post(ROLLOUTS, a_body(**only_flag(**told)))
    assert answer.status == 201, answer.text
    return dict(answer.json)


class TestKept:
    def test_under_its_name_as_it_was_written(self, api: Api) -> None:
        made = api.admin.send("PUT", CAREFUL, {"schedule": STEPS, "description": "Slowly."})

        assert (made.status, made.headers["ETag"]) == (201, '"1"')
        assert api.admin.get(CAREFUL).json == made.json
        assert {name: made.json[name] for name in ("name", "environment", "text", "revision")} == {
            "name": "careful",
            "environment": "production",
            "text": STEPS,
            "revision": 1,
        }
        assert (made.json["duration"], made.json["bake"], made.json["end"]) == (4200, 600, 100)
        assert made.json["steps"][1] == {
            "share": 10,
            "hold": 1800,
            "approval": True,
            "minimum_sample": 1000,
        }

    def test_step_by_step(self, api: Api) -> None:
        steps = [{"share": 1, "hold": "30m"}, {"share": 50}]

        made = put(api, {"steps": steps, "end": 50, "bake": "1h", "name": "another"})

        assert (made.json["text"], made.json["name"]) == ("1%:30m,50%:1h:end", "careful")

    def test_after_one_that_is_built_in(self, api: Api) -> None:
        made = put(api, "CodeDeployDefault.ECSCanary10Percent5Minutes")

        assert (made.json["name"], made.json["text"]) == ("careful", "10%:5m,100%")

    def test_it_is_replaced_at_its_revision_only(self, api: Api) -> None:
        kept(api)

        blind, stale = put(api, "50%:5m,100%"), put(api, "50%:5m,100%", revision=7)
        replaced = put(api, "50%:5m,100%", revision=1)

        assert (blind.status, blind.code) == (428, "revision_required")
        assert (stale.status, stale.code, stale.json["revision"]) == (412, "stale_revision", 1)
        assert (replaced.status, replaced.json["revision"]) == (200, 2)
        assert api.admin.get(CAREFUL).json["text"] == "50%:5m,100%"

    def test_a_revision_of_one_that_is_not_there_is_stale(self, api: Api) -> None:
        assert put(api, revision=1).code == "stale_revision"

    @pytest.mark.parametrize("revision", [0, 2])
    def test_it_goes_at_its_revision_only(self, api: Api, revision: int) -> None:
        kept(api)

        assert api.admin.delete(CAREFUL, {}).code == "revision_required"
        stale = api.admin.delete(CAREFUL, {}, revision=revision)
        assert (stale.code, stale.json["revision"]) == ("stale_revision", 1)
        assert api.admin.delete(CAREFUL, {}, revision=1).json["deleted"] is True
        assert api.admin.get(CAREFUL).status == 404

    def test_a_dry_run_says_what_would_be_and_changes_nothing(self, api: Api) -> None:
        new = put(api, path=f"{CAREFUL}?dry_run=1")
        kept(api)
        changed = put(api, "50%:5m,100%", path=f"{CAREFUL}?dry_run=1")
        refused = put(api, "50%:5m", path=f"{CAREFUL}?dry_run=1")

        assert (new.json["before"], new.json["after"]["text"]) == (None, STEPS)
        assert changed.json["before"]["text"] == STEPS
        assert changed.json["after"]["text"] == "50%:5m,100%"
        assert refused.field == "/schedule/steps/0/share"
        assert api.admin.get(CAREFUL).json["revision"] == 1

    def test_and_the_record_says_who_did_what(self, api: Api) -> None:
        kept(api)
        put(api, "50%:5m,100%", revision=1)
        api.admin.delete(CAREFUL, {"reason": "nobody used it"}, revision=2)

        entries = api.store.history(
            target="schedule/production/careful", environment=None, before=None, limit=9
        )

        assert [entry["action"] for entry in entries] == [
            *("schedule:delete", "schedule:edit", "schedule:create"),
        ]
        deleted = entries[0]
        assert (deleted["after"], deleted["reason"]) == (None, "nobody used it")
        assert deleted["before"] == entries[1]["after"]

    def test_the_same_key_twice_is_done_once(self, api: Api) -> None:
        first = put(api, Idempotency_Key="once")
        again = put(api, Idempotency_Key="once")
        gone = api.admin.delete(CAREFUL, {}, revision=1, Idempotency_Key="gone")
        gone_again = api.admin.delete(CAREFUL, {}, revision=1, Idempotency_Key="gone")

        assert first.json == again.json
        assert (gone.status, gone_again.status, gone.json) == (200, 200, gone_again.json)
        assert api.admin.get(CAREFUL).code == "not_found"

    def test_no_sdk_hears_of_it(self, api: Api) -> None:
        before = api.sdk().get("/api/v1/sdk/snapshot").json
        kept(api)

        assert api.sdk().get("/api/v1/sdk/snapshot").json == before

    def test_so_many_and_no_more(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(templates, "MOST", 2)
        for name in ("a", "b"):
            kept(api, path=f"{SCHEDULES}/production/{name}")

        refused = put(api)

        assert (refused.status, refused.code) == (409, "conflict")
        assert put(api, "50%:5m,100%", f"{SCHEDULES}/production/a", revision=1).status == 200


class TestRefused:
    @pytest.mark.parametrize(
        ("steps", "field"),
        [
            ("101%:5m,100%", "/schedule/steps/0/share"),
            ("0%:5m,100%", "/schedule/steps/0/share"),
            ("25%:5m,5%:5m,100%", "/schedule/steps/1/share"),
            ("5%:0s,100%", "/schedule/steps/0/hold"),
            ("5%,100%", "/schedule/steps/0/hold"),
            ("5%:5m", "/schedule/steps/0/share"),
            ("no-such", "/schedule"),
            ({"steps": [{"share": 101, "hold": "5m"}]}, "/schedule/steps/0/share"),
            (
                {"steps": [{"share": 5, "hold": "0s"}, {"share": 100}]},
                "/schedule/steps/0/hold",
            ),
            (
                {"steps": [{"share": 5, "hold": "1m"}, {"share": 4, "hold": "1m"}, {"share": 100}]},
                "/schedule/steps/1/share",
            ),
            ({"steps": []}, "/schedule/steps"),
            ({"steps": [{"share": 100}], "bake": "8d"}, "/schedule/bake"),
        ],
        ids=str,
    )
    def test_what_cannot_be_run_with_the_field_named(
        self, api: Api, steps: Any, field: str
    ) -> None:
        refused = put(api, steps)

        assert (refused.status, refused.field) == (422, field)
        assert api.admin.get(CAREFUL).status == 404

    def test_a_name_that_is_built_in(self, api: Api) -> None:
        standard = f"{SCHEDULES}/production/standard"

        assert put(api, path=standard).code == "conflict"
        assert api.admin.delete(standard, {}, revision=0).code == "conflict"

    def test_an_environment_that_is_not_there(self, api: Api) -> None:
        for path in (f"{SCHEDULES}/nowhere/careful", f"{SCHEDULES}/nowhere/standard"):
            assert put(api, path=path).code == "not_found"
            assert api.admin.get(path).code == "not_found"
            assert api.admin.delete(path, {}, revision=1).code == "not_found"
        assert api.admin.get(f"{SCHEDULES}?environment=nowhere").json["defaults"] == {}


class TestListed:
    def test_what_is_built_in_then_what_each_environment_has(self, api: Api) -> None:
        kept(api)
        kept(api, path=f"{SCHEDULES}/staging/quick")

        everything = api.admin.get(SCHEDULES).json
        here = api.admin.get(f"{SCHEDULES}?environment=staging").json

        names = [(each["environment"], each["name"]) for each in everything["schedules"]]
        assert names[0] == (None, "standard")
        assert {name for place, name in names if place is None} > {
            "CodeDeployDefault.ECSCanary10Percent5Minutes",
            "CodeDeployDefault.ECSLinear10PercentEvery1Minutes",
        }
        assert names[-2:] == [("production", "careful"), ("staging", "quick")]
        assert [each["name"] for each in here["schedules"] if each["environment"]] == ["quick"]
        assert everything["defaults"] == dict.fromkeys(
            ("development", "production", "staging"), "standard"
        )
        assert here["defaults"] == {"staging": "standard"}

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("standard", "5%:5m,25%:10m,50%:15m,100%"),
            ("CodeDeployDefault.ECSCanary10Percent15Minutes", "10%:15m,100%"),
            ("ECSCanary20Percent7Minutes", "20%:7m,100%"),
        ],
    )
    def test_every_name_that_a_rollout_takes_can_be_read(
        self, api: Api, name: str, text: str
    ) -> None:
        found = api.admin.get(f"{SCHEDULES}/production/{name}").json

        assert (found["name"], found["text"], found["revision"]) == (name, text, 0)

    def test_a_token_of_one_environment_sees_and_changes_its_own(self, api: Api) -> None:
        kept(api)
        mine, driver = api.caller("admin", "staging"), api.deploy("production")
        quick = f"{SCHEDULES}/staging/quick"

        assert mine.send("PUT", quick, {"schedule": "50%:5m,100%"}).status == 201
        assert mine.send("PUT", CAREFUL, {"schedule": "50%:5m,100%"}, revision=1).status == 403
        assert list(mine.get(SCHEDULES).json["defaults"]) == ["staging"]
        assert driver.get(CAREFUL).json["text"] == STEPS
        assert driver.send("PUT", CAREFUL, {"schedule": "100%"}, revision=1).status == 403
        assert driver.delete(CAREFUL, {}, revision=1).status == 403


class TestOfARollout:
    def test_it_goes_by_the_template_that_it_names(self, api: Api) -> None:
        kept(api)

        planned = api.admin.post(f"{ROLLOUTS}/plan", a_plan(schedule="careful")).json
        rollout = begun(api, schedule="careful")

        assert planned["schedule"] == rollout["schedule"] == STEPS
        assert planned["schedule_name"] == rollout["schedule_name"] == "careful"

    def test_one_that_runs_keeps_the_steps_that_it_began_with(
        self, api: Api, engine: Engine
    ) -> None:
        kept(api, "5%:5m,100%")
        path = f"{ROLLOUTS}/{begun(api, schedule='careful')['id']}"
        engine.run(20)

        put(api, "90%:5m,100%", revision=1)
        engine.run(60)
        assert (engine.share, api.admin.get(path).json["schedule"]) == (5, "5%:5m,100%")

        api.admin.delete(CAREFUL, {}, revision=2)
        engine.run(400)
        assert api.admin.get(path).json["state"] == "completed"

    def test_another_environments_template_is_not_there(self, api: Api) -> None:
        kept(api, path=f"{SCHEDULES}/staging/quick")

        refused = api.admin.post(ROLLOUTS, a_body(schedule="quick"))

        assert (refused.status, refused.field) == (422, "/schedule")
        assert "There are standard; CodeDeploy's names" in refused.json["detail"]

    def test_what_there_is_is_named_when_it_is_misspelt(self, api: Api) -> None:
        kept(api)

        refused = api.admin.post(f"{ROLLOUTS}/plan", a_plan(schedule="carefull"))

        assert "There are careful, standard; CodeDeploy's names" in refused.json["detail"]


class TestTheDefault:
    def test_of_an_environment(self, api: Api) -> None:
        kept(api)
        set_default = api.admin.patch(PRODUCTION, {"default_schedule": "careful"}, revision=1)

        assert set_default.json["default_schedule"] == "careful"
        assert begun(api)["schedule"] == STEPS
        elsewhere = api.admin.post(f"{ROLLOUTS}/plan", a_plan(environment="staging")).json
        assert elsewhere["schedule_name"] == "standard"

    def test_is_one_that_is_there(self, api: Api) -> None:
        refused = api.admin.patch(PRODUCTION, {"default_schedule": "careful"}, revision=1)

        assert (refused.status, refused.field) == (422, "/default_schedule")

    def test_stays_until_there_is_another(self, api: Api) -> None:
        kept(api)
        api.admin.patch(PRODUCTION, {"default_schedule": "careful"}, revision=1)

        refused = api.admin.delete(CAREFUL, {}, revision=1)
        api.admin.patch(PRODUCTION, {"default_schedule": "standard"}, revision=2)

        assert (refused.status, refused.code) == (409, "conflict")
        assert api.admin.delete(CAREFUL, {}, revision=1).status == 200

    def test_when_it_is_gone_all_the_same_a_start_says_so(self, api: Api, engine: Engine) -> None:
        kept(api)
        api.admin.patch(PRODUCTION, {"default_schedule": "careful"}, revision=1)
        # Two people at the same moment: one deletes what the other makes the default.
        fakeredis.FakeRedis(server=engine.redis).hdel(
            keys.documents("schedules/production"), "careful"
        )

        refused = api.admin.post(ROLLOUTS, a_body(**only_flag()))

        assert (refused.status, refused.field) == (422, "/schedule")
        assert "The default of production cannot be used" in refused.json["detail"]
        assert begun(api, schedule="standard")["targets"][0]["name"] == FLAG


def a_plan(**told: Any) -> dict[str, Any]:
    """Return a rollout of the flag alone that is only thought of."""
    body = a_body(**only_flag(**told))
    return {
        name: value for name, value in body.items() if name not in {"reason", "confirm_environment"}
    }
