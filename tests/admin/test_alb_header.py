"""Signing in by the header of an AWS load balancer, and every way to forge it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from werkzeug.test import TestResponse

from flagserver import bootstrap
from flagserver.auth.alb_header import AlbHeader, LoadBalancer
from flagserver.domain.documents import EVERYWHERE
from flagserver.domain.people import Source
from flagserver.ports import Answer, NotIntroduced
from flagserver.settings import Settings, SettingsError
from flagserver.system import SystemClock
from tests.load_balancer import (
    CLIENT,
    HOST,
    ISSUER,
    KID,
    PERSON,
    SIGNER,
    Keys,
    Sign,
    a_key,
    der,
    head_of,
    header,
    hs256,
    pem,
    unpadded,
    written,
    zeros,
)

from .house import ANA, House, _page

TOLD = {
    "SORTITION_ALB_SIGNER": SIGNER,
    "SORTITION_ALB_CLIENT": CLIENT,
    "SORTITION_ALB_ISSUER": ISSUER,
    "SORTITION_ALB_ROLES": "shop=editor, *=viewer",
    "SORTITION_EGRESS_HOSTS": HOST,
}


@dataclass
class Site:
    house: House
    keys: Keys

    def sign_in(self, *tokens: str) -> TestResponse:
        headers = [("X-Amzn-Oidc-Data", token) for token in tokens]
        return self.house.app.test_client().get("/sign-in/alb", headers=headers)

    def people(self) -> list[Any]:
        return [view.person for view in self.house.services.people.all(ANA)]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    keys = Keys()
    monkeypatch.setattr(bootstrap, "open_egress", lambda _: keys)
    return Site(House(settings=Settings.read(TOLD)), keys)


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def reader(keys: Keys) -> AlbHeader:
    """The driver alone: what it does not believe lets nobody in, as the tests with pages show."""
    return AlbHeader(keys, SystemClock(), LoadBalancer(SIGNER, CLIENT, ISSUER))


def disbelieved(reader: AlbHeader, token: str, words: str = "header") -> None:
    with pytest.raises(NotIntroduced, match=words):
        reader.read(token)


def refused(site: Site, answer: TestResponse, words: str) -> None:
    assert answer.status_code == 401
    assert words in _page(answer).text
    assert "Set-Cookie" not in answer.headers
    assert site.people() == []


def test_whom_our_load_balancer_signed_in_is_let_in_with_the_roles_of_their_groups(site: Site):
    answer = site.sign_in(header(site.keys.keys[KID]))

    assert answer.status_code == 303
    [bea] = site.people()
    assert (bea.source, bea.name, bea.roles) == (Source.ALB, "Bea", {EVERYWHERE: "editor"})
    assert "Sign in by the load balancer" in site.house.app.test_client().get("/sign-in").text


@pytest.mark.parametrize(
    "head",
    [
        {"signer": SIGNER.replace("111122223333", "999999999999")},
        {"signer": SIGNER.replace("50dc6c495c0c9188", "0000000000000000")},
        {"signer": SIGNER + "/x"},
        {"signer": [SIGNER]},
        {"signer": {"arn": SIGNER}},
        {"signer": None},
        {"client": "another"},
        {"client": None},
        {"client": ["client-1", "another"]},
        {"iss": "https://elsewhere.example"},
        {"iss": ISSUER + "/"},
        {"iss": None},
        {"exp": int(time.time()) - 1},
        {"exp": None},
        {"exp": "never"},
        {"exp": True},
        {"exp": [int(time.time()) + 120]},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "ES384"},
        {"alg": "es256"},
        {"alg": ["ES256"]},
        {"alg": None},
        {"kid": "../" + KID},
        {"kid": "..%2f" + KID},
        {"kid": KID + "/../" + KID},
        {"kid": "/" + KID},
        {"kid": KID.upper()},
        {"kid": KID + "\0"},
        {"kid": "'; drop table keys; --"},
        {"kid": "https://elsewhere.example/" + KID},
        {"kid": ""},
        {"kid": [KID]},
        {"kid": {"$ne": KID}},
        {"kid": KID + "?x"},
        {"kid": "@elsewhere.example/" + KID},
        {"kid": KID + "\n"},
        {"kid": None},
        {"kid": 7},
    ],
    ids=",".join,  # by what is wrong: every worker must collect the same names
)
def test_a_head_that_is_not_ours_is_refused_before_any_key_is_asked_for(
    reader: AlbHeader, keys: Keys, head: Mapping[str, Any]
):
    disbelieved(reader, header(keys.keys[KID], **head), "header")

    assert keys.asked == []


@pytest.mark.parametrize("alg", ["none", "HS256", "ES256"])
def test_the_public_key_is_no_secret_to_sign_with(reader: AlbHeader, keys: Keys, alg: str):
    disbelieved(reader, header(keys.keys[KID], sign=hs256, alg=alg), "header")


def test_a_signature_by_another_key_is_refused(reader: AlbHeader, keys: Keys):
    disbelieved(reader, header(a_key()), "not believed")


def test_no_signature_is_refused(reader: AlbHeader, keys: Keys):
    whole = header(keys.keys[KID]).rpartition(".")[0]

    for token in (whole, whole + ".", ""):
        disbelieved(reader, token, "not there once, and whole")


@pytest.mark.parametrize("sign", [der, zeros, lambda *_: b""], ids=["DER", "zeros", "empty"])
def test_what_only_looks_like_a_signature_is_refused(reader: AlbHeader, keys: Keys, sign: Sign):
    disbelieved(reader, header(keys.keys[KID], sign=sign), "header")


def test_a_header_that_was_cut_anywhere_is_refused(reader: AlbHeader, keys: Keys):
    """Down to the last octet of its signature; of padding alone nothing depends."""
    whole = header(keys.keys[KID]).rstrip("=")

    for length in range(len(whole)):
        disbelieved(reader, whole[:length])


def test_one_persons_claims_are_no_good_under_anothers_signature(reader: AlbHeader, keys: Keys):
    key = keys.keys[KID]
    ours = header(key).split(".")
    others = header(key, told=PERSON | {"sub": "ffff", "groups": ["flag-admins"]}).split(".")

    for parts in (
        (ours[0], others[1], ours[2]),
        (ours[0], ours[1], others[2]),
        (others[0], others[1], ours[2]),
    ):
        disbelieved(reader, ".".join(parts), "not believed")


def test_a_head_that_is_changed_after_it_was_signed_is_refused(reader: AlbHeader, keys: Keys):
    """As for another end: what the head says is signed too."""
    token = header(keys.keys[KID], exp=int(time.time()) - 5)
    later = json.dumps({**head_of(token), "exp": int(time.time()) + 120}).encode()
    parts = [base64.urlsafe_b64encode(later).decode(), *token.split(".")[1:]]

    disbelieved(reader, ".".join(parts), "not believed")


def test_padding_may_be_written_or_left_out_but_not_after_signing(reader: AlbHeader, keys: Keys):
    key = keys.keys[KID]
    assert reader.read(header(key, write=unpadded)).name == "Bea"

    head, told, signature = header(key, told=PERSON | {"name": "Beate"}).split(".")
    assert "=" in head + told
    stripped = ".".join([head.rstrip("="), told.rstrip("="), signature])

    disbelieved(reader, stripped, "not believed")


@pytest.mark.parametrize("odd", ["+", "/", " ", "%3D", "\t", "é", "="])
def test_what_base64url_does_not_have_is_refused(reader: AlbHeader, keys: Keys, odd: str):
    head, told, signature = header(keys.keys[KID]).split(".")

    for token in (f"{head}{odd}x.{told}.{signature}", f"{odd}{head}.{told}.{signature}"):
        disbelieved(reader, token, "not there once, and whole")


@pytest.mark.parametrize("name", ["jwk", "jku", "x5c", "x5u", "b64", "crit", "zip", "cty"])
def test_no_name_in_the_head_brings_another_key_or_another_reading(
    reader: AlbHeader, keys: Keys, name: str
):
    """RFC 7515, 4.1: a token may offer its own key. Ours come from one place."""
    theirs = a_key()
    offers: Mapping[str, Any] = {
        "jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        "b64": False,
        "crit": ["b64", "exp"],
        "zip": "DEF",
    }
    offer = offers.get(name, "https://elsewhere.example/keys")

    disbelieved(reader, header(theirs, **{name: offer}), "not believed")

    assert all(url == f"https://{HOST}/{KID}" for url in keys.asked)


@pytest.mark.parametrize(
    "token",
    [
        '{"payload":"e30","protected":"e30","signature":""}',
        '{"payload":"e30","signatures":[]}',
        "a.b.c.d.e",
        "a.b",
        "...",
        "null",
        "[]",
        "a" * 20_000,
        "a." * 8_000,
    ],
    ids=range(9),
)
def test_what_is_no_compact_token_is_refused(reader: AlbHeader, keys: Keys, token: str):
    """CVE-2026-96760: a library that took the JSON form took it without its signature."""
    disbelieved(reader, token, "not there once, and whole")


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("[]", "{}"),
        ('"ES256"', "{}"),
        ("null", "{}"),
        ("{" * 5_000, "{}"),
        ("[" * 5_000 + "]" * 5_000, "{}"),
        (None, "[]"),
        (None, "null"),
        (None, "7"),
        (None, "[" * 2_000 + "]" * 2_000),
        (None, '{"sub": {"$ne": null}}'),
        (None, '{"sub": ["0a1b"]}'),
        (None, '{"sub": 7}'),
        (None, '{"sub": null}'),
        (None, '{"sub": ""}'),
        (None, '{"sub": " "}'),
        (None, '{"sub": "\\ud800"}'),
    ],
    ids=range(16),
)
def test_what_is_of_another_form_inside_is_refused(
    reader: AlbHeader, keys: Keys, head: str | None, told: str
):
    key = keys.keys[KID]

    disbelieved(reader, written(head or json.dumps(head_of(header(key))), told, key))


def test_claims_of_another_form_let_nobody_in_as_more_than_a_viewer(site: Site):
    odd: tuple[object, ...] = (
        None,
        7,
        True,
        {"$ne": 1},
        [[]],
        [None, 7],
        "x" * 1_000,
        "\0",
        "\ud800",
        "<b>",
    )

    for value in odd:
        claims = PERSON | dict.fromkeys(("name", "email", "groups", "preferred_username"), value)
        assert site.sign_in(header(site.keys.keys[KID], told=claims)).status_code == 303, value

    assert [one.roles for one in site.people()] == [{EVERYWHERE: "viewer"}]


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"-----BEGIN PUBLIC KEY-----", b"x" * 4096, b"none"]
)
def test_a_key_that_is_none_is_refused(reader: AlbHeader, keys: Keys, body: bytes):
    keys.answer = Answer(200, {}, body)

    disbelieved(reader, header(keys.keys[KID]), "cannot be read")


def test_a_key_of_another_curve_is_refused(reader: AlbHeader, keys: Keys):
    keys.answer = Answer(200, {}, pem(ec.generate_private_key(ec.SECP384R1())))

    disbelieved(reader, header(keys.keys[KID]), "cannot be read")


def test_a_key_that_is_not_there_is_refused(site: Site):
    other = KID.replace("5b0b", "0000")

    refused(site, site.sign_in(header(site.keys.keys[KID], kid=other)), "a key that is not there")


def test_a_second_header_beside_the_first_is_refused(site: Site):
    ours = header(site.keys.keys[KID])

    refused(site, site.sign_in(ours, header(a_key())), "not there once, and whole")
    refused(site, site.sign_in(ours, ours), "not there once, and whole")


def test_without_a_header_nobody_is_let_in(site: Site):
    refused(site, site.sign_in(), "not there once, and whole")


def test_claims_without_somebody_in_them_are_refused(site: Site):
    refused(site, site.sign_in(header(site.keys.keys[KID], told={"name": "Bea"})), "not believed")


def test_a_key_is_asked_for_once_an_hour(site: Site):
    now = [0.0]
    site.house.clock.monotonic = lambda: now[0]  # type: ignore[method-assign]
    key = site.keys.keys[KID]
    for _ in range(3):
        site.sign_in(header(key))
    assert len(site.keys.asked) == 1

    now[0] = 3601.0
    site.keys.keys[KID] = a_key()

    assert site.sign_in(header(key)).status_code == 401
    assert len(site.keys.asked) == 2


def test_when_keys_are_not_reached_it_is_said_and_tried_again(site: Site):
    site.keys.down = True
    refused(site, site.sign_in(header(site.keys.keys[KID])), "was not reached")

    site.keys.down = False

    assert site.sign_in(header(site.keys.keys[KID])).status_code == 303


def test_while_it_is_off_the_header_means_nothing_anywhere(house: House):
    browser = house.app.test_client()
    told = {"X-Amzn-Oidc-Data": header(a_key())}

    assert browser.get("/sign-in/alb", headers=told).status_code == 404
    assert browser.get("/", headers=told).headers["Location"] == "/sign-in"


def test_the_header_lets_nobody_in_elsewhere_than_at_its_own_address(site: Site):
    told = {"X-Amzn-Oidc-Data": header(site.keys.keys[KID])}

    assert site.house.app.test_client().get("/", headers=told).headers["Location"] == "/sign-in"


@pytest.mark.parametrize("name", [name for name in TOLD if "ALB" in name])
def test_a_half_set_load_balancer_stops_the_start(name: str):
    settings = Settings.read({key: value for key, value in TOLD.items() if key != name})

    with pytest.raises(SettingsError, match=f"set {name} too"):
        House(settings=settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SORTITION_ALB_SIGNER", "arn:aws:elasticloadbalancing:x/../y:1:loadbalancer/app/a/b"),
        ("SORTITION_EGRESS_HOSTS", "elsewhere.example"),
    ],
)
def test_a_load_balancer_that_cannot_be_believed_stops_the_start(name: str, value: str):
    with pytest.raises(SettingsError, match="SORTITION_ALB_SIGNER"):
        House(settings=Settings.read(TOLD | {name: value}))
