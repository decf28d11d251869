"""What every target driver owes its caller, on the ALB driver over AWS's double and on the fake."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from examples.awsfake.scene import Scene, build_codedeploy, deploy
from flagserver.domain.errors import Conflict, Invalid, TargetOwned, TargetUnavailable
from flagserver.domain.targets import Target
from flagserver.ports import TargetDriver
from flagserver.targets.alb import AlbDriver
from tests.awsfake.double import Double, double, environment_of
from tests.fakes import FakeTargetDriver

NEVER, AT_ONCE = math.inf, -1.0
PERCENT = 10_000


@dataclass
class Bench:
    """A driver and a target of its own, and what a test does to the world behind it."""

    driver: TargetDriver
    target: Target
    unknown: Target
    owned: Callable[[], object]
    changed: Callable[[int], None]
    """Somebody else gives the canary another share, of whole percent."""
    taken: Callable[[], None]
    """Somebody else makes it so that the weights cannot be said as a share."""
    unhealthy: Callable[[], None]
    fault: Callable[[str], None]
    """What the next write meets: `unavailable`, `applied`, `lost`."""
    down: Callable[[], None]
    really: Callable[[], int]
    """The canary's share, past the driver."""
    writes: Callable[[], int]
    later: Callable[[], None] = lambda: None
    """Let as much time go by as between two looks."""

    def at(self, percent: int) -> Any:
        """Bring the target to a share, from whatever share."""
        before = self.driver.read(self.target)
        return self.driver.set(self.target, percent * PERCENT, before, NEVER)


@pytest.fixture(scope="module")
def aws() -> Iterator[Double]:
    with double() as running, environment_of(running):
        yield running


@pytest.fixture(params=["fake", "alb rule", "alb default rule"])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "fake":
        return a_fake()
    aws: Double = request.getfixturevalue("aws")
    aws.reset()
    return an_alb(aws, default=request.param == "alb default rule")


def a_fake() -> Bench:
    driver = FakeTargetDriver(monotonic=lambda: 0.0)
    target = Target.of("alb", "arn:rule", canary="arn:green", stable="arn:blue")
    driver.add(target)

    def now() -> Any:
        return driver.weights[target.name]

    return Bench(
        driver=driver,
        target=target,
        unknown=Target.of("alb", "arn:other", canary="arn:green", stable="arn:blue"),
        owned=lambda: setattr(now(), "owner", "A deployment"),
        changed=lambda percent: setattr(now(), "share", percent * PERCENT),
        taken=lambda: setattr(now(), "foreign", "It redirects."),
        unhealthy=lambda: setattr(now(), "healthy", False),
        fault=driver.faults.append,
        down=lambda: setattr(driver, "down", True),
        really=lambda: now().share,
        writes=lambda: -1,
    )


def an_alb(aws: Double, *, default: bool) -> Bench:
    scene = aws.scene()
    name = scene.listener if default else scene.rule
    modify = "ModifyListener" if default else "ModifyRule"
    elb = aws.client("elbv2")

    def write(groups: dict[str, int]) -> None:
        tuples = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in groups.items()]
        actions = [{"Type": "forward", "ForwardConfig": {"TargetGroups": tuples}}]
        if default:
            elb.modify_listener(ListenerArn=name, DefaultActions=actions)
        else:
            elb.modify_rule(RuleArn=name, Actions=actions)

    def share() -> int:
        weights = aws.weights(name)
        return weights.get(scene.green, 0) * 1_000_000 // sum(weights.values())

    def fault(kind: str) -> None:
        kinds = {"unavailable": "fail", "applied": "cut", "lost": "lost"}
        aws.fault(modify, kinds[kind])

    def third() -> str:
        vpc = aws.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
        made = elb.create_target_group(Name="third", Protocol="HTTP", Port=80, VpcId=vpc)
        return str(made["TargetGroups"][0]["TargetGroupArn"])

    clock = [0.0]

    def later() -> None:
        clock[0] += 5.0

    # As CodeDeploy leaves it: the idle group is in the rule, at weight 0, so that it is checked.
    write({scene.blue: 1, scene.green: 0})
    aws.forget_calls()
    gone = scene.listener[:-4] + "0000" if default else scene.rule[:-4] + "0000"
    return Bench(
        driver=AlbDriver(aws.aws(), monotonic=lambda: clock[0], sleep=lambda _: None),
        target=Target.of("alb", name, canary=scene.green, stable=scene.blue),
        unknown=Target.of("alb", gone, canary=scene.green, stable=scene.blue),
        owned=lambda: codedeploy(aws, scene),
        changed=lambda percent: write({scene.blue: 100 - percent, scene.green: percent}),
        taken=lambda: write({scene.blue: 1, third(): 1}),
        unhealthy=lambda: aws.unhealthy(scene.green),
        fault=fault,
        down=lambda: aws.fault("*", "fail", times=1000),
        really=share,
        writes=lambda: len(aws.calls(modify)),
        later=later,
    )


