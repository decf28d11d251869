"""The record, watched: does every new entry follow from the one before?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sortition.record.entry import GENESIS, Break, find_break

from flagserver.ports import Documents

BATCH = 1000


class Record:
    """Walks the record once, then follows it; remembers the first break it finds."""

    def __init__(self, store: Documents) -> None:
        self._store = store
        self._after = 0
        self._chain = GENESIS
        self.broken: Break | None = None

    @property
    def checked(self) -> int:
        """The newest entry that was checked and found whole."""
        return self._after

    def check(self) -> Break | None:
        """Check what is new. Returns the break, if there is one. Raises StoreUnavailable."""
        while self.broken is None:
            links = self._store.record(after=self._after, limit=BATCH)
            if not links:
                break
            self.broken = find_break(links, self._chain, self._after)
            if self.broken is None:
                self._after, self._chain = links[-1].seq, links[-1].chain
        return self.broken

    def recent(self, *, environment: str | None = None, limit: int = 20) -> list[Mapping[str, Any]]:
        """Return the newest entries, newest first. Raises StoreUnavailable."""
        return self._store.history(target=None, environment=environment, before=None, limit=limit)
