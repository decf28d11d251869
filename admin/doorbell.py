"""Doorbells: open pages hear that something changed, and fetch it by a normal GET.

A ring carries a topic and nothing else, so permissions, caching and the polling fallback are those
of the page itself. One thread rings for all pages of this process, while there are any; rings of
the same topic that follow closely are one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from flagserver.domain import documents
from flagserver.domain.documents import Event
from flagserver.domain.errors import StoreUnavailable
from flagserver.services import Services
from flagserver.services.listening import Say

log = logging.getLogger(__name__)

FLAGS = "flags"
RECORD = "record"
HEALTH = "health"
ROLLOUTS = "rollouts"

EVERY_PAGE = "ui"
"""The topic of what all pages hear."""

MAX_LINES = 1000
"""Open pages of one process. Those beyond it poll."""

MAX_TOPICS = 50
"""How many things of one change ring by name; a larger change is heard by the next poll."""

BEAT_SECONDS = 5.0
CALM_SECONDS = 0.1
"""The shortest time between rings, so that a burst of changes is a few fetches."""


class Busy(Exception):
    """Every line is taken."""


class Line:
    """What one open page listens to. session: the secret that opened it."""

    def __init__(self, wanted: Iterable[str], session: str) -> None:
        self.topics = frozenset({EVERY_PAGE, *map(topic, wanted)})
        self.session = session
        self.good = True
        """Whether its session still is."""


class Doorbell:
    """All open lines of this process, rung by everything that any process changes.

    say: sends a message to whoever listens to a topic.
    """

    def __init__(self, services: Services, say: Say, *, limit: int = MAX_LINES) -> None:
        self._services = services
        self._say = say
        self._limit = limit
        self._lines: set[Line] = set()
        self._pending: set[str] = set()
        self._rung = threading.Condition()
        self._thread: threading.Thread | None = None
        self._trouble = False
        services.snapshots.listen(self._hear)

    def check_room(self) -> None:
        """Raise Busy when every line is taken."""
        if len(self._lines) >= self._limit:
            raise Busy

    def open(self, line: Line) -> None:
        """Take a line into account. Whoever opens it closes it."""
        with self._rung:
            self._lines.add(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._ring, name="doorbell", daemon=True)
                self._thread.start()

    def close(self, line: Line) -> None:
        """Forget a line; closing twice is nothing."""
        with self._rung:
            self._lines.discard(line)
            self._rung.notify()

    def open_lines(self) -> int:
        """Return how many pages listen."""
        return len(self._lines)

    def _hear(self, event: Event) -> None:
        with self._rung:
            if self._lines:
                self._pending |= topics_of(event)
                self._rung.notify()

    # On the one thread

    def _ring(self) -> None:
        self._trouble = self._has_trouble()
        beat_at = tick_at = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= beat_at:
                beat_at = now + BEAT_SECONDS
                self._carry_out(self.beat)
            if now >= tick_at:
                tick_at = now + self._flush_seconds()
                self._carry_out(self.tick)
            rung = self._wait(min(beat_at, tick_at) - time.monotonic())
            if rung is None:
                return
            for each in sorted(rung):
                self._say(topic(each), message("changed", each))
            if rung:
                time.sleep(CALM_SECONDS)

    def _carry_out(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            # The next beat tries again; without this thread every page would fall silent.
            log.exception("a doorbell failed")

    def _wait(self, seconds: float) -> set[str] | None:
        """Return what rang, waiting at most that long; None once nobody listens any more."""
        with self._rung:
            if self._lines and not self._pending:
                self._rung.wait(max(0.0, seconds))
            if not self._lines:
                self._thread = None
                return None
            rung, self._pending = self._pending, set()
        return rung

    def beat(self) -> None:
        """Tell every page that it is connected, once it is known whose session is still good."""
        for line in tuple(self._lines):
            line.good = line.good and self._is_good(line.session)
        self._say(EVERY_PAGE, message("beat"))

    def tick(self) -> None:
        """Ring for new outcomes, and for trouble that came or went."""
        self._say(EVERY_PAGE, message("outcomes"))
        if self._trouble != (trouble := self._has_trouble()):
            self._trouble = trouble
            self._say(EVERY_PAGE, message("changed", HEALTH))

    def _is_good(self, session: str) -> bool:
        try:
            return self._services.sessions.principal(session) is not None
        except StoreUnavailable:
            return True

    def _has_trouble(self) -> bool:
        try:
            return bool(self._services.health().problems)
        except StoreUnavailable:
            return True

    def _flush_seconds(self) -> float:
        views = self._services.snapshots.views().values()
        return max(1.0, min((view.snapshot.flush_seconds for view in views), default=5.0))


def topic(wanted: str) -> str:
    """Return the hub's name for what a page wants to hear of."""
    return f"{EVERY_PAGE}/{wanted}"


def message(event: str, data: str = "-") -> bytes:
    """Return one message of a `text/event-stream`. Browsers drop messages without data."""
    return f"event: {event}\ndata: {data}\n\n".encode()


def topics_of(event: Event) -> set[str]:
    """Return what an event rings."""
    topics = {RECORD}
    topics |= {f"flag/{key}" for key in event.flags[:MAX_TOPICS]}
    if event.flags:
        topics.add(FLAGS)
    for collection, key in event.documents[:MAX_TOPICS]:
        if collection in ("flags", "environments"):
            topics.add(FLAGS)
        if collection == "flags":
            topics.add(f"flag/{key}")
        if collection in (documents.ROLLOUTS, documents.ENDED_ROLLOUTS):
            topics |= {ROLLOUTS, f"rollout/{key}"}
    return topics
