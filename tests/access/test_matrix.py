"""Who is let in where: the tables, held against every route there is.

Of what is refused, nothing comes about: the record is as long as before. And each line's request is
one that does something for those who are let in, or it would prove nothing about the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pytest
from werkzeug.routing import Rule

from flagserver.domain.commands import Reasoned
from flagserver.http.routing import Route
from tests.http import routes
from tests.slices import a_slice

from . import tables
from .tables import SESSIONS, TOKENS
from .world import HERE, World, a_world, pages

API, PAGES = tables.lines(tables.API), tables.lines(tables.PAGES)

ANSWERED = {
    "GET /api/v1/rollouts/{id}/drill": 404,
    "POST /api/v1/rollouts/{id}/advance": 409,
    "POST /api/v1/rollouts/{id}/approve": 409,
    "POST /api/v1/rollouts/{id}/drill": 409,
    "POST /api/v1/audit/acknowledge": 409,
    "GET /rollouts/<id>/<verb>": 409,
    "POST /rollouts/<id>/<verb>": 409,
    "POST /flags/<key>/environments/<environment>/preview": 409,
    "POST /flags/<key>/environments/<environment>/preview/<id>/revoke": 404,
    "POST /audit/acknowledge": 409,
    "POST /rollouts/<id>/hold": 409,
    "POST /approvals/<id>/approve": 409,
    "POST /account": 422,
    "GET /<page_path:path>": 404,
}
"""What those who are let in are told where it does not come about: no step was begun, nothing was
lost, nothing is made to fail where it is critical, links for previews have no key, nobody here has
a password, and what waited was withdrawn."""

ENDED = ("expired", "revoked", "unknown", "wrong secret")

Ask = Callable[[str], int]
"""Sends one line's request as somebody and returns the status."""


def routes_of(world: World) -> Mapping[tuple[str, str], Route]:
    return {(route.method, route.path): route for route in world.api.routes}


def closed(table: Mapping[tuple[str, str], Sequence[str]]) -> list[tuple[str, str]]:
    """Return the lines that do not let in everybody."""
    return [line for line, cells in table.items() if len(cells) > 1]


def by_token(world: World, route: Route, who: str) -> int:
    return world.ask(world.tokens[who], route).status


def by_session(world: World, method: str, rule: Rule, who: str) -> int:
    return world.open(world.sessions[who], method, rule).status_code


class Held:
    """A line of a table held against what was answered; what differs is kept, in words."""

    def __init__(self, world: World, columns: Sequence[str], at_most: int = 99) -> None:
        """at_most: how many of those who are let in ask, where the whole matrix is not run."""
        self.world = world
        self.columns = columns
        self.at_most = at_most
        self.wrong: list[str] = []

    def refused(self, line: tuple[str, str], cells: Sequence[str], ask: Ask) -> None:
        for column, cell in zip(self.columns, cells, strict=True):
            if cell == "-":
                before = self.world.written()
                status = ask(column)
                self._note(status == 403, line, column, f"{status}, to be refused")
                self._note(self.world.written() == before, line, column, "something was written")

    def let_in(self, line: tuple[str, str], cells: Sequence[str], ask: Ask) -> None:
        allowed = [column for column, cell in zip(self.columns, cells, strict=True) if cell != "-"]
        wanted = a_slice(allowed, self.at_most, seed=len(" ".join(line)))
        statuses = {column: ask(column) for column in wanted}
        for column, status in statuses.items():
            self._note(status not in (401, 403), line, column, f"{status}, to be let in")
            self._note(status < 500, line, column, f"{status}")
        told = ANSWERED.get(" ".join(line))
        done = all(s == told for s in statuses.values()) if told else min(statuses.values()) < 400
        self._note(done, line, "all", f"{sorted(statuses.values())}: the request does nothing")

    def _note(self, right: bool, line: tuple[str, str], column: str, words: str) -> None:
        if not right:
            self.wrong.append(f"{' '.join(line)}, {column}: {words}")


