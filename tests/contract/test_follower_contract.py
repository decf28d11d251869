"""What every driver owes its caller whose engine owns the weights: `ports.Follower`, on the driver
of CodeDeploy over AWS's double and on the fake."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from examples.awsfake.scene import APPLICATION, GROUP
from flagserver.domain import schedule
from flagserver.domain.engines import Phase
from flagserver.domain.errors import Conflict, Invalid, TargetOwned, TargetUnavailable
from flagserver.domain.targets import Mode, Reading, Target
from flagserver.ports import Follower
from flagserver.targets.codedeploy import CodeDeployDriver
from tests.awsfake.deploying import INSTALLED, Stage
from tests.awsfake.double import Double, double, environment_of
from tests.followers import FakeDeployment, FakeFollower

NEVER, AT_ONCE = math.inf, -1.0
TEN, WHOLE = 100_000, 1_000_000


@dataclass
class Bench:
    """A driver, and an engine behind it that deploys something: what a test does to it."""

    driver: Follower
    group: str
    deployment: str
    to: Callable[[Phase], None]
    """Let the engine come to this phase: SHIFTING is its first 10 %."""
    fault: Callable[[str], None]
    """What the next write meets: `unavailable`, `applied`."""
    down: Callable[[], None]
    writes: Callable[[], int]
    later: Callable[[], None]
    """Let half a minute go by."""

    def settled(self) -> Target:
        return self.driver.settle(Target.of("codedeploy", self.group, Mode.FOLLOW))

    def back(self, target: Target) -> Reading:
        """Call until it has gone back."""
        for _ in range(20):
            try:
                return self.driver.roll_back(target, NEVER)
            except TargetUnavailable:
                self.later()
        raise AssertionError("It never went back.")


@pytest.fixture(scope="module")
def aws() -> Iterator[Double]:
    with double() as running, environment_of(running):
        yield running


@pytest.fixture(params=["fake", "codedeploy"])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "fake":
        return a_fake()
    aws: Double = request.getfixturevalue("aws")
    aws.reset()
    return a_codedeploy(aws)


def a_fake() -> Bench:
    driver = FakeFollower()
    it = FakeDeployment("d-1")
    driver.groups["shop/blue-green"] = it
    shares = {Phase.SHIFTING: TEN, Phase.WATCHING: WHOLE, Phase.DONE: WHOLE}

    def to(phase: Phase) -> None:
        it.phase, it.share = phase, shares.get(phase, 0)

    return Bench(
        driver=driver,
        group="shop/blue-green",
        deployment="d-1",
        to=to,
        fault=driver.faults.append,
        down=lambda: setattr(driver, "down", True),
        writes=lambda: -1,
        later=lambda: None,
    )


def a_codedeploy(aws: Double) -> Bench:
    stage = Stage(aws)
    stage.deploy(1)
    stage.later(3600)
    options = {
        "terminateBlueInstancesOnDeploymentSuccess": {
            "action": "TERMINATE",
            "terminationWaitTimeInMinutes": 5,
        },
        "deploymentReadyOption": {"actionOnTimeout": "STOP_DEPLOYMENT", "waitTimeInMinutes": 60},
    }
    stage.client.update_deployment_group(
        applicationName=APPLICATION,
        currentDeploymentGroupName=GROUP,
        blueGreenDeploymentConfiguration=options,
    )
    deployment = stage.deploy(2)

    def to(phase: Phase) -> None:
        if phase is Phase.PREPARING:
            return
        stage.later(INSTALLED)
        if phase is Phase.READY:
            return
        stage.client.continue_deployment(deploymentId=deployment, deploymentWaitType="READY_WAIT")
        stage.later({Phase.SHIFTING: 10, Phase.WATCHING: 400, Phase.DONE: 3600}[phase])

    def fault(kind: str) -> None:
        kinds = {"unavailable": "fail", "applied": "cut"}
        for operation in ("StopDeployment", "CreateDeployment", "ContinueDeployment"):
            aws.fault(operation, kinds[kind])

    changing = ("StopDeployment", "CreateDeployment", "ContinueDeployment", "ModifyRule")
    aws.forget_calls()
    return Bench(
        driver=CodeDeployDriver(aws.aws(), monotonic=lambda: 0.0),
        group=f"{APPLICATION}/{GROUP}",
        deployment=deployment,
        to=to,
        fault=fault,
        down=lambda: aws.fault("*", "fail", times=1000),
        writes=lambda: len(aws.calls(*changing)),
        later=lambda: stage.later(30),
    )


# --- before it begins -----------------------------------------------------------------------------


def test_it_is_the_same_target_whoever_names_it(bench):
    by_group = bench.settled()
    by_id = bench.driver.settle(Target.of("codedeploy", bench.deployment, Mode.FOLLOW))
    assert by_group == by_id
    assert by_group.is_followed
    assert by_group.get("deployment") == bench.deployment
    assert schedule.parse(str(by_group.get("steps"))).text() == "10%:5m,100%"
    assert bench.writes() <= 0


@pytest.mark.parametrize("name", ["d-GONE", "gone/gone"])
def test_what_does_not_exist_is_invalid_by_its_name(bench, name):
    with pytest.raises(Invalid) as refused:
        bench.driver.settle(Target.of("codedeploy", name, Mode.FOLLOW))
    assert refused.value.field == "/name"


def test_a_group_where_nothing_runs_is_a_conflict_and_what_is_over_is_not_followed(bench):
    target = bench.settled()
    bench.driver.check(target)
    bench.to(Phase.DONE)
    with pytest.raises(Conflict):
        bench.settled()
    with pytest.raises(Conflict) as refused:
        bench.driver.check(target)
    assert refused.value.field == "/name"


def test_who_does_not_answer_is_unavailable(bench):
    target = bench.settled()
    bench.down()
    for ask in (
        bench.settled,
        lambda: bench.driver.check(target),
        lambda: bench.driver.read(target),
        lambda: bench.driver.roll_back(target, NEVER),
        lambda: bench.driver.go_on(target, NEVER),
    ):
        with pytest.raises(TargetUnavailable):
            ask()


# --- how it stands --------------------------------------------------------------------------------

SHARES = {
    Phase.PREPARING: 0,
    Phase.READY: 0,
    Phase.SHIFTING: TEN,
    Phase.WATCHING: WHOLE,
    Phase.DONE: WHOLE,
}


@pytest.mark.parametrize("phase", SHARES)
def test_a_reading_has_the_share_and_the_engines_lane(bench, phase):
    target = bench.settled()
    bench.to(phase)
    reading = bench.driver.read(target)
    assert (reading.share, reading.foreign) == (SHARES[phase], None)
    assert reading.lane is not None
    assert (reading.lane.phase, reading.lane.deployment) == (phase, bench.deployment)
    assert reading.lane.reason is None
    assert all(event.deployment == bench.deployment for event in reading.lane.events)
    assert bench.driver.read_all([target]) == {target: reading}


def test_one_that_is_gone_spoils_no_other(bench):
    target = bench.settled()
    settings = {**dict(target.settings), "deployment": "d-GONE"}
    gone = Target.of("codedeploy", target.name, Mode.FOLLOW, **settings)
    found = bench.driver.read_all([gone, target])
    assert isinstance(found[target], Reading)
    assert found[target].lane is not None
    assert isinstance(found[gone], Reading)
    assert found[gone].foreign is not None


def test_reading_many_never_raises(bench):
    target = bench.settled()
    bench.down()
    assert isinstance(bench.driver.read_all([target])[target], TargetUnavailable)
    assert bench.driver.read_all([]) == {}


def test_whatever_share_the_engine_gives_is_taken_as_it_is(bench):
    target = bench.settled()
    assert [bench.driver.nearest(target, share) for share in (0, 1, TEN, WHOLE)] == [
        *(0, 1, TEN, WHOLE)
    ]


# --- moving it ------------------------------------------------------------------------------------


def test_it_is_never_set(bench):
    target = bench.settled()
    bench.to(Phase.SHIFTING)
    before, writes = bench.driver.read(target), bench.writes()
    with pytest.raises(TargetOwned):
        bench.driver.set(target, WHOLE, before, NEVER)
    assert bench.writes() == writes
    assert bench.driver.read(target).share == TEN


@pytest.mark.parametrize("phase", [Phase.READY, Phase.WATCHING])
def test_it_goes_on_where_it_waits(bench, phase):
    target = bench.settled()
    bench.to(phase)
    bench.driver.go_on(target, NEVER)
    bench.later()
    after = bench.driver.read(target).lane
    assert after is not None
    assert after.phase is (Phase.SHIFTING if phase is Phase.READY else Phase.DONE)


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.SHIFTING, Phase.DONE])
def test_where_it_does_not_wait_going_on_does_nothing(bench, phase):
    target = bench.settled()
    bench.to(phase)
    before = bench.driver.read(target)
    bench.driver.go_on(target, NEVER)
    assert bench.driver.read(target) == before


@pytest.mark.parametrize("phase", SHARES)
def test_it_goes_back_from_wherever_it_is(bench, phase):
    target = bench.settled()
    bench.to(phase)
    after = bench.back(target)
    assert (after.share, after.lane and after.lane.phase) == (0, Phase.GONE_BACK)
    # and it is safe to repeat
    writes = bench.writes()
    assert bench.driver.roll_back(target, NEVER).share == 0
    assert bench.writes() == writes


@pytest.mark.parametrize("phase", [Phase.SHIFTING, Phase.DONE])
def test_until_it_has_gone_back_it_says_how_it_stands(bench, phase):
    target = bench.settled()
    bench.to(phase)
    with pytest.raises(TargetUnavailable, match=bench.deployment):
        bench.driver.roll_back(target, NEVER)
    with pytest.raises(TargetUnavailable, match=bench.deployment):
        bench.driver.roll_back(target, NEVER)


@pytest.mark.parametrize("phase", [Phase.SHIFTING, Phase.DONE])
@pytest.mark.parametrize("kind", ["unavailable", "applied"])
def test_a_way_back_whose_answer_was_lost_is_begun_once(bench, phase, kind):
    target = bench.settled()
    bench.to(phase)
    bench.fault(kind)
    with pytest.raises(TargetUnavailable):
        bench.driver.roll_back(target, NEVER)
    after = bench.back(target)
    assert (after.share, after.lane and after.lane.phase) == (0, Phase.GONE_BACK)


@pytest.mark.parametrize("phase", [Phase.SHIFTING, Phase.DONE])
def test_when_it_is_too_late_nothing_is_written(bench, phase):
    target = bench.settled()
    bench.to(phase)
    writes = bench.writes()
    with pytest.raises(TargetUnavailable):
        bench.driver.roll_back(target, AT_ONCE)
    assert bench.writes() == writes
    assert bench.driver.read(target).share == SHARES[phase]


def test_what_a_person_runs_is_known_without_asking(bench):
    target = bench.settled()
    bench.down()
    assert any(bench.deployment in command for command in bench.driver.commands_by_hand(target))
