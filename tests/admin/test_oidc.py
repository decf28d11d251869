"""Signing in at an identity provider, and every way to forge that."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flagserver.domain.commands import Reasoned
from flagserver.domain.documents import EVERYWHERE
from flagserver.domain.people import NewPerson, Person, PersonEdit, Source
from flagserver.settings import Settings, SettingsError
from tests.openid import CLIENT, SECRET, Provider, a_key

from .house import ANA, House, Visitor, _page

CALLBACK = "http://flags.example/sign-in/oidc/callback"
ROLES = "flag-admins=admin, shop=editor@staging, shop=responder, flag-readers=viewer"
ONE_KEY = a_key()
BEA = {
    "sub": "0a1b",
    "name": "Bea Berg",
    "email": "Bea@example.com",
    "email_verified": True,
    "groups": ["shop", "lunch"],
}


@dataclass
class Site:
    """A server whose people sign in at a provider on loopback."""

    house: House
    provider: Provider

    def browser(self) -> FlaskClient:
        return self.house.app.test_client()

    def begin(self, browser: FlaskClient) -> str:
        """Follow the link of the sign-in page; return where the provider sends the browser back."""
        sent = browser.get("/sign-in/oidc")
        assert sent.status_code == 303
        return self.provider.authorize(sent.headers["Location"])

    def sign_in(self, browser: FlaskClient | None = None) -> TestResponse:
        browser = browser or self.browser()
        return self.back(browser, self.begin(browser))

    def back(self, browser: FlaskClient, there: str) -> TestResponse:
        parts = urlsplit(there)
        return browser.get(f"{parts.path}?{parts.query}")

    def people(self) -> list[Person]:
        return [view.person for view in self.house.services.people.all(ANA)]


def a_house(provider: Provider, **environ: str) -> House:
    told = {
        "SORTITION_PUBLIC_URL": "http://flags.example",
        "SORTITION_EGRESS_INTERNAL_HOSTS": urlsplit(provider.issuer).netloc,
        "SORTITION_OIDC_ISSUER": provider.issuer,
        "SORTITION_OIDC_CLIENT_ID": CLIENT,
        "SORTITION_OIDC_CLIENT_SECRET": SECRET,
        "SORTITION_OIDC_ROLES": ROLES,
    }
    return House(settings=Settings.read(told | environ))


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(dict(BEA), CALLBACK, key=ONE_KEY).served() as provider:
        yield provider


@pytest.fixture
def site(provider: Provider) -> Site:
    return Site(a_house(provider), provider)


def refused(answer: TestResponse, words: str, status: int = 401) -> None:
    assert answer.status_code == status
    assert words in _page(answer).text
    assert not any("session=" in cookie for cookie in answer.headers.getlist("Set-Cookie"))


# --- the way in -----------------------------------------------------------------------------------


def test_somebody_is_known_from_their_first_sign_in_with_the_roles_of_their_groups(site: Site):
    browser = site.browser()
    assert "Sign in with 127.0.0.1" in Visitor(browser).see("/sign-in").text

    answer = site.sign_in(browser)

    assert answer.status_code == 303
    assert "Overview" in Visitor(browser).see("/").text
    [bea] = site.people()
    assert (bea.name, bea.login, bea.source) == ("Bea Berg", "Bea@example.com", Source.OIDC)
    assert bea.roles == {EVERYWHERE: "responder", "staging": "editor"}


def test_the_secret_is_shown_where_the_provider_wants_it(site: Site):
    site.provider.by_form = True

    assert site.sign_in().status_code == 303


def test_an_address_that_has_a_query_already_keeps_it(site: Site):
    site.provider.document = {
        "authorization_endpoint": f"{site.provider.issuer}/authorize?tenant=a%2Fb"
    }

    there = site.browser().get("/sign-in/oidc").headers["Location"]

    asked = dict(parse_qsl(urlsplit(there).query))
    assert (asked["tenant"], asked["response_type"]) == ("a/b", "code")


def test_the_verifier_leaves_only_with_the_code(site: Site):
    """Of the proof key (RFC 7636), the browser carries the hash alone."""
    browser = site.browser()
    there = browser.get("/sign-in/oidc").headers["Location"]
    asked = dict(parse_qsl(urlsplit(there).query))

    assert set(asked) == {
        *("response_type", "client_id", "redirect_uri", "scope", "state", "nonce"),
        *("code_challenge", "code_challenge_method"),
    }
    assert len(asked["code_challenge"]) == 43


def test_no_token_is_read_by_the_library_that_writes_what_we_ask():
    """Its own (`authlib.jose`) had forged signatures: CVE-2026-96760, CVE-2026-114615 and more."""
    code = "import flagserver.bootstrap, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    names = set(loaded.stdout.split())
    assert {"authlib.oauth2", "jwt"} <= names
    assert not {"authlib.jose", "authlib.oidc", "joserfc", "requests", "httpx"} & names


def test_the_record_says_that_they_came_and_not_who_they_are(site: Site):
    site.sign_in()

    told = "\n".join(str(link.canonical) for link in site.house.store.record())

    assert "person:create" in told
    assert not any(word in told for word in ("Bea", "bea@", "0a1b", "example.com"))


def test_nothing_changes_at_a_second_sign_in_that_says_the_same(site: Site):
    site.sign_in()
    before = site.people()

    site.sign_in()

    assert site.people() == before


def test_other_groups_are_other_roles_and_end_the_sessions_that_had_the_old_ones(site: Site):
    old = site.browser()
    site.sign_in(old)
    site.provider.person["groups"] = ["flag-readers"]

    new = site.browser()
    site.sign_in(new)

    assert [one.roles for one in site.people()] == [{EVERYWHERE: "viewer"}]
    assert old.get("/").status_code == 303
    assert new.get("/").status_code == 200


def test_another_name_ends_no_session(site: Site):
    browser = site.browser()
    site.sign_in(browser)
    site.provider.person["name"] = "Bea Bergmann"

    site.sign_in()

    assert [one.name for one in site.people()] == ["Bea Bergmann"]
    assert browser.get("/").status_code == 200


def test_without_a_group_that_has_a_role_nobody_is_let_in_nor_made_known(site: Site):
    site.provider.person["groups"] = ["lunch"]

    refused(site.sign_in(), "None of your groups has a role", 403)

    assert site.people() == []


def test_who_has_left_their_groups_is_out_at_the_next_try_everywhere(site: Site):
    browser = site.browser()
    site.sign_in(browser)
    site.provider.person["groups"] = []

    refused(site.sign_in(), "None of your groups has a role", 403)

    assert browser.get("/").status_code == 303


def test_who_was_ended_here_stays_out_whatever_the_provider_says(site: Site):
    site.sign_in()
    [bea] = site.people()
    site.house.services.people.end(bea.id, Reasoned(reason="left"), ANA)

    refused(site.sign_in(), "may not sign in here any more", 403)


def test_an_address_that_a_colleague_has_here_makes_nobody_that_colleague(site: Site):
    local = site.house.services.people.invite(
        NewPerson(name="Bea", login="bea@example.com", role="admin"), ANA
    ).view.person

    site.sign_in()

    assert {one.source for one in site.people()} == {Source.LOCAL, Source.OIDC}
    assert site.house.services.people.get(local.id).person.roles == {EVERYWHERE: "admin"}


def test_the_last_admin_is_not_made_less_by_their_groups(site: Site):
    site.provider.person["groups"] = ["flag-admins"]
    site.sign_in()
    site.provider.person["groups"] = ["flag-readers"]

    refused(site.sign_in(), "the last admin", 409)

    assert [one.roles[EVERYWHERE] for one in site.people()] == ["admin"]


def test_what_an_admin_gave_lasts_until_the_groups_are_asked_again(site: Site):
    site.sign_in()
    [bea] = site.people()
    site.house.services.people.edit(bea.id, PersonEdit(role="releaser"), 1, ANA)

    site.sign_in()

    assert site.people()[0].roles[EVERYWHERE] == "responder"


# --- forged ---------------------------------------------------------------------------------------


def _none(provider: Provider, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, "", "none", headers={"kid": provider.kid})


def _hs256(provider: Provider, claims: dict[str, Any]) -> str:
    """CVE-2015-9235 and its heirs: the public key, which everybody has, as an HMAC's secret."""
    pem = provider.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    by_hand = jwt.PyJWS()
    by_hand._algorithms["HS256"].prepare_key = lambda key: key  # type: ignore[method-assign]
    payload = jwt.PyJWT()._encode_payload(claims)
    return by_hand.encode(payload, pem, "HS256", headers={"kid": provider.kid})


