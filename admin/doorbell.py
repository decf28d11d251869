"""Doorbells: open pages hear that something changed, and fetch it by a normal GET.

A ring carries a topic and nothing else, so permissions, caching and the polling fallback are those
of the page itself. Rings of the same topic that nobody has heard yet are one ring.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from flagserver.domain.documents import Event
from flagserver.services.snapshots import Snapshots

FLAGS = "flags"
RECORD = "record"
MAX_LINES = 64
"""Open streams of one process; each holds a thread. Pages beyond that poll."""

MAX_TOPICS = 50
"""How many things of one change ring by name; a larger change is heard by the next poll."""


class Busy(Exception):
    """Every line is taken."""


class Line:
    """What one open page waits for."""

    def __init__(self, topics: Iterable[str]) -> None:
        self._wanted = frozenset(topics)
        self._pending: set[str] = set()
        self._rung = threading.Condition()

    def ring(self, topics: set[str]) -> None:
        """Leave rings of topics; those this page does not show are not for it."""
        heard = topics & self._wanted
        if not heard:
            return
        with self._rung:
            self._pending |= heard
            self._rung.notify()

    def wait(self, seconds: float) -> list[str]:
        """Return the topics that rang since the last call, waiting at most that long for one."""
        with self._rung:
            if not self._pending:
                self._rung.wait(max(0.0, seconds))
            rung, self._pending = self._pending, set()
        return sorted(rung)


class Doorbell:
    """All open lines of this process, rung by everything that any process changes."""

    def __init__(self, snapshots: Snapshots, *, limit: int = MAX_LINES) -> None:
        self._lines: set[Line] = set()
        self._limit = limit
        self._lock = threading.Lock()
        snapshots.listen(self._hear)

    def open(self, topics: Iterable[str]) -> Line:
        """Return a new line. Raises Busy. Whoever opens it closes it."""
        line = Line(topics)
        with self._lock:
            if len(self._lines) >= self._limit:
                raise Busy
            self._lines.add(line)
        return line

    def close(self, line: Line) -> None:
        """Forget a line; closing twice is nothing."""
        with self._lock:
            self._lines.discard(line)

    def open_lines(self) -> int:
        """Return how many pages listen."""
        return len(self._lines)

    def _hear(self, event: Event) -> None:
        with self._lock:
            lines = tuple(self._lines)
        topics = topics_of(event)
        for line in lines:
            line.ring(topics)


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
    return topics
