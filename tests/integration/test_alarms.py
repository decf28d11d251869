"""`flagserver aws alarms`: the standard alarms, made at AWS's double, fire when they should."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from flagserver.cloud import aws as command
from tests.awsfake.double import T0, Double, double, environment_of

ALL = "sortition-shop"
GREEN = "sortition-shop-shop-green"


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


class House:
    """A scene with the standard alarms, and minutes of traffic."""

    def __init__(self, aws: Double) -> None:
        self.aws = aws
        self.scene = aws.scene()
        self.cloudwatch = aws.client("cloudwatch")

    def run(self, *words: str) -> Any:
        return CliRunner().invoke(command, ["alarms", self.scene.blue, self.scene.green, *words])

    def create(self, *words: str) -> None:
        made = self.run("--create", *words)
        assert made.exit_code == 0, made.output

    def states(self) -> dict[str, str]:
        told = self.cloudwatch.describe_alarms(AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        alarms = [*told["MetricAlarms"], *told["CompositeAlarms"]]
        return {alarm["AlarmName"]: alarm["StateValue"] for alarm in alarms}

    def firing(self) -> set[str]:
        return {name for name, state in self.states().items() if state == "ALARM"}

    def minute(self, number: int, **sides: dict[str, Any]) -> None:
        """Publish what happened in a minute, and let it be over."""
        groups = {"blue": self.scene.blue, "green": self.scene.green}
        for side, told in sides.items():
            self.aws.publish(self.scene, groups[side], T0 + number * 60, **told)
        self.aws.turn(T0 + (number + 1) * 60)

    def first_minute(self, **sides: dict[str, Any]) -> int:
        """Return after how many minutes of this the composite fires, at most ten."""
        for number in range(10):
            self.minute(number, **sides)
            if ALL in self.firing():
                return number + 1
        raise AssertionError(f"nothing fired: {self.states()}")


@pytest.fixture
def house(running: Double) -> House:
    running.reset()
    return House(running)


WELL = {"requests": 1000, "failed": 2, "seconds": [0.2] * 1000}
BAD = {"requests": 100, "failed": 3}


def test_they_are_only_printed_unless_they_are_to_be_made(house):
    printed = house.run()
    assert printed.exit_code == 0
    assert house.states() == {}
    commands = [line for line in printed.output.splitlines() if not line.startswith("#")]
    assert len(commands) == 9
    # What is printed is what a person can run.
    for line in commands:
        words = shlex.split(line)
        assert words[:2] == ["aws", "cloudwatch"]
        given = dict(zip(words[3::2], words[4::2], strict=True))
        put = getattr(house.cloudwatch, words[2].replace("-", "_"))
        put(**json.loads(given["--cli-input-json"]))
    assert len(house.states()) == 9


def test_they_are_in_the_units_of_cloudwatch(house):
    told = json.loads(house.run("--json").output)
    assert told["created"] is False
    limits = {alarm["AlarmName"]: alarm.get("Threshold") for alarm in told["alarms"]}
    assert limits[f"{GREEN}-errors"] == 1.0  # percent
    assert limits[f"{GREEN}-p95"] == 1.0  # seconds
    assert limits[f"{GREEN}-p95-doubled"] == 2.0  # times
    assert limits[f"{GREEN}-hosts"] == 1.0
    sides = {name.removeprefix("sortition-shop-").split("-")[1] for name in limits if name != ALL}
    assert sides == {"blue", "green"}


def test_making_them_again_changes_nothing(house):
    house.create()
    before = house.states()
    house.create()
    assert house.states() == before
    assert len(before) == 9


def test_a_service_that_does_well_and_one_without_traffic_fire_nothing(house):
    house.create()
    for number in range(3):
        house.minute(number, blue=WELL, green=WELL)
    assert house.firing() == set()
    for number in range(3, 9):
        house.minute(number)
    assert house.firing() == set()
    assert set(house.states().values()) == {"OK"}


@pytest.mark.parametrize("side", ["blue", "green"])
def test_errors_fire_on_either_side_within_two_minutes(house, side):
    house.create()
    other = {"blue": "green", "green": "blue"}[side]
    assert house.first_minute(**{side: BAD, other: WELL}) == 2
    assert house.firing() == {f"sortition-shop-shop-{side}-errors", ALL}


def test_numbers_that_are_published_a_minute_late_fire_a_minute_later(house):
    house.create()
    fired = []
    for number in range(5):
        house.aws.turn(T0 + (number + 1) * 60)
        fired.append(ALL in house.firing())
        # The newest minute is never there yet when the alarms are looked at.
        house.aws.publish(house.scene, house.scene.green, T0 + number * 60, **BAD)
    assert fired == [False, False, True, True, True]


def test_one_per_cent_is_within_the_limit(house):
    house.create()
    for number in range(5):
        house.minute(number, green={"requests": 100, "failed": 1}, blue=WELL)
    assert house.firing() == set()


def test_a_handful_of_requests_is_no_rate(house):
    house.create()
    for number in range(5):
        house.minute(number, green={"requests": 19, "failed": 19}, blue=WELL)
    assert house.firing() == set()


def test_latency_fires_within_three_minutes(house):
    house.create()
    slow = {"requests": 40, "seconds": [0.2] * 35 + [1.2] * 5}
    both_slow = {"requests": 1000, "seconds": [0.7] * 1000}
    assert house.first_minute(green=slow, blue=both_slow) == 3
    assert house.firing() == {f"{GREEN}-p95", ALL}


def test_twice_the_other_sides_latency_fires(house):
    house.create()
    assert house.first_minute(green={"requests": 40, "seconds": [0.5] * 40}, blue=WELL) == 3
    assert house.firing() == {f"{GREEN}-p95-doubled", ALL}


def test_unhealthy_hosts_fire_when_all_nodes_agree(house):
    house.create()
    where = [
        {"Name": "TargetGroup", "Value": house.scene.green.rpartition(":")[2]},
        {"Name": "LoadBalancer", "Value": house.scene.dimension},
    ]

    def minute(number: int, values: list[float]) -> None:
        datum = {"MetricName": "UnHealthyHostCount", "Values": values, "Dimensions": where}
        house.aws.tell(
            "metrics",
            namespace="AWS/ApplicationELB",
            region="eu-west-1",
            data=[{**datum, "Timestamp": T0 + number * 60}],
        )
        house.minute(number)

    for number in range(3):
        minute(number, [0.0, 1.0])
    assert house.firing() == set()
    for number in range(3, 5):
        minute(number, [1.0, 1.0])
    assert house.firing() == {f"{GREEN}-hosts", ALL}


def test_what_a_service_counts_itself(house):
    house.create("--namespace", "Shop", "--dimension", "service=shop")
    assert len(house.states()) == 12
    for number in range(2):
        for name, value in (("critical_path_total", 1000.0), ("critical_path_failed", 2.0)):
            house.cloudwatch.put_metric_data(
                Namespace="Shop",
                MetricData=[
                    {
                        "MetricName": name,
                        "Value": value,
                        "Timestamp": T0 + number * 60,
                        "Dimensions": [{"Name": "service", "Value": "shop"}],
                    }
                ],
            )
        house.minute(number)
    assert house.firing() == {"sortition-shop-critical_path", ALL}


def test_the_composite_tells_whom_it_is_to_tell(house):
    topic = "arn:aws:sns:eu-west-1:123456789012:alarms"
    house.create("--notify", topic)
    told = house.cloudwatch.describe_alarms(AlarmTypes=["CompositeAlarm"])["CompositeAlarms"]
    assert told[0]["AlarmActions"] == [topic]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dimension", "service"], "NAME=VALUE"),
        (["--load-balancer", "shop"], "no ARN"),
        (["--load-balancer", "arn:aws:elasticloadbalancing:eu:1:loadbalancer/net/a/b"], "no App"),
    ],
)
def test_bad_options_are_refused(house, words, said):
    refused = house.run(*words)
    assert refused.exit_code != 0
    assert said in refused.output


def test_groups_that_cannot_be_a_pair_are_refused(house):
    scene = house.scene
    unknown = scene.green[:-4] + "0000"
    for pair, said in (
        ((scene.blue, scene.blue), "are one"),
        ((scene.blue, scene.listener), "no target group"),
        ((unknown, scene.blue), "does not exist"),
    ):
        refused = CliRunner().invoke(command, ["alarms", *pair])
        assert refused.exit_code == 1
        assert said in refused.output


def test_an_alarm_that_could_not_be_made_is_said(house):
    house.aws.fault("PutMetricAlarm", "throttle", after=2)
    refused = house.run("--create")
    assert refused.exit_code == 1
    assert "Rate exceeded" in refused.output
    house.create()
    assert len(house.states()) == 9
