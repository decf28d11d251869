"""What whoever says who somebody is owes us: an identity provider and a signed header, each driver
and its fake. Whatever comes in, the answer is that person or NotIntroduced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flagserver.auth.alb_header import AlbHeader, LoadBalancer
from flagserver.auth.oidc import Client, OidcProvider
from flagserver.domain.people import Outsider, Source
from flagserver.egress import GuardedEgress, Place
from flagserver.ports import IdentityProvider, Introduction, NotIntroduced, SignedHeader
from flagserver.system import SystemClock
from tests import load_balancer, openid
from tests.introducing import FakeHeader, FakeProvider

CALLBACK = "http://flags.example/sign-in/oidc/callback"
WORDS = {"name": "Bea Berg", "login": "bea@example.com", "groups": frozenset({"shop", "lunch"})}
ONE_KEY = openid.a_key()
_numbers = count(1)


def an_introduction() -> Introduction:
    """Return a sign-in like no other."""
    number = f"{next(_numbers):x}"
    return Introduction(CALLBACK, *(f"{part}-{number:0>43}" for part in ("s", "n", "v")))


def words_of(found: Outsider) -> dict[str, Any]:
    """Return what is told of somebody."""
    return {"name": found.name, "login": found.login, "groups": found.groups}


# --- an identity provider -------------------------------------------------------------------------


@dataclass
class Site:
    """A provider, and what happens at the other side.

    authorize: the person signs in there; gives the code.  become: it is another person from now on.
    answers: whether it does.
    """

    provider: IdentityProvider
    source: Source
    authorize: Callable[[str], str]
    become: Callable[[str, frozenset[str]], None]
    answers: Callable[[bool], None]

    def sign_in(self, told: Introduction | None = None) -> Outsider:
        told = told or an_introduction()
        return self.provider.finish(told, self.authorize(self.provider.begin(told)))


def a_fake_site() -> Site:
    provider = FakeProvider()

    def become(id: str, groups: frozenset[str]) -> None:
        subject = f"https://login.fake {id}"
        provider.person = replace(provider.person, subject=subject, groups=groups)

    return Site(
        *(provider, Source.OIDC, provider.authorize, become),
        answers=lambda yes: setattr(provider, "down", not yes),
    )


def an_oidc_site(there: openid.Provider) -> Site:
    place = urlsplit(there.issuer)
    egress = GuardedEgress([Place("127.0.0.1", place.port or 80, inside=True)])
    client = Client(there.issuer, openid.CLIENT, openid.SECRET)
    paths = ("/.well-known/openid-configuration", "/keys", "/token")

    def authorize(address: str) -> str:
        return dict(parse_qsl(urlsplit(there.authorize(address)).query))["code"]

    def become(id: str, groups: frozenset[str]) -> None:
        there.person |= {"sub": id, "groups": sorted(groups)}

    def answers(yes: bool) -> None:
        there.broken = {} if yes else dict.fromkeys(paths, 503)

    provider = OidcProvider(egress, SystemClock(), client)
    return Site(provider, Source.OIDC, authorize, become, answers)


@pytest.fixture(params=["fake", "oidc"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "fake":
        yield a_fake_site()
        return
    person = {
        "sub": "0a1b",
        "name": WORDS["name"],
        "email": WORDS["login"],
        "groups": sorted(WORDS["groups"]),
    }
    with openid.Provider(person, CALLBACK, key=ONE_KEY).served() as there:
        yield an_oidc_site(there)


class TestAnIdentityProvider:
    def test_who_signed_in_there_is_who_is_told(self, site: Site):
        found = site.sign_in()

        assert (found.source, words_of(found)) == (site.source, WORDS)
        assert site.provider.name

    def test_somebody_is_known_by_the_same_for_ever_and_others_by_another(self, site: Site):
        bea = site.sign_in()
        site.become("0a1b", frozenset({"admins"}))
        later = site.sign_in()
        site.become("ffff", frozenset())
        other = site.sign_in()

        assert later.subject == bea.subject != other.subject
        assert (set(later.groups), set(other.groups)) == ({"admins"}, set())

    def test_the_browser_carries_the_state_and_not_the_proof(self, site: Site):
        told = an_introduction()

        there = site.provider.begin(told)

        assert dict(parse_qsl(urlsplit(there).query))["state"] == told.state
        assert told.verifier not in there
        assert there != site.provider.begin(an_introduction())

    def test_a_code_is_good_once(self, site: Site):
        told = an_introduction()
        code = site.authorize(site.provider.begin(told))
        site.provider.finish(told, code)

        with pytest.raises(NotIntroduced):
            site.provider.finish(told, code)

    @pytest.mark.parametrize("name", ["callback", "nonce", "verifier"])
    def test_a_code_is_of_its_own_sign_in(self, site: Site, name: str):
        told = an_introduction()
        other = replace(told, **{name: f"{getattr(told, name)}0"})
        code = site.authorize(site.provider.begin(told))

        with pytest.raises(NotIntroduced):
            site.provider.finish(other, code)

    @pytest.mark.parametrize(
        "code",
        ["", "0", "x" * 5_000, "\0", "é", "a&client_id=b", "a b\r\nc: d", "%00", "\u2603" * 50],
        ids=range(9),
    )
    def test_what_is_no_code_introduces_nobody(self, site: Site, code: str):
        told = an_introduction()
        site.authorize(site.provider.begin(told))

        with pytest.raises(NotIntroduced):
            site.provider.finish(told, code)

    def test_while_it_does_not_answer_nobody_is_introduced_and_afterwards_they_are(
        self, site: Site
    ):
        site.answers(False)
        with pytest.raises(NotIntroduced):
            site.provider.begin(an_introduction())

        site.answers(True)
        told = an_introduction()
        code = site.authorize(site.provider.begin(told))
        site.answers(False)
        with pytest.raises(NotIntroduced):
            site.provider.finish(told, code)

        site.answers(True)
        assert words_of(site.sign_in()) == WORDS

    def test_a_refusal_tells_no_secret(self, site: Site):
        told = an_introduction()
        code = site.authorize(site.provider.begin(told))
        site.provider.finish(told, code)

        with pytest.raises(NotIntroduced) as refusal:
            site.provider.finish(told, code)

        for secret in (code, told.verifier, told.nonce, told.state, openid.SECRET):
            assert secret not in str(refusal.value)

    def test_many_sign_in_at_once(self, site: Site):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: site.sign_in(), range(12)))

        assert [words_of(each) for each in found] == [WORDS] * 12


# --- a signed header ------------------------------------------------------------------------------


@dataclass
class Turned:
    """A clock that a test turns."""

    at: datetime = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
    seconds: float = 0.0

    def now(self) -> datetime:
        return self.at + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Front:
    """What stands in front of the server and signs. signed: in somebody's name, for two minutes.
    another: the same by somebody else's key.  answers: whether the key is reached."""

    header: SignedHeader
    clock: Turned
    signed: Callable[[str], str]
    another: Callable[[str], str]
    answers: Callable[[bool], None]

    def read(self, token: str) -> Outsider | None:
        """Return who it is, None where it is not believed. Anything else fails the test."""
        try:
            return self.header.read(token)
        except NotIntroduced:
            return None


