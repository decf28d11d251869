"""Nobody gets past a declaration: environments, strange paths, forgotten endpoints. Who is let in
where stands in `tests/access/tables.py`."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Blueprint

from flagserver.domain.access import ALLOWED
from flagserver.domain.commands import StateEdit
from flagserver.domain.documents import EVERYWHERE, Principal
from flagserver.domain.errors import Forbidden
from flagserver.domain.flags import State
from flagserver.http.routing import PUBLIC

from . import routes
from .api import WHY, Api, Caller

PUBLIC_PATHS = {"/healthz", "/readyz", "/openapi.json", "/ofrep/v1/events"}
"""The last asks for a ticket (test_ofrep.py)."""


def test_every_endpoint_says_who_may_use_it(api: Api) -> None:
    declared = {route.endpoint: route for route in api.routes}

    for rule in api.app.url_map.iter_rules():
        route = declared[rule.endpoint]
        assert rule.methods is not None
        assert rule.methods - {"HEAD"} == {route.method}
        assert route.action == PUBLIC or any(
            route.action in allowed for allowed in ALLOWED.values()
        )
        assert (route.action == PUBLIC) is (rule.rule in PUBLIC_PATHS)


def test_an_endpoint_that_says_nothing_lets_nobody_in(api: Api) -> None:
    api.app.add_url_rule("/forgotten", "forgotten", lambda: "secret")

    answer = api.admin.get("/forgotten")

    assert (answer.status, answer.code) == (403, "forbidden")


@pytest.mark.parametrize("scope", ["deploy", "admin"])
def test_a_confined_token_sees_and_changes_its_own_environment_only(api: Api, scope: str) -> None:
    api.flag("new-search", share=5)
    api.share("new-search", 70, "staging")
    mine: Caller = api.caller(scope, "staging")
    flag = "/api/v1/flags/new-search"

    assert list(mine.get(flag).json["environments"]) == ["staging"]
    assert list(mine.get("/api/v1/flags").json["flags"][0]["environments"]) == ["staging"]
    assert [e["key"] for e in mine.get("/api/v1/environments").json["environments"]] == ["staging"]
    assert {e["environment"] for e in mine.get(f"{flag}/history").json["entries"]} == {
        "staging",
        None,
    }
    assert mine.get(f"{flag}/history?environment=production").code == "forbidden"
    assert mine.get("/api/v1/environments/production").code == "forbidden"
    assert mine.post("/api/v1/flags", {"key": "another"}).code == "forbidden"
    assert mine.post("/api/v1/tokens", {"scope": "admin"}).code == "forbidden"
    for route in api.routes:
        if "environment" in route.parameters:
            answer = mine.send(
                *(route.method, routes.path(route), routes.body(route)), **routes.headers(route)
            )
            assert answer.code == "forbidden", route.endpoint
    assert mine.patch(f"{flag}/environments/staging", {"share": 5}, revision=1).status == 200


def test_an_sdk_gets_the_environment_of_its_token(api: Api) -> None:
    api.flag("new-search", share=100)
    here, there = api.sdk("production"), api.sdk("staging")
    context = {"context": {"targetingKey": "abc"}}

    assert here.get("/api/v1/sdk/snapshot").json["environment"] == "production"
    assert there.get("/api/v1/sdk/snapshot").json["environment"] == "staging"
    assert here.post("/ofrep/v1/evaluate/flags/new-search", context).json["value"] is True
    assert there.post("/ofrep/v1/evaluate/flags/new-search", context).json["value"] is False


def test_an_sdk_learns_no_names_of_people_or_teams(api: Api) -> None:
    api.flag("new-search", owner="canary-team", description="canary-words")

    assert "canary" not in api.sdk().get("/api/v1/sdk/snapshot").text


@pytest.mark.parametrize(
    "path",
    [
        "//api/v1/flags",
        "/api//v1/flags",
        "/./api/v1/flags",
        "/healthz/../api/v1/flags",
        "/healthz/%2e%2e/api/v1/flags",
        "/healthz;/api/v1/flags",
        "/api/v1/flags;",
        "/api/v1/flags;x=/healthz",
        "/API/V1/FLAGS",
        "/api/v1/flags%00",
        "/api/v1/flags%0a",
        "/api/v1/flags%20",
        "/api/v1/flags/",
        "/api/v1/flags/new-search/",
        "/%61pi/v1/flags",
        "/api%2fv1%2fflags",
        "/healthz/api/v1/flags",
        "/openapi.json/../api/v1/flags",
    ],
)
def test_no_way_of_writing_a_path_gets_past_the_token(api: Api, path: str) -> None:
    api.flag("new-search")

    answer = api.nobody.get(path)

    assert answer.status in (401, 404)
    assert "new-search" not in answer.text


@pytest.mark.parametrize(
    "value",
    [
        *("Bearer", "Bearer ", "Basic {}", "{}", "Bearer {}x", "Bearer x{}", "Bearer {},Bearer {}"),
        *("Bearer srt_admin_000000000005_", "Bearer srt_admin_ffffffffffff_" + "0" * 64),
        *("Bearer \x00{}", "Bearer ％s", "Digest {}", "bearer\t{}"),
    ],
)
def test_a_token_is_right_or_wrong(api: Api, value: str) -> None:
    header = value.replace("{}", api.admin_token)

    answer = api.nobody.get("/api/v1/status", Authorization=header)

    assert (answer.status, answer.code) == (401, "unauthenticated")


def test_the_scope_written_in_a_token_is_part_of_its_secret(api: Api) -> None:
    raised = (api.sdk().token or "").replace("srt_sdk_", "srt_admin_")

    assert api.nobody.get("/api/v1/flags", Authorization=f"Bearer {raised}").status == 401


def test_an_api_key_opens_what_sdks_and_ofrep_use_and_nothing_else(api: Api) -> None:
    sdk = api.sdk().token or ""

    assert api.nobody.get("/api/v1/sdk/snapshot", X_API_Key=sdk).status == 200
    assert api.nobody.get("/api/v1/status", X_API_Key=sdk).status == 401
    assert api.nobody.get("/api/v1/flags", X_API_Key=api.admin_token).status == 401


def test_answers_carry_what_keeps_them_harmless(api: Api) -> None:
    for answer in (api.admin.get("/api/v1/flags"), api.nobody.get("/api/v1/flags")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        policy = "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["Content-Security-Policy"] == policy
        assert "Set-Cookie" not in answer.headers
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_blueprint_guards_itself(api: Api) -> None:
    pages = Blueprint("pages", __name__)
    pages.add_url_rule("/page", "page", lambda: "page")
    api.app.register_blueprint(pages)

    answer = api.nobody.get("/page")

    assert (answer.status, answer.text) == (200, "page")


class TestAFlagsShare:
    """An editor ramps where it is not critical, and goes down everywhere."""

    ANA = Principal("person:5f2c91ab", "editor", "person", roles={EVERYWHERE: "editor"})

    @pytest.mark.parametrize(("environment", "share"), [("staging", 50.0), ("production", 5.0)])
    def test_allowed(self, api: Api, environment: str, share: float) -> None:
        api.flag("new-search")
        api.share("new-search", 20, environment)

        after = self.change(api, environment, share)

        assert after.share == share * 10_000
        assert self.newest_entry(api)["role"] == "editor"

    def test_not_up_where_it_is_critical(self, api: Api) -> None:
        api.flag("new-search", share=20)

        with pytest.raises(Forbidden, match="may not enlarge exposure where it is critical"):
            self.change(api, "production", 50.0)

    def change(self, api: Api, environment: str, share: float) -> State:
        command = StateEdit.model_validate({"share": share, **WHY})
        revision = api.services.flags.state("new-search", environment).revision
        return api.services.flags.change(
            "new-search", environment, command, revision, self.ANA
        ).state

    def newest_entry(self, api: Api) -> Any:
        return api.admin.get("/api/v1/audit?limit=1").json["entries"][0]