def codedeploy(aws: Double, of: Scene, status: str = "InProgress") -> str:
    """Let a CodeDeploy deployment run that shifts traffic of the scene's listener."""
    build_codedeploy(aws.url, of)
    made = deploy(aws.url)
    aws.tell("codedeploy", deployment=made, status=status, region="eu-west-1")
    return made


def test_a_target_that_could_be_driven_passes_the_check(bench):
    bench.driver.check(bench.target)


def test_an_unknown_target_is_refused_by_its_name(bench):
    with pytest.raises(Invalid) as refused:
        bench.driver.check(bench.unknown)
    assert refused.value.field == "/name"


def test_one_that_a_deployment_owns_is_refused(bench):
    bench.owned()
    with pytest.raises(TargetOwned):
        bench.driver.check(bench.target)


def test_a_canary_without_healthy_targets_is_refused(bench):
    bench.unhealthy()
    with pytest.raises(Conflict) as refused:
        bench.driver.check(bench.target)
    assert refused.value.field == "/settings/canary"


def test_a_canary_that_serves_already_is_refused(bench):
    bench.changed(5)
    with pytest.raises(Conflict):
        bench.driver.check(bench.target)


def test_a_target_that_cannot_be_reached_is_no_bad_target(bench):
    bench.down()
    with pytest.raises(TargetUnavailable):
        bench.driver.check(bench.target)


def test_nearest_is_never_above_and_stays_where_it_is(bench):
    for share in (0, 1, 999, 1_000, 12_345, 50_000, 333_333, 999_999, 1_000_000):
        nearest = bench.driver.nearest(bench.target, share)
        assert share - 1_000 < nearest <= share
        assert bench.driver.nearest(bench.target, nearest) == nearest


def test_up_the_standard_schedule_and_back(bench):
    assert bench.driver.read(bench.target).share == 0
    for percent in (5, 25, 50, 100):
        assert bench.at(percent).share == percent * PERCENT
        assert bench.driver.read(bench.target).share == percent * PERCENT
        assert bench.really() == percent * PERCENT
    assert bench.driver.roll_back(bench.target, NEVER).share == 0
    assert bench.really() == 0


def test_many_are_read_at_once_and_one_that_is_gone_spoils_no_other(bench):
    bench.at(5)
    found = bench.driver.read_all([bench.unknown, bench.target])
    assert set(found) == {bench.unknown, bench.target}
    assert found[bench.target] == bench.driver.read(bench.target)
    assert found[bench.target].share == 5 * PERCENT
    assert found[bench.unknown] == bench.driver.read(bench.unknown)
    assert found[bench.unknown].foreign


def test_among_many_too_it_is_said_who_owns_one(bench):
    bench.owned()
    assert bench.driver.read_all([bench.target])[bench.target].owner


def test_what_cannot_be_read_among_many_is_said_and_not_raised(bench):
    bench.down()
    found = bench.driver.read_all([bench.target, bench.unknown])
    assert all(isinstance(each, TargetUnavailable) for each in found.values())
    assert len(found) == 2


def test_to_read_none_is_no_call(bench):
    bench.down()
    assert bench.driver.read_all([]) == {}


def test_setting_what_is_so_already_writes_nothing(bench):
    before = bench.driver.read(bench.target)
    bench.driver.set(bench.target, 5 * PERCENT, before, NEVER)
    writes = bench.writes()
    again = bench.driver.set(bench.target, 5 * PERCENT, before, AT_ONCE)
    assert again.share == 5 * PERCENT
    assert bench.writes() == writes


