"""People: invited, signed in, given roles, ended and forgotten; and tries that are too many."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import fakeredis
import pytest
from argon2 import PasswordHasher

from flagserver import bootstrap
from flagserver.auth.passwords import Argon2Passwords
from flagserver.domain import access, attempts, people
from flagserver.domain.attempts import WINDOW_SECONDS
from flagserver.domain.commands import Reasoned
from flagserver.domain.documents import EVERYWHERE, Principal
from flagserver.domain.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    StaleRevision,
    TooMany,
    Unauthenticated,
)
from flagserver.domain.people import NewPerson, Person, PersonEdit
from flagserver.domain.tokens import digest
from flagserver.services import Services
from flagserver.services.people import People
from flagserver.services.sessions import IDLE_SECONDS, NOTE_SECONDS, SESSION_SECONDS
from flagserver.settings import Settings
from flagserver.storage.redis import keys
from flagserver.storage.redis.store import RedisStore
from tests.builders import ADMIN
from tests.http.api import CountingEntropy, TurnedClock

PASSWORD = "correct horse battery"
HOME, AWAY = "198.51.100.7", "203.0.113.9"

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class Site:
    """An installation with people, over a fake Redis and a turned clock."""

    redis: fakeredis.FakeRedis
    store: RedisStore
    clock: TurnedClock
    services: Services
    people: People

    def invite(self, login: str = "ana@example.com", **told: Any) -> tuple[Person, str]:
        """Invite somebody; return them, and their link's secret."""
        command = NewPerson.model_validate({"name": "Ana", "login": login, **told})
        invited = self.people.invite(command, ADMIN)
        return invited.view.person, invited.secret

    def member(self, login: str = "ana@example.com", **told: Any) -> Person:
        """Invite somebody who then sets PASSWORD."""
        person, secret = self.invite(login, **told)
        self.people.accept(secret, PASSWORD)
        return person

    def sign_in(self, password: str = PASSWORD, address: str = HOME) -> str:
        return self.people.sign_in("ana@example.com", password, address)

    def who(self, session: str) -> Principal | None:
        return self.services.sessions.principal(session)

    def record(self) -> str:
        """Everything that the record says."""
        return "\n".join(str(link.canonical) for link in self.store.record())


@pytest.fixture
def site() -> Site:
    redis = fakeredis.FakeRedis()
    store = RedisStore.over(redis, pause=lambda attempt: None)
    clock, entropy = TurnedClock(), CountingEntropy()
    services = bootstrap.build_services(Settings(), store, clock, entropy)
    bootstrap.prepare(Settings(), store, services, entropy)
    people = People(
        *(store, store, store, Argon2Passwords(CHEAP), services.sessions, clock, entropy),
        identity=store.identity,
    )
    return Site(redis, store, clock, services, people)


class TestBecomingSomebody:
    def test_whoever_is_invited_sets_a_password_and_is_in(self, site: Site) -> None:
        person, secret = site.invite(role="viewer", roles={"staging": "releaser"})

        session = site.people.accept(secret, PASSWORD)

        who = site.who(session)
        assert who is not None
        assert who.id == f"person:{person.id}"
        assert access.may(who, access.ROLL_OUT, "staging")
        assert not access.may(who, access.ROLL_OUT, "production")

    def test_a_link_is_good_once(self, site: Site) -> None:
        _, secret = site.invite()
        site.people.accept(secret, PASSWORD)

        with pytest.raises(Unauthenticated, match="used before or has ended"):
            site.people.accept(secret, "another password!")

    def test_a_password_that_is_too_short_spends_nothing(self, site: Site) -> None:
        _, secret = site.invite()

        with pytest.raises(Invalid, match="12 to 128 characters"):
            site.people.accept(secret, "short")

        assert site.who(site.people.accept(secret, PASSWORD))

    def test_nobody_can_sign_in_before(self, site: Site) -> None:
        site.invite()

        with pytest.raises(Unauthenticated):
            site.sign_in("")

    def test_two_cannot_have_one_login_whatever_its_case(self, site: Site) -> None:
        site.invite()

        with pytest.raises(AlreadyExists) as refusal:
            site.invite("ANA@example.com")

        assert refusal.value.field == "/login"

    def test_a_role_in_no_environment_is_refused(self, site: Site) -> None:
        with pytest.raises(Invalid) as refusal:
            site.invite(roles={"nowhere": "admin"})

        assert refusal.value.field == "/roles/nowhere"

    def test_only_an_admin_invites(self, site: Site) -> None:
        editor = Principal("person:1", "editor", "person", roles={EVERYWHERE: "editor"})

        with pytest.raises(Forbidden):
            site.people.invite(NewPerson(name="Ben", login="ben"), editor)


