"""The record, read: newest first for people, and whole for those who check it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sortition.record.checkpoint import Checkpoint, read_text
from sortition.record.entry import Link
from sortition.record.export import Kept
from sortition.record.proofs import Proof, inclusion
from sortition.record.verify import TAMPERED, TRUNCATED, WHOLE

from flagserver.domain import access
from flagserver.domain.documents import Change, Fact, Principal
from flagserver.domain.errors import Conflict, NotFound, Refusal
from flagserver.domain.times import moment, unix
from flagserver.ports import Checkpoints, Clock, Documents, Entropy

from .losses import Losses
from .pruning import read_things

log = logging.getLogger(__name__)

UNSIGNED, BEHIND = "unsigned", "behind"
"""What a record's standing can be besides what `sortition audit verify` finds."""

BEHIND_SECONDS = 60.0
"""A checkpoint follows an entry within a second; after so long whoever signs does not."""

BATCH = 1000


class Readable(Documents, Checkpoints, Protocol):
    """The part of the store that is read here."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the record stands, as far as its own server can tell; whoever doubts it verifies.

    kind: `whole`, `behind` (what is new is not signed), `unsigned`, `truncated` or `tampered`.
    entries, signed: how many there are, and are signed.  enlarging: whether things may be enlarged.
    checkpoint: the newest note.
    """

    kind: str
    words: str
    entries: int
    signed: int
    enlarging: bool
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive entries as they are stored; more: whether others follow."""

    links: Sequence[Link]
    more: bool


class Audit:
    """Use cases of those who look at the record."""

    def __init__(self, store: Readable, losses: Losses, clock: Clock, entropy: Entropy) -> None:
        self._store = store
        self._losses = losses
        self._clock = clock
        self._entropy = entropy

    def log(
        self, *, target: str | None, environment: str | None, before: int | None, limit: int
    ) -> list[Mapping[str, Any]]:
        """Return entries, newest first; `environment` keeps those of it and of none."""
        return self._store.history(
            target=target, environment=environment, before=before, limit=limit
        )

    def checkpoints(self) -> list[str]:
        """Return the newest signed checkpoints, oldest first; none where nothing is signed."""
        return self._store.checkpoints()

    def page(self, after: int, limit: int, by: Principal) -> Page:
        """Return entries with seq > after, oldest first. All environments are in it, so only who
        may manage all of them gets it. Raises Forbidden."""
        access.check(by, access.AUDIT)
        found = self._store.record(after=after, limit=limit + 1)
        return Page(found[:limit], len(found) > limit)

    def note_export(self, by: Principal) -> None:
        """Write down that somebody begins to read all of it. A record that takes no entry now can
        be read all the same: it is then that it is looked into."""
        access.check(by, access.AUDIT)
        fact = Fact(by.id, by.role_in(None), "record:export:begin", "record")
        change = Change(writes=(), fact=fact)
        try:
            self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))
        except Refusal as error:
            log.warning("that %s reads the whole record is not in it: %s", by.id, error.detail)

    def things(self, by: Principal) -> tuple[int, Mapping[str, Mapping[str, Any]]]:
        """Return the newest entry, and every flag and its states as they were then, named as
        `sortition.record.replay` does. Raises Forbidden, Conflict."""
        access.check(by, access.AUDIT)
        return read_things(self._store)

    def standing(self) -> Standing:
        """Return how the record stands. Raises StoreUnavailable."""
        state = self._store.state()
        entries = 0 if state is None else state.seq
        note = self._newest_note()
        newest = None if note is None else read_text(note)
        ours = state is not None and newest is not None and newest.epoch == state.epoch
        signed = newest.size if newest is not None and ours else 0
        kind, words = self._kind(entries, signed, newest)
        enlarging = kind not in {TRUNCATED, TAMPERED}
        return Standing(kind, words, entries, signed, enlarging, note)

    def proof(self, entry: int | None, by: Principal) -> Proof:
        """Return the proof that an entry is in the newest checkpoint's tree, for
        `sortition audit verify --proof`; None: of the newest there. Raises Forbidden, NotFound,
        Conflict."""
        access.check(by, access.AUDIT)
        note = self._newest_note()
        if note is None:
            raise Conflict("Nothing of this record is signed, so nothing can be proven.")
        size = read_text(note).size
        seq = size if entry is None else entry
        if not 1 <= seq <= size:
            raise NotFound(f"Entries 1 to {size} are signed, entry {seq} is not.")
        links: list[Link] = []
        while len(links) < size:
            found = self._store.record(after=len(links), limit=min(BATCH, size - len(links)))
            if not found:
                raise Conflict(f"{size} entries were signed, and {len(links)} are here.")
            links += found
        at = links[seq - 1]
        kept = Kept(at.seq, at.text, at.leaf, at.chain)
        return inclusion([each.leaf for each in links], kept, note)

    def _newest_note(self) -> str | None:
        found = self._store.checkpoints(limit=1)
        return found[0] if found else None

    def _kind(self, entries: int, signed: int, newest: Checkpoint | None) -> tuple[str, str]:
        alarm, doubt = self._losses.alarm(), self._losses.doubt()
        if doubt is not None:
            return doubt.kind, doubt.words
        if alarm is not None:
            return TRUNCATED, alarm.detail
        if newest is None:
            return UNSIGNED, "Nobody signs this record."
        waits = self._store.record(after=signed, limit=1)
        age = 0.0
        if waits and waits[0].canonical is not None:
            age = moment(self._clock.now()) - unix(json.loads(waits[0].canonical)["ts"])
        if age > BEHIND_SECONDS:
            words = f"{entries - signed} entries are not signed, the oldest of {age:.0f} s ago."
            return BEHIND, words
        return WHOLE, f"{signed} of {entries} entries are signed."
