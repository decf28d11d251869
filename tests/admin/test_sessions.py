"""Signing in by a one-time link, and what is closed to whoever has not."""

from __future__ import annotations

from typing import Any

import pytest
from flask import url_for
from werkzeug.routing import AnyConverter, Rule

from .house import OUR_PAGE, House, Visitor, _page

POSTS = ["/theme", "/sign-out", "/flags/new", "/flags/a/environments/production/kill"]


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


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {},
    ],
    ids=str,
)
def test_a_form_of_another_site_is_refused(
    house: House, visitor: Visitor, path: str, headers: dict[str, str]
) -> None:
    csrf = visitor.see("/").form("/theme")["csrf"]

    answer = visitor.client.post(path, data={"csrf": csrf, "theme": "dark"}, headers=headers)

    assert answer.status_code == 403
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
