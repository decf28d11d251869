"""How rollouts stand, for Prometheus: read from the store by whoever is asked.

So it is told of all of them, whichever controllers there are, and when there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flagserver.domain.errors import Refusal
from flagserver.domain.plan import NO_STEP
from flagserver.domain.rollout import Rollout
from flagserver.domain.states import State
from flagserver.measures import Labels, Samples, Value
from flagserver.services.rollouts import Rollouts
from flagserver.services.turns import RolloutView

WHOLE = 1_000_000
"""All of the traffic, in parts per million."""

STATES = tuple(State)

Key = tuple[str, str]
"""(service, environment)"""


class Standings:
    """Tells how each service's rollouts stand; of one that has none under way, how the last ended.

    Of several at once every state is told; step, deadline and shares are those of the newest that
    has begun.
    """

    def __init__(self, rollouts: Rollouts) -> None:
        self._rollouts = rollouts

    def samples(self) -> Samples:
        """Return what Prometheus is told; nothing while the store is away: `sortition_redis_up`
        says so."""
        try:
            return self._samples()
        except Refusal:
            return {}

    def _samples(self) -> Samples:
        live = self._rollouts.under_way()
        standings = self._rollouts.standings(live)
        states = {key: {state} for key, state in self._rollouts.last_ends().items()}
        of_live: dict[Key, list[RolloutView]] = {}
        for view in live:
            of_live.setdefault(_key(view.rollout), []).append(view)
        for key, views in of_live.items():
            states[key] = {standings[view.rollout.id].state for view in views}
        newest = {key: _newest(views) for key, views in of_live.items()}
        return {
            "rollout_state": {
                (*key, str(state)): float(state in some)
                for key, some in states.items()
                for state in STATES
            },
            "rollout_step": {key: float(v.rollout.step + 1) for key, v in newest.items()},
            **self._ratios(newest),
            "rollout_step_deadline_timestamp_seconds": {
                key: deadline
                for key, view in newest.items()
                if (deadline := _deadline(view.rollout)) is not None
            },
        }

    def _ratios(self, newest: Mapping[Key, RolloutView]) -> Samples:
        looks = self._rollouts.last_looks(list(newest.values()))
        target: dict[Labels, Value] = {}
        observed: dict[Labels, Value] = {}
        for key, view in newest.items():
            rollout = view.rollout
            seen = looks.get(rollout.id, {}).get("observed", {}) if rollout.traffic else None
            of = rollout.traffic or rollout.flags
            target[key] = _most(rollout.intended.get(each.id) for each in of)
            found = rollout.confirmed if seen is None else seen
            if any(found.get(each.id) is not None for each in of):
                observed[key] = _most(found.get(each.id) for each in of)
        return {"rollout_target_ratio": target, "rollout_observed_ratio": observed}


def _key(rollout: Rollout) -> Key:
    return rollout.service, rollout.environment


def _newest(views: Iterable[RolloutView]) -> RolloutView:
    return max(views, key=lambda v: (v.rollout.state is not State.PENDING, v.rollout.created))


def _deadline(rollout: Rollout) -> float | None:
    """Return when its step's wait is over, which may have passed; None while the timer stands."""
    if rollout.counting_since is None or rollout.step == NO_STEP:
        return None
    left = rollout.plan[rollout.step].hold - rollout.watched
    return rollout.counting_since + max(0.0, left)


def _most(shares: Iterable[int | None]) -> float:
    return max((share or 0 for share in shares), default=0) / WHOLE
