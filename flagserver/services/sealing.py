"""Sealing the record: whoever holds the key signs how far it goes, and the anchors keep that.

A checkpoint is signed over a tree that was followed entry by entry, and only where it begins with
the newest anchor's: a store that was set back, cut or rewritten gets no signature.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Protocol

from sortition.record.checkpoint import Checkpoint, open_checkpoint
from sortition.record.entry import GENESIS, Link, find_break
from sortition.record.note import NoteError
from sortition.record.tree import Frontier
from sortition.record.verify import PRUNE, TAMPERED, TRUNCATED, WRONG_KEY, named_by

from flagserver.domain import doubts
from flagserver.domain.documents import Change, Fact
from flagserver.domain.doubts import Doubt
from flagserver.domain.errors import AlreadyExists, Refusal
from flagserver.domain.stores import StoreState
from flagserver.domain.times import moment, rfc3339, unix
from flagserver.ports import (
    Anchors,
    AnchorsUnavailable,
    AnchorTaken,
    Checkpoints,
    Clock,
    Documents,
    Entropy,
    Leases,
    Signer,
    SignerUnavailable,
)

from .background import Alone, Background

log = logging.getLogger(__name__)

BATCH = 1000
LEASE, LEASE_SECONDS = "sealer", 15.0
LOOK_SECONDS = 0.5
"""A checkpoint comes at most a second after the newest entry; half of it is the look's."""

QUIET_SECONDS = 3600.0
"""After so long without an entry the record says itself that it goes on."""

STILL_HERE = Fact("controller", "controller", "record:silence:note", "record")


class Unsealable(Exception):
    """This record must not be signed; why, in words.

    kind: as `sortition.record.verify` has it.
    """

    def __init__(self, words: str, kind: str = TAMPERED) -> None:
        super().__init__(words)
        self.kind = kind


class Sealed(Documents, Checkpoints, Protocol):
    """The part of the store that is sealed, and where it is kept beside it."""


