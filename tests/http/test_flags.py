"""Flags through the API, as people and pipelines use it."""

from __future__ import annotations

from typing import Any

import pytest

from .api import WHY, Api

FLAG = "/api/v1/flags/new-search"
STATE = f"{FLAG}/environments/production"
STAGING = f"{FLAG}/environments/staging"


def test_a_flag_is_created_ramped_killed_and_served_again(api: Api) -> None:
    made = api.admin.post("/api/v1/flags", {"key": "new-search", "owner": "search"})
    assert (made.status, made.headers["ETag"]) == (201, '"1"')
    assert made.json["variants"] == {"on": True, "off": False}
    assert {s["share"] for s in made.json["environments"].values()} == {0.0}

    ramped = api.admin.patch(STATE, WHY | {"share": 25}, revision=0)
    assert (ramped.status, ramped.json["share"], ramped.headers["ETag"]) == (200, 25.0, '"1"')

    killed = api.admin.post(f"{STATE}/kill", {"reason": "errors"})
    assert (killed.json["killed"], killed.json["share"]) == (True, 25.0)

    back = api.admin.post(f"{STATE}/unkill", WHY, revision=2)
    assert (back.json["killed"], back.json["share"], back.json["revision"]) == (False, 25.0, 3)

    actions = [entry["action"] for entry in api.admin.get(f"{FLAG}/history").json["entries"]]
    assert actions == ["flag:unkill", "flag:kill", "flag:share:change", "flag:create"]


def test_shares_are_percent_to_the_fourth_decimal(api: Api) -> None:
    api.flag("new-search")

    assert api.share("new-search", 0.0001)["share"] == 0.0001
    assert api.share("new-search", 33.3333)["share"] == 33.3333
    refused = api.admin.patch(STATE, WHY | {"share": 0.00001}, revision=2)

    assert (refused.status, refused.code, refused.field) == (422, "invalid_field", "/share")


def test_a_flag_keeps_the_form_of_its_values(api: Api) -> None:
    values = {"one": 1, "float": 1.0, "text": "ä", "none": None, "tree": {"b": [1, 2.5], "a": {}}}

    api.flag("values", variants=values, rest="one")

    assert '"float":1.0' in api.admin.get("/api/v1/flags/values").text
    assert api.admin.get("/api/v1/flags/values").json["variants"] == values


def test_flags_are_found_by_words_and_archived_ones_on_request(api: Api) -> None:
    api.flag("new-search", owner="Search team")
    api.flag("old-cart", description="gone soon")
    api.admin.post("/api/v1/flags/old-cart/archive", revision=1)

    def keys(query: str) -> list[str]:
        return [flag["key"] for flag in api.admin.get(f"/api/v1/flags{query}").json["flags"]]

    assert keys("") == ["new-search"]
    assert keys("?archived=1") == ["new-search", "old-cart"]
    assert keys("?q=SEARCH") == ["new-search"]
    assert keys("?q=soon&archived=true") == ["old-cart"]


def test_an_archived_flag_comes_back_exposing_nobody(api: Api) -> None:
    api.flag("new-search", share=50)

    gone = api.admin.post(f"{FLAG}/archive", {"reason": "done"}, revision=1)
    changed = api.admin.patch(STATE, WHY | {"share": 60}, revision=1)
    back = api.admin.post(f"{FLAG}/unarchive", revision=2)

    assert (gone.json["archived"], changed.code) == (True, "conflict")
    assert back.json["environments"]["production"]["killed"] is True


def test_description_owner_and_kind_change_by_themselves(api: Api) -> None:
    api.flag("new-search", description="before")

    edited = api.admin.patch(FLAG, {"owner": "team", "kind": "permanent"}, revision=1)

    assert (edited.json["owner"], edited.json["kind"]) == ("team", "permanent")
    assert (edited.json["description"], edited.json["revision"]) == ("before", 2)


def test_a_write_says_which_revision_it_means(api: Api) -> None:
    api.flag("new-search", share=5)

    without = api.admin.patch(STATE, WHY | {"share": 10})
    stale = api.admin.patch(STATE, WHY | {"share": 10}, revision=0)

    assert (without.status, without.code) == (428, "revision_required")
    assert (stale.status, stale.code, stale.json["revision"]) == (412, "stale_revision", 1)
    assert api.admin.get(STATE).json["share"] == 5.0


@pytest.mark.parametrize("tag", ['W/"1"', "*", "1", '"1", "2"', '"-1"', '"١"', '""', "", '"1"x'])
def test_if_match_is_one_strong_revision(api: Api, tag: str) -> None:
    api.flag("new-search", share=5)

    answer = api.admin.patch(STATE, WHY | {"share": 10}, If_Match=tag)

    assert (answer.status, answer.code) == (400, "malformed_request")
    assert answer.json["parameter"] == "If-Match"


def test_a_kill_waits_for_nobody_but_may_be_exact(api: Api) -> None:
    api.flag("new-search", share=5)

    assert api.admin.post(f"{STATE}/kill", If_Match='"7"').code == "stale_revision"
    assert api.admin.post(f"{STATE}/kill", If_Match='W/"1"').code == "malformed_request"
    assert api.admin.post(f"{STATE}/kill", If_Match="*").json["killed"] is True
    assert api.admin.post(f"{STATE}/kill").json["revision"] == 2


def test_enlarging_in_a_critical_environment_says_why_and_where(api: Api) -> None:
    api.flag("new-search")

    why = api.admin.patch(STATE, {"share": 5}, revision=0)
    where = api.admin.patch(
        STATE, {"share": 5, "reason": "x", "confirm_environment": "staging"}, revision=0
    )
    elsewhere = api.admin.patch(STAGING, {"share": 5}, revision=0)
    api.share("new-search", 50)
    less = api.admin.patch(STATE, {"share": 5}, revision=1)

    assert (why.status, why.code, why.field) == (422, "reason_required", "/reason")
    assert (where.code, where.field) == ("confirmation_required", "/confirm_environment")
    assert (elsewhere.status, less.status) == (200, 200)


