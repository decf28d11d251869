"""Request ids in the forms they have in the wild, made from a seed: the same everywhere, for ever.

Digits come from SHAKE-128 (FIPS 202) over the seed and the form's name, so that whoever repeats a
proof, in any language, has the same ids.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Ids = Sequence[bytes]
"""Distinct request ids, encoded as UTF-8."""

_EPOCH = 0x6B49D200
"""Unix second at which the traces of a load balancer begin (2027-01-15)."""


@dataclass(frozen=True)
class Shape:
    """One form of ids. words: what people call it.  make: (how many, seed) -> ids."""

    name: str
    words: str
    make: Callable[[int, str], Ids]


def stream(seed: str, name: str, octets: int) -> bytes:
    """Return as many octets of chance as wanted: the same ones for the same seed and name."""
    return hashlib.shake_128(f"{seed}/{name}".encode()).digest(octets)


def _hex(seed: str, name: str, n: int) -> Iterator[str]:
    """Yield n strings of 32 hex digits."""
    digits = stream(seed, name, 16 * n).hex()
    return (digits[at : at + 32] for at in range(0, 32 * n, 32))


def _uuids(n: int, seed: str) -> Ids:
    """RFC 9562, version 4."""
    return [
        f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{'89ab'[int(h[16], 16) & 3]}{h[17:20]}-{h[20:]}".encode()
        for h in _hex(seed, "uuid4", n)
    ]


def _traces(n: int, seed: str) -> Ids:
    """The trace ids of W3C `traceparent`; the SDK's own session cookie has the same form."""
    return [h.encode() for h in _hex(seed, "trace", n)]


def _numbers(n: int, seed: str) -> Ids:
    return [b"%d" % i for i in range(1, n + 1)]


def _amazon_roots(n: int, seed: str) -> Ids:
    """The `Root` of `X-Amzn-Trace-Id`: a second in hex, and 96 bits; a thousand a second."""
    digits = enumerate(_hex(seed, "amazon", n))
    return [f"1-{_EPOCH + i // 1000:08x}-{h[:24]}".encode() for i, h in digits]


def _tokens(n: int, seed: str) -> Ids:
    """Eight characters of base64url, 48 bits."""
    text = base64.urlsafe_b64encode(stream(seed, "token", 6 * n))
    return [text[at : at + 8] for at in range(0, 8 * n, 8)]


SHAPES = (
    Shape("uuid4", "random UUIDs", _uuids),
    Shape("trace", "trace ids of traceparent, in hex", _traces),
    Shape("number", "numbers in a row", _numbers),
    Shape("amazon", "roots of X-Amzn-Trace-Id", _amazon_roots),
    Shape("token", "short random session tokens", _tokens),
)
"""The five forms that a proof goes through."""
