"""What the world does to a rollout on its way, at AWS's double and over HTTP: nobody is exposed
more than was meant, nothing is promoted blind, and nobody's change is fought."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flagserver.aws import Aws
from tests.awsfake.double import Double, double, environment_of
from tests.builders import SURE
from tests.http.api import Answer, Api, api_of

from .installations import FLAG, ROLLOUTS, WELL, Installation

STATE = f"/api/v1/flags/{FLAG}/environments/production"
STEPS = "5%:1m,25%:1h,100%"
STEP_SECONDS = 70
"""In which the second share is due, and is set where nothing stands against it."""


@pytest.fixture(scope="module")
def aws() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


class Story:
    """A rollout at its first share."""

    def __init__(self, house: Installation, **told: Any) -> None:
        self.house = house
        self.api: Api = api_of(house)
        begun = self.api.admin.post(ROLLOUTS, house.body(schedule=STEPS, **told))
        assert begun.status == 201, begun.text
        self.path = f"{ROLLOUTS}/{begun.json['id']}"
        while self.stands != (5, 5):
            house.tick()
        house.aws.forget_calls()

    @property
    def stands(self) -> tuple[float, float]:
        return self.house.weight, self.house.share

    def run(self, seconds: float) -> None:
        self.house.run_until(self.house.now + seconds)

    def shown(self) -> Any:
        return self.api.admin.get(self.path).json

    def waits_for(self) -> str | None:
        waiting = self.shown()["waiting"]
        return None if waiting is None else waiting["why"]

    def changes(self) -> list[str]:
        """Return what was begun and confirmed, in order."""
        told = self.api.admin.get(f"{self.path}/evidence").json["entries"]
        actions = [entry["action"].removeprefix("rollout:") for entry in reversed(told)]
        return [action for action in actions if action.startswith("step:")]

    def do(self, path: str, body: Any) -> Answer:
        """Change something at the revision that it has."""
        revision = self.api.admin.get(path.rpartition("/")[0]).json["revision"]
        return self.api.admin.post(path, body, revision=revision)


@pytest.fixture
def house(aws: Double, tmp_path: Path) -> Installation:
    made = Installation(aws=aws, directory=tmp_path)
    made.blue = made.green = WELL
    made.turn(180)
    return made


# --- calls that fail ------------------------------------------------------------------------------


def passes(story: Story, *, writes: int) -> None:
    """The second share is set in the end, begun and confirmed once."""
    story.run(STEP_SECONDS)
    assert story.stands == (25, 25)
    assert story.changes() == ["step:begin", "step:confirm"] * 2
    assert story.waits_for() is None
    assert len(story.house.aws.calls("ModifyRule")) == writes


@pytest.mark.parametrize("kind", ["throttle", "fail"], ids=["throttled", "an error of theirs"])
def test_a_write_that_is_refused_is_made_at_the_next_look(house: Installation, kind: str) -> None:
    story = Story(house)
    house.aws.fault("ModifyRule", kind)
    passes(story, writes=2)


def test_a_write_whose_answer_is_lost_is_read_and_not_repeated(house: Installation) -> None:
    story = Story(house)
    house.aws.fault("ModifyRule", "cut")
    passes(story, writes=1)


def test_a_write_that_is_lost_is_made_again(house: Installation) -> None:
    story = Story(house)
    house.aws.fault("ModifyRule", "lost")
    passes(story, writes=2)


def test_readings_that_are_late_hold_it_for_a_moment(house: Installation) -> None:
    story = Story(house)
    story.run(STEP_SECONDS - 15)
    house.aws.fault("DescribeRules", "stale", times=6)
    story.run(10)
    assert max(story.stands) <= 25
    passes(story, writes=1)


def test_reads_that_fail_hold_nobody_up_for_long(house: Installation) -> None:
    story = Story(house)
    house.aws.fault("DescribeRules", "fail", times=12)
    passes(story, writes=1)


# --- other people ---------------------------------------------------------------------------------


def test_weights_that_somebody_else_set_hold_it_and_are_not_fought(house: Installation) -> None:
    story = Story(house)
    half = [{"TargetGroupArn": arn, "Weight": 1} for arn in (house.scene.blue, house.scene.green)]
    action = {"Type": "forward", "ForwardConfig": {"TargetGroups": half}}
    house.aws.client("elbv2").modify_rule(RuleArn=house.scene.rule, Actions=[action])
    house.aws.forget_calls()
    story.run(STEP_SECONDS)
    assert (story.stands, story.waits_for()) == ((50, 5), "target")
    assert house.aws.calls("ModifyRule") == []

    assert story.do(f"{story.path}/resume", SURE).status == 200
    story.run(10)
    assert (story.stands, story.waits_for()) == ((5, 5), None)


def test_a_flag_that_is_killed_holds_it_and_cannot_be_un_killed(house: Installation) -> None:
    story = Story(house)
    assert story.api.admin.post(f"{STATE}/kill", {"reason": "errors"}).status == 200
    story.run(STEP_SECONDS)
    assert (story.stands, story.waits_for()) == ((5, 0), "flag")
    assert (story.shown()["state"], FLAG in story.shown()["waiting"]["reason"]) == ("holding", True)

    unkilled = story.do(f"{STATE}/unkill", SURE)
    resumed = story.do(f"{story.path}/resume", SURE)

    assert (unkilled.status, unkilled.code) == (409, "locked")
    assert (resumed.status, resumed.code) == (409, "conflict")
    assert story.api.admin.get(STATE).json["killed"] is True
    assert story.api.admin.post(f"{story.path}/rollback").status == 200
    story.run(5)
    assert story.stands == (0, 0)
    assert story.do(f"{STATE}/unkill", SURE).status == 200


def test_a_flag_that_is_shrunk_holds_it_and_stays_so_until_somebody_resumes(
    house: Installation,
) -> None:
    story = Story(house)
    revision = story.api.admin.get(STATE).json["revision"]
    shrunk = story.api.admin.patch(STATE, {"share": 1}, revision=revision)
    assert shrunk.status == 200
    story.run(STEP_SECONDS)
    assert (story.stands, story.waits_for()) == ((5, 1), "flag")
    enlarged = story.api.admin.patch(STATE, {**SURE, "share": 5}, revision=revision + 1)
    assert (enlarged.status, enlarged.code) == (409, "locked")

    assert story.do(f"{story.path}/resume", SURE).status == 200
    story.run(10)
    assert (story.stands, story.waits_for()) == ((5, 5), None)


# --- numbers that are not there -------------------------------------------------------------------


def holds_until_there_are_numbers(story: Story) -> None:
    story.run(150)
    assert (story.stands, story.waits_for()) == ((5, 5), "data")


def rate(house: Installation) -> dict[str, Any]:
    """Return a guard over what the load balancer counts."""
    where = {
        "load_balancer": house.scene.balancer,
        "canary": house.scene.green,
        "stable": house.scene.blue,
    }
    signal = {"source": "cloudwatch", "measure": "rate", "settings": where}
    return {"name": "errors", "signal": signal, "limit": 0.01}


def test_no_data_holds_it(house: Installation) -> None:
    story = Story(house, guards=[rate(house)])
    house.blue = house.green = {}
    holds_until_there_are_numbers(story)
    house.blue = house.green = WELL
    story.run(180)
    assert story.stands == (25, 25)


def test_without_data_for_three_holds_somebody_is_asked(house: Installation) -> None:
    story = Story(house, guards=[rate(house)])
    house.blue = house.green = {}
    story.run(300)
    assert (story.stands, story.waits_for()) == ((5, 5), "person")


def test_what_is_no_number_holds_it(house: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Aws.read

    def with_nan(aws: Aws, service: str, operation: str, *more: Any, **told: Any) -> Any:
        answer = read(aws, service, operation, *more, **told)
        for result in answer.get("MetricDataResults", ()):
            result["Values"] = [math.nan for _ in result["Values"]]
        return answer

    story = Story(house, guards=[rate(house)])
    with monkeypatch.context() as patch:
        patch.setattr(Aws, "read", with_nan)
        holds_until_there_are_numbers(story)
    story.run(180)
    assert story.stands == (25, 25)


def test_an_alarm_without_enough_data_holds_it(house: Installation) -> None:
    cloudwatch = house.aws.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="own",
        Namespace="Shop",
        MetricName="failed",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    story = Story(house, alarms=["own"])
    holds_until_there_are_numbers(story)
    cloudwatch.set_alarm_state(AlarmName="own", StateValue="OK", StateReason="a test")
    story.run(20)
    assert story.stands == (25, 25)
