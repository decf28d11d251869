"""A tick's many rules: in few calls, within what one process allows itself, each for itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pytest

from examples.awsfake import scene as scenes
from examples.awsfake.scene import REGION, Scene
from flagserver.aws import READ_TRIES
from flagserver.domain.errors import Refusal, TargetUnavailable
from flagserver.domain.targets import Reading, Target
from flagserver.targets.alb import AlbDriver
from flagserver.targets.rules import AT_ONCE, READ_SECONDS
from tests.awsfake.double import Double, double, environment_of

OURS = ("DescribeRules", "DescribeListeners", "DescribeTargetHealth")
OTHERS = ("ListDeployments", "ListClusters")


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


@pytest.fixture
def aws(running: Double) -> Double:
    running.reset()
    return running


class Turned:
    """A clock that only waiting turns."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def rules(aws: Double, scene: Scene, many: int) -> list[Target]:
    """So many rules of a scene's listener, each at 25 %; the scene's own is not among them."""
    elb = scenes.client("elbv2", aws.url, scene.rule.split(":")[3])
    groups = [
        {"TargetGroupArn": scene.blue, "Weight": 3},
        {"TargetGroupArn": scene.green, "Weight": 1},
    ]
    action = {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}
    found = []
    for number in range(many):
        path = {"Field": "path-pattern", "PathPatternConfig": {"Values": [f"/{number}/*"]}}
        made = elb.create_rule(
            ListenerArn=scene.listener, Priority=100 + number, Conditions=[path], Actions=[action]
        )
        found.append(target(scene, made["Rules"][0]["RuleArn"]))
    aws.forget_calls()
    return found


def target(scene: Scene, name: str) -> Target:
    return Target.of("alb", name, canary=scene.green, stable=scene.blue)


def remove(aws: Double, *gone: Target) -> None:
    for each in gone:
        aws.client("elbv2").delete_rule(RuleArn=each.name)
    aws.forget_calls()


def read(driver: AlbDriver, targets: list[Target]) -> dict[Target, Reading]:
    """Those that could be read."""
    found = driver.read_all(targets)
    assert list(found) == targets
    return {each: reading for each, reading in found.items() if isinstance(reading, Reading)}


def shares(found: dict[Target, Reading]) -> list[int | None]:
    return [each.share for each in found.values()]


def test_forty_rules_are_two_calls_and_who_owns_them_two_more(aws):
    targets = rules(aws, aws.scene(), 40)
    assert shares(read(AlbDriver(aws.aws()), targets)) == [250_000] * 40
    assert aws.calls(*OURS) == ["DescribeRules"] * 2
    assert sorted(aws.calls()) == ["DescribeRules"] * 2 + sorted(OTHERS)


def test_default_rules_are_asked_for_by_their_listeners(aws):
    scene = aws.scene()
    targets = [*rules(aws, scene, 3), target(scene, scene.listener)]
    assert shares(read(AlbDriver(aws.aws()), targets)) == [250_000] * 3 + [0]
    assert sorted(aws.calls(*OURS)) == ["DescribeListeners", "DescribeRules"]


def test_rules_that_are_gone_spoil_no_others(aws):
    targets = rules(aws, aws.scene(), 25)
    gone = [targets[7], targets[8], targets[21]]
    remove(aws, *gone)
    found = read(AlbDriver(aws.aws()), targets)
    assert [each for each, reading in found.items() if reading.foreign] == gone
    assert shares(found).count(250_000) == 22
    # A list of 20 is halved five times at most; and never is each asked for by itself.
    assert len(aws.calls("DescribeRules")) <= 2 + 3 * 2 * 5


def test_a_listener_that_is_gone_spoils_no_other(aws):
    scene, other = aws.scene(), aws.scene("other")
    aws.client("elbv2").delete_listener(ListenerArn=other.listener)
    targets = [target(scene, scene.listener), target(other, other.listener)]
    there, gone = read(AlbDriver(aws.aws()), targets).values()
    assert there.share == 0
    assert gone.foreign


