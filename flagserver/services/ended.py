"""Rollouts that have ended: found by what lists ask for, without reading all of them each time.

An ended rollout never changes, so a short header of each is remembered, and only what is new is
read: half a kilobyte each.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from flagserver.domain import documents
from flagserver.domain.documents import Change, Document, Fact, Write
from flagserver.domain.rollout import Rollout
from flagserver.domain.verbs import CONTROLLER
from flagserver.ports import Documents

KEPT_SECONDS = 90 * 24 * 3600.0
"""How long a rollout is kept after its end."""

MOST = 10_000
"""So many are kept, about 3 KB each: more than a hundred a day for 90 days. The oldest go first."""

FORGOTTEN_AT_ONCE = 50

AT_ONCE = 200
"""Documents read at a time: less than a megabyte."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is looked at to find one. created, ended: unix seconds.  targets: their ids."""

    id: str
    revision: int
    created: float
    ended: float
    environment: str
    service: str
    version: str | None
    state: str
    targets: frozenset[str]


class Ended:
    """The ended rollouts of a store. May be shared by threads."""

    def __init__(self, store: Documents) -> None:
        self._store = store
        self._headers: dict[str, Header] = {}
        self._lock = threading.Lock()

    def headers(self) -> list[Header]:
        """Return the header of every ended rollout that is kept."""
        with self._lock:
            there = set(self._store.keys(documents.ENDED_ROLLOUTS))
            for id in self._headers.keys() - there:
                del self._headers[id]
            for some in _batches(there - self._headers.keys()):
                found = self._store.read_some(documents.ENDED_ROLLOUTS, some)
                self._headers.update((id, _header(it)) for id, it in found.items())
            return list(self._headers.values())

    def to_be_forgotten(self, now: float) -> list[Header]:
        """Return some of what need not be kept any longer, the oldest first. now: unix seconds."""
        oldest = sorted(self.headers(), key=lambda header: (header.ended, header.id))
        surplus = len(oldest) - MOST
        return [
            header
            for i, header in enumerate(oldest[:FORGOTTEN_AT_ONCE])
            if i < surplus or header.ended < now - KEPT_SECONDS
        ]


def forget(old: Sequence[Header]) -> Change:
    """Return the change that takes ended rollouts away; what the record says of them stays."""
    return Change(
        # Nothing changes one that has ended: it is as it was written.
        writes=tuple(Write(documents.ENDED_ROLLOUTS, it.id, it.revision, None) for it in old),
        fact=Fact(
            actor=CONTROLLER.id,
            role=CONTROLLER.role,
            action="rollout:forget",
            target="rollouts",
            before={"rollouts": [it.id for it in old]},
            reason="Ended rollouts are kept for 90 days, and 10,000 at most.",
        ),
    )


def _header(document: Document) -> Header:
    it = Rollout.from_body(document.body)
    return Header(
        id=it.id,
        revision=document.revision,
        created=it.created,
        ended=it.ended or it.created,
        environment=it.environment,
        service=it.service,
        version=it.version,
        state=str(it.state),
        targets=frozenset(target.id for target in it.targets),
    )


def _batches(ids: Iterable[str]) -> Iterable[list[str]]:
    left = iter(ids)
    while some := list(islice(left, AT_ONCE)):
        yield some
