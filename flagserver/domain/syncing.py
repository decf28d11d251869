"""What is to be done so that engines and flags are as a rollout left them: nothing, almost always.

A rollout ends with everything read back, so what differs afterwards was moved by somebody else. Of
that only one thing is undone: traffic that goes to a version again that was taken back, within the
hour, where nobody else owns it. Nothing is ever enlarged here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from .flags import State as FlagState
from .rollout import Rollout
from .schedule import percent_text
from .states import State
from .targets import Reading, Target

SYNC_SECONDS = 3600.0
"""So long after its end a rollout may still take its traffic back. Later, the groups that it names
may have changed sides, and what it would take out is what everybody uses."""


class Does(StrEnum):
    """What is done about a target."""

    NOTHING = "nothing"
    """It is as it should be."""
    LOWER = "lower"
    """The canary is taken out again."""
    LEAVE = "leave"
    """It differs, and that is somebody else's affair."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A target as it is, against what the rollout left. wanted, found: ppm; found None: unknown.
    reason: a sentence."""

    target: Target
    wanted: int
    found: int | None
    does: Does
    reason: str

    @property
    def is_in_line(self) -> bool:
        """Tell whether it is as the rollout left it."""
        return self.does is Does.NOTHING


def is_over(rollout: Rollout) -> bool:
    """Tell whether the rollout's last word on its targets is said."""
    return rollout.state in {State.COMPLETED, State.ROLLED_BACK}


def flag(rollout: Rollout, target: Target, state: FlagState | None) -> Finding:
    """Return what is to be said of a flag. state: None where nobody ever touched it, or it is gone.

    A flag's share is committed with the rollout's end, so whatever it is now, somebody wanted it.
    """
    wanted = rollout.confirmed.get(target.id, 0)
    found = 0 if state is None or state.killed else state.share
    if found == wanted:
        return _as_it_should(target, wanted)
    killed = " (killed)" if state is not None and state.killed else ""
    said = f"It is at {percent_text(found)}{killed}: somebody changed it after the rollout."
    return Finding(target, wanted, found, Does.LEAVE, said)


def traffic(
    rollout: Rollout,
    target: Target,
    reading: Reading | None,
    newer: Mapping[str, str],
    now: float,
) -> Finding:
    """Return what is to be done about traffic.

    reading: None where it cannot be read.  newer: target id -> the rollout that moves it since.
    """
    wanted = rollout.confirmed.get(target.id, 0)
    if target.id in newer:
        found = None if reading is None else reading.share
        said = f"{newer[target.id]} moves it since."
        return Finding(target, wanted, found, Does.LEAVE, said)
    if reading is None:
        return Finding(target, wanted, None, Does.LEAVE, "It cannot be read now.")
    if reading.share == wanted:
        return _as_it_should(target, wanted)
    against = _left_alone(rollout, reading, wanted, now)
    if against is not None:
        return Finding(target, wanted, reading.share, Does.LEAVE, against)
    said = f"It was at {_said(reading.share)} again."
    return Finding(target, wanted, reading.share, Does.LOWER, said)


def _left_alone(rollout: Rollout, reading: Reading, wanted: int, now: float) -> str | None:
    """Return why traffic that differs is left as it is."""
    at = f"It is at {_said(reading.share)}"
    if reading.owner is not None:
        return f"{at}, owned by {reading.owner}."
    if reading.foreign is not None:
        return f"{at}: {reading.foreign}"
    if wanted:
        return f"{at}: somebody moved it after the rollout. A rollout moves it up again."
    if now - (rollout.ended or now) > SYNC_SECONDS:
        return f"{at}: too long after the rollout to be its traffic for certain."
    return None


def _as_it_should(target: Target, wanted: int) -> Finding:
    return Finding(target, wanted, wanted, Does.NOTHING, f"It is at {percent_text(wanted)}.")


def _said(share: int | None) -> str:
    return "no share that can be said" if share is None else percent_text(share)