def test_a_target_that_makes_no_sense_spoils_no_other(aws):
    (good,) = rules(aws, aws.scene(), 1)
    bad = Target.of("alb", "arn:rule", canary="green", stable="blue")
    found = AlbDriver(aws.aws()).read_all([bad, good])
    assert isinstance(found[bad], Refusal)
    assert isinstance(found[good], Reading)


def test_a_call_that_fails_spoils_no_other(aws):
    targets = rules(aws, aws.scene(), 2 * AT_ONCE)
    aws.fault("DescribeRules", "fail", times=3)  # as often as a read is tried
    found = AlbDriver(aws.aws()).read_all(targets)
    assert sum(isinstance(each, Reading) for each in found.values()) == 20
    failed = [each for each in found.values() if isinstance(each, TargetUnavailable)]
    assert len(failed) == 20


def test_throttled_it_is_not_asked_for_by_halves(aws):
    targets = rules(aws, aws.scene(), 20)
    aws.fault("DescribeRules", "throttle", times=20)
    driver = AlbDriver(aws.aws(reads_per_second=8, reads_at_once=20))
    assert not read(driver, targets)
    assert len(aws.calls("DescribeRules")) <= READ_TRIES


def test_two_hundred_rules_are_read_within_a_tick_right_after_a_burst(aws):
    targets = [
        *rules(aws, aws.scene("one"), 100),
        *rules(aws, aws.scene("two"), 100),
    ]
    clock = Turned()
    sparing = aws.aws(
        reads_per_second=8, reads_at_once=20, monotonic=clock.monotonic, sleep=clock.sleep
    )
    for _ in range(20):
        group = str(targets[0].get("canary"))
        sparing.read("elbv2", "describe_target_health", REGION, TargetGroupArn=group)
    aws.forget_calls()
    began = time.monotonic()
    found = read(AlbDriver(sparing, monotonic=clock.monotonic), targets)
    assert shares(found) == [250_000] * 200
    assert len(aws.calls(*OURS)) == 10
    assert clock.seconds == pytest.approx(10 / 8)  # waited for our own allowance
    assert time.monotonic() - began + clock.seconds < 5  # a tick


def test_where_there_is_no_time_for_all_none_is_left_out_twice_in_a_row(aws):
    targets = rules(aws, aws.scene(), 2 * AT_ONCE + 1)
    clock = [0.0]

    @contextmanager
    def slow(service: str, operation: str) -> Iterator[None]:
        clock[0] += 0.6 * READ_SECONDS if service == "elbv2" else 0.0
        yield

    driver = AlbDriver(aws.aws(watch=slow), monotonic=lambda: clock[0])
    first, second = set(read(driver, targets)), set(read(driver, targets))
    assert first < set(targets)
    assert second < set(targets)
    assert first | second == set(targets)


def test_who_watches_knows_in_each_region_whose_calls_they_are(aws):
    here, there = aws.scene(), scenes.build(aws.url, "shop", "eu-central-1")
    targets = [target(each, each.rule) for each in (here, there)]
    caller: ContextVar[str] = ContextVar("caller", default="nobody")
    calls: list[tuple[str, str]] = []

    @contextmanager
    def watch(service: str, operation: str) -> Iterator[None]:
        calls.append((operation, caller.get()))
        yield

    caller.set("a tick")
    AlbDriver(aws.aws(watch=watch)).read_all(targets)
    assert calls.count(("describe_rules", "a tick")) == 2
    assert {who for _, who in calls} == {"a tick"}


def test_a_region_that_does_not_answer_keeps_no_other_waiting(aws):
    here, there = aws.scene(), scenes.build(aws.url, "shop", "eu-central-1")
    targets = [*rules(aws, here, 2), *rules(aws, there, 2)]
    aws.fault("DescribeRules", "hang", seconds=4)
    began = time.monotonic()
    found = read(AlbDriver(aws.aws()), targets)
    assert time.monotonic() - began < 6
    assert len(found) == 2
    assert len({each.name.split(":")[3] for each in found}) == 1
