"""On which day each flag was last asked for: noted in memory, written once a minute.

Noted is what services report, and what is evaluated over the network. A flag is written once a day
at most by each process. Whether nobody asked for one for a month can be told only where that has
been noted for a month, and only while services of its environment report at all.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import date, datetime

from flagserver.domain.staleness import Asked
from flagserver.ports import Clock, FlagUses

from .background import Background

KEEP_SECONDS = 60.0

KNOWN_SECONDS = 60.0
"""How long what was read is good for: it is about days."""


class Asking:
    """What is known of it in this process."""

    def __init__(self, store: FlagUses, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._noting = threading.Lock()
        self._noted: dict[str, set[str]] = {}
        self._kept: dict[str, dict[str, str]] = {}
        self._read: dict[str, tuple[float, Asked]] = {}

    def note(self, environment: str, flags: Iterable[str]) -> None:
        """Note that flags were asked for now. From any thread; asks nobody."""
        with self._noting:
            self._noted.setdefault(environment, set()).update(flags)

    def keep(self) -> None:
        """Write what is new today. Raises StoreUnavailable, and then keeps it for the next time."""
        today = _day(self._clock.now())
        with self._noting:
            all_noted, self._noted = self._noted, {}
        while all_noted:
            environment, noted = all_noted.popitem()
            kept = self._kept.setdefault(environment, {})
            new = {flag: today for flag in noted if kept.get(flag) != today}
            try:
                self._store.keep_asked(environment, new)
            except BaseException:
                for name, flags in (*all_noted.items(), (environment, noted)):
                    self.note(name, flags)
                raise
            kept |= new

    def last(self, environment: str) -> Asked:
        """Return when flags were last asked for in an environment, as of a minute ago at most.
        Raises StoreUnavailable."""
        now = self._clock.monotonic()
        known = self._read.get(environment)
        if known is None or now - known[0] >= KNOWN_SECONDS:
            known = self._read[environment] = now, _asked(self._store.asked(environment))
        return known[1]


class KeepingAsked(Background):
    """Writes it from time to time, and once more at the end."""

    def __init__(self, asking: Asking) -> None:
        super().__init__("sortition-asked", "when flags were asked for waits", every=KEEP_SECONDS)
        self._asking = asking

    def look(self) -> None:
        """Write once. Raises StoreUnavailable."""
        self._asking.keep()

    def leave(self) -> None:
        """Write what is left. Raises StoreUnavailable."""
        self._asking.keep()


def _asked(days: Mapping[str, str]) -> Asked:
    read = {flag: date.fromisoformat(day) for flag, day in days.items()}
    return Asked(read.pop("", None), max(read.values(), default=None), read)


def _day(at: datetime) -> str:
    return at.date().isoformat()
