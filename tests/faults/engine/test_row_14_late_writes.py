"""A controller that is stopped while it sets a weight, and goes on when another one has taken over.

No load balancer has a conditional write: what was sent arrives. It starts nothing new, and what it
sent is found and set right at the next look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flagserver import bootstrap
from flagserver.bootstrap import Outside
from flagserver.domain.commands import Enlarging, Reasoned
from flagserver.domain.rollout import LATE_SECONDS, Why
from flagserver.domain.states import State
from flagserver.domain.targets import Reading, Target
from flagserver.services.steering import Steering
from flagserver.settings import Settings
from tests.builders import ADMIN, SURE
from tests.engines import RULE, Engine
from tests.fakes import FakeTargetDriver

STOPPED_SECONDS = 30.0


@dataclass
class Stopping(FakeTargetDriver):
    """Sets the weights of another driver, and may be stopped when a write has left already."""

    meanwhile: Callable[[], None] | None = None

    def _write(self, target: Target, deadline: float, **changes: Any) -> Reading:
        assert self.monotonic() < deadline
        if self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            happens()
            deadline = self.monotonic() + 1
        return super()._write(target, deadline, **changes)


@dataclass
class Pair:
    """An engine with a controller that is stopped, and another that takes over."""

    engine: Engine
    driver: Stopping
    stopped: Steering
    other: Steering
    id: str

    def stop_at(self, percent: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Let the first be stopped for half a minute while it sets the next share. The other takes
        over, then something else happens; then what was sent arrives."""
        engine = self.engine

        def happens() -> None:
            engine.clock.seconds += STOPPED_SECONDS
            engine.let_leases_end()
            engine.run(10, self.other)
            meanwhile()
            self.driver.calls.clear()

        while engine.weight != percent:
            engine.tick(self.stopped)
            engine.clock.seconds += 5
        self.driver.meanwhile = happens
        while self.driver.meanwhile is not None:
            engine.tick(self.stopped)
            engine.clock.seconds += 5
        assert [call for call in self.driver.calls if call[0] in {"set", "roll_back"}] == []

    def advance_from_5(self, meanwhile: Callable[[], None]) -> None:
        """Let the first be stopped while it sets 25 %, which somebody advanced to."""
        while self.engine.weight != 5:
            self.engine.tick(self.stopped)
        self.engine.rollouts.advance(self.id, Enlarging(**SURE), self.revision, ADMIN)
        self.driver.meanwhile = meanwhile
        self.engine.tick(self.stopped)
        assert self.driver.meanwhile is None

    @property
    def revision(self) -> int:
        return self.engine.rollouts.get(self.id, ADMIN).revision


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    engine = Engine(directory=tmp_path)
    driver = Stopping(monotonic=engine.clock.monotonic, weights=engine.driver.weights)
    outside = Outside({"alb": driver}, engine.outside.sources)
    stopped = bootstrap.build_steering(
        Settings(data_dir=tmp_path / "stopped"),
        *(engine.store, engine.services, "stopped", engine.clock, engine.entropy, outside),
    )
    return Pair(engine, driver, stopped, engine.new_controller("other"), engine.start())


def test_the_other_finishes_the_step_and_the_late_write_changes_nothing(pair: Pair) -> None:
    pair.stop_at(5)
    engine = pair.engine
    assert (engine.weight, engine.share) == (25, 25)
    engine.run(10, pair.other)
    engine.tick(pair.stopped)
    assert pair.stopped.held == {}
    assert engine.actions(pair.id).count("step:confirm") == 2
    assert engine.rollout(pair.id).state is State.RUNNING


def test_a_late_write_of_an_earlier_step_is_set_right_at_the_next_look(pair: Pair) -> None:
    engine = pair.engine

    def the_next_step() -> None:
        engine.rollouts.advance(pair.id, Enlarging(**SURE), pair.revision, ADMIN)
        engine.run(5, pair.other)
        assert (engine.weight, engine.share) == (50, 50)

    pair.stop_at(5, the_next_step)
    assert engine.weight == 25
    engine.tick(pair.other)
    assert (engine.weight, engine.rollout(pair.id).state) == (50, State.RUNNING)
    assert engine.entries(pair.id)[-1]["reason"] == (
        "alb/arn:rule was set to 25 % late, and is at 50 % again."
    )


def test_what_was_taken_back_is_watched_until_nothing_late_can_arrive(pair: Pair) -> None:
    engine = pair.engine

    def somebody_takes_it_back() -> None:
        engine.clock.seconds += STOPPED_SECONDS
        engine.rollouts.roll_back(pair.id, Reasoned(reason="it is slow"), ADMIN)
        engine.let_leases_end()
        engine.run(10, pair.other)
        assert (engine.weight, engine.rollout(pair.id).state) == (0, State.ROLLING_BACK)

    pair.advance_from_5(somebody_takes_it_back)
    assert engine.weight == 25

    engine.tick(pair.other)
    assert (engine.weight, engine.share) == (0, 0)
    engine.run(LATE_SECONDS, pair.other)
    assert (engine.weight, engine.rollout(pair.id).state) == (0, State.ROLLED_BACK)


def test_a_newer_rollout_knows_what_the_older_one_may_have_sent(pair: Pair) -> None:
    engine = pair.engine
    new = []

    def sets_out() -> None:
        engine.clock.seconds += STOPPED_SECONDS
        new.append(engine.start(version="3", replace=True))
        engine.run(10, pair.other)
        assert engine.weight == 5

    pair.advance_from_5(sets_out)
    assert engine.weight == 25

    engine.run(0, pair.other)
    assert (engine.weight, engine.share) == (5, 5)
    assert engine.rollout(new[0]).state is State.RUNNING


def test_a_controller_alone_takes_back_without_waiting(pair: Pair) -> None:
    engine = pair.engine
    engine.run(20, pair.other)
    engine.rollouts.roll_back(pair.id, Reasoned(), ADMIN)
    engine.tick(pair.other)
    assert engine.rollout(pair.id).state is State.ROLLED_BACK


def test_a_person_who_goes_back_to_an_earlier_share_is_not_fought(pair: Pair) -> None:
    engine = pair.engine
    engine.run(400, pair.other)
    engine.driver.weights[RULE.name].share = 50_000
    engine.run(60, pair.other)
    waiting = engine.rollout(pair.id).waiting
    assert waiting is not None
    assert (engine.weight, waiting.why) == (5, Why.TARGET)


def test_after_a_minute_it_is_somebody_else(pair: Pair) -> None:
    engine = pair.engine

    def a_long_time() -> None:
        engine.rollouts.advance(pair.id, Enlarging(**SURE), pair.revision, ADMIN)
        engine.run(LATE_SECONDS + 5, pair.other)
        assert engine.weight == 50

    pair.stop_at(5, a_long_time)
    engine.run(30, pair.other)
    waiting = engine.rollout(pair.id).waiting
    assert waiting is not None
    assert (engine.weight, waiting.why) == (25, Why.TARGET)
