"""Whoever follows a rollout and wants it to hold when nobody does: a pipeline's job.

A job may be cancelled, and a machine may die. The rollout's document says that somebody watches and
for how long he may be silent; when he was heard of last is kept beside it, as a controller's looks
are, for it changes all the time. If the latter is lost, the rollout holds: never the other way.
"""

from __future__ import annotations

from dataclasses import dataclass

from .documents import Body
from .times import from_unix, unix

LOST_AFTER = 120
"""Seconds without a sign of life after which a watcher is lost, unless he says otherwise."""

SHORTEST, LONGEST = 5, 3600
"""What a watcher may say instead."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """Somebody who watches. since: unix seconds; lost_after: seconds."""

    since: float
    lost_after: int = LOST_AFTER

    def silent(self, heard: float | None, now: float) -> float:
        """Return for how many seconds nothing was heard. heard: unix seconds of the last sign of
        life, None if nobody knows of one."""
        return max(0.0, now - max(self.since, heard or 0.0))

    def is_lost(self, heard: float | None, now: float) -> bool:
        """Tell whether nothing was heard for too long."""
        return self.silent(heard, now) > self.lost_after

    def to_body(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {"since": from_unix(self.since), "lost_after": self.lost_after}

    @classmethod
    def from_body(cls, body: Body) -> Watcher:
        """Return what `to_body` wrote down."""
        return cls(unix(body["since"]), body["lost_after"])


def place(rollout: str) -> str:
    """Return the name under which a rollout's watcher is heard of, beside the looks at the rollout
    itself. No rollout's id holds a `/`."""
    return f"{rollout}/watcher"
