"""A rollout that follows CodeDeploy: the engine over the AWS double, through the real boto3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from examples.awsfake import scene as scenes
from examples.awsfake.codedeploy.appspec import digest
from examples.awsfake.scene import APPLICATION, GROUP
from flagserver.domain.commands import Enlarging, Reasoned
from flagserver.domain.engines import Phase
from flagserver.domain.errors import Conflict, Invalid
from flagserver.domain.rollout import TICK_SECONDS, By, Why
from flagserver.domain.states import State
from flagserver.targets.codedeploy import CodeDeployDriver
from tests.awsfake.deploying import INSTALLED, Stage
from tests.awsfake.double import Double, double, environment_of
from tests.builders import ADMIN, SURE
from tests.engines import FLAG, Engine

HOOK = "arn:aws:lambda:eu-west-1:123456789012:function:check"


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


@pytest.fixture
def aws(running: Double) -> Double:
    running.reset()
    return running


class Following(Stage):
    """A service that CodeDeploy deploys to, version 1 in service, and an engine that follows.

    group: how the deployment group is from then on.
    """

    def __init__(self, aws: Double, first: bool = True, **group: Any) -> None:
        super().__init__(aws)
        if first:
            self.deploy(1)
            self.later(3600)
        self.client.update_deployment_group(
            applicationName=APPLICATION, currentDeploymentGroupName=GROUP, **group
        )
        self.engine = Engine()
        driver = CodeDeployDriver(aws.aws(), monotonic=self.engine.clock.monotonic)
        self.engine.outside.drivers[driver.kind] = driver  # type: ignore[index]
        self.driver = driver

    def follow(self, name: str | None = None, **told: Any) -> str:
        """Start a rollout of the flag that follows a deployment, or the one that runs."""
        target = {"kind": "codedeploy", "name": name or f"{APPLICATION}/{GROUP}"}
        flag = {"kind": "flag", "name": FLAG}
        return self.engine.start(targets=[flag, target], **told)

    def run(self, seconds: float) -> None:
        """Let the time go by for both, with a tick every five seconds, and one before."""
        self.engine.tick()
        while seconds > 0:
            step = min(TICK_SECONDS, seconds)
            self.later(step)
            self.engine.clock.seconds += step
            self.engine.tick()
            seconds -= step

    @property
    def canary(self) -> int:
        """The percent that the new version really gets at the balancer: of the group that was idle
        when the deployment began."""
        return self.weights[0] if self.first_on_green else self.weights[1]

    first_on_green = True
    """Version 1 went to green, so version 2 goes to blue."""

    def creator(self, id: str | None) -> str | None:
        """Who made a deployment."""
        return None if id is None else str(self.info(id)["creator"])

    def seen(self, id: str) -> dict[str, str]:
        """The rollout's lane: event -> status of the deployment that is followed."""
        lane = self.engine.rollout(id).lane
        assert lane is not None
        return {e.name: e.status for e in lane.events if e.deployment == lane.deployment}


def test_flags_have_the_same_share_one_look_after_each_shift_until_all_is_done(aws):
    stage = Following(aws)
    deployment = stage.deploy(2)
    id = stage.follow(deployment)
    assert stage.engine.rollout(id).schedule.text() == "10%:5m,100%"
    pairs = set()
    for _ in range(round((INSTALLED + 620) / TICK_SECONDS)):
        stage.run(TICK_SECONDS)
        pairs.add((stage.canary, stage.engine.share))
    assert pairs == {(0, 0.0), (10, 10.0), (100, 100.0)}
    rollout = stage.engine.rollout(id)
    assert rollout.state is State.COMPLETED
    assert rollout.lane is not None
    assert rollout.lane.phase is Phase.DONE
    assert set(stage.seen(id).values()) == {"Succeeded", "Skipped"}
    assert stage.engine.actions(id).count("step:follow") == 2
    assert stage.engine.actions(id)[-1] == "complete"


