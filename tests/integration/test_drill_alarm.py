"""`sortition drill --alarm`: the command fires an alarm of CloudWatch with its own credentials, the
server reads it and takes the rollout back, and the alarm is put back; at the AWS double."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sortition.cli import exits

from flagserver.signals.cloudwatch import CloudWatch
from tests.awsfake.double import T0, Double, double, environment_of
from tests.cli.test_drill import Pager, drill, pager  # noqa: F401 (a fixture)
from tests.cli.test_rollouts import Desk
from tests.engines import Engine

ALARM = "sortition-staging-shop"


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


class Account(Desk):
    """A desk whose server reads CloudWatch of the double; both clocks are turned together."""

    def __init__(self, aws: Double, directory: Path) -> None:
        engine = Engine(directory=directory)
        sources: Any = engine.outside.sources
        sources["cloudwatch"] = CloudWatch(aws.aws(), monotonic=engine.clock.monotonic)
        self.aws = aws
        self.cloudwatch = aws.client("cloudwatch")
        super().__init__(engine)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.aws.turn(T0 + self.engine.clock.seconds)

    def make(self, name: str = ALARM, missing: str = "ignore") -> None:
        self.cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="Shop",
            MetricName="failed",
            Period=60,
            Statistic="Sum",
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData=missing,
        )
        self.be("OK", "It is well.", name)

    def be(self, state: str, reason: str, name: str = ALARM) -> None:
        self.cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason=reason)

    def state(self, name: str = ALARM) -> tuple[str, str]:
        told = self.cloudwatch.describe_alarms(
            AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"]
        )
        alarms: list[dict[str, Any]] = [*told["MetricAlarms"], *told["CompositeAlarms"]]
        (found,) = alarms
        return found["StateValue"], found["StateReason"]

    def rollout(self) -> dict[str, Any]:
        (it,) = self.json("list")["rollouts"]
        found: dict[str, Any] = it
        return found


@pytest.fixture
def desk(running: Double, tmp_path: Path) -> Account:
    running.reset()
    return Account(running, tmp_path)


def test_it_fires_the_alarm_and_keeps_the_proof(desk: Account, pager: Pager) -> None:  # noqa: F811
    desk.make()
    desk.aws.forget_calls()

    done = drill(desk, "--alarm", ALARM, "--json")

    proof = json.loads(done.stdout)
    assert done.exit_code == exits.DONE, done.output
    assert (proof["passed"], proof["guard"]) == (True, f"alarm {ALARM}")
    assert proof["seconds_to_detect"] <= 10
    assert proof["seconds_to_restore"] <= 10
    begun = next(each for each in proof["told"] if each["kind"] == "rollout:rollback:begin")
    assert begun["notifiers"] == ["pager"]
    assert desk.state() == ("OK", "The drill is over.")
    assert len(desk.aws.calls("SetAlarmState")) == 2


def test_one_that_cloudwatch_puts_back_at_once_is_fired_until_it_is_seen(
    desk: Account,
    pager: Pager,  # noqa: F811
) -> None:
    desk.make(missing="notBreaching")
    desk.aws.forget_calls()
    fired = _puts_back(desk)

    done = drill(desk, "--alarm", ALARM, "--json")

    assert done.exit_code == exits.DONE, done.output
    assert fired[0] == ("ALARM", f"A drill of Sortition, {desk.rollout()['id']}.")
    assert len(desk.aws.calls("SetAlarmState")) > 3
    assert desk.state()[0] == "OK"


def _puts_back(desk: Account) -> list[tuple[str, str]]:
    """Let CloudWatch look at the alarm within two seconds of the first two times that it fires."""
    seen: list[tuple[str, str]] = []
    sleep = desk.api.sleep

    def looks(seconds: float) -> None:
        state = desk.state()
        if state[0] == "ALARM" and len(seen) < 2:
            seen.append(state)
            desk.be("OK", "There is no data.")
        sleep(seconds)

    object.__setattr__(desk.api, "sleep", looks)
    return seen


def test_a_composite_alarm_is_put_back_too(desk: Account, pager: Pager) -> None:  # noqa: F811
    desk.make("child")
    desk.cloudwatch.put_composite_alarm(AlarmName=ALARM, AlarmRule='ALARM("child")')

    done = drill(desk, "--alarm", ALARM, "--json")

    assert json.loads(done.stdout)["passed"], done.output
    assert desk.state()[0] == "OK"


def test_one_that_fires_by_itself_meanwhile_is_left_as_it_is(
    desk: Account,
    pager: Pager,  # noqa: F811
) -> None:
    desk.make()
    tick = desk.engine.tick

    def really_fires(controller: Any = None) -> None:
        if desk.state()[1].startswith("A drill"):
            desk.be("OK", "in between")
            desk.be("ALARM", "It is not well.")
        tick(controller)

    desk.engine.tick = really_fires  # type: ignore[method-assign]

    done = drill(desk, "--alarm", ALARM, "--json")

    assert json.loads(done.stdout)["state"] == "rolled_back", done.output
    assert desk.state() == ("ALARM", "It is not well.")


def test_one_that_does_not_exist_begins_nothing(desk: Account) -> None:
    done = drill(desk, "--alarm", "another")

    assert done.exit_code == exits.USAGE
    assert "--alarm: there is no alarm another in eu-west-1." in done.stderr
    assert desk.json("list")["rollouts"] == []


def test_whoever_may_not_fire_it_leaves_nothing_exposed(desk: Account) -> None:
    desk.make()
    desk.aws.fault("SetAlarmState", "deny", times=9)

    done = drill(desk, "--alarm", ALARM)

    assert done.exit_code == exits.NOT_PERMITTED
    assert "with --print it is fired by hand" in done.stderr
    desk.sleep(30)
    assert (desk.rollout()["state"], desk.state()[0]) == ("rolled_back", "OK")


def test_an_alarm_that_cannot_be_put_back_is_said(
    desk: Account,
    pager: Pager,  # noqa: F811
) -> None:
    desk.make()
    desk.aws.fault("SetAlarmState", "deny", after=1, times=9)

    done = drill(desk, "--alarm", ALARM)

    assert done.exit_code == exits.DONE, done.output
    assert f"{ALARM} may still be in ALARM" in done.stderr


def test_aws_that_does_not_answer_is_6(desk: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("sortition.cli.alarms.ATTEMPTS", 1)

    assert drill(desk, "--alarm", ALARM).exit_code == exits.UNREACHABLE


def test_without_a_region_it_is_said(desk: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")

    done = drill(desk, "--alarm", ALARM)

    assert (done.exit_code, "region" in done.stderr) == (exits.USAGE, True)


def test_without_boto3_it_is_said_how_to_get_it(
    desk: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)

    done = drill(desk, "--alarm", ALARM)

    assert done.exit_code == exits.USAGE
    assert "install sortition[aws], or take --print" in done.stderr
    assert desk.json("list")["rollouts"] == []
