"""A record as an installation keeps it, and what somebody with its store could make of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sortition.record.checkpoint import Checkpoint
from sortition.record.entry import GENESIS, Entry, chain_hash, leaf_hash
from sortition.record.export import Kept, read, written
from sortition.record.note import SigningKey, VerifierKey
from sortition.record.tree import root
from sortition.record.verify import Anchor, Verdict, verify

LOG = "flags.example/record"
KEY = SigningKey(LOG, bytes(range(32)))
FOREIGN = SigningKey(LOG, bytes(range(1, 33)))
"""Somebody else's key under our name."""


def an_entry(seq: int, **changes: Any) -> Entry:
    """Return an entry; what a test does not say about it does not matter."""
    entry = Entry(
        seq=seq,
        epoch=1,
        ts=f"2026-11-23T12:00:{seq % 60:02d}.000Z",
        actor="token:ab12cd",
        role="deploy",
        action="flag:share:change",
        target="flag/new-search",
        environment="production",
        before={"share": seq * 10},
        after={"share": seq * 10 + 10},
        reason="Grüße \u2028 so",
        salt=f"{seq:032x}",
    )
    return replace(entry, **changes)


def kept(entries: Iterable[Entry]) -> list[Kept]:
    """Return entries as they are stored, chained."""
    return chained([entry.canonical().decode() for entry in entries])


def chained(bodies: Iterable[str]) -> list[Kept]:
    """Return bodies as whoever builds a chain anew would store them."""
    links: list[Kept] = []
    chain = GENESIS
    for seq, body in enumerate(bodies, 1):
        leaf = leaf_hash(body.encode())
        chain = chain_hash(chain, leaf)
        links.append(Kept(seq, body, leaf, chain))
    return links


def relinked(links: Sequence[Kept]) -> list[Kept]:
    """Return stored entries with a chain that holds, over the leaves that they have."""
    chain, made = GENESIS, []
    for seq, each in enumerate(links, 1):
        chain = chain_hash(chain, each.leaf)
        made.append(replace(each, seq=seq, chain=chain))
    return made


@dataclass
class Record:
    """Entries, the checkpoints beside them, and the anchors outside."""

    links: list[Kept]
    notes: list[str] = field(default_factory=list)
    anchors: list[Anchor] | None = None
    epoch: int = 1

    def sign(self, *sizes: int, key: SigningKey = KEY) -> Record:
        """Sign checkpoints at these sizes."""
        self.notes += [self.note(size, key) for size in sizes]
        return self

    def anchor(self, *sizes: int, key: SigningKey = KEY) -> Record:
        """Anchor checkpoints at these sizes."""
        made = [Anchor(f"{size:020d}", self.note(size, key).encode()) for size in sizes]
        self.anchors = [*(self.anchors or []), *made]
        return self

    def note(self, size: int, key: SigningKey = KEY) -> str:
        leaves = [each.leaf for each in self.links[:size]]
        return Checkpoint(LOG, self.epoch, size, root(leaves)).signed(key)

    def export(self) -> bytes:
        return b"".join(written(LOG, self.links, self.notes))

    def verdict(self, keys: Sequence[VerifierKey] = (KEY.verifier,)) -> Verdict:
        return verify(read(self.export()), keys, self.anchors)


def a_record(count: int = 9, *, every: int = 3) -> Record:
    """Return a record of so many entries, signed and anchored after every few."""
    sizes = range(every, count + 1, every)
    return Record(kept(map(an_entry, range(1, count + 1)))).sign(*sizes).anchor(*sizes)
