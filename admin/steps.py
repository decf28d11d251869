"""Where the rollouts stand that move flags, for lists and cards: the step, and the time left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from flagserver.domain.rollout import Rollout
from flagserver.domain.states import Shown, State
from flagserver.services import Services
from flagserver.services.rollouts import Standing

from . import present


@dataclass(frozen=True, slots=True)
class Step:
    """A rollout as a flag's line shows it. next: what its step waits for; "" while it stands."""

    rollout: str
    shown: Shown
    where: str
    next: str


Steps = Mapping[tuple[str, str], Step]
"""(environment, flag) -> the rollout that moves it."""


def steps(services: Services, now: datetime) -> Steps:
    """Return the rollout of every flag that one moves."""
    views = [view for view in services.rollouts.under_way() if view.rollout.flags]
    if not views:
        return {}
    standings = services.rollouts.standings(views)
    return {
        (view.rollout.environment, target.name): _step(
            view.rollout, standings[view.rollout.id], now.timestamp()
        )
        for view in views
        for target in view.rollout.flags
    }


def _step(rollout: Rollout, standing: Standing, now: float) -> Step:
    count = len(rollout.plan)
    where = f"step {rollout.step + 1} of {count}" if rollout.step >= 0 else f"{count} steps"
    return Step(rollout.id, standing.state.shown, where, _next(rollout, standing, now))


def _next(rollout: Rollout, standing: Standing, now: float) -> str:
    if standing.due is None or standing.state is not State.RUNNING:
        return ""
    left = present.clock(standing.due - now)
    following = rollout.step + 1
    if following >= len(rollout.plan):
        return f"{left} to the end"
    return f"{left} to {present.percent(rollout.plan[following].shown)}"
