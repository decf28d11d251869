"""Whom notices are brought to: how far each has got, and whether a message would arrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flagserver.domain import access
from flagserver.domain.documents import Change, Fact, Principal
from flagserver.domain.errors import NotFound
from flagserver.domain.notices import Notice, Severity
from flagserver.domain.times import rfc3339
from flagserver.ports import Clock, Documents, Entropy, NotDelivered, Notifier, Outbox

MOST_WAITING = 100

TEST = "notification:test"


@dataclass(frozen=True, slots=True)
class Channel:
    """One way to tell people. waiting: notices that it has not got yet, MOST_WAITING at most.

    oldest: when the first of them happened (RFC 3339).
    """

    name: str
    waiting: int
    oldest: str | None


@dataclass(frozen=True, slots=True)
class Tested:
    """What became of a test message. problem: why it did not arrive, None where it did."""

    channel: str
    problem: str | None


class Notifying:
    """Use cases around who is told."""

    def __init__(
        self,
        store: Documents,
        outbox: Outbox,
        notifiers: Sequence[Notifier],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._notifiers = {each.name: each for each in notifiers}
        self._clock = clock
        self._entropy = entropy

    def channels(self) -> list[Channel]:
        """Return every way to tell people that the settings name. Raises StoreUnavailable."""
        return [self._channel(name) for name in self._notifiers]

    def test(self, name: str, by: Principal) -> Tested:
        """Send a test message now, past the outbox, and write down that somebody did. An incident
        that it opens is ended at once. Raises NotFound."""
        access.check(by, access.MANAGE)
        notifier = self._notifiers.get(name)
        if notifier is None:
            known = ", ".join(self._notifiers)
            raise NotFound(f"Nothing is sent to {name!r}; there are: {known}.")
        tested = Tested(name, self._send(notifier))
        fact = Fact(
            actor=by.id,
            role=by.role,
            action=TEST,
            target=f"notifier/{name}",
            after={"arrived": tested.problem is None},
        )
        change = Change(writes=(), fact=fact)
        self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))
        return tested

    def _send(self, notifier: Notifier) -> str | None:
        incident = f"test/{self._entropy.hex(6)}"
        try:
            notifier.send(self._notice(incident, resolves=False))
            notifier.send(self._notice(incident, resolves=True))
        except NotDelivered as error:
            return error.detail
        return None

    def _notice(self, incident: str, *, resolves: bool) -> Notice:
        words = "This was a test" if resolves else "This is a test: somebody asked for it"
        return Notice(
            id=f"{incident}:{resolves}",
            kind=TEST,
            severity=Severity.INFO,
            at=rfc3339(self._clock.now()),
            environment=None,
            service=None,
            subject="notifier",
            title=f"{words}, nothing is wrong.",
            incident=incident,
            resolves=resolves,
        )

    def _channel(self, name: str) -> Channel:
        waiting = self._outbox.undelivered(name, limit=MOST_WAITING)
        return Channel(name, len(waiting), waiting[0][1].at if waiting else None)
