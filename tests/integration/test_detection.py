"""How soon the standard alarms take a canary back that fails, from the minute in which it begins to
fail to 0 % confirmed: made by `flagserver aws alarms`, evaluated by AWS's double.

A minute's numbers are published when it is over, and in the worse case a minute later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from examples.awsfake.scene import REGION
from flagserver.domain.times import unix
from tests.awsfake.double import Double, double, environment_of
from tests.http.api import api_of

from .installations import ROLLOUTS, WELL, Installation, Minute

DETECTED_SECONDS = 300
GONE_SECONDS = 30

ONSET = 20
"""Seconds into a minute after which all fails: that minute's own numbers do not show it yet."""

OWN = {"namespace": "Shop", "dimensions": {"service": "shop"}}


@dataclass(frozen=True)
class Harm:
    """What goes wrong. green: what the canary's minutes are then.  more: what is published of a
    minute besides, by (installation, its beginning).  told: of the alarms.
    """

    alarm: str
    green: Minute = field(default_factory=lambda: WELL)
    more: Callable[[Installation, float], None] = lambda house, minute: None
    told: Mapping[str, Any] = field(default_factory=dict)


def a_dead_host(house: Installation, minute: float) -> None:
    where = [
        {"Name": "TargetGroup", "Value": house.scene.green.rpartition(":")[2]},
        {"Name": "LoadBalancer", "Value": house.scene.dimension},
    ]
    datum = {"MetricName": "UnHealthyHostCount", "Values": [1.0], "Dimensions": where}
    told = [{**datum, "Timestamp": minute}]
    house.aws.tell("metrics", namespace="AWS/ApplicationELB", region=REGION, data=told)


def a_broken_path(house: Installation, minute: float) -> None:
    counts = {"critical_path_total": 1000.0, "critical_path_failed": 2.0}
    where = [{"Name": "service", "Value": "shop"}]
    data = [
        {"MetricName": name, "Value": value, "Timestamp": minute, "Dimensions": where}
        for name, value in counts.items()
    ]
    house.aws.client("cloudwatch").put_metric_data(Namespace="Shop", MetricData=data)


HARMS = (
    Harm("shop-green-errors", {**WELL, "failed": 8}),
    Harm("shop-green-p95", {**WELL, "seconds": [0.2] * 36 + [1.2] * 4}),
    Harm("shop-green-hosts", more=a_dead_host),
)
MORE = (
    Harm("shop-green-p95-doubled", {**WELL, "seconds": [0.5] * 40}),
    Harm("critical_path", more=a_broken_path, told=OWN),
)


@pytest.fixture(scope="module")
def aws() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


def a_rollout(house: Installation) -> str:
    """Start one that the standard alarms guard; return its path when its first share is set."""
    api = api_of(house)
    begun = api.admin.post(ROLLOUTS, house.body(schedule="standard", alarms=[house.alarm]))
    assert begun.status == 201, begun.text
    while house.weight != 5:
        house.tick()
    return f"{ROLLOUTS}/{begun.json['id']}"


def state_of(house: Installation, name: str) -> tuple[str, float]:
    """Return an alarm's state, and since when it has it."""
    told = house.aws.client("cloudwatch").describe_alarms(
        AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    alarms: list[dict[str, Any]] = [*told["MetricAlarms"], *told["CompositeAlarms"]]
    (found,) = alarms
    return found["StateValue"], found["StateUpdatedTimestamp"].timestamp()


@pytest.mark.parametrize(
    "late", [pytest.param(0, id="at once"), pytest.param(60, id="late", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "harm",
    [*HARMS, *(pytest.param(harm, marks=pytest.mark.slow) for harm in MORE)],
    ids=lambda harm: harm.alarm,
)
def test_it_is_found_within_five_minutes_and_gone_within_half_a_minute(
    aws: Double, tmp_path: Path, harm: Harm, late: int
) -> None:
    house = Installation(aws=aws, directory=tmp_path, late=late)
    house.blue = house.green = WELL
    house.make_alarms(**harm.told)
    house.turn(240)
    path = a_rollout(house)
    house.run_until(house.now + 60 - house.now % 60 + ONSET)
    onset = house.now
    house.run_until(onset + 60 - ONSET)
    assert state_of(house, house.alarm)[0] == "OK"

    house.fails(harm.green, harm.more)
    while not (now := api_of(house).admin.get(path).json)["terminal"]:
        assert house.now < onset + 2 * DETECTED_SECONDS, now
        house.tick()

    rollback: dict[str, Any] = now["rollback"]
    detected, confirmed = unix(rollback["detected"]), unix(rollback["confirmed"])
    breached, since = state_of(house, house.alarm)
    assert (now["state"], house.weight, house.share) == ("rolled_back", 0, 0)
    assert (rollback["by"], house.alarm in rollback["reason"]) == ("guard", True)
    assert (breached, state_of(house, f"sortition-shop-{harm.alarm}")[0]) == ("ALARM", "ALARM")
    assert 0 < detected - onset < DETECTED_SECONDS
    assert 0 <= confirmed - since < GONE_SECONDS


def test_dead_hosts_are_found_by_looking_within_half_a_minute(aws: Double, tmp_path: Path) -> None:
    house = Installation(aws=aws, directory=tmp_path)
    api = api_of(house)
    signal = {"source": "hosts", "measure": "unhealthy_hosts"}
    signal_of_green = {**signal, "settings": {"canary": house.scene.green}}
    guard = {"name": "unhealthy hosts", "signal": signal_of_green, "limit": 1, "period": 10}
    begun = api.admin.post(ROLLOUTS, house.body(schedule="standard", guards=[guard]))
    assert begun.status == 201, begun.text
    path = f"{ROLLOUTS}/{begun.json['id']}"
    house.run_until(house.now + 60)
    assert house.weight == 5

    house.aws.unhealthy(house.scene.green)
    onset = house.now
    while not (now := api.admin.get(path).json)["terminal"]:
        assert house.now < onset + GONE_SECONDS, now
        house.tick()

    assert (now["state"], house.weight, house.share) == ("rolled_back", 0, 0)
    assert (now["rollback"]["by"], now["rollback"]["row"]) == ("guard", "dead hosts")
    assert list(house.aws.weights(house.scene.rule)) == [house.scene.blue]
