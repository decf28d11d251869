"""Environments, tokens and who one is."""

from __future__ import annotations

from typing import Any

import pytest

from .api import Answer, Api

ENVIRONMENTS = "/api/v1/environments"
TOKENS = "/api/v1/tokens"


def test_an_installation_begins_with_three_environments(api: Api) -> None:
    found = api.admin.get(ENVIRONMENTS).json["environments"]

    assert [(each["key"], each["critical"]) for each in found] == [
        ("development", False),
        ("staging", False),
        ("production", True),
    ]


def test_a_new_environment_has_every_flag_exposing_nobody(api: Api) -> None:
    api.flag("new-search", share=50)

    made = api.admin.post(ENVIRONMENTS, {"key": "canary", "critical": True})
    again = api.admin.post(ENVIRONMENTS, {"key": "canary"})

    assert (made.status, made.headers["ETag"]) == (201, '"1"')
    assert (again.status, again.code) == (409, "already_exists")
    assert api.admin.get("/api/v1/flags/new-search/environments/canary").json["share"] == 0.0
    assert api.sdk("canary").get("/api/v1/sdk/snapshot").json["environment"] == "canary"


def test_an_environment_is_edited_at_its_revision(api: Api) -> None:
    path = f"{ENVIRONMENTS}/staging"

    assert api.admin.patch(path, {"critical": True}).code == "revision_required"
    assert api.admin.patch(path, {"critical": True}, revision=9).code == "stale_revision"
    assert api.admin.patch(path, {"critical": True}, revision=1).json["critical"] is True
    assert api.admin.get(path).headers["ETag"] == '"2"'


class TestAnEnvironmentThatServesAllAlike:
    WHERE = "/api/v1/flags/new-search/environments/staging"
    HERE = ({"attribute": "cloud.region", "operator": "in", "values": ["eu-west-1"]},)
    VERSION = ({"attribute": "service.version", "operator": "in", "values": ["2"]},)

    @pytest.fixture(autouse=True)
    def uniform(self, api: Api) -> None:
        api.flag("new-search")
        made = api.admin.patch(f"{ENVIRONMENTS}/staging", {"uniform": True}, revision=1)
        assert made.json["uniform"] is True

    def edit(self, api: Api, conditions: tuple[dict[str, Any], ...]) -> Answer:
        revision = api.admin.get(self.WHERE).json["revision"]
        return api.admin.patch(self.WHERE, {"conditions": list(conditions)}, revision=revision)

    def test_refuses_a_condition_on_where_it_runs_by_its_place(self, api: Api) -> None:
        refused = self.edit(api, self.VERSION + self.HERE)

        assert (refused.status, refused.field) == (422, "/conditions/1")
        assert "no condition may look at cloud.region" in refused.json["detail"]

    def test_takes_one_on_the_version(self, api: Api) -> None:
        assert self.edit(api, self.VERSION).status == 200

    def test_leaves_what_was_there_before(self, api: Api) -> None:
        api.admin.patch(f"{ENVIRONMENTS}/staging", {"uniform": False}, revision=2)
        assert self.edit(api, self.HERE).status == 200
        api.admin.patch(f"{ENVIRONMENTS}/staging", {"uniform": True}, revision=3)

        assert self.edit(api, self.HERE + self.VERSION).status == 200
        assert self.edit(api, ()).status == 200
        assert self.edit(api, self.HERE).status == 422


def test_how_long_the_record_keeps_bodies_is_an_environments(api: Api) -> None:
    path = "/api/v1/environments/staging"
    assert api.admin.get(path).json["retention_days"] == 90

    edited = api.admin.patch(path, {"retention_days": 7, "reason": "the rule"}, revision=1)
    refused = api.admin.patch(path, {"retention_days": 0}, revision=2)

    assert (edited.status, edited.json["retention_days"]) == (200, 7)
    (entry,) = api.admin.get("/api/v1/audit?limit=1").json["entries"]
    assert (entry["action"], entry["after"]["retention_days"]) == ("environment:edit", 7)
    assert (refused.status, refused.field) == (422, "/retention_days")


