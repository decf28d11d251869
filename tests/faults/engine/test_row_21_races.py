"""Two controllers, several people and a world that fails, in any order and in the middle of a tick.

What holds whatever happens: never above the step's share nor the flag above the traffic, going
back absorbs, a kill stays one, what is to be approved waits, every change has its entry, the record
hangs together, and in the end nothing is left locked or claimed. `test_row_21_mutants` shows that
it is noticed when one of these does not hold.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from sortition.record.replay import STATES, replay

from flagserver.domain.commands import Enlarging, Reasoned
from flagserver.domain.errors import Refusal
from flagserver.domain.plan import NO_STEP
from flagserver.domain.states import State
from flagserver.services.pruning import read_things
from tests.builders import ADMIN, SURE
from tests.engines import FLAG, RULE, Engine
from tests.faults.engine.lives import Life, Story
from tests.slices import everything

SCHEDULE = "5%:1m,25%:1m:approve,50%:1m,100%"
LONGEST = 60
"""Looks, of five seconds each, after which it has come to 50 %."""

BACK = {State.ROLLING_BACK, State.ROLLBACK_FAILED, State.ROLLED_BACK}
VERBS = ("hold", "resume", "advance", "approve", "roll_back", "kill", "shrink")

RACES = (
    *(("roll_back", "roll_back"), ("roll_back", "advance"), ("advance", "roll_back")),
    *(("advance", "advance"), ("kill", "resume"), ("kill", "hold")),
    *(("hold", "advance"), ("shrink", "advance")),
)
"""What two people do at once, or one who clicks twice."""

controllers = st.sampled_from([0, 1])
verbs = st.sampled_from(VERBS)
starts = st.sampled_from([0, 5, 5, 25, 50])
faults = st.sampled_from(["unavailable", "applied", "lost", "late"])


class Interrupted(Life):
    """A controller in the middle of whose tick something else happens: after so many effects.
    check: looks after each of them."""

    left: int = -1
    what: Callable[[], None]
    check: Callable[[], None]

    def interrupt(self, left: int, what: Callable[[], None]) -> None:
        self.left, self.what = left, what

    def step(self) -> None:
        self.check()
        if self.left == 0:
            self.left = -1
            self.what()
        self.left -= self.left > 0


class Racing(RuleBasedStateMachine):
    """Every verb goes through the services, every tick through a real controller."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory(prefix="races-")
        place = Path(self._directory.name)
        self.engine = Engine(directory=place)
        self.story = Story(self.engine, place, 5)
        self.versions = 1
        self.lives = [Interrupted(), Interrupted()]
        for life in self.lives:
            life.after, life.check = life.step, self.in_between
        self.both = [
            self.story.controller(life, f"machine-{n}") for n, life in enumerate(self.lives)
        ]
        self._begin()

    def _begin(self) -> None:
        self.versions += 1
        self.story.id = self.engine.start(schedule=SCHEDULE, version=str(self.versions))
        self.seen: int | None = None
        self.went_back = self.killed = self.traffic_first = False

    @initialize(percent=starts)
    def begins(self, percent: int) -> None:
        """Not all that is worth a race is at the beginning."""
        for _ in range(LONGEST):
            if self.engine.weight >= percent:
                break
            self.engine.tick(self.both[0])
            self.acts("approve", stale=False)
            self.engine.clock.seconds += 5
        assert self.engine.weight >= percent

    @precondition(lambda self: self.rollout.state.shown.terminal)
    @rule(percent=starts)
    def another_begins(self, percent: int) -> None:
        self.all_is_well()
        self.free()
        self._begin()
        self.begins(percent)

    # The world

    @rule(by=st.sampled_from([0.1, 5.0, 5.0, 14.0, 40.0, 3600.0]))
    def time_passes(self, by: float) -> None:
        self.engine.clock.seconds += by

    @rule()
    def leases_end(self) -> None:
        self.engine.let_leases_end()

    @rule(fault=faults)
    def the_balancer_fails(self, fault: str) -> None:
        self.engine.driver.faults = [fault]

    @rule(rates=st.sampled_from([(0.0, 0.0), (None, None), (0.04, 0.04), (0.2, 0.001)]))
    def numbers_change(self, rates: Any) -> None:
        self.engine.rates = rates

    @precondition(lambda self: self.engine.weight > 0)
    @rule(who=controllers, fault=faults)
    def is_taken_back_while_the_balancer_fails(self, who: int, fault: str) -> None:
        self.engine.driver.faults = [fault]
        self.engine.let_leases_end()
        self.acts("roll_back", stale=False)
        self.engine.tick(self.both[who])

    # Controllers

    @rule(who=controllers)
    def ticks(self, who: int) -> None:
        self.engine.tick(self.both[who])

    @rule(who=controllers)
    def ticks_without_the_store(self, who: int) -> None:
        before = self.engine.weight
        with self.engine.away():
            self.engine.tick(self.both[who])
        self.traffic_first |= self.engine.weight < before

    @rule(who=controllers, after=st.integers(0, 6), verb=verbs)
    def ticks_while_somebody_acts(self, who: int, after: int, verb: str) -> None:
        self.lives[who].interrupt(after, lambda: self.acts(verb, stale=False))
        self.engine.tick(self.both[who])

    @rule(who=controllers, after=st.integers(0, 3), by=st.sampled_from([5.0, 20.0, 60.0]))
    def is_taken_back_while_a_look_is_written_down(self, who: int, after: int, by: float) -> None:
        """So long after the last look there is something to write down."""
        self.engine.let_leases_end()
        self.engine.clock.seconds += by
        self.ticks_while_somebody_acts(who, after, "roll_back")

    @rule(who=controllers, after=st.integers(0, 6))
    def ticks_while_the_other_takes_over(self, who: int, after: int) -> None:
        def takes_over() -> None:
            self.engine.let_leases_end()
            self.engine.tick(self.both[1 - who])

        self.lives[who].interrupt(after, takes_over)
        self.engine.tick(self.both[who])

    @precondition(lambda self: not self.rollout.state.shown.terminal)
    @rule(who=controllers)
    def all_is_well_for_a_while(self, who: int) -> None:
        """So that some runs get far."""
        self.all_is_well()
        for _ in range(40):
            self.engine.tick(self.both[who])
            self.engine.clock.seconds += 5
            self.never_above_the_steps_share()

    # People

    @rule(verb=verbs, stale=st.booleans())
    def acts(self, verb: str, stale: bool) -> None:
        """stale: on what somebody saw a while ago."""
        revision = self.revision
        if stale and self.seen is not None:
            revision = self.seen
        self.seen = self.revision
        rollouts, id = self.engine.rollouts, self.story.id
        with suppress(Refusal):
            match verb:
                case "hold":
                    rollouts.hold(id, Reasoned(), ADMIN)
                case "roll_back":
                    rollouts.roll_back(id, Reasoned(), ADMIN)
                case "kill":
                    self.engine.kill(FLAG, "production")
                    self.killed = True
                case "shrink":
                    self.engine.change(FLAG, "production", share=1)
                case _:
                    getattr(rollouts, verb)(id, Enlarging(**SURE), revision, ADMIN)
        # Before anybody else acts: else the way back and the way out of it look like nothing.
        self.going_back_absorbs()

    @rule(both=st.sampled_from(RACES), stale=st.sampled_from([False, False, True]))
    def two_act_at_once(self, both: tuple[str, str], stale: bool) -> None:
        """stale: the second has not seen what the first did."""
        first, second = both
        self.acts(first, stale=False)
        self.acts(second, stale=stale)

    @precondition(lambda self: self.rollout.state is State.RUNNING)
    @rule(verb=st.sampled_from(["advance", "resume", "approve"]))
    def somebody_wants_out_of_a_rollback(self, verb: str) -> None:
        self.acts("roll_back", stale=False)
        self.acts(verb, stale=False)

    # What holds

    @property
    def rollout(self) -> Any:
        return self.engine.rollout(self.story.id)

    @property
    def revision(self) -> int:
        return self.engine.rollouts.get(self.story.id, ADMIN).revision

    @invariant()
    def never_above_the_steps_share(self) -> None:
        rollout = self.rollout
        shares = {} if rollout.step == NO_STEP else rollout.plan[rollout.step].shares
        assert self.engine.weight * 10_000 <= shares.get(RULE.id, 0)
        assert self.engine.share * 10_000 <= shares.get(f"flag/{FLAG}", 0)

    @invariant()
    def the_flag_is_never_above_the_traffic(self) -> None:
        """But with the store away traffic is taken back first."""
        self.traffic_first &= self.engine.share > 0
        assert self.traffic_first or self.engine.share <= self.engine.weight

    def in_between(self) -> None:
        """Look in the middle of a tick as well."""
        if self.engine.redis.connected:
            self.never_above_the_steps_share()
            self.the_flag_is_never_above_the_traffic()

    @invariant()
    def a_kill_stays_one(self) -> None:
        state = self.engine.flags.state(FLAG, "production").state
        assert state.killed == self.killed

    @invariant()
    def what_is_to_be_approved_waits(self) -> None:
        assert self.rollout.step <= 1 or self.rollout.approvals

    @invariant()
    def going_back_absorbs(self) -> None:
        rollout = self.rollout
        assert not self.went_back or rollout.state in BACK
        self.went_back = rollout.state in BACK
        if self.went_back:
            assert self.engine.share == 0
        if rollout.state is State.ROLLED_BACK:
            assert self.engine.weight == 0

    @invariant()
    def every_change_has_its_entry(self) -> None:
        first, *later = self.engine.entries(self.story.id)
        told = {name: first["after"][name] for name in self.rollout.moving()}
        for entry in later:
            assert entry["before"] == told
            # Beside the rollout it tells what became of its flags.
            told = {name: value for name, value in entry["after"].items() if name != STATES}
        assert told == self.rollout.moving()
        begun = [e["after"]["step"] for e in later if e["action"] == "rollout:step:begin"]
        assert begun == list(range(len(begun)))

    @invariant()
    def the_record_hangs_together(self) -> None:
        assert self.engine.services.record.check() is None

    def _flags_are_what_the_record_says(self) -> None:
        of, things = read_things(self.engine.store)
        texts = [link.text for link in self.engine.store.record(limit=10**6)]
        assert replay(texts[:of], things).findings == ()

    def teardown(self) -> None:
        try:
            self._ends_well()
            self._flags_are_what_the_record_says()
        finally:
            self._directory.cleanup()

    def _ends_well(self) -> None:
        """Somebody takes it back, and another controller finishes: then a new one may begin."""
        self.all_is_well()
        with suppress(Refusal):
            self.engine.rollouts.roll_back(self.story.id, Reasoned(), ADMIN)
        self.engine.run(120, self.story.controller(Life(), "another"))
        assert self.rollout.state.shown.terminal
        self.free()
        self._begin()
        assert self.rollout.state is State.PENDING

    def all_is_well(self) -> None:
        for life in self.lives:
            life.left = -1
        self.engine.driver.faults, self.engine.rates = [], (0.0, 0.0)
        self.engine.let_leases_end()

    def free(self) -> None:
        """Let the flag and the rule be as they are before a rollout."""
        self.engine.change(FLAG, "production", share=0)
        self.engine.unkill(FLAG, "production", **SURE)
        self.engine.driver.weights[RULE.name].share = 0


TestRacing = pytest.mark.timeout(900)(Racing.TestCase)
TestRacing.settings = settings(
    max_examples=150 if everything() else 12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
