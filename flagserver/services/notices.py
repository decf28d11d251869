"""Telling people: notices that changes left in the outbox, brought to each notifier in order.

Each notifier has a deliverer, a thread and a lease of its own: one that hangs holds up neither the
controller nor the others, and of many controllers one delivers. A notice is delivered at least
once (its id tells a repeat), and exactly once while the store and this process stay up. One that
fails is tried again, later each time, until it is GIVE_UP old; then it is passed over, and the log
says so. Nor is one told that is so old already: whoever was added today is not woken for last week.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import groupby

from flagserver.domain.errors import Refusal
from flagserver.domain.notices import Notice
from flagserver.ports import Clock, Lease, Leases, NotDelivered, Notifier, Outbox

log = logging.getLogger(__name__)

GIVE_UP = timedelta(hours=24)
"""How old a notice may be when it is told."""

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 300.0
"""Seconds from a failure to the next try: doubled each time, and spread over half of it."""

LEASE_SECONDS = 15.0
RENEW_SECONDS = 5.0
"""A lease is renewed before a try when it is older: a try takes 5 s at most."""

IDLE_SECONDS = 1.0
"""How often the outbox is looked at while it is empty."""

WAITING_SECONDS = 5.0
"""How often one who does not deliver asks whether to take over."""

AT_ONCE = 50
"""Notices read at a time."""


class Outcome(StrEnum):
    """How it went with a notice, for `sortition_notifications_total`."""

    DELIVERED = "delivered"
    FAILED = "failed"
    """One try; there will be another."""
    REFUSED = "refused"
    """The other side will never take it; passed over."""
    GIVEN_UP = "given_up"
    """Tried until it was too old; passed over."""


Count = Callable[[str, Outcome], None]
"""(notifier, outcome): called once for each."""


@dataclass(slots=True)
class _Trouble:
    """The notice that a notifier is stuck at. tries: so many failed."""

    position: str
    tries: int
    not_before: float


class Deliverer:
    """Brings notices to one notifier. `step` does what is due; nothing in it waits but a try.

    chance: a number in [0, 1), so that many who failed together do not come back together.
    """

    def __init__(
        self,
        notifier: Notifier,
        outbox: Outbox,
        leases: Leases,
        clock: Clock,
        holder: str,
        *,
        chance: Callable[[], float],
        count: Count = lambda notifier, outcome: None,
    ) -> None:
        self._notifier = notifier
        self._outbox = outbox
        self._leases = leases
        self._clock = clock
        self._holder = holder
        self._chance = chance
        self._count = count
        self._lease: Lease | None = None
        self._renewed = 0.0
        self._trouble: _Trouble | None = None
        self._done: str | None = None
        """The last that was delivered, while the store has not been told."""

    @property
    def name(self) -> str:
        """The notifier's, also the name of its place in the outbox."""
        return self._notifier.name

    def is_done(self) -> bool:
        """Tell whether nothing waits for this notifier. Raises StoreUnavailable."""
        return not self._outbox.undelivered(self.name, limit=1)

    def run(self, stop: threading.Event) -> None:
        """Deliver until told to stop, whatever happens, then let another take over."""
        while not stop.is_set():
            stop.wait(self.guarded_step())
        self._step_down()

    def guarded_step(self) -> float:
        """Do a step and survive it. Returns the seconds until the next."""
        try:
            return self.step()
        except Refusal as error:
            self._lease = None
            log.warning("%s: notices wait: %s", self.name, error.detail)
        except Exception:
            self._lease = None
            log.exception("%s: notices wait", self.name)
        return WAITING_SECONDS

    def step(self) -> float:
        """Deliver what is there, in order, as far as it goes. Returns the seconds until the next
        step. Raises StoreUnavailable."""
        if not self._holds_lease():
            return WAITING_SECONDS
        self._tell_store()
        if self._trouble is not None and (wait := self._wait()) > 0:
            return min(wait, RENEW_SECONDS)
        found = self._outbox.undelivered(self.name, limit=AT_ONCE)
        for old, some in groupby(found, lambda each: self._is_old(each[1])):
            if old:
                self._give_up(list(some))
            elif (stuck := self._deliver(some)) is not None:
                return stuck
        return 0.0 if len(found) == AT_ONCE else IDLE_SECONDS

    def _deliver(self, found: Iterable[tuple[str, Notice]]) -> float | None:
        """Deliver these in order. Returns the seconds to wait where it could not go on."""
        for position, notice in found:
            if not self._holds_lease():
                return WAITING_SECONDS
            if not self._settled(position, notice):
                return min(self._wait(), RENEW_SECONDS)
            self._passed(position)
        return None

    def _give_up(self, old: Sequence[tuple[str, Notice]]) -> None:
        (position, last), (_, first) = old[-1], old[0]
        log.error(
            "%s: nobody was told of what happened more than %g h ago: notices %s to %s (%d)",
            *(self.name, GIVE_UP / timedelta(hours=1), first.id, last.id, len(old)),
        )
        for _ in old:
            self._count(self.name, Outcome.GIVEN_UP)
        self._passed(position)

    def _passed(self, position: str) -> None:
        self._done, self._trouble = position, None
        self._tell_store()

    def _is_old(self, notice: Notice) -> bool:
        return self._clock.now() - _written(notice) >= GIVE_UP

    def _settled(self, position: str, notice: Notice) -> bool:
        """Try to deliver. Returns whether that is the end of it, one way or another."""
        try:
            self._notifier.send(notice)
        except NotDelivered as error:
            return self._failed(position, notice, error)
        except Exception as error:  # noqa: BLE001 (a notifier's mistake is a failure like any other)
            # Where it happened is logged and what it says is not: that may hold a secret.
            where = "".join(traceback.format_tb(error.__traceback__))
            log.warning("%s failed (%s):\n%s", self.name, type(error).__name__, where)
            return self._failed(position, notice, NotDelivered(f"failed ({type(error).__name__})"))
        self._count(self.name, Outcome.DELIVERED)
        return True

    def _failed(self, position: str, notice: Notice, error: NotDelivered) -> bool:
        if error.refused:
            self._count(self.name, Outcome.REFUSED)
            log.error(
                "%s: notice %s is refused, nobody was told there: %s: %s",
                *(self.name, notice.id, notice.title, error.detail),
            )
            return True
        before = self._trouble
        tries = 1 + (before.tries if before and before.position == position else 0)
        wait = error.retry_after or self._backoff(tries)
        self._trouble = _Trouble(position, tries, self._clock.monotonic() + wait)
        self._count(self.name, Outcome.FAILED)
        log.warning(
            "%s: notice %s not delivered (try %d, next in %.0f s): %s",
            *(self.name, notice.id, tries, wait, error.detail),
        )
        return False

    def _backoff(self, tries: int) -> float:
        longest = min(FIRST_BACKOFF * 2.0 ** min(tries - 1, 30), LONGEST_BACKOFF)
        return longest * (0.5 + 0.5 * self._chance())

    def _wait(self) -> float:
        """Return the seconds until the notice in trouble is tried again."""
        if self._trouble is None:
            return 0.0
        return max(0.0, self._trouble.not_before - self._clock.monotonic())

    def _holds_lease(self) -> bool:
        now = self._clock.monotonic()
        if self._lease is None or now - self._renewed >= RENEW_SECONDS:
            name = f"notices/{self.name}"
            self._lease = self._leases.acquire(name, self._holder, ttl_seconds=LEASE_SECONDS)
            self._renewed = now
        if self._lease is None:
            # Whoever has it now knows the place from the store.
            self._done = self._trouble = None
        return self._lease is not None

    def _tell_store(self) -> None:
        if self._done is not None:
            self._outbox.delivered(self.name, self._done)
            self._done = None

    def _step_down(self) -> None:
        try:
            self._tell_store()
            if self._lease is not None:
                self._leases.release(self._lease)
        except Refusal as error:
            log.warning("%s: the lease ends by itself: %s", self.name, error.detail)


class Notices:
    """All deliverers, each on a thread of its own."""

    def __init__(self, deliverers: Iterable[Deliverer]) -> None:
        self._deliverers = tuple(deliverers)
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to deliver, beside whatever the caller does."""
        self._threads = [
            threading.Thread(
                target=each.run, args=(self._stop,), name=f"notices-{each.name}", daemon=True
            )
            for each in self._deliverers
        ]
        for thread in self._threads:
            thread.start()

    def are_told(self) -> bool:
        """Tell whether nothing waits for anybody. Raises StoreUnavailable."""
        return all(each.is_done() for each in self._deliverers)

    def stop(self, seconds: float = 6.0) -> None:
        """End delivering; a try under way has so long. What is left waits in the outbox."""
        self._stop.set()
        for thread in self._threads:
            thread.join(seconds)


def _written(notice: Notice) -> datetime:
    """Return when it was written; one that does not say is too old."""
    try:
        at = datetime.fromisoformat(notice.at)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
