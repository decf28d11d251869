"""Looking for traces of a text in heaps of octets, in whatever form it may have got there.

found("canary-7f3a", octets)        the names of the forms in which it is there
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

DEEPEST = 3
"""How often packed things are looked for within packed things."""

LARGEST = 64 * 1024 * 1024

_PACKED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")
"""How gzip's and zlib's streams begin."""

_BASE64_OF_GZIP = re.compile(rb"H4sI[A-Za-z0-9+/_-]{16,}={0,2}")


def forms(text: str) -> dict[str, frozenset[bytes]]:
    """Return what a text looks like in each form."""
    octets = text.encode()
    percents = "".join(f"%{each:02x}" for each in octets)
    return {
        "plain": frozenset({octets}),
        "utf-16": frozenset({text.encode("utf-16-le"), text.encode("utf-16-be")}),
        "hex": frozenset({octets.hex().encode(), octets.hex().upper().encode()}),
        "base64": frozenset(_base64(octets)),
        "url": frozenset(
            each.encode()
            for each in (quote(text, safe=""), quote_plus(text), percents, percents.upper())
        ),
        "json": frozenset({"".join(f"\\u{ord(each):04x}" for each in text).encode()}),
    }


def _base64(octets: bytes) -> Iterator[bytes]:
    """Yield the middles that base64 gives a text, whatever stands before and after it."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + octets)
        # The first letters depend on what is before, the last on what is after.
        middle = encoded[(0, 2, 3)[before] : len(encoded) // 4 * 4 - 4]
        yield middle
        yield middle.replace(b"+", b"-").replace(b"/", b"_")


def found(text: str, octets: bytes) -> set[str]:
    """Return the forms in which a text is there; `gzip:plain` within what was packed."""
    return {
        f"{packing}{name}"
        for packing, layer in layers(octets)
        for name, needles in forms(text).items()
        if any(needle in layer for needle in needles)
    }


def layers(octets: bytes, packing: str = "", depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield the octets, and what is packed within them: (`gzip:` or nothing, octets)."""
    yield packing, octets
    if depth == DEEPEST:
        return
    for inner in _unpacked(octets):
        yield from layers(inner, "gzip:", depth + 1)


def _unpacked(octets: bytes) -> Iterator[bytes]:
    view = memoryview(octets)
    for start in _PACKED.finditer(octets):
        # 47: gzip's or zlib's header. What is cut off is read as far as it goes.
        reader = zlib.decompressobj(47)
        try:
            piece = reader.decompress(view[start.start() :], LARGEST)
        except zlib.error:
            continue
        if piece:
            yield piece
    for encoded in _BASE64_OF_GZIP.finditer(octets):
        text = encoded[0].replace(b"-", b"+").replace(b"_", b"/")
        yield base64.b64decode(text[: len(text) // 4 * 4])


def tainted(canaries: Mapping[str, str], heaps: Mapping[str, bytes]) -> dict[str, set[str]]:
    """Return heap -> the canaries that are in it, each with its forms: `an id (plain)`."""
    seen: dict[str, set[str]] = {}
    for place, octets in heaps.items():
        for name, text in canaries.items():
            for form in found(text, octets):
                seen.setdefault(place, set()).add(f"{name} ({form})")
    return seen
