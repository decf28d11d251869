"""An engine that owns the weights of what it deploys, as it is followed: its lane of a rollout.

A lane is what the engine itself says: its status and lifecycle in its own words, and in ours how
far it is. CodeDeploy's blue/green deployments are one such engine; a lane knows nothing of it, so
that others can be followed by the same decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .documents import Body
from .times import from_unix, unix


class Phase(StrEnum):
    """How far an engine is with a deployment."""

    PREPARING = "preparing"
    """Nobody gets the new version yet."""
    READY = "ready"
    """It could begin, and waits for somebody to say so."""
    SHIFTING = "shifting"
    """Traffic goes over, share by share."""
    WATCHING = "watching"
    """All of the traffic is over, and the old version still stands by."""
    DONE = "done"
    """It is over, and well."""
    GOING_BACK = "going_back"
    """It takes the traffic back."""
    GONE_BACK = "gone_back"
    """It has taken the traffic back."""
    BROKEN = "broken"
    """It ended in the midst of it, and leaves the traffic where it is."""

    @property
    def is_against(self) -> bool:
        """Tell whether the engine does not want the new version any more."""
        return self in {Phase.GOING_BACK, Phase.GONE_BACK, Phase.BROKEN}


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a deployment's lifecycle. name, status: the engine's own words. began, ended:
    unix seconds. message: what it says of a failure."""

    deployment: str
    name: str
    status: str
    began: float | None = None
    ended: float | None = None
    message: str | None = None

    def to_body(self) -> dict[str, Any]:
        """Return it as JSON has it, instants in RFC 3339."""
        return {
            "deployment": self.deployment,
            "name": self.name,
            "status": self.status,
            "began": _written(self.began),
            "ended": _written(self.ended),
            "message": self.message,
        }

    @classmethod
    def from_body(cls, body: Body) -> Event:
        """Return what `to_body` wrote down."""
        times = {name: _read(body[name]) for name in ("began", "ended")}
        return cls(**{**body, **times})


@dataclass(frozen=True, slots=True)
class Lane:
    """What an engine says of the deployment that a rollout follows.

    engine: its name, for people.  deployment: its id.  status: the engine's own word.
    reason: why it goes back or broke off, a sentence; None while it is well.
    back: the deployment by which the traffic goes back, with its status.
    events: its lifecycle, in order; those of `back` after them.
    """

    engine: str
    deployment: str
    status: str
    phase: Phase
    reason: str | None = None
    back: str | None = None
    back_status: str | None = None
    events: tuple[Event, ...] = ()

    @property
    def words(self) -> str:
        """Say how it stands: `CodeDeploy d-1 is InProgress: AllowTraffic InProgress`."""
        now = [event for event in self.events if event.status not in {"Pending", "Skipped"}]
        last = f": {now[-1].name} {now[-1].status}" if now else ""
        back = f"; it goes back by {self.back} ({self.back_status})" if self.back else ""
        return f"{self.engine} {self.deployment} is {self.status}{last}{back}"

    def to_body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "engine": self.engine,
            "deployment": self.deployment,
            "status": self.status,
            "phase": str(self.phase),
            "reason": self.reason,
            "back": self.back,
            "back_status": self.back_status,
            "events": [event.to_body() for event in self.events],
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Lane:
        """Return what `to_body` wrote down."""
        events = tuple(Event.from_body(event) for event in body["events"])
        return cls(**{**body, "phase": Phase(body["phase"]), "events": events})


def _written(at: float | None) -> str | None:
    return None if at is None else from_unix(at)


def _read(text: str | None) -> float | None:
    return None if text is None else unix(text)
