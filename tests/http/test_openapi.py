"""The OpenAPI document says what the code does: every route, every status, every shape."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flagserver.http.resource import ATTRIBUTES

from .api import Api, an_api

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http-api.md"


@pytest.fixture(scope="module")
def shared() -> Api:
    return an_api()


@pytest.fixture(scope="module")
def document(shared: Api) -> dict[str, Any]:
    return dict(shared.nobody.get("/openapi.json").json)


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from walk(item)


def test_every_rule_of_the_application_is_in_it(shared: Api, document: dict[str, Any]) -> None:
    rules = {
        (method, re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in shared.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    }

    assert operations(document).keys() == rules


def test_it_is_whole(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    assert document["openapi"] == "3.1.0"
    for each in walk(document):
        if isinstance(each.get("$ref"), str):
            assert each["$ref"].removeprefix("#/components/schemas/") in schemas
    for (_, path), operation in operations(document).items():
        declared = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))
        assert operation["summary"]
        assert all(answer["description"] for answer in operation["responses"].values())
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(ids)) == len(ids)


def test_every_answer_has_a_shape(document: dict[str, Any]) -> None:
    for place, operation in operations(document).items():
        for status, answer in operation["responses"].items():
            if status == "304":
                assert "content" not in answer
                continue
            kind = "application/problem+json" if int(status) >= 400 else "application/json"
            if place[1].endswith(("/sdk/stream", "/events")) and status == "200":
                kind = "text/event-stream"
            if place[1] == "/metrics" and status == "200":
                kind = "text/plain"
            if place[1].endswith("/evidence/series") and status == "200":
                kind = "application/x-ndjson"
            assert answer["content"][kind]["schema"], (place, status)


def test_it_says_what_is_open_and_what_needs_a_token(document: dict[str, Any]) -> None:
    public = {path for (_, path), o in operations(document).items() if o["security"] == []}

    assert public == {"/healthz", "/readyz", "/openapi.json", "/ofrep/v1/events"}


def test_every_route_is_on_the_page_for_people(shared: Api) -> None:
    text = PAGE.read_text()

    missing = [
        f"{route.method} {route.path}"
        for route in shared.routes
        if f"{route.method} {route.path}" not in text
    ]

    assert missing == []


def test_every_code_of_a_problem_is_on_the_page(shared: Api) -> None:
    room = Path(__file__).parents[2] / "flagserver"
    code = "".join(
        file.read_text() for file in [*room.glob("http/*.py"), room / "domain" / "errors.py"]
    )
    codes = {
        *re.findall(r'code, status, title = "(\w+)"', code),
        *re.findall(r'(?:Problem|_refused)\(\s*\d+, "(\w+)"', code),
        *re.findall(r'\d{3}: "(\w+_\w+)"', code),
        "malformed_body",
    }

    assert len(codes) > 20
    assert sorted(code for code in codes if f"`{code}`" not in PAGE.read_text()) == []


def test_every_attribute_of_a_context_is_on_the_page() -> None:
    table = PAGE.read_text().partition("resource conventions:")[2].partition("Any other")[0]
    told = set()
    for line in table.splitlines():
        spaces, _, names = line.strip("| ").partition(" | ")
        prefix = spaces.strip("`") if "," not in spaces else ""
        told |= {prefix + name for name in re.findall(r"`([\w.]+)`", names)}

    assert told == ATTRIBUTES
