"""A controller that is killed, at every point between two of its effects on the outside in turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flagserver.domain.commands import Reasoned
from flagserver.domain.states import State
from flagserver.domain.times import unix
from tests.builders import ADMIN
from tests.engines import Engine
from tests.faults.engine.lives import Killed, Life, Story

pytestmark = pytest.mark.timeout(180)

STEPS = 4
SHORT = {"schedule": "5%:15s,25%:15s,50%:15s,100%", "guards": []}
"""The shares of the standard schedule, at its quickest."""

HOLDS = (300, 600, 900)
Machine = Callable[[int], str]


def same_machine(_: int) -> str:
    return "one"


def another_machine(number: int) -> str:
    return f"machine-{number}"


class Way:
    """A rollout from its start to its end."""

    def __init__(self, tick: float, **told: Any) -> None:
        self._tick, self._told = tick, told

    def begin(self, directory: Path) -> Story:
        """Return it as it is before the part in which controllers are killed."""
        story = Story(Engine(directory=directory), directory, self._tick)
        story.id = story.engine.start(**self._told)
        return story

    def part(self, story: Story, life: Life, machine: str) -> None:
        """Run the part in which they are."""
        story.run(story.controller(life, machine), story.over, 4000)

    def check_end(self, story: Story) -> None:
        """It is complete, and every step was begun and confirmed exactly once, in order."""
        engine = story.engine
        assert engine.rollout(story.id).state is State.COMPLETED
        assert (engine.weight, engine.share) == (100, 100)
        happened = [a for a in engine.actions(story.id) if not a.startswith(("gap:", "wait:"))]
        assert happened == ["create", "start", *["step:begin", "step:confirm"] * STEPS, "complete"]


class Back(Way):
    """A rollout that somebody takes back at 25 %, when its next step is on its way."""

    def begin(self, directory: Path) -> Story:
        story = super().begin(directory)
        engine = story.engine
        first = story.controller(Life(), "one")
        story.run(first, lambda: engine.weight == 25, 4000)
        engine.driver.faults = ["applied"] * 100
        story.run(first, lambda: engine.weight == 50, 4000)
        engine.driver.faults = []
        assert (engine.weight, engine.share) == (50, 25)
        first.step_down()
        engine.rollouts.roll_back(story.id, Reasoned(reason="it is slow"), ADMIN)
        return story

    def check_end(self, story: Story) -> None:
        assert_gone_back(story)


class WithoutTheStore(Way):
    """A canary that fails while the store is away; the store comes back while it is taken back."""

    def begin(self, directory: Path) -> Story:
        story = super().begin(directory)
        engine = story.engine
        story.run(story.controller(Life(), "one"), lambda: engine.share == 25, 4000)
        story.traffic_first = True
        return story

    def part(self, story: Story, life: Life, machine: str) -> None:
        engine = story.engine
        controller = story.controller(life, machine)
        if engine.weight and engine.rollout(story.id).rollback is None:
            engine.let_leases_end()
            engine.tick(controller)
            engine.rates = (0.2, 0.001)
            with engine.away():
                story.run(controller, lambda: engine.weight == 0, 600)
                engine.tick(controller)
        # Where nothing goes there is nothing to judge: what was decided must not be forgotten.
        engine.rates = (None, None)
        engine.clock.seconds += 3600
        story.run(controller, story.over, 600)

    def check_end(self, story: Story) -> None:
        assert_gone_back(story)
        rollback = story.engine.rollout(story.id).rollback
        assert rollback is not None
        assert rollback.row == "backstop"


def assert_gone_back(story: Story) -> None:
    engine = story.engine
    assert engine.rollout(story.id).state is State.ROLLED_BACK
    assert (engine.weight, engine.share) == (0, 0)
    happened = engine.actions(story.id)
    assert happened[-2:] == ["rollback:begin", "rollback:confirm"]
    assert happened.count("rollback:begin") == happened.count("rollback:confirm") == 1


def kill_everywhere(way: Way, directory: Path, machine: Machine) -> int:
    """Run a story once for every effect of it, with a controller that is killed just before that;
    return how often."""
    told = way.begin(directory / "whole")
    whole = Life(after=told.check)
    way.part(told, whole, machine(0))
    way.check_end(told)
    ran = 0
    for point in range(1, whole.effects + 1):
        ran += killed_at(way, directory / str(point), machine, point)
    assert ran == whole.effects
    return ran


def killed_at(way: Way, directory: Path, machine: Machine, point: int) -> bool:
    """Run it with a controller that is killed before this effect; tell whether one was."""
    story = way.begin(directory)
    life = Life(dies_before=point, after=story.check)
    with pytest.raises(Killed):
        way.part(story, life, machine(0))
    story.check()
    story.let_go()
    way.part(story, Life(after=story.check), machine(1))
    way.check_end(story)
    a_new_one_may_begin(story)
    return life.died


def a_new_one_may_begin(story: Story) -> None:
    """Nothing of what the rollout had to itself is lost with it."""
    engine = story.engine
    engine.rates = (0.0, 0.0)
    engine.change("new-search", "production", share=0)
    engine.driver.weights["arn:rule"].share = 0
    assert engine.rollout(engine.start(version="3")).state is State.PENDING


def test_on_the_way_up(tmp_path: Path) -> None:
    assert kill_everywhere(Way(15, **SHORT), tmp_path, another_machine) > 30


@pytest.mark.parametrize("machine", [same_machine, another_machine])
def test_on_the_way_back(tmp_path: Path, machine: Machine) -> None:
    assert kill_everywhere(Back(15, **SHORT), tmp_path, machine) >= 5


def test_without_the_store(tmp_path: Path) -> None:
    assert kill_everywhere(WithoutTheStore(15), tmp_path, same_machine) >= 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_standard_schedule(tmp_path: Path) -> None:
    """Looked at every fifteen seconds, which counts as watched without a gap."""
    assert kill_everywhere(Standard(15), tmp_path, another_machine) > 400


class Standard(Way):
    """The standard schedule with a guard: besides, no hold is ever shorter than it says."""

    def check_end(self, story: Story) -> None:
        super().check_end(story)
        entries = story.engine.entries(story.id)
        at: dict[str, list[float]] = defaultdict(list)
        for entry in entries:
            at[entry["action"].removeprefix("rollout:")].append(unix(entry["ts"]))
        for hold, confirmed, begun in zip(
            HOLDS, at["step:confirm"], at["step:begin"][1:], strict=False
        ):
            assert begun - confirmed >= hold