def at_canary(stage: Following, **told: Any) -> tuple[str, str]:
    """Deploy version 2 and follow it until it has its first 10 %; return rollout and deployment."""
    deployment = stage.deploy(2, **told)
    id = stage.follow(deployment)
    stage.run(INSTALLED + 10)
    assert (stage.canary, stage.engine.share) == (10, 10.0)
    return id, deployment


def taken_back(stage: Following, id: str, by: By, *words: str) -> None:
    """Let the rollback come to its end, and look at it."""
    stage.run(90)
    rollout = stage.engine.rollout(id)
    assert rollout.state is State.ROLLED_BACK
    assert stage.engine.share == 0.0
    assert rollout.confirmed[rollout.traffic[0].id] == 0
    if rollout.lane is not None and stage.creator(rollout.lane.back) != "user":
        assert stage.canary == 0
    assert rollout.rollback is not None
    assert rollout.rollback.by is by
    for word in words:
        assert word in rollout.rollback.reason
    assert rollout.lane is not None
    assert rollout.lane.phase is Phase.GONE_BACK
    begun = [e for e in stage.engine.entries(id) if e["action"] == "rollout:rollback:begin"]
    assert all(word in begun[0]["reason"] for word in words)


def test_codedeploys_alarm_takes_it_back(aws):
    stage = Following(aws, alarmConfiguration={"enabled": True, "alarms": [{"name": "api-5xx"}]})
    stage.alarm(state="OK")
    id, _ = at_canary(stage)
    stage.alarm()
    stage.run(TICK_SECONDS)
    assert stage.engine.share == 0.0
    taken_back(stage, id, By.ENGINE, "ALARM_ACTIVE", "api-5xx")


def test_a_hook_that_fails_takes_it_back_before_anybody_sees_it(aws):
    stage = Following(aws)
    deployment = stage.deploy(2, revision=scenes.revision(2, BeforeAllowTraffic=HOOK))
    id = stage.follow(deployment)
    stage.run(INSTALLED)
    assert stage.seen(id)["BeforeAllowTraffic"] == "InProgress"
    stage.report("Failed")
    taken_back(stage, id, By.ENGINE, "HOOK_EXECUTION_FAILURE", "BeforeAllowTraffic")
    assert stage.seen(id)["BeforeAllowTraffic"] == "Failed"


def test_a_hook_that_fails_after_all_of_the_traffic_takes_it_back(aws):
    stage = Following(aws)
    deployment = stage.deploy(2, revision=scenes.revision(2, AfterAllowTraffic=HOOK))
    id = stage.follow(deployment)
    stage.run(INSTALLED + 310)
    assert (stage.canary, stage.engine.share) == (100, 100.0)
    stage.report("Failed")
    taken_back(stage, id, By.ENGINE, "HOOK_EXECUTION_FAILURE", "AfterAllowTraffic")


def test_somebody_who_stops_it_at_codedeploy_takes_it_back(aws):
    stage = Following(aws)
    id, deployment = at_canary(stage)
    stage.client.stop_deployment(deploymentId=deployment, autoRollbackEnabled=True)
    taken_back(stage, id, By.ENGINE, "MANUAL_STOP")


def test_one_that_is_stopped_without_a_rollback_is_taken_back_by_the_revision_before(aws):
    stage = Following(aws)
    id, deployment = at_canary(stage)
    stage.client.stop_deployment(deploymentId=deployment, autoRollbackEnabled=False)
    stage.run(60)
    assert (stage.engine.rollout(id).state, stage.engine.share) == (State.ROLLING_BACK, 0.0)
    taken_back(stage, id, By.ENGINE, "MANUAL_STOP")
    lane = stage.engine.rollout(id).lane
    assert lane is not None
    assert lane.back is not None
    is_version_1_anew(stage, lane.back)


def test_a_guard_that_fails_has_codedeploy_go_back(aws):
    stage = Following(aws)
    id, deployment = at_canary(stage)
    stage.engine.rates = (0.5, 0.0)
    stage.run(125)
    taken_back(stage, id, By.GUARD, "errors")
    info = stage.info(deployment)
    assert (info["status"], info["errorInformation"]["code"]) == ("Stopped", "MANUAL_STOP")
    back = stage.info(info["rollbackInfo"]["rollbackDeploymentId"])
    assert (back["creator"], back["status"]) == ("codeDeployRollback", "Succeeded")


