"""Following an engine: what a plan makes of a schedule, and what a rollout does whose shares an
engine decides on, over a fake engine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagserver.domain import following, plan, schedule
from flagserver.domain.commands import Enlarging, Reasoned
from flagserver.domain.engines import Event, Lane, Phase
from flagserver.domain.errors import Invalid, Refusal
from flagserver.domain.following import Routing
from flagserver.domain.plan import Relation
from flagserver.domain.rollout import TICK_SECONDS, Rollout
from flagserver.domain.states import State
from flagserver.domain.targets import Mode, Target
from tests.builders import ADMIN, SURE
from tests.engines import FLAG, Engine
from tests.followers import FakeDeployment, FakeFollower

THE_FLAG = Target.of("flag", FLAG)
GROUP = "shop/blue-green"


def a_target(steps: str = "10%:5m,100%", **told: Any) -> Target:
    settings_ = {"deployment": "d-1", "config": "Canary10Percent5Minutes", **told}
    return Target.of("codedeploy", GROUP, Mode.FOLLOW, steps=steps, **settings_)


# --- what CodeDeploy can express ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "routing"),
    [
        ("100%", Routing("AllAtOnce")),
        ("10%:5m,100%", Routing("Canary", 10, 5)),
        ("5%:30m,100%:1h", Routing("Canary", 5, 30)),
        ("25%:10m,50%:10m,75%:10m,100%", Routing("Linear", 25, 10)),
        ("30%:1m,60%:1m,90%:1m,100%", Routing("Linear", 30, 1)),
        ("5%:5m,25%:10m,50%:15m,100%", None),
        ("25%:10m,50%:5m,75%:10m,100%", None),
        ("0.5%:5m,100%", None),
        ("5%:90s,100%", None),
        ("5%:5m:approve,100%", None),
        ("5%:5m:n=100,100%", None),
        ("5%:2d1m,100%", None),
        ("5%:5m,50%:end", None),
    ],
)
def test_a_schedule_is_one_of_codedeploys_shapes_or_none(text, routing):
    assert following.routing_of(schedule.parse(text)) == routing


def test_its_own_names_are_what_they_say():
    for name in schedule.CODEDEPLOY:
        assert following.routing_of(schedule.parse(name)) is not None


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("standard", Routing("Canary", 5, 30)),
        ("0.1%:5m,100%", Routing("Canary", 1, 5)),
        ("5%:90s,100%", Routing("Canary", 5, 2)),
        ("1%:7d,100%", Routing("Canary", 1, 2880)),
    ],
)
def test_the_nearest_canary_is_as_small_and_takes_as_long(text, nearest):
    assert following.nearest_canary(schedule.parse(text)) == nearest


def test_a_command_makes_a_configuration_that_says_the_same_by_its_name():
    for routing in (Routing("Canary", 5, 30), Routing("Linear", 25, 10)):
        name = routing.command().split("--deployment-config-name ")[1].split()[0]
        assert following.routing_of(schedule.parse(name)) == routing


# --- what is kept, and what is said ---------------------------------------------------------------


def kept(asked: str, given_: bool = True, relation: Relation = Relation.LOCK_STEP) -> str:
    targets = (THE_FLAG, a_target())
    found = following.schedule_of(schedule.parse(asked), given_, relation, targets)
    return f"{found.name} {found.text()}"


def test_the_rollout_keeps_the_engines_schedule_with_the_bake_that_was_asked_for():
    name = "Canary10Percent5Minutes"
    assert kept("standard", given_=False) == f"{name} 10%:5m,100%"
    assert kept("5%:5m,100%:10m") == f"{name} 10%:5m,100%:10m"
    assert kept("standard", relation=Relation.ON_CANARY) == f"{name} 10%:5m,100%"
    assert kept("standard", relation=Relation.AFTER).startswith("standard 5%:5m")


def test_where_nothing_is_followed_nothing_changes_and_nothing_is_said():
    alone = (THE_FLAG,)
    assert following.schedule_of(schedule.STANDARD, True, Relation.AFTER, alone).name == "standard"
    assert following.explain(schedule.STANDARD, True, Relation.LOCK_STEP, alone) == ()


def said(asked: str, given_: bool = True, relation: Relation = Relation.LOCK_STEP) -> str:
    targets = (THE_FLAG, a_target())
    return " ".join(following.explain(schedule.parse(asked), given_, relation, targets))


def test_what_will_happen_is_said_exactly():
    words = said("standard", given_=False)
    assert "d-1 of shop/blue-green shifts the traffic by Canary10Percent5Minutes: 10%:5m," in words
    assert f"{FLAG}: the same share as the traffic" in words
    assert "nearest" not in words
    assert f"{FLAG}: 5%:5m,25%:10m" in said("standard", relation=Relation.AFTER)
    assert "where the new version runs" in said("standard", relation=Relation.ON_CANARY)


def test_what_it_cannot_do_comes_with_the_nearest():
    words = said("standard")
    assert "5%:5m,25%:10m,50%:15m,100% is not what shop/blue-green will do" in words
    assert "a canary of 5 % for 30m" in words
    assert "create-deployment-config" in words


def test_what_another_configuration_would_do_is_named():
    assert "CodeDeploy can: a canary of 20 % for 5m" in said("20%:5m,100%")
    assert "CodeDeploy can: 25 % more every 10m" in said("25%:10m,50%:10m,75%:10m,100%")
    assert "ECSAllAtOnce" in said("100%")
    assert "is not what" not in said("10%:5m,100%:1h")


@pytest.mark.parametrize("other", [Target.of("alb", "arn:rule"), Target.of("codedeploy", "a/b")])
def test_a_rollout_that_follows_moves_no_other_traffic(other):
    with pytest.raises(Invalid) as refused:
        plan.check(Relation.LOCK_STEP, (a_target(), other), "2")
    assert refused.value.field == "/targets/1"


def test_a_lane_is_kept_as_it_was():
    event = Event("d-1", "AllowTraffic", "InProgress", 1_795_435_200.5, None, "odd")
    lane = Lane("CodeDeploy", "d-1", "InProgress", Phase.SHIFTING, "why", "d-2", "Ready", (event,))
    assert Lane.from_body(lane.to_body()) == lane
    assert lane.words.startswith("CodeDeploy d-1 is InProgress: AllowTraffic InProgress; it goes")


# --- a rollout over an engine ---------------------------------------------------------------------


class House:
    """An engine of ours that follows one of theirs."""

    def __init__(self, directory: Path) -> None:
        self.engine = Engine(directory=directory)
        self.follower = FakeFollower(monotonic=self.engine.clock.monotonic)
        self.engine.outside.drivers["codedeploy"] = self.follower  # type: ignore[index]
        self.theirs = FakeDeployment("d-1")
        self.follower.groups[GROUP] = self.theirs

    def start(self, **told: Any) -> str:
        flag, target = {"kind": "flag", "name": FLAG}, {"kind": "codedeploy", "name": GROUP}
        return self.engine.start(targets=[flag, target], **told)

    def to(self, share: int, phase: Phase = Phase.SHIFTING, reason: str | None = None) -> None:
        """Let their deployment come so far."""
        self.theirs.share, self.theirs.phase = share * 10_000, phase
        self.theirs.reason = reason

    def rollout(self, id: str) -> Rollout:
        return self.engine.rollout(id)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_rollout_that_replaces_another_takes_nothing_back_of_the_newer_deployment(house):
    older = house.start()
    house.engine.run(10)
    house.to(10)
    house.engine.run(10)
    house.theirs = FakeDeployment("d-2")
    house.follower.groups[GROUP] = house.theirs
    newer = house.start(replace=True)
    house.engine.run(10)
    assert house.rollout(older).state is State.SUPERSEDED
    house.to(10)
    house.engine.run(10)
    assert house.engine.share == 10.0
    assert house.rollout(newer).state is State.RUNNING
    assert not [call for call in house.follower.calls if call[0] == "roll_back"]


def test_with_the_store_away_harm_has_the_engine_go_back(house):
    id = house.start()
    house.engine.run(10)
    house.to(10)
    house.engine.run(10)
    with house.engine.away():
        house.engine.rates = (0.5, 0.0)
        house.engine.run(130)
        assert house.theirs.phase is Phase.GONE_BACK
    house.engine.let_leases_end()
    house.engine.run(30)
    assert (house.rollout(id).state, house.engine.share) == (State.ROLLED_BACK, 0.0)


def test_one_that_has_not_begun_is_taken_back_at_the_engine_too(house):
    id = house.start()
    house.to(10)
    house.engine.rollouts.roll_back(id, Reasoned(), ADMIN)
    house.engine.run(30)
    assert house.rollout(id).state is State.ROLLED_BACK
    assert house.theirs.phase is Phase.GONE_BACK


def test_what_the_engine_gives_back_without_a_word_is_followed_at_once(house):
    id = house.start()
    house.engine.run(10)
    for share in (50, 20):
        house.to(share)
        house.engine.run(130)
        assert house.engine.share == share
    house.engine.rollouts.hold(id, Reasoned(), ADMIN)
    house.to(5)
    house.engine.tick()
    assert (house.engine.share, house.rollout(id).state) == (5.0, State.PAUSED)


def test_a_flag_that_somebody_killed_holds_and_is_not_raised(house):
    id = house.start()
    house.engine.run(10)
    house.to(10)
    house.engine.run(10)
    house.engine.kill(FLAG, "production")
    house.to(100)
    house.engine.run(10)
    assert (house.engine.share, house.rollout(id).state) == (0.0, State.HOLDING)


class Story(House):
    """A rollout to which anything happens, in any order."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.id = self.start()
        self.controller = self.engine.controller
        self.controllers = 0
        self.given = {0}
        """Every share that the engine ever gave, in ppm."""
        self.against = False
        for act in ("tick", "up", "tick"):
            self.do(act)
        assert self.engine.share == 30.0

    def do(self, act: str) -> None:
        """Let it happen, and look at what must be so whatever happens."""
        getattr(self, act)()
        self.given.add(self.theirs.share)
        share = self.engine.share * 10_000
        state = self.rollout(self.id).state
        back = state in {State.ROLLING_BACK, State.ROLLBACK_FAILED, State.ROLLED_BACK}
        assert share in ({0} if back else self.given)
        if act == "tick" and not self.follower.down and not state.shown.terminal:
            assert share <= self.theirs.share

    def tick(self) -> None:
        self.engine.clock.seconds += TICK_SECONDS
        self.engine.tick(self.controller)

    def long(self) -> None:
        self.engine.clock.seconds += 65
        self.engine.tick(self.controller)

    def up(self) -> None:
        self._forward(min(100, self.theirs.share // 10_000 + 30), Phase.SHIFTING)

    def lower(self) -> None:
        self._forward(max(0, self.theirs.share // 10_000 - 30), Phase.SHIFTING)

    def watching(self) -> None:
        self._forward(100, Phase.WATCHING)

    def done(self) -> None:
        self._forward(100, Phase.DONE)

    def goes_back(self) -> None:
        self._leave(Phase.GOING_BACK)

    def breaks(self) -> None:
        self._leave(Phase.BROKEN)

    def bad(self) -> None:
        self.engine.rates = (0.5, 0.0)

    def blind(self) -> None:
        self.engine.rates = (None, None)

    def good(self) -> None:
        self.engine.rates = (0.0, 0.0)

    def hold(self) -> None:
        with suppress(Refusal):
            self.engine.rollouts.hold(self.id, Reasoned(), ADMIN)

    def resume(self) -> None:
        revision = self.engine.rollouts.get(self.id, ADMIN).revision
        with suppress(Refusal):
            sure = Enlarging.model_validate(SURE)
            self.engine.rollouts.resume(self.id, sure, revision, ADMIN)

    def silent(self) -> None:
        self.follower.down = not self.follower.down

    def lost_write(self) -> None:
        self.follower.faults.append("applied")

    def takeover(self) -> None:
        self.controllers += 1
        self.engine.let_leases_end()
        self.controller = self.engine.new_controller(f"c{self.controllers}")

    def _forward(self, share: int, phase: Phase) -> None:
        if not self.against and self.theirs.back is None:
            self.to(share, phase)

    def _leave(self, phase: Phase) -> None:
        if not self.against and self.theirs.back is None:
            self.to(self.theirs.share // 10_000, phase, "Their alarm.")
            self.against = True


ACTS = (
    *("tick", "tick", "tick", "long", "up", "up", "lower", "watching", "done", "goes_back"),
    *("breaks", "bad", "blind", "good", "hold", "resume", "silent", "lost_write", "takeover"),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(ACTS), min_size=1, max_size=40))
def test_whatever_happens_flags_are_never_above_the_engine_and_going_back_absorbs(acts):
    with TemporaryDirectory() as directory:
        _tell(Story(Path(directory)), acts)


def _tell(story: Story, acts: list[str]) -> None:
    for act in acts:
        story.do(act)
    story.follower.down = False
    story.follower.faults.clear()
    story.good()
    story.takeover()
    for _ in range(12):
        story.do("tick")
    ended = story.rollout(story.id)
    if story.against and ended.state is not State.COMPLETED:
        assert (ended.state, story.engine.share) == (State.ROLLED_BACK, 0.0)
        assert story.theirs.phase is Phase.GONE_BACK
