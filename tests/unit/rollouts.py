"""Small builders of rollouts, and a world in which one runs without any clock or cloud."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flagserver.domain import decisions, guards, verbs
from flagserver.domain.decisions import Look, Obstacle
from flagserver.domain.documents import Fact
from flagserver.domain.guards import Action, Does
from flagserver.domain.plan import NO_STEP, Relation
from flagserver.domain.rollout import By, Rollback, Rollout
from flagserver.domain.schedule import STANDARD, Schedule, parse
from flagserver.domain.states import State
from flagserver.domain.targets import Target
from flagserver.domain.verbs import Turn

T0 = 1_800_000_000.0
RULE = Target.of("alb", "arn:rule", canary="green", stable="blue")
SEARCH = Target.of("flag", "new-search")
WELL = Action(Does.STAY, "All guards pass.", "well", advances=True)
HARM = Action(Does.ROLL_BACK, "http errors 6 % > 1 %.", "backstop")
BLIND = Action(Does.HOLD, "http errors: no data.", "missing data")
EARLY = Action(Does.STAY, "Nothing to see yet.", "well", advances=False)


def a_rollout(**more: Any) -> Rollout:
    """Return a pending rollout of a rule and a flag by the standard schedule."""
    given: dict[str, Any] = {
        "id": "r-1",
        "environment": "production",
        "service": "api",
        "version": "2",
        "schedule": STANDARD,
        "relation": Relation.LOCK_STEP,
        "targets": (RULE, SEARCH),
        "guards": guards.standard(),
        "by": "token:deploy",
        "now": T0,
    }
    return verbs.create(**{**given, **more}).after


def whole(rollout: Rollout, share: int | None = None) -> dict[str, int]:
    """Return what is read back when everything that is intended was done."""
    return {id: wanted if share is None else share for id, wanted in rollout.intended.items()}


def at_step(step: int, now: float = T0, **more: Any) -> Rollout:
    """Return a running rollout whose step (from 0) was confirmed just now."""
    rollout = verbs.start(a_rollout(**more), now).after
    for i in range(step + 1):
        rollout = verbs.move(rollout, i, now).after
        rollout = verbs.confirm(rollout, whole(rollout), now).after
    return rollout


def a_cause(now: float, step: int = 0) -> Rollback:
    """Return why a responder rolls back."""
    return Rollback(By.PERSON, "It is slow.", "responder", step, now)


@dataclass
class World:
    """A rollout, what its targets really have, and everything that was committed.

    `tick` does what a controller does: look, decide, commit, carry out; `broken` says after which
    of its outside effects it dies.
    """

    rollout: Rollout
    now: float = T0
    last_look: float | None = None
    traffic: int = 0
    flag: int = 0
    cloud_away: bool = False
    facts: list[Fact] = field(default_factory=list)
    commits: int = 0
    looks: list[float] = field(default_factory=list)

    def commit(self, turn: Turn) -> None:
        """Commit a turn and the flag's state: up with the confirmation, down with the intent."""
        if not turn.changed:
            return
        self.rollout = turn.after
        self.commits += 1
        self.facts.append(turn.fact())
        if turn.action == "rollout:rollback:begin":
            self.flag = 0
        if turn.action == "rollout:step:confirm":
            self.flag = turn.after.confirmed[SEARCH.id]

    def seen(self) -> float:
        return self.rollout.seen_until(self.now, self.last_look)

    def look(
        self, action: Action = WELL, obstacle: Obstacle | None = None, trouble: str | None = None
    ) -> decisions.Decision:
        """Look, decide and commit what was decided."""
        seen = self.seen()
        found = Look(action, seen, obstacle, trouble=trouble)
        decision = decisions.decide(self.rollout, found, self.now)
        self.commit(decisions.carry(self.rollout, decision, self.now, seen))
        self.last_look = self.now
        self.looks.append(self.now)
        return decision

    def carry_out(self, *, dies_before_confirming: bool = False) -> None:
        """Bring about what is intended, read it back, and confirm it."""
        rollout = self.rollout
        down = rollout.state in {State.ROLLING_BACK, State.ROLLBACK_FAILED}
        if not rollout.may_carry_out or not (rollout.is_pending_intent or down):
            return
        if self.cloud_away:
            return
        self.traffic = rollout.intended[RULE.id]
        if dies_before_confirming:
            return
        shares = {RULE.id: self.traffic, SEARCH.id: rollout.intended[SEARCH.id]}
        self.commit(verbs.confirm(rollout, shares, self.now))

    def tick(self, seconds: float = 5.0, action: Action = WELL, **more: Any) -> decisions.Decision:
        """Let time pass, and do what a controller does."""
        self.now = round(self.now + seconds, 3)
        decision = self.look(action, **more)
        self.carry_out()
        return decision

    def run(self, seconds: float, action: Action = WELL) -> None:
        """Tick every five seconds for so long."""
        for _ in range(round(seconds / 5)):
            self.tick(5.0, action)

    def allowed(self) -> tuple[int, int]:
        """Return the greatest shares of traffic and flag that the rollout's step allows."""
        if self.rollout.step == NO_STEP or self.rollout.state is State.ROLLED_BACK:
            return 0, 0
        shares = self.rollout.plan[self.rollout.step].shares
        return shares[RULE.id], shares[SEARCH.id]


def a_world(text: str | None = None, **more: Any) -> World:
    """Return a world in which a rollout has just started, by the standard schedule or this one."""
    schedule: Schedule = STANDARD if text is None else parse(text)
    return World(verbs.start(a_rollout(schedule=schedule, **more), T0).after)
