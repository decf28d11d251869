"""That no controller looks: noticed by whoever serves, told once, and taken back when one looks.

Controllers tell of everything else, so this alone must be told without them. Every web process
watches; what they tell is one document, so that only the first of them tells it. While it is told,
they also bring notices to people, as controllers do, by the same leases.

Silence is counted by this process's own clock, from look to look, over marks that do not change: a
controller's clock that is wrong, a store that was away, or a machine that slept wakes nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from flagserver.domain import documents, silence
from flagserver.domain.documents import Change, Document, Fact, Principal, Write
from flagserver.domain.errors import AlreadyExists, StaleRevision
from flagserver.domain.notices import Notice
from flagserver.domain.rollout import Rollout
from flagserver.domain.times import from_unix, moment, rfc3339
from flagserver.ports import Clock, Documents, Entropy, Looks

from .background import Background
from .notices import Notices
from .steering import LEASE_SECONDS

log = logging.getLogger(__name__)

SERVER = Principal("server", "server", "server")
"""Who acts here: whoever serves."""

SILENT_TICKS = 9
LOOK_TICKS = 2
"""In a controller's ticks: how long it may be late beyond the lease of one that died, and how often
that is looked at. With ticks of 5 s: a minute, and every 10 s."""

KEY = "silence"
MOST_KEPT = 100
"""So many rollouts are kept with their last looks, to see that somebody looks again."""


def bound_seconds(tick_seconds: float) -> float:
    """Return after how long without a look people are told."""
    return LEASE_SECONDS + SILENT_TICKS * tick_seconds


def look_seconds(tick_seconds: float) -> float:
    """Return how often it is looked at."""
    return LOOK_TICKS * tick_seconds


class Watched(Documents, Looks, Protocol):
    """The part of the store that shows signs of life."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """A rollout's last look as it was read, None: never; and for how long it has not changed."""

    looked: float | None
    silent: float = 0.0


class Silence:
    """Looks whether controllers look, and says so when none does."""

    def __init__(
        self, store: Watched, clock: Clock, entropy: Entropy, bound: float, every: float
    ) -> None:
        """bound: seconds without a look after which people are told.  every: seconds between two
        calls of `look`; of a longer time in between so much again is counted, and no more."""
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._bound = bound
        self._most = 2 * every
        self._marks: dict[str, _Mark] = {}
        self._looked: float | None = None

    def look(self) -> bool:
        """Look once, tell what is new, and return whether people are told that nobody looks.
        Raises StoreUnavailable, Conflict; nothing is told twice."""
        # What was told first: were it read last, an end by another process in between would be
        # taken for silence, and told anew.
        told = self._store.read(documents.CONTROLLERS, KEY)
        live = sorted(self._store.keys(documents.ROLLOUTS))
        looked = self._store.seen(live)
        self._note(live, looked)
        forgotten = self._forgotten()
        if told is None:
            return bool(forgotten) and self._begin(forgotten)
        if forgotten or not _looked_again(told, live, looked):
            return True
        self._end(told)
        return False

    def _note(self, live: Sequence[str], looked: Mapping[str, float]) -> None:
        now = self._clock.monotonic()
        passed = 0.0 if self._looked is None else min(now - self._looked, self._most)
        self._looked = now
        before, self._marks = self._marks, {id: _Mark(looked.get(id)) for id in live}
        for id, mark in self._marks.items():
            if id in before and before[id].looked == mark.looked:
                self._marks[id] = _Mark(mark.looked, before[id].silent + passed)

    def _forgotten(self) -> list[Rollout]:
        """Return the rollouts that nobody looked at for too long, though somebody must."""
        silent = [id for id, mark in self._marks.items() if mark.silent > self._bound]
        found = self._store.read_some(documents.ROLLOUTS, silent)
        rollouts = [Rollout.from_body(found[id].body) for id in silent if id in found]
        now = moment(self._clock.now())
        return [rollout for rollout in rollouts if rollout.needs_controller(now)]

    def _begin(self, forgotten: Sequence[Rollout]) -> bool:
        looked = {each.id: self._marks[each.id].looked for each in forgotten}
        last = max((at for at in looked.values() if at is not None), default=None)
        at = rfc3339(self._clock.now())
        notice = silence.begins(
            *(forgotten, None if last is None else from_unix(last), self._bound),
            at=at,
            store=self._store_id(),
        )
        kept = dict(list(looked.items())[:MOST_KEPT])
        write = Write(documents.CONTROLLERS, KEY, 0, {"told": at, "looked": kept})
        self._commit(write, notice)
        return True

    def _end(self, told: Document) -> None:
        at = rfc3339(self._clock.now())
        notice = silence.ends(told.body["told"], at=at, store=self._store_id())
        self._commit(Write(documents.CONTROLLERS, KEY, told.revision, None), notice)

    def _commit(self, write: Write, notice: Notice) -> None:
        fact = Fact(SERVER.id, SERVER.role, notice.kind, silence.SUBJECT, reason=notice.title)
        change = Change(writes=(write,), fact=fact, notices=(notice,))
        try:
            self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))
        except (AlreadyExists, StaleRevision):
            log.info("another process said it first: %s", notice.title)

    def _store_id(self) -> str:
        identity = self._store.identity()
        return "" if identity is None else identity.store


def _looked_again(told: Document, live: Sequence[str], looked: Mapping[str, float]) -> bool:
    """Tell whether every rollout that lives was looked at, and those that were forgotten since."""
    forgotten = told.body["looked"]
    return all(id in looked and looked[id] != forgotten.get(id) for id in live)


class Vigil(Background):
    """Looks every now and then on a thread of its own, and brings notices while nobody else does.

    notices: makes what brings them, anew for each silence.  every: seconds from look to look.
    """

    def __init__(self, silence: Silence, notices: Callable[[], Notices], every: float) -> None:
        super().__init__("sortition-vigil", "whether controllers look is not known", every=every)
        self._silence = silence
        self._make_notices = notices
        self._notices: Notices | None = None

    @property
    def delivers(self) -> bool:
        """Whether it brings notices now, should no controller do so."""
        return self._notices is not None

    def look(self) -> None:
        """Look once. Raises StoreUnavailable."""
        if self._silence.look():
            self._deliver()
        elif self._notices is not None and self._notices.are_told():
            self.leave()

    def leave(self) -> None:
        """Let others bring what is left."""
        if self._notices is not None:
            self._notices.stop()
            self._notices = None

    def _deliver(self) -> None:
        if self._notices is None:
            log.error("no controller looks at rollouts: notices are brought from here meanwhile")
            self._notices = self._make_notices()
            self._notices.start()
