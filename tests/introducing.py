"""Fakes of whoever says who somebody is; they run the same contract suite as the drivers.

provider = FakeProvider()
there = provider.begin(told); code = provider.authorize(there); provider.finish(told, code)

front = FakeHeader(clock)
front.read(front.signed())
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from flagserver.domain.people import Outsider, Source
from flagserver.domain.times import moment
from flagserver.ports import Clock, Introduction, NotIntroduced

BEA = Outsider(
    Source.OIDC,
    "https://login.fake 0a1b",
    "Bea Berg",
    "bea@example.com",
    frozenset({"shop", "lunch"}),
)


def _hash(verifier: str) -> str:
    return hashlib.sha256(verifier.encode()).hexdigest()


@dataclass
class FakeProvider:
    """`ports.IdentityProvider` in memory, with one person, who signs in as soon as they are asked.

    codes: what was asked when each code was given; one is spent once.  down: it does not answer.
    """

    person: Outsider = BEA
    name: str = "login.fake"
    down: bool = False
    codes: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def begin(self, told: Introduction) -> str:
        self._ask()
        asked = {
            "redirect_uri": told.callback,
            "state": told.state,
            "nonce": told.nonce,
            "code_challenge": _hash(told.verifier),
        }
        return f"https://{self.name}/authorize?{urlencode(asked)}"

    def finish(self, told: Introduction, code: str) -> Outsider:
        self._ask()
        asked = self.codes.pop(code, None)
        known = {
            "redirect_uri": told.callback,
            "nonce": told.nonce,
            "code_challenge": _hash(told.verifier),
        }
        if asked is None or any(asked[name] != value for name, value in known.items()):
            raise NotIntroduced(f"{self.name} refused (400). Try again.")
        return self.person

    def authorize(self, there: str) -> str:
        """Sign the person in who was sent there; return the code that they come back with."""
        code = secrets.token_urlsafe(16)
        self.codes[code] = dict(parse_qsl(urlsplit(there).query))
        return code

    def _ask(self) -> None:
        if self.down:
            raise NotIntroduced(f"The identity provider was not reached: {self.name}: no answer.")


@dataclass
class FakeHeader:
    """`ports.SignedHeader` in memory: a body and who may say so, both under a key of its own.

    down: the key that it is read by is not reached.
    """

    clock: Clock
    person: Outsider = BEA
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    down: bool = False

    def read(self, token: str) -> Outsider:
        body, _, signature = token.partition(".")
        if self.down:
            raise NotIntroduced("The fake's key was not reached.")
        if not hmac.compare_digest(self._sign(body.encode("utf-8", "replace")), _octets(signature)):
            raise NotIntroduced("The fake's header is not believed.")
        told: dict[str, Any] = json.loads(_octets(body))
        if told["until"] <= moment(self.clock.now()):
            raise NotIntroduced("The fake's header has ended.")
        return Outsider(
            *(Source.ALB, told["subject"], told["name"], told["login"]), frozenset(told["groups"])
        )

    def signed(self, person: Outsider | None = None, *, seconds: float = 120) -> str:
        """Return what stands in front of the server, in somebody's name."""
        told = person or self.person
        body = {
            "subject": told.subject,
            "name": told.name,
            "login": told.login,
            "groups": sorted(told.groups),
            "until": moment(self.clock.now()) + seconds,
        }
        text = base64.urlsafe_b64encode(json.dumps(body).encode())
        return f"{text.decode()}.{self._sign(text).hex()}"

    def _sign(self, text: bytes) -> bytes:
        return hmac.digest(self.key, text, "sha256")


def _octets(text: str) -> bytes:
    try:
        if set(text) <= set("0123456789abcdef"):
            return bytes.fromhex(text)
        return base64.urlsafe_b64decode(text.encode("ascii"))
    except (ValueError, binascii.Error):
        return b""