def test_a_guard_that_fails_after_success_deploys_the_revision_before(aws):
    stage = Following(aws)
    deployment = stage.deploy(2)
    id = stage.follow(deployment, schedule="10%:5m,100%:20m")
    stage.run(INSTALLED + 620)
    assert stage.info(deployment)["status"] == "Succeeded"
    assert (stage.engine.rollout(id).state, stage.canary) == (State.RUNNING, 100)
    stage.engine.rates = (0.5, 0.0)
    stage.run(125)
    assert stage.engine.share == 0.0
    taken_back(stage, id, By.GUARD, "errors")
    assert stage.canary == 0
    newest = stage.client.list_deployments(applicationName=APPLICATION, deploymentGroupName=GROUP)
    is_version_1_anew(stage, newest["deployments"][0])


def is_version_1_anew(stage: Following, id: str) -> None:
    """Look at the deployment by which a rollout went back by itself."""
    again = stage.info(id)
    assert stage.green(id) == 100.0
    assert again["revision"]["appSpecContent"]["sha256"] == digest(scenes.app_spec(1))
    assert again["deploymentConfigName"] == "CodeDeployDefault.ECSAllAtOnce"
    assert again["overrideAlarmConfiguration"] == {"enabled": False}
    assert again["autoRollbackConfiguration"] == {"enabled": False}
    assert again["description"].startswith("Sortition")


def test_a_responder_has_codedeploy_go_back(aws):
    stage = Following(aws)
    id, _ = at_canary(stage)
    stage.engine.rollouts.roll_back(id, Reasoned(reason="Odd."), ADMIN)
    assert stage.engine.share == 0.0
    taken_back(stage, id, By.PERSON, "Odd.")


# --- gates and waits ------------------------------------------------------------------------------


def ready(minutes: int = 30) -> dict[str, Any]:
    options = {
        "terminateBlueInstancesOnDeploymentSuccess": {
            "action": "TERMINATE",
            "terminationWaitTimeInMinutes": 60,
        },
        "deploymentReadyOption": {
            "actionOnTimeout": "STOP_DEPLOYMENT",
            "waitTimeInMinutes": minutes,
        },
    }
    return {"blueGreenDeploymentConfiguration": options}


def test_one_that_is_ready_holds_until_somebody_approves(aws):
    stage = Following(aws, **ready())
    deployment = stage.deploy(2)
    id = stage.follow(deployment)
    stage.run(300)
    rollout = stage.engine.rollout(id)
    assert rollout.state is State.HOLDING
    assert rollout.waiting is not None
    assert rollout.waiting.why is Why.APPROVAL
    view = stage.engine.rollouts.get(id, ADMIN)
    sure = Enlarging.model_validate(SURE)
    stage.engine.rollouts.approve(id, sure, view.revision, ADMIN)
    stage.run(15)
    assert (stage.canary, stage.engine.share) == (10, 10.0)
    assert stage.engine.rollout(id).state is State.RUNNING


def test_the_wait_until_the_old_version_goes_can_be_skipped_and_that_of_a_canary_cannot(aws):
    options = ready()["blueGreenDeploymentConfiguration"]
    options["deploymentReadyOption"] = {"actionOnTimeout": "CONTINUE_DEPLOYMENT"}
    stage = Following(aws, blueGreenDeploymentConfiguration=options)
    id, deployment = at_canary(stage)
    sure = Enlarging.model_validate(SURE)
    view = stage.engine.rollouts.get(id, ADMIN)
    with pytest.raises(Conflict, match="nothing can skip that wait"):
        stage.engine.rollouts.advance(id, sure, view.revision, ADMIN)
    stage.run(400)
    lane = stage.engine.rollout(id).lane
    assert lane is not None
    assert lane.phase is Phase.WATCHING
    view = stage.engine.rollouts.get(id, ADMIN)
    stage.engine.rollouts.advance(id, sure, view.revision, ADMIN)
    stage.run(15)
    assert stage.info(deployment)["status"] == "Succeeded"
    assert stage.engine.rollout(id).state is State.COMPLETED


