"""How rollouts went over a while, against what they are meant to be: figures, and what raises a
review.

A rollout counts when it ended within the time that is looked at; a drill does not count. Whether a
rollback was right, or one was missed, only people can say: they mark it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median

from .rollout import By, Rollout
from .states import State

SUCCESS_AT_LEAST = 0.98
DETECTED_WITHIN = 5 * 60.0
RESTORED_WITHIN = 10 * 60.0
FALSE_AT_MOST = 0.10
LONGEST = 45 * 60.0
"""Seconds that a rollout may take before somebody looks at it."""

BURST = 3
BURST_SECONDS = 7 * 24 * 3600.0
"""So many automatic rollbacks within a week raise a review."""


class Mark(StrEnum):
    """What people say of a rollout that has ended."""

    RIGHT = "right"
    """It ended as it should have."""
    FALSE = "false"
    """It was taken back by itself, and nothing was wrong with it."""
    MISSED = "missed"
    """Something was wrong with it, and nothing took it back by itself."""


@dataclass(frozen=True, slots=True)
class Run:
    """What counts of a rollout. Times in unix seconds.

    automatic: whether guards or the engine took it back, and not a person.
    first_bad, detected, restored: of a rollback; None where it is not known.
    ended: None while it is under way.
    """

    id: str
    environment: str
    service: str
    version: str | None
    state: State
    started: float | None
    ended: float | None
    automatic: bool = False
    reason: str | None = None
    first_bad: float | None = None
    detected: float | None = None
    restored: float | None = None

    @property
    def detection(self) -> float | None:
        """Seconds from the first bad data point to the decision to go back."""
        if self.first_bad is None or self.detected is None:
            return None
        return max(0.0, self.detected - self.first_bad)

    @property
    def restore(self) -> float | None:
        """Seconds from the first bad data point (or the decision, where none is known) until 0 %
        was confirmed."""
        began = self.detected if self.first_bad is None else self.first_bad
        return None if began is None or self.restored is None else max(0.0, self.restored - began)

    def took(self, now: float) -> float:
        """Return the seconds from its start to its end, or until now."""
        if self.started is None:
            return 0.0
        return max(0.0, (now if self.ended is None else self.ended) - self.started)


def run_of(rollout: Rollout) -> Run:
    """Return what counts of a rollout."""
    cause = rollout.rollback
    return Run(
        id=rollout.id,
        environment=rollout.environment,
        service=rollout.service,
        version=rollout.version,
        state=rollout.state,
        started=rollout.started,
        ended=rollout.ended,
        automatic=cause is not None and cause.by is not By.PERSON,
        reason=None if cause is None else cause.reason,
        first_bad=None if cause is None else cause.first_bad,
        detected=None if cause is None else cause.detected,
        restored=None if cause is None else cause.confirmed,
    )


def may_mark(run: Run, mark: Mark) -> bool:
    """Tell whether a mark can be true of a rollout."""
    if run.state is State.ROLLED_BACK and run.automatic:
        return mark is not Mark.MISSED
    if run.state in {State.COMPLETED, State.ROLLED_BACK}:
        return mark is not Mark.FALSE
    return False


@dataclass(frozen=True, slots=True)
class Spread:
    """Several durations in seconds. within: how many kept to their limit."""

    count: int
    median: float | None
    longest: float | None
    within: int


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that somebody should look into. kind: `burst`, `false`, `missed`, `long`,
    `detection`, `restore` or `success`.  rollouts: which ones, oldest first."""

    kind: str
    words: str
    rollouts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Review:
    """How rollouts went. since, until: unix seconds.

    completed, rolled_back: those that a newer one replaced are in neither.
    unmarked: rollbacks of which nobody has said whether they were right.
    false, missed: as people marked them.  long: over LONGEST, under way or ended.
    """

    since: float
    until: float
    completed: int
    rolled_back: int
    automatic: int
    superseded: int
    false: tuple[str, ...]
    missed: tuple[str, ...]
    unmarked: int
    long: tuple[str, ...]
    detection: Spread
    restore: Spread
    concerns: tuple[Concern, ...]

    @property
    def success(self) -> float | None:
        """Part of the rollouts that ended at their last share; None where none ended."""
        ended = self.completed + self.rolled_back
        return self.completed / ended if ended else None

    @property
    def false_part(self) -> float | None:
        """Part of the automatic rollbacks that people marked false."""
        return len(self.false) / self.automatic if self.automatic else None