def test_a_dry_run_changes_nothing(api: Api) -> None:
    api.flag("new-search", share=5)

    plan = api.admin.patch(f"{STATE}?dry_run=1", {"share": 50}, revision=1).json

    assert (plan["before"]["share"], plan["after"]["share"], plan["enlarges"]) == (5.0, 50.0, True)
    assert api.admin.get(STATE).json["share"] == 5.0


@pytest.mark.parametrize("query", ["dryrun=1", "dry_run=yes", "dry_run", "dry_run=1&dry_run=0"])
def test_what_was_meant_to_be_tried_is_never_done(api: Api, query: str) -> None:
    api.flag("new-search", share=5)

    answer = api.admin.patch(f"{STATE}?{query}", WHY | {"share": 50}, revision=1)

    assert answer.status == 422
    assert answer.json["parameter"].startswith("?dry")
    assert api.admin.get(STATE).json["share"] == 5.0


def test_a_retry_with_its_key_does_a_thing_once(api: Api) -> None:
    body = {"key": "new-search"}

    first = api.admin.post("/api/v1/flags", body, Idempotency_Key="k1")
    again = api.admin.post("/api/v1/flags", body, Idempotency_Key="k1")
    other = api.admin.post("/api/v1/flags", {"key": "other"}, Idempotency_Key="k1")
    elsewhere = api.caller("admin").post("/api/v1/flags", body, Idempotency_Key="k1")

    assert (first.status, again.status, again.json) == (201, 201, first.json)
    assert (other.status, other.code) == (422, "idempotency_mismatch")
    assert elsewhere.code == "already_exists"


def test_a_retried_change_gets_the_first_answer_though_its_revision_is_spent(api: Api) -> None:
    api.flag("new-search")

    def change() -> tuple[int, int]:
        body = WHY | {"share": 25}
        answer = api.admin.patch(STATE, body, revision=0, Idempotency_Key="deploy-17")
        return answer.status, answer.json["revision"]

    assert change() == change() == (200, 1)


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 129])
def test_an_idempotency_key_is_short_and_visible(api: Api, key: str) -> None:
    answer = api.admin.post("/api/v1/flags", {"key": "a"}, Idempotency_Key=key)

    assert (answer.status, answer.json["parameter"]) == (400, "Idempotency-Key")


def test_history_goes_back_page_by_page_and_by_environment(api: Api) -> None:
    api.flag("new-search", share=5)
    api.share("new-search", 10)
    api.share("new-search", 50, "staging")

    newest = api.admin.get(f"{FLAG}/history?limit=1").json["entries"]
    older = api.admin.get(f"{FLAG}/history?before={newest[0]['seq']}").json["entries"]
    production = api.admin.get(f"{FLAG}/history?environment=production").json["entries"]

    assert newest[0]["environment"] == "staging"
    assert [entry["environment"] for entry in older] == ["production", "production", None]
    assert [entry["environment"] for entry in production] == ["production", "production", None]


def test_an_explanation_shows_the_lot(api: Api) -> None:
    api.flag("new-search", share=25)

    told = api.admin.post(f"{STATE}/eval", {"request_id": "abc"}).json

    assert told["threshold"] == 2**30
    assert (told["point"] < told["threshold"]) is (told["variant"] == "on")
    assert "abc" not in str(told)


def test_conditions_weights_and_prerequisites_are_set_and_checked(api: Api) -> None:
    api.flag("base", share=50)
    api.flag("look", variants={"a": 1, "b": 2, "c": 3}, rest="a")
    path = "/api/v1/flags/look/environments/production"
    whole: dict[str, Any] = {
        "share": 40,
        "weights": [{"variant": "b", "weight": 66.6667}, {"variant": "c", "weight": 33.3333}],
        "conditions": [
            {"attribute": "service.version", "operator": "in", "values": ["2.0"]},
        ],
        "prerequisites": [{"flag": "base", "variant": "on"}],
    }

    set_to = api.admin.patch(path, WHY | whole, revision=0)

    assert {name: set_to.json[name] for name in whole} == whole
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"weights": [{"variant": "d", "weight": 100}]}, "/weights/0/variant"),
        ({"weights": [{"variant": "b", "weight": 50}]}, "/weights"),
        ({"prerequisites": [{"flag": "none", "variant": "on"}]}, "/prerequisites/0/flag"),
        ({"prerequisites": [{"flag": "base", "variant": "off"}]}, "/prerequisites/0/variant"),
        ({"conditions": [whole["conditions"][0] | {"operator": "is"}]}, "/conditions/0/operator"),
        ({"conditions": [{"attribute": "a"}]}, "/conditions/0/operator"),
    ]
    for change, field in refusals:
        refused = api.admin.patch(path, WHY | change, revision=1)
        assert (refused.status, refused.field) == (422, field)


def test_what_is_not_there_is_not_found(api: Api) -> None:
    api.flag("new-search")

    for path in (
        "/api/v1/flags/none",
        "/api/v1/flags/none/history",
        "/api/v1/flags/new-search/environments/none",
        "/api/v1/flags/none/environments/production/outcomes",
        "/api/v1/flags/Not-A-Key",
        "/api/v1/flags/..%2f..",
        "/api/v1/nothing",
    ):
        answer = api.admin.get(path)
        assert (answer.status, answer.code) == (404, "not_found"), path