def _foreign_key(provider: Provider, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, a_key(), "RS256", headers={"kid": provider.kid})


def _foreign_kid(provider: Provider, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, provider.key, "RS256", headers={"kid": "../second"})


def _no_kid(provider: Provider, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, provider.key, "RS256")


def _garbage(provider: Provider, claims: dict[str, Any]) -> str:
    return "a.b.c"


@pytest.mark.parametrize("sign", [_none, _hs256, _foreign_key, _foreign_kid, _no_kid, _garbage])
def test_a_token_that_its_provider_did_not_sign_lets_nobody_in(
    site: Site, sign: Callable[[Provider, dict[str, Any]], str]
):
    site.provider.sign = sign

    refused(site.sign_in(), "token")

    assert site.people() == []


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another"},
        {"aud": None},
        {"aud": [CLIENT, "another"]},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"azp": "another"},
        {"iss": "https://elsewhere.example"},
        {"iss": None},
        {"sub": None},
        {"sub": 7},
        {"sub": ""},
        {"sub": " "},
        {"sub": "\ud800"},
        {"sub": ["0a1b"]},
        {"sub": {"$ne": None}},
        {"nonce": ["x"]},
        {"nonce": "\ud800"},
        {"aud": {"$ne": None}},
        {"aud": []},
        {"iss": ["https://elsewhere.example"]},
        {"exp": "never"},
        {"exp": [1]},
        {"exp": int(time.time()) - 120},
        {"exp": None},
        {"iat": int(time.time()) + 3600},
        {"nbf": int(time.time()) + 3600},
    ],
    ids=",".join,  # by what is wrong: every worker must collect the same names
)
def test_a_token_that_is_not_for_this_sign_in_here_and_now_lets_nobody_in(
    site: Site, claims: dict[str, Any]
):
    site.provider.claims = claims

    refused(site.sign_in(), "token")

    assert site.people() == []


