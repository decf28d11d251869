"""Drills: a rollback that is made to happen on purpose, and what it showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .environments import Environment
from .errors import Conflict
from .notices import Notice
from .rollout import By, Rollout
from .states import State

METRIC = "sortition.drill"
"""The custom metric that a failing canary of a drill is posted as."""

BEGIN = "rollout:drill:begin"
"""What the record says when one begins."""


def check(rollout: Rollout, environment: Environment) -> None:
    """Raise Conflict in a critical environment, and unless the rollout exposes somebody now and
    could be taken back by itself."""
    if environment.critical:
        raise Conflict(
            f"{environment.key} is critical: nothing is made to fail there on purpose. Drill in an "
            "environment that is not."
        )
    exposed = any(rollout.confirmed.values())
    if rollout.state not in {State.RUNNING, State.HOLDING} or not exposed:
        words = rollout.state.shown.words.lower()
        nobody = "" if exposed else " and exposes nobody"
        raise Conflict(
            f"{rollout.name} is {words}{nobody}: a drill takes back one that is on its way."
        )
    if not rollout.guards:
        raise Conflict(f"{rollout.name} has no guards: nothing would take it back.")


LOG = "log"
"""The notifier that only writes what happened into the server's own log."""


@dataclass(frozen=True, slots=True)
class Told:
    """A notice of the rollout, and which notifiers have delivered it."""

    notice: Notice
    notifiers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """What a drill showed so far. began: unix seconds; told: oldest first."""

    rollout: Rollout
    began: float
    by: str
    told: Sequence[Told]

    @property
    def detected_after(self) -> float | None:
        """Seconds from the beginning until it was decided to go back, None before."""
        cause = self.rollout.rollback
        return None if cause is None else max(0.0, cause.detected - self.began)

    @property
    def restored_after(self) -> float | None:
        """Seconds from that decision until 0 % was confirmed everywhere, None before."""
        cause = self.rollout.rollback
        if cause is None or cause.confirmed is None:
            return None
        return max(0.0, cause.confirmed - cause.detected)

    @property
    def passed(self) -> bool:
        """Tell whether the rollout took itself back, and somebody was told of that. The log is
        nobody."""
        cause = self.rollout.rollback
        by_itself = cause is not None and cause.by is not By.PERSON
        back = by_itself and self.rollout.state is State.ROLLED_BACK
        return back and any(
            set(each.notifiers) - {LOG}
            for each in self.told
            if each.notice.kind == "rollout:rollback:begin"
        )


def told(found: Sequence[tuple[str, Notice]], places: Mapping[str, str]) -> tuple[Told, ...]:
    """Return who was told of what. found: (position, notice).  places: notifier -> the position up
    to which it has delivered."""
    return tuple(
        Told(
            notice,
            tuple(sorted(n for n, place in places.items() if _order(place) >= _order(position))),
        )
        for position, notice in found
    )


def _order(position: str) -> tuple[int, int]:
    ms, _, number = position.partition("-")
    return int(ms), int(number or 0)