def test_after_the_deadline_nothing_is_written(bench):
    before = bench.driver.read(bench.target)
    with pytest.raises(TargetUnavailable, match="nothing was written"):
        bench.driver.set(bench.target, 5 * PERCENT, before, AT_ONCE)
    assert bench.really() == 0
    bench.at(5)
    with pytest.raises(TargetUnavailable, match="nothing was written"):
        bench.driver.roll_back(bench.target, AT_ONCE)
    assert bench.really() == 5 * PERCENT


def test_drift_by_a_human_is_seen_and_never_fought(bench):
    before = bench.at(5)
    bench.changed(40)
    assert bench.driver.read(bench.target).share == 40 * PERCENT
    with pytest.raises(TargetOwned):
        bench.driver.set(bench.target, 25 * PERCENT, before, NEVER)
    assert bench.really() == 40 * PERCENT


def test_a_change_that_is_no_share_is_said_in_a_sentence(bench):
    before = bench.at(5)
    bench.taken()
    found = bench.driver.read(bench.target)
    assert found.share is None
    assert found.foreign
    with pytest.raises(TargetOwned):
        bench.driver.set(bench.target, 25 * PERCENT, before, NEVER)


def test_a_rollback_goes_ahead_whatever_was_there(bench):
    bench.at(5)
    bench.changed(40)
    assert bench.driver.roll_back(bench.target, NEVER).share == 0
    bench.taken()
    assert bench.driver.roll_back(bench.target, NEVER).share == 0
    assert bench.really() == 0


def test_a_rollback_is_safe_to_repeat(bench):
    bench.at(25)
    for _ in range(3):
        found = bench.driver.roll_back(bench.target, NEVER)
        assert found.share == 0


def test_what_a_deployment_owns_is_left_to_it(bench):
    before = bench.at(5)
    bench.owned()
    bench.later()
    assert bench.driver.read(bench.target).owner
    with pytest.raises(TargetOwned):
        bench.driver.set(bench.target, 25 * PERCENT, before, NEVER)
    with pytest.raises(TargetOwned):
        bench.driver.roll_back(bench.target, NEVER)
    assert bench.really() == 5 * PERCENT


def test_a_canary_that_died_gets_no_first_share(bench):
    before = bench.driver.read(bench.target)
    bench.unhealthy()
    assert bench.driver.read(bench.target).healthy is False
    with pytest.raises(TargetUnavailable):
        bench.driver.set(bench.target, 5 * PERCENT, before, NEVER)
    assert bench.really() == 0


def test_a_failure_of_the_other_side_leaves_the_decision_to_the_caller(bench):
    before = bench.driver.read(bench.target)
    bench.fault("unavailable")
    with pytest.raises(TargetUnavailable):
        bench.driver.set(bench.target, 5 * PERCENT, before, NEVER)
    # Read, decide again, as the caller must.
    assert bench.at(5).share == 5 * PERCENT


def test_a_write_whose_answer_was_lost_is_found_by_a_read(bench):
    before = bench.driver.read(bench.target)
    bench.fault("applied")
    try:
        assert bench.driver.set(bench.target, 5 * PERCENT, before, NEVER).share == 5 * PERCENT
    except TargetUnavailable:
        assert bench.driver.read(bench.target).share == 5 * PERCENT
    assert bench.really() == 5 * PERCENT


def test_a_write_that_was_lost_shows_in_what_is_read_back(bench):
    before = bench.driver.read(bench.target)
    bench.fault("lost")
    assert bench.driver.set(bench.target, 5 * PERCENT, before, NEVER).share == 0
    assert bench.at(5).share == 5 * PERCENT


def test_there_are_commands_for_a_person(bench):
    commands = bench.driver.commands_by_hand(bench.target)
    assert commands
    assert any(bench.target.name in command for command in commands)


def test_time_outs_are_within_five_seconds(bench):
    bench.down()
    began = time.monotonic()
    with pytest.raises(TargetUnavailable):
        bench.driver.read(bench.target)
    assert time.monotonic() - began < 6