def a_fake_front() -> Front:
    clock = Turned()
    ours, theirs = FakeHeader(clock), FakeHeader(clock)

    def signed(by: FakeHeader) -> Callable[[str], str]:
        return lambda name: by.signed(replace(by.person, name=name))

    return Front(
        *(ours, clock, signed(ours), signed(theirs)),
        answers=lambda yes: setattr(ours, "down", not yes),
    )


def an_alb_front() -> Front:
    clock, keys = Turned(), load_balancer.Keys()
    balancer = LoadBalancer(load_balancer.SIGNER, load_balancer.CLIENT, load_balancer.ISSUER)

    def signed(key: Any) -> Callable[[str], str]:
        def sign(name: str) -> str:
            until = int(clock.now().timestamp()) + 120
            claims = {
                "sub": "0a1b",
                "name": name,
                "email": WORDS["login"],
                "groups": sorted(WORDS["groups"]),
            }
            return load_balancer.header(key, told=claims, exp=until)

        return sign

    return Front(
        *(AlbHeader(keys, clock, balancer), clock),
        *(signed(keys.keys[load_balancer.KID]), signed(load_balancer.a_key())),
        answers=lambda yes: setattr(keys, "down", not yes),
    )


FRONTS = {"fake": a_fake_front, "alb": an_alb_front}


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> Front:
    return FRONTS[request.param]()


class TestASignedHeader:
    def test_whom_it_names_is_who_is_told(self, front: Front):
        found = front.header.read(front.signed("Bea Berg"))

        assert (found.source, words_of(found)) == (Source.ALB, WORDS)
        assert found.subject == front.header.read(front.signed("Bea")).subject

    def test_somebody_elses_signature_is_nobodys(self, front: Front):
        assert front.read(front.another("Bea Berg")) is None
        assert front.read(front.signed("Bea Berg"))

    def test_no_character_of_it_can_be_another(self, front: Front):
        """Then it names nobody: never somebody else. (In base64, a last character has bits to
        spare, so some of these are the same token.)"""
        token = front.signed("Bea Berg")
        bea, end = front.header.read(token), len(token.rstrip("="))

        for place in range(end):
            changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
            found = front.read(changed)
            assert found is None or (found == bea and place == end - 1), place

    def test_cut_anywhere_it_names_nobody(self, front: Front):
        token = front.signed("Bea Berg").rstrip("=")

        assert not any(front.read(token[:length]) for length in range(len(token)))

    def test_parts_of_two_do_not_make_one(self, front: Front):
        ours, others = front.signed("Bea Berg").split("."), front.signed("Ben Berg").split(".")

        for place in range(len(ours)):
            mixed = [*ours[:place], others[place], *ours[place + 1 :]]
            assert mixed == ours or front.read(".".join(mixed)) is None

    def test_two_are_none(self, front: Front):
        token = front.signed("Bea Berg")

        for between in (",", ", ", " ", "\n", "."):
            assert front.read(token + between + token) is None

    def test_it_ends(self, front: Front):
        token = front.signed("Bea Berg")
        front.clock.seconds = 119.0
        assert front.read(token)

        front.clock.seconds = 120.0

        assert front.read(token) is None

    def test_without_the_key_it_is_not_believed_and_with_it_it_is(self, front: Front):
        token = front.signed("Bea Berg")
        front.answers(False)
        assert front.read(token) is None

        front.answers(True)

        assert front.read(token)

    @pytest.mark.parametrize("name", FRONTS)
    @given(text=st.text(max_size=300) | st.text("aA0-_=.{}", max_size=60))
    @settings(suppress_health_check=[HealthCheck.differing_executors])
    def test_whatever_is_written_it_is_an_answer(self, name: str, text: str):
        assert FRONTS[name]().read(text) is None
