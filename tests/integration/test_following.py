"""A rollout that follows CodeDeploy: the engine over the AWS double, through the real boto3."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from sortition.cli import exits
from sortition.cli.api import Api
from sortition.cli.main import cli

from examples.awsfake import scene as scenes
from examples.awsfake.codedeploy.appspec import digest
from examples.awsfake.scene import APPLICATION, GROUP
from flagserver.domain.commands import Enlarging, Reasoned
from flagserver.domain.engines import Lane, Phase
from flagserver.domain.errors import Conflict, Invalid
from flagserver.domain.rollout import GAP_SECONDS, TICK_SECONDS, By, Why
from flagserver.domain.states import State
from flagserver.http.app import create_app
from flagserver.settings import Settings
from flagserver.targets.codedeploy import CodeDeployDriver
from tests.awsfake.deploying import INSTALLED, Stage
from tests.awsfake.double import Double, double, environment_of
from tests.builders import ADMIN, SURE, T0
from tests.engines import FLAG, GUARD, Engine

HOOK = "arn:aws:lambda:eu-west-1:123456789012:function:check"
STRIDE = GAP_SECONDS
"""Where a story needs no finer look, this often is often enough not to be a gap."""

CANARY, TERMINATION = 120, 60
"""Seconds that 10 % are held, and that the old version waits when all of the traffic is over."""

CONFIG = "Canary10Percent2Minutes"
ALL = INSTALLED + CANARY + 5
"""Seconds after which all of the traffic is over, and a look has seen it."""


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

    disk: of the engine.  group: how the deployment group is from then on.
    """

    def __init__(self, aws: Double, disk: Path, first: bool = True, **group: Any) -> None:
        super().__init__(aws)
        self.client.create_deployment_config(
            deploymentConfigName=CONFIG,
            computePlatform="ECS",
            trafficRoutingConfig={
                "type": "TimeBasedCanary",
                "timeBasedCanary": {"canaryPercentage": 10, "canaryInterval": CANARY // 60},
            },
        )
        if first:
            self.deploy(1)
            self.later(3600)
        options = {"deploymentConfigName": CONFIG, **ending(TERMINATION // 60), **group}
        self.client.update_deployment_group(
            applicationName=APPLICATION, currentDeploymentGroupName=GROUP, **options
        )
        self.engine = Engine(directory=disk)
        driver = CodeDeployDriver(aws.aws(), monotonic=self.engine.clock.monotonic)
        self.engine.outside.drivers[driver.kind] = driver  # type: ignore[index]
        self.driver = driver
        self.script: list[tuple[float, Callable[[], object]]] = []
        self.slept = 0.0

    def follow(self, name: str | None = None, **told: Any) -> str:
        """Start a rollout of the flag that follows a deployment, or the one that runs."""
        target = {"kind": "codedeploy", "name": name or f"{APPLICATION}/{GROUP}"}
        flag = {"kind": "flag", "name": FLAG}
        return self.engine.start(targets=[flag, target], **told)

    def run(self, seconds: float, stride: float = STRIDE) -> None:
        """Let the time go by for both, with a tick at each stride, and one before."""
        self.engine.tick()
        while seconds > 0:
            step = min(stride, seconds)
            self.later(step)
            self.engine.clock.seconds += step
            self.engine.tick()
            seconds -= step

    def bakes(self, minutes: int) -> None:
        """Let the next deployments bake so long when all of the traffic is over."""
        told = {"application": APPLICATION, "group": GROUP, "region": scenes.REGION}
        self.aws.tell("codedeploy/times", **told, bake=minutes)

    # The command

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        """Let something happen so many seconds after a command began to watch."""
        self.script.append((seconds, act))

    def command(self, *words: str) -> Result:
        """Run `sortition rollouts …`; when it sleeps, the time goes by."""
        self.engine.services.snapshots.load()
        app = create_app(self.engine.services, Settings())
        api = Api(
            *("http://flags.test", self.engine.admin_token or ""),
            transport=httpx.WSGITransport(app),
            sleep=self._sleep,
            monotonic=lambda: self.engine.clock.seconds + self.slept,
            now=lambda: T0.timestamp() + self.engine.clock.seconds,
        )
        return CliRunner().invoke(cli, ["rollouts", *words], obj=api)

    def _sleep(self, seconds: float) -> None:
        self.slept += seconds
        if self.slept >= STRIDE - 2:
            self.run(self.slept)
            self.slept = 0.0
        for entry in [each for each in self.script if each[0] <= self.engine.clock.seconds]:
            self.script.remove(entry)
            entry[1]()

    # What became of it

    @property
    def canary(self) -> int:
        """The percent that the group has which was idle when the deployment began: version 1 went
        to green, so version 2 goes to blue."""
        return self.weights[0]

    def seen(self, id: str) -> dict[str, str]:
        """The rollout's lane: event -> status of the deployment that is followed."""
        lane = self.lane(id)
        return {e.name: e.status for e in lane.events if e.deployment == lane.deployment}

    def lane(self, id: str) -> Lane:
        """What the engine says, as the rollout keeps it."""
        lane = self.engine.rollout(id).lane
        assert lane is not None
        return lane

    def back(self, id: str) -> str:
        """The deployment by which the traffic went back."""
        back = self.lane(id).back
        assert back is not None
        return back

    def revision(self, id: str) -> int:
        """The revision that the rollout is at."""
        return self.engine.rollouts.get(id, ADMIN).revision


def ending(minutes: int, **more: Any) -> dict[str, Any]:
    """Return how a group ends the old version after these minutes. more: of its options."""
    options = {
        "terminateBlueInstancesOnDeploymentSuccess": {
            "action": "TERMINATE",
            "terminationWaitTimeInMinutes": minutes,
        },
        "deploymentReadyOption": {"actionOnTimeout": "CONTINUE_DEPLOYMENT"},
        **more,
    }
    return {"blueGreenDeploymentConfiguration": options}


def test_flags_have_the_same_share_one_look_after_each_shift_until_all_is_done(aws, tmp_path):
    stage = Following(aws, tmp_path)
    deployment = stage.deploy(2)
    id = stage.follow(deployment)
    assert stage.engine.rollout(id).schedule.text() == "10%:2m,100%"
    pairs = set()
    for _ in range(round((INSTALLED + CANARY + TERMINATION + 10) / TICK_SECONDS)):
        stage.run(TICK_SECONDS, TICK_SECONDS)
        pairs.add((stage.canary, stage.engine.share))
    assert pairs == {(0, 0.0), (10, 10.0), (100, 100.0)}
    assert stage.engine.rollout(id).state is State.COMPLETED
    assert stage.lane(id).phase is Phase.DONE
    assert set(stage.seen(id).values()) == {"Succeeded", "Skipped"}
    assert stage.engine.actions(id).count("step:follow") == 2
    assert stage.engine.actions(id)[-1] == "complete"


# --- what takes it back ---------------------------------------------------------------------------

ALARM: dict[str, Any] = {"alarmConfiguration": {"enabled": True, "alarms": [{"name": "api-5xx"}]}}
SURE_OPTIONS = ("--reason", "a test", "--confirm", "production", "--watch")


@dataclass
class Cause:
    """Something that takes a deployment back.

    at: seconds after the rollout's beginning.  words: of the reason that is recorded.
    """

    at: float
    happens: Callable[[Following, str], object]
    by: By
    words: tuple[str, ...]
    group: Mapping[str, Any] = field(default_factory=dict)
    hooks: Mapping[str, str] = field(default_factory=dict)
    schedule: str | None = None

    @property
    def after_success(self) -> bool:
        """Whether CodeDeploy can no longer be stopped then."""
        return self.at > ALL + TERMINATION


def stop(stage: Following, deployment: str) -> None:
    stage.client.stop_deployment(deploymentId=deployment, autoRollbackEnabled=True)


def harm(stage: Following, _: str) -> None:
    stage.engine.rates = (0.5, 0.0)


CAUSES = {
    "an alarm": Cause(
        90, lambda stage, _: stage.alarm(), By.ENGINE, ("ALARM_ACTIVE", "api-5xx"), group=ALARM
    ),
    "a hook before any traffic": Cause(
        90,
        lambda stage, _: stage.report("Failed"),
        By.ENGINE,
        ("HOOK_EXECUTION_FAILURE", "BeforeAllowTraffic"),
        hooks={"BeforeAllowTraffic": HOOK},
    ),
    "a hook after all of it": Cause(
        ALL + 15,
        lambda stage, _: stage.report("Failed"),
        By.ENGINE,
        ("HOOK_EXECUTION_FAILURE", "AfterAllowTraffic"),
        hooks={"AfterAllowTraffic": HOOK},
    ),
    "a person at CodeDeploy": Cause(90, stop, By.ENGINE, ("MANUAL_STOP",)),
    "a guard": Cause(70, harm, By.GUARD, ("errors",)),
    "a guard after success": Cause(
        ALL + TERMINATION + 30, harm, By.GUARD, ("errors",), schedule="10%:2m,100%:20m"
    ),
}


@pytest.mark.parametrize("name", CAUSES)
def test_whatever_takes_it_back_all_is_at_0_and_the_watch_ends_with_3(
    aws: Double, name: str, tmp_path: Path
) -> None:
    cause = CAUSES[name]
    stage = Following(aws, tmp_path, **cause.group)
    stage.alarm(state="OK")
    deployment = stage.deploy(2, revision=scenes.revision(2, **cause.hooks))
    stage.at(cause.at, lambda: cause.happens(stage, deployment))
    what = ["--env", "production", "--service", "api", "--version", "2", "--flag", FLAG]
    what += ["--codedeploy", f"{APPLICATION}/{GROUP}"]
    file = tmp_path / "rollout.json"
    file.write_text(json.dumps({"guards": [GUARD]}))
    what += ["-f", str(file)]
    what += ["--schedule", cause.schedule] if cause.schedule else []

    done = stage.command("start", *what, *SURE_OPTIONS)

    assert done.exit_code == exits.ROLLED_BACK, done.output
    assert (stage.canary, stage.engine.share) == (0, 0.0)
    (view,) = stage.engine.rollouts.page().views
    rollout = view.rollout
    assert rollout.rollback is not None
    assert rollout.rollback.by is cause.by
    assert stage.lane(rollout.id).phase is Phase.GONE_BACK
    (begun,) = (e for e in stage.engine.entries(rollout.id) if e["action"] == BEGUN)
    for word in cause.words:
        assert word in begun["reason"]
        assert word in done.stdout.splitlines()[-1]
    assert "Install Succeeded" in done.stdout
    if cause.after_success:
        is_version_1_anew(stage, rollout.id)
    else:
        back = stage.info(stage.back(rollout.id))
        assert (back["creator"], back["status"]) == ("codeDeployRollback", "Succeeded")


BEGUN = "rollout:rollback:begin"


def at_canary(stage: Following, **told: Any) -> tuple[str, str]:
    """Deploy version 2 and follow it until it has its first 10 %; return rollout and deployment."""
    deployment = stage.deploy(2, **told)
    id = stage.follow(deployment)
    stage.run(INSTALLED + 10)
    assert (stage.canary, stage.engine.share) == (10, 10.0)
    return id, deployment


def taken_back(stage: Following, id: str, by: By, word: str) -> None:
    """Let the rollback come to its end, and look at it."""
    stage.run(90)
    rollout = stage.engine.rollout(id)
    assert (rollout.state, stage.engine.share) == (State.ROLLED_BACK, 0.0)
    assert set(rollout.confirmed.values()) == {0}
    assert rollout.rollback is not None
    assert rollout.rollback.by is by
    assert word in rollout.rollback.reason
    assert stage.lane(id).phase is Phase.GONE_BACK


def test_one_that_is_stopped_without_a_rollback_is_taken_back_by_the_revision_before(aws, tmp_path):
    stage = Following(aws, tmp_path)
    id, deployment = at_canary(stage)
    stage.client.stop_deployment(deploymentId=deployment, autoRollbackEnabled=False)
    stage.run(30)
    assert (stage.engine.rollout(id).state, stage.engine.share) == (State.ROLLING_BACK, 0.0)
    taken_back(stage, id, By.ENGINE, "MANUAL_STOP")
    is_version_1_anew(stage, id)


def is_version_1_anew(stage: Following, id: str) -> None:
    """Look at the deployment that a rollout made to go back."""
    back = stage.back(id)
    again = stage.info(back)
    assert (again["creator"], stage.green(back)) == ("user", 100.0)
    assert again["revision"]["appSpecContent"]["sha256"] == digest(scenes.app_spec(1))
    assert again["deploymentConfigName"] == "CodeDeployDefault.ECSAllAtOnce"
    assert again["overrideAlarmConfiguration"] == {"enabled": False}
    assert again["autoRollbackConfiguration"] == {"enabled": False}
    assert again["description"].startswith("Sortition")


def test_what_is_deployed_after_it_went_back_is_nothing_that_it_left(aws, tmp_path):
    stage = Following(aws, tmp_path)
    id, deployment = at_canary(stage)
    stop(stage, deployment)
    taken_back(stage, id, By.ENGINE, "MANUAL_STOP")
    newer = stage.deploy(3)
    stage.later(3600)
    assert stage.canary == 100
    target = stage.engine.rollout(id).followed
    assert target is not None
    assert stage.driver.read(target).share == 0
    assert stage.driver.roll_back(target, math.inf).share == 0
    assert stage.info(newer)["status"] == "Succeeded"


def test_a_responder_has_codedeploy_go_back(aws, tmp_path):
    stage = Following(aws, tmp_path)
    id, _ = at_canary(stage)
    stage.engine.rollouts.roll_back(id, Reasoned(reason="Odd."), ADMIN)
    assert stage.engine.share == 0.0
    taken_back(stage, id, By.PERSON, "Odd.")


# --- gates and waits ------------------------------------------------------------------------------


READY = {"actionOnTimeout": "STOP_DEPLOYMENT", "waitTimeInMinutes": 30}


def sure() -> Enlarging:
    return Enlarging.model_validate(SURE)


def test_one_that_is_ready_holds_until_somebody_approves(aws, tmp_path):
    stage = Following(aws, tmp_path, **ending(1, deploymentReadyOption=READY))
    id = stage.follow(stage.deploy(2))
    stage.run(120)
    rollout = stage.engine.rollout(id)
    assert rollout.state is State.HOLDING
    assert rollout.waiting is not None
    assert rollout.waiting.why is Why.APPROVAL
    stage.engine.rollouts.approve(id, sure(), stage.revision(id), ADMIN)
    stage.run(15)
    assert (stage.canary, stage.engine.share) == (10, 10.0)
    assert stage.engine.rollout(id).state is State.RUNNING


def test_the_wait_until_the_old_version_goes_can_be_skipped_and_that_of_a_canary_cannot(
    aws, tmp_path
):
    stage = Following(aws, tmp_path, **ending(60))
    id, deployment = at_canary(stage)
    revision = stage.revision(id)
    with pytest.raises(Conflict, match="nothing can skip that wait"):
        stage.engine.rollouts.advance(id, sure(), revision, ADMIN)
    stage.run(CANARY)
    assert stage.lane(id).phase is Phase.WATCHING
    stage.engine.rollouts.advance(id, sure(), stage.revision(id), ADMIN)
    stage.run(30)
    assert stage.info(deployment)["status"] == "Succeeded"
    assert stage.engine.rollout(id).state is State.COMPLETED


def test_every_status_that_a_deployment_has_is_seen_in_its_lane(
    aws: Double, tmp_path: Path
) -> None:
    stage = Following(aws, tmp_path, **ending(1, deploymentReadyOption=READY))
    stage.bakes(2)
    id = stage.follow(stage.deploy(2))
    seen: list[tuple[str, Phase]] = []
    while stage.engine.rollout(id).state is not State.COMPLETED:
        stage.run(STRIDE)
        lane = stage.lane(id)
        if (lane.status, lane.phase) not in seen[-1:]:
            seen.append((lane.status, lane.phase))
        if lane.phase is Phase.READY and stage.engine.rollout(id).state is State.HOLDING:
            stage.engine.rollouts.approve(id, sure(), stage.revision(id), ADMIN)
    assert seen == [
        ("InProgress", Phase.PREPARING),
        ("Ready", Phase.READY),
        ("InProgress", Phase.SHIFTING),
        ("Baking", Phase.WATCHING),
        ("InProgress", Phase.WATCHING),
        ("Succeeded", Phase.DONE),
    ]
    assert stage.engine.share == 100.0


@pytest.mark.slow
def test_one_that_nobody_lets_go_on_ends_with_codedeploys_own_reason(
    aws: Double, tmp_path: Path
) -> None:
    option = {"actionOnTimeout": "STOP_DEPLOYMENT", "waitTimeInMinutes": 3}
    stage = Following(aws, tmp_path, **ending(1, deploymentReadyOption=option))
    id = stage.follow(stage.deploy(2))
    stage.run(60 * 3 + INSTALLED + 30)
    taken_back(stage, id, By.ENGINE, "TIMEOUT")
    assert stage.canary == 0


@pytest.mark.slow
def test_an_alarm_while_it_bakes_takes_all_of_it_back(aws: Double, tmp_path: Path) -> None:
    stage = Following(aws, tmp_path, **ALARM)
    stage.alarm(state="OK")
    stage.bakes(10)
    id = stage.follow(stage.deploy(2))
    stage.run(ALL + 30)
    assert (stage.lane(id).status, stage.engine.share) == ("Baking", 100.0)
    stage.alarm()
    taken_back(stage, id, By.ENGINE, "ALARM_ACTIVE")
    assert stage.canary == 0


# --- what holds -----------------------------------------------------------------------------------


def test_a_rollout_that_is_paused_holds_its_flags_while_the_traffic_goes_on(aws, tmp_path):
    stage = Following(aws, tmp_path)
    id, _ = at_canary(stage)
    stage.engine.rollouts.hold(id, Reasoned(), ADMIN)
    stage.run(CANARY)
    assert (stage.canary, stage.engine.share) == (100, 10.0)
    assert stage.seen(id)["AllowTraffic"] == "Succeeded"
    stage.engine.rollouts.resume(id, sure(), stage.revision(id), ADMIN)
    stage.run(15)
    assert (stage.canary, stage.engine.share) == (100, 100.0)


def test_flags_wait_for_data_that_is_missing_and_nothing_is_promoted_blind(aws, tmp_path):
    stage = Following(aws, tmp_path, **ending(60))
    id, _ = at_canary(stage)
    stage.engine.rates = (None, None)
    stage.run(CANARY + 90)
    rollout = stage.engine.rollout(id)
    assert (stage.canary, stage.engine.share) == (100, 10.0)
    assert rollout.waiting is not None
    assert rollout.waiting.why is Why.DATA
    stage.engine.rates = (0.0, 0.0)
    stage.run(135)
    assert (stage.canary, stage.engine.share) == (100, 100.0)


def test_codedeploy_goes_back_in_the_midst_of_a_hold_and_so_do_the_flags(aws, tmp_path):
    stage = Following(aws, tmp_path)
    id, deployment = at_canary(stage)
    stage.engine.rollouts.hold(id, Reasoned(), ADMIN)
    stop(stage, deployment)
    taken_back(stage, id, By.ENGINE, "MANUAL_STOP")


def test_something_newer_in_the_group_holds_and_is_never_taken_back(aws, tmp_path):
    stage = Following(aws, tmp_path)
    id = stage.follow(stage.deploy(2), schedule="10%:2m,100%:1h")
    stage.run(ALL + TERMINATION + 15)
    newer = stage.deploy(3)
    stage.run(10)
    rollout = stage.engine.rollout(id)
    assert rollout.waiting is not None
    assert newer in rollout.waiting.reason
    stage.engine.rollouts.roll_back(id, Reasoned(reason="Odd."), ADMIN)
    stage.run(30)
    assert stage.engine.rollout(id).state is State.ROLLING_BACK
    assert stage.info(newer)["status"] == "InProgress"
    stage.run(ALL + TERMINATION)
    assert stage.engine.rollout(id).state is State.ROLLED_BACK
    assert stage.info(newer)["status"] == "Succeeded"


def test_while_codedeploy_cannot_be_read_nothing_is_decided_of_it(aws, tmp_path):
    stage = Following(aws, tmp_path)
    at_canary(stage)
    aws.fault("BatchGetDeployments", "fail", times=10_000)
    stage.run(ALL)
    assert (stage.canary, stage.engine.share) == (100, 10.0)
    aws.well()
    stage.run(30)
    assert stage.engine.share == 100.0


# --- other relations ------------------------------------------------------------------------------


def test_the_flag_by_its_own_schedule_when_the_code_is_there(aws, tmp_path):
    stage = Following(aws, tmp_path)
    id = stage.follow(stage.deploy(2), relation="after", schedule="5%:1m,25%:2m,100%")
    stage.run(ALL + TERMINATION - 10)
    assert (stage.canary, stage.engine.share) == (100, 0.0)
    seen = []
    for _ in range(9):
        stage.run(30)
        seen.append(stage.engine.share)
    assert sorted(set(seen)) == [5.0, 25.0, 100.0]
    assert stage.engine.rollout(id).state is State.COMPLETED


def test_a_guard_that_fails_in_the_flags_own_steps_takes_both_back(aws, tmp_path):
    stage = Following(aws, tmp_path)
    deployment = stage.deploy(2)
    id = stage.follow(deployment, relation="after", schedule="5%:10m,100%")
    stage.run(ALL + TERMINATION + 30)
    assert (stage.canary, stage.engine.share) == (100, 5.0)
    harm(stage, deployment)
    stage.run(90)
    assert stage.engine.share == 0.0
    taken_back(stage, id, By.GUARD, "errors")
    assert stage.canary == 0


def test_a_flag_that_is_on_where_the_new_version_runs_is_on_from_its_first_traffic_on(
    aws, tmp_path
):
    stage = Following(aws, tmp_path)
    id = stage.follow(stage.deploy(2), relation="on_canary")
    stage.run(45)
    state = stage.engine.flags.state(FLAG, "production").state
    assert (state.share, state.conditions) == (0, ())
    stage.run(30)
    state = stage.engine.flags.state(FLAG, "production").state
    assert state.share == 1_000_000
    assert [condition.values for condition in state.conditions] == [("2",)]
    stage.run(CANARY + TERMINATION + 15)
    assert stage.engine.rollout(id).state is State.COMPLETED
    assert stage.engine.flags.state(FLAG, "production").state.conditions == ()


# --- planned --------------------------------------------------------------------------------------


def test_a_plan_says_what_codedeploy_does_instead_and_what_is_nearest(aws, tmp_path):
    stage = Following(aws, tmp_path)
    stage.deploy(2)
    what = ["--env", "production", "--service", "api", "--version", "2", "--flag", FLAG]
    what += ["--codedeploy", f"{APPLICATION}/{GROUP}", "--guards", "none"]

    planned = stage.command("plan", *what, "--schedule", "standard")

    assert planned.exit_code == exits.DONE, planned.output
    said = " ".join(planned.stdout.split())
    assert f"shifts the traffic by {CONFIG}: 10%:2m,100%." in said
    assert "5%:5m,25%:10m,50%:15m,100% is not what shop/blue-green will do" in said
    assert "The nearest: the code by a canary of 5 % for 30m" in said
    assert "the feature by 5%:5m,25%:10m,50%:15m,100% on its flag" in said
    assert "Canary5Percent30Minutes" in said


# --- what is refused ------------------------------------------------------------------------------


def test_it_is_found_by_application_and_group_and_claimed_once(aws, tmp_path):
    stage = Following(aws, tmp_path)
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
def test_what_cannot_be_followed_names_the_field(aws, tmp_path, name, told, field):
    stage = Following(aws, tmp_path, first=False)
    target = {"kind": "codedeploy", "name": name or f"{APPLICATION}/{GROUP}", **told}
    with pytest.raises(Invalid) as refused:
        stage.engine.start(targets=[target])
    assert refused.value.field == field


@pytest.mark.slow
def test_a_watch_lasts_until_the_old_version_is_gone_without_being_told_to(
    aws: Double, tmp_path: Path
) -> None:
    """CodeDeploy keeps it for half an hour more: longer than the schedule and a quarter."""
    stage = Following(aws, tmp_path, **ending(30))
    stage.deploy(2)
    what = ["--env", "production", "--service", "api", "--version", "2", "--flag", FLAG]
    file = tmp_path / "rollout.json"
    file.write_text(json.dumps({"guards": "none"}))
    what += ["--codedeploy", f"{APPLICATION}/{GROUP}", "-f", str(file)]

    done = stage.command("start", *what, *SURE_OPTIONS)

    assert done.exit_code == exits.DONE, done.output
    assert "watched for 47m at most" in done.stdout
    assert stage.engine.clock.seconds > 30 * 60
    assert stage.engine.share == 100.0
