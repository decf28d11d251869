"""The search for traces finds a text in every form that it looks for, and nothing where is none."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from urllib.parse import quote

import pytest

from tests.faults.taint import found, tainted

CANARY = "canary/7f3a+9e21@example.invalid"
NOISE = bytes(range(256)) * 20


def packed(octets: bytes) -> bytes:
    """Pack octets alike at any time: they name tests, which every worker must collect alike."""
    return gzip.compress(octets, mtime=0)


@pytest.mark.parametrize(
    ("form", "octets"),
    [
        ("plain", CANARY.encode()),
        ("utf-16", CANARY.encode("utf-16-be")),
        ("hex", CANARY.encode().hex().encode()),
        ("hex", CANARY.encode().hex().upper().encode()),
        ("base64", base64.b64encode(CANARY.encode())),
        ("base64", base64.b64encode(b"x" + CANARY.encode() + b"yz")),
        ("base64", base64.urlsafe_b64encode(b"xy" + CANARY.encode() + b"z")),
        ("url", quote(CANARY, safe="").encode()),
        ("url", "".join(f"%{each:02X}" for each in CANARY.encode()).encode()),
        ("json", "".join(f"\\u{ord(each):04x}" for each in CANARY).encode()),
        ("gzip:plain", packed(b"some" + CANARY.encode())),
        ("gzip:plain", zlib.compress(b"some" + CANARY.encode())),
        ("gzip:hex", packed(packed(CANARY.encode().hex().encode()))),
        ("gzip:plain", base64.b64encode(packed(json.dumps({"a": CANARY}).encode()))),
    ],
)
def test_each_form_is_found_within_other_octets(form: str, octets: bytes) -> None:
    assert form in found(CANARY, NOISE + octets + NOISE)


@pytest.mark.parametrize("octets", [NOISE, b"", CANARY[:-1].encode(), packed(NOISE)])
def test_nothing_is_found_where_is_none(octets: bytes) -> None:
    assert found(CANARY, octets) == set()


def test_places_are_told_with_what_is_in_them() -> None:
    heaps = {"log": b"clean", "store": CANARY.encode()}

    assert tainted({"an address": CANARY}, heaps) == {"store": {"an address (plain)"}}