# --- what holds -----------------------------------------------------------------------------------


def test_a_rollout_that_is_paused_holds_its_flags_while_the_traffic_goes_on(aws):
    stage = Following(aws)
    id, _ = at_canary(stage)
    stage.engine.rollouts.hold(id, Reasoned(), ADMIN)
    stage.run(310)
    assert (stage.canary, stage.engine.share) == (100, 10.0)
    view = stage.engine.rollouts.get(id, ADMIN)
    stage.engine.rollouts.resume(id, Enlarging.model_validate(SURE), view.revision, ADMIN)
    stage.run(15)
    assert (stage.canary, stage.engine.share) == (100, 100.0)


def test_flags_wait_for_data_that_is_missing_and_nothing_is_promoted_blind(aws):
    stage = Following(aws)
    id, _ = at_canary(stage)
    stage.engine.rates = (None, None)
    stage.run(310)
    rollout = stage.engine.rollout(id)
    assert (stage.canary, stage.engine.share) == (100, 10.0)
    assert rollout.waiting is not None
    assert rollout.waiting.why is Why.DATA
    stage.engine.rates = (0.0, 0.0)
    stage.run(130)
    assert (stage.canary, stage.engine.share) == (100, 100.0)


def test_something_newer_in_the_group_holds(aws):
    stage = Following(aws)
    deployment = stage.deploy(2)
    id = stage.follow(deployment, schedule="10%:5m,100%:1h")
    stage.run(INSTALLED + 620)
    newer = stage.deploy(3)
    stage.run(10)
    rollout = stage.engine.rollout(id)
    assert rollout.waiting is not None
    assert newer in rollout.waiting.reason


# --- other relations ------------------------------------------------------------------------------


def test_the_flag_by_its_own_schedule_when_the_code_is_there(aws):
    stage = Following(aws)
    deployment = stage.deploy(2)
    id = stage.follow(deployment, relation="after", schedule="5%:5m,25%:10m,100%")
    stage.run(INSTALLED + 590)
    assert (stage.canary, stage.engine.share) == (100, 0.0)
    seen = []
    for _ in range(20):
        stage.run(60)
        seen.append(stage.engine.share)
    assert sorted(set(seen)) == [5.0, 25.0, 100.0]
    assert stage.engine.rollout(id).state is State.COMPLETED


def test_a_guard_that_fails_in_the_flags_own_steps_takes_both_back(aws):
    stage = Following(aws)
    deployment = stage.deploy(2)
    id = stage.follow(deployment, relation="after", schedule="5%:10m,100%")
    stage.run(INSTALLED + 640)
    assert (stage.canary, stage.engine.share) == (100, 5.0)
    stage.engine.rates = (0.5, 0.0)
    stage.run(125)
    assert stage.engine.share == 0.0
    taken_back(stage, id, By.GUARD, "errors")


# --- what is refused ------------------------------------------------------------------------------


def test_it_is_found_by_application_and_group_and_claimed_once(aws):
    stage = Following(aws)
    with pytest.raises(Conflict, match="runs"):
        stage.follow()
    deployment = stage.deploy(2)
    id = stage.follow()
    target = stage.engine.rollout(id).followed
    assert target is not None
    assert (target.name, target.get("deployment")) == (f"{APPLICATION}/{GROUP}", deployment)


@pytest.mark.parametrize(
    ("name", "told", "field"),
    [
        ("d-GONE", {}, "/targets/0/name"),
        ("gone/gone", {}, "/targets/0/name"),
        ("shop", {}, "/targets/0/name"),
        (None, {"mode": "drive"}, "/targets/0/mode"),
        (None, {"settings": {"colour": "green"}}, "/targets/0/settings/colour"),
    ],
)
def test_what_cannot_be_followed_names_the_field(aws, name, told, field):
    stage = Following(aws, first=False)
    target = {"kind": "codedeploy", "name": name or f"{APPLICATION}/{GROUP}", **told}
    with pytest.raises(Invalid) as refused:
        stage.engine.start(targets=[target])
    assert refused.value.field == field
