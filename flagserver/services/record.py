"""The record, watched: does every new entry follow from the one before?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sortition.record.entry import GENESIS, Break, find_break

from flagserver.ports import Documents

BATCH = 1000


class Record:
    """Walks the record once, then follows it; remembers the first break it finds.

    When an operator accepted a store in another epoch, it walks that one from its beginning.
    """

    def __init__(self, store: Documents) -> None:
        self._store = store
        self._walked: tuple[str, int] | None = None
        self._after = 0
        self._chain = GENESIS
        self.broken: Break | None = None

    @property
    def checked(self) -> int:
        """The newest entry that was checked and found whole."""
        return self._after

    def check(self) -> Break | None:
        """Check what is new. Returns the break, if there is one. Raises StoreUnavailable."""
        self._look_where_it_ends()
        while self.broken is None:
            links = self._store.record(after=self._after, limit=BATCH)
            if not links:
                break
            self.broken = find_break(links, self._chain, self._after)
            if self.broken is None:
                self._after, self._chain = links[-1].seq, links[-1].chain
        return self.broken

    def _look_where_it_ends(self) -> None:
        """Begin anew in another epoch; find out when the end of this one is gone."""
        state = self._store.state()
        if state is None:
            return
        if self._walked != (state.store, state.epoch):
            self._walked = (state.store, state.epoch)
            self._after, self._chain, self.broken = 0, GENESIS, None
        if self.broken is None and state.seq < self._after:
            lost = f"TRUNCATED: the record ends at entry {state.seq}, entry {self._after} was seen"
            self.broken = Break(state.seq + 1, lost)

    def recent(self, *, environment: str | None = None, limit: int = 20) -> list[Mapping[str, Any]]:
        """Return the newest entries, newest first. Raises StoreUnavailable."""
        return self._store.history(target=None, environment=environment, before=None, limit=limit)
