"""Environments, tokens and who one is."""

from __future__ import annotations

from .api import Api

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


def test_a_token_ends_at_its_time(api: Api) -> None:
    wanted = {"scope": "admin", "expires": "2026-11-23T10:00:00+01:00"}
    holder = api.nobody
    holder.token = api.admin.post(TOKENS, wanted).json["token"]

    api.clock.turn(3599)
    assert holder.get("/api/v1/status").status == 200
    api.clock.turn(1)
    assert holder.get("/api/v1/status").code == "unauthenticated"


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
