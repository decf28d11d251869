"""Requests that schemathesis makes from our own document: none ends in an error of ours, and none
is answered in a way that the document does not show."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from schemathesis import Case, CheckFunction, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from flagserver.http.app import all_routes
from flagserver.http.routing import PUBLIC, Route
from flagserver.measures import Board
from flagserver.settings import Settings
from tests.slices import everything

from . import routes
from .api import Api, an_api

EXAMPLES = 150 if everything() else 10
"""Of each operation and each way to make requests."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]

ALL = all_routes(Settings(), Board())

CALM = hypothesis.settings(
    max_examples=EXAMPLES,
    suppress_health_check=[*HealthCheck],
    # What shrinks a failure takes longer than the rest; the request is printed as it was.
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)


@pytest.fixture(scope="module")
def api() -> Api:
    made = an_api()
    routes.furnish(made)
    return made


@pytest.fixture(scope="module")
def document(api: Api) -> Any:
    return schemathesis.openapi.from_wsgi("/openapi.json", api.app)


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


def takes_something(route: Route) -> bool:
    own = [*route.parameters, *route.query, route.model]
    return any(own) or route.action != PUBLIC


def checks_of(route: Route) -> list[CheckFunction]:
    """Return what is looked at; it takes each event of a stream for the whole answer."""
    streams = any("text/event-stream" in told for told in route.answers.values())
    return [each for each in CHECKS if not (streams and each is response_schema_conformance)]


WAYS = [
    pytest.param(route, mode, id=f"{name_of(route)} {mode.value}")
    for route in ALL
    for mode in GenerationMode
    # Of a request that has nothing but its address, nothing can be wrong.
    if mode is GenerationMode.POSITIVE or takes_something(route)
]


@pytest.mark.parametrize(("route", "mode"), WAYS)
def test_every_answer_is_as_the_document_says(
    api: Api, document: Any, route: Route, mode: GenerationMode
) -> None:
    operation = document[route.path][route.method]

    @CALM
    @given(operation.as_strategy(generation_mode=mode), st.booleans(), st.sampled_from("0123"))
    def ask(case: Case, known: bool, revision: str) -> None:
        # Nothing here unpacks what comes packed.
        headers = {"Accept-Encoding": "identity"}
        if route.action != PUBLIC:
            headers["Authorization"] = f"Bearer {token(api, route)}"
        if known:
            # Mostly a random name leads nowhere, and hides what is behind it.
            case.path_parameters = {
                name: routes.NAMES.get(name, text) for name, text in case.path_parameters.items()
            }
        if route.revision and mode is GenerationMode.POSITIVE:
            headers["If-Match"] = f'"{revision}"'
        answer = case.call(headers=headers)
        api.follow()
        case.validate_response(answer, checks=checks_of(route))

    ask()


@pytest.mark.parametrize("route", [route for route in ALL if route.action != PUBLIC], ids=name_of)
def test_nothing_is_told_to_who_has_no_token(api: Api, document: Any, route: Route) -> None:
    operation = document[route.path][route.method]

    @CALM
    @given(operation.as_strategy())
    def ask(case: Case) -> None:
        answer = case.call(headers={"Authorization": "Bearer srt_admin_000000000000_" + "0" * 64})
        assert answer.status_code == 401
        case.validate_response(answer, checks=[*checks_of(route), ignored_auth])

    ask()


def token(api: Api, route: Route) -> str:
    """Return a token that may use a route."""
    if route.action == "serve":
        return str(sdk_token(api))
    return api.admin_token


def sdk_token(api: Api) -> str:
    held: str | None = api.app.extensions.get("tests.sdk_token")
    if held is None:
        held = api.app.extensions["tests.sdk_token"] = str(api.sdk().token)
    return held
