"""Signing in by a one-time link, and what is closed to whoever has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from argon2 import PasswordHasher
from flask import url_for
from flask.testing import FlaskClient
from werkzeug.routing import AnyConverter, Rule
from werkzeug.test import TestResponse

from admin.views.sessions import ANYBODY_SECONDS
from flagserver.auth.passwords import Argon2Passwords
from flagserver.domain.people import NewPerson, read_group_roles
from flagserver.domain.rates import Rates
from flagserver.settings import Settings
from tests.introducing import FakeHeader, FakeProvider

from .house import ANA, OUR_PAGE, House, LateClock, Visitor, _page

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse battery"
Enter = Callable[[FlaskClient], TestResponse]
"""Signs a browser in."""

POSTS = ["/theme", "/sign-out", "/flags/new", "/flags/a/environments/production/kill"]
OPEN_POSTS = ["/sign-in", "/sign-in/00ff", "/invitation/00ff"]
"""Who sends them need not be signed in; but sends them from here, or they would be signed in as
somebody else without knowing it."""


def test_without_a_session_the_page_says_how_to_get_a_link(house: House) -> None:
    stranger = Visitor(house.app.test_client())

    page = stranger.see("/flags")

    assert page.status == 200
    assert "flagserver sign-in-link" in page.text


def test_looking_at_a_link_does_not_spend_it(house: House) -> None:
    stranger = house.app.test_client()
    link = f"/sign-in/{house.services.sessions.make_link()}"

    for _ in range(3):
        assert stranger.get(link).status_code == 200
    signed_in = stranger.post(link, headers=OUR_PAGE)

    assert signed_in.status_code == 303
    assert "Overview" in _page(stranger.get("/")).text


def test_a_link_works_once(house: House) -> None:
    link = f"/sign-in/{house.services.sessions.make_link()}"
    house.app.test_client().post(link, headers=OUR_PAGE)

    second = house.app.test_client().post(link, headers=OUR_PAGE)

    assert second.status_code == 401
    assert "used before" in _page(second).text
    assert "Set-Cookie" not in second.headers


@pytest.mark.parametrize(
    ("secure", "name"), [(True, "__Host-sortition_session"), (False, "sortition_session")]
)
def test_the_session_is_for_this_site_alone(secure: bool, name: str) -> None:
    house = House(secure_cookies=secure)

    answer = house.app.test_client().post(
        f"/sign-in/{house.services.sessions.make_link()}", headers=OUR_PAGE
    )

    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{name}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie
    assert ("Secure" in cookie) is secure


def by_link(house: House) -> Enter:
    link = f"/sign-in/{house.services.sessions.make_link()}"
    return lambda browser: browser.post(link, headers=OUR_PAGE)


def by_invitation(house: House, login: str = "") -> Enter:
    people = len(house.services.people.all(ANA))
    command = NewPerson(name="Ana", login=login or f"ana-{people}")
    secret = house.services.people.invite(command, ANA).secret
    told = {"password": PASSWORD, "again": PASSWORD}
    return lambda browser: browser.post(f"/invitation/{secret}", data=told, headers=OUR_PAGE)


def by_password(house: House) -> Enter:
    by_invitation(house, "ana")(house.app.test_client())
    told = {"login": "ana", "password": PASSWORD}
    return lambda browser: browser.post("/sign-in", data=told, headers=OUR_PAGE)


def by_provider(house: House) -> Enter:
    provider = FakeProvider()
    told = house.services.introductions
    told._provider, told._mapping = provider, read_group_roles("shop=viewer")

    def enter(browser: FlaskClient) -> TestResponse:
        there = browser.get("/sign-in/oidc").headers["Location"]
        state = dict(parse_qsl(urlsplit(there).query))["state"]
        asked = {"state": state, "code": provider.authorize(there)}
        return browser.get("/sign-in/oidc/callback", query_string=asked)

    return enter


def by_header(house: House) -> Enter:
    front = FakeHeader(house.clock)
    told = house.services.introductions
    told._header, told._header_mapping = front, read_group_roles("shop=viewer")
    return lambda browser: browser.get("/sign-in/alb", headers={"X-Amzn-Oidc-Data": front.signed()})


@pytest.mark.parametrize("way", [by_link, by_invitation, by_password, by_provider, by_header])
def test_signing_in_is_a_session_of_its_own_and_ends_the_one_before(
    house: House, visitor: Visitor, way: Callable[[House], Enter]
) -> None:
    """Nor is one taken up that somebody planted (session fixation)."""
    house.services.people._passwords = Argon2Passwords(CHEAP)
    enter, sessions = way(house), house.services.sessions
    before = visitor.client.get_cookie("sortition_session")
    assert before is not None
    planted = house.app.test_client()
    planted.set_cookie("sortition_session", "00ff" * 16)

    for browser in (visitor.client, planted):
        answer = enter(browser)
        assert answer.status_code == 303, _page(answer).text
        after = browser.get_cookie("sortition_session")
        assert after is not None
        assert after.value not in (before.value, "00ff" * 16)
        assert sessions.principal(after.value) is not None
        enter = way(house) if way in (by_link, by_invitation) else enter

    assert sessions.principal(before.value) is None
    assert sessions.principal("00ff" * 16) is None


ODD_VALUES = [
    *("", "0", "x" * 4_000, "null", "true", "[]", '{"$ne":null}', 'j:{"$ne":null}', "*", "é"),
    *("<ours>x", "x<ours>", "<ours>,<ours>", "../<ours>", "<ours>\\0", "%00<ours>", "\\ud800"),
]


def test_a_cookie_is_a_session_that_is_ours_or_nothing(visitor: Visitor) -> None:
    """A cookie that was read as an object asked the store for whatever is not null (GrowthBook,
    57daf1f0c6)."""
    ours = visitor.client.get_cookie("sortition_session")
    assert ours is not None
    stranger = visitor.client.application.test_client(use_cookies=False)

    for value in ODD_VALUES:
        told = value.replace("<ours>", ours.value)
        for name in ("sortition_session", "sortition_session[$ne]", "sortition_session[]"):
            answer = stranger.get("/settings/people", headers={"Cookie": f"{name}={told}"})

            assert answer.headers.get("Location") == "/sign-in", (name, value)


def test_of_two_cookies_of_one_name_none_adds_to_the_other(visitor: Visitor) -> None:
    ours = visitor.client.get_cookie("sortition_session")
    assert ours is not None
    stranger = visitor.client.application.test_client(use_cookies=False)
    half = ours.value[:32]

    answer = stranger.get(
        "/", headers={"Cookie": f"sortition_session={half}; sortition_session={ours.value[32:]}"}
    )

    assert answer.headers["Location"] == "/sign-in"


def test_only_the_name_that_no_other_host_can_set_is_a_session_over_https() -> None:
    house = House(secure_cookies=True)
    begun = by_link(house)(house.app.test_client()).headers["Set-Cookie"]
    secret = begun.split(";")[0].partition("=")[2]
    stranger = house.app.test_client(use_cookies=False)

    def see(name: str) -> int:
        return stranger.get("/", headers={"Cookie": f"{name}={secret}"}).status_code

    assert see("__Host-sortition_session") == 200
    assert [see("sortition_session"), see("__host-sortition_session")] == [303, 303]


def test_whoever_makes_sessions_up_is_stopped_and_those_who_have_one_are_not() -> None:
    clock = LateClock()
    clock.monotonic = lambda: 0.0  # type: ignore[method-assign]  # nothing is paid for meanwhile
    house = House(settings=Settings(rates=Rates(address=1)), clock=clock)
    ana, guesser = house.visitor(), house.app.test_client()
    assert ana.see("/flags").status == 200

    answers = []
    for number in range(50):
        guesser.set_cookie("sortition_session", f"{number:064x}")
        answers.append(guesser.get("/flags"))

    assert {answer.status_code for answer in answers} == {303, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["Retry-After"]) >= 1
    assert "requests a second" in _page(refused).text
    assert {ana.see("/flags").status for _ in range(20)} == {200}


STRANGERS = [
    *(("GET", path) for path in ("/sign-in", "/sign-in/00ff", "/invitation/00ff")),
    *(("GET", f"/sign-in/{way}") for way in ("oidc", "oidc/callback?state=00ff", "alb")),
    *(("POST", path) for path in OPEN_POSTS),
]
"""What needs no session and may ask the store, or a provider."""


@pytest.fixture
def limited() -> House:
    """A house where three requests of strangers pass, and nothing is paid for meanwhile."""
    clock = LateClock()
    clock.monotonic = lambda: 0.0  # type: ignore[method-assign]
    return House(settings=Settings(rates=Rates(address=0.3)), clock=clock)


@pytest.mark.parametrize(("method", "path"), STRANGERS)
def test_strangers_are_counted_before_anything_is_asked_of_the_store(
    limited: House, method: str, path: str
) -> None:
    stranger = limited.app.test_client()

    def ask() -> TestResponse:
        return stranger.open(path, method=method, headers=OUR_PAGE)

    let_in = [ask() for _ in range(3)]
    limited.store_away = True
    refused = ask()

    assert all("requests a second" not in answer.text for answer in let_in)
    assert refused.status_code == 429, "it got as far as the store, which is away"
    assert int(refused.headers["Retry-After"]) >= 1
    assert "requests a second" in _page(refused).text


def test_what_pages_are_made_of_is_not_counted_nor_is_who_is_signed_in(limited: House) -> None:
    ana, stranger = limited.visitor(), limited.app.test_client()
    assert ana.see("/").status == 200
    asset = stranger.get("/sign-in").text.partition('rel="stylesheet" href="')[2].split('"')[0]

    answers = [stranger.get("/sign-in").status_code for _ in range(20)]

    assert answers[-1] == 429
    assert {stranger.get(asset).status_code for _ in range(20)} == {200}
    assert {ana.client.get("/sign-in").status_code for _ in range(20)} == {200}


def test_whether_there_is_anybody_is_remembered_for_some_seconds(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger, asked = house.app.test_client(), []
    anybody, now = house.services.people.anybody, [1000.0]

    def noted() -> bool:
        asked.append(now[0])
        return anybody()

    monkeypatch.setattr(house.services.people, "anybody", noted)
    monkeypatch.setattr("admin.views.sessions.monotonic", lambda: now[0])

    for now[0] in (1000.0, 1000.1, 1000.0 + ANYBODY_SECONDS, 1000.1 + ANYBODY_SECONDS):
        assert stranger.get("/sign-in").status_code == 200

    assert asked == [1000.0, 1000.0 + ANYBODY_SECONDS]


def test_whoever_is_let_in_first_can_sign_in_at_once(house: House) -> None:
    stranger = house.app.test_client()
    assert 'name="password"' not in stranger.get("/sign-in").text
    secret = house.services.people.invite(NewPerson(name="Ana", login="ana"), ANA).secret

    typed = {"password": PASSWORD, "again": PASSWORD}
    stranger.post(f"/invitation/{secret}", data=typed, headers=OUR_PAGE)

    assert 'name="password"' in house.app.test_client().get("/sign-in").text


def test_signing_out_ends_the_session(house: House, visitor: Visitor) -> None:
    session = visitor.client.get_cookie("sortition_session")
    assert session is not None

    page = visitor.send(visitor.see("/"), "/sign-out")

    assert "flagserver sign-in-link" in page.text
    assert house.services.sessions.principal(session.value) is None


def test_every_endpoint_is_closed_unless_it_is_named(house: House) -> None:
    stranger = house.app.test_client()
    public = {
        *("admin.asset", "admin.signed_out", "admin.sign_in", "admin.spend_link"),
        *("admin.sign_in_by_password", "admin.invitation", "admin.accept_invitation"),
        *("admin.sign_in_outside", "admin.back_from_outside", "admin.sign_in_by_header"),
    }

    for rule in house.app.url_map.iter_rules():
        if rule.endpoint in public or not rule.endpoint.startswith("admin."):
            continue
        with house.app.test_request_context():
            parts: dict[str, Any] = {name: _fitting(rule, name) for name in rule.arguments}
            path = url_for(rule.endpoint, **parts)
        for method in (rule.methods or set()) & {"GET", "POST"}:
            answer = stranger.open(path, method=method, headers=OUR_PAGE)
            turned_away = answer.headers.get("Location") == "/sign-in"
            assert turned_away or answer.status_code == 401, (method, path, answer.status_code)


def _fitting(rule: Rule, name: str) -> str:
    """Return something that may stand in a path under that name."""
    converter = rule._converters[name]
    return min(converter.items) if isinstance(converter, AnyConverter) else "1"


FOREIGN: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "Same-Origin"},
    {"Sec-Fetch-Site": "same-origin, cross-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    {"Origin": "https://elsewhere.example"},
    {"Origin": "http://localhost.elsewhere.example"},
    {"Origin": "http://elsewhere.example/localhost"},
    {"Origin": "http://localhost:81"},
    {"Origin": "http://localhost@elsewhere.example"},
    {"Origin": "http://user@localhost"},
    {"Origin": "http://localhost/"},
    {"Origin": "//localhost"},
    {"Origin": "file://localhost"},
    {"Origin": "http://["},
    {"Origin": "null"},
    {"Origin": ""},
    {"Referer": "http://localhost/"},
    {},
]


@pytest.mark.parametrize("path", [*POSTS, *OPEN_POSTS])
def test_a_form_of_another_site_is_refused(visitor: Visitor, path: str) -> None:
    csrf = visitor.see("/").form("/theme")["csrf"]

    for headers in FOREIGN:
        answer = visitor.client.post(path, data={"csrf": csrf, "theme": "dark"}, headers=headers)

        assert answer.status_code == 403, headers
        assert "another site" in _page(answer).text


@pytest.mark.parametrize("csrf", ["", "0" * 64, "é"])
@pytest.mark.parametrize("path", POSTS)
def test_a_form_without_the_sessions_token_is_refused(
    visitor: Visitor, path: str, csrf: str
) -> None:
    answer = visitor.client.post(path, data={"csrf": csrf}, headers=OUR_PAGE)

    assert answer.status_code == 403


def test_a_token_of_another_session_is_refused(house: House, visitor: Visitor) -> None:
    others = house.visitor().see("/").form("/theme")["csrf"]

    answer = visitor.client.post("/sign-out", data={"csrf": others}, headers=OUR_PAGE)

    assert answer.status_code == 403


def test_where_browsers_send_no_fetch_metadata_the_origin_decides(visitor: Visitor) -> None:
    csrf = visitor.see("/").form("/theme")["csrf"]

    answer = visitor.client.post(
        "/theme", data={"csrf": csrf, "theme": "dark"}, headers={"Origin": "http://localhost"}
    )

    assert answer.status_code == 303


def test_colours_are_remembered_and_rendered_by_the_server(visitor: Visitor) -> None:
    assert 'data-theme="auto"' in visitor.see("/").source

    page = visitor.send(visitor.see("/flags"), "/theme", theme="dark")

    assert 'data-theme="dark"' in page.source
    assert "<h1>Flags</h1>" in page.source


@pytest.mark.parametrize(
    "back", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example", "x"]
)
def test_choosing_colours_never_leads_elsewhere(visitor: Visitor, back: str) -> None:
    csrf = visitor.see("/").form("/theme")["csrf"]

    answer = visitor.client.post(
        "/theme", data={"csrf": csrf, "theme": "dark", "back": back}, headers=OUR_PAGE
    )

    assert answer.headers["Location"] == "/"