ODD_KEYS: list[Any] = [
    None,
    7,
    [],
    {},
    {"kty": ["RSA"], "kid": "a"},
    {"kty": "RSA", "kid": ["a"], "n": "AQAB", "e": "AQAB"},
    {"kty": "RSA", "kid": "a", "n": 7, "e": {}},
    {"kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB", "alg": "none"},
    {"kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB", "alg": ["RS256"]},
    {"kty": "EC", "kid": "a", "crv": "P-256", "x": "AA", "y": "AA"},
    {"kty": "oct", "kid": "a", "k": "c2VjcmV0"},
    {"kty": "OKP", "kid": "a", "crv": "Ed25519", "x": "AA"},
]


def test_keys_that_cannot_be_used_are_passed_over(site: Site):
    site.provider.listed = ODD_KEYS

    assert site.sign_in().status_code == 303


def test_a_secret_among_the_keys_is_nothing_to_sign_with(site: Site):
    """Whoever reads the list could sign with it."""
    site.provider.listed = [{"kty": "oct", "kid": "shared", "k": "A" * 43, "alg": "HS256"}]
    site.provider.sign = lambda provider, claims: jwt.encode(
        claims, bytes(32), "HS256", headers={"kid": "shared"}
    )

    refused(site.sign_in(), "a key that")

    assert site.people() == []


@pytest.mark.parametrize("value", [None, 7, {"$ne": 1}, [[]], "\ud800", "x" * 1_000, "<b>", "\0"])
def test_claims_of_another_form_name_nobody_else_and_give_no_role(site: Site, value: object):
    site.provider.claims = dict.fromkeys(("name", "email", "preferred_username"), value)
    assert site.sign_in().status_code == 303

    site.provider.claims["groups"] = value

    refused(site.sign_in(), "None of your groups has a role", 403)


def test_another_state_is_refused_before_the_provider_is_asked(site: Site):
    browser = site.browser()
    there = site.begin(browser)
    site.provider.asked.clear()

    answer = site.back(browser, there.replace("state=", "state=0"))

    refused(answer, "another browser")
    assert site.provider.asked == []


def test_another_browser_cannot_end_a_sign_in_that_it_did_not_begin(site: Site):
    there = site.begin(site.browser())
    other = site.browser()
    site.begin(other)

    refused(site.back(site.browser(), there), "another browser")
    refused(site.back(other, there), "another browser")


def test_coming_back_twice_signs_in_once(site: Site):
    browser = site.browser()
    cookie_kept = site.begin(browser)
    cookie = browser.get_cookie("sortition_oidc")
    assert cookie is not None
    assert site.back(browser, cookie_kept).status_code == 303

    browser.set_cookie("sortition_oidc", cookie.value)

    refused(site.back(browser, cookie_kept), "has ended")


def test_a_code_that_somebody_else_spent_is_worth_nothing(site: Site):
    browser = site.browser()
    there = site.begin(browser)
    site.provider.codes.clear()

    refused(site.back(browser, there), "refused (400)")


