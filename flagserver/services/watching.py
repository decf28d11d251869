"""Watching a rollout: signs of life of whoever wants it to hold when he is lost."""

from __future__ import annotations

from flagserver.domain import access, verbs, watchers
from flagserver.domain.documents import Principal
from flagserver.domain.rollout_commands import Watch
from flagserver.domain.times import moment
from flagserver.ports import Clock, Documents, Entropy, Looks

from .turns import RolloutView, Turns


class Watching:
    """What a watcher may ask for. That he is lost, `steering` decides."""

    def __init__(self, store: Documents, looks: Looks, clock: Clock, entropy: Entropy) -> None:
        self._looks = looks
        self._clock = clock
        self._turns = Turns(store, clock, entropy)

    def heartbeat(self, id: str, command: Watch, by: Principal) -> RolloutView:
        """Take a sign of life. The first one, and one after somebody resumed the rollout without
        the watcher, is written into the rollout. Raises NotFound, Forbidden, Invalid."""
        lost_after = command.lost_after()
        view = self._turns.get(id)
        access.check(by, access.SHRINK, view.rollout.environment)
        if view.rollout.state.shown.terminal:
            return view
        now = moment(self._clock.now())
        self._looks.saw({watchers.place(id): now})
        return self._turns.decide(id, lambda v: verbs.watch(v.rollout, now, lost_after), by)
