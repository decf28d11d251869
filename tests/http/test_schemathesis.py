"""Requests that schemathesis makes from our own document: none ends in an error of ours, and none
is answered in a way that the document does not show.

They come from who may (a token of the scope that a route is for), and from who may not: nobody, a
token that is none, and a person's session, which opens pages and not the API. A whole run
(SORTITION_ALL=1) asks LEAST cases of either kind, and counts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
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

from flagserver.domain.rates import Rates
from flagserver.http.app import all_routes
from flagserver.http.routing import PUBLIC, Route
from flagserver.measures import Board
from flagserver.settings import Settings
from tests.slices import everything

from . import routes
from .api import Api, an_api

EXAMPLES = 150 if everything() else 4
"""Of each operation and each way to make requests."""

LEAST = 5000
"""Cases of a whole run whose caller may ask, and as many whose caller may not."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]

# A whole run asks 150 times in one test, also on a machine that is busy.
pytestmark = pytest.mark.timeout(240)

ALL = all_routes(Settings(), Board())

CALM = hypothesis.settings(
    max_examples=EXAMPLES,
    suppress_health_check=[*HealthCheck],
    # What shrinks a failure takes longer than the rest; the request is printed as it was.
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)


@pytest.fixture(scope="module")
def api() -> Api:
    # A clock that stands pays for nothing, and a whole run asks more than a burst.
    made = an_api(settings=Settings(rates=Rates(sdk=0, deploy=0, admin=0, address=0)))
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


CLOSED = [pytest.param(route, id=name_of(route)) for route in ALL if route.action != PUBLIC]


@pytest.fixture(scope="module", autouse=True)
def cases() -> Iterator[Counter[str]]:
    """Count what is asked, as `<who asks> <what>`; a whole run that asked too little has failed."""
    asked: Counter[str] = Counter()
    yield asked
    # Not one that was asked for a few of the operations only.
    if everything() and len(asked) == len(WAYS) + len(CLOSED):
        for who in ("let in", "kept out"):
            told = sum(count for name, count in asked.items() if name.startswith(who))
            assert told >= LEAST, f"{told} cases of who is {who}"


@pytest.mark.parametrize(("route", "mode"), WAYS)
def test_every_answer_is_as_the_document_says(
    api: Api, document: Any, cases: Counter[str], route: Route, mode: GenerationMode
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
        cases[f"let in {name_of(route)} {mode.value}"] += 1
        api.follow()
        case.validate_response(answer, checks=checks_of(route))

    ask()


@pytest.mark.parametrize("route", CLOSED)
def test_nothing_is_told_to_who_has_no_token(
    api: Api, document: Any, cases: Counter[str], route: Route
) -> None:
    operation = document[route.path][route.method]
    strangers = strangers_to(api)

    @CALM
    @given(operation.as_strategy(), st.sampled_from(sorted(strangers)))
    def ask(case: Case, who: str) -> None:
        # What it draws as a token is left out, for a stranger shows none.
        case.headers.pop("Authorization", None)
        answer = case.call(headers=strangers[who])
        cases[f"kept out {name_of(route)}"] += 1
        assert answer.status_code == 401
        case.validate_response(answer, checks=[*checks_of(route), ignored_auth])

    ask()


def strangers_to(api: Api) -> dict[str, dict[str, str]]:
    """Return headers of those who have no token, by who they are."""
    session = person_session(api)
    return {
        "nobody": {},
        "a token that is none": {
            "Authorization": "Bearer srt_admin_000000000000_" + "0" * 64,
        },
        "another scheme": {"Authorization": f"Basic {api.admin_token}"},
        "a person's session": {
            "Cookie": f"sortition_session={session}; __Host-sortition_session={session}",
            "Sec-Fetch-Site": "same-origin",
        },
        "a session as a token": {"Authorization": f"Bearer {session}"},
    }


def person_session(api: Api) -> str:
    """Return the secret of an admin's session, which is one of pages."""
    held: str | None = api.app.extensions.get("tests.session")
    if held is None:
        sessions = api.services.sessions
        held = api.app.extensions["tests.session"] = str(sessions.sign_in(sessions.make_link()))
        assert sessions.principal(held) is not None
    return held


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