def test_a_refusal_over_there_is_told_without_its_words(site: Site):
    answer = site.browser().get("/sign-in/oidc/callback?error=<b>call+0900</b>&state=x")

    refused(answer, "did not let you in")
    assert "0900" not in answer.text


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys"])
def test_a_provider_that_is_down_is_said_and_asked_again_at_the_next_try(site: Site, path: str):
    site.provider.broken[path] = 503
    refused(site.browser().get("/sign-in/oidc"), "refused (503)")

    site.provider.broken.clear()

    assert site.sign_in().status_code == 303


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://elsewhere.example"},
        {"jwks_uri": "http://169.254.169.254/latest/meta-data"},
        {"jwks_uri": "https://elsewhere.example/keys"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": None},
    ],
    ids=str,
)
def test_a_provider_that_names_addresses_of_others_is_not_followed(
    site: Site, document: dict[str, Any]
):
    site.provider.document = document

    assert site.browser().get("/sign-in/oidc").status_code == 401


def test_the_secret_goes_nowhere_else_than_to_hosts_on_the_list(site: Site):
    site.provider.document = {"token_endpoint": "https://elsewhere.example/token"}

    refused(site.sign_in(), "not on the list of hosts")


def test_a_new_key_is_found_once_the_old_list_is_a_minute_old(site: Site):
    now = [0.0]
    site.house.clock.monotonic = lambda: now[0]  # type: ignore[method-assign]
    site.sign_in()
    site.provider.key, site.provider.kid = a_key(), "second"

    refused(site.sign_in(), "a key that")
    now[0] = 61.0

    assert site.sign_in().status_code == 303


def test_the_list_of_keys_is_not_asked_for_at_each_sign_in(site: Site):
    for _ in range(3):
        site.sign_in()

    assert site.provider.asked.count("/keys") == 1


# --- domains, settings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"email": "bea@elsewhere.example"}, "domain"),
        ({"email": "bea@example.com.elsewhere.example"}, "domain"),
        ({"email_verified": False}, "does not say that your e-mail address is yours"),
        ({"email_verified": None}, "does not say that your e-mail address is yours"),
        ({"email_verified": "true"}, "does not say that your e-mail address is yours"),
        ({"email": None}, "domain"),
    ],
    ids=str,
)
def test_only_addresses_of_the_named_domains_are_let_in(
    provider: Provider, told: dict[str, Any], words: str
):
    domains = {"SORTITION_OIDC_DOMAINS": "example.com", "SORTITION_OIDC_ROLES": "*=viewer"}
    site = Site(a_house(provider, **domains), provider)
    provider.claims = told
    refused(site.sign_in(), words)

    provider.claims = {}

    assert site.sign_in().status_code == 303
    assert [one.roles for one in site.people()] == [{EVERYWHERE: "viewer"}]


def test_without_a_provider_there_is_no_link_and_nothing_to_come_back_to(house: House):
    stranger = Visitor(house.app.test_client())

    assert "Sign in with" not in stranger.see("/sign-in").text
    assert stranger.see("/sign-in/oidc").status == 404
    assert stranger.see("/sign-in/oidc/callback?state=a&code=b").status == 404


WHOLE = {
    "SORTITION_OIDC_ISSUER": "https://login.example",
    "SORTITION_OIDC_CLIENT_ID": CLIENT,
    "SORTITION_OIDC_CLIENT_SECRET": SECRET,
    "SORTITION_OIDC_ROLES": "a=viewer",
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_half_set_provider_stops_the_start_and_says_what_is_missing(name: str):
    with pytest.raises(SettingsError, match=f"set {name} too") as refusal:
        House(settings=Settings.read({key: value for key, value in WHOLE.items() if key != name}))

    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ("*=viewer", "SORTITION_OIDC_DOMAINS is needed"),
        ("a=boss", "'boss' is none of"),
        ("a", "'a' is not group=role"),
        (",", "names no role"),
    ],
)
def test_roles_that_cannot_be_meant_stop_the_start(roles: str, words: str):
    with pytest.raises(SettingsError, match="SORTITION_OIDC_") as refusal:
        Settings.read(WHOLE | {"SORTITION_OIDC_ROLES": roles})

    assert words in str(refusal.value)


def test_an_issuer_that_may_not_be_called_stops_the_start():
    with pytest.raises(SettingsError, match="SORTITION_OIDC_ISSUER"):
        House(settings=Settings.read(WHOLE))