class Sealer:
    """Follows the record from its first entry, and signs its tree as it grows."""

    def __init__(
        self,
        store: Sealed,
        signer: Signer,
        anchors: Anchors,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._store = store
        self._signer = signer
        self._anchors = anchors
        self._clock = clock
        self._entropy = entropy
        self._refused: tuple[StoreState, Unsealable] | None = None
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what was followed: somebody else may have signed meanwhile."""
        self._walked: tuple[str, int] | None = None
        self._sealed: Checkpoint | None = None
        self._newest: float | None = None
        self._chain, self._frontier = GENESIS, Frontier()
        self._bodiless: set[int] = set()
        """Entries without a body of which nothing signed has said yet that they are pruned."""

    def seal(self) -> Checkpoint | None:
        """Sign and anchor what is new. Returns the newest checkpoint, or None where there is no
        record yet.

        Raises Unsealable, StoreUnavailable, AnchorsUnavailable, AnchorTaken, SignerUnavailable;
        then the next call looks again.
        """
        state = self._store.state()
        if state is None:
            return None
        if self._refused is not None and self._refused[0] == state:
            # All of it was walked for this already.
            raise Unsealable(str(self._refused[1]), self._refused[1].kind)
        try:
            return self._seal(state)
        except Unsealable as error:
            self._refused = (state, error)
            self.begin_anew()
            raise

    def doubt(self, why: Unsealable) -> Doubt | None:
        """Return why nothing may be enlarged, after a refusal; None where it is only the key, where
        nothing was promised, or where it is known. Raises StoreUnavailable, AnchorsUnavailable."""
        if why.kind == WRONG_KEY or self._store.read(doubts.COLLECTION, doubts.KEY) is not None:
            return None
        state, promised = self._store.state(), self._anchors.newest(self._signer.verifier.name)
        if state is None or promised is None:
            return None
        at = rfc3339(self._clock.now())
        kept = self._still_as_signed(state)
        return Doubt(why.kind, str(why), at, state.epoch, kept, promised)

    def raise_doubt(self, doubt: Doubt) -> None:
        """Make a doubt known, unless there is one. Raises StoreUnavailable, Conflict."""
        identity = self._store.identity()
        notice = doubt.notice("" if identity is None else identity.store)
        change = Change(writes=(doubt.write(),), fact=doubt.fact(), notices=(notice,))
        try:
            self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))
        except AlreadyExists:
            return

    def _still_as_signed(self, state: StoreState) -> int:
        """Return how many entries are what was signed, by the checkpoints beside them."""
        known = sorted(self._checkpoints_of(state.epoch), key=lambda each: each.size)
        frontier, kept = Frontier(), 0
        for checkpoint in known:
            while frontier.size < checkpoint.size:
                missing = min(checkpoint.size - frontier.size, BATCH)
                links = self._store.record(after=frontier.size, limit=missing)
                if not links:
                    return kept
                frontier = frontier.grown(each.leaf for each in links)
            if frontier.root() != checkpoint.root:
                return kept
            kept = checkpoint.size
        return kept

    def _checkpoints_of(self, epoch: int) -> Iterator[Checkpoint]:
        for note in self._store.checkpoints():
            try:
                checkpoint = open_checkpoint(note.encode(), [self._signer.verifier])
            except NoteError:
                continue
            if checkpoint.epoch == epoch:
                yield checkpoint

    def note_silence(self) -> bool:
        """Write an entry where there was none for an hour, so that there is a new checkpoint too.
        Returns whether it did. Raises StoreUnavailable."""
        now = self._clock.now()
        if self._newest is None or moment(now) - self._newest < QUIET_SECONDS:
            return False
        change = Change(writes=(), fact=STILL_HERE)
        self._store.commit(change, at=now, salt=self._entropy.hex(16))
        return True

    def _seal(self, state: StoreState) -> Checkpoint | None:
        if self._walked != (state.store, state.epoch):
            self.begin_anew()
            self._sealed = self._newest_anchor(state)
            self._walked = (state.store, state.epoch)
        self._look_where_it_ends(state)
        self._follow()
        return self._sign(state)

    def _look_where_it_ends(self, state: StoreState) -> None:
        """Raise Unsealable where the store has other entries than those that were followed."""
        size = self._frontier.size
        if state.seq < size:
            words = f"{size} entries were there, and {state.seq} are here."
            raise Unsealable(words, TRUNCATED)
        if size and state.seq == size and state.chain != self._chain.hex():
            raise Unsealable(f"Entry {size} is another than it was.")

    def _newest_anchor(self, state: StoreState) -> Checkpoint | None:
        """Return the newest anchor, where it is of the store's epoch. Raises Unsealable where it is
        not ours, or of a later epoch."""
        note = self._anchors.newest(self._signer.verifier.name)
        if note is None:
            return None
        try:
            newest = open_checkpoint(note.encode(), [self._signer.verifier])
        except NoteError as error:
            words = f"The newest anchor cannot be trusted: {error}."
            raise Unsealable(words, WRONG_KEY) from None
        if newest.epoch > state.epoch:
            raise Unsealable(
                f"The newest anchor is of epoch {newest.epoch}, the store of epoch {state.epoch}.",
                TRUNCATED,
            )
        # Of an earlier epoch: an operator accepted what was lost, and another log begins.
        return newest if newest.epoch == state.epoch else None

    def _follow(self) -> None:
        """Take in what is new. Raises Unsealable where it does not hang together, or is not what
        was signed."""
        while links := self._store.record(after=self._frontier.size, limit=BATCH):
            broken = find_break(links, self._chain, self._frontier.size)
            if broken is not None:
                raise Unsealable(f"Entry {broken.seq}: {broken.problem}.")
            self._take(links)
        if self._bodiless:
            raise Unsealable(
                f"Entry {min(self._bodiless)}: its body is gone, and no signed entry says so."
            )

    def _take(self, links: list[Link]) -> None:
        """Take in consecutive links, and compare the tree where the newest anchor has it."""
        leaves = [each.leaf for each in links]
        before, sealed = self._frontier, self._sealed
        self._frontier = before.grown(leaves)
        self._chain = links[-1].chain
        for each in links:
            self._look_at_body(each)
        if links[-1].canonical is not None:
            self._newest = unix(json.loads(links[-1].canonical)["ts"])
        if sealed is None or not before.size < sealed.size <= self._frontier.size:
            return
        if before.grown(leaves[: sealed.size - before.size]).root() != sealed.root:
            raise Unsealable(f"The first {sealed.size} entries are not those that were signed.")

    def _look_at_body(self, link: Link) -> None:
        """Note which bodies are gone, and which of them an entry tells of."""
        if link.canonical is None:
            self._bodiless.add(link.seq)
            return
        # What nobody signed excuses nothing; where nothing is signed yet, nobody could have.
        signed = self._sealed is None or link.seq <= self._sealed.size
        if not self._bodiless or not signed or PRUNE.encode() not in link.canonical:
            return
        entry = json.loads(link.canonical)
        if entry["action"] == PRUNE:
            self._bodiless -= set(named_by(entry["after"], before=link.seq))

    def _sign(self, state: StoreState) -> Checkpoint | None:
        sealed, size = self._sealed, self._frontier.size
        if sealed is not None and size < sealed.size:
            words = f"{sealed.size} entries were signed, and {size} are here."
            raise Unsealable(words, TRUNCATED)
        if size == 0 or (sealed is not None and size == sealed.size):
            return sealed
        key = self._signer.verifier
        checkpoint = Checkpoint(key.name, state.epoch, size, self._frontier.root())
        note = self._signer.sign(checkpoint.text())
        # First outside: what lies in the store alone could be set back with it.
        self._anchors.add(checkpoint.place, note)
        self._store.keep_checkpoint(note)
        self._sealed = checkpoint
        return checkpoint


class Sealing(Background):
    """Seals the record in a thread of its own, one process at a time."""

    def __init__(self, sealer: Sealer, leases: Leases, holder: str) -> None:
        super().__init__(
            "sortition-sealing",
            "the record is not signed",
            every=LOOK_SECONDS,
            expected=(
                *(Refusal, Unsealable),
                *(AnchorsUnavailable, AnchorTaken, SignerUnavailable),
            ),
            level=logging.ERROR,
        )
        self._sealer = sealer
        self._alone = Alone(leases, LEASE, holder, LEASE_SECONDS)

    def look(self) -> None:
        """Seal once, if nobody else does. Raises what `Sealer.seal` raises."""
        before, lease = self._alone.lease, self._alone.take()
        if lease is None:
            return
        if before is None or before.token != lease.token:
            self._sealer.begin_anew()
        try:
            self._sealer.seal()
        except Unsealable as error:
            self._tell(error)
            raise
        if self._sealer.note_silence():
            self._sealer.seal()

    def _tell(self, why: Unsealable) -> None:
        """Make it known that nothing may be enlarged, if it is not."""
        doubt = self._sealer.doubt(why)
        if doubt is not None:
            self._sealer.raise_doubt(doubt)

    def leave(self) -> None:
        """Let another process seal."""
        self._alone.give_up()
