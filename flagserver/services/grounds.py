"""What a rollout's verdicts rest on, handed out: the series that replays them, and how both
versions differ by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sortition.judgement import ab
from sortition.judgement.ab import Difference
from sortition.judgement.counts import Tick
from sortition.judgement.trial import Trial

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
        trial = Trial.from_head(bodies[0])
        return tuple(
            Differs(one.target, each)
            for one in trial.subjects
            for each in ab.differences(
                _ticks(bodies[1:], one.target, rollout.step),
                rollout.step,
                (one.design or trial.design).edges,
            )
        )


def _ticks(looks: Sequence[Mapping[str, Any]], target: str, step: int) -> list[Tick]:
    """Return the ticks of one comparison in a step. What we kept ourselves is not checked field by
    field: of a split of 90 days that are some ten thousand looks."""
    return [
        Tick.from_body(tick)
        for look in looks
        for tick in look["ticks"].get(target, ())
        if tick["step"] == step
    ]
