"""What an AWS load balancer says of who it signed in: its header, the keys that it is read by, and
what else could have written it.

    keys = Keys()                      `ports.Egress` to the region's public keys, for one
    header(keys.keys[KID])             a header as the load balancer writes it; more of it is forged
                                       by naming it: `header(key, iss="https://elsewhere.example")`
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from flagserver.ports import Answer, NoAnswer, NotAllowed

SIGNER = (
    "arn:aws:elasticloadbalancing:eu-west-1:111122223333:loadbalancer/app/flags/50dc6c495c0c9188"
)
HOST = "public-keys.auth.elb.eu-west-1.amazonaws.com"
KID = "5b0b7a3c-0f1e-4d5a-9c3b-2a1f0e9d8c7b"
CLIENT, ISSUER = "client-1", "https://login.example"
PERSON = {"sub": "0a1b", "name": "Bea", "email": "bea@example.com", "groups": ["shop"]}

Sign = Callable[[ec.EllipticCurvePrivateKey, bytes], bytes]


def a_key() -> ec.EllipticCurvePrivateKey:
    """Return a new signing key."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Keys:
    """`ports.Egress` to the region's public keys: a PEM for a key that is there, else 404."""

    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=lambda: {KID: a_key()})
    asked: list[str] = field(default_factory=list)
    answer: Answer | None = None
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
        if self.answer is not None:
            return self.answer
        if method != "GET" or key is None:
            return Answer(404, {}, b"")
        return Answer(200, {}, pem(key))


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public half, as the region tells it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def part(told: bytes) -> bytes:
    """Return a part of the header as the load balancer writes it: with its padding."""
    return base64.urlsafe_b64encode(told)


def es256(key: ec.EllipticCurvePrivateKey, signed: bytes) -> bytes:
    """Return a signature as RFC 7518 has it: r and s, one after the other."""
    r, s = decode_dss_signature(der(key, signed))
    return r.to_bytes(32) + s.to_bytes(32)


def der(key: ec.EllipticCurvePrivateKey, signed: bytes) -> bytes:
    """Return a good signature in the form that RFC 7518 does not have."""
    return key.sign(signed, ec.ECDSA(hashes.SHA256()))


def hs256(key: ec.EllipticCurvePrivateKey, signed: bytes) -> bytes:
    """Return one by the public key, which everybody has, as if it were a secret."""
    mac = HMAC(pem(key), hashes.SHA256())
    mac.update(signed)
    return mac.finalize()


def zeros(key: ec.EllipticCurvePrivateKey, signed: bytes) -> bytes:
    """Return what fits every text where r and s are not looked at (CVE-2022-21449)."""
    return bytes(64)


def header(
    key: ec.EllipticCurvePrivateKey,
    *,
    sign: Sign = es256,
    told: object = PERSON,
    write: Callable[[bytes], bytes] = part,
    **head: Any,
) -> str:
    """Return a header. head: over what the load balancer says; None leaves it out."""
    whole = {
        "typ": "JWT",
        "alg": "ES256",
        "kid": KID,
        "signer": SIGNER,
        "client": CLIENT,
        "iss": ISSUER,
        "exp": int(time.time()) + 120,
        **head,
    }
    return written(
        json.dumps({name: value for name, value in whole.items() if value is not None}),
        json.dumps(told),
        *(key, sign, write),
    )


def written(
    head: str,
    told: str,
    key: ec.EllipticCurvePrivateKey,
    sign: Sign = es256,
    write: Callable[[bytes], bytes] = part,
) -> str:
    """Return a header of these two texts, whatever they are."""
    signed = write(head.encode()) + b"." + write(told.encode())
    return (signed + b"." + write(sign(key, signed))).decode()


def unpadded(told: bytes) -> bytes:
    """Return a part as RFC 7515 has it and the load balancer does not write it."""
    return part(told).rstrip(b"=")


def head_of(token: str) -> Mapping[str, Any]:
    """Return what a header says of itself."""
    found: Mapping[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".", maxsplit=1)[0]))
    return found
