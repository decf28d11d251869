"""Two controllers, people and the world, in any order: what holds of a rollout whatever happens."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flagserver.domain import decisions, verbs
from flagserver.domain.decisions import Look, Obstacle, flag_obstacle
from flagserver.domain.documents import Fact
from flagserver.domain.errors import Conflict
from flagserver.domain.flags import State as FlagState
from flagserver.domain.guards import Action, Does
from flagserver.domain.plan import NO_STEP
from flagserver.domain.rollout import Rollout
from flagserver.domain.states import State
from flagserver.domain.verbs import Turn
from tests.unit.rollouts import BLIND, HARM, RULE, SEARCH, T0, WELL, a_cause, a_rollout

BACK = {State.ROLLING_BACK, State.ROLLBACK_FAILED, State.ROLLED_BACK}
BROKEN = Action(Does.HOLD, "http errors 2 % > 1 %.", "limit broken, compared")

controllers = st.sampled_from([0, 1])
seconds = st.sampled_from([0.1, 1.0, 5.0, 5.0, 5.0, 14.0, 40.0, 3600.0])


class Stale(Exception):
    """The rollout is at another revision than the writer read."""


@dataclass
class Kept:
    """The store: compares the revision and writes rollout, flag and entry together, or nothing."""

    rollout: Rollout
    revision: int = 1
    flag: int = 0
    killed: bool = False
    facts: list[Fact] = field(default_factory=list)

    def commit(self, turn: Turn, read_at: int) -> None:
        if read_at != self.revision:
            raise Stale
        if not turn.changed:
            return
        self.rollout, self.revision = turn.after, self.revision + 1
        self.facts.append(turn.fact())
        if turn.action == "rollout:rollback:begin":
            self.flag = 0
        if turn.action == "rollout:step:confirm":
            self.flag = turn.after.confirmed[SEARCH.id]


class Racing(RuleBasedStateMachine):
    """Each controller may act on what it read some time ago; so may people, on what they saw."""

    def __init__(self) -> None:
        super().__init__()
        created = verbs.create(**_given(), id="r-1", now=T0)
        self.kept = Kept(created.after, facts=[created.fact()])
        self.now = T0
        self.traffic = 0
        self.last_look: float | None = None
        self.read: list[tuple[int, Rollout]] = [(1, created.after)] * 2
        self.went_back = False
        self.refused = 0

    # The world

    @rule(by=seconds)
    def time_passes(self, by: float) -> None:
        self.now = round(self.now + by, 3)

    @rule()
    def somebody_kills_the_flag(self) -> None:
        self.kept.killed = True

    @rule(share=st.sampled_from([0, 10_000]))
    def somebody_shrinks_the_flag(self, share: int) -> None:
        self.kept.flag = min(self.kept.flag, share)

    # Controllers

    @rule(who=controllers)
    def reads(self, who: int) -> None:
        self.read[who] = (self.kept.revision, self.kept.rollout)

    @rule(
        who=controllers,
        action=st.sampled_from([WELL, WELL, WELL, BLIND, BROKEN, HARM]),
        trouble=st.none() | st.just("ELB does not answer."),
    )
    def looks(self, who: int, action: Action, trouble: str | None) -> None:
        revision, rollout = self.read[who]
        seen = rollout.seen_until(self.now, self.last_look)
        look = Look(action, seen, self._obstacle(rollout), trouble=trouble)
        decision = decisions.decide(rollout, look, self.now)
        self._commit(decisions.carry(rollout, decision, self.now, seen), revision)
        self.last_look = self.now

    @rule(who=controllers)
    def sets_traffic(self, who: int) -> None:
        """Only with the lease, and reading again just before: as of now."""
        self.reads(who)
        _, rollout = self.read[who]
        if rollout.may_carry_out:
            self.traffic = rollout.intended[RULE.id]

    @rule(who=controllers)
    def confirms(self, who: int) -> None:
        revision, rollout = self.read[who]
        shares = {RULE.id: self.traffic, SEARCH.id: rollout.intended[SEARCH.id]}
        with suppress(Conflict):
            self._commit(verbs.confirm(rollout, shares, self.now), revision)

    # People, who act on what is there now, or on what they saw a while ago

    @rule(
        verb=st.sampled_from(["start", "hold", "resume", "advance", "approve", "roll_back"]),
        stale=st.booleans(),
    )
    def somebody_acts(self, verb: str, stale: bool) -> None:
        revision, rollout = self.read[0] if stale else (self.kept.revision, self.kept.rollout)
        with suppress(Conflict):
            self._commit(self._verb(verb, rollout), revision)

    @precondition(lambda self: not self.kept.rollout.state.shown.terminal)
    @rule()
    def all_is_well_for_a_while(self) -> None:
        """So that some runs get far."""
        for _ in range(80):
            self.now += 5
            self.reads(0)
            self.looks(0, WELL, None)
            self.sets_traffic(0)
            self.confirms(0)

    # What holds

    @invariant()
    def nothing_is_above_the_steps_share(self) -> None:
        rollout = self.kept.rollout
        allowed = {RULE.id: 0, SEARCH.id: 0}
        if rollout.step != NO_STEP:
            allowed = dict(rollout.plan[rollout.step].shares)
        assert self.traffic <= allowed[RULE.id]
        assert self.kept.flag <= allowed[SEARCH.id]

    @invariant()
    def rolling_back_absorbs(self) -> None:
        state = self.kept.rollout.state
        assert not self.went_back or state in BACK
        self.went_back = state in BACK
        if self.went_back:
            assert self.kept.flag == 0
            assert self.kept.rollout.goes_down
        if state is State.ROLLED_BACK:
            assert self.traffic == 0

    @invariant()
    def every_change_has_exactly_one_entry_and_each_follows_the_one_before(self) -> None:
        facts = self.kept.facts
        assert len(facts) == self.kept.revision
        first, *later = facts
        told: Any = {name: first.after[name] for name in self.kept.rollout.moving()}
        for fact in later:
            assert fact.action
            assert fact.before == told
            told = fact.after
        assert told == self.kept.rollout.moving()

    @invariant()
    def every_intent_is_confirmed_at_most_once_and_steps_come_in_order(self) -> None:
        begun = [f.after["step"] for f in self.kept.facts if f.action == "rollout:step:begin"]
        assert begun == list(range(len(begun)))
        confirmed = [
            f.after["generation"] for f in self.kept.facts if f.action.endswith(":confirm")
        ]
        assert len(set(confirmed)) == len(confirmed)

    @invariant()
    def it_is_read_as_it_was_written(self) -> None:
        assert Rollout.from_body(self.kept.rollout.to_body()) == self.kept.rollout

    @invariant()
    def only_the_whole_is_complete(self) -> None:
        if self.kept.rollout.state is State.COMPLETED:
            assert self.traffic == 1_000_000
            assert self.kept.rollout.confirmed == {RULE.id: 1_000_000, SEARCH.id: 1_000_000}

    # How

    def _verb(self, verb: str, rollout: Rollout) -> Turn:
        killed = ["new-search"] if self.kept.killed else []
        match verb:
            case "start":
                return verbs.start(rollout, self.now)
            case "hold":
                seen = rollout.seen_until(self.now, self.last_look)
                return verbs.hold(rollout, self.now, seen)
            case "resume":
                return verbs.resume(rollout, self.now, killed)
            case "advance":
                return verbs.advance(rollout, self.now)
            case "approve":
                return verbs.approve(rollout, "token:ana", self.now)
            case _:
                return verbs.roll_back(rollout, a_cause(self.now, rollout.step))

    def _obstacle(self, rollout: Rollout) -> Obstacle | None:
        weights = (("on", 1_000_000),)
        state = FlagState(
            "new-search", "production", self.kept.flag, weights, killed=self.kept.killed
        )
        return flag_obstacle(rollout, {"new-search": state})

    def _commit(self, turn: Turn, revision: int) -> None:
        try:
            self.kept.commit(turn, revision)
        except Stale:
            self.refused += 1


def _given() -> dict[str, Any]:
    rollout = a_rollout()
    names = (
        *("environment", "service", "version", "schedule", "relation", "targets", "guards", "by"),
    )
    return {name: getattr(rollout, name) for name in names}


TestRacing = Racing.TestCase
TestRacing.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