def test_how_the_record_stands_is_said(api: Api) -> None:
    told = api.admin.get("/api/v1/audit/status")

    assert told.status == 200
    assert (told.json["kind"], told.json["signed"], told.json["enlarging"]) == ("unsigned", 0, True)
    refused = api.admin.post("/api/v1/audit/acknowledge", {"reason": "nothing"})
    assert (refused.status, refused.code) == (409, "conflict")
    personal = api.admin.post("/api/v1/audit/acknowledge", {"reason": "ask ada@example.org"})
    assert (personal.status, personal.field) == (422, "/reason")


def test_a_token_is_shown_once_and_ends_when_it_is_revoked(api: Api) -> None:
    wanted = {"scope": "sdk", "environment": "staging", "description": "shop"}

    api.clock.turn(1)
    made = api.admin.post(TOKENS, wanted).json
    listed = api.admin.get(TOKENS).json["tokens"]
    holder = api.nobody
    holder.token = made["token"]

    assert made["token"].startswith(f"srt_sdk_{made['id']}_")
    assert listed[0]["id"] == made["id"]
    assert made["token"] not in api.admin.get(TOKENS).text
    assert holder.get("/api/v1/sdk/snapshot").json["environment"] == "staging"

    ended = api.admin.delete(f"{TOKENS}/{made['id']}", {"reason": "leaked"})
    assert ended.json["revoked"] is not None
    assert holder.get("/api/v1/sdk/snapshot").code == "unauthenticated"
    assert api.admin.delete(f"{TOKENS}/{made['id']}").json == ended.json
    assert api.admin.delete(f"{TOKENS}/00000000ffff").code == "not_found"