def test_every_route_has_its_line() -> None:
    world = a_world()

    assert set(routes_of(world)) == set(API), "say in tables.py who is let in"
    assert set(pages(world.api)) == set(PAGES), "say in tables.py who is let in"


def test_each_token_opens_what_the_table_says_and_nothing_else() -> None:
    world = a_world()
    known, held = routes_of(world), Held(world, TOKENS)

    for one in (held.refused, held.let_in):
        for line in closed(API):
            one(line, API[line], partial(by_token, world, known[line]))

    assert held.wrong == []


def test_each_role_opens_what_the_table_says_and_nothing_else() -> None:
    world = a_world()
    known, held = pages(world.api), Held(world, SESSIONS, at_most=2)
    # What is not killed may be "un-killed" by whoever may change it: that enlarges nothing.
    world.api.services.flags.kill(routes.NAMES["key"], HERE, Reasoned(), world.admin)

    for one in (held.refused, held.let_in):
        for line in closed(PAGES):
            one(line, PAGES[line], partial(by_session, world, line[0], known[line]))

    assert held.wrong == []


def test_no_route_is_opened_by_a_token_that_has_ended_or_never_was() -> None:
    world = a_world()
    callers = [
        world.ended(scope, environment, how)
        for how in ENDED
        for scope, environment in (("sdk", HERE), ("deploy", HERE), ("admin", None))
    ]
    before = world.written()

    opened = [
        f"{route.method} {route.path}: {answer.status}"
        for at in closed(API)
        for route in [routes_of(world)[at]]
        for caller in (*callers, world.api.nobody)
        if (answer := world.ask(caller, route)).status != 401
        or answer.code != "unauthenticated"
        or answer.headers["WWW-Authenticate"] != "Bearer"
    ]

    assert opened == []
    assert world.written() == before


def test_no_route_of_the_api_is_opened_by_a_session() -> None:
    world = a_world()
    cookie = f"sortition_session={world.sessions['admin']}"

    opened = [
        f"{route.method} {route.path}"
        for at in closed(API)
        for route in [routes_of(world)[at]]
        if world.ask(world.api.nobody, route, Cookie=cookie).status != 401
    ]

    assert opened == []


def test_no_page_is_opened_without_a_session_or_by_one_that_has_ended() -> None:
    world = a_world()
    known = pages(world.api)
    ended, demoted = world.person("admin"), world.person("admin")
    services = world.api.services
    services.people.end(ended.id, Reasoned(), world.admin)
    world.demote(demoted.id)
    signed_out = world.person("admin")
    services.sessions.sign_out(signed_out.session)
    sessions = (None, "", "0" * 64, *(each.session for each in (ended, demoted, signed_out)))
    bearer = {"Authorization": f"Bearer {world.api.admin_token}"}
    before = world.written()

    opened = []
    for at in closed(PAGES):
        for session in sessions:
            answer = world.open(session, at[0], known[at], **bearer)
            away = answer.headers.get("Location") == "/sign-in" and answer.status_code == 303
            if not away and answer.status_code != 401:
                opened.append(f"{' '.join(at)}: {answer.status_code}")

    assert opened == []
    assert world.written() == before


@pytest.mark.parametrize("table", [API, PAGES], ids=["API", "PAGES"])
def test_who_may_do_more_of_a_line_is_let_in_wherever_who_may_less_is(
    table: Mapping[tuple[str, str], Sequence[str]],
) -> None:
    """The table's own check: a slip of the hand in it would let a slip of the code pass."""
    columns, ladder = (
        (TOKENS, [("deploy here", "admin here"), ("admin here", "admin everywhere")])
        if table is API
        else (SESSIONS, [("viewer", "responder"), ("responder", "editor"), ("editor", "releaser")])
    )
    for line in closed(table):
        cells = dict(zip(columns, table[line], strict=True))
        for less, more in ladder:
            assert cells[less] == "-" or cells[more] != "-", f"{line}: {less}, and not {more}"
