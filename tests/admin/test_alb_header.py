"""Signing in by the header of an AWS load balancer, and every way to forge it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from werkzeug.test import TestResponse

from flagserver import bootstrap
from flagserver.domain.documents import EVERYWHERE
from flagserver.domain.people import Source
from flagserver.ports import Answer, NoAnswer, NotAllowed
from flagserver.settings import Settings, SettingsError

from .house import ANA, House, _page

SIGNER = (
    "arn:aws:elasticloadbalancing:eu-west-1:111122223333:loadbalancer/app/flags/50dc6c495c0c9188"
)
HOST = "public-keys.auth.elb.eu-west-1.amazonaws.com"
KID = "5b0b7a3c-0f1e-4d5a-9c3b-2a1f0e9d8c7b"
TOLD = {
    "SORTITION_ALB_SIGNER": SIGNER,
    "SORTITION_ALB_CLIENT": "client-1",
    "SORTITION_ALB_ISSUER": "https://login.example",
    "SORTITION_ALB_ROLES": "shop=editor, *=viewer",
    "SORTITION_EGRESS_HOSTS": HOST,
}
PERSON = {"sub": "0a1b", "name": "Bea", "email": "bea@example.com", "groups": ["shop"]}


def a_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Keys:
    """`ports.Egress` to the region's public keys: a PEM for a key that is there, else 404."""

    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=lambda: {KID: a_key()})
    asked: list[str] = field(default_factory=list)
    down: bool = False

    def check(self, url: str) -> None:
        if not url.startswith(f"https://{HOST}/"):
            raise NotAllowed(url)

    def send(self, method: str, url: str, **told: Any) -> Answer:
        self.check(url)
        self.asked.append(url)
        if self.down:
            raise NoAnswer(f"{HOST}: no answer within 5 s")
        key = self.keys.get(url.removeprefix(f"https://{HOST}/"))
        if method != "GET" or key is None:
            return Answer(404, {}, b"")
        return Answer(200, {}, pem(key))


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def part(told: bytes) -> bytes:
    """As the load balancer writes it: with its padding."""
    return base64.urlsafe_b64encode(told)


def es256(key: ec.EllipticCurvePrivateKey, signed: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def hs256(key: ec.EllipticCurvePrivateKey, signed: bytes) -> bytes:
    """By the public key, which everybody has, as if it were a secret."""
    mac = HMAC(pem(key), hashes.SHA256())
    mac.update(signed)
    return mac.finalize()


def header(
    key: ec.EllipticCurvePrivateKey, *, sign: Any = es256, told: Any = PERSON, **head: Any
) -> str:
    whole = {
        "typ": "JWT",
        "alg": "ES256",
        "kid": KID,
        "signer": SIGNER,
        "client": "client-1",
        "iss": "https://login.example",
        "exp": int(time.time()) + 120,
        **head,
    }
    whole = {name: value for name, value in whole.items() if value is not None}
    signed = part(json.dumps(whole).encode()) + b"." + part(json.dumps(told).encode())
    return (signed + b"." + part(sign(key, signed))).decode()


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
        {"signer": None},
        {"client": "another"},
        {"client": None},
        {"iss": "https://elsewhere.example"},
        {"exp": int(time.time()) - 1},
        {"exp": None},
        {"exp": "never"},
        {"exp": True},
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "ES384"},
        {"kid": "../" + KID},
        {"kid": KID + "?x"},
        {"kid": "@elsewhere.example/" + KID},
        {"kid": KID + "\n"},
        {"kid": None},
        {"kid": 7},
    ],
    ids=",".join,  # by what is wrong: every worker must collect the same names
)
def test_a_head_that_is_not_ours_is_refused_before_any_key_is_asked_for(
    site: Site, head: Mapping[str, Any]
):
    refused(site, site.sign_in(header(site.keys.keys[KID], **head)), "header")

    assert site.keys.asked == []


@pytest.mark.parametrize("alg", ["none", "HS256", "ES256"])
def test_the_public_key_is_no_secret_to_sign_with(site: Site, alg: str):
    refused(site, site.sign_in(header(site.keys.keys[KID], sign=hs256, alg=alg)), "header")


def test_a_signature_by_another_key_is_refused(site: Site):
    refused(site, site.sign_in(header(a_key())), "not believed")


def test_no_signature_is_refused(site: Site):
    whole = header(site.keys.keys[KID]).rpartition(".")[0]

    for token in (whole, whole + ".", ""):
        refused(site, site.sign_in(token), "not there once, and whole")


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