class TestWhenATokenWasLastUsed:
    """Noted by whoever lets it in, written from time to time (`services/uses.py`)."""

    def last(self, api: Api, token: str | None) -> str | None:
        api.services.tokens.uses.keep()
        listed = {each["id"]: each for each in api.admin.get(TOKENS).json["tokens"]}
        found: str | None = listed[str(token).split("_")[2]]["last_used"]
        return found

    def test_it_is_told_by_the_hour(self, api: Api) -> None:
        used, idle = api.sdk(), api.sdk()
        api.clock.turn(3600 + 59 * 60)

        used.get("/api/v1/sdk/snapshot")

        assert self.last(api, used.token) == "2026-11-23T09:00:00.000Z"
        assert self.last(api, idle.token) is None

    def test_not_by_who_knows_the_id_and_not_the_secret(self, api: Api) -> None:
        token = api.sdk().token or ""

        refused = api.nobody.get("/api/v1/status", Authorization=f"Bearer {token[:-64]}{'0' * 64}")

        assert refused.status == 401
        assert self.last(api, token) is None

    def test_by_a_ticket_that_is_of_it(self, api: Api) -> None:
        sdk = api.sdk()
        api.clock.turn(50 * 60)
        context = {"context": {"targetingKey": "abc"}}
        told = sdk.post("/ofrep/v1/evaluate/flags", context).json["eventStreams"][0]
        api.clock.turn(10 * 60)

        opened = api.nobody.get(told["endpoint"]["requestUri"])

        assert opened.status == 200
        assert self.last(api, sdk.token) == "2026-11-23T09:00:00.000Z"

    def test_no_request_writes_it(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        sdk = api.sdk()

        def written(*_: Any) -> None:
            raise AssertionError("a request wrote it")

        monkeypatch.setattr(api.store, "keep_uses", written)

        assert sdk.get("/api/v1/sdk/snapshot").status == 200


def test_a_token_ends_at_its_time(api: Api) -> None:
    wanted = {"scope": "admin", "expires": "2026-11-23T10:00:00+01:00"}
    holder = api.nobody
    holder.token = api.admin.post(TOKENS, wanted).json["token"]

    api.clock.turn(3599)
    assert holder.get("/api/v1/status").status == 200
    api.clock.turn(1)
    assert holder.get("/api/v1/status").code == "unauthenticated"


class TestRotation:
    @pytest.fixture
    def old(self, api: Api) -> dict[str, Any]:
        made = api.admin.post(TOKENS, {"scope": "sdk", "environment": "staging"})
        return dict(made.json)

    def rotate(self, api: Api, id: str, **told: Any) -> Answer:
        return api.admin.post(f"{TOKENS}/{id}/rotate", {"overlap_hours": 1, **told})

    def good(self, api: Api, text: str) -> bool:
        holder = api.nobody
        holder.token = text
        return holder.get("/api/v1/sdk/snapshot").status == 200

    def test_both_are_good_for_a_while_and_then_the_new_one(
        self, api: Api, old: dict[str, Any]
    ) -> None:
        new = self.rotate(api, old["id"]).json

        assert (new["scope"], new["environment"], new["expires"]) == ("sdk", "staging", None)
        api.clock.turn(3599)
        assert self.good(api, old["token"])
        assert self.good(api, new["token"])
        api.clock.turn(1)
        assert not self.good(api, old["token"])
        assert self.good(api, new["token"])

    def test_the_old_one_says_which_follows(self, api: Api, old: dict[str, Any]) -> None:
        new = self.rotate(api, old["id"]).json

        listed = {token["id"]: token for token in api.admin.get(TOKENS).json["tokens"]}
        assert listed[old["id"]]["followed_by"] == new["id"]
        assert new["token"] not in api.admin.get(TOKENS).text

    def test_one_that_ends_before_still_does(self, api: Api) -> None:
        wanted = {"scope": "admin", "expires": "2026-11-23T08:10:00Z"}
        old = api.admin.post(TOKENS, wanted).json

        self.rotate(api, old["id"])

        listed = {token["id"]: token for token in api.admin.get(TOKENS).json["tokens"]}
        assert listed[old["id"]]["expires"] == "2026-11-23T08:10:00+00:00"

    def test_not_twice_nor_when_it_has_ended(self, api: Api, old: dict[str, Any]) -> None:
        self.rotate(api, old["id"])

        assert self.rotate(api, old["id"]).code == "conflict"
        assert self.rotate(api, "00000000ffff").code == "not_found"
        ended = api.admin.post(TOKENS, {"scope": "admin"}).json["id"]
        api.admin.delete(f"{TOKENS}/{ended}")
        assert self.rotate(api, ended).code == "conflict"

    def test_a_retry_names_the_same_one_without_its_text(
        self, api: Api, old: dict[str, Any]
    ) -> None:
        path = f"{TOKENS}/{old['id']}/rotate"
        first = api.admin.post(path, {}, Idempotency_Key="k").json
        second = api.admin.post(path, {}, Idempotency_Key="k").json

        assert (second["id"], second["token"]) == (first["id"], None)

    @pytest.mark.parametrize("hours", [-1, 24 * 90 + 1, "1"])
    def test_an_overlap_is_bounded(self, api: Api, old: dict[str, Any], hours: Any) -> None:
        refused = self.rotate(api, old["id"], overlap_hours=hours)

        assert (refused.code, refused.field) == ("invalid_field", "/overlap_hours")


def test_a_token_is_for_an_environment_that_is_there(api: Api) -> None:
    for wanted, code, field in [
        ({"scope": "sdk"}, "invalid_field", "/environment"),
        ({"scope": "sdk", "environment": "none"}, "not_found", None),
        ({"scope": "owner"}, "invalid_field", "/scope"),
        ({"scope": "admin", "expires": "2027-01-31T00:00:00"}, "invalid_field", "/expires"),
        ({"scope": "admin", "expires": "0001-01-01T00:00:00+23:59"}, "invalid_field", None),
    ]:
        refused = api.admin.post(TOKENS, wanted)
        assert (refused.code, refused.field or None) == (code, field), wanted


def test_a_retried_token_is_the_same_one_and_its_text_stays_a_secret(api: Api) -> None:
    wanted = {"scope": "sdk", "environment": "staging"}

    first = api.admin.post(TOKENS, wanted, Idempotency_Key="once").json
    again = api.admin.post(TOKENS, wanted, Idempotency_Key="once").json

    assert again == first | {"token": None}
    assert [each["id"] for each in api.admin.get(TOKENS).json["tokens"]].count(first["id"]) == 1


def test_a_token_learns_who_it_is(api: Api) -> None:
    told = api.deploy("staging").get("/api/v1/status").json

    assert (told["scope"], told["environment"], told["writable"]) == ("deploy", "staging", True)
    assert list(told["versions"]) == ["staging"]
    assert list(api.admin.get("/api/v1/status").json["versions"]) == [
        "development",
        "production",
        "staging",
    ]
