"""One entry of the record, and the chain that ties each to the one before it.

    canonical  c   = RFC 8785 (JCS) bytes of the entry
    leaf       L_n = SHA-256(0x00 || c)                    as in RFC 6962, section 2.1
    chain      h_n = SHA-256(0x02 || h_(n-1) || L_n)       h_0 = 32 zero bytes

The leading byte separates the domains (0x01 is left to RFC 6962's inner nodes). An entry never
changes once written: a field that has nothing to say is null.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import rfc8785

VERSION = 1
"""Version of the entry's form."""

GENESIS = bytes(32)
"""The chain's value before the first entry."""

_LEAF = b"\x00"
_CHAIN = b"\x02"


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision: who did what to which thing, from what to what, and why.

    seq: 1, 2, 3, … without gaps.  epoch: raised when a store lost what it had promised.
    ts: UTC, RFC 3339, milliseconds.  actor: opaque id (`token:ab12`, `controller`).
    action: `flag:share:change` (subject:object:verb).  target: `flag/new-search`.
    before, after: JSON values.  salt: 16 random bytes in hex, so that a leaf hash that outlives
    its entry tells nothing.
    """

    seq: int
    epoch: int
    ts: str
    actor: str
    role: str
    action: str
    target: str
    environment: str | None
    before: Any
    after: Any
    reason: str | None
    salt: str
    v: int = VERSION

    def canonical(self) -> bytes:
        """Return the RFC 8785 bytes. Raises ValueError for what JSON cannot carry exactly."""
        return rfc8785.dumps(asdict(self))


def leaf_hash(canonical: bytes) -> bytes:
    """Return the 32-byte leaf hash of an entry's canonical bytes."""
    return hashlib.sha256(_LEAF + canonical).digest()


def chain_hash(previous: bytes, leaf: bytes) -> bytes:
    """Return the 32-byte chain value after a leaf."""
    return hashlib.sha256(_CHAIN + previous + leaf).digest()


@dataclass(frozen=True, slots=True)
class Link:
    """An entry as it is stored: its canonical bytes, its leaf hash and the chain up to it.

    canonical: None where the body was pruned; the hashes stay.
    """

    seq: int
    canonical: bytes | None
    leaf: bytes
    chain: bytes

    @property
    def text(self) -> str | None:
        """The body as text, None where it was pruned."""
        return None if self.canonical is None else self.canonical.decode()


def link(entry: Entry, previous: bytes) -> Link:
    """Return the entry ready to be stored after a chain value of `previous`."""
    canonical = entry.canonical()
    leaf = leaf_hash(canonical)
    return Link(entry.seq, canonical, leaf, chain_hash(previous, leaf))


@dataclass(frozen=True, slots=True)
class Break:
    """The first place where the chain does not hold."""

    seq: int
    problem: str


def find_break(links: Iterable[Link], previous: bytes = GENESIS, after: int = 0) -> Break | None:
    """Return the first break of consecutive links that follow `after`, or None if they are whole.

    Checks every link: sequence, leaf against body where there is one, chain against leaf.
    """
    for each in links:
        if each.seq != after + 1:
            return Break(after + 1, f"expected entry {after + 1}, found {each.seq}")
        if each.canonical is not None and leaf_hash(each.canonical) != each.leaf:
            return Break(each.seq, "the body does not match its leaf hash")
        if chain_hash(previous, each.leaf) != each.chain:
            return Break(each.seq, "the chain does not follow from the entry before")
        previous, after = each.chain, each.seq
    return None
