"""A token of one environment neither reads nor changes another, wherever that can be named.

The matrix (`test_matrix.py`) asks about things that are elsewhere by their ids; here the other
environment is named itself: in a path, in a query, in a body.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flagserver.http.routing import Route
from tests.http import routes
from tests.http.api import Caller

from . import tables
from .world import HERE, THERE, World, a_world

OWN = ("deploy here", "admin here")

CANARY = "canary-of-another"


@pytest.fixture(scope="module")
def world() -> World:
    """Production, as in the matrix; and staging, where every word is a canary."""
    world = a_world()
    there = world.tokens["admin there"]
    world.api.flag("elsewhere")
    told = {"schedule": "5%:5m,100%", "description": CANARY}
    done = [
        there.send("PUT", f"/api/v1/schedules/{THERE}/{CANARY}", told),
        there.patch(
            f"/api/v1/flags/elsewhere/environments/{THERE}",
            {"share": 5, "reason": CANARY, "conditions": [{**CONDITION, "values": [CANARY]}]},
            revision=0,
        ),
        there.post("/api/v1/rollouts", A_ROLLOUT | {"confirm_environment": THERE}),
        there.post("/api/v1/metrics", {"environment": THERE, "points": [A_POINT]}),
    ]
    assert [answer.status for answer in done] == [201, 200, 201, 202]
    return world


CONDITION = {"attribute": "service.name", "operator": "in"}

A_ROLLOUT = routes.A_ROLLOUT | {
    "environment": THERE,
    "service": CANARY,
    "reason": CANARY,
    "targets": [{"kind": "flag", "name": "by-form"}],
}

A_POINT = {"metric": CANARY, "service": CANARY, "numerator": 1, "denominator": 2}


def naming(route: Route) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Return (address, body) of each way in which a route can be told another environment."""
    path, body = routes.path(route), routes.body(route)
    if "environment" in route.parameters:
        yield routes.path(route, environment=THERE), body
    if "environment" in route.query:
        yield f"{path}?environment={THERE}", body
    if route.model is not None and "environment" in route.model.model_fields:
        yield path, (body or {}) | {"environment": THERE}


def named(world: World) -> list[Route]:
    return [route for route in world.api.routes if any(naming(route))]


def test_naming_another_environment_is_refused_wherever_it_can_be_named(world: World) -> None:
    before = world.written()

    opened = [
        f"{who}: {route.method} {address}: {answer.status}"
        for route in named(world)
        for address, body in naming(route)
        for who in OWN
        if (
            answer := world.tokens[who].send(route.method, address, body, **routes.headers(route))
        ).code
        != "forbidden"
    ]

    assert opened == []
    assert world.written() == before


def test_the_ways_to_name_an_environment_are_these(world: World) -> None:
    """A new one is to be found by `naming`, or the test above would not know of it."""
    ways = {
        "path": sum("environment" in route.parameters for route in world.api.routes),
        "query": sum("environment" in route.query for route in world.api.routes),
        "body": sum(
            "environment" in (route.model.model_fields if route.model else ())
            for route in world.api.routes
        ),
    }
    of_others = {
        name
        for route in world.api.routes
        for name in (*route.query, *(route.model.model_fields if route.model else ()))
        if "environment" in name
    }

    assert of_others == {"environment", "confirm_environment"}
    assert min(ways.values()) >= 4, ways


def test_no_answer_about_ones_own_tells_of_another(world: World) -> None:
    table = tables.lines(tables.API)
    told, asked = [], 0
    for route in world.api.routes:
        cells = table.get((route.method, route.path), [])
        if route.method != "GET" or len(cells) < 2:
            continue
        for who, cell in zip(tables.TOKENS, cells, strict=True):
            if who not in (*OWN, "sdk here") or cell != "yes":
                continue
            answer = world.tokens[who].get(routes.path(route))
            asked += 1
            if CANARY in answer.text or THERE in answer.text:
                told.append(f"{who}: {route.path}")
            answer.response.close()

    assert told == []
    assert asked > 30


@pytest.mark.parametrize("who", OWN)
def test_the_record_tells_nothing_of_another_whatever_is_asked_for(world: World, who: str) -> None:
    caller, there = world.tokens[who], world.tokens["admin there"]
    rollout = there.get("/api/v1/rollouts").json["rollouts"][0]["id"]
    asked = (
        *(f"/api/v1/audit?target={target}" for target in (f"rollout/{rollout}", "flag/elsewhere")),
        *(f"/api/v1/flags/{key}/history" for key in ("elsewhere", "by-form")),
        *(f"/api/v1/rollouts?flag={key}" for key in ("elsewhere", "by-form")),
        f"/api/v1/rollouts/{rollout}",
        f"/api/v1/rollouts/{rollout}/evidence",
        f"/api/v1/rollouts/{rollout}/drill",
        f"/api/v1/schedules/{HERE}/{CANARY}",
    )

    answers = {path: caller.get(path) for path in asked}

    assert {answer.status for answer in answers.values()} <= {200, 403, 404}
    for path, answer in answers.items():
        told = answer.text if answer.status == 200 else ""
        assert CANARY not in told, path
        assert THERE not in told, path


def test_the_search_for_canaries_finds_them_where_they_belong(world: World) -> None:
    there: Caller = world.tokens["deploy there"]
    found = [
        CANARY in there.get(path).text
        for path in (
            "/api/v1/rollouts",
            "/api/v1/schedules",
            "/api/v1/audit",
            f"/api/v1/flags/elsewhere/environments/{THERE}",
            "/api/v1/flags/elsewhere/history",
        )
    ]

    assert found == [True] * 5


def test_an_sdk_names_no_environment_but_its_tokens(world: World) -> None:
    sdk = world.tokens["sdk here"]

    snapshot = sdk.get(f"/api/v1/sdk/snapshot?environment={THERE}").json
    sdk.post("/api/v1/sdk/outcomes", routes.BATCH | {"service.name": "from-here"})
    sources = [
        [each["service.name"] for each in world.api.store.sources(name)] for name in (HERE, THERE)
    ]

    assert snapshot["environment"] == HERE
    assert ["from-here" in each for each in sources] == [True, False]


def test_a_change_in_one_environment_by_a_token_of_another_is_not_in_the_record(
    world: World,
) -> None:
    entries = world.api.admin.get("/api/v1/audit?limit=500").json["entries"]
    by = {
        f"token:{(world.tokens[who].token or '').split('_')[2]}": where
        for who, where in (("deploy here", HERE), ("admin here", HERE), ("admin there", THERE))
    }

    strangers = [
        entry
        for entry in entries
        if by.get(entry["actor"], entry["environment"]) != entry["environment"]
    ]

    assert strangers == []
    assert any(entry["actor"] in by for entry in entries)
