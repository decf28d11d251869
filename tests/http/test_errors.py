"""Every route × every way to fail: one shape, a stable code, nothing of the request in the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from flagserver.domain.errors import StoreUnavailable
from flagserver.http import errors
from flagserver.http.routing import PUBLIC, Route

from . import routes
from .api import Answer, Api, an_api

CANARY = "canary-7f3a"


@pytest.fixture
def full(api: Api) -> Api:
    routes.furnish(api)
    return api


def each(api: Api, *, writes: bool | None = None) -> list[Route]:
    return [r for r in api.routes if writes in (None, r.model is not None)]


def send(api: Api, route: Route, **headers: str) -> Answer:
    caller = routes.let_in(api, route)
    sent = routes.headers(route) | headers
    return caller.send(route.method, routes.address(api, route), routes.body(route), **sent)


def test_every_route_works_to_begin_with() -> None:
    for route in an_api().routes:
        api = an_api()
        routes.furnish(api)
        if route.view.__name__ in {"unarchive_flag", "acknowledge_loss"}:
            continue

        answer = send(api, route)

        assert answer.status in {200, 201, 202} or route.parameters == ["id"], route.endpoint
        answer.response.close()


def test_without_a_token_there_is_nothing(full: Api) -> None:
    for route in each(full):
        if route.action == PUBLIC:
            continue
        answer = full.nobody.send(route.method, routes.path(route), routes.body(route))

        assert (answer.status, answer.code) == (401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_method_that_a_route_does_not_have(full: Api) -> None:
    for method in ("PUT", "OPTIONS", "TRACE", "PROPFIND"):
        for route in each(full):
            if any(other.path == route.path and other.method == method for other in full.routes):
                continue
            answer = full.admin.send(method, routes.path(route))

            assert (answer.status, answer.code) == (405, "method_not_allowed")
            assert route.method in answer.headers["Allow"]


def test_a_path_that_nobody_has(full: Api) -> None:
    for path in ("/", "/api", "/api/v1", "/api/v1/flags/", "/metrics/", "/static/x", "/ofrep/v1"):
        answer = full.admin.get(path)
        assert (answer.status, answer.code) == (404, "not_found"), path


def test_a_body_that_is_too_large(full: Api) -> None:
    for route in each(full, writes=True):
        caller = routes.let_in(full, route)
        answer = caller.send(
            route.method,
            routes.path(route),
            raw=b" " * (route.limit + 1),
            **routes.headers(route),
        )
        assert (answer.status, answer.code) == (413, "body_too_large")


def test_a_body_that_is_not_json(full: Api) -> None:
    for route in each(full, writes=True):
        caller = routes.let_in(full, route)
        answer = caller.send(
            route.method, routes.path(route), raw=b"a=b", Content_Type="text/plain"
        )
        assert (answer.status, answer.code) == (415, "unsupported_media_type")


def test_a_field_that_nobody_knows(full: Api) -> None:
    for route in each(full, writes=True):
        if route.path.startswith(("/ofrep/", "/api/v1/signals/")):
            continue  # others' forms, which may grow: unknown members are ignored
        caller, body = routes.let_in(full, route), (routes.body(route) or {}) | {"wrong": 1}
        answer = caller.send(route.method, routes.path(route), body, **routes.headers(route))

        assert (answer.status, answer.code, answer.field) == (422, "unknown_field", "/wrong")


def test_a_parameter_that_nobody_knows(full: Api) -> None:
    for route in each(full):
        if route.open_query:
            continue
        path = routes.path(route) + "?wrong=1"
        answer = routes.let_in(full, route).send(route.method, path)

        assert (answer.status, answer.code) == (422, "unknown_field")
        assert answer.json["parameter"] == "?wrong"


def test_no_revision_and_a_stale_one(full: Api) -> None:
    for route in each(full):
        if not route.revision:
            continue
        path, body = routes.path(route), routes.body(route)

        without = full.admin.send(route.method, path, body)
        stale = full.admin.send(route.method, path, body, revision=99)

        assert (without.status, without.code) == (428, "revision_required")
        assert (stale.status, stale.code) == (412, "stale_revision"), route.endpoint
        assert stale.json["revision"] == 1


def test_a_store_that_is_away(full: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    callers = {route.endpoint: routes.let_in(full, route) for route in each(full)}
    paths = {route.endpoint: routes.address(full, route) for route in each(full)}
    full.reachable = False

    def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("The store is not answering (store: 198.51.100.7:6379).")

    for door in ("read", "read_all", "write", "look_up", "run", "run_all"):
        monkeypatch.setattr(full.store._server, door, away)

    served = []
    for route in each(full):
        answer = callers[route.endpoint].send(
            route.method, paths[route.endpoint], routes.body(route), **routes.headers(route)
        )
        answer.response.close()
        if answer.status == 503:
            assert answer.code == "store_unavailable"
            assert answer.headers["Retry-After"] == str(errors.RETRY_SECONDS)
        else:
            served.append(route.view.__name__)
            assert answer.status == 200, route.endpoint
    assert set(served) == {
        *("sdk_snapshot", "sdk_stream", "ofrep_evaluate", "ofrep_evaluate_all"),
        "ofrep_events",
        *("healthz", "readyz", "status", "metrics", "openapi_document"),
    }
    told = full.nobody.get("/readyz")
    assert told.json["writable"] is False
    assert "198.51" not in told.text
    assert "198.51" in full.admin.get("/api/v1/status").text


def test_before_anything_was_loaded(api: Api) -> None:
    sdk = api.sdk()
    api.reachable = False
    api.services.snapshots._views, api.services.snapshots.source = {}, "nothing"

    ready = api.nobody.get("/readyz")

    assert (ready.status, ready.code, ready.json["ready"]) == (503, "not_ready", False)
    assert sdk.get("/api/v1/sdk/snapshot").code == "store_unavailable"
    assert sdk.get("/api/v1/sdk/stream").code == "store_unavailable"


def test_an_error_of_our_own_says_nothing_of_the_request(
    full: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    callers = {route.endpoint: routes.let_in(full, route) for route in each(full)}

    def fail(*_: Any) -> Any:
        try:
            return dict[str, Any]()[CANARY]
        except KeyError as cause:
            raise ValueError(f"cannot use {CANARY}") from cause

    monkeypatch.setattr("flagserver.http.routing._admit", fail)
    for route in each(full):
        caplog.clear()
        path = routes.path(route, key=CANARY) + f"?q={CANARY}"
        answer = callers[route.endpoint].send(route.method, path, {"owner": CANARY})

        assert (answer.status, answer.code) == (500, "internal_error")
        assert CANARY not in answer.text or route.path.startswith("/ofrep/")
        assert CANARY not in caplog.text
        assert "builtins.KeyError" in caplog.text
        assert "builtins.ValueError" in caplog.text
        assert route.path.replace("{", "<").replace("}", ">") in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
