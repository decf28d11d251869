"""Inviting somebody, signing in by a password, roles on the pages, and forgetting."""

from __future__ import annotations

import re

import pytest
from argon2 import PasswordHasher

from flagserver.auth.passwords import Argon2Passwords

from .house import OUR_PAGE, House, Page, Visitor, _page

PASSWORD = "correct horse battery"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(autouse=True)
def cheap_passwords(house: House) -> None:
    house.services.people._passwords = Argon2Passwords(CHEAP)


def invite(visitor: Visitor, **told: str) -> Page:
    given = {"name": "Ana", "login": "ana@example.com", **told}
    return visitor.send(visitor.see("/settings/people"), "/settings/people", **given)


def link(page: Page) -> str:
    found = re.search(r"http://localhost(/invitation/[0-9a-f]+)", page.source)
    assert found, page.text
    return found[1]


def a_stranger(house: House) -> Visitor:
    return Visitor(house.app.test_client())


def become(house: House, visitor: Visitor, **told: str) -> Visitor:
    """Invite somebody, who sets a password and is in."""
    ana = a_stranger(house)
    answer = ana.client.post(
        link(invite(visitor, **told)),
        data={"password": PASSWORD, "again": PASSWORD},
        headers=OUR_PAGE,
    )
    assert answer.status_code == 303, answer.text
    return ana


def sign_in(stranger: Visitor, password: str = PASSWORD) -> Page:
    told = {"login": "ana@example.com", "password": password}
    answer = stranger.client.post("/sign-in", data=told, headers=OUR_PAGE)
    return _page(answer) if answer.status_code != 303 else stranger.see("/")


def test_whoever_is_invited_chooses_a_password_and_comes_back_by_it(
    house: House, visitor: Visitor
) -> None:
    page = invite(visitor)
    stranger = a_stranger(house)

    assert "Welcome, Ana" in stranger.see(link(page)).text
    stranger.client.post(
        link(page), data={"password": PASSWORD, "again": PASSWORD}, headers=OUR_PAGE
    )

    assert "Overview" in stranger.see("/").text
    again = a_stranger(house)
    assert "Password" in again.see("/sign-in").text
    assert "Overview" in sign_in(again).text


def acts(house: House, visitor: Visitor) -> str:
    """Let Ana make a flag; give her id."""
    ana = become(house, visitor, role="editor")
    ana.send(ana.see("/flags/new"), "/flags/new", key="of-ana")
    return str(house.services.record.recent(limit=1)[0]["actor"])


@pytest.mark.parametrize("page", ["/", "/audit", "/flags/of-ana"])
def test_who_acted_is_told_by_name_to_those_who_may_know(
    house: House, visitor: Visitor, page: str
) -> None:
    id = acts(house, visitor)
    assert (page, id[:7]) == (page, "person:")

    for role in ("admin", "auditor"):
        source = house.visitor(role).see(page).source
        assert f'<span class="person" title="{id}">Ana</span>' in source
    for role in ("viewer", "releaser"):
        source = house.visitor(role).see(page).source
        assert f'<span class="key">{id}</span>' in source
        assert ">Ana<" not in source


def test_the_record_is_searched_by_name_by_those_who_may_know_it(
    house: House, visitor: Visitor
) -> None:
    acts(house, visitor)

    assert "of-ana flag created Ana" in visitor.see("/audit?who=ana&what=flag").text
    assert "No entry is like that" in house.visitor("viewer").see("/audit?who=ana&what=flag").text


def test_who_is_forgotten_has_no_name_in_the_record(house: House, visitor: Visitor) -> None:
    id = acts(house, visitor)

    page = visitor.see(f"/settings/people/{id.removeprefix('person:')}")
    visitor.send(page, f"/settings/people/{id.removeprefix('person:')}/forget")

    entry = house.services.record.recent(limit=9)
    seq = next(each["seq"] for each in entry if each["actor"] == id)
    assert f"a former colleague {id}" in visitor.see(f"/audit/{seq}").text
    assert "Ana" not in visitor.see("/audit").text


def test_without_people_the_page_asks_for_no_password(house: House) -> None:
    assert "Password" not in a_stranger(house).see("/sign-in").text


@pytest.mark.parametrize(
    ("password", "again", "words"),
    [("short", "short", "12 to 128 characters"), (PASSWORD, "another one", "not the same")],
)
def test_what_is_wrong_with_a_password_is_said_and_the_link_stays_good(
    house: House, visitor: Visitor, password: str, again: str, words: str
) -> None:
    here = link(invite(visitor))
    stranger = a_stranger(house)

    told = {"password": password, "again": again}
    answer = stranger.client.post(here, data=told, headers=OUR_PAGE)

    assert answer.status_code == 422
    assert words in _page(answer).text
    assert "Welcome, Ana" in stranger.see(here).text


