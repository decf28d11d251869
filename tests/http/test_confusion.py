"""Something else where text is meant: in fields, parameters, forms, tokens; and twice what is one.

GrowthBook (57daf1f0c6) read a cookie as JSON and handed it to its database, where an object is an
operator. Here each value is of its declared type or refused, and nothing is written meanwhile.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from argon2 import PasswordHasher
from pydantic import BaseModel

from admin.guard import csrf_token
from flagserver.auth.passwords import Argon2Passwords
from flagserver.domain.rates import Rates
from flagserver.http.routing import Route
from flagserver.settings import Settings
from tests.access.world import COOKIE, OUR_PAGE, World, plain
from tests.slices import a_slice

from . import routes
from .api import Caller, an_api
from .test_paths import ask

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ODD: tuple[Any, ...] = (
    *(0, -1, 1.5, 1e300, True, False, [], ["a"], [[]], {}, {"$ne": None}, {"$gt": ""}),
    *({"__proto__": {"admin": True}}, [{"role": "admin"}], "x" * 60_000, "\0", "\ud83d\ude00" * 99),
)


@pytest.fixture(scope="module")
def world() -> World:
    return World(an_api(settings=Settings(rates=Rates(sdk=0, deploy=0, admin=0, address=0))))


@pytest.fixture(scope="module")
def address(world: World) -> Iterator[str]:
    with world.api.served() as address:
        yield address


def is_text(model: type[BaseModel], name: str) -> bool:
    """Tell whether a field is text and nothing else."""
    told = model.model_json_schema()["properties"][name]
    kinds = [each for each in told.get("anyOf", [told]) if each.get("type") != "null"]
    return all(each.get("type") == "string" and "format" not in each for each in kinds)


def fields_of(world: World) -> list[tuple[Route, str]]:
    """Return every field of every body."""
    return [
        (route, field.alias or name)
        for route in world.api.routes
        if route.model is not None
        for name, field in route.model.model_fields.items()
    ]


def test_a_field_of_another_type_is_refused(world: World) -> None:
    """Where it is text that is meant; and wherever it is not, it is no error of ours."""
    cases = [(*each, odd) for each in fields_of(world) for odd in ODD]
    assert len(cases) > 1_000
    texts = 0

    for route, name, odd in a_slice(cases, 250):
        assert route.model is not None
        told = _json((routes.body(route) or {}) | {name: odd})
        headers, before = _headers(routes.let_in(world.api, route), route), world.written()
        answer = world.api.send(route.method, routes.path(route), told, headers)
        answer.response.close()
        assert answer.status < 500, (route.endpoint, name, odd)
        if answer.status in (400, 422):
            assert world.written() == before, (route.endpoint, name, odd)
        if is_text(route.model, name) and not isinstance(odd, str):
            assert answer.status in (400, 422), (route.endpoint, name, odd)
            texts += 1

    assert texts > 30


def _json(told: Any) -> bytes:
    return json.dumps(told).encode()


def _headers(caller: Caller, route: Route) -> dict[str, str]:
    told = {name.replace("_", "-"): text for name, text in routes.headers(route).items()}
    token = {} if caller.token is None else {"Authorization": f"Bearer {caller.token}"}
    return {"Content-Type": "application/json", **told, **token}


def test_a_parameter_that_comes_twice_or_as_an_object_is_refused(world: World) -> None:
    """Or one reader could take the first of them and another the last."""
    tried = 0
    for route in world.api.routes:
        for name in route.query:
            caller, path = routes.let_in(world.api, route), routes.path(route)
            for query in (f"{name}=a&{name}=b", f"{name}[]=a", f"{name}[$ne]=a", f"{name}.x=a"):
                if route.open_query and not query.startswith(f"{name}="):
                    continue
                answer = caller.send(
                    *(route.method, f"{path}?{query}", routes.body(route)),
                    **routes.headers(route),
                )
                answer.response.close()
                assert answer.status == 422, (route.endpoint, query)
                tried += 1

    assert tried > 20


def test_a_field_of_a_form_that_comes_twice_or_as_a_file_is_no_error_of_ours(world: World) -> None:
    world.api.services.people._passwords = Argon2Passwords(CHEAP)
    session = world.sessions["viewer"]
    tried = 0
    for rule in world.api.app.url_map.iter_rules():
        if not rule.endpoint.startswith("admin.") or "POST" not in (rule.methods or set()):
            continue
        form = world._form(f"POST {plain(rule)}", world._names(rule.rule)) | {
            "csrf": csrf_token(session),
            "login": "a",
            "password": "b",
        }
        client = world.api.app.test_client()
        client.set_cookie(COOKIE, session)
        twice = {name: [text, "x"] for name, text in form.items()}
        files = {name: (io.BytesIO(b"x"), "x.txt") for name in form if name != "csrf"}
        for told in (twice, {**files, "csrf": form["csrf"]}):
            answer = client.post(world.path(rule), data=told, headers=OUR_PAGE)
            answer.close()
            assert answer.status_code < 500, rule.rule
            tried += len(told)

    assert tried > 50


@pytest.mark.parametrize("path", ["/api/v1/sdk/snapshot", "/api/v1/status"])
def test_of_two_tokens_none_is_taken(world: World, address: str, path: str) -> None:
    """Whichever comes first, and whoever answers: the front or Flask."""
    good = f"Authorization: Bearer {world.tokens['sdk here'].token}"
    other = f"Authorization: Bearer {world.tokens['sdk there'].token}"
    nothing, bad = "Authorization: ", "Authorization: Bearer srt_sdk_x"

    assert ask(address, path, good).status == 200
    for two in (
        *((good, bad), (bad, good), (good, good), (good, other), (nothing, good), (good, nothing)),
        (good, "authorization: Bearer x"),
    ):
        assert ask(address, path, *two).status == 401, two


def test_of_two_keys_none_is_taken(world: World, address: str) -> None:
    key = f"X-API-Key: {world.tokens['sdk here'].token}"

    assert ask(address, "/api/v1/sdk/snapshot", key).status == 200
    assert ask(address, "/api/v1/sdk/snapshot", key, "X-API-Key: x").status == 401


@pytest.mark.parametrize("name", ["X_API_Key", "X-Api_Key"])
def test_a_field_with_a_line_below_is_not_the_one_with_a_dash(
    world: World, address: str, name: str
) -> None:
    """Both are one name to WSGI, and only one of them is seen by what stands in front."""
    told = f"{name}: {world.tokens['sdk here'].token}"

    assert ask(address, "/api/v1/sdk/snapshot", told).status == 401
