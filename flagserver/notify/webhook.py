"""Notices to a web address of the operator's, signed as Standard Webhooks has it.

    webhook-id           the notice's id; the same on every attempt
    webhook-timestamp    unix seconds of this attempt
    webhook-signature    for each key: v1,<base64 of HMAC-SHA256(key, "<id>.<timestamp>.<body>")>

Receivers check it with any library of https://www.standardwebhooks.com, or in four lines.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from flagserver.domain.notices import Notice
from flagserver.domain.strength import weakness
from flagserver.ports import Clock, Egress

from .posting import encoded, page_of, post

FORMAT = 1
PREFIX = "whsec_"
KEY_OCTETS = range(24, 65)


def read_keys(text: str) -> tuple[bytes, ...]:
    """Return the keys of a secret: `whsec_<base64>`, one on a line. With two of them (the new and
    the old one) each attempt is signed by both, and receivers can change over one by one.

    Raises ValueError, which does not repeat the secret.
    """
    return tuple(_key(line) for line in text.split())


def _key(line: str) -> bytes:
    try:
        key = base64.b64decode(line.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    formed = line.startswith(PREFIX) and len(key) in KEY_OCTETS
    weak = weakness(key) if formed else None
    if not formed or weak:
        raise ValueError(
            f"must be {PREFIX} and the base64 of {KEY_OCTETS[0]} to {KEY_OCTETS[-1]} random octets"
            + (f" (this one {weak})" if weak else "")
            + f', for example from: echo "{PREFIX}$(openssl rand -base64 32)"'
        )
    return key


def signatures(keys: Sequence[bytes], notice: str, timestamp: int, body: bytes) -> str:
    """Return the signature header of a body, one signature for each key."""
    signed = f"{notice}.{timestamp}.".encode() + body
    digests = (hmac.digest(key, signed, hashlib.sha256) for key in keys)
    return " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)


class Webhook:
    """Tells every notice."""

    name = "webhook"

    def __init__(
        self, egress: Egress, clock: Clock, url: str, keys: Sequence[bytes], base_url: str
    ) -> None:
        self._egress = egress
        self._clock = clock
        self._url = url
        self._keys = keys
        self._base_url = base_url

    def send(self, notice: Notice) -> None:
        """Deliver it. Raises NotDelivered."""
        now = self._clock.now()
        timestamp = int(now.timestamp())
        page = page_of(notice, self._base_url)
        body = encoded({"format": FORMAT, **notice.to_body(), "url": page})
        headers = {
            "webhook-id": notice.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures(self._keys, notice.id, timestamp, body),
        }
        post(self._egress, self._url, body, headers, now)
