"""The states of a rollout: one table for API, pages, command, messages and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a rollout stands. `unknown` is never stored: it is what a reader makes of a word that
    it does not know, or of a rollout that no controller looks at."""

    PENDING = "pending"
    RUNNING = "running"
    HOLDING = "holding"
    PAUSED = "paused"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    COMPLETED = "completed"
    SUPERSEDED = "superseded"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, _: object) -> State:
        return cls.UNKNOWN

    @property
    def shown(self) -> Shown:
        """Return how it is shown."""
        return STATES[self]


@dataclass(frozen=True, slots=True)
class Shown:
    """How a state is shown: a word and an icon always, never the colour alone.

    role: of the colour: `ok`, `warn`, `violet`, `danger`, `neutral`.  live: something is going on
    by itself.  terminal: nothing will happen any more.  solid: filled, to be seen from afar.
    """

    words: str
    icon: str
    role: str
    live: bool
    terminal: bool
    meaning: str
    solid: bool = False


STATES: dict[State, Shown] = {
    State.PENDING: Shown("Waiting to start", "◷", "neutral", False, False, "Created, not started."),
    State.RUNNING: Shown("Running", "▶", "ok", True, False, "The timer counts."),
    State.HOLDING: Shown(
        "Holding", "⏸", "warn", False, False, "The controller waits; the timer is stopped."
    ),
    State.PAUSED: Shown("Paused", "‖", "violet", False, False, "Somebody stopped it."),
    State.ROLLING_BACK: Shown("Rolling back", "↺", "danger", True, False, "Shares are going to 0."),
    State.ROLLED_BACK: Shown("Rolled back", "✖", "danger", False, True, "At 0 %, with its reason."),
    State.ROLLBACK_FAILED: Shown(
        "Rollback failed", "‼", "danger", True, False, "Tried again; look at it now.", solid=True
    ),
    State.COMPLETED: Shown("Complete", "✔", "ok", False, True, "The last share is reached."),
    State.SUPERSEDED: Shown("Replaced", "⇥", "neutral", False, True, "A newer rollout took over."),
    State.UNKNOWN: Shown(
        "Unknown", "?", "neutral", False, False, "Nobody looks at it, or its state has no name."
    ),
}
