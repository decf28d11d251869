"""Custom metrics that others post."""

from __future__ import annotations

from typing import Any

import fakeredis

from .api import Api, a_store, an_api

METRICS = "/api/v1/metrics"
POINT = {"metric": "carts.lost", "service": "shop", "version": "1.5.0"}


def points(*changes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "points": [{**POINT, "numerator": 3, "denominator": 40, **each} for each in changes]
    } | more


def test_a_pipeline_posts_to_its_own_environment(api: Api) -> None:
    answer = api.deploy().post(METRICS, points({}, {"version": "1.4.0"}))

    assert (answer.status, answer.json) == (202, {"accepted": 2, "dropped": 0})
    now = int(api.clock.now().timestamp())
    kept = api.store.posted("production", since=now - 1, until=now)
    assert [point.arm for point in kept] == ["version/1.4.0", "version/1.5.0"]


def test_whoever_may_go_anywhere_says_where(api: Api) -> None:
    assert api.admin.post(METRICS, points({}, environment="staging")).status == 202

    for body, code, field in [
        (points({}), "invalid_field", "/environment"),
        (points({}, environment="nowhere"), "not_found", None),
    ]:
        answer = api.admin.post(METRICS, body)
        assert (answer.code, answer.json.get("field")) == (code, field)


def test_other_environments_are_none_of_a_pipelines_business(api: Api) -> None:
    assert api.deploy().post(METRICS, points({}, environment="staging")).status == 403
    assert api.sdk().post(METRICS, points({})).status == 403


def test_a_point_that_cannot_be_used_is_named(api: Api) -> None:
    now = int(api.clock.now().timestamp())

    wrong: list[tuple[dict[str, Any], str]] = [
        ({"denominator": -1}, "/points/1/denominator"),
        ({"at": now - 4000}, "/points/1/at"),
        ({"service": None, "version": None, "flag": "none", "variant": "on"}, "/points/1/flag"),
        ({"user": "ana"}, "/points/1/user"),
        ({"cohort": "canary"}, "/points/1/cohort"),
    ]
    for changes, field in wrong:
        answer = api.deploy().post(METRICS, points({}, changes))
        assert 400 <= answer.status < 500
        assert answer.json["field"] == field, answer.text


def test_nothing_is_taken_while_the_store_is_away() -> None:
    server = fakeredis.FakeServer()
    api = an_api(a_store(server))
    deploy = api.deploy()

    api.reachable = server.connected = False

    assert deploy.post(METRICS, points({})).code == "store_unavailable"