def test_a_wrong_password_is_said_and_the_name_is_kept(house: House, visitor: Visitor) -> None:
    become(house, visitor)

    page = sign_in(a_stranger(house), "wrong password")

    assert page.status == 401
    assert "do not belong together" in page.text
    assert 'value="ana@example.com"' in page.source
    assert "wrong password" not in page.source


def test_too_many_tries_are_refused_and_say_for_how_long(house: House, visitor: Visitor) -> None:
    become(house, visitor)
    pages = [sign_in(a_stranger(house), f"guess {number}") for number in range(11)]

    assert [page.status for page in pages] == [401] * 10 + [429]
    assert "Wait a quarter of an hour" in pages[-1].text


def test_a_viewer_is_offered_nothing_to_change_and_refused_it(
    house: House, visitor: Visitor
) -> None:
    ana = become(house, visitor)

    people, flags = ana.see("/settings/people"), ana.see("/flags")

    assert "ana@example.com" not in people.source
    assert "What each role may" in people.text
    assert "New flag" not in flags.text
    assert ana.see("/settings/people/" + person_id(visitor)).status == 403
    csrf = ana.see("/account").form("/account")["csrf"]
    told = {"csrf": csrf, "name": "Ben", "login": "ben", "role": "admin"}
    answer = ana.client.post("/settings/people", data=told, headers=OUR_PAGE)
    assert answer.status_code == 403


def test_a_role_in_one_environment_is_offered_there(house: House, visitor: Visitor) -> None:
    ana = become(house, visitor, **{"role:staging": "editor"})

    people = visitor.see("/settings/people")

    assert "editor in staging" in people.text
    assert "Your role is viewer , in staging editor" in ana.see("/account").text


def test_another_role_signs_out_and_another_name_does_not(house: House, visitor: Visitor) -> None:
    ana = become(house, visitor)
    here = "/settings/people/" + person_id(visitor)

    visitor.send(visitor.see(here), here, name="Ana B.")
    assert "Overview" in ana.see("/").text
    visitor.send(visitor.see(here), here, role="responder")

    assert "Overview" not in ana.see("/").text
    assert "responder" in visitor.see("/settings/people").text


def test_an_edit_of_what_somebody_else_edited_is_refused(house: House, visitor: Visitor) -> None:
    become(house, visitor)
    here = "/settings/people/" + person_id(visitor)
    old = visitor.see(here)
    visitor.send(visitor.see(here), here, name="Ana B.")

    page = visitor.send(old, here, name="Ana C.")

    assert page.status == 412
    assert "is at revision 3 now" in page.text


def test_a_name_that_is_taken_is_said_beside_its_field(visitor: Visitor) -> None:
    invite(visitor)

    page = invite(visitor, login="ANA@example.com")

    assert page.status == 409
    assert "signs in by this name already" in page.text
    assert 'value="Ana"' in page.source


def test_whoever_is_forgotten_is_nowhere_on_the_page(house: House, visitor: Visitor) -> None:
    become(house, visitor)
    here = "/settings/people/" + person_id(visitor)

    page = visitor.send(visitor.see(here), f"{here}/forget")

    assert "Forgotten" in page.text
    assert "ana@example.com" not in page.source
    assert sign_in(a_stranger(house)).status == 401


def test_the_last_admin_stays(house: House, visitor: Visitor) -> None:
    become(house, visitor, role="admin")
    here = "/settings/people/" + person_id(visitor)

    page = visitor.send(visitor.see(here), f"{here}/end")

    assert page.status == 409
    assert "the last admin" in page.text


class TestOnesOwnPassword:
    def test_it_is_changed_and_every_other_session_ends(
        self, house: House, visitor: Visitor
    ) -> None:
        ana, elsewhere = become(house, visitor), a_stranger(house)
        sign_in(elsewhere)

        told = {"old": PASSWORD, "password": "another password!", "again": "another password!"}
        page = ana.send(ana.see("/account"), "/account", **told)

        assert "Your password is changed" in page.text
        assert "Overview" not in elsewhere.see("/").text
        assert "Overview" in sign_in(a_stranger(house), "another password!").text

    def test_not_without_the_old_one(self, house: House, visitor: Visitor) -> None:
        ana = become(house, visitor)

        told = {"old": "wrong", "password": "another password!", "again": "another password!"}
        page = ana.send(ana.see("/account"), "/account", **told)

        assert page.status == 422
        assert "not your password" in page.text

    def test_whoever_is_here_by_a_link_has_none(self, house: House) -> None:
        operator = a_stranger(house)
        link = f"/sign-in/{house.services.sessions.make_link()}"
        operator.client.post(link, headers=OUR_PAGE)

        page = operator.see("/account")

        assert "You are here by a link" in page.text
        assert "Change password" not in page.text


def person_id(visitor: Visitor) -> str:
    found = re.search(r"/settings/people/([0-9a-f]{8})", visitor.see("/settings/people").source)
    assert found
    return found[1]