class TestSigningIn:
    def test_by_name_and_password(self, site: Site) -> None:
        site.member()

        assert site.who(site.people.sign_in(" Ana@Example.com ", PASSWORD, HOME))

    @pytest.mark.parametrize("login", ["ana@example.com", "nobody@example.com"])
    def test_a_wrong_one_is_told_alike_whoever_it_is(self, site: Site, login: str) -> None:
        site.member()

        with pytest.raises(Unauthenticated, match="do not belong together"):
            site.people.sign_in(login, "wrong password", HOME)

    def test_every_session_is_another(self, site: Site) -> None:
        site.member()

        assert site.sign_in() != site.sign_in()

    def test_it_ends_when_it_is_not_used(self, site: Site) -> None:
        site.member()
        session = site.sign_in()

        site.clock.turn(IDLE_SECONDS - 1)
        assert site.who(session)

        left = site.redis.ttl(keys.secret("session", digest(session)))
        assert IDLE_SECONDS - 5 <= left <= IDLE_SECONDS, "from when it was used, by the store"

    def test_it_ends_after_half_a_day_however_much_it_is_used(self, site: Site) -> None:
        site.member()
        session = site.sign_in()

        for _ in range(SESSION_SECONDS // NOTE_SECONDS - 1):
            site.clock.turn(NOTE_SECONDS)
            assert site.who(session)
        site.clock.turn(2 * NOTE_SECONDS)

        assert site.who(session) is None

    def test_a_password_kept_by_older_numbers_is_kept_anew(self, site: Site) -> None:
        person = site.member()
        session = site.sign_in()
        before = site.people.get(person.id).person.password
        site.people._passwords = Argon2Passwords(
            PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
        )

        site.sign_in()

        after = site.people.get(person.id).person.password
        assert after is not None
        assert before != after
        assert "t=2" in after
        assert site.who(session), "nothing changed for anybody"


class TestWhatEndsASession:
    @pytest.fixture
    def session(self, site: Site) -> str:
        self.person = site.member()
        return site.sign_in()

    def test_other_roles(self, site: Site, session: str) -> None:
        site.people.edit(self.person.id, PersonEdit(role="responder"), self.at(site), ADMIN)

        assert site.who(session) is None
        again = site.who(site.sign_in())
        assert again is not None
        assert again.role == "responder"

    def test_another_name_does_not(self, site: Site, session: str) -> None:
        site.people.edit(self.person.id, PersonEdit(name="Ana B."), self.at(site), ADMIN)

        assert site.who(session)

    def test_a_new_password(self, site: Site, session: str) -> None:
        who = site.who(session)
        assert who is not None
        new = site.people.change_password(who, PASSWORD, "another password!", HOME)

        assert site.who(session) is None
        assert site.who(new)
        with pytest.raises(Unauthenticated):
            site.sign_in(PASSWORD)

    def test_a_password_is_not_changed_without_the_old_one(self, site: Site, session: str) -> None:
        who = site.who(session)
        assert who is not None

        with pytest.raises(Unauthenticated, match="not your password"):
            site.people.change_password(who, "wrong", "another password!", HOME)

        assert site.who(session)

    def test_being_ended_and_then_nobody_signs_in(self, site: Site, session: str) -> None:
        site.people.end(self.person.id, Reasoned(), ADMIN)

        assert site.who(session) is None
        with pytest.raises(Unauthenticated):
            site.sign_in()

    def test_an_invitation_is_void_too(self, site: Site, session: str) -> None:
        again = site.people.invite_again(self.person.id, Reasoned(), ADMIN)

        site.people.end(self.person.id, Reasoned(), ADMIN)

        with pytest.raises(Unauthenticated):
            site.people.accept(again.secret, PASSWORD)

    def at(self, site: Site) -> int:
        return site.people.get(self.person.id).revision


class TestForgetting:
    def test_names_stand_with_the_person_alone_and_then_nowhere(self, site: Site) -> None:
        person = site.member()
        site.sign_in()
        assert "Ana" not in site.record()
        assert "example.com" not in site.record()

        site.people.forget(person.id, Reasoned(), ADMIN)

        left = site.people.get(person.id).person
        assert (left.name, left.login, left.password) == ("", "", None)
        assert f"person:{person.id}" in site.record(), "who acted is still there, by the id"
        assert site.services.record.check() is None
        everything = json.dumps([str(site.store.read_all("people")), site.record()])
        assert "example.com" not in everything

    def test_the_login_is_free_again(self, site: Site) -> None:
        person = site.member()

        site.people.forget(person.id, Reasoned(), ADMIN)

        assert site.member().id != person.id
        assert site.who(site.sign_in())


class TestTheLastAdmin:
    @pytest.mark.parametrize("how", ["edit", "end", "forget"])
    def test_cannot_be_taken_away(self, site: Site, how: str) -> None:
        admin = site.member(role="admin")

        with pytest.raises(Conflict, match="the last admin"):
            self.take_away(site, admin, how)

        site.member("ben", role="admin")
        self.take_away(site, admin, how)

    def test_two_who_take_each_other_away_do_not_both_succeed(self, site: Site) -> None:
        admins = [site.member(role="admin"), site.member("ben", role="admin")]
        between = [lambda: self.take_away(site, admins[1], "end")]
        read_all = site.store.read_all

        def read_then_be_overtaken(collection: str) -> Any:
            found = read_all(collection)
            if collection == "people" and between:
                between.pop()()
            return found

        site.store.read_all = read_then_be_overtaken  # type: ignore[method-assign]

        with pytest.raises(Conflict, match="the last admin"):
            self.take_away(site, admins[0], "end")

    def take_away(self, site: Site, person: Person, how: str) -> None:
        revision = site.people.get(person.id).revision
        if how == "edit":
            site.people.edit(person.id, PersonEdit(role="viewer"), revision, ADMIN)
        else:
            getattr(site.people, how)(person.id, Reasoned(), ADMIN)


def test_a_stale_edit_is_refused(site: Site) -> None:
    person = site.member()
    old = site.people.get(person.id).revision - 1

    with pytest.raises(StaleRevision):
        site.people.edit(person.id, PersonEdit(name="Ben"), old, ADMIN)


class TestTooManyTries:
    def test_a_thousand_wrong_ones_are_limited_and_lock_nobody_out(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        site.member()
        answers = {Unauthenticated: 0, TooMany: 0}

        for number in range(1000):
            with pytest.raises((Unauthenticated, TooMany)) as refusal:
                site.sign_in(f"guess number {number}", AWAY)
            answers[refusal.type] += 1

        assert answers == {Unauthenticated: 10, TooMany: 990}
        with pytest.raises(TooMany, match="Too many tries"):
            site.sign_in(PASSWORD, AWAY)
        assert site.who(site.sign_in(PASSWORD, HOME))
        assert site.record().count("session:refuse") == 1
        everything = [site.record(), caplog.text, *map(str, site.store.read_all("people").values())]
        for told in ("guess number", PASSWORD, AWAY, HOME):
            assert not any(told in each for each in everything), told

    def test_the_record_says_so_once_and_neither_whose_nor_which_nor_from_where(
        self, site: Site
    ) -> None:
        site.member()
        for number in range(30):
            with pytest.raises((Unauthenticated, TooMany)):
                site.sign_in(f"guess number {number}", AWAY)

        assert site.record().count("session:refuse") == 1
        assert not any(told in site.record() for told in ("guess", AWAY, "ana@"))

    def test_an_address_is_limited_over_all_accounts(self, site: Site) -> None:
        answers = []
        for number in range(60):
            with pytest.raises((Unauthenticated, TooMany)) as refusal:
                site.people.sign_in(f"name-{number}", "guess", AWAY)
            answers.append(refusal.type)

        assert answers == [Unauthenticated] * 50 + [TooMany] * 10

    def test_an_account_is_limited_over_all_addresses(self, site: Site) -> None:
        site.member()
        answers = []
        for number in range(210):
            with pytest.raises((Unauthenticated, TooMany)) as refusal:
                site.sign_in("guess", f"192.0.2.{number}")
            answers.append(refusal.type)

        assert answers == [Unauthenticated] * 200 + [TooMany] * 10

    def test_names_of_counts_tell_neither_account_nor_address(self) -> None:
        told = attempts.limits("store", "ana@example.com", HOME)

        assert len({limit.name for limit in told}) == 3
        assert not any("ana" in limit.name or HOME in limit.name for limit in told)
        assert told != attempts.limits("another store", "ana@example.com", HOME)
        assert WINDOW_SECONDS == 900


def test_what_the_record_may_say_of_a_person_is_nothing_personal() -> None:
    person = people.create(NewPerson(name="Ana", login="ana@example.com"), id="1", at="t")

    assert person.recorded() == {
        "roles": {EVERYWHERE: "viewer"},
        "source": "local",
        "has_password": False,
        "ended": None,
    }
