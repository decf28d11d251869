"""What every source of numbers owes its caller: over AWS's double, and the fake."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from flagserver.domain.errors import Invalid
from flagserver.domain.signals import Ask, Measure, Measured, Point, Signal
from flagserver.ports import SignalSource
from flagserver.signals.cloudwatch import CloudWatch
from flagserver.signals.hosts import Hosts
from tests.awsfake.double import T0, Double, double, environment_of
from tests.fakes import FakeSignalSource

NOW = T0 + 600


@dataclass
class Bench:
    """A source, a signal that it can measure, and one of the same kind that has no data."""

    source: SignalSource
    signal: Signal
    empty: Signal
    bad: Signal
    down: Callable[[], None]


@pytest.fixture(scope="module")
def aws() -> Iterator[Double]:
    with double() as running, environment_of(running):
        yield running


@pytest.fixture(params=["fake", "cloudwatch", "cloudwatch alarms", "hosts"])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "fake":
        return a_fake()
    aws: Double = request.getfixturevalue("aws")
    aws.reset()
    aws.turn(NOW)
    return {"cloudwatch": cloudwatch, "cloudwatch alarms": alarms, "hosts": hosts}[request.param](
        aws
    )


def a_fake() -> Bench:
    signal = Signal.of("fake", Measure.RATE, metric="errors")
    empty = Signal.of("fake", Measure.RATE, metric="nothing")
    bad = Signal.of("fake", Measure.RATE, metric="")
    points = tuple(Point.rate(T0 + 60.0 * n, sample=100, failures=n) for n in range(1, 11))
    source = FakeSignalSource(
        answers={signal: Measured(points, points), empty: Measured((Point(NOW, None),))},
        unusable={bad: "metric"},
    )
    return Bench(source, signal, empty, bad, lambda: setattr(source, "down", True))


def down(aws: Double) -> Callable[[], None]:
    return lambda: aws.fault("*", "fail", times=1000)


def cloudwatch(aws: Double) -> Bench:
    scene = aws.scene()
    for minute in range(10):
        for group in (scene.green, scene.blue):
            aws.publish(scene, group, T0 + minute * 60, requests=100, failed=minute)
    where = {"load_balancer": scene.balancer, "stable": scene.blue}
    return Bench(
        CloudWatch(aws.aws()),
        Signal.of("cloudwatch", Measure.RATE, canary=scene.green, **where),
        Signal.of("cloudwatch", Measure.RATE, canary="targetgroup/none/1", **where),
        Signal.of("cloudwatch", Measure.RATE, canary="green", **where),
        down(aws),
    )


def alarms(aws: Double) -> Bench:
    client = aws.client("cloudwatch")
    for name in ("well", "new"):
        client.put_metric_alarm(
            AlarmName=name,
            Namespace="Shop",
            MetricName="m",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1.0,
            ComparisonOperator="GreaterThanThreshold",
        )
    client.set_alarm_state(AlarmName="well", StateValue="OK", StateReason="a test")
    return Bench(
        CloudWatch(aws.aws()),
        Signal.of("cloudwatch", Measure.ALARM, alarms=("well",)),
        Signal.of("cloudwatch", Measure.ALARM, alarms=("new",)),
        Signal.of("cloudwatch", Measure.ALARM, alarms=("gone",)),
        down(aws),
    )


def hosts(aws: Double) -> Bench:
    scene = aws.scene()
    other = aws.scene("other")
    aws.unhealthy(other.blue, state="initial")
    return Bench(
        Hosts(aws.aws()),
        Signal.of("hosts", Measure.UNHEALTHY_HOSTS, canary=scene.blue),
        Signal.of("hosts", Measure.UNHEALTHY_HOSTS, canary=other.blue),
        Signal.of("hosts", Measure.UNHEALTHY_HOSTS, canary="green"),
        down(aws),
    )


def ask(signal: Signal, minutes: int = 3) -> Ask:
    return Ask(signal, "production", "shop", "2.0.0", minutes * 60)


def test_what_can_be_measured_passes_the_check(bench):
    bench.source.check(bench.signal)


def test_what_cannot_is_refused_by_its_setting(bench):
    with pytest.raises(Invalid) as refused:
        bench.source.check(bench.bad)
    assert str(refused.value.field).startswith("/settings/")


def test_points_are_those_of_the_window_oldest_first(bench):
    for minutes in (1, 3):
        question = ask(bench.signal, minutes)
        found = bench.source.measure([question], NOW)[question]
        assert found.error is None
        times = [point.at for point in found.canary]
        assert times
        assert times == sorted(set(times))
        assert all(NOW - minutes * 60 < at <= NOW for at in times)
        assert all(point.value is not None for point in found.canary)


def test_no_data_is_never_0(bench):
    question = ask(bench.empty)
    found = bench.source.measure([question], NOW)[question]
    assert found.error is None
    assert all(point.value is None for point in found.canary)


def test_every_ask_has_its_answer_and_a_bad_one_spoils_no_other(bench):
    asks = [ask(bench.bad), ask(bench.signal), ask(bench.signal, 5), ask(bench.empty)]
    answers = bench.source.measure(asks, NOW)
    assert set(answers) == set(asks)
    assert answers[asks[0]].error
    assert answers[asks[0]].canary == ()
    assert all(answers[each].error is None for each in asks[1:])


def test_nothing_asked_nothing_answered(bench):
    assert bench.source.measure([], NOW) == {}


def test_the_other_side_being_away_is_an_error_and_no_exception(bench):
    bench.down()
    question = ask(bench.signal)
    began = time.monotonic()
    found = bench.source.measure([question], NOW)[question]
    assert time.monotonic() - began < 6
    assert found.error
    assert found.canary == ()
    assert found.control == ()
