"""What lists say that flags reached: of the last whole minute, so it is asked for once a minute."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from flagserver.services.outcomes import Exposure, Outcomes

Place = tuple[str, str]
"""(environment, flag)."""


class Reached:
    """Exposures of the last minute whose reports are in. May be shared by threads."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._lock = threading.Lock()
        self._until = 0
        self._known: dict[Place, Exposure | None] = {}

    def exposures(self, wanted: Sequence[Place]) -> Mapping[Place, Exposure | None]:
        """Return what these served in that minute; None of those of which nobody reported."""
        until = self._outcomes.settled()
        with self._lock:
            if until != self._until:
                self._until, self._known = until, {}
            known = self._known
            new = [place for place in wanted if place not in known]
        if new:
            found = self._outcomes.exposures(new, 1, until)
            # Of a minute that is over meanwhile nobody looks any more.
            known.update((place, found.get(place)) for place in new)
        return known
