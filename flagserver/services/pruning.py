"""Bodies that the record keeps no longer: told first, signed, and then gone, from the disk too."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sortition.record.checkpoint import open_checkpoint
from sortition.record.note import NoteError, VerifierKey
from sortition.record.replay import digest

from flagserver.domain import documents, retention
from flagserver.domain.documents import Change
from flagserver.domain.environments import Environment
from flagserver.domain.errors import Conflict, Refusal
from flagserver.domain.retention import Range
from flagserver.domain.times import unix
from flagserver.ports import Bodies, Checkpoints, Clock, Documents, Entropy, Leases

from .background import Alone, Background

log = logging.getLogger(__name__)

BATCH = 1000
LEASE, LEASE_SECONDS = "pruner", 15.0

LOOK_SECONDS = 600.0
"""How often it is looked whether a day has gone by."""

SOON_SECONDS = 2.0
"""How soon it goes on where something is to be signed, or the store's log to be written anew."""

RETRY_SECONDS = 60.0
"""How soon it is tried again where that failed."""

PARTS = 20
"""How many parts of the record are put into its index in one look, where they are missing."""

TRIES = 5
"""How often the flags are read anew because one changed meanwhile."""


class Prunable(Documents, Checkpoints, Bodies, Protocol):
    """The part of the store that is pruned, and what tells that it may be."""


@dataclass(frozen=True, slots=True)
class _Told:
    """A prune that stands in the record: its entry, and what it says is gone."""

    epoch: int
    seq: int
    ranges: Sequence[Range]


class Pruner:
    """Takes bodies out of the record when their time is over."""

    def __init__(
        self, store: Prunable, clock: Clock, entropy: Entropy, key: VerifierKey | None
    ) -> None:
        """key: with which the record is signed; None: it is not."""
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._key = key
        self._told: _Told | None = None

    def prune(self) -> bool:
        """Do what is to be done now. Returns whether all of it is done; else it goes on soon.
        Raises StoreUnavailable, Conflict."""
        if self._told is None or self._is_of_before(self._told):
            self._told = self._tell()
        if self._told is not None:
            if not self._is_signed(self._told):
                return False
            self._store.drop_bodies(self._told.ranges)
            log.info("bodies up to entry %d are pruned", self._told.ranges[-1][1])
            self._told = None
        return self._store.rewrite_log()

    def index(self) -> bool:
        """See that histories are found by an index, also in a store that older versions wrote to.
        Returns whether all of it is there; else it goes on soon. Raises StoreUnavailable."""
        return any(self._store.index() for _ in range(PARTS))

    def _tell(self) -> _Told | None:
        """Write down which bodies are to go; None: there are none."""
        state = self._store.state()
        if state is None:
            return None
        gone, due = self._walk()
        if not due:
            return None
        ranges = retention.ranges(sorted({*gone, *due}))
        of, things = read_things(self._store)
        fact = retention.fact(ranges, of, {name: digest(body) for name, body in things.items()})
        now, salt = self._clock.now(), self._entropy.hex(16)
        done = self._store.commit(Change(writes=(), fact=fact), at=now, salt=salt)
        return _Told(state.epoch, done.seq, ranges)

    def _walk(self) -> tuple[list[int], list[int]]:
        """Return the entries whose bodies are gone, and those whose bodies are to go."""
        days = {
            key: Environment.from_body(document.body).retention_days
            for key, document in self._store.read_all(documents.ENVIRONMENTS).items()
        }
        today = retention.beginning(self._clock.now())
        shortest = min(days.values(), default=retention.DAYS)
        young = today - shortest * retention.DAY_SECONDS + retention.DAY_SECONDS
        gone: list[int] = []
        due: list[int] = []
        after = 0
        while links := self._store.record(after=after, limit=BATCH):
            for link in links:
                if link.canonical is None:
                    gone.append(link.seq)
                    continue
                entry = json.loads(link.canonical)
                if unix(entry["ts"]) > young:
                    # By a day more than clocks differ: nothing that follows is due.
                    return gone, due
                if retention.is_due(entry, days, today):
                    due.append(link.seq)
            after = links[-1].seq
        return gone, due

    def _is_of_before(self, told: _Told) -> bool:
        """Tell whether another epoch began since: the entry may be among what was lost."""
        state = self._store.state()
        return state is None or state.epoch != told.epoch

    def _is_signed(self, told: _Told) -> bool:
        """Tell whether the place of a prune in the record is signed. Without a key it counts."""
        if self._key is None:
            return True
        newest = self._store.checkpoints(limit=1)
        if not newest:
            return False
        try:
            checkpoint = open_checkpoint(newest[0].encode(), [self._key])
        except NoteError:
            return False
        return checkpoint.epoch == told.epoch and checkpoint.size >= told.seq


def read_things(store: Documents) -> tuple[int, Mapping[str, Mapping[str, Any]]]:
    """Return the record's newest entry, and every flag and its states as they were then, named as
    `sortition.record.replay` names them. Raises Conflict while they change too quickly."""
    for _ in range(TRIES):
        before = store.state()
        things = _read_things(store)
        after = store.state()
        if before is not None and before == after:
            return before.seq, things
    raise Conflict("Flags change too quickly to be read as of one moment. Try again.")


def _read_things(store: Documents) -> dict[str, Mapping[str, Any]]:
    things = {
        f"flag/{key}": document.body for key, document in store.read_all(documents.FLAGS).items()
    }
    for environment in store.read_all(documents.ENVIRONMENTS):
        for key, document in store.read_all(documents.states(environment)).items():
            things[f"{environment}/flag/{key}"] = document.body
    return things


class Pruning(Background):
    """Prunes in a thread of its own, one process at a time."""

    def __init__(self, pruner: Pruner, leases: Leases, holder: str) -> None:
        super().__init__(
            "sortition-pruning",
            "the record keeps bodies longer than it should",
            expected=(Refusal,),
            level=logging.ERROR,
        )
        self._pruner = pruner
        self._alone = Alone(leases, LEASE, holder, LEASE_SECONDS)
        self._done = True

    def look(self) -> None:
        """Prune once, if nobody else does. Raises what `Pruner.prune` raises."""
        alone = self._alone.take() is not None
        self._done = not alone or (self._pruner.index() and self._pruner.prune())

    def pause(self, well: bool) -> float:
        """Return the seconds until the next look."""
        if not well:
            return RETRY_SECONDS
        return LOOK_SECONDS if self._done else SOON_SECONDS

    def leave(self) -> None:
        """Let another process prune."""
        self._alone.give_up()
