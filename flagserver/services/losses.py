"""What the record lost, and the admin's word that it is known. Nothing here happens by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sortition.record.checkpoint import read_text

from flagserver.domain import access, doubts
from flagserver.domain.commands import Acknowledgement
from flagserver.domain.documents import Change, Document, Fact, Principal
from flagserver.domain.doubts import Doubt
from flagserver.domain.errors import Conflict
from flagserver.domain.stores import BEHIND, Alarm, StoreState
from flagserver.domain.times import rfc3339
from flagserver.ports import Clock, Documents, Entropy, StoreIdentity

from .recovery import Recovery
from .trust import Trust

TRIES = 5
"""How often it is looked again because something was written meanwhile."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What was decided. kept: entries of before that still are what was signed.

    lost: how many that were signed are no more, None where nobody knows. killed: environment ->
    flags, so that nobody is exposed who was not.
    """

    identity: StoreIdentity
    kept: int
    lost: int | None
    killed: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Losses:
    """Use cases around a record that is not what was signed, or that was seen."""

    def __init__(
        self,
        store: Documents,
        trust: Trust,
        recovery: Recovery | None,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """recovery: of a store that lost what this process has seen, None where it keeps nothing
        of that."""
        self._store = store
        self._trust = trust
        self._recovery = recovery
        self._clock = clock
        self._entropy = entropy

    def doubt(self) -> Doubt | None:
        """Return why nothing may be enlarged, or None. Raises StoreUnavailable."""
        document = self._store.read(doubts.COLLECTION, doubts.KEY)
        return None if document is None else Doubt.from_body(document.body)

    def alarm(self) -> Alarm | None:
        """Return why this process takes nothing from the store, or None."""
        return self._trust.alarm

    def acknowledge(self, command: Acknowledgement, by: Principal) -> Acknowledged:
        """Take it that entries are lost. A new epoch begins, whose first entry quotes what was
        promised; from then on things may be enlarged again.

        Raises Conflict where nothing is in doubt, or where an operator has to decide.
        """
        access.check(by, access.MANAGE)
        alarm = self._trust.alarm
        if alarm is not None:
            return self._take_what_is_left(alarm, command, by)
        for attempt in range(1, TRIES + 1):
            document = self._store.read(doubts.COLLECTION, doubts.KEY)
            found = self._store.state()
            if document is None or found is None:
                raise Conflict("There is nothing to acknowledge: the record is what was signed.")
            try:
                return self._begin_anew(document, found, command, by)
            except Conflict:
                if attempt == TRIES:
                    raise
        raise AssertionError("the last try returns or raises")

    def _begin_anew(
        self, document: Document, found: StoreState, command: Acknowledgement, by: Principal
    ) -> Acknowledged:
        doubt = Doubt.from_body(document.body)
        successor = StoreIdentity(found.store, found.epoch + 1)
        fact = Fact(
            actor=by.id,
            role=by.role_in(None),
            action="store:accept",
            target=f"store/{found.store}",
            before={
                "store": found.store,
                "epoch": found.epoch,
                "entries": found.seq,
                "checkpoint": doubt.promised,
                "kept": doubt.kept,
            },
            after={"store": successor.store, "epoch": successor.epoch, "killed": {}, "filled": {}},
            reason=command.reason,
        )
        at, salt = self._clock.now(), self._entropy.hex(16)
        notice = doubt.ends(found.store, rfc3339(at))
        change = Change(writes=(doubts.lifted(document),), fact=fact, notices=(notice,))
        self._store.accept(change, found, successor, at=at, salt=salt)
        promised = read_text(doubt.promised)
        lost = promised.size - doubt.kept if promised.epoch == doubt.epoch else None
        return Acknowledged(successor, doubt.kept, lost)

    def _take_what_is_left(
        self, alarm: Alarm, command: Acknowledgement, by: Principal
    ) -> Acknowledged:
        """Take the store that is behind what this process has seen, as an operator would."""
        found = self._store.state()
        if alarm.kind != BEHIND or found is None or self._recovery is None:
            raise Conflict(f"{alarm.detail} That is for an operator to decide on the server.")
        known = self._trust.known
        accepted = self._recovery.accept(found.store, command.reason, by=by)
        lost = None if known is None or known.epoch != found.epoch else known.seq - found.seq
        return Acknowledged(accepted.identity, found.seq, lost, accepted.killed)
