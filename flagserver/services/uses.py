"""When each token was last used, to the hour: noted in memory, written once a minute.

A request notes it and waits for nothing: noting is one assignment. What is written is merged, and a
token is written once an hour at most by each process; while the store does not answer, what was
noted waits. A process that is killed forgets its last minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from flagserver.domain.times import rfc3339
from flagserver.ports import Uses as Store

from .background import Background

KEEP_SECONDS = 60.0


class Uses:
    """What is known of it in this process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._noted: dict[str, datetime] = {}
        self._kept: dict[str, str] = {}

    def note(self, id: str, now: datetime) -> None:
        """Note that a token was used now. From any thread; asks nobody."""
        self._noted[id] = now

    def keep(self) -> None:
        """Write what is new since the last time. Raises StoreUnavailable, and then keeps it for the
        next."""
        noted = self._noted.copy()
        new = {id: hour_of(at) for id, at in noted.items()}
        new = {id: hour for id, hour in new.items() if self._kept.get(id, "") < hour}
        if new:
            self._store.keep_uses(new)
            self._kept |= new
        for id, at in noted.items():
            if self._noted.get(id) is at:
                del self._noted[id]

    def last(self) -> Mapping[str, str]:
        """Return id of a token -> the hour in which it was last used, RFC 3339; those that were
        never used are left out. Raises StoreUnavailable."""
        return self._store.uses()


class KeepingUses(Background):
    """Writes them from time to time, and once more at the end."""

    def __init__(self, uses: Uses) -> None:
        super().__init__("sortition-uses", "last uses of tokens wait", every=KEEP_SECONDS)
        self._uses = uses

    def look(self) -> None:
        """Write once. Raises StoreUnavailable."""
        self._uses.keep()

    def leave(self) -> None:
        """Write what is left. Raises StoreUnavailable."""
        self._uses.keep()


def hour_of(at: datetime) -> str:
    """Return the hour that an instant is in, as text: when exactly somebody worked is nobody's
    business."""
    return rfc3339(at.replace(minute=0, second=0, microsecond=0))
