"""Every door of the server on one page. Drivers stand behind them; services knock.

All doors raise `StoreUnavailable` (or their own refusal) when the other side does not answer in
time; none waits without bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sortition.record.entry import Link

from flagserver.domain.documents import Change, Committed, Document, EnvironmentContent, Event
from flagserver.domain.outcomes import Row, Totals


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """Which store this is. A store that was flushed or replaced has another id."""

    store: str
    epoch: int


class Clock(Protocol):
    """Time, as an argument."""

    def now(self) -> datetime:
        """Return the present in UTC."""

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""


class Entropy(Protocol):
    """Chance, as an argument."""

    def hex(self, octets: int) -> str:
        """Return that many random octets in hex, fit for secrets."""


class Documents(Protocol):
    """What is authoritative: documents, the record and the feed, changed together or not at all."""

    def initialise(self, store: str) -> StoreIdentity:
        """Return the store's identity, giving it this one if it has none (an empty store)."""

    def identity(self) -> StoreIdentity | None:
        """Return the store's identity, or None when it is empty."""

    def read(self, collection: str, key: str) -> Document | None:
        """Return one document."""

    def read_all(self, collection: str) -> dict[str, Document]:
        """Return a collection's documents by key."""

    def read_environment(
        self, environment: str, flags: Sequence[str] | None = None
    ) -> EnvironmentContent:
        """Return an environment (or only the named flags of it) as of one version, atomically.

        An environment that nobody wrote to has version 0. Raises Conflict on an empty store.
        """

    def versions(self) -> Mapping[str, int]:
        """Return every environment's snapshot version."""

    def commit(self, change: Change, *, at: datetime, salt: str) -> Committed:
        """Carry out a change in ONE script: revisions checked, documents written, versions raised,
        the entry appended to the record, the event to the feed.

        The caller MUST treat StoreUnavailable as "unknown": the change may have been made. A
        retry with the same idempotency key is safe. The store MUST NOT write anything when it
        raises StaleRevision (a document is not at the expected revision), AlreadyExists (expected
        0), ClaimTaken (a claim belongs to another owner), Moved (`at_versions`), Conflict (the
        store is not the one that this process began with) or IdempotencyMismatch.
        """

    def record(self, *, after: int = 0, limit: int = 1000) -> list[Link]:
        """Return entries of the record with seq > after, oldest first."""

    def history(
        self, *, target: str | None, environment: str | None, before: int | None, limit: int
    ) -> list[Mapping[str, Any]]:
        """Return decoded entries, newest first; `environment` keeps those of it and of none."""

    def events(self, after: str, wait_seconds: float) -> list[Event]:
        """Return events after a position (of `feed_end` or an event), oldest first, waiting at
        most that long for the first. A feed that was cut shows as a gap in `versions`."""

    def feed_end(self) -> str:
        """Return the position of the newest event, to be read before the state it follows."""

    def ping(self) -> None:
        """Return when the store answers."""


class Outcomes(Protocol):
    """What services reported; spread by environment and flag, short-lived."""

    def add(
        self,
        environment: str,
        source: str,
        seq: int,
        rows: Iterable[Row],
        about: Mapping[str, Any],
    ) -> bool:
        """Add the rows of one batch. False when (source, seq) was here before.

        source: `<instance>:<started>`.  about: what `sources` tells of it.  Adding again after
        a failure half-way is safe.
        """

    def totals(
        self, environment: str, subject: str, *, since: int, until: int
    ) -> Mapping[str, Totals]:
        """Return variant -> totals of a flag (or "" -> totals of a service), ticks in
        (since, until], unix seconds. subject: `flag/<key>` or `service/<name>`."""

    def series(
        self, environment: str, subject: str, *, since: int, until: int
    ) -> Mapping[int, Mapping[str, Totals]]:
        """Return the same per tick, by the unix second at which it ended."""

    def sources(self, environment: str) -> list[Mapping[str, Any]]:
        """Return who reported lately: service.name, service.version, instance, seen (unix)."""


class Sessions(Protocol):
    """Short secrets with an end: browser sessions and one-time links, kept hashed."""

    def put(self, kind: str, digest: str, body: Mapping[str, Any], *, ttl_seconds: int) -> None:
        """Keep a body under a secret's digest. kind: `session` or `link`."""

    def get(self, kind: str, digest: str) -> Mapping[str, Any] | None:
        """Return the body, or None when it has ended."""

    def take(self, kind: str, digest: str) -> Mapping[str, Any] | None:
        """Return the body and forget it, so that nobody else gets it."""

    def drop(self, kind: str, digest: str) -> None:
        """Forget it."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A role that one process holds. token: rises with every new holder (fencing)."""

    name: str
    holder: str
    token: int


class Leases(Protocol):
    """Who may act, one at a time (product: TTL 15 s, fencing token from the store's clock)."""

    def acquire(self, name: str, holder: str, *, ttl_seconds: float) -> Lease | None:
        """Return the lease, renewed if the holder has it already, or None: somebody else does."""

    def release(self, lease: Lease) -> None:
        """Give it up if it is still ours."""


class Store(Documents, Outcomes, Sessions, Leases, Protocol):
    """All of it, as one driver offers it."""
