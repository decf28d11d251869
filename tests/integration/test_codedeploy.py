"""What only CodeDeploy does: its driver over AWS's double, through the real boto3."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from examples.awsfake import scene as scenes
from examples.awsfake.codedeploy.appspec import digest
from examples.awsfake.scene import APPLICATION, CANARY, GROUP
from flagserver.domain.engines import Phase
from flagserver.domain.errors import Conflict, Invalid, TargetUnavailable
from flagserver.domain.targets import Mode, Target
from flagserver.targets import deployments
from flagserver.targets.codedeploy import CodeDeployDriver
from tests.awsfake.deploying import INSTALLED, Stage
from tests.awsfake.double import Double, double, environment_of

NEVER = math.inf
NAME = f"{APPLICATION}/{GROUP}"


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


@pytest.fixture
def stage(running: Double) -> Stage:
    running.reset()
    return Stage(running)


@pytest.fixture
def driver(running: Double) -> CodeDeployDriver:
    return CodeDeployDriver(running.aws(), monotonic=lambda: 0.0)


def a_target(name: str = NAME, **told: Any) -> Target:
    return Target.of("codedeploy", name, Mode.FOLLOW, **told)


# --- settled --------------------------------------------------------------------------------------


def test_what_is_settled_is_all_that_is_needed_later(stage, driver):
    stage.deploy(1)
    stage.later(3600)
    deployment = stage.deploy(2)
    target = driver.settle(a_target())
    assert target.id == f"codedeploy/{NAME}"
    told = dict(target.settings)
    assert json.loads(told.pop("previous")) == scenes.revision(1)
    assert told == {
        "region": "eu-west-1",
        "deployment": deployment,
        "service": "main:shop",
        "config": CANARY,
        "steps": "10%:5m,100%",
        "waits": 300,
    }


def test_what_it_waits_besides_is_known_from_the_beginning(stage, driver):
    options = {
        "deploymentReadyOption": {"actionOnTimeout": "STOP_DEPLOYMENT", "waitTimeInMinutes": 90},
        "terminateBlueInstancesOnDeploymentSuccess": {
            "action": "TERMINATE",
            "terminationWaitTimeInMinutes": 240,
        },
    }
    stage.client.update_deployment_group(
        applicationName=APPLICATION,
        currentDeploymentGroupName=GROUP,
        blueGreenDeploymentConfiguration=options,
    )
    stage.deploy(1)

    assert driver.settle(a_target()).get("waits") == (90 + 240) * 60


def test_the_revision_before_is_the_last_that_went_well_whatever_was_tried_since(stage, driver):
    for version, well in ((1, True), (2, False)):
        id = stage.deploy(version)
        stage.later(INSTALLED)
        if not well:
            stage.client.stop_deployment(deploymentId=id, autoRollbackEnabled=False)
        stage.later(3600)
    stage.deploy(3)
    previous = json.loads(str(driver.settle(a_target()).get("previous")))
    assert digest(previous["appSpecContent"]["content"]) == digest(scenes.app_spec(1))


def test_a_first_deployment_can_be_stopped_and_after_success_needs_a_person(stage, driver):
    stage.deploy(1)
    target = driver.settle(a_target())
    assert target.get("previous") == ""
    stage.later(3600)
    with pytest.raises(TargetUnavailable, match="by hand"):
        driver.roll_back(target, NEVER)
    assert len(driver.commands_by_hand(target)) == 1


def test_a_deployment_of_another_region_has_its_region_in_its_name(running, driver):
    running.reset()
    region = "eu-central-1"
    scene = scenes.build(running.url, region=region)
    scenes.build_codedeploy(running.url, scene, region)
    id = scenes.deploy(running.url, region=region)
    by_name = driver.settle(a_target(f"{region}:{NAME}"))
    assert by_name == driver.settle(a_target(NAME, region=region))
    assert by_name == driver.settle(a_target(id, region=region))
    assert by_name.name == f"{region}:{NAME}"
    running.tell("clock", advance=INSTALLED)
    assert driver.read(by_name).share == 100_000
    assert f"--region {region}" in driver.commands_by_hand(by_name)[0]


@pytest.mark.parametrize("name", ["", "shop", "shop/", "a/b/c", "d-", "d-x", "shop/blue green"])
def test_what_is_no_name_is_refused_before_anybody_is_asked(stage, driver, name):
    stage.aws.forget_calls()
    with pytest.raises(Invalid) as refused:
        driver.settle(a_target(name))
    assert refused.value.field == "/name"
    assert stage.aws.calls() == []


def test_a_rollback_of_codedeploys_own_is_not_followed(stage, driver):
    id = stage.deploy(1)
    stage.later(INSTALLED)
    stage.client.stop_deployment(deploymentId=id, autoRollbackEnabled=True)
    stage.later(3)
    target = driver.settle(a_target())
    with pytest.raises(Conflict, match="rollback"):
        driver.check(target)


def test_what_the_way_back_needs_to_read_is_tried_at_the_start(stage, driver):
    stage.deploy(1)
    target = driver.settle(a_target())
    stage.aws.fault("DescribeRules", "fail", times=10)
    with pytest.raises(TargetUnavailable):
        driver.check(target)
    stage.aws.well()


@pytest.mark.parametrize(
    ("routing", "text"),
    [
        ({"type": "AllAtOnce"}, "100%"),
        (
            {
                "type": "TimeBasedCanary",
                "timeBasedCanary": {"canaryPercentage": 5, "canaryInterval": 30},
            },
            "5%:30m,100%",
        ),
        (
            {
                "type": "TimeBasedLinear",
                "timeBasedLinear": {"linearPercentage": 40, "linearInterval": 2},
            },
            "40%:2m,80%:2m,100%",
        ),
    ],
)
def test_a_configuration_is_read_as_a_schedule(routing, text):
    found = deployments.schedule_of("mine", routing)
    assert (found.name, found.text()) == ("mine", text)


# --- what it says ---------------------------------------------------------------------------------

TRAFFIC = [{"lifecycleEventName": "AllowTraffic"}]


@pytest.mark.parametrize(
    ("status", "traffic", "phase"),
    [
        ("Created", None, Phase.PREPARING),
        ("Queued", None, Phase.PREPARING),
        ("InProgress", "Pending", Phase.PREPARING),
        ("Ready", "Pending", Phase.READY),
        ("InProgress", "InProgress", Phase.SHIFTING),
        ("InProgress", "Succeeded", Phase.WATCHING),
        ("Baking", "Succeeded", Phase.WATCHING),
        ("Succeeded", "Succeeded", Phase.DONE),
        ("Failed", "Failed", Phase.BROKEN),
        ("Stopped", "Failed", Phase.BROKEN),
        ("Stopped", "Pending", Phase.GONE_BACK),
    ],
)
def test_every_status_has_its_phase(stage, driver, status, traffic, phase):
    """As the double shows them, with a task set of 10 % wherever traffic began."""
    id = stage.deploy(1)
    target = driver.settle(a_target())
    stage.later(INSTALLED)
    shown = phase is not Phase.GONE_BACK
    green = {"taskSetLabel": "Green", "trafficWeight": 10.0, "targetGroup": {"name": "shop-green"}}
    stage.aws.tell(
        "codedeploy",
        deployment=id,
        status=status,
        region="eu-west-1",
        task_sets=[green] if shown else [],
        events={} if traffic is None else {"AllowTraffic": traffic},
    )
    reading = driver.read(target)
    assert reading.lane is not None
    assert (reading.lane.status, reading.lane.phase) == (status, phase)
    assert reading.share == (100_000 if shown else 0)


def test_many_deployments_are_read_together(stage, driver):
    stage.deploy(1)
    target = driver.settle(a_target())
    many = [
        Target.of("codedeploy", f"shop/g{n}", Mode.FOLLOW, **dict(target.settings))
        for n in range(30)
    ]
    stage.later(INSTALLED)
    stage.aws.forget_calls()
    found = driver.read_all(many)
    assert {each.share for each in found.values()} == {100_000}
    assert len(stage.aws.calls("BatchGetDeployments")) == 2
    assert stage.aws.calls("GetDeployment") == []


def test_the_commands_by_hand_say_all_that_we_would_do(stage, driver):
    stage.deploy(1)
    stage.later(3600)
    id = stage.deploy(2)
    stop, note, again = driver.commands_by_hand(driver.settle(a_target()))
    assert shlex.split(stop) == [
        *("aws", "deploy", "stop-deployment", "--deployment-id", id),
        *("--auto-rollback-enabled", "--region", "eu-west-1"),
    ]
    assert note.startswith("#")
    words = shlex.split(again)
    assert json.loads(words[words.index("--revision") + 1]) == scenes.revision(1)
    assert words[words.index("--deployment-config-name") + 1] == "CodeDeployDefault.ECSAllAtOnce"
    assert words[words.index("--auto-rollback-configuration") + 1] == "enabled=false"
