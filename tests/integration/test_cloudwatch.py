"""CloudWatch and hosts as sources of numbers, over AWS's double, through the real boto3."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from examples.awsfake.scene import REGION, Scene
from flagserver.domain.errors import Conflict, Invalid
from flagserver.domain.signals import Ask, Measure, Measured, Point, Signal
from flagserver.signals.cloudwatch import CloudWatch
from flagserver.signals.hosts import MEASURE_SECONDS, Hosts
from tests.awsfake.double import T0, Double, double, environment_of


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


@pytest.fixture
def aws(running: Double) -> Double:
    running.reset()
    return running


class House:
    """A scene, the sources, and a clock of minutes from T0."""

    def __init__(self, aws: Double) -> None:
        self.aws = aws
        self.scene: Scene = aws.scene()
        self.source = CloudWatch(aws.aws())
        self.hosts = Hosts(aws.aws())
        self.where = {
            "load_balancer": self.scene.rule,
            "canary": self.scene.green,
            "stable": self.scene.blue,
        }
        aws.forget_calls()

    def ask(self, signal: Signal, minutes: int = 3) -> Ask:
        return Ask(signal, "production", "shop", "2.0.0", minutes * 60)

    def measure(self, signal: Signal, at: float, minutes: int = 3) -> Measured:
        ask = self.ask(signal, minutes)
        return self.source.measure([ask], T0 + at * 60)[ask]

    def published(self, side: str, minute: int, **told: Any) -> None:
        group = {"green": self.scene.green, "blue": self.scene.blue}[side]
        self.aws.publish(self.scene, group, T0 + minute * 60, **told)

    def alarm(self, name: str, state: str | None = None) -> None:
        self.aws.client("cloudwatch").put_metric_alarm(
            AlarmName=name,
            Namespace="Shop",
            MetricName="errors",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1.0,
            ComparisonOperator="GreaterThanThreshold",
        )
        if state is not None:
            self.become(name, state)

    def become(self, name: str, state: str) -> None:
        self.aws.client("cloudwatch").set_alarm_state(
            AlarmName=name, StateValue=state, StateReason="a test"
        )


@pytest.fixture
def house(aws: Double) -> House:
    return House(aws)


def values(points: tuple[Point, ...]) -> list[float | None]:
    return [point.value for point in points]


# --- rates ----------------------------------------------------------------------------------------


def test_a_rate_is_computed_from_raw_sums_of_both_arms(house):
    for minute in range(3):
        house.published("green", minute, requests=50, failed=minute)
        house.published("blue", minute, requests=950)
    found = house.measure(Signal.of("cloudwatch", Measure.RATE, **house.where), at=3)
    assert found.canary == (
        Point.rate(T0 + 60, sample=50, failures=0),
        Point.rate(T0 + 120, sample=50, failures=1),
        Point.rate(T0 + 180, sample=50, failures=2),
    )
    assert values(found.control) == [0.0, 0.0, 0.0]
    assert not found.pooled


def test_no_data_is_never_0(house):
    house.published("blue", 0, requests=10)
    house.published("green", 1, failed=3)
    found = house.measure(Signal.of("cloudwatch", Measure.RATE, **house.where), at=3)
    assert found.error is None
    assert values(found.canary) == [None, None, None]
    assert values(found.control) == [0.0, None, None]


def test_a_minute_that_is_not_over_is_left_out(house):
    house.published("green", 2, requests=10, failed=10)
    signal = Signal.of("cloudwatch", Measure.RATE, **house.where)
    assert values(house.measure(signal, at=2.9).canary) == [None, None, None]
    assert values(house.measure(signal, at=3.0).canary) == [None, None, 1.0]


def test_without_a_canary_both_arms_are_one(house):
    signal = Signal.of("cloudwatch", Measure.RATE, load_balancer=house.scene.balancer)
    assert house.measure(signal, at=3).pooled


def test_rates_of_ones_own(house):
    cloudwatch = house.aws.client("cloudwatch")
    for name, value in (("checkouts", 200), ("failed checkouts", 3)):
        cloudwatch.put_metric_data(
            Namespace="Shop",
            MetricData=[
                {
                    "MetricName": name,
                    "Value": value,
                    "Timestamp": T0 + 60,
                    "Dimensions": [{"Name": "version", "Value": "2.0.0"}],
                }
            ],
        )
    signal = Signal.of(
        "cloudwatch",
        Measure.RATE,
        namespace="Shop",
        failed="failed checkouts",
        total="checkouts",
        dimensions=("version=2.0.0",),
        control=("version=1.0.0",),
    )
    found = house.measure(signal, at=2, minutes=1)
    assert found.canary == (Point.rate(T0 + 120, sample=200, failures=3),)
    assert values(found.control) == [None]


# --- latency --------------------------------------------------------------------------------------


def test_latency_is_in_seconds_with_its_sample(house):
    house.published("green", 0, seconds=[0.1] * 90 + [2.5] * 10)
    house.published("blue", 0, seconds=[0.1] * 100)
    signal = Signal.of("cloudwatch", Measure.LATENCY, quantile=0.95, **house.where)
    found = house.measure(signal, at=1, minutes=1)
    assert found.canary == (Point(T0 + 60, 2.5, 100),)
    assert found.control == (Point(T0 + 60, 0.1, 100),)


def test_latency_of_ones_own_in_milliseconds(house):
    house.aws.client("cloudwatch").put_metric_data(
        Namespace="Shop",
        MetricData=[{"MetricName": "took", "Values": [250.0], "Timestamp": T0}],
    )
    signal = Signal.of(
        "cloudwatch", Measure.LATENCY, namespace="Shop", metric="took", unit="milliseconds"
    )
    assert values(house.measure(signal, at=1, minutes=1).canary) == [0.25]


def test_nan_is_no_data(house, monkeypatch):
    # No metric of AWS may be NaN, but what is computed can be.
    signal = Signal.of("cloudwatch", Measure.LATENCY, **house.where)
    real = house.source._aws.read

    def with_nan(service: str, operation: str, *args: Any, **given: Any) -> Any:
        told = real(service, operation, *args, **given)
        for result in told["MetricDataResults"]:
            result["Values"] = [math.nan for _ in result["Values"]]
        return told

    house.published("green", 0, seconds=[0.1])
    monkeypatch.setattr(house.source._aws, "read", with_nan)
    assert values(house.measure(signal, at=1, minutes=1).canary) == [None]


# --- hosts by CloudWatch --------------------------------------------------------------------------


def test_hosts_by_cloudwatch(house):
    where = [
        {"Name": "TargetGroup", "Value": house.scene.green.rpartition(":")[2]},
        {"Name": "LoadBalancer", "Value": house.scene.dimension},
    ]
    data = [
        {"MetricName": name, "Values": each, "Timestamp": T0, "Dimensions": where}
        for name, each in (("UnHealthyHostCount", [1.0, 2.0]), ("HealthyHostCount", [3.0, 2.0]))
    ]
    house.aws.tell("metrics", namespace="AWS/ApplicationELB", region=REGION, data=data)
    unhealthy = Signal.of("cloudwatch", Measure.UNHEALTHY_HOSTS, **house.where)
    ratio = Signal.of("cloudwatch", Measure.HEALTHY_RATIO, **house.where)
    assert values(house.measure(unhealthy, at=2, minutes=2).canary) == [1.0, None]
    assert values(house.measure(ratio, at=2, minutes=2).canary) == [0.75, None]


# --- batches and trouble --------------------------------------------------------------------------


def test_everything_is_one_call(house):
    house.alarm("a", "OK")
    signals = [
        Signal.of("cloudwatch", Measure.RATE, **house.where),
        Signal.of("cloudwatch", Measure.LATENCY, **house.where),
        Signal.of("cloudwatch", Measure.UNHEALTHY_HOSTS, **house.where),
        Signal.of("cloudwatch", Measure.ALARM, alarms=("a",), region=REGION),
        Signal.of("cloudwatch", Measure.ALARM, alarms=("a", "b"), region=REGION),
    ]
    asks = [house.ask(signal, minutes) for signal in signals for minutes in (2, 5)]
    house.aws.forget_calls()
    answers = house.source.measure(asks, T0 + 300)
    assert set(answers) == set(asks)
    assert sorted(house.aws.calls()) == ["DescribeAlarms", "GetMetricData"]
    windows = {ask.window_seconds: len(answers[ask].canary) for ask in asks[:2]}
    assert windows == {120: 2, 300: 5}


def test_more_than_five_hundred_series_are_asked_for_in_parts(house):
    asks = [
        house.ask(
            Signal.of(
                "cloudwatch", Measure.VALUE, namespace="Shop", metric="m", dimensions=(f"n={n}",)
            )
        )
        for n in range(501)
    ]
    answers = house.source.measure(asks, T0 + 300)
    assert house.aws.calls() == ["GetMetricData"] * 2
    assert all(answer.error is None for answer in answers.values())


def test_one_bad_ask_spoils_no_other(house):
    house.published("green", 0, requests=10)
    good = house.ask(Signal.of("cloudwatch", Measure.RATE, **house.where))
    bad = house.ask(Signal.of("cloudwatch", Measure.RATE, load_balancer="shop"))
    answers = house.source.measure([bad, good], T0 + 60)
    assert "load_balancer" in answers[bad].error
    assert answers[good].error is None


@pytest.mark.parametrize("kind", ["throttle", "fail"])
def test_aws_failing_is_an_error_and_no_exception(house, kind):
    house.source = CloudWatch(house.aws.aws(reads_at_once=100))
    house.alarm("a", "OK")
    house.aws.fault("GetMetricData", kind, times=3)
    rate = house.ask(Signal.of("cloudwatch", Measure.RATE, **house.where))
    alarm = house.ask(Signal.of("cloudwatch", Measure.ALARM, alarms=("a",)))
    answers = house.source.measure([rate, alarm], T0 + 60)
    assert answers[rate].error
    assert answers[rate].canary == ()
    assert values(answers[alarm].canary) == [0.0]


def test_a_service_that_does_not_answer_is_an_error_after_five_seconds(house):
    house.aws.fault("GetMetricData", "hang", times=3, seconds=6)
    found = house.measure(Signal.of("cloudwatch", Measure.RATE, **house.where), at=1)
    assert "no good answer within 5 s" in found.error
    house.aws.well()


# --- alarms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "value"),
    [
        (("OK", "OK"), 0.0),
        (("OK", "ALARM"), 1.0),
        (("INSUFFICIENT_DATA", "ALARM"), 1.0),
        (("OK", "INSUFFICIENT_DATA"), None),
    ],
)
def test_alarms(house, states, value):
    for name, state in zip("ab", states, strict=True):
        house.alarm(name, state)
    found = house.measure(Signal.of("cloudwatch", Measure.ALARM, alarms=("a", "b")), at=0)
    assert found.canary == (Point(T0, value),)


def test_composite_alarms_are_asked_for_too(house):
    house.alarm("child", "ALARM")
    house.aws.client("cloudwatch").put_composite_alarm(
        AlarmName="all of it", AlarmRule='ALARM("child")'
    )
    found = house.measure(Signal.of("cloudwatch", Measure.ALARM, alarms=("all of it",)), at=0)
    assert values(found.canary) == [1.0]


def test_an_alarm_that_is_not_there_is_an_error(house):
    found = house.measure(Signal.of("cloudwatch", Measure.ALARM, alarms=("gone",)), at=0)
    assert "gone" in found.error


def test_an_alarm_that_is_firing_already_refuses_the_start(house):
    house.alarm("a", "ALARM")
    signal = Signal.of("cloudwatch", Measure.ALARM, alarms=("a",))
    with pytest.raises(Conflict, match="firing already") as refused:
        house.source.check(signal)
    assert refused.value.field == "/settings/alarms"
    house.become("a", "OK")
    house.source.check(signal)


def test_an_alarm_without_enough_data_does_not(house):
    house.alarm("a", "INSUFFICIENT_DATA")
    house.source.check(Signal.of("cloudwatch", Measure.ALARM, alarms=("a",)))


# --- bad settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measure", "settings", "field"),
    [
        (Measure.RATE, {}, "load_balancer"),
        (Measure.RATE, {"load_balancer": "shop"}, "load_balancer"),
        (Measure.RATE, {"load_balancer": "app/a/b", "canary": "green"}, "canary"),
        (Measure.RATE, {"load_balancer": "app/a/b", "stable": "targetgroup/a/b"}, "canary"),
        (Measure.RATE, {"load_balancer": "app/a/b", "canari": "targetgroup/a/b"}, "canari"),
        (Measure.RATE, {"namespace": "Shop", "failed": "f"}, "total"),
        (Measure.RATE, {"namespace": "Shop", "canary": "targetgroup/a/b"}, "canary"),
        (Measure.LATENCY, {"load_balancer": "app/a/b", "statistic": "mean"}, "statistic"),
        (Measure.LATENCY, {"load_balancer": "app/a/b", "quantile": 95}, "quantile"),
        (Measure.LATENCY, {"load_balancer": "app/a/b", "unit": "milliseconds"}, "unit"),
        (Measure.VALUE, {"namespace": "Shop", "metric": "m", "dimensions": ["v"]}, "dimensions"),
        (Measure.VALUE, {"namespace": "Shop"}, "metric"),
        (Measure.ALARM, {}, "alarms"),
        (Measure.ALARM, {"alarms": ["gone"]}, "alarms"),
    ],
)
def test_bad_settings_are_refused_by_name(house, measure, settings, field):
    with pytest.raises(Invalid) as refused:
        house.source.check(Signal.of("cloudwatch", measure, **settings))
    assert refused.value.field == f"/settings/{field}"


def test_every_way_to_name_a_load_balancer(house):
    house.published("green", 0, requests=10, failed=1)
    scene = house.scene
    names = [scene.balancer, scene.listener, scene.rule, scene.dimension]
    for name in names:
        signal = Signal.of("cloudwatch", Measure.RATE, load_balancer=name, canary=scene.green)
        assert values(house.measure(signal, at=1, minutes=1).canary) == [0.1]


# --- hosts ----------------------------------------------------------------------------------------


@pytest.fixture
def in_use(house: House) -> House:
    """Both groups are in the rule, so that their targets are checked; green has four."""
    elb = house.aws.client("elbv2")
    groups = [(house.scene.blue, 19), (house.scene.green, 1)]
    tuples = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in groups]
    actions = [{"Type": "forward", "ForwardConfig": {"TargetGroups": tuples}}]
    elb.modify_rule(RuleArn=house.scene.rule, Actions=actions)
    more = [{"Id": f"10.0.0.{number}", "Port": 80} for number in (2, 3, 4)]
    elb.register_targets(TargetGroupArn=house.scene.green, Targets=more)
    house.aws.forget_calls()
    return house


def probe(house: House, measure: Measure, at: float, period: int = 60) -> Measured:
    signal = Signal.of("hosts", measure, canary=house.scene.green, stable=house.scene.blue)
    ask = Ask(signal, "production", "shop", "2.0.0", 300, period)
    return house.hosts.measure([ask], T0 + at)[ask]


def test_unhealthy_hosts_and_the_healthy_ratio(in_use):
    assert values(probe(in_use, Measure.UNHEALTHY_HOSTS, 0).canary) == [0.0]
    in_use.aws.unhealthy(in_use.scene.green, "10.0.0.2")
    in_use.aws.unhealthy(in_use.scene.green, "10.0.0.3", state="draining")
    assert values(probe(in_use, Measure.UNHEALTHY_HOSTS, 60).canary) == [0.0, 1.0]
    found = probe(in_use, Measure.HEALTHY_RATIO, 120)
    assert values(found.canary) == [1.0, 2 / 3, 2 / 3]
    assert values(found.control) == [1.0, 1.0, 1.0]


def test_two_probes_are_a_period_apart(in_use):
    for at in (0, 5, 10, 15):
        probe(in_use, Measure.UNHEALTHY_HOSTS, at, period=10)
    found = probe(in_use, Measure.UNHEALTHY_HOSTS, 20, period=10)
    assert [point.at - T0 for point in found.canary] == [0, 10, 20]


def test_a_group_without_judged_hosts_is_no_data(in_use):
    for number in (1, 2, 3, 4):
        in_use.aws.unhealthy(in_use.scene.green, f"10.0.0.{number}", state="initial")
    assert values(probe(in_use, Measure.UNHEALTHY_HOSTS, 0).canary) == [None]
    assert values(probe(in_use, Measure.HEALTHY_RATIO, 0).canary)[-1:] == [None]


def test_each_group_is_asked_about_once(in_use):
    signals = [
        Signal.of("hosts", measure, canary=in_use.scene.green, stable=in_use.scene.blue)
        for measure in (Measure.UNHEALTHY_HOSTS, Measure.HEALTHY_RATIO)
    ]
    in_use.hosts.measure([in_use.ask(signal) for signal in signals], T0)
    assert in_use.aws.calls() == ["DescribeTargetHealth"] * 2


def test_hosts_that_cannot_be_asked_about_are_an_error(in_use):
    in_use.aws.fault("DescribeTargetHealth", "fail", times=6)
    assert "ServiceUnavailable" in (probe(in_use, Measure.UNHEALTHY_HOSTS, 0).error or "")
    in_use.aws.well()


def test_of_too_many_groups_each_is_looked_at_in_turn_and_remembered_between(aws):
    scenes = [aws.scene("one"), aws.scene("two")]
    groups = [group for scene in scenes for group in (scene.blue, scene.green)]
    signals = [Signal.of("hosts", Measure.UNHEALTHY_HOSTS, canary=group) for group in groups]
    asks = [Ask(signal, "production", "shop", "2", 40, 10) for signal in signals]
    clock, takes = [0.0], [0.4 * MEASURE_SECONDS]

    @contextmanager
    def slow(service: str, operation: str) -> Iterator[None]:
        clock[0] += takes[0]
        yield

    hosts = Hosts(aws.aws(watch=slow), monotonic=lambda: clock[0])
    first, second = (list(hosts.measure(asks, T0 + at).values()) for at in (0, 5))
    # Three of four, for there is no time for the last; then that one, and two of the others.
    assert [each.error is None for each in first] == [True, True, True, False]
    assert "no time" in (first[3].error or "")
    assert [each.error for each in second] == [None] * 4
    newest = sorted(each.canary[-1].at - T0 for each in second)
    assert newest == [0, 5, 5, 5]
    # What is out of its window is not remembered any more.
    takes[0] = MEASURE_SECONDS
    third = hosts.measure(asks, T0 + 60).values()
    assert sorted(each.error is None for each in third) == [False, False, False, True]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, "/settings/canary"),
        ({"canary": "green"}, "/settings/canary"),
        ({"canary": "arn:aws:elasticloadbalancing:eu-west-1:1:listener/app/x"}, "/settings/canary"),
        ({"group": "x"}, "/settings/group"),
    ],
)
def test_bad_settings_of_hosts(house, settings, field):
    with pytest.raises(Invalid) as refused:
        house.hosts.check(Signal.of("hosts", Measure.UNHEALTHY_HOSTS, **settings))
    assert refused.value.field == field


def test_an_unknown_group_is_refused(house):
    unknown = house.scene.green[:-4] + "0000"
    with pytest.raises(Invalid, match="does not exist"):
        house.hosts.check(Signal.of("hosts", Measure.UNHEALTHY_HOSTS, canary=unknown))
    with pytest.raises(Invalid, match="measures"):
        house.hosts.check(Signal.of("hosts", Measure.RATE, canary=house.scene.green))