@dataclass(frozen=True, slots=True)
class Marked:
    """A rollout with what people said of it. drill: it was made to fail on purpose."""

    run: Run
    mark: Mark | None = None
    drill: bool = False


def review(marked: Collection[Marked], since: float, until: float) -> Review:
    """Return how rollouts went that ended in (since, until], and those under way at the end."""
    real = [each for each in marked if not each.drill]
    ended = sorted(
        (each for each in real if each.run.ended is not None and since < each.run.ended <= until),
        key=lambda each: (each.run.ended or 0.0, each.run.id),
    )
    under_way = [each.run for each in real if each.run.ended is None]
    completed = [each for each in ended if each.run.state is State.COMPLETED]
    back = [each for each in ended if each.run.state is State.ROLLED_BACK]
    automatic = [each.run for each in back if each.run.automatic]
    runs = [each.run for each in ended] + under_way
    found = Review(
        since=since,
        until=until,
        completed=len(completed),
        rolled_back=len(back),
        automatic=len(automatic),
        superseded=sum(each.run.state is State.SUPERSEDED for each in ended),
        false=_marked(back, Mark.FALSE),
        missed=_marked([*completed, *back], Mark.MISSED),
        unmarked=sum(each.mark is None for each in back),
        long=tuple(run.id for run in runs if run.took(until) > LONGEST),
        detection=_spread([run.detection for run in automatic], DETECTED_WITHIN),
        restore=_spread([each.run.restore for each in back], RESTORED_WITHIN),
        concerns=(),
    )
    concerns = tuple(_concerns(found, automatic, [each.run for each in back]))
    return replace(found, concerns=concerns)


def bursts(automatic: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Return the longest runs of automatic rollbacks of which any BURST that follow each other lie
    within a week. automatic: by their ends."""
    found: list[list[Run]] = []
    for i in range(len(automatic) - BURST + 1):
        some = automatic[i : i + BURST]
        if (some[-1].ended or 0.0) - (some[0].ended or 0.0) > BURST_SECONDS:
            continue
        if found and found[-1][-BURST + 1 :] == list(some[:-1]):
            found[-1].append(some[-1])
        else:
            found.append(list(some))
    return [tuple(each) for each in found]


def _concerns(found: Review, automatic: Sequence[Run], back: Sequence[Run]) -> list[Concern]:
    concerns = []
    for each in bursts(automatic):
        words = f"{len(each)} automatic rollbacks within a week"
        concerns.append(Concern("burst", words, tuple(run.id for run in each)))
    if found.false_part is not None and found.false_part > FALSE_AT_MOST:
        words = f"{len(found.false)} of {found.automatic} automatic rollbacks were false"
        concerns.append(Concern("false", words, found.false))
    if found.missed:
        words = f"{len(found.missed)} that went wrong and nothing took back by itself"
        concerns.append(Concern("missed", words, found.missed))
    if found.long:
        concerns.append(Concern("long", f"{len(found.long)} took over 45 minutes", found.long))
    slow = tuple(run.id for run in automatic if (run.detection or 0.0) > DETECTED_WITHIN)
    if slow:
        concerns.append(Concern("detection", f"{len(slow)} found after more than 5 minutes", slow))
    late = tuple(run.id for run in back if (run.restore or 0.0) > RESTORED_WITHIN)
    if late:
        concerns.append(Concern("restore", f"{len(late)} back after more than 10 minutes", late))
    if found.success is not None and found.success < SUCCESS_AT_LEAST:
        ended = found.completed + found.rolled_back
        words = f"{found.completed} of {ended} reached their last share: less than 98 %"
        concerns.append(Concern("success", words, tuple(run.id for run in back)))
    return concerns


def _marked(some: Sequence[Marked], mark: Mark) -> tuple[str, ...]:
    return tuple(each.run.id for each in some if each.mark is mark)


def _spread(durations: Sequence[float | None], limit: float) -> Spread:
    known = [each for each in durations if each is not None]
    if not known:
        return Spread(0, None, None, 0)
    return Spread(len(known), median(known), max(known), sum(each <= limit for each in known))
