"""Whom an AWS load balancer has signed in: its header `x-amzn-oidc-data`, read by PyJWT.

    LoadBalancer        which one is believed
    AlbHeader           `ports.SignedHeader`

Anybody who reaches the server can send such a header, and anybody can have a load balancer of their
own that signs it with the same region's keys. So the token is believed only with our own load
balancer as its signer, and our client and issuer. Before anything of it is believed, its `kid` is
no more than a part of an address at one fixed host, and must look like one.

Source: Elastic Load Balancing, "Authenticate users using an Application Load Balancer".
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from flagserver.domain.people import Outsider, Source, claimed
from flagserver.domain.times import moment
from flagserver.ports import Clock, Egress, EgressError, NotIntroduced

ALGORITHM = "ES256"
KID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
TOKEN = re.compile(r"[A-Za-z0-9_-]+={0,2}(?:\.[A-Za-z0-9_-]+={0,2}){2}", re.ASCII)
"""Padded, as the load balancer writes it. Of two headers a server makes one with a comma."""
SIGNER = re.compile(
    r"arn:aws:elasticloadbalancing:[a-z]{2}(?:-[a-z]+)+-[0-9]:[0-9]{12}"
    r":loadbalancer/app/[A-Za-z0-9-]+/[0-9a-f]+",
    re.ASCII,
)
LONGEST_TOKEN = 16 * 1024
KEY_SECONDS = 3600.0
MOST_KEYS = 16
KEY_OCTETS = 4096


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """Which load balancer is believed. signer: its ARN.  client: its client id at the provider.
    issuer: the provider.  groups_claim: where the provider's user info names groups."""

    signer: str
    client: str
    issuer: str
    groups_claim: str = "groups"

    def __post_init__(self) -> None:
        if SIGNER.fullmatch(self.signer) is None:
            raise ValueError("is not the ARN of an application load balancer")

    @property
    def keys_url(self) -> str:
        """Where its region's public keys are; a key's id comes behind it."""
        region = self.signer.split(":")[3]
        return f"https://public-keys.auth.elb.{region}.amazonaws.com/"


class AlbHeader:
    """`ports.SignedHeader`."""

    def __init__(self, egress: Egress, clock: Clock, balancer: LoadBalancer) -> None:
        self._egress = egress
        self._clock = clock
        self._balancer = balancer
        self._keys: dict[str, tuple[EllipticCurvePublicKey, float]] = {}
        self._lock = threading.Lock()

    def read(self, token: str) -> Outsider:
        """Return whom the load balancer has signed in. Raises NotIntroduced."""
        if len(token) > LONGEST_TOKEN or TOKEN.fullmatch(token) is None:
            raise NotIntroduced("The load balancer's header is not there once, and whole.")
        try:
            kid = self._checked(jwt.get_unverified_header(token))
            told: dict[str, Any] = jwt.decode(
                *(token, self._key(kid), [ALGORITHM]),
                # What it is for, and until when, stands in its head, which was checked.
                options={"require": ["sub"], "verify_aud": False},
            )
        except (jwt.PyJWTError, RecursionError) as error:
            why = type(error).__name__.removesuffix("Error")
            raise NotIntroduced(f"The load balancer's header is not believed ({why}).") from None
        return self._outsider(told)

    def _checked(self, head: dict[str, Any]) -> str:
        """Return the key's id of a head that says what it must. Nothing is believed yet: whoever
        wrote it is known once the signature, which covers it, has been checked."""
        wanted = {
            "alg": ALGORITHM,
            "signer": self._balancer.signer,
            "client": self._balancer.client,
            "iss": self._balancer.issuer,
        }
        for name, value in wanted.items():
            if head.get(name) != value:
                raise NotIntroduced(f"The load balancer's header has another {name}.")
        until = head.get("exp")
        if type(until) is not int or until <= moment(self._clock.now()):
            raise NotIntroduced("The load balancer's header has ended.")
        kid = head.get("kid")
        if not isinstance(kid, str) or KID.fullmatch(kid) is None:
            raise NotIntroduced("The load balancer's header names no key.")
        return kid

    def _key(self, kid: str) -> EllipticCurvePublicKey:
        with self._lock:
            key, at = self._keys.get(kid, (None, 0.0))
            now = self._clock.monotonic()
            if key is None or now - at > KEY_SECONDS:
                key = self._asked(kid)
                self._keys.pop(kid, None)
                while len(self._keys) >= MOST_KEYS:
                    self._keys.pop(next(iter(self._keys)))
                self._keys[kid] = key, now
            return key

    def _asked(self, kid: str) -> EllipticCurvePublicKey:
        try:
            answer = self._egress.send("GET", self._balancer.keys_url + kid, limit=KEY_OCTETS)
        except EgressError as error:
            raise NotIntroduced(f"The load balancer's key was not reached: {error}.") from None
        if answer.status != 200:
            raise NotIntroduced("The load balancer's header names a key that is not there.")
        try:
            key = load_pem_public_key(answer.body)
        except (ValueError, UnsupportedAlgorithm):
            key = None
        # RFC 7518, 3.4: ES256 is by this curve and no other.
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
            raise NotIntroduced("The load balancer's header names a key that cannot be read.")
        return key

    def _outsider(self, told: dict[str, Any]) -> Outsider:
        if not claimed(told["sub"]):
            raise NotIntroduced("The load balancer's header names nobody.")
        words = (claimed(told.get(name)) for name in ("email", "preferred_username", "username"))
        login = next(filter(None, words), told["sub"])
        groups = told.get(self._balancer.groups_claim)
        listed = groups.split(",") if isinstance(groups, str) else groups
        known = listed if isinstance(listed, list) else []
        return Outsider(
            source=Source.ALB,
            subject=f"{self._balancer.issuer} {told['sub']}",
            name=(claimed(told.get("name")) or login)[:100],
            login=login[:200],
            groups=frozenset(filter(None, map(claimed, known))),
        )
