"""What a rollout's verdicts rest on, handed out: the series that replays them, and how both
versions differ by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sortition.judgement import ab, series
from sortition.judgement.ab import Difference

from flagserver.domain.documents import Principal
from flagserver.domain.plan import NO_STEP
from flagserver.ports import Evidence

from .judging import exported
from .rollouts import Rollouts


@dataclass(frozen=True, slots=True)
class Differs:
    """How one metric of one comparison differs, in the step that a rollout is at. target: the
    comparison's name."""

    target: str
    difference: Difference


class Grounds:
    """Use cases around what is kept of rollouts for 90 days."""

    def __init__(self, rollouts: Rollouts, evidence: Evidence) -> None:
        self._rollouts = rollouts
        self._evidence = evidence

    def series(self, id: str, by: Principal) -> list[Mapping[str, Any]]:
        """Return a rollout's head and looks, as `sortition.judgement.series` reads them; nothing of
        one that compares nothing. Raises NotFound, Forbidden."""
        rollout = self._rollouts.get(id, by).rollout
        return exported(self._evidence.evidence([rollout.id]).get(rollout.id, []))

    def differences(self, id: str, by: Principal) -> tuple[Differs, ...]:
        """Return how both versions differ in the step that a rollout is at, or ended at, metric by
        metric; with intervals that hold at all times at once. Decides nothing. Raises NotFound,
        Forbidden."""
        rollout = self._rollouts.get(id, by).rollout
        bodies = self.series(id, by) if rollout.step != NO_STEP else []
        if not bodies:
            return ()
        read = series.of_bodies(enumerate(bodies, 1))
        return tuple(
            Differs(one.target, each)
            for one in read.subjects
            for each in ab.differences(
                read.ticks(one.target), rollout.step, (one.design or read.design).edges
            )
        )
